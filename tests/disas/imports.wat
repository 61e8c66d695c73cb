;;; Calls of an import and of another function: an import may belong to another instance.
;;! show emit both full
(module
  (import "host" "log" (func $log (param i32 f64)))
  (func $own (param i32) (result i32) local.get 0)
  (func $both (param $x i32) (result i32)
    local.get $x
    f64.const 1.5
    call $log
    local.get $x
    call $own))

;; == emit: function 2 (both), full
;; 72 bytes, of them 12 of data
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;     mov dword ptr [rbp - 0x10], eax
;;   # 0..2 call 0
;;     movsd xmm0, qword ptr [rip + 0x22]
;;     mov r11, qword ptr [r15 + 0x40]
;;     mov r15, qword ptr [r11 + 8]
;;     mov r14, qword ptr [r15]
;;     call qword ptr [r11]
;;     mov r15, qword ptr [rbp - 8]                        ; back from opcode 2
;;     mov r14, qword ptr [r15]
;;   # 3..4 call 1
;;     mov eax, dword ptr [rbp - 0x10]
;;     call qword ptr [r15 + 0x50]
;;   # 5 end
;;     leave                                               ; back from opcode 4
;;     ret
;;     data: 00000000 000000000000f83f
