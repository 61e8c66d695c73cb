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
;; 81 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..4 br_if 0
;;     cmp eax, ecx
;;     jae L0
;; b1:
;;   # 5 loop
;;     xor edx, edx
;;     xor ebx, ebx
;;     xor esi, esi
;; b2:
;;   # 6..9 i32.load8_u
;;     movzx edi, byte ptr [r14 + rax]                     ; memory, opcode 9
;;   # 10..13 br_if 0
;;     cmp edi, 0x20
;;     jbe b4
;; b3:
;;   # 14..16 i32.mul
;;     imul edx, esi, 0x1f
;;   # 17..19 local.set 4
;;     add edx, edi
;;   # 20 br 1
;;     mov esi, edx
;;     jmp b5
;; b4:
;;   # 22..25 local.set 3
;;     add ebx, 1
;; b5:
;;   # 26..30 local.tee 0
;;     add eax, 1
;;   # 31..33 br_if 0
;;     cmp eax, ecx
;;     jae b6
;;     mov edx, edi
;;     jmp b2
;; b6:
;;   # 34 end
;;     mov edx, edi
;; b7:
;;   # 35 end
;;     nop
;; b8:
;;   # 36..38 i32.xor
;;     mov edi, ebx
;;     xor edi, esi
;;   # 39 end
;;     mov eax, edi
;;     leave
;;     ret
;; L0:
;;     xor edx, edx
;;     xor ebx, ebx
;;     xor esi, esi
;;     jmp b8
