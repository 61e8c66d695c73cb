;;; A product of f64 matrices of n rows, with the i32 addressing that clang makes of c[i][j] += a[i][k] * b[k][j].
;;! show emit matmul full
;;! loops matmul 1
(module
  (memory 1)
  (func $matmul (export "matmul") (param $a i32) (param $b i32) (param $c i32) (param $n i32)
    (local $i i32) (local $j i32) (local $k i32) (local $row i32) (local $p i32) (local $q i32) (local $stride i32)
    (local $sum f64)
    local.get $n
    i32.const 1
    i32.lt_s
    if
      return
    end
    local.get $n
    i32.const 3
    i32.shl
    local.set $stride
    loop $rows
      local.get $a
      local.get $i
      local.get $stride
      i32.mul
      i32.add
      local.set $row
      i32.const 0
      local.set $j
      loop $columns
        local.get $b
        local.get $j
        i32.const 3
        i32.shl
        i32.add
        local.set $q
        local.get $row
        local.set $p
        f64.const 0
        local.set $sum
        local.get $n
        local.set $k
        loop $terms
          local.get $p
          f64.load
          local.get $q
          f64.load
          f64.mul
          local.get $sum
          f64.add
          local.set $sum
          local.get $p
          i32.const 8
          i32.add
          local.set $p
          local.get $q
          local.get $stride
          i32.add
          local.set $q
          local.get $k
          i32.const -1
          i32.add
          local.tee $k
          br_if $terms
        end
        local.get $c
        local.get $i
        local.get $stride
        i32.mul
        i32.add
        local.get $j
        i32.const 3
        i32.shl
        i32.add
        local.get $sum
        f64.store
        local.get $j
        i32.const 1
        i32.add
        local.tee $j
        local.get $n
        i32.ne
        br_if $columns
      end
      local.get $i
      i32.const 1
      i32.add
      local.tee $i
      local.get $n
      i32.ne
      br_if $rows
    end))

;; == emit: function 0 (matmul), full
;; 290 bytes
;;     test dword ptr [rsp - 0x8060], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x60
;;     mov qword ptr [rbp - 8], r15
;;     mov dword ptr [rbp - 0x10], ecx
;;     mov dword ptr [rbp - 0x18], edx
;;     mov dword ptr [rbp - 0x48], ebx
;;   # 0 local.get 3
;;   # 3 if
;;     cmp ebx, 1
;;     jge L0
;;   # 4 return
;;     jmp L4
;; L0:
;;   # 6 local.get 3
;;     mov esi, ebx
;;   # 9 local.set 10
;;     shl esi, 3
;;   # 10 loop
;;     xor ecx, ecx
;;     xor edx, edx
;;     xor edi, edi
;;     xor r8d, r8d
;;     xor r9d, r9d
;;     xor r10d, r10d
;;     xorps xmm0, xmm0
;; L1:
;;     mov dword ptr [rbp - 0x20], ecx
;;   # 11 local.get 0
;;     mov r12d, esi
;;   # 14 i32.mul
;;     imul r12d, ecx
;;     mov dword ptr [rbp - 0x60], r12d
;;   # 16 local.set 7
;;     lea r13d, [rax + r12]
;;     mov dword ptr [rbp - 0x28], r13d
;;     mov ecx, dword ptr [rbp - 0x10]
;;     mov edx, dword ptr [rbp - 0x18]
;;   # 19 loop
;;     mov dword ptr [rbp - 0x30], edi
;;     mov dword ptr [rbp - 0x38], r9d
;;     mov dword ptr [rbp - 0x40], r10d
;;     movaps xmm1, xmm0
;;     xor r8d, r8d
;; L2:
;;     mov dword ptr [rbp - 0x58], r8d
;;   # 20 local.get 1
;;     mov edi, r8d
;;   # 23 i32.shl
;;     shl edi, 3
;;     mov dword ptr [rbp - 0x50], edi
;;   # 25 local.set 9
;;     lea r9d, [rcx + rdi]
;;   # 32 loop
;;     mov ecx, dword ptr [rbp - 0x48]
;;     mov edx, dword ptr [rbp - 0x28]
;;     xorps xmm0, xmm0
;; L3:
;;   # 33 local.get 8
;;   # 34 f64.load
;;     movsd xmm1, qword ptr [r14 + rdx]                   ; memory, opcode 34
;;   # 36 f64.load
;;     movsd xmm2, qword ptr [r14 + r9]                    ; memory, opcode 36
;;   # 37 f64.mul
;;     mulsd xmm1, xmm2
;;   # 40 local.set 11
;;     addsd xmm1, xmm0
;;   # 44 local.set 8
;;     add edx, 8
;;   # 48 local.set 9
;;     add r9d, esi
;;   # 52 local.tee 6
;;     add ecx, -1
;;   # 53 br_if 0
;;     test ecx, ecx
;;     jne L5
;;   # 54 end
;;   # 55 local.get 2
;;     mov ebx, dword ptr [rbp - 0x18]
;;     mov edi, ebx
;;   # 59 i32.add
;;     add edi, dword ptr [rbp - 0x60]
;;     mov r8d, dword ptr [rbp - 0x50]
;;   # 63 i32.add
;;     add r8d, edi
;;   # 65 f64.store
;;     movsd qword ptr [r14 + r8], xmm1                    ; memory, opcode 65
;;     mov edi, dword ptr [rbp - 0x58]
;;   # 69 local.tee 5
;;     add edi, 1
;;     mov r8d, dword ptr [rbp - 0x48]
;;   # 72 br_if 0
;;     cmp r8d, edi
;;     jne L6
;;   # 73 end
;;   # 74 local.get 4
;;     mov r10d, dword ptr [rbp - 0x20]
;;   # 77 local.tee 4
;;     add r10d, 1
;;   # 80 br_if 0
;;     cmp r8d, r10d
;;     jne L7
;;   # 81 end
;;   # 82 end
;;     mov ecx, dword ptr [rbp - 0x10]
;;     mov edx, ebx
;;     mov ebx, r8d
;; L4:
;;   # 83 end
;;   # 82 end
;;     leave
;;     ret
;; L5:
;;     movaps xmm0, xmm1
;;     jmp L3
;; L6:
;;     mov r12d, dword ptr [rbp - 0x60]
;;     mov dword ptr [rbp - 0x30], ecx
;;     mov ecx, dword ptr [rbp - 0x10]
;;     mov dword ptr [rbp - 0x38], edx
;;     mov edx, ebx
;;     mov ebx, r8d
;;     mov r8d, edi
;;     mov dword ptr [rbp - 0x40], r9d
;;     jmp L2
;; L7:
;;     mov ebx, r8d
;;     mov r8d, dword ptr [rbp - 0x28]
;;     movaps xmm0, xmm1
;;     mov r11d, r10d
;;     mov r10d, r9d
;;     mov r9d, edx
;;     mov edx, edi
;;     mov edi, ecx
;;     mov ecx, r11d
;;     jmp L1
