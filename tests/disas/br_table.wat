;;; A switch of a few ways and one of many.
;;! show emit few full
;;! show emit many full
(module
  (func $few (param i32) (result i32)
    block $other
      block $one
        block $none
          local.get 0
          br_table $none $one $other
        end
        i32.const 100
        return
      end
      i32.const 101
      return
    end
    i32.const -1)
  (func $many (param i32) (result i32)
    block $e block $d block $c block $b block $a
      local.get 0
      br_table $a $b $c $d $e $c $a $b
    end i32.const 10 return
    end i32.const 20 return
    end i32.const 30 return
    end i32.const 40 return
    end i32.const 50))

;; == emit: function 0 (few), full
;; 51 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..4 br_table 0 1 2
;;     cmp eax, 1
;;     jb b1
;;     je b2
;;     jmp b3
;; b1:
;;   # 6..7 return
;;     mov ecx, 0x64
;;     jmp b4
;; b2:
;;   # 9..10 return
;;     mov ecx, 0x65
;;     jmp b4
;; b3:
;;   # 12..13 end
;;     mov ecx, 0xffffffff
;; b4:
;;     mov eax, ecx
;;     leave
;;     ret
;; == emit: function 1 (many), full
;; 108 bytes, of them 30 of data
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..6 br_table 0 1 2 3 4 2 0 1
;;     cmp eax, 7
;;     jae b2
;;     lea r11, [rip + 0x31]
;;     movsxd r10, dword ptr [r11 + rax*4]
;;     add r11, r10
;;     jmp r11
;; b1:
;;   # 8..9 return
;;     mov ecx, 0xa
;;     jmp b6
;; b2:
;;   # 11..12 return
;;     mov ecx, 0x14
;;     jmp b6
;; b3:
;;   # 14..15 return
;;     mov ecx, 0x1e
;;     jmp b6
;; b4:
;;   # 17..18 return
;;     mov ecx, 0x28
;;     jmp b6
;; b5:
;;   # 20..21 end
;;     mov ecx, 0x32
;; b6:
;;     mov eax, ecx
;;     leave
;;     ret
;;     table: b1 b2 b3 b4 b5 b3 b1
