/* Native code of the test programs: it lies in a data section, is copied into an image and runs there.
 *
 * Absolute addresses lie in words between the instructions, relocated by the linker, so the bytes can be copied as
 * they are. Offsets: machine.h.
 */
#if defined(__aarch64__)
#define STATE_SP 248
#define FLAGS 256
#define CONTROL 264
#define BASE 280 /* which register the dump lost */
#define AREA 320

.macro VECTORS move, base
    .irp n, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
    .altmacro
    VECTOR_PAIR \move, \base, \n, %(\n + 1)
    .noaltmacro
    .endr
.endm
.macro VECTOR_PAIR move, base, n, next
    \move   q\n, q\next, [\base, #AREA + 16 * \n]
.endm

/* Loads every register from machine_in; x0, the base, comes last. */
.macro LOAD_STATE name
    ldr     x1, home_\name
    mov     x2, sp
    stp     x2, x30, [x1]
    ldr     x0, in_\name
    VECTORS ldp, x0
    ldr     x1, [x0, #FLAGS]
    msr     nzcv, x1
    ldp     x1, x2, [x0, #CONTROL]
    msr     fpcr, x1
    msr     fpsr, x2
    ldr     x1, [x0, #STATE_SP]
    mov     sp, x1
    .irp n, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28
    .altmacro
    LOAD_PAIR \n, %(\n + 1)
    .noaltmacro
    .endr
    ldr     x30, [x0, #240]
    ldp     x0, x1, [x0]
.endm
.macro LOAD_PAIR n, next
    ldp     x\n, x\next, [x0, #8 * \n]
.endm

/* Writes every register but \base to machine_out and returns, whatever the stack pointer is. */
.macro DUMP_STATE name, base
    ldr     x\base, out_\name
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    .if \n != \base
    str     x\n, [x\base, #8 * \n]
    .endif
    .endr
    mov     x1, x\base
    mov     x0, sp
    str     x0, [x1, #STATE_SP]
    mrs     x0, nzcv
    str     x0, [x1, #FLAGS]
    mrs     x0, fpcr
    mrs     x2, fpsr
    stp     x0, x2, [x1, #CONTROL]
    mov     x0, #\base
    str     x0, [x1, #BASE]
    VECTORS stp, x1
    ldr     x1, home_\name
    ldp     x2, x30, [x1]
    mov     sp, x2
    ret
    .balign 8
home_\name:
    .quad   machine_home_sp
in_\name:
    .quad   machine_in
out_\name:
    .quad   machine_out
.endm

    .section .data.rel.test_code, "aw", %progbits
    .balign 64
    .globl  trap_code_start
trap_code_start:

/* From each kind of trap to a trap of another kind and on to the dump. */
.macro TRAP_CODE name, base, instruction:vararg
    .balign 16
start_\name:
    LOAD_STATE \name
trap_\name:
    \instruction
after_\name:
    .if \base == 28
    brk     #1
    .else
    udf     #77
    .endif
second_\name:
    DUMP_STATE \name, \base
.endm

    TRAP_CODE breakpoint, 28, brk #0
    TRAP_CODE breakpoint_numbered, 27, brk #0xf00f
    TRAP_CODE illegal, 28, udf #0
    TRAP_CODE privileged, 27, mrs x3, sctlr_el1
    TRAP_CODE halt, 28, hlt #3
    TRAP_CODE load, 27, ldr x3, [x9, #16]
    TRAP_CODE load_writeback, 28, ldp q3, q4, [x9, #16]!
    TRAP_CODE load_exclusive, 27, ldaxr x3, [x11]
    TRAP_CODE load_structure, 28, ld3 {v1.8h, v2.8h, v3.8h}, [x11]
    TRAP_CODE store, 27, str x3, [x9, #16]
    TRAP_CODE store_writeback, 28, stp x3, x4, [x9, #16]!
    TRAP_CODE store_vector, 27, str q5, [x9, #16]
    TRAP_CODE store_byte, 28, sturb w3, [x9, #16]
    TRAP_CODE store_release, 27, stlr x3, [x11]
    TRAP_CODE store_structure, 28, st2 {v1.4s, v2.4s}, [x11]
    .arch armv8.1-a
    TRAP_CODE atomic, 27, ldaddal x3, x4, [x11]
    TRAP_CODE compare_swap, 28, cas x3, x4, [x11]
    TRAP_CODE bus, 27, ldr x3, [x9, #16]
    TRAP_CODE overflow, 28, str x3, [sp, #-16]!
    TRAP_CODE overflow_pair, 27, stp x29, x30, [sp, #-32]!
    TRAP_CODE jump, 28, br x9
    TRAP_CODE jump_return, 27, ret x9
    TRAP_CODE jump_data, 28, br x9
    TRAP_CODE jump_wild, 27, br x9
    TRAP_CODE check, 28, blr x9
    TRAP_CODE check_again, 27, blr x9

/* Writes the registers that it was entered with to machine_out, but x9 and x10. */
    .balign 8
    .globl  fresh_code
fresh_code:
    ldr     x9, home_fresh
    mov     x10, sp
    stp     x10, x30, [x9]
    DUMP_STATE fresh, 28

/* Returns its first integer argument and its eighth float argument. */
    .globl  result_code
result_code:
    mov     v0.16b, v7.16b
    ret

/* Loops that keep an invariant, whatever stops them: x1 = 3 x2, but for one instruction 3 x2 - 3; the same in the
 * halves of v1 (the low one counts). x0: how often to go round; 0: for ever. Each returns x2. */
.macro LOOP name, instruction:vararg
    .balign 16
    .globl  loop_\name
loop_\name:
    mov     x19, x30
    mov     x1, #0
    mov     x2, #0
    movi    v1.2d, #0
    ldr     q2, loop_step
    ldr     x20, check_pointer
1:  add     x2, x2, #1
    add     x1, x1, #3
    add     v1.2d, v1.2d, v2.2d
    \instruction
    cmp     x2, x0
    b.ne    1b
    mov     x0, x2
    ret     x19
.endm
    .balign 16
loop_step:
    .quad   1, 3
check_pointer:
    .quad   tl_stub_check
    LOOP plain, nop
    LOOP trap, udf #9
    LOOP breakpoint, brk #0
    LOOP check, blr x20

/* uint64_t loop_host(uint64_t n): n rounds of a call of tl_stub_host; x20 counts, x21 is three times that, d8 the count
 * again, x28 is n. Traps where the call loses one of these, or FPCR (flush to zero here). */
    .balign 16
    .globl  loop_host
loop_host:
    mov     x19, x30
    mov     x28, x0
    mov     x20, #0
    mov     x21, #0
    ldr     x22, host_pointer
    mov     x23, #0x1000000
    msr     fpcr, x23
1:  add     x20, x20, #1
    add     x21, x21, #3
    fmov    d8, x20
    mov     w0, #1
    mov     x1, sp
    blr     x22
    mrs     x9, fpcr
    cmp     x9, x23
    b.ne    2f
    fmov    x9, d8
    cmp     x9, x20
    b.ne    2f
    add     x9, x20, x20, lsl #1
    cmp     x9, x21
    b.ne    2f
    cmp     x20, x28
    b.ne    1b
    mov     x0, x20
    ret     x19
2:  udf     #9
    .balign 8
host_pointer:
    .quad   tl_stub_host

/* uint64_t mixed_code(uint64_t n): arithmetic with a loop, a call, stores and vectors, for breakpoints everywhere. */
    .balign 16
    .globl  mixed_code, mixed_code_stop
mixed_code:
    stp     x29, x30, [sp, #-48]!
    mov     x29, sp
    str     x19, [sp, #16]
    mov     x19, x0
    str     xzr, [sp, #24]
2:  cbz     x19, 3f
    mov     x0, x19
    bl      4f
    ldr     x1, [sp, #24]
    add     x1, x1, x0
    str     x1, [sp, #24]
    sub     x19, x19, #1
    b       2b
3:  ldr     x0, [sp, #24]
    ldr     x19, [sp, #16]
    ldp     x29, x30, [sp], #48
    ret
4:  fmov    d0, x0
    fmov    d3, x0
    add     d0, d0, d3
    fmov    x0, d0
    mov     x1, #7
    mul     x0, x0, x1
    mov     x1, #0x55
    eor     x0, x0, x1
    ret
mixed_code_stop:

/* void deep_code(uint64_t depth): 32 bytes of stack a level, each written; returns the depth. */
    .balign 16
    .globl  deep_code
deep_code:
    mov     x1, #0
    mov     x2, sp
5:  stp     x0, x0, [sp, #-32]!
    stp     x0, x0, [sp, #16]
    add     x1, x1, #1
    cmp     x1, x0
    b.ne    5b
6:  ldp     x3, x4, [sp], #16
    cmp     x3, x0
    b.ne    7f
    mov     x5, sp
    cmp     x5, x2
    b.ne    6b
    ret
7:  udf     #1
    .globl  trap_code_stop
trap_code_stop:

    .section .rodata
.macro NAME name, text
name_\name: .asciz "\text"
.endm
    NAME breakpoint, "brk 0"
    NAME breakpoint_numbered, "brk 0xf00f"
    NAME illegal, "udf"
    NAME privileged, "mrs"
    NAME halt, "hlt"
    NAME load, "ldr"
    NAME load_writeback, "ldp q, writeback"
    NAME load_exclusive, "ldaxr"
    NAME load_structure, "ld3"
    NAME store, "str"
    NAME store_writeback, "stp, writeback"
    NAME store_vector, "str q"
    NAME store_byte, "sturb"
    NAME store_release, "stlr"
    NAME store_structure, "st2"
    NAME atomic, "ldaddal"
    NAME compare_swap, "cas"
    NAME bus, "bus"
    NAME overflow, "str sp"
    NAME overflow_pair, "stp sp"
    NAME jump, "br"
    NAME jump_return, "ret"
    NAME jump_data, "br to data"
    NAME jump_wild, "br to no multiple of four"
    NAME check, "check"
    NAME check_again, "check, again"

    .section .data.rel.ro, "aw", %progbits
    .balign 8
/* reported: the trap itself, or nothing for a jump. Kinds: enum trap_kind. */
.macro ROW name, reported, kind
    .quad   start_\name, trap_\name, \reported, after_\name, after_\name, second_\name, name_\name, \kind
.endm
    .globl  trap_codes
trap_codes:
    ROW breakpoint, trap_breakpoint, 0
    ROW breakpoint_numbered, trap_breakpoint_numbered, 0
    ROW illegal, trap_illegal, 1
    ROW privileged, trap_privileged, 2
    ROW halt, trap_halt, 1
    ROW load, trap_load, 4
    ROW load_writeback, trap_load_writeback, 4
    ROW load_exclusive, trap_load_exclusive, 4
    ROW load_structure, trap_load_structure, 4
    ROW store, trap_store, 5
    ROW store_writeback, trap_store_writeback, 5
    ROW store_vector, trap_store_vector, 5
    ROW store_byte, trap_store_byte, 5
    ROW store_release, trap_store_release, 5
    ROW store_structure, trap_store_structure, 5
    ROW atomic, trap_atomic, 5
    ROW compare_swap, trap_compare_swap, 5
    ROW bus, trap_bus, 6
    ROW overflow, trap_overflow, 8
    ROW overflow_pair, trap_overflow_pair, 8
    ROW jump, 0, 9
    ROW jump_return, 0, 9
    ROW jump_data, 0, 10
    ROW jump_wild, 0, 11
    ROW check, after_check, 12
    ROW check_again, after_check_again, 12
trap_codes_end:
    .globl  trap_code_count
trap_code_count:
    .quad   (trap_codes_end - trap_codes) / 64

/* ---- the host's side ---- */

    .text
/* int machine_run_raw(struct tl_fiber *fiber, const uint64_t in[20], uint64_t out[20])
 * in and out: x19-x29, d8-d15, FPCR. Stack: our own x19-x30, d8-d15, FPCR, the out pointer. */
    .globl  machine_run_raw
    .type   machine_run_raw, %function
machine_run_raw:
    stp     x29, x30, [sp, #-192]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    mrs     x3, fpcr
    stp     x3, x2, [sp, #160]
    ldp     x19, x20, [x1]
    ldp     x21, x22, [x1, #16]
    ldp     x23, x24, [x1, #32]
    ldp     x25, x26, [x1, #48]
    ldp     x27, x28, [x1, #64]
    ldr     x29, [x1, #80]
    ldp     d8, d9, [x1, #88]
    ldp     d10, d11, [x1, #104]
    ldp     d12, d13, [x1, #120]
    ldp     d14, d15, [x1, #136]
    ldr     x3, [x1, #152]
    msr     fpcr, x3
    mov     w1, #0
    bl      tl_fiber_run
    ldp     x3, x2, [sp, #160]
    stp     x19, x20, [x2]
    stp     x21, x22, [x2, #16]
    stp     x23, x24, [x2, #32]
    stp     x25, x26, [x2, #48]
    stp     x27, x28, [x2, #64]
    str     x29, [x2, #80]
    stp     d8, d9, [x2, #88]
    stp     d10, d11, [x2, #104]
    stp     d12, d13, [x2, #120]
    stp     d14, d15, [x2, #136]
    mrs     x4, fpcr
    str     x4, [x2, #152]
    msr     fpcr, x3
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     d8, d9, [sp, #96]
    ldp     d10, d11, [sp, #112]
    ldp     d12, d13, [sp, #128]
    ldp     d14, d15, [sp, #144]
    ldp     x29, x30, [sp], #192
    ret
    .size   machine_run_raw, . - machine_run_raw

/* void machine_poison_raw(void) */
    .globl  machine_poison_raw
    .type   machine_poison_raw, %function
machine_poison_raw:
    ldr     x0, =0x5a5a5a5aa5a5a5a5
    .irp n, 0,1,2,3,4,5,6,7,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    dup     v\n\().2d, x0
    .endr
    .irp n, 8,9,10,11,12,13,14,15
    ins     v\n\().d[1], x0
    .endr
    msr     fpsr, x0
    .irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18
    mov     x\n, x0
    .endr
    ret
    .size   machine_poison_raw, . - machine_poison_raw

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
