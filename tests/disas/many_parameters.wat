;;; More arguments and results than registers: words above the return address.
;;! show emit sum full
;;! show emit caller full
(module
  (func $sum (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    local.get 0
    local.get 8
    i32.add
    local.get 9
    i32.add)
  (func $caller (result i32)
    i32.const 1 i32.const 2 i32.const 3 i32.const 4 i32.const 5
    i32.const 6 i32.const 7 i32.const 8 i32.const 9 i32.const 10
    call $sum))

;; == emit: function 0 (sum), full
;; 51 bytes
;;     test dword ptr [rsp - 0x8020], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x20
;;     mov qword ptr [rbp - 8], r15
;;     mov r11d, dword ptr [rbp + 0x10]
;;     mov dword ptr [rbp - 0x10], r11d
;;     mov r11d, dword ptr [rbp + 0x18]
;;     mov dword ptr [rbp - 0x18], r11d
;;   # 0 local.get 0
;;     mov r10d, eax
;;   # 2 i32.add
;;     add r10d, dword ptr [rbp - 0x10]
;;   # 4 i32.add
;;     add r10d, dword ptr [rbp - 0x18]
;;     mov eax, r10d
;;   # 5 end
;;     leave
;;     ret
;; == emit: function 1 (caller), full
;; 82 bytes
;;     test dword ptr [rsp - 0x8020], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x20
;;     mov qword ptr [rbp - 8], r15
;;   # 0 i32.const 1
;;     mov eax, 1
;;     mov ecx, 2
;;     mov edx, 3
;;     mov ebx, 4
;;     mov esi, 5
;;     mov edi, 6
;;     mov r8d, 7
;;     mov r9d, 8
;;     mov dword ptr [rsp], 9
;;     mov dword ptr [rsp + 8], 0xa
;;   # 10 call 0
;;     call qword ptr [r15 + 0x40]
;;   # 11 end
;;     leave                                               ; call, opcode 10
;;     ret
