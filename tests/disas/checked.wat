;;; Memories that could not reserve their address space: each access is compared with the size.
;;! show emit copy full checked
(module
  (memory 1)
  (func $copy (param $from i32) (param $to i32)
    local.get $to
    local.get $from
    i64.load offset=8
    i64.store))

;; == emit: function 0 (copy), full, checked
;; 66 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 1
;;   # 2 i64.load offset=8
;;     mov r11, qword ptr [r15 + 8]
;;     mov r11, qword ptr [r11 + 8]
;;     sub r11, 0x10
;;     cmp rax, r11
;;     ja L0
;;     mov rdx, qword ptr [r14 + rax + 8]                  ; memory, opcode 2
;;   # 3 i64.store
;;     mov r11, qword ptr [r15 + 8]
;;     mov r11, qword ptr [r11 + 8]
;;     sub r11, 8
;;     cmp rcx, r11
;;     ja L1
;;     mov qword ptr [r14 + rcx], rdx                      ; memory, opcode 3
;;   # 4 end
;;     leave
;;     ret
;; L0:
;;     hlt                                                 ; memory bounds, opcode 2
;; L1:
;;     hlt                                                 ; memory bounds, opcode 3
