;;; Traps by order, and code behind them that is not compiled.
;;! show emit guard full
(module
  (func $guard (param i32) (result i32)
    local.get 0
    if
      unreachable
      i32.const 1
      drop
    end
    i32.const 5
    return
    local.get 0))

;; == emit: function 0 (guard), full
;; 31 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 if
;;     test eax, eax
;;     je b2
;; b1:
;;   # 2 unreachable
;;     hlt                                                 ; unreachable, opcode 2
;; b2:
;;   # 6..7 return
;;     mov eax, 5
;;     leave
;;     ret
