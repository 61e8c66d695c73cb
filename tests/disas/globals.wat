;;; Globals: the instance's own lie in its block, imported ones behind an address.
;;! show emit bump full
(module
  (import "env" "base" (global $base (mut i32)))
  (global $count (mut i64) (i64.const 0))
  (global $scale (mut f64) (f64.const 1))
  (func $bump (param f64) (result i32)
    global.get $count
    i64.const 1
    i64.add
    global.set $count
    global.get $scale
    local.get 0
    f64.mul
    global.set $scale
    global.get $base))

;; == emit: function 0 (bump), full
;; 56 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 global.get 1
;;     mov rax, qword ptr [r15 + 0x50]
;;   # 2 i64.add
;;     add rax, 1
;;   # 3 global.set 1
;;     mov qword ptr [r15 + 0x50], rax
;;   # 4 global.get 2
;;     movsd xmm1, qword ptr [r15 + 0x60]
;;   # 6 f64.mul
;;     mulsd xmm1, xmm0
;;   # 7 global.set 2
;;     movsd qword ptr [r15 + 0x60], xmm1
;;   # 8 global.get 0
;;     mov r11, qword ptr [r15 + 0x40]
;;     mov eax, dword ptr [r11]
;;   # 9 end
;;     leave
;;     ret
