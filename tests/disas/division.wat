;;; Division: the machine traps, but where the specification says otherwise; remainders of -1 are 0.
;;! show emit quotient full
;;! show emit remainder full
;;! show emit by_ten full
(module
  (func $quotient (param i32 i32) (result i32)
    local.get 0
    local.get 1
    i32.div_s)
  (func $remainder (param i64 i64) (result i64)
    local.get 0
    local.get 1
    i64.rem_s)
  (func $by_ten (param i32) (result i32)
    local.get 0
    i32.const 10
    i32.div_u))

;; == emit: function 0 (quotient), full
;; 26 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..2 i32.div_s
;;     mov ebx, eax
;;     cdq
;;     idiv ecx                                            ; division, opcode 2
;;   # 3 end
;;     leave
;;     ret
;; == emit: function 1 (remainder), full
;; 42 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..2 i64.rem_s
;;     mov rbx, rax
;;     cmp rcx, -1
;;     jne L0
;;     xor edx, edx
;;     jmp L1
;; L0:
;;     cqo
;;     idiv rcx                                            ; division, opcode 2
;; L1:
;;   # 3 end
;;     mov rax, rdx
;;     leave
;;     ret
;; == emit: function 2 (by_ten), full
;; 40 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..2 i32.div_u
;;     mov ecx, eax
;;     mov edx, 0xcccccccd
;;     imul rcx, rdx
;;     shr rcx, 0x23
;;     mov ecx, ecx
;;   # 3 end
;;     mov eax, ecx
;;     leave
;;     ret
