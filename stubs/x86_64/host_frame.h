/* The host frame: what the host gave us to keep while native code runs, and the way back to it.
 *
 * System V AMD64 ABI 1.0, 3.2.3: rbx, rbp and r12-r15 belong to the caller, and so do the control bits of MXCSR
 * and the x87 control word. On the way back the direction flag is clear and the x87 stack empty.
 */
#include "../stubs.h"

/* In: rdi = record. Out: the host frame pushed, rsp in the record. Clobbers nothing else. */
.macro HOST_FRAME_PUSH
    push    %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    push    %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    push    %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    push    %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    push    %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r14, 0
    push    %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r15, 0
    sub     $8, %rsp
    .cfi_adjust_cfa_offset 8
    stmxcsr (%rsp)
    fnstcw  4(%rsp)
    mov     %rsp, TL_HOST_SP(%rdi)
.endm

/* In: rdi = record, rsp = host stack pointer of the record. Returns from enter or resume with eax = TL_STOP.
 * The return is a pop and a jump: the return-stack predictor saw no matching call, and a mispredicted ret costs
 * more than an indirect jump. */
.macro HOST_FRAME_LEAVE
    testb   $1, TL_XSAVE_BV(%rdi)       /* x87 in use: empty its stack */
    jz      1f
    fninit
1:  testb   $4, TL_XSAVE_BV(%rdi)       /* upper halves in use: clear them for the host's SSE code */
    jz      2f
    vzeroupper
2:  ldmxcsr (%rsp)
    fldcw   4(%rsp)
    mov     TL_STOP(%rdi), %eax
    add     $8, %rsp
    .cfi_adjust_cfa_offset -8
    pop     %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    pop     %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    pop     %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    pop     %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    pop     %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    pop     %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    pop     %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    jmp     *%rcx
.endm

/* Flags that native code may leave set and no C function may find set: DF, NT (iretq faults), AC. */
#define FLAGS_NOT_OF_HOST 0x44400

/* In: rsp = host stack pointer, ZF clear when a flag is to be put right. */
.macro HOST_FLAGS_UNLESS_ZERO
    jz      3f
    pushq   $0x202                      /* IF and the bit that is always set */
    .cfi_adjust_cfa_offset 8
    popfq
    .cfi_adjust_cfa_offset -8
3:
.endm

/* CFI of a stub that starts with the host frame already pushed and rsp at its bottom. */
.macro CFI_IN_HOST_FRAME
    .cfi_def_cfa %rsp, TL_HOST_FRAME_BYTES + 8
    .cfi_offset %rip, -8
    .cfi_offset %rbp, -16
    .cfi_offset %rbx, -24
    .cfi_offset %r12, -32
    .cfi_offset %r13, -40
    .cfi_offset %r14, -48
    .cfi_offset %r15, -56
.endm

/* CFI while a register points at the record and rsp is no longer the host's: the canonical frame address is the
 * record's host stack pointer plus the host frame. breg is DW_OP_breg0 + the register's DWARF number
 * (DWARF 5, 2.5.1.2 and 6.4.2.2); 0xa0 0x01 is TL_HOST_SP as ULEB128 and SLEB128 alike. */
.macro CFA_IN_RECORD breg
    .cfi_remember_state
    .cfi_escape 0x0f, 6, \breg, 0xa0, 0x01, 0x06, 0x23, TL_HOST_FRAME_BYTES + 8
.endm

.macro STUB name
    .globl  \name
    .hidden \name
    .type   \name, @function
    .balign 16
    .cfi_startproc
.endm

.macro STUB_END name
    .cfi_endproc
    .size   \name, . - \name
.endm
