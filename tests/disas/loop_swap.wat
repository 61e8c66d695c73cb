;;; A loop that swaps two locals each round: moves that happen at once go by a scratch register.
;;! show allocate swap full
;;! show emit swap full
;;! loops swap 1
(module
  (func $swap (param $a i32) (param $b i32) (param $n i32) (result i32)
    (local $t i32)
    loop $next
      local.get $a
      local.set $t
      local.get $b
      local.set $a
      local.get $t
      local.set $b
      local.get $n
      i32.const 1
      i32.sub
      local.tee $n
      br_if $next
    end
    local.get $a))

;; == allocate: function 0 (swap), full
;; 0 slots
;; b0(rax:v0, rcx:v1, rdx:v2)                           ; opcode 0
;;   jump                                               ; 0
;;   to b1(v0, v1, v2, v3): rbx:v3 = 0
;; b1(rax:v5, rcx:v6, rdx:v7, rbx:v8) header, depth 1, from b0 b1 ; opcode 1
;;   rdx:v10 = i32.sub rdx, 1                           ; 10
;;   branch rdx                                         ; 11
;;   to b1(v6, v5, v10, v5): rbx:v5 = rax; scratch:v6 = rcx; rcx:v5 = rax; rax:v6 = scratch
;;   to b2
;; b2 depth 1, from b1                                  ; opcode 12
;;   holding rax:v5, rcx:v6, rdx:v10
;;   jump                                               ; 12
;;   to b3(v6, v5, v10)
;; b3(rcx:v13, rax:v14, rdx:v15) from b2                ; opcode 13
;;   rax:v13 = rcx
;;   return rax                                         ; 14
;; == emit: function 0 (swap), full
;; 44 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 loop
;;     xor ebx, ebx
;; b1:
;;   # 1..10 local.tee 2
;;     sub edx, 1
;;   # 11 br_if 0
;;     test edx, edx
;;     je b2
;;     mov ebx, eax
;;     mov r11d, ecx
;;     mov ecx, eax
;;     mov eax, r11d
;;     jmp b1
;; b2:
;;   # 12..14 end
;;     mov eax, ecx
;;     leave
;;     ret
