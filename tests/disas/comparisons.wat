;;; Comparisons: fused into the branch, as a value, of floats where a NaN must not pass.
;;! show emit fused full
;;! show emit value full
;;! show emit floats full
(module
  (func $fused (param i64 i64) (result i32)
    local.get 0
    local.get 1
    i64.lt_u
    if (result i32)
      i32.const 1
    else
      i32.const 2
    end)
  (func $value (param i32 i32) (result i32)
    local.get 0
    local.get 1
    i32.ge_s
    local.get 0
    i32.eqz
    i32.add)
  (func $floats (param f64 f64) (result i32)
    local.get 0
    local.get 1
    f64.lt
    if
      i32.const 7
      return
    end
    local.get 0
    local.get 1
    f64.eq))

;; == emit: function 0 (fused), full
;; 40 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;   # 3 if [i32]
;;     cmp rax, rcx
;;     jae L0
;;   # 4 i32.const 1
;;   # 5 else
;;     mov edx, 1
;;     jmp L1
;; L0:
;;   # 6 i32.const 2
;;   # 7 end
;;     mov edx, 2
;; L1:
;;   # 8 end
;;     mov eax, edx
;;     leave
;;     ret
;; == emit: function 1 (value), full
;; 39 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;   # 2 i32.ge_s
;;     xor edx, edx
;;     cmp eax, ecx
;;     setge dl
;;   # 4 i32.eqz
;;     xor ebx, ebx
;;     test eax, eax
;;     sete bl
;;   # 5 i32.add
;;     add edx, ebx
;;     mov eax, edx
;;   # 6 end
;;     leave
;;     ret
;; == emit: function 2 (floats), full
;; 59 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;   # 2 f64.lt
;;     ucomisd xmm1, xmm0
;;     seta al
;;     movzx eax, al
;;   # 3 if
;;     test eax, eax
;;     je L0
;;   # 4 i32.const 7
;;   # 5 return
;;     mov eax, 7
;;     jmp L1
;; L0:
;;   # 7 local.get 0
;;   # 9 f64.eq
;;     ucomisd xmm0, xmm1
;;     setnp r11b
;;     sete al
;;     and al, r11b
;;     movzx eax, al
;; L1:
;;   # 10 end
;;   # 11 end
;;   # 10 end
;;     leave
;;     ret
