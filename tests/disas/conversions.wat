;;; Conversions of integers are at most one instruction; of floats, one or a few.
;;! show emit integers full
;;! show emit floats full
;;! show emit unsigned full
(module
  (func $integers (param i64) (result i64)
    local.get 0
    i32.wrap_i64
    i32.extend8_s
    i64.extend_i32_s
    i64.extend16_s)
  (func $floats (param i32) (result f32)
    local.get 0
    f64.convert_i32_s
    f32.demote_f64)
  (func $unsigned (param i64) (result f64)
    local.get 0
    f64.convert_i64_u))

;; == emit: function 0 (integers), full
;; 36 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 i32.wrap_i64
;;     mov ecx, eax
;;   # 2 i32.extend8_s
;;     movsx ecx, cl
;;   # 3 i64.extend_i32_s
;;     movsxd rdx, ecx
;;   # 4 i64.extend16_s
;;     movsx rcx, dx
;;   # 5 end
;;     mov rax, rcx
;;     leave
;;     ret
;; == emit: function 1 (floats), full
;; 32 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 f64.convert_i32_s
;;     xorps xmm0, xmm0
;;     cvtsi2sd xmm0, eax
;;   # 2 f32.demote_f64
;;     cvtsd2ss xmm0, xmm0
;;   # 3 end
;;     leave
;;     ret
;; == emit: function 2 (unsigned), full
;; 61 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 f64.convert_i64_u
;;     xorps xmm0, xmm0
;;     test rax, rax
;;     js L0
;;     cvtsi2sd xmm0, rax
;;     jmp L2
;; L0:
;;     mov r11, rax
;;     shr r11, 1
;;     test al, 1
;;     je L1
;;     or r11, 1
;; L1:
;;     cvtsi2sd xmm0, r11
;;     addsd xmm0, xmm0
;; L2:
;;   # 2 end
;;     leave
;;     ret
