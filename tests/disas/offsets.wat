;;; Memory accesses by their offset: small ones are part of the address, beyond 2 GiB they are added and compared.
;;! show emit small full
;;! show emit large full
;;! show emit constant full
(module
  (memory 1)
  (func $small (param i32) (result i32)
    local.get 0
    i32.load offset=65536)
  (func $large (param i32) (result i64)
    local.get 0
    i64.load offset=0xfffffff0)
  (func $constant (param i32)
    i32.const 1024
    local.get 0
    i32.store16 offset=4))

;; == emit: function 0 (small), full
;; 31 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;   # 1 i32.load offset=65536
;;     mov ecx, dword ptr [r14 + rax + 0x10000]            ; memory, opcode 1
;;     mov eax, ecx
;;   # 2 end
;;     leave
;;     ret
;; == emit: function 1 (large), full
;; 71 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;   # 1 i64.load offset=4294967280
;;     mov r11, qword ptr [r15 + 8]
;;     mov r11, qword ptr [r11 + 8]
;;     sub r11, 0x7fffffff
;;     jb L0
;;     sub r11, 0x7ffffff9
;;     jb L1
;;     cmp rax, r11
;;     ja L2
;;     mov r11d, 0xfffffff0
;;     add r11, rax
;;     mov rcx, qword ptr [r14 + r11]                      ; memory, opcode 1
;;     mov rax, rcx
;;   # 2 end
;;     leave
;;     ret
;; L0:
;;     hlt                                                 ; memory bounds, opcode 1
;; L1:
;;     hlt                                                 ; memory bounds, opcode 1
;; L2:
;;     hlt                                                 ; memory bounds, opcode 1
;; == emit: function 2 (constant), full
;; 29 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 i32.const 1024
;;   # 2 i32.store16 offset=4
;;     mov word ptr [r14 + 0x404], ax                      ; memory, opcode 2
;;   # 3 end
;;     leave
;;     ret
