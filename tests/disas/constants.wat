;;; Constants: folded, in the instruction where they fit, in a register where they do not.
;;! show emit folded full
;;! show emit wide full
;;! show emit float full
(module
  (func $folded (result i32)
    i32.const 6
    i32.const 7
    i32.mul)
  (func $wide (param i64) (result i64)
    local.get 0
    i64.const 0x123456789abcdef
    i64.xor
    i64.const -5
    i64.and)
  (func $float (result f32)
    f32.const nan:0x200000))

;; == emit: function 0 (folded), full
;; 26 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..3 end
;;     mov eax, 0x2a
;;     leave
;;     ret
;; == emit: function 1 (wide), full
;; 44 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..2 i64.xor
;;     movabs rcx, 0x123456789abcdef
;;     mov rdx, rax
;;     xor rdx, rcx
;;   # 3..4 i64.and
;;     and rdx, 0xfffffffffffffffb
;;   # 5 end
;;     mov rax, rdx
;;     leave
;;     ret
;; == emit: function 2 (float), full
;; 36 bytes, of them 7 of data
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 end
;;     movss xmm0, dword ptr [rip + 5]
;;     leave
;;     ret
;;     data: 0000000000a07f
