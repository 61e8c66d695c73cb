;;; A scan over bytes: how many are at most a space, and a checksum of the others.
;;! show emit scan full
;;! loops scan 1
(module
  (memory 1)
  (func $scan (export "scan") (param $at i32) (param $stop i32) (result i32)
    (local $byte i32) (local $spaces i32) (local $sum i32)
    block $done
      local.get $at
      local.get $stop
      i32.ge_u
      br_if $done
      loop $next
        block $counted
          block $space
            local.get $at
            i32.load8_u
            local.tee $byte
            i32.const 32
            i32.le_u
            br_if $space
            local.get $sum
            i32.const 31
            i32.mul
            local.get $byte
            i32.add
            local.set $sum
            br $counted
          end
          local.get $spaces
          i32.const 1
          i32.add
          local.set $spaces
        end
        local.get $at
        i32.const 1
        i32.add
        local.tee $at
        local.get $stop
        i32.lt_u
        br_if $next
      end
    end
    local.get $sum
    local.get $spaces
    i32.xor))

;; == emit: function 0 (scan), full
;; 88 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 block
;;   # 4 br_if 0
;;     cmp eax, ecx
;;     jae L4
;;   # 5 loop
;;     xor edx, edx
;;     xor ebx, ebx
;;     xor esi, esi
;; L0:
;;   # 6 block
;;   # 9 i32.load8_u
;;     movzx edi, byte ptr [r14 + rax]                     ; memory, opcode 9
;;   # 13 br_if 0
;;     cmp edi, 0x20
;;     jbe L1
;;   # 14 local.get 4
;;   # 16 i32.mul
;;     imul edx, esi, 0x1f
;;   # 19 local.set 4
;;     add edx, edi
;;   # 20 br 1
;;     jmp L2
;; L1:
;;   # 22 local.get 3
;;   # 25 local.set 3
;;     add ebx, 1
;;   # 26 end
;;     mov edx, esi
;; L2:
;;   # 27 local.get 0
;;   # 30 local.tee 0
;;     add eax, 1
;;   # 33 br_if 0
;;     cmp eax, ecx
;;     jb L5
;;   # 34 end
;;   # 35 end
;;     mov esi, ebx
;;     mov ebx, edi
;;     mov edi, edx
;;     mov edx, eax
;; L3:
;;   # 36 local.get 4
;;     mov eax, esi
;;   # 38 i32.xor
;;     xor eax, edi
;;   # 39 end
;;     leave
;;     ret
;; L4:
;;     mov edx, eax
;;     xor ebx, ebx
;;     xor esi, esi
;;     xor edi, edi
;;     jmp L3
;; L5:
;;     mov esi, edx
;;     mov edx, edi
;;     jmp L0
