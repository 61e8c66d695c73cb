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
;; 251 bytes
;;     test dword ptr [rsp - 0x8060], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x60
;;     mov qword ptr [rbp - 8], r15
;;     mov dword ptr [rbp - 0x10], ecx
;;     mov dword ptr [rbp - 0x18], edx
;;     mov dword ptr [rbp - 0x48], ebx
;;   # 0..3 if
;;     cmp ebx, 1
;;     jge b2
;; b1:
;;   # 4 return
;;     jmp b12
;; b2:
;;   # 6..9 local.set 10
;;     mov esi, ebx
;;     shl esi, 3
;;   # 10 loop
;;     xor ecx, ecx
;;     xor edx, edx
;;     xor edi, edi
;;     xor r8d, r8d
;;     mov dword ptr [rbp - 0x20], 0
;;     mov dword ptr [rbp - 0x28], 0
;;     xorps xmm0, xmm0
;;     mov dword ptr [rbp - 0x40], edi
;; b3:
;;     mov dword ptr [rbp - 0x30], ecx
;;   # 11..14 i32.mul
;;     mov r9d, esi
;;     imul r9d, ecx
;;     mov dword ptr [rbp - 0x60], r9d
;;   # 15..16 local.set 7
;;     lea r8d, [rax + r9]
;;     mov dword ptr [rbp - 0x38], r8d
;;   # 17..19 loop
;;     mov ecx, dword ptr [rbp - 0x10]
;;     mov edx, dword ptr [rbp - 0x18]
;;     xor r8d, r8d
;; b4:
;;     mov dword ptr [rbp - 0x58], r8d
;;   # 20..23 i32.shl
;;     mov edi, r8d
;;     shl edi, 3
;;     mov dword ptr [rbp - 0x50], edi
;;   # 24..25 local.set 9
;;     lea r10d, [rcx + rdi]
;;   # 26..32 loop
;;     mov ecx, dword ptr [rbp - 0x48]
;;     mov edx, dword ptr [rbp - 0x38]
;;     xorps xmm0, xmm0
;; b5:
;;   # 33..34 f64.load
;;     movsd xmm1, qword ptr [r14 + rdx]                   ; memory, opcode 34
;;   # 35..36 f64.load
;;     movsd xmm2, qword ptr [r14 + r10]                   ; memory, opcode 36
;;   # 37 f64.mul
;;     mulsd xmm1, xmm2
;;   # 38..40 local.set 11
;;     addsd xmm1, xmm0
;;   # 41..44 local.set 8
;;     add edx, 8
;;   # 45..48 local.set 9
;;     add r10d, esi
;;   # 49..52 local.tee 6
;;     add ecx, -1
;;   # 53 br_if 0
;;     test ecx, ecx
;;     je b6
;;     movaps xmm0, xmm1
;;     jmp b5
;; b6:
;;   # 54 end
;;     mov dword ptr [rbp - 0x40], ecx
;;     mov dword ptr [rbp - 0x20], edx
;;     mov dword ptr [rbp - 0x28], r10d
;;     movaps xmm0, xmm1
;; b7:
;;   # 55..59 i32.add
;;     mov ecx, dword ptr [rbp - 0x18]
;;     mov edx, ecx
;;     add edx, dword ptr [rbp - 0x60]
;;   # 60..63 i32.add
;;     mov ebx, dword ptr [rbp - 0x50]
;;     add ebx, edx
;;   # 64..65 f64.store
;;     movsd qword ptr [r14 + rbx], xmm0                   ; memory, opcode 65
;;   # 66..69 local.tee 5
;;     mov edx, dword ptr [rbp - 0x58]
;;     add edx, 1
;;   # 70..72 br_if 0
;;     mov ebx, dword ptr [rbp - 0x48]
;;     cmp ebx, edx
;;     je b8
;;     mov r9d, dword ptr [rbp - 0x60]
;;     mov r8d, edx
;;     mov edx, ecx
;;     mov ecx, dword ptr [rbp - 0x10]
;;     jmp b4
;; b8:
;;   # 73..77 local.tee 4
;;     mov ecx, dword ptr [rbp - 0x30]
;;     add ecx, 1
;;   # 78..80 br_if 0
;;     cmp ebx, ecx
;;     je b10
;;     mov edi, dword ptr [rbp - 0x40]
;;     mov r8d, dword ptr [rbp - 0x38]
;;     jmp b3
;; b10:
;;   # 81..82 end
;;     nop
;; b12:
;;     leave
;;     ret
