"""The x86-64 form table: every instruction the code generator may emit.

Rows are in the order of the shipped table and of the generated encoders; names are unique. Modes in a name:
r register, m memory, i immediate, c the register cl, v xmm and y ymm where the width must be told. A form with memory
serves three encoders, for ``[base + disp]`` (m), ``[base + index*scale + disp]`` (x) and ``[rip + label]`` (p).

Kinds: r8 r16 r32 r64 xmm ymm registers; m8 to m256 memory of that many bits, m0 memory whose size does not matter;
i8 a byte, u8 a byte of a control, v16 v32 v64 an immediate of that operand width in its shortest form,
i16 i32 s32 i64 immediates of fixed width (s32 is sign-extended to 64 bits).

To add a row: write it here, run ``python -m trapline.asm.derive --write``, look at the diff.

Source: Intel SDM volume 2.
"""

from __future__ import annotations

from typing import Final

from trapline.asm.forms import Form

CONDITIONS: Final = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")


def _integer() -> list[Form]:
    out: list[Form] = []
    for op in ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"):
        for bits in (8, 16, 32, 64):
            r, m = f"r{bits}", f"m{bits}"
            i = "i8" if bits == 8 else f"v{bits}"
            text = f"{op} {{0}}, {{1}}"
            out += [
                Form(f"{op}{bits}_{modes}", text, kinds)
                for modes, kinds in (
                    ("rr", (r, r)),
                    ("rm", (r, m)),
                    ("mr", (m, r)),
                    ("ri", (r, i)),
                    ("mi", (m, i)),
                )
            ]
    for bits in (8, 16, 32, 64):
        r, m = f"r{bits}", f"m{bits}"
        i = {8: "i8", 16: "i16", 32: "i32", 64: "s32"}[bits]
        for modes, kinds in (("rr", (r, r)), ("mr", (m, r)), ("ri", (r, i)), ("mi", (m, i))):
            out.append(Form(f"test{bits}_{modes}", "test {0}, {1}", kinds))
        for modes, kinds in (("rr", (r, r)), ("rm", (r, m)), ("mr", (m, r)), ("ri", (r, i)), ("mi", (m, i))):
            out.append(Form(f"mov{bits}_{modes}", "mov {0}, {1}", kinds))
        for op in ("neg", "not", "inc", "dec", "mul", "imul", "div", "idiv"):
            out += [Form(f"{op}{bits}_r", f"{op} {{0}}", (r,)), Form(f"{op}{bits}_m", f"{op} {{0}}", (m,))]
        for op in ("rol", "ror", "rcl", "rcr", "shl", "shr", "sar"):
            out += [
                Form(f"{op}{bits}_ri", f"{op} {{0}}, {{1}}", (r, "u8")),
                Form(f"{op}{bits}_rc", f"{op} {{0}}, cl", (r,)),
            ]
            out += [
                Form(f"{op}{bits}_mi", f"{op} {{0}}, {{1}}", (m, "u8")),
                Form(f"{op}{bits}_mc", f"{op} {{0}}, cl", (m,)),
            ]
        out += [Form(f"xchg{bits}_rr", "xchg {0}, {1}", (r, r)), Form(f"xchg{bits}_mr", "xchg {0}, {1}", (m, r))]
        for op in ("cmpxchg", "xadd"):
            out.append(Form(f"{op}{bits}_mr", f"{op} {{0}}, {{1}}", (m, r)))
            out.append(Form(f"lock_{op}{bits}_mr", f"lock {op} {{0}}, {{1}}", (m, r)))
        for op in ("add", "or", "and", "sub", "xor"):
            out.append(Form(f"lock_{op}{bits}_mr", f"lock {op} {{0}}, {{1}}", (m, r)))
    out.append(Form("mov64_ri64", "movabs {0}, {1}", ("r64", "i64")))
    for op in ("movzx", "movsx"):
        for to, source in ((16, 8), (32, 8), (64, 8), (32, 16), (64, 16)):
            for mode in "rm":
                out.append(Form(f"{op}{to}_{source}_r{mode}", f"{op} {{0}}, {{1}}", (f"r{to}", f"{mode}{source}")))
    out += [Form(f"movsxd64_32_r{mode}", "movsxd {0}, {1}", ("r64", f"{mode}32")) for mode in "rm"]
    for bits in (16, 32, 64):
        r, m, v = f"r{bits}", f"m{bits}", f"v{bits}"
        out += [Form(f"imul{bits}_r{mode}", "imul {0}, {1}", (r, f"{mode}{bits}")) for mode in "rm"]
        out += [Form(f"imul{bits}_r{mode}i", "imul {0}, {1}, {2}", (r, f"{mode}{bits}", v)) for mode in "rm"]
        for op in ("bsf", "bsr", "popcnt", "lzcnt", "tzcnt", *(f"cmov{cc}" for cc in CONDITIONS)):
            out += [Form(f"{op}{bits}_r{mode}", f"{op} {{0}}, {{1}}", (r, f"{mode}{bits}")) for mode in "rm"]
        for op in ("bt", "bts", "btr", "btc"):
            out += [
                Form(f"{op}{bits}_rr", f"{op} {{0}}, {{1}}", (r, r)),
                Form(f"{op}{bits}_ri", f"{op} {{0}}, {{1}}", (r, "u8")),
            ]
            out.append(Form(f"{op}{bits}_mi", f"{op} {{0}}, {{1}}", (m, "u8")))
        for op in ("shld", "shrd"):
            out.append(Form(f"{op}{bits}_rri", f"{op} {{0}}, {{1}}, {{2}}", (r, r, "u8")))
            out.append(Form(f"{op}{bits}_rrc", f"{op} {{0}}, {{1}}, cl", (r, r)))
        for mode, kinds in (("rm", (r, m)), ("mr", (m, r))):
            out.append(Form(f"movbe{bits}_{mode}", "movbe {0}, {1}", kinds))
    for bits in (32, 64):
        r, m = f"r{bits}", f"m{bits}"
        out += [Form(f"lea{bits}_rm", "lea {0}, {1}", (r, "m0")), Form(f"bswap{bits}_r", "bswap {0}", (r,))]
        for mode in "rm":
            last = f"{mode}{bits}"
            for op in ("andn", "pdep", "pext", "mulx"):
                out.append(Form(f"{op}{bits}_rr{mode}", f"{op} {{0}}, {{1}}, {{2}}", (r, r, last)))
            for op in ("blsi", "blsr", "blsmsk", "adcx", "adox"):
                out.append(Form(f"{op}{bits}_r{mode}", f"{op} {{0}}, {{1}}", (r, last)))
            for op in ("bextr", "bzhi", "shlx", "shrx", "sarx"):
                out.append(Form(f"{op}{bits}_r{mode}r", f"{op} {{0}}, {{1}}, {{2}}", (r, last, r)))
            out.append(Form(f"rorx{bits}_r{mode}i", "rorx {0}, {1}, {2}", (r, last, "u8")))
    for source in (8, 16, 32, 64):
        to = 64 if source == 64 else 32
        out += [Form(f"crc32_{source}_r{mode}", "crc32 {0}, {1}", (f"r{to}", f"{mode}{source}")) for mode in "rm"]
    for condition in CONDITIONS:
        out += [Form(f"set{condition}_{mode}", f"set{condition} {{0}}", (f"{mode}8",)) for mode in "rm"]
    out += [Form("push_r", "push {0}", ("r64",)), Form("push_m", "push {0}", ("m64",))]
    out += [Form("pop_r", "pop {0}", ("r64",)), Form("pop_m", "pop {0}", ("m64",))]
    out += [Form("push_i", "push {0}", ("v64",))]
    for op in ("call", "jmp"):
        out += [Form(f"{op}_r", f"{op} {{0}}", ("r64",)), Form(f"{op}_m", f"{op} {{0}}", ("m64",))]
    out += [Form("ret_i", "ret {0}", ("i16",)), Form("cmpxchg16b_m", "cmpxchg16b {0}", ("m128",))]
    out += [Form("lock_cmpxchg16b_m", "lock cmpxchg16b {0}", ("m128",))]
    out += [Form(f"{op}_m", f"{op} {{0}}", ("m8",)) for op in ("prefetchnta", "prefetcht0")]
    out += [Form(f"{op}_m", f"{op} {{0}}", ("m32",)) for op in ("ldmxcsr", "stmxcsr")]
    for text in (
        "ret",
        "int3",
        "hlt",
        "ud2",
        "nop",
        "leave",
        "pause",
        "cdq",
        "cqo",
        "cwd",
        "cbw",
        "cwde",
        "cdqe",
        "mfence",
        "lfence",
        "sfence",
        "cpuid",
        "rdtsc",
        "syscall",
        "pushfq",
        "popfq",
        "cld",
        "std",
        "clc",
        "stc",
        "cmc",
        "lahf",
        "sahf",
        "movsb",
        "movsq",
        "stosb",
        "stosq",
        "rep movsb",
        "rep movsq",
        "rep stosb",
        "rep stosq",
        "repe cmpsb",
        "repne scasb",
        "xgetbv",
    ):
        out.append(Form(text.replace(" ", "_"), text))
    return out


def _scalar_float() -> list[Form]:
    out: list[Form] = []
    for suffix, bits in (("ss", 32), ("sd", 64)):
        m = f"m{bits}"
        for op in ("add", "sub", "mul", "div", "min", "max", "sqrt", "ucomi", "comi"):
            out += [
                Form(f"{op}{suffix}_r{mode}", f"{op}{suffix} {{0}}, {{1}}", ("xmm", kind))
                for mode, kind in (("r", "xmm"), ("m", m))
            ]
        out += [
            Form(f"mov{suffix}_{modes}", f"mov{suffix} {{0}}, {{1}}", kinds)
            for modes, kinds in (
                ("rr", ("xmm", "xmm")),
                ("rm", ("xmm", m)),
                ("mr", (m, "xmm")),
            )
        ]
        for mode, kind in (("r", "xmm"), ("m", m)):
            out.append(Form(f"round{suffix}_r{mode}i", f"round{suffix} {{0}}, {{1}}, {{2}}", ("xmm", kind, "u8")))
            out.append(Form(f"cmp{suffix}_r{mode}i", f"cmp{suffix} {{0}}, {{1}}, {{2}}", ("xmm", kind, "u8")))
            for to in (32, 64):
                for op in ("cvt", "cvtt"):
                    out.append(Form(f"{op}{suffix}2si{to}_r{mode}", f"{op}{suffix}2si {{0}}, {{1}}", (f"r{to}", kind)))
        for source in (32, 64):
            for mode in "rm":
                out.append(
                    Form(f"cvtsi2{suffix}{source}_r{mode}", f"cvtsi2{suffix} {{0}}, {{1}}", ("xmm", f"{mode}{source}"))
                )
    for mode, single, double in (("r", "xmm", "xmm"), ("m", "m32", "m64")):
        out.append(Form(f"cvtss2sd_r{mode}", "cvtss2sd {0}, {1}", ("xmm", single)))
        out.append(Form(f"cvtsd2ss_r{mode}", "cvtsd2ss {0}, {1}", ("xmm", double)))
    out += [Form("movd_vr", "movd {0}, {1}", ("xmm", "r32")), Form("movd_rv", "movd {0}, {1}", ("r32", "xmm"))]
    out += [Form("movq_vr", "movq {0}, {1}", ("xmm", "r64")), Form("movq_rv", "movq {0}, {1}", ("r64", "xmm"))]
    out += [Form("movd_rm", "movd {0}, {1}", ("xmm", "m32")), Form("movd_mr", "movd {0}, {1}", ("m32", "xmm"))]
    out += [Form("movq_rm", "movq {0}, {1}", ("xmm", "m64")), Form("movq_mr", "movq {0}, {1}", ("m64", "xmm"))]
    return out


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Two operands, xmm and xmm or 128 bits of memory; the VEX forms take one source more.
PACKED_THREE: Final = _names(
    "addps addpd subps subpd mulps mulpd divps divpd minps minpd maxps maxpd andps andpd andnps andnpd orps orpd "
    "xorps xorpd haddps haddpd unpcklps unpcklpd unpckhps unpckhpd pand pandn por pxor paddb paddw paddd paddq "
    "psubb psubw psubd psubq paddsb paddsw paddusb paddusw psubsb psubsw psubusb psubusw pmullw pmulhw pmulhuw "
    "pmulld pmuldq pmuludq pmulhrsw pmaddwd pmaddubsw pminsb pminsw pminsd pminub pminuw pminud pmaxsb pmaxsw "
    "pmaxsd pmaxub pmaxuw pmaxud pcmpeqb pcmpeqw pcmpeqd pcmpeqq pcmpgtb pcmpgtw pcmpgtd pcmpgtq pavgb pavgw "
    "psadbw pshufb punpcklbw punpcklwd punpckldq punpcklqdq punpckhbw punpckhwd punpckhdq punpckhqdq packsswb "
    "packssdw packuswb packusdw phaddw phaddd psignb psignw psignd psllw pslld psllq psrlw psrld psrlq psraw "
    "psrad addsubps addsubpd "
)
PACKED_TWO: Final = _names(
    "movaps movapd movups movupd movdqa movdqu sqrtps sqrtpd pabsb pabsw pabsd ptest cvtdq2ps cvtps2dq cvttps2dq "
    "cvttpd2dq cvtpd2ps cvtpd2dq movshdup movsldup rcpps rsqrtps "
)
WIDENING: Final = {
    "pmovsxbw": 64,
    "pmovsxbd": 32,
    "pmovsxwd": 64,
    "pmovsxdq": 64,
    "pmovzxbw": 64,
    "pmovzxbd": 32,
    "pmovzxwd": 64,
    "pmovzxdq": 64,
    "cvtdq2pd": 64,
    "cvtps2pd": 64,
    "movddup": 64,
}
STORES: Final = ("movaps", "movapd", "movups", "movupd", "movdqa", "movdqu")
SHUFFLES_THREE: Final = ("shufps", "shufpd", "palignr", "pblendw", "blendps", "blendpd", "cmpps", "cmppd", "mpsadbw")
SHUFFLES_TWO: Final = ("pshufd", "pshuflw", "pshufhw", "roundps", "roundpd")
SHIFTS: Final = ("psllw", "pslld", "psllq", "psrlw", "psrld", "psrlq", "psraw", "psrad", "pslldq", "psrldq")
LANES: Final = (("b", "r32", "m8"), ("d", "r32", "m32"), ("q", "r64", "m64"))
FUSED: Final = tuple(
    f"{op}{order}" for op in ("vfmadd", "vfmsub", "vfnmadd", "vfnmsub") for order in ("132", "213", "231")
)


def _packed() -> list[Form]:
    out: list[Form] = []
    for op in (*PACKED_THREE, *PACKED_TWO):
        out += [
            Form(f"{op}_r{mode}", f"{op} {{0}}, {{1}}", ("xmm", kind)) for mode, kind in (("r", "xmm"), ("m", "m128"))
        ]
    for op, bits in WIDENING.items():
        out += [
            Form(f"{op}_r{mode}", f"{op} {{0}}, {{1}}", ("xmm", kind))
            for mode, kind in (("r", "xmm"), ("m", f"m{bits}"))
        ]
    out += [Form(f"{op}_mr", f"{op} {{0}}, {{1}}", ("m128", "xmm")) for op in STORES]
    for op in (*SHUFFLES_THREE, *SHUFFLES_TWO):
        for mode, kind in (("r", "xmm"), ("m", "m128")):
            out.append(Form(f"{op}_r{mode}i", f"{op} {{0}}, {{1}}, {{2}}", ("xmm", kind, "u8")))
    out += [Form(f"{op}_ri", f"{op} {{0}}, {{1}}", ("xmm", "u8")) for op in SHIFTS]
    for op in ("blendvps", "blendvpd", "pblendvb"):
        out.append(Form(f"{op}_rr", f"{op} {{0}}, {{1}}, xmm0", ("xmm", "xmm")))
    for lane, register, memory in LANES:
        out.append(Form(f"pinsr{lane}_rri", f"pinsr{lane} {{0}}, {{1}}, {{2}}", ("xmm", register, "u8")))
        out.append(Form(f"pinsr{lane}_rmi", f"pinsr{lane} {{0}}, {{1}}, {{2}}", ("xmm", memory, "u8")))
        out.append(Form(f"pextr{lane}_rri", f"pextr{lane} {{0}}, {{1}}, {{2}}", (register, "xmm", "u8")))
        out.append(Form(f"pextr{lane}_mri", f"pextr{lane} {{0}}, {{1}}, {{2}}", (memory, "xmm", "u8")))
    out.append(Form("pinsrw_rri", "pinsrw {0}, {1}, {2}", ("xmm", "r32", "u8")))
    out.append(Form("pinsrw_rmi", "pinsrw {0}, {1}, {2}", ("xmm", "m16", "u8")))
    out.append(Form("pextrw_rri", "pextrw {0}, {1}, {2}", ("r32", "xmm", "u8")))
    out.append(Form("insertps_rri", "insertps {0}, {1}, {2}", ("xmm", "xmm", "u8")))
    out += [Form(f"{op}_rr", f"{op} {{0}}, {{1}}", ("r32", "xmm")) for op in ("pmovmskb", "movmskps", "movmskpd")]
    out += [Form(f"{op}_rr", f"{op} {{0}}, {{1}}", ("xmm", "xmm")) for op in ("movhlps", "movlhps")]
    for op in ("movlps", "movhps", "movlpd", "movhpd"):
        out += [
            Form(f"{op}_rm", f"{op} {{0}}, {{1}}", ("xmm", "m64")),
            Form(f"{op}_mr", f"{op} {{0}}, {{1}}", ("m64", "xmm")),
        ]
    return out


def _vex() -> list[Form]:
    out: list[Form] = []
    for register, memory, letter in (("xmm", "m128", "v"), ("ymm", "m256", "y")):
        sources = (("r", register), ("m", memory))
        for op in PACKED_THREE:
            for mode, kind in sources:
                if op in SHIFTS:
                    kind = "xmm" if mode == "r" else "m128"  # the count is one xmm register whatever the width
                out.append(Form(f"v{op}_{letter}r{mode}", f"v{op} {{0}}, {{1}}, {{2}}", (register, register, kind)))
        for op in PACKED_TWO[:11]:
            out += [Form(f"v{op}_{letter}{mode}", f"v{op} {{0}}, {{1}}", (register, kind)) for mode, kind in sources]
        for op in STORES:
            out.append(Form(f"v{op}_m{letter}", f"v{op} {{0}}, {{1}}", (memory, register)))
        for op in SHUFFLES_THREE:
            for mode, kind in sources:
                out.append(
                    Form(
                        f"v{op}_{letter}r{mode}i", f"v{op} {{0}}, {{1}}, {{2}}, {{3}}", (register, register, kind, "u8")
                    )
                )
        for op in SHUFFLES_TWO:
            for mode, kind in sources:
                out.append(Form(f"v{op}_{letter}{mode}i", f"v{op} {{0}}, {{1}}, {{2}}", (register, kind, "u8")))
        out += [Form(f"v{op}_{letter}ri", f"v{op} {{0}}, {{1}}, {{2}}", (register, register, "u8")) for op in SHIFTS]
        for op in FUSED:
            for suffix in ("ps", "pd"):
                for mode, kind in sources:
                    out.append(
                        Form(
                            f"{op}{suffix}_{letter}r{mode}",
                            f"{op}{suffix} {{0}}, {{1}}, {{2}}",
                            (register, register, kind),
                        )
                    )
        for op in ("vpbroadcastb", "vpbroadcastw", "vpbroadcastd", "vpbroadcastq", "vbroadcastss"):
            out.append(Form(f"{op}_{letter}r", f"{op} {{0}}, {{1}}", (register, "xmm")))
    for suffix, bits in (("ss", 32), ("sd", 64)):
        for op in (*(f"v{name}" for name in ("add", "sub", "mul", "div", "min", "max", "sqrt")), *FUSED):
            for mode, kind in (("r", "xmm"), ("m", f"m{bits}")):
                out.append(Form(f"{op}{suffix}_rr{mode}", f"{op}{suffix} {{0}}, {{1}}, {{2}}", ("xmm", "xmm", kind)))
    out.append(Form("vextracti128_rri", "vextracti128 {0}, {1}, {2}", ("xmm", "ymm", "u8")))
    out.append(Form("vinserti128_rrri", "vinserti128 {0}, {1}, {2}, {3}", ("ymm", "ymm", "xmm", "u8")))
    out += [Form("vzeroupper", "vzeroupper"), Form("vzeroall", "vzeroall")]
    return out


def x86_64_forms() -> list[Form]:
    """The whole table, in order."""
    return [*_integer(), *_scalar_float(), *_packed(), *_vex()]
