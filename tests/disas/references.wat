;;; References and tables: elements are words, null is 0.
;;! show emit swap full
;;! show emit pick full
(module
  (table $functions 8 funcref)
  (func $swap (param $at i32) (param $new funcref) (result funcref)
    local.get $at
    table.get $functions
    local.get $at
    local.get $new
    table.set $functions)
  (func $pick (param $at i32) (result i32)
    local.get $at
    ref.func $swap
    table.set $functions
    local.get $at
    table.get $functions
    ref.is_null
    table.size $functions
    i32.add)
  (elem declare func $swap))

;; == emit: function 0 (swap), full
;; 85 bytes
;;     test dword ptr [rsp - 0x8020], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x20
;;     mov qword ptr [rbp - 8], r15
;;     mov qword ptr [rbp - 0x10], rax
;;     mov qword ptr [rbp - 0x18], rcx
;;   # 0 local.get 0
;;   # 1 table.get 0
;;     mov qword ptr [r15 + 0x40], rax
;;     mov qword ptr [r15 + 0x18], 0
;;     call qword ptr [r15 + 0x10]                         ; library, opcode 1
;;     mov rax, qword ptr [r15 + 0x40]
;;     mov qword ptr [rbp - 0x20], rax
;;     mov rax, qword ptr [rbp - 0x10]
;;     mov rcx, qword ptr [rbp - 0x18]
;;   # 4 table.set 0
;;     mov qword ptr [r15 + 0x40], rax
;;     mov qword ptr [r15 + 0x48], rcx
;;     mov qword ptr [r15 + 0x18], 1
;;     call qword ptr [r15 + 0x10]                         ; library, opcode 4
;;     mov rax, qword ptr [rbp - 0x20]
;;   # 5 end
;;     leave
;;     ret
;; == emit: function 1 (pick), full
;; 113 bytes
;;     test dword ptr [rsp - 0x8020], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x20
;;     mov qword ptr [rbp - 8], r15
;;     mov qword ptr [rbp - 0x10], rax
;;   # 0 local.get 0
;;   # 1 ref.func 0
;;     mov rcx, qword ptr [r15 + 0x28]
;;     mov rcx, qword ptr [rcx]
;;   # 2 table.set 0
;;     mov qword ptr [r15 + 0x40], rax
;;     mov qword ptr [r15 + 0x48], rcx
;;     mov qword ptr [r15 + 0x18], 0
;;     call qword ptr [r15 + 0x10]                         ; library, opcode 2
;;     mov rax, qword ptr [rbp - 0x10]
;;   # 4 table.get 0
;;     mov qword ptr [r15 + 0x40], rax
;;     mov qword ptr [r15 + 0x18], 1
;;     call qword ptr [r15 + 0x10]                         ; library, opcode 4
;;     mov rax, qword ptr [r15 + 0x40]
;;   # 5 ref.is_null
;;     test rax, rax
;;     sete al
;;     movzx eax, al
;;     mov qword ptr [rbp - 0x18], rax
;;   # 6 table.size 0
;;     mov qword ptr [r15 + 0x18], 2
;;     call qword ptr [r15 + 0x10]                         ; library, opcode 6
;;     mov rax, qword ptr [r15 + 0x40]
;;     mov rcx, qword ptr [rbp - 0x18]
;;   # 7 i32.add
;;     add ecx, eax
;;     mov eax, ecx
;;   # 8 end
;;     leave
;;     ret
