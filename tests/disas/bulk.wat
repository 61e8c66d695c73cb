;;; Memories in bulk: size is inline, grow, copy and fill are C functions.
;;! show emit size full
;;! show emit grow full
;;! show emit move full
(module
  (memory 1)
  (func $size (result i32)
    memory.size)
  (func $grow (param i32) (result i32)
    local.get 0
    memory.grow)
  (func $move (param $to i32) (param $from i32) (param $bytes i32) (result i32)
    local.get $to
    local.get $from
    local.get $bytes
    memory.copy
    local.get $bytes))

;; == emit: function 0 (size), full
;; 37 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 memory.size 0
;;     mov qword ptr [r15 + 0x18], 0
;;     call qword ptr [r15 + 0x10]                         ; library, opcode 0
;;     mov rax, qword ptr [r15 + 0x40]
;;   # 1 end
;;     leave
;;     ret
;; == emit: function 1 (grow), full
;; 45 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;     mov qword ptr [rbp - 0x10], rax
;;   # 0 local.get 0
;;   # 1 memory.grow 0
;;     mov qword ptr [r15 + 0x40], rax
;;     mov qword ptr [r15 + 0x18], 0
;;     call qword ptr [r15 + 0x10]                         ; library, opcode 1
;;     mov rax, qword ptr [r15 + 0x40]
;;   # 2 end
;;     leave
;;     ret
;; == emit: function 2 (move), full
;; 61 bytes
;;     test dword ptr [rsp - 0x8020], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x20
;;     mov qword ptr [rbp - 8], r15
;;     mov qword ptr [rbp - 0x10], rax
;;     mov qword ptr [rbp - 0x18], rcx
;;     mov qword ptr [rbp - 0x20], rdx
;;   # 0 local.get 0
;;   # 3 memory.copy 0 0
;;     mov qword ptr [r15 + 0x40], rax
;;     mov qword ptr [r15 + 0x48], rcx
;;     mov qword ptr [r15 + 0x50], rdx
;;     mov qword ptr [r15 + 0x18], 0
;;     call qword ptr [r15 + 0x10]                         ; library, opcode 3
;;     mov rax, qword ptr [rbp - 0x20]
;;   # 5 end
;;     leave
;;     ret
