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
;; 75 bytes
;; L0:
;;     test dword ptr [rsp - 0x8030], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x30
;;     mov qword ptr [rbp - 8], r15
;;     mov dword ptr [rbp - 0x10], eax
;;   # 0 local.get 0
;;   # 3 if [i32]
;;     cmp eax, 2
;;     jge L1
;;   # 4 local.get 0
;;   # 5 else
;;     mov ecx, eax
;;     jmp L2
;; L1:
;;   # 6 local.get 0
;;   # 8 i32.sub
;;     lea ecx, [rax - 1]
;;     mov dword ptr [rbp - 0x18], ecx
;;     mov eax, ecx
;;   # 9 call 0
;;     call L0
;;     mov dword ptr [rbp - 0x20], eax                     ; call, opcode 9
;;     mov ecx, dword ptr [rbp - 0x10]
;;   # 12 i32.sub
;;     lea edx, [rcx - 2]
;;     mov dword ptr [rbp - 0x28], edx
;;     mov eax, edx
;;   # 13 call 0
;;     call L0
;;     mov ecx, dword ptr [rbp - 0x20]                     ; call, opcode 13
;;   # 14 i32.add
;;     add ecx, eax
;;   # 15 end
;;     mov eax, dword ptr [rbp - 0x10]
;; L2:
;;   # 16 end
;;     mov eax, ecx
;;     leave
;;     ret
;; == emit: function 0 (fib), live
;; 64 bytes
;; L0:
;;     test dword ptr [rsp - 0x8020], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x20
;;     mov qword ptr [rbp - 8], r15
;;     mov dword ptr [rbp - 0x10], eax
;;   # 0 local.get 0
;;   # 3 if [i32]
;;     cmp eax, 2
;;     jge L1
;;   # 4 local.get 0
;;   # 5 else
;;     jmp L2
;; L1:
;;   # 6 local.get 0
;;   # 8 i32.sub
;;     lea ecx, [rax - 1]
;;     mov eax, ecx
;;   # 9 call 0
;;     call L0
;;     mov dword ptr [rbp - 0x18], eax                     ; call, opcode 9
;;     mov ecx, dword ptr [rbp - 0x10]
;;   # 12 i32.sub
;;     sub ecx, 2
;;     mov eax, ecx
;;   # 13 call 0
;;     call L0
;;     mov ecx, dword ptr [rbp - 0x18]                     ; call, opcode 13
;;   # 14 i32.add
;;     add ecx, eax
;;   # 15 end
;;     mov eax, ecx
;; L2:
;;   # 16 end
;;     leave
;;     ret
