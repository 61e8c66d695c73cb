;;; Floats to integers: trapping and saturating.
;;! show emit trapping full
;;! show emit saturating full
;;! show emit unsigned full
(module
  (func $trapping (param f64) (result i32)
    local.get 0
    i32.trunc_f64_s)
  (func $saturating (param f64) (result i32)
    local.get 0
    i32.trunc_sat_f64_s)
  (func $unsigned (param f32) (result i64)
    local.get 0
    i64.trunc_sat_f32_u))

;; == emit: function 0 (trapping), full
;; 37 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 i32.trunc_f64_s
;;     cvttsd2si rax, xmm0
;;     movsxd r11, eax
;;     cmp r11, rax
;;     jne L0
;;     mov eax, eax
;;   # 2 end
;;     leave
;;     ret
;; L0:
;;     hlt                                                 ; truncation 64, opcode 1
;; == emit: function 1 (saturating), full
;; 80 bytes, of them 19 of data
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 i32.trunc_sat_f64_s
;;     movaps xmm15, xmm0
;;     ucomisd xmm15, xmm15
;;     jp L0
;;     minsd xmm15, qword ptr [rip + 0x19]
;;     maxsd xmm15, qword ptr [rip + 0x18]
;;     cvttsd2si rax, xmm15
;;     mov eax, eax
;;     jmp L1
;; L0:
;;     xor eax, eax
;; L1:
;;   # 2 end
;;     leave
;;     ret
;;     data: 0000000000c0ffff ffdf410000000000
;;     data: 00e0c1
;; == emit: function 2 (unsigned), full
;; 108 bytes, of them 5 of data
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 i64.trunc_sat_f32_u
;;     xorps xmm15, xmm15
;;     ucomiss xmm0, xmm15
;;     jbe L3
;;     movss xmm15, dword ptr [rip + 0x42]
;;     ucomiss xmm0, xmm15
;;     jae L0
;;     cvttss2si rax, xmm0
;;     mov r11d, 0
;;     test rax, rax
;;     jmp L1
;; L0:
;;     subss xmm15, xmm0
;;     cvttss2si rax, xmm15
;;     mov r11d, 1
;;     neg rax
;; L1:
;;     js L2
;;     shl r11, 0x3f
;;     xor rax, r11
;;     jmp L4
;; L2:
;;     mov rax, 0xffffffffffffffff
;;     jmp L4
;; L3:
;;     xor eax, eax
;; L4:
;;   # 2 end
;;     leave
;;     ret
;;     data: 000000005f
