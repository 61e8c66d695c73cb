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
;;   # 0 i32.const 6
;;     mov eax, 0x2a
;;   # 3 end
;;     leave
;;     ret
;; == emit: function 1 (wide), full
;; 44 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;     movabs rcx, 0x123456789abcdef
;;     mov rdx, rax
;;   # 2 i64.xor
;;     xor rdx, rcx
;;   # 4 i64.and
;;     and rdx, 0xfffffffffffffffb
;;     mov rax, rdx
;;   # 5 end
;;     leave
;;     ret
;; == emit: function 2 (float), full
;; 36 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 f32.const nan:0x7fa00000
;;     movss xmm0, dword ptr [rip + 5]
;;   # 1 end
;;     leave
;;     ret
;;     data: 0000000000a07f
