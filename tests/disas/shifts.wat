;;; Shifts and rotations: by a constant, and by a value, which goes to rcx; counting bits.
;;! show emit by_constant full
;;! show emit by_value full
;;! show emit counts full
;;! show emit counts full oldest
(module
  (func $by_constant (param i32) (result i32)
    local.get 0
    i32.const 13
    i32.rotl
    local.get 0
    i32.const 7
    i32.shr_u
    i32.xor)
  (func $by_value (param i64 i64 i64) (result i64)
    local.get 0
    local.get 1
    i64.shl
    local.get 2
    i64.shr_s)
  (func $counts (param i32) (result i32)
    local.get 0
    i32.clz
    local.get 0
    i32.ctz
    i32.add
    local.get 0
    i32.popcnt
    i32.add))

;; == emit: function 0 (by_constant), full
;; 35 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..2 i32.rotl
;;     mov ecx, eax
;;     rol ecx, 0xd
;;   # 3..5 i32.shr_u
;;     mov edx, eax
;;     shr edx, 7
;;   # 6 i32.xor
;;     xor ecx, edx
;;   # 7 end
;;     mov eax, ecx
;;     leave
;;     ret
;; == emit: function 1 (by_value), full
;; 39 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..2 i64.shl
;;     mov rbx, rax
;;     shl rbx, cl
;;   # 3..4 i64.shr_s
;;     mov rsi, rcx
;;     mov rcx, rdx
;;     sar rbx, cl
;;   # 5 end
;;     mov rax, rbx
;;     leave
;;     ret
;; == emit: function 2 (counts), full
;; 39 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 i32.clz
;;     lzcnt ecx, eax
;;   # 2..3 i32.ctz
;;     tzcnt edx, eax
;;   # 4 i32.add
;;     add ecx, edx
;;   # 5..6 i32.popcnt
;;     popcnt edx, eax
;;   # 7 i32.add
;;     add ecx, edx
;;   # 8 end
;;     mov eax, ecx
;;     leave
;;     ret
;; == emit: function 2 (counts), full, oldest
;; 160 bytes, of them 32 of data
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0..1 i32.clz
;;     mov r11d, 0x3f
;;     bsr ecx, eax
;;     cmove ecx, r11d
;;     xor ecx, 0x1f
;;   # 2..3 i32.ctz
;;     mov r11d, 0x20
;;     bsf edx, eax
;;     cmove edx, r11d
;;   # 4 i32.add
;;     add ecx, edx
;;   # 5..6 i32.popcnt
;;     mov r11d, eax
;;     mov edx, eax
;;     shr r11d, 1
;;     and r11, qword ptr [rip + 0x3e]
;;     sub rdx, r11
;;     mov r11, rdx
;;     shr r11, 2
;;     and r11, qword ptr [rip + 0x35]
;;     and rdx, qword ptr [rip + 0x2e]
;;     add rdx, r11
;;     mov r11, rdx
;;     shr r11, 4
;;     add rdx, r11
;;     and rdx, qword ptr [rip + 0x22]
;;     imul rdx, qword ptr [rip + 0x22]
;;     shr rdx, 0x38
;;   # 7 i32.add
;;     add ecx, edx
;;   # 8 end
;;     mov eax, ecx
;;     leave
;;     ret
;;     data: 5555555555555555 3333333333333333
;;     data: 0f0f0f0f0f0f0f0f 0101010101010101
