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
;;   # 0 block
;;   # 4 br_table 0 1 2
;;     cmp eax, 1
;;     jb L0
;;     je L1
;;     jmp L2
;; L0:
;;   # 6 i32.const 100
;;   # 7 return
;;     mov ecx, 0x64
;;     jmp L3
;; L1:
;;   # 9 i32.const 101
;;   # 10 return
;;     mov ecx, 0x65
;;     jmp L3
;; L2:
;;   # 12 i32.const -1
;;   # 13 end
;;     mov ecx, 0xffffffff
;; L3:
;;   # 14 end
;;     mov eax, ecx
;;   # 13 end
;;     leave
;;     ret
;; == emit: function 1 (many), full
;; 108 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 block
;;   # 6 br_table 0 1 2 3 4 2 0 1
;;     cmp eax, 7
;;     jae L1
;;     lea r11, [rip + 0x31]
;;     movsxd r10, dword ptr [r11 + rax*4]
;;     add r11, r10
;;     jmp r11
;; L0:
;;   # 8 i32.const 10
;;   # 9 return
;;     mov ecx, 0xa
;;     jmp L5
;; L1:
;;   # 11 i32.const 20
;;   # 12 return
;;     mov ecx, 0x14
;;     jmp L5
;; L2:
;;   # 14 i32.const 30
;;   # 15 return
;;     mov ecx, 0x1e
;;     jmp L5
;; L3:
;;   # 17 i32.const 40
;;   # 18 return
;;     mov ecx, 0x28
;;     jmp L5
;; L4:
;;   # 20 i32.const 50
;;   # 21 end
;;     mov ecx, 0x32
;; L5:
;;   # 22 end
;;     mov eax, ecx
;;   # 21 end
;;     leave
;;     ret
;;     table: L0 L1 L2 L3 L4 L2 L0
