;;; Recursion: calls of oneself, a result that joins two arms.
;;! show emit fib full
;;! show emit fib live
(module
  (func $fib (export "fib") (param $n i32) (result i32)
    local.get $n
    i32.const 2
    i32.lt_s
    if (result i32)
      local.get $n
    else
      local.get $n
      i32.const 1
      i32.sub
      call $fib
      local.get $n
      i32.const 2
      i32.sub
      call $fib
      i32.add
    end))

;; == emit: function 0 (fib), full
;; 88 bytes
;;     test dword ptr [rsp - 0x8020], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x20
;;     mov qword ptr [rbp - 8], r15
;;     mov qword ptr [rbp - 0x10], rax
;;   # 0 local.get 0
;;   # 3 if [i32]
;;     cmp eax, 2
;;     jge L0
;;   # 4 local.get 0
;;   # 5 else
;;     mov ecx, eax
;;     jmp L1
;; L0:
;;   # 6 local.get 0
;;     mov ecx, eax
;;   # 8 i32.sub
;;     sub ecx, 1
;;     mov eax, ecx
;;   # 9 call 0
;;     mov r11, qword ptr [r15 + 0x28]
;;     mov r11, qword ptr [r11]
;;     call qword ptr [r11]                                ; call, opcode 9
;;     mov qword ptr [rbp - 0x18], rax
;;     mov rcx, qword ptr [rbp - 0x10]
;;     mov edx, ecx
;;   # 12 i32.sub
;;     sub edx, 2
;;     mov eax, edx
;;   # 13 call 0
;;     mov r11, qword ptr [r15 + 0x28]
;;     mov r11, qword ptr [r11]
;;     call qword ptr [r11]                                ; call, opcode 13
;;     mov rcx, qword ptr [rbp - 0x18]
;;   # 14 i32.add
;;     add ecx, eax
;;   # 15 end
;;     mov rax, qword ptr [rbp - 0x10]
;; L1:
;;   # 16 end
;;     mov eax, ecx
;;     leave
;;     ret
;; == emit: function 0 (fib), live
;; 80 bytes
;;     test dword ptr [rsp - 0x8020], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x20
;;     mov qword ptr [rbp - 8], r15
;;     mov qword ptr [rbp - 0x10], rax
;;   # 0 local.get 0
;;   # 3 if [i32]
;;     cmp eax, 2
;;     jge L0
;;   # 4 local.get 0
;;   # 5 else
;;     jmp L1
;; L0:
;;   # 6 local.get 0
;;     mov ecx, eax
;;   # 8 i32.sub
;;     sub ecx, 1
;;     mov eax, ecx
;;   # 9 call 0
;;     mov r11, qword ptr [r15 + 0x28]
;;     mov r11, qword ptr [r11]
;;     call qword ptr [r11]                                ; call, opcode 9
;;     mov qword ptr [rbp - 0x18], rax
;;     mov rcx, qword ptr [rbp - 0x10]
;;   # 12 i32.sub
;;     sub ecx, 2
;;     mov eax, ecx
;;   # 13 call 0
;;     mov r11, qword ptr [r15 + 0x28]
;;     mov r11, qword ptr [r11]
;;     call qword ptr [r11]                                ; call, opcode 13
;;     mov rcx, qword ptr [rbp - 0x18]
;;   # 14 i32.add
;;     add ecx, eax
;;   # 15 end
;;     mov eax, ecx
;; L1:
;;   # 16 end
;;     leave
;;     ret
