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
;; 33 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 memory.size 0
;;     mov rax, qword ptr [r15 + 8]
;;     mov rax, qword ptr [rax + 8]
;;     shr rax, 0x10
;;   # 1 end
;;     leave
;;     ret
;; == emit: function 1 (grow), full
;; 36 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;     mov dword ptr [rbp - 0x10], eax
;;   # 0 local.get 0
;;     mov esi, eax
;;   # 1 memory.grow 0
;;     mov rdi, r15
;;     mov r11, qword ptr [r15 + 0x18]
;;     call qword ptr [r11]
;;   # 2 end
;;     leave                                               ; call, opcode 1
;;     ret
;; == emit: function 2 (move), full
;; 59 bytes
;;     test dword ptr [rsp - 0x8020], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x20
;;     mov qword ptr [rbp - 8], r15
;;     mov dword ptr [rbp - 0x10], eax
;;     mov dword ptr [rbp - 0x18], ecx
;;     mov dword ptr [rbp - 0x20], edx
;;   # 0 local.get 0
;;     mov esi, eax
;;     mov r11d, ecx
;;     mov ecx, edx
;;     mov edx, r11d
;;   # 3 memory.copy 0 0
;;     mov rdi, r15
;;     mov r11, qword ptr [r15 + 0x18]
;;     call qword ptr [r11 + 0x10]
;;     test eax, eax                                       ; call, opcode 3
;;     jne L0
;;     mov eax, dword ptr [rbp - 0x20]
;;   # 5 end
;;     leave
;;     ret
;; L0:
;;     hlt                                                 ; memory bounds, opcode 3
