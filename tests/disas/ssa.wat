;;; The forms before code: bodies, SSA with what each pass makes of it, registers, states.
;;! show validate sum full
;;! show lower sum full
;;! show parameters sum full
;;! show dead sum full
;;! show fuse sum full
;;! show allocate sum full
;;! show table sum full
(module
  (func $sum (param $n i32) (result i64)
    (local $total i64) (local $unused i32)
    loop $next
      local.get $total
      local.get $n
      i64.extend_i32_u
      i64.add
      local.set $total
      local.get $n
      i32.const 1
      i32.sub
      local.tee $n
      i32.const 0
      i32.gt_s
      br_if $next
    end
    local.get $total))

;; == validate: function 0 (sum), full
;; [i32] -> [i64], locals [i64 i32]
;;     0     0x1d   0  loop
;;     1     0x1f   0    local.get 1
;;     2     0x21   1    local.get 0
;;     3     0x23   2    i64.extend_i32_u
;;     4     0x24   2    i64.add
;;     5     0x25   1    local.set 1
;;     6     0x27   0    local.get 0
;;     7     0x29   1    i32.const 1
;;     8     0x2b   2    i32.sub
;;     9     0x2c   1    local.tee 0
;;    10     0x2e   1    i32.const 0
;;    11     0x30   2    i32.gt_s
;;    12     0x31   1    br_if 0
;;    13     0x33   0  end
;;    14     0x34   0  local.get 1
;;    15     0x36   1  end
;; == lower: function 0 (sum), full
;; [i32] -> [i64]
;; b0(v0: i32)                                          ; opcode 0
;;   v1: i64 = const 0                                  ; 0
;;   v2: i32 = const 0                                  ; 0
;;   jump: b1(v0, v1)                                   ; 0
;; b1(v4: i32, v5: i64) header, depth 1, from b0 b1     ; opcode 1
;;   v6: i64 = i64.extend_i32_u v4                      ; 3
;;   v7: i64 = i64.add v5, v6                           ; 5
;;   v8: i32 = const 1                                  ; 7
;;   v9: i32 = i32.sub v4, v8                           ; 9
;;   v10: i32 = i32.gt_s v9, v2                         ; 11
;;   branch v10: b1(v9, v7), b2                         ; 12
;; b2 depth 1, from b1                                  ; opcode 13
;;   jump: b3(v9, v7)                                   ; 13
;; b3(v13: i32, v14: i64) from b2                       ; opcode 14
;;   return v14                                         ; 15
;; == parameters: function 0 (sum), full
;; [i32] -> [i64]
;; b0(v0: i32)                                          ; opcode 0
;;   v1: i64 = const 0                                  ; 0
;;   v2: i32 = const 0                                  ; 0
;;   jump: b1(v0, v1)                                   ; 0
;; b1(v4: i32, v5: i64) header, depth 1, from b0 b1     ; opcode 1
;;   v6: i64 = i64.extend_i32_u v4                      ; 3
;;   v7: i64 = i64.add v5, v6                           ; 5
;;   v8: i32 = const 1                                  ; 7
;;   v9: i32 = i32.sub v4, v8                           ; 9
;;   v10: i32 = i32.gt_s v9, v2                         ; 11
;;   branch v10: b1(v9, v7), b2                         ; 12
;; b2 depth 1, from b1                                  ; opcode 13
;;   jump: b3(v9, v7)                                   ; 13
;; b3(v13: i32, v14: i64) from b2                       ; opcode 14
;;   return v14                                         ; 15
;; == dead: function 0 (sum), full
;; [i32] -> [i64]
;; b0(v0: i32)                                          ; opcode 0
;;   v1: i64 = const 0                                  ; 0
;;   v2: i32 = const 0                                  ; 0
;;   jump: b1(v0, v1)                                   ; 0
;; b1(v4: i32, v5: i64) header, depth 1, from b0 b1     ; opcode 1
;;   v6: i64 = i64.extend_i32_u v4                      ; 3
;;   v7: i64 = i64.add v5, v6                           ; 5
;;   v8: i32 = const 1                                  ; 7
;;   v9: i32 = i32.sub v4, v8                           ; 9
;;   v10: i32 = i32.gt_s v9, v2                         ; 11
;;   branch v10: b1(v9, v7), b2                         ; 12
;; b2 depth 1, from b1                                  ; opcode 13
;;   jump: b3(v9, v7)                                   ; 13
;; b3(v13: i32, v14: i64) from b2                       ; opcode 14
;;   return v14                                         ; 15
;; == fuse: function 0 (sum), full
;; [i32] -> [i64]
;; b0(v0: i32)                                          ; opcode 0
;;   v1: i64 = const 0                                  ; 0
;;   v2: i32 = const 0                                  ; 0
;;   jump: b1(v0, v1)                                   ; 0
;; b1(v4: i32, v5: i64) header, depth 1, from b0 b1     ; opcode 1
;;   v6: i64 = i64.extend_i32_u v4                      ; 3
;;   v7: i64 = i64.add v5, v6                           ; 5
;;   v8: i32 = const 1                                  ; 7
;;   v9: i32 = i32.sub v4, v8                           ; 9
;;   branch i32.gt_s v9, v2: b1(v9, v7), b2             ; 12
;; b2 depth 1, from b1                                  ; opcode 13
;;   jump: b3(v9, v7)                                   ; 13
;; b3(v13: i32, v14: i64) from b2                       ; opcode 14
;;   return v14                                         ; 15
;; == allocate: function 0 (sum), full
;; 0 slots
;; b0(rax:v0)                                           ; opcode 0
;;   jump                                               ; 0
;;   to b1(v0, v1): rcx:v1 = 0
;; b1(rax:v4, rcx:v5) header, depth 1, from b0 b1       ; opcode 1
;;   rdx:v4 = rax
;;   rdx:v6 = i64.extend_i32_u rdx                      ; 3
;;   rcx:v7 = i64.add rcx, rdx                          ; 5
;;   rax:v9 = i32.sub rax, 1                            ; 9
;;   branch i32.gt_s rax, 0                             ; 12
;;   to b1(v9, v7)
;;   to b2
;; b2 depth 1, from b1                                  ; opcode 13
;;   holding rax:v9, rcx:v7
;;   jump                                               ; 13
;;   to b3(v9, v7)
;; b3(rax:v13, rcx:v14) from b2                         ; opcode 14
;;   rax:v14 = rcx
;;   return rax                                         ; 15
;; == table: function 0 (sum), full
;;    0: locals rax, 0, 0 | operands -
;;    1: locals rax, rcx, 0 | operands -
;;    2: locals rax, rcx, 0 | operands rcx
;;    3: locals rax, rcx, 0 | operands rcx, rax
;;    4: locals rax, rcx, 0 | operands rcx, rdx
;;    5: locals rax, rcx, 0 | operands (i64.add rcx rdx)
;;    6: locals rax, rcx, 0 | operands -
;;    7: locals rax, rcx, 0 | operands rax
;;    8: locals rax, rcx, 0 | operands rax, 1
;;    9: locals rax, rcx, 0 | operands (i32.sub rax 1)
;;   10: locals rax, rcx, 0 | operands rax
;;   11: locals rax, rcx, 0 | operands rax, 0
;;   12: locals rax, rcx, 0 | operands (i32.gt_s rax 0)
;;   13: locals rax, rcx, 0 | operands -
;;   15: locals rax, rcx, 0 | operands rcx
;; stack of opcode 0: again
