;;; Floats: an operand from memory, a constant, signs by masks, min as the specification has it, a rounding.
;;! show emit mean full
;;! show emit signs full
;;! show emit least full
;;! show emit round full
;;! show emit round full oldest
(module
  (memory 1)
  (func $mean (param $at i32) (result f64)
    local.get $at
    f64.load
    local.get $at
    f64.load offset=8
    f64.add
    f64.const 0.5
    f64.mul)
  (func $signs (param f32 f32) (result f32)
    local.get 0
    f32.neg
    local.get 1
    f32.copysign)
  (func $least (param f64 f64) (result f64)
    local.get 0
    local.get 1
    f64.min)
  (func $round (param f64) (result f64)
    local.get 0
    f64.floor))

;; == emit: function 0 (mean), full
;; 64 bytes, of them 14 of data
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 f64.load
;;     movsd xmm0, qword ptr [r14 + rax]                   ; memory, opcode 1
;;   # 2..3 f64.load offset=8
;;     movsd xmm1, qword ptr [r14 + rax + 8]               ; memory, opcode 3
;;   # 4 f64.add
;;     addsd xmm0, xmm1
;;   # 5..6 f64.mul
;;     movsd xmm1, qword ptr [rip + 0xc]
;;     mulsd xmm0, xmm1
;;   # 7 end
;;     leave
;;     ret
;;     data: 000000000000 000000000000e03f
;; == emit: function 1 (signs), full
;; 96 bytes, of them 39 of data
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 f32.neg
;;     movaps xmm2, xmm0
;;     xorps xmm2, xmmword ptr [rip + 0x23]
;;   # 2..3 f32.copysign
;;     andps xmm2, xmmword ptr [rip + 0x2c]
;;     movaps xmm15, xmmword ptr [rip + 0x14]
;;     andps xmm15, xmm1
;;     orps xmm2, xmm15
;;   # 4 end
;;     movaps xmm0, xmm2
;;     leave
;;     ret
;;     data: 0000000000000000 0000800000000000
;;     data: 00000000000000ff ffff7f0000000000
;;     data: 00000000000000
;; == emit: function 2 (least), full
;; 50 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..2 f64.min
;;     movaps xmm2, xmm0
;;     ucomisd xmm2, xmm1
;;     jp L0
;;     jne L1
;;     orps xmm2, xmm1
;;     jmp L2
;; L0:
;;     addsd xmm2, xmm1
;;     jmp L2
;; L1:
;;     minsd xmm2, xmm1
;; L2:
;;   # 3 end
;;     movaps xmm0, xmm2
;;     leave
;;     ret
;; == emit: function 3 (round), full
;; 30 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 f64.floor
;;     roundsd xmm1, xmm0, 9
;;   # 2 end
;;     movaps xmm0, xmm1
;;     leave
;;     ret
;; == emit: function 3 (round), full, oldest
;; 34 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;     movsd qword ptr [rbp - 0x10], xmm0
;;   # 0..1 f64.floor
;;     mov r11, qword ptr [r15 + 0x18]
;;     call qword ptr [r11 + 0x78]
;;   # 2 end
;;     leave                                               ; back from opcode 1
;;     ret
