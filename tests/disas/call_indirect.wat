;;; A call through a table: the element's bound, its presence and its type are checked.
;;! show emit apply full
(module
  (type $unary (func (param i32) (result i32)))
  (table 4 funcref)
  (func $apply (param $x i32) (param $which i32) (result i32)
    local.get $x
    local.get $which
    call_indirect (type $unary)))

;; == emit: function 0 (apply), full
;; 82 bytes
;;     test dword ptr [rsp - 0x8020], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x20
;;     mov qword ptr [rbp - 8], r15
;;     mov dword ptr [rbp - 0x10], eax
;;     mov dword ptr [rbp - 0x18], ecx
;;   # 0 local.get 0
;;     mov r10d, ecx
;;   # 2 call_indirect type=0 table=0
;;     mov r11, qword ptr [r15 + 0x40]
;;     cmp r10d, dword ptr [r11 + 8]
;;     jae L0
;;     mov r11, qword ptr [r11]
;;     mov r11, qword ptr [r11 + r10*8]
;;     test r11, r11
;;     je L1
;;     cmp dword ptr [r11 + 0x10], 0x7fffffff
;;     jne L2
;;     mov r15, qword ptr [r11 + 8]
;;     mov r14, qword ptr [r15]
;;     call qword ptr [r11]
;;     mov r15, qword ptr [rbp - 8]                        ; call, opcode 2
;;     mov r14, qword ptr [r15]
;;   # 3 end
;;     leave
;;     ret
;; L0:
;;     hlt                                                 ; undefined element, opcode 2
;; L1:
;;     hlt                                                 ; uninitialized element, opcode 2
;; L2:
;;     hlt                                                 ; indirect call type mismatch, opcode 2
