;;; More than one result: registers by class, a block with parameters.
;;! show emit caller full
;;! show emit rotate full
(module
  (func $rotate (param i32 i64 f64) (result f64 i32 i64)
    local.get 2
    local.get 0
    local.get 1)
  (func $caller (param i32) (result i64)
    (local $wide i64) (local $sum i32)
    local.get 0
    i64.const 7
    f64.const 2.5
    call $rotate
    local.set $wide
    local.set $sum
    drop
    local.get $wide
    local.get $sum
    i64.extend_i32_u
    i64.add))

;; == emit: function 1 (caller), full
;; 64 bytes, of them 15 of data
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;     mov dword ptr [rbp - 0x10], eax
;;   # 0..3 call 0
;;     mov ecx, 7
;;     movsd xmm0, qword ptr [rip + 0x15]
;;     call qword ptr [r15 + 0x40]
;;   # 4..9 i64.extend_i32_u
;;     mov edx, eax                                        ; back from opcode 3
;;   # 10 i64.add
;;     add rdx, rcx
;;   # 11 end
;;     mov rax, rdx
;;     leave
;;     ret
;;     data: 00000000000000 0000000000000440
;; == emit: function 0 (rotate), full
;; 21 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..3 end
;;     leave
;;     ret
