;;; What the debug levels keep: locals that the code no longer needs live on in full, and are dead in live.
;;! show emit last full
;;! show table last full
;;! show emit last live
;;! show table last live
(module
  (func $note (param i32))
  (func $last (param $a i32) (param $b i32) (result i32)
    (local $sum i32) (local $product i32) (local $square i32)
    local.get $a
    local.get $b
    i32.add
    local.set $sum
    local.get $a
    local.get $b
    i32.mul
    local.set $product
    local.get $sum
    call $note
    local.get $product
    local.get $product
    i32.mul
    local.set $square
    local.get $square
    call $note
    i32.const 1))

;; == emit: function 1 (last), full
;; 69 bytes
;;     test dword ptr [rsp - 0x8030], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x30
;;     mov qword ptr [rbp - 8], r15
;;     mov dword ptr [rbp - 0x10], eax
;;     mov dword ptr [rbp - 0x18], ecx
;;   # 0 local.get 0
;;   # 3 local.set 2
;;     lea edx, [rax + rcx]
;;     mov dword ptr [rbp - 0x20], edx
;;     mov ebx, eax
;;   # 7 local.set 3
;;     imul ebx, ecx
;;     mov dword ptr [rbp - 0x28], ebx
;;     mov eax, edx
;;   # 9 call 0
;;     call qword ptr [r15 + 0x40]
;;     mov eax, dword ptr [rbp - 0x28]                     ; call, opcode 9
;;     mov ecx, eax
;;   # 13 local.set 4
;;     imul ecx, eax
;;     mov dword ptr [rbp - 0x30], ecx
;;     mov eax, ecx
;;   # 15 call 0
;;     call qword ptr [r15 + 0x40]
;;     mov eax, 1                                          ; call, opcode 15
;;   # 17 end
;;     leave
;;     ret
;; == table: function 1 (last), full
;;    0: locals [0], [1], 0, 0, 0 | operands -
;;    1: locals [0], [1], 0, 0, 0 | operands [0]
;;    2: locals [0], [1], 0, 0, 0 | operands [0], [1]
;;    3: locals [0], [1], 0, 0, 0 | operands (i32.add [0] [1])
;;    4: locals [0], [1], [2], 0, 0 | operands -
;;    5: locals [0], [1], [2], 0, 0 | operands [0]
;;    6: locals [0], [1], [2], 0, 0 | operands [0], [1]
;;    7: locals [0], [1], [2], 0, 0 | operands (i32.mul [0] [1])
;;    8: locals [0], [1], [2], [3], 0 | operands -
;;    9: locals [0], [1], [2], [3], 0 | operands [2]
;;   10: locals [0], [1], [2], [3], 0 | operands -
;;   11: locals [0], [1], [2], [3], 0 | operands [3]
;;   12: locals [0], [1], [2], [3], 0 | operands [3], [3]
;;   13: locals [0], [1], [2], [3], 0 | operands (i32.mul [3] [3])
;;   14: locals [0], [1], [2], [3], [4] | operands -
;;   15: locals [0], [1], [2], [3], [4] | operands [4]
;;   16: locals [0], [1], [2], [3], [4] | operands -
;;   17: locals [0], [1], [2], [3], [4] | operands 1
;; == emit: function 1 (last), live
;; 51 bytes
;;     test dword ptr [rsp - 0x8010], eax                  ; stack, opcode 0
;;     push rbp
;;     mov rbp, rsp
;;     sub rsp, 0x10
;;     mov qword ptr [rbp - 8], r15
;;   # 0 local.get 0
;;   # 3 local.set 2
;;     lea edx, [rax + rcx]
;;   # 7 local.set 3
;;     imul eax, ecx
;;     mov dword ptr [rbp - 0x10], eax
;;     mov eax, edx
;;   # 9 call 0
;;     call qword ptr [r15 + 0x40]
;;     mov eax, dword ptr [rbp - 0x10]                     ; call, opcode 9
;;   # 13 local.set 4
;;     imul eax, eax
;;   # 15 call 0
;;     call qword ptr [r15 + 0x40]
;;     mov eax, 1                                          ; call, opcode 15
;;   # 17 end
;;     leave
;;     ret
;; == table: function 1 (last), live
;;    0: locals rax, rcx, 0, 0, 0 | operands -
;;    1: locals rax, rcx, 0, 0, 0 | operands rax
;;    2: locals rax, rcx, 0, 0, 0 | operands rax, rcx
;;    3: locals rax, rcx, 0, 0, 0 | operands (i32.add rax rcx)
;;    4: locals rax, rcx, rdx, 0, 0 | operands -
;;    5: locals rax, rcx, rdx, 0, 0 | operands rax
;;    6: locals rax, rcx, rdx, 0, 0 | operands rax, rcx
;;    7: locals rax, rcx, rdx, 0, 0 | operands (i32.mul rax rcx)
;;    8: locals dead, rcx, rdx, [0], 0 | operands -
;;    9: locals dead, rcx, rdx, [0], 0 | operands rdx
;;   10: locals dead, dead, dead, [0], 0 | operands -
;;   11: locals dead, dead, dead, [0], 0 | operands [0]
;;   12: locals dead, dead, dead, [0], 0 | operands [0], [0]
;;   13: locals dead, dead, dead, [0], 0 | operands (i32.mul [0] [0])
;;   14: locals dead, dead, dead, [0], rax | operands -
;;   15: locals dead, dead, dead, [0], rax | operands rax
;;   16: locals dead, dead, dead, [0], dead | operands -
;;   17: locals dead, dead, dead, [0], dead | operands 1
