;;; The sieve of Eratosthenes, as clang lays it out: the inner loop strikes out multiples, the outer one counts.
;;! show emit sieve full
;;! loops sieve 3
(module
  (memory 1)
  (func $sieve (export "sieve") (param $count i32) (result i32)
    (local $i i32) (local $j i32) (local $primes i32)
    local.get $count
    i32.const 3
    i32.lt_u
    if
      i32.const 0
      return
    end
    i32.const 2
    local.set $i
    loop $clear
      local.get $i
      i32.const 1
      i32.store8 offset=1024
      local.get $i
      i32.const 1
      i32.add
      local.tee $i
      local.get $count
      i32.ne
      br_if $clear
    end
    i32.const 2
    local.set $i
    loop $next
      block $composite
        local.get $i
        local.get $i
        i32.mul
        local.tee $j
        local.get $count
        i32.ge_u
        br_if $composite
        local.get $i
        i32.load8_u offset=1024
        i32.eqz
        br_if $composite
        loop $strike
          local.get $j
          i32.const 0
          i32.store8 offset=1024
          local.get $j
          local.get $i
          i32.add
          local.tee $j
          local.get $count
          i32.lt_u
          br_if $strike
        end
      end
      local.get $i
      i32.const 1
      i32.add
      local.tee $i
      local.get $count
      i32.ne
      br_if $next
    end
    i32.const 2
    local.set $i
    loop $sum
      local.get $primes
      local.get $i
      i32.load8_u offset=1024
      i32.add
      local.set $primes
      local.get $i
      i32.const 1
      i32.add
      local.tee $i
      local.get $count
      i32.ne
      br_if $sum
    end
    local.get $primes))

;; == emit: function 0 (sieve), full
;; 133 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..3 if
;;     cmp eax, 3
;;     jae b2
;; b1:
;;   # 4..5 return
;;     xor ecx, ecx
;;     jmp b18
;; b2:
;;   # 7..9 loop
;;     mov ecx, 2
;; b3:
;;   # 10..12 i32.store8 offset=1024
;;     mov byte ptr [r14 + rcx + 0x400], 1                 ; memory, opcode 12
;;   # 13..16 local.tee 1
;;     add ecx, 1
;;   # 17..19 br_if 0
;;     cmp eax, ecx
;;     jne b3
;; b4:
;;   # 20..23 loop
;;     mov ecx, 2
;;     xor edx, edx
;; b6:
;;   # 24..28 local.tee 2
;;     mov edx, ecx
;;     imul edx, ecx
;;   # 29..31 br_if 0
;;     cmp edx, eax
;;     jae b12
;; b7:
;;   # 32..33 i32.load8_u offset=1024
;;     movzx ebx, byte ptr [r14 + rcx + 0x400]             ; memory, opcode 33
;;   # 34..35 br_if 0
;;     test ebx, ebx
;;     je b12
;; b8:
;;   # 36 loop
;;     nop
;; b9:
;;   # 37..39 i32.store8 offset=1024
;;     mov byte ptr [r14 + rdx + 0x400], 0                 ; memory, opcode 39
;;   # 40..43 local.tee 2
;;     add edx, ecx
;;   # 44..46 br_if 0
;;     cmp edx, eax
;;     jb b9
;; b10:
;;   # 47..48 end
;;     nop
;; b12:
;;   # 49..52 local.tee 1
;;     add ecx, 1
;;   # 53..55 br_if 0
;;     cmp eax, ecx
;;     jne b6
;; b13:
;;   # 56..59 loop
;;     mov ecx, 2
;;     xor ebx, ebx
;; b15:
;;   # 60..62 i32.load8_u offset=1024
;;     movzx esi, byte ptr [r14 + rcx + 0x400]             ; memory, opcode 62
;;   # 63..64 local.set 3
;;     add ebx, esi
;;   # 65..68 local.tee 1
;;     add ecx, 1
;;   # 69..71 br_if 0
;;     cmp eax, ecx
;;     jne b15
;; b16:
;;   # 72..74 end
;;     mov ecx, ebx
;; b18:
;;     mov eax, ecx
;;     leave
;;     ret
