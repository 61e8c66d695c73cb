/* Native code of the test programs: it lies in a data section, is copied into an image and runs there.
 *
 * Absolute addresses are relocated by the linker, so the bytes can be copied as they are. Jumps inside a blob are
 * relative. Offsets: machine.h.
 */
#if defined(__x86_64__)
#define GENERAL(n) ((n) * 8)
#define FLAGS 128
#define MASK 136
#define AREA 192

/* Loads every register from machine_in. rbx, the base, comes last; moves keep the flags. */
.macro LOAD_STATE
    mov     %rsp, %rax
    movabs  %rax, machine_home_sp
    movabs  $machine_in, %rbx
    mov     MASK(%rbx), %eax
    mov     MASK+4(%rbx), %edx
    xrstor64 AREA(%rbx)
    pushq   FLAGS(%rbx)
    popfq
    mov     GENERAL(0)(%rbx), %rax
    mov     GENERAL(1)(%rbx), %rcx
    mov     GENERAL(2)(%rbx), %rdx
    mov     GENERAL(4)(%rbx), %rsp
    mov     GENERAL(5)(%rbx), %rbp
    mov     GENERAL(6)(%rbx), %rsi
    mov     GENERAL(7)(%rbx), %rdi
    mov     GENERAL(8)(%rbx), %r8
    mov     GENERAL(9)(%rbx), %r9
    mov     GENERAL(10)(%rbx), %r10
    mov     GENERAL(11)(%rbx), %r11
    mov     GENERAL(12)(%rbx), %r12
    mov     GENERAL(13)(%rbx), %r13
    mov     GENERAL(14)(%rbx), %r14
    mov     GENERAL(15)(%rbx), %r15
    mov     GENERAL(3)(%rbx), %rbx
.endm

/* Writes every register to machine_out and returns, whatever the stack pointer is. */
.macro DUMP_STATE
    movabs  %rax, machine_out + GENERAL(0)
    mov     %rsp, %rax
    movabs  %rax, machine_out + GENERAL(4)
    movabs  machine_home_sp, %rax
    mov     %rax, %rsp
    pushfq
    movabs  $machine_out, %rax
    mov     %rcx, GENERAL(1)(%rax)
    mov     %rdx, GENERAL(2)(%rax)
    mov     %rbx, GENERAL(3)(%rax)
    mov     %rbp, GENERAL(5)(%rax)
    mov     %rsi, GENERAL(6)(%rax)
    mov     %rdi, GENERAL(7)(%rax)
    mov     %r8, GENERAL(8)(%rax)
    mov     %r9, GENERAL(9)(%rax)
    mov     %r10, GENERAL(10)(%rax)
    mov     %r11, GENERAL(11)(%rax)
    mov     %r12, GENERAL(12)(%rax)
    mov     %r13, GENERAL(13)(%rax)
    mov     %r14, GENERAL(14)(%rax)
    mov     %r15, GENERAL(15)(%rax)
    popq    FLAGS(%rax)
    mov     %rax, %rbx
    mov     MASK(%rbx), %eax
    mov     MASK+4(%rbx), %edx
    xsave64 AREA(%rbx)
    ret
.endm

    .section .data.rel.test_code, "aw", @progbits
    .balign 64
    .globl  trap_code_start
trap_code_start:

/* From each kind of trap to a breakpoint and on to the dump. \instruction is what traps. */
.macro TRAP_CODE name, instruction:vararg
    .balign 16
start_\name:
    LOAD_STATE
trap_\name:
    \instruction
after_\name:
    int3
second_\name:
    DUMP_STATE
.endm

zero_words:
    .quad   0, 0, 0
check_pointer:
    .quad   tl_stub_check
bad_pointer:
    .quad   0       /* unused: jumps read the pointers below through absolute addresses */

    TRAP_CODE breakpoint, int3
    TRAP_CODE illegal, ud2
    TRAP_CODE privileged, hlt
    TRAP_CODE divide, divb zero_words(%rip)
    TRAP_CODE load, movabs (0x7e5710000010), %rax
    TRAP_CODE store, movabs %rax, (0x7e5710000010)
    TRAP_CODE bus, movabs (0x7e5720000010), %rax
    TRAP_CODE misaligned, movaps zero_words+1(%rip), %xmm3
    TRAP_CODE overflow, push %rax
    TRAP_CODE overflow_call, call after_overflow_call
    TRAP_CODE jump, jmp *jump_target(%rip)
    TRAP_CODE jump_data, jmp *data_target(%rip)
    TRAP_CODE jump_wild, jmp *wild_target(%rip)
    TRAP_CODE check, call *check_pointer(%rip)
jump_target:
    .quad   0x7e5710000020
data_target:
    .quad   machine_in
wild_target:
    .quad   0x9e57100000000123

/* Writes the registers that it was entered with to machine_out, rsp being its own. */
    .globl  fresh_code
fresh_code:
    movabs  %rax, machine_out
    mov     %rsp, %rax
    movabs  %rax, machine_home_sp
    movabs  machine_out, %rax
    DUMP_STATE

/* Returns its first integer argument and its eighth float argument. */
    .globl  result_code
result_code:
    mov     %rdi, %rax
    movaps  %xmm7, %xmm0
    ret

/* Loops that keep an invariant, whatever stops them: rbx = 3 rax, but for one instruction 3 rax - 3; the same in
 * the halves of xmm1 (the low one counts). rdi: how often to go round; 0: for ever. Each returns rax. */
.macro LOOP name, instruction:vararg
    .balign 16
    .globl  loop_\name
loop_\name:
    xor     %eax, %eax
    xor     %ebx, %ebx
    pxor    %xmm1, %xmm1
    movups  loop_step(%rip), %xmm2
1:  add     $1, %rax
    add     $3, %rbx
    paddq   %xmm2, %xmm1
    \instruction
    cmp     %rdi, %rax
    jne     1b
    ret
.endm
loop_step:
    .quad   1, 3
    LOOP plain, nop
    LOOP trap, hlt
    LOOP breakpoint, int3
    LOOP check, call *check_pointer(%rip)

/* uint64_t loop_host(uint64_t n): n rounds of a call of tl_stub_host; r14 counts, rbp is three times that, r15 is n. Traps
 * where the call loses one of these, or MXCSR (flush to zero here). */
    .balign 16
    .globl  loop_host
loop_host:
    mov     %rdi, %r15
    xor     %r14d, %r14d
    xor     %ebp, %ebp
    ldmxcsr host_mxcsr(%rip)
1:  add     $1, %r14
    add     $3, %rbp
    mov     $1, %edi
    mov     %rsp, %rsi
    call    *host_pointer(%rip)
    stmxcsr -8(%rsp)
    mov     -8(%rsp), %eax
    cmp     host_mxcsr(%rip), %eax
    jne     2f
    lea     (%r14, %r14, 2), %rax
    cmp     %rbp, %rax
    jne     2f
    cmp     %r15, %r14
    jne     1b
    mov     %r14, %rax
    xor     %ebp, %ebp
    ret
2:  hlt
    .balign 8
host_pointer:
    .quad   tl_stub_host
host_mxcsr:
    .long   0x9f80

/* uint64_t mixed_code(uint64_t n): arithmetic with a loop, a call, pushes and vectors, for breakpoints everywhere. */
    .balign 16
    .globl  mixed_code, mixed_code_stop
mixed_code:
    push    %rbp
    mov     %rsp, %rbp
    push    %rbx
    sub     $24, %rsp
    mov     %rdi, %rbx
    xor     %eax, %eax
    mov     %rax, (%rsp)
2:  test    %rbx, %rbx
    jz      3f
    mov     %rbx, %rdi
    call    4f
    add     %rax, (%rsp)
    dec     %rbx
    jmp     2b
3:  mov     (%rsp), %rax
    add     $24, %rsp
    pop     %rbx
    pop     %rbp
    ret
4:  movq    %rdi, %xmm0
    movq    %rdi, %xmm3
    paddq   %xmm3, %xmm0
    movq    %xmm0, %rax
    imul    $7, %rax, %rax
    xor     $0x55, %rax
    std
    cld
    ret
mixed_code_stop:

/* void deep_code(uint64_t depth): 32 bytes of stack a level, each written; returns the depth. */
    .balign 16
    .globl  deep_code
deep_code:
    xor     %eax, %eax
    mov     %rsp, %rdx
5:  push    %rdi
    push    %rdi
    push    %rdi
    push    %rdi
    inc     %rax
    cmp     %rdi, %rax
    jne     5b
6:  pop     %rcx
    cmp     %rdi, %rcx
    jne     7f
    cmp     %rdx, %rsp
    jne     6b
    ret
7:  ud2
    .globl  trap_code_stop
trap_code_stop:

    .section .rodata
name_breakpoint: .asciz "int3"
name_illegal: .asciz "ud2"
name_privileged: .asciz "hlt"
name_divide: .asciz "div"
name_load: .asciz "load"
name_store: .asciz "store"
name_bus: .asciz "bus"
name_misaligned: .asciz "movaps"
name_overflow: .asciz "push"
name_overflow_call: .asciz "call"
name_jump: .asciz "jump"
name_jump_data: .asciz "jump to data"
name_jump_wild: .asciz "jump to a wild address"
name_check: .asciz "check"

    .section .data.rel.ro, "aw", @progbits
    .balign 8
/* reported: the trap itself, what follows it, or nothing for a jump. Kinds: enum trap_kind. */
.macro ROW name, reported, kind
    .quad   start_\name, trap_\name, \reported, after_\name, second_\name, second_\name, name_\name, \kind
.endm
    .globl  trap_codes
trap_codes:
    ROW breakpoint, after_breakpoint, 0
    ROW illegal, trap_illegal, 1
    ROW privileged, trap_privileged, 2
    ROW divide, trap_divide, 3
    ROW load, trap_load, 4
    ROW store, trap_store, 5
    ROW bus, trap_bus, 6
    ROW misaligned, trap_misaligned, 7
    ROW overflow, trap_overflow, 8
    ROW overflow_call, trap_overflow_call, 8
    ROW jump, 0, 9
    ROW jump_data, 0, 10
    ROW jump_wild, 0, 11
    ROW check, after_check, 12
trap_codes_end:
    .globl  trap_code_count
trap_code_count:
    .quad   (trap_codes_end - trap_codes) / 64

/* ---- the host's side ---- */

    .text
/* int machine_run_raw(struct tl_fiber *fiber, const uint64_t in[10], uint64_t out[10])
 * in and out: rbx rbp r12 r13 r14 r15, mxcsr, x87 control word, (out only) rflags, x87 tag word. Stack: six pushes,
 * the out pointer, 32 bytes for fnstenv. */
    .globl  machine_run_raw
    .type   machine_run_raw, @function
machine_run_raw:
    push    %rbx
    push    %rbp
    push    %r12
    push    %r13
    push    %r14
    push    %r15
    push    %rdx
    sub     $48, %rsp
    stmxcsr 40(%rsp)
    fnstcw  44(%rsp)
    mov     0(%rsi), %rbx
    mov     8(%rsi), %rbp
    mov     16(%rsi), %r12
    mov     24(%rsi), %r13
    mov     32(%rsi), %r14
    mov     40(%rsi), %r15
    ldmxcsr 48(%rsi)
    fldcw   56(%rsi)
    xor     %esi, %esi
    call    tl_fiber_run
    mov     48(%rsp), %rdx
    mov     %rbx, 0(%rdx)
    mov     %rbp, 8(%rdx)
    mov     %r12, 16(%rdx)
    mov     %r13, 24(%rdx)
    mov     %r14, 32(%rdx)
    mov     %r15, 40(%rdx)
    movq    $0, 48(%rdx)
    movq    $0, 56(%rdx)
    stmxcsr 48(%rdx)
    fnstcw  56(%rdx)
    pushfq
    popq    64(%rdx)
    cld
    fnstenv (%rsp)
    movzwl  8(%rsp), %ecx
    mov     %rcx, 72(%rdx)
    fninit
    ldmxcsr 40(%rsp)
    fldcw   44(%rsp)
    add     $56, %rsp
    pop     %r15
    pop     %r14
    pop     %r13
    pop     %r12
    pop     %rbp
    pop     %rbx
    ret
    .size   machine_run_raw, . - machine_run_raw

/* void machine_poison_raw(int avx, int avx512) */
    .globl  machine_poison_raw
    .type   machine_poison_raw, @function
machine_poison_raw:
    fninit
    .rept 8
    fldpi
    .endr
    emms
    pcmpeqd %xmm0, %xmm0
    .irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movdqa  %xmm0, %xmm\n
    .endr
    test    %edi, %edi
    jz      1f
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vinsertf128 $1, %xmm0, %ymm\n, %ymm\n
    .endr
1:  test    %esi, %esi
    jz      2f
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vpternlogd $255, %zmm\n, %zmm\n, %zmm\n
    .endr
    .irp n, 0,1,2,3,4,5,6,7
    kxnorw  %k\n, %k\n, %k\n
    .endr
2:  mov     $0x5a5a5a5a5a5a5a5a, %rax
    mov     %rax, %rcx
    mov     %rax, %rdx
    mov     %rax, %rsi
    mov     %rax, %rdi
    mov     %rax, %r8
    mov     %rax, %r9
    mov     %rax, %r10
    mov     %rax, %r11
    ret
    .size   machine_poison_raw, . - machine_poison_raw

#endif
    .section .note.GNU-stack, "", %progbits /* on every machine: an object without it makes stacks executable */
