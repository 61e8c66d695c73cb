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
;; 60 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;   # 1 table.get 0
;;     mov r11, qword ptr [r15 + 0x40]
;;     cmp eax, dword ptr [r11 + 8]
;;     jae L0
;;     mov r11, qword ptr [r11]
;;     mov rdx, qword ptr [r11 + rax*8]
;;   # 4 table.set 0
;;     mov r11, qword ptr [r15 + 0x40]
;;     cmp eax, dword ptr [r11 + 8]
;;     jae L1
;;     mov r11, qword ptr [r11]
;;     mov qword ptr [r11 + rax*8], rcx
;;     mov rax, rdx
;;   # 5 end
;;     leave
;;     ret
;; L0:
;;     hlt                                                 ; table bounds, opcode 1
;; L1:
;;     hlt                                                 ; table bounds, opcode 4
;; == emit: function 1 (pick), full
;; 81 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;   # 1 ref.func 0
;;     lea rcx, [r15 + 0x50]
;;   # 2 table.set 0
;;     mov r11, qword ptr [r15 + 0x40]
;;     cmp eax, dword ptr [r11 + 8]
;;     jae L0
;;     mov r11, qword ptr [r11]
;;     mov qword ptr [r11 + rax*8], rcx
;;   # 4 table.get 0
;;     mov r11, qword ptr [r15 + 0x40]
;;     cmp eax, dword ptr [r11 + 8]
;;     jae L1
;;     mov r11, qword ptr [r11]
;;     mov rcx, qword ptr [r11 + rax*8]
;;   # 5 ref.is_null
;;     test rcx, rcx
;;     sete cl
;;     movzx ecx, cl
;;   # 6 table.size 0
;;     mov rdx, qword ptr [r15 + 0x40]
;;     mov edx, dword ptr [rdx + 8]
;;   # 7 i32.add
;;     add ecx, edx
;;     mov eax, ecx
;;   # 8 end
;;     leave
;;     ret
;; L0:
;;     hlt                                                 ; table bounds, opcode 2
;; L1:
;;     hlt                                                 ; table bounds, opcode 4
