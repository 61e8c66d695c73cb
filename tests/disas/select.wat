;;; select of integers, of floats, of a comparison fused into it or not.
;;! show emit integers full
;;! show emit floats full
(module
  (func $integers (param $a i32) (param $b i32) (result i32)
    local.get $a
    local.get $b
    local.get $a
    local.get $b
    i32.gt_s
    select)
  (func $floats (param $a f64) (param $b f64) (param $c i32) (result f64)
    local.get $a
    local.get $b
    local.get $c
    select))

;; == emit: function 0 (integers), full
;; 38 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;   # 4 i32.gt_s
;;     xor edx, edx
;;     cmp eax, ecx
;;     setg dl
;;     mov ebx, eax
;;   # 5 select
;;     test edx, edx
;;     cmove rbx, rcx
;;     mov eax, ebx
;;   # 6 end
;;     leave
;;     ret
;; == emit: function 1 (floats), full
;; 34 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;     movaps xmm2, xmm0
;;   # 3 select
;;     test eax, eax
;;     jne L0
;;     movaps xmm2, xmm1
;; L0:
;;     movaps xmm0, xmm2
;;   # 4 end
;;     leave
;;     ret
