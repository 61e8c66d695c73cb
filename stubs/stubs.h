/* The layout that the stubs and the C core share: offsets inside struct tl_fiber, and stop codes.
 *
 * Every number here must match a field of struct tl_fiber (native/fiber.h), whose static assertions prove it.
 * Included by assembly and C alike, so it holds nothing but preprocessor lines.
 */
#ifndef TL_STUBS_H
#define TL_STUBS_H

/* Why native code came back to the host: the value a stub returns, left in the record by whoever caused it. */
#define TL_STOP_FINISHED 0  /* the entry function returned */
#define TL_STOP_TRAP 1      /* a signal caused by the code itself */
#define TL_STOP_INTERRUPT 2 /* a pending bit was seen, or a kick arrived in native code */
#define TL_STOP_CHECK 3     /* the code called tl_stub_check */
#define TL_STOP_HOST 4      /* the code called tl_stub_host: a request, and a record that is not whole */

#if defined(__x86_64__)

/* The record. Its first five words are the frame that iretq pops: resuming needs no copy and no stack of the
 * fiber's. They lie at the bottom so that a signal frame pushed while rsp points at them grows down into the
 * slack below the record and never over the registers above. (Intel SDM vol. 2, IRET, 64-bit mode.) */
#define TL_RIP 0
#define TL_CS 8
#define TL_RFLAGS 16
#define TL_RSP 24
#define TL_SS 32
#define TL_RAX 40
#define TL_RCX 48
#define TL_RDX 56
#define TL_RBX 64
#define TL_RBP 72
#define TL_RSI 80
#define TL_RDI 88
#define TL_R8 96
#define TL_R9 104
#define TL_R10 112
#define TL_R11 120
#define TL_R12 128
#define TL_R13 136
#define TL_R14 144
#define TL_R15 152
#define TL_HOST_SP 160
#define TL_PENDING 168
#define TL_STOP 172
#define TL_XSAVE_MASK 176 /* two 32-bit halves: edx:eax of xsave and xrstor */

/* The XSAVE area in the standard format (Intel SDM vol. 1, 13.4), 64-byte aligned; its size is CPUID's. */
#define TL_XSAVE 512
#define TL_XSAVE_MXCSR (TL_XSAVE + 24)
#define TL_XSAVE_XMM (TL_XSAVE + 160)
#define TL_XSAVE_BV (TL_XSAVE + 512)

/* What enter and resume push on the host stack below the return address: six registers, then one word that
 * holds MXCSR (4 bytes) and the x87 control word (2 bytes). */
#define TL_HOST_FRAME_BYTES 56

#elif defined(__aarch64__)

/* The record. x0 up to PSTATE lie in the order of the kernel's struct sigcontext (Linux uapi, asm/sigcontext.h):
 * tl_stub_resume copies them as they are. */
#define TL_X 0 /* x0-x30, 31 words */
#define TL_SP 248
#define TL_PC 256
#define TL_PSTATE 264
#define TL_HOST_SP 272
#define TL_PENDING 280
#define TL_STOP 284
#define TL_FPCR 288
#define TL_FPSR 292
#define TL_Q 512 /* q0-q31, 16 bytes each */

/* The bits of PSTATE that belong to user space: NZCV, TCO, DIT, SSBS, BTYPE (Arm ARM DDI 0487, SPSR_EL1). */
#define TL_PSTATE_USER 0xf3001c00
#define TL_PSTATE_BTYPE 0xc00
#define TL_PSTATE_NZCV 0xf0000000

/* What enter and resume push on the host stack: x29, x30, x19-x28, d8-d15, FPCR and a word of padding. */
#define TL_HOST_FRAME_BYTES 176

/* struct rt_sigframe, which resume builds below the host frame (Linux arch/arm64/kernel/signal.c: struct siginfo of
 * 128 bytes, then struct ucontext); context_aarch64.c proves the numbers. */
#define TL_FRAME_BYTES 4688
#define TL_FRAME_STACK_FLAGS 152
#define TL_FRAME_SIGMASK 168
#define TL_FRAME_X 312
#define TL_FRAME_PSTATE 576
#define TL_FRAME_FPSIMD 592 /* struct fpsimd_context: magic, size, FPSR, FPCR, then q0-q31 */
#define TL_FRAME_FPSR 600
#define TL_FRAME_FPCR 604
#define TL_FRAME_Q 608
#define TL_FRAME_END 1120 /* the empty head that ends the list of records */

#endif
#endif
