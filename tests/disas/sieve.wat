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
;; 135 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;   # 3 if
;;     cmp eax, 3
;;     jae L0
;;   # 4 i32.const 0
;;   # 5 return
;;     xor ecx, ecx
;;     jmp L6
;; L0:
;;   # 7 i32.const 2
;;   # 9 loop
;;     mov ecx, 2
;; L1:
;;   # 10 local.get 1
;;   # 12 i32.store8 offset=1024
;;     mov byte ptr [r14 + rcx + 0x400], 1                 ; memory, opcode 12
;;   # 16 local.tee 1
;;     add ecx, 1
;;   # 19 br_if 0
;;     cmp eax, ecx
;;     jne L1
;;   # 20 end
;;   # 21 i32.const 2
;;   # 23 loop
;;     mov ecx, 2
;;     xor edx, edx
;; L2:
;;   # 24 block
;;     mov ebx, ecx
;;   # 28 local.tee 2
;;     imul ebx, ecx
;;   # 31 br_if 0
;;     cmp ebx, eax
;;     jae L4
;;   # 32 local.get 1
;;   # 33 i32.load8_u offset=1024
;;     movzx edx, byte ptr [r14 + rcx + 0x400]             ; memory, opcode 33
;;   # 35 br_if 0
;;     test edx, edx
;;     je L4
;; L3:
;;   # 36 loop
;;   # 37 local.get 2
;;   # 39 i32.store8 offset=1024
;;     mov byte ptr [r14 + rbx + 0x400], 0                 ; memory, opcode 39
;;   # 43 local.tee 2
;;     add ebx, ecx
;;   # 46 br_if 0
;;     cmp ebx, eax
;;     jb L3
;; L4:
;;   # 47 end
;;   # 48 end
;;   # 49 local.get 1
;;   # 52 local.tee 1
;;     add ecx, 1
;;   # 55 br_if 0
;;     cmp eax, ecx
;;     jne L7
;;   # 56 end
;;   # 57 i32.const 2
;;   # 59 loop
;;     mov ecx, 2
;;     xor edx, edx
;; L5:
;;   # 60 local.get 3
;;   # 62 i32.load8_u offset=1024
;;     movzx esi, byte ptr [r14 + rcx + 0x400]             ; memory, opcode 62
;;   # 64 local.set 3
;;     add edx, esi
;;   # 68 local.tee 1
;;     add ecx, 1
;;   # 71 br_if 0
;;     cmp eax, ecx
;;     jne L5
;;   # 72 end
;;   # 73 local.get 3
;;   # 74 end
;;     mov ecx, edx
;; L6:
;;   # 75 end
;;     mov eax, ecx
;;   # 74 end
;;     leave
;;     ret
;; L7:
;;     mov edx, ebx
;;     jmp L2
