/* The host frame: what the host gave us to keep while native code runs, and the way back to it.
 *
 * AAPCS64 (ARM IHI 0055), 6.1.1 and 6.1.2: x19-x29, sp and the low halves of v8-v15 belong to the caller, and so do
 * the control bits of FPCR (rounding, flush to zero, trap enables). x18 is a plain scratch register on Linux.
 *
 *   0 x29, x30 · 16 x19, x20 · 32 x21, x22 · 48 x23, x24 · 64 x25, x26 · 80 x27, x28
 *   96 d8, d9 · 112 d10, d11 · 128 d12, d13 · 144 d14, d15 · 160 FPCR · 168 nothing
 */
#include "../stubs.h"

/* In: x0 = record. Out: the host frame pushed, sp in the record. Clobbers x9. */
.macro HOST_FRAME_PUSH
    stp     x29, x30, [sp, #-TL_HOST_FRAME_BYTES]!
    .cfi_adjust_cfa_offset TL_HOST_FRAME_BYTES
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    HOST_FRAME_RULES
    mrs     x9, fpcr
    str     x9, [sp, #160]
    mov     x9, sp
    str     x9, [x0, #TL_HOST_SP]
.endm

/* Where the registers lie while the host frame is pushed. DWARF numbers of v8-v15 are 72-79 (DWARF for the Arm
 * 64-bit Architecture, IHI 0057, 4.1). */
.macro HOST_FRAME_RULES
    .cfi_offset x29, -176
    .cfi_offset x30, -168
    .cfi_offset x19, -160
    .cfi_offset x20, -152
    .cfi_offset x21, -144
    .cfi_offset x22, -136
    .cfi_offset x23, -128
    .cfi_offset x24, -120
    .cfi_offset x25, -112
    .cfi_offset x26, -104
    .cfi_offset x27, -96
    .cfi_offset x28, -88
    .cfi_offset 72, -80
    .cfi_offset 73, -72
    .cfi_offset 74, -64
    .cfi_offset 75, -56
    .cfi_offset 76, -48
    .cfi_offset 77, -40
    .cfi_offset 78, -32
    .cfi_offset 79, -24
.endm

/* CFI of a stub that starts with the host frame already pushed and sp at its bottom. */
.macro CFI_IN_HOST_FRAME
    .cfi_def_cfa sp, TL_HOST_FRAME_BYTES
    HOST_FRAME_RULES
.endm

/* CFI while x0 holds the record and sp may be anything: the canonical frame address is the record's host stack
 * pointer plus the host frame. 0x70 is DW_OP_breg0; 0x90 0x02 is TL_HOST_SP, 0xb0 0x01 TL_HOST_FRAME_BYTES, both in
 * LEB128 (DWARF 5, 2.5.1.2, 6.4.2.2). */
.macro CFA_IN_RECORD
    .cfi_escape 0x0f, 7, 0x70, 0x90, 0x02, 0x06, 0x23, 0xb0, 0x01
.endm

/* In: x0 = record. Takes the record's host stack pointer. Clobbers x9. */
.macro TAKE_HOST_STACK
    ldr     x9, [x0, #TL_HOST_SP]
    mov     sp, x9
    CFI_IN_HOST_FRAME
.endm

/* In: x0 = record, sp = host stack pointer of the record. Returns from enter or resume with w0 = TL_STOP.
 * Writing FPCR is slow on some cores, and it is seldom different. */
.macro HOST_FRAME_LEAVE
    ldr     x9, [sp, #160]
    mrs     x10, fpcr
    cmp     x9, x10
    b.eq    1f
    msr     fpcr, x9
1:  ldr     w0, [x0, #TL_STOP]
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     d8, d9, [sp, #96]
    ldp     d10, d11, [sp, #112]
    ldp     d12, d13, [sp, #128]
    ldp     d14, d15, [sp, #144]
    ldp     x29, x30, [sp], #TL_HOST_FRAME_BYTES
    .cfi_def_cfa sp, 0
    .irp n, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 72, 73, 74, 75, 76, 77, 78, 79
    .cfi_restore \n
    .endr
    ret
.endm

/* \record = the running fiber's record, found through the thread by the initial-exec model (ELF for the Arm 64-bit
 * Architecture, IHI 0056, 5.7.11; Linux keeps the thread pointer in TPIDR_EL0). Clobbers \other. Keeps the flags. */
.macro FIND_RECORD record, other
    adrp    \record, :gottprel:tl_self
    ldr     \record, [\record, #:gottprel_lo12:tl_self]
    mrs     \other, tpidr_el0
    ldr     \record, [\other, \record]
.endm

/* q0-q31, FPCR and FPSR between the registers and the record in x0. Clobber x9. Keep the flags. */
.macro SAVE_VECTORS
    .irp n, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
    VECTOR_PAIR stp, \n
    .endr
    mrs     x9, fpcr
    str     w9, [x0, #TL_FPCR]
    mrs     x9, fpsr
    str     w9, [x0, #TL_FPSR]
.endm

.macro LOAD_VECTORS
    .irp n, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
    VECTOR_PAIR ldp, \n
    .endr
    LOAD_VECTOR_CONTROL
.endm

.macro LOAD_VECTOR_CONTROL
    ldr     w9, [x0, #TL_FPSR]
    msr     fpsr, x9
    ldr     w9, [x0, #TL_FPCR]
    mrs     x10, fpcr
    cmp     x9, x10
    b.eq    1f
    msr     fpcr, x9
1:
.endm

.macro VECTOR_PAIR move, n
    .altmacro
    VECTOR_PAIR_OF \move, \n, %(\n + 1)
    .noaltmacro
.endm
.macro VECTOR_PAIR_OF move, n, next
    \move   q\n, q\next, [x0, #TL_Q + 16 * \n]
.endm

/* A place that code may jump to through a register, where the page is guarded: `bti c` (a hint elsewhere). */
.macro LANDING
    hint    #34
.endm

.macro STUB name
    .globl  \name
    .hidden \name
    .type   \name, %function
    .balign 16
    .cfi_startproc
.endm

.macro STUB_END name
    .cfi_endproc
    .size   \name, . - \name
.endm
