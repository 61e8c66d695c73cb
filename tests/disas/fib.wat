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
;; 72 bytes
;; L0:
;;     test dword ptr [rsp - 0x8030], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x30
;;     mov qword ptr [rbp - 8], r15
;;     mov dword ptr [rbp - 0x10], eax
;;   # 0..3 if [i32]
;;     cmp eax, 2
;;     jge b2
;; b1:
;;   # 4..5 else
;;     mov ecx, eax
;;     jmp b3
;; b2:
;;   # 6..8 i32.sub
;;     lea ecx, [rax - 1]
;;     mov dword ptr [rbp - 0x18], ecx
;;   # 9 call 0
;;     mov eax, ecx
;;     call L0
;;     mov dword ptr [rbp - 0x20], eax                     ; back from opcode 9
;;   # 10..12 i32.sub
;;     mov ecx, dword ptr [rbp - 0x10]
;;     lea edx, [rcx - 2]
;;     mov dword ptr [rbp - 0x28], edx
;;   # 13 call 0
;;     mov eax, edx
;;     call L0
;;   # 14 i32.add
;;     mov ecx, dword ptr [rbp - 0x20]                     ; back from opcode 13
;;     add ecx, eax
;; b3:
;;   # 15..16 end
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
;;   # 0..3 if [i32]
;;     cmp eax, 2
;;     jge b2
;; b1:
;;   # 4..5 else
;;     jmp b3
;; b2:
;;   # 6..8 i32.sub
;;     lea ecx, [rax - 1]
;;   # 9 call 0
;;     mov eax, ecx
;;     call L0
;;     mov dword ptr [rbp - 0x18], eax                     ; back from opcode 9
;;   # 10..12 i32.sub
;;     mov ecx, dword ptr [rbp - 0x10]
;;     sub ecx, 2
;;   # 13 call 0
;;     mov eax, ecx
;;     call L0
;;   # 14 i32.add
;;     mov ecx, dword ptr [rbp - 0x18]                     ; back from opcode 13
;;     add ecx, eax
;;   # 15 end
;;     mov eax, ecx
;; b3:
;;   # 16 end
;;     leave
;;     ret
