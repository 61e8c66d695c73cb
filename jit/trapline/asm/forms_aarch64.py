"""The aarch64 form table: every instruction the code generator may emit, but for those that name a label.

Rows are in the order of the shipped table and of the generated encoders; names are unique. Modes in a name:
r register, i immediate, m ``[base, #offset]`` in units of the access, u the unscaled offset, pre and post the
writing-back forms, x ``[base, index, lsl #size]``, w and s the same with a 32-bit index, zero- and sign-extended.

Kinds: x w general registers with 31 the zero register, xs ws with 31 the stack pointer; b h s d q v vector
registers; ``uN`` and ``sN`` immediates of N bits, ``*K`` in units of K; cc a condition code; rN a right shift of 1
to N; f8 a floating-point immediate by its 8 bits. Labels, logical immediates and the atomics that keystone does not
know are in `arch.aarch64.assembler`.

Source: Arm ARM (DDI 0487) sections C6.2 and C7.2.
"""

from __future__ import annotations

from typing import Final

from trapline.asm.forms import Form

CONDITIONS: Final = ("eq", "ne", "hs", "lo", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le", "al", "nv")
_INTEGER: Final = (("32", "w", "ws", 5), ("64", "x", "xs", 6))


def _integer() -> list[Form]:
    out: list[Form] = []
    for bits, r, rs, width in _INTEGER:
        for op in ("add", "sub", "adds", "subs"):
            to = r if op[-1] == "s" else rs
            out.append(Form(f"{op}{bits}_rrr", f"{op} {{0}}, {{1}}, {{2}}", (r, r, r)))
            out.append(Form(f"{op}{bits}_rri", f"{op} {{0}}, {{1}}, #{{2}}", (to, rs, "u12")))
            out.append(Form(f"{op}{bits}_rri12", f"{op} {{0}}, {{1}}, #{{2}}, lsl #12", (to, rs, "u12")))
            out += [
                Form(f"{op}{bits}_rrr_{extend}", f"{op} {{0}}, {{1}}, {{2}}, {extend} #{{3}}", (to, rs, "w", "e3"))
                for extend in ("uxtb", "uxth", "uxtw", "sxtb", "sxth", "sxtw")
            ]
        for op in ("and", "orr", "eor", "bic", "orn", "eon", "ands", "bics"):
            out.append(Form(f"{op}{bits}_rrr", f"{op} {{0}}, {{1}}, {{2}}", (r, r, r)))
            out.append(Form(f"{op}{bits}_rrr_ror", f"{op} {{0}}, {{1}}, {{2}}, ror #{{3}}", (r, r, r, f"u{width}")))
        for op in ("add", "sub", "adds", "subs", "and", "orr", "eor", "bic", "orn", "eon", "ands", "bics"):
            for shift in ("lsl", "lsr", "asr"):
                text = f"{op} {{0}}, {{1}}, {{2}}, {shift} #{{3}}"
                out.append(Form(f"{op}{bits}_rrr_{shift}", text, (r, r, r, f"u{width}")))
        out += [
            Form(f"{op}{bits}_rrr", f"{op} {{0}}, {{1}}, {{2}}", (r, r, r))
            for op in ("adc", "adcs", "sbc", "sbcs", "mul", "mneg", "sdiv", "udiv", "lsl", "lsr", "asr", "ror")
        ]
        out += [Form(f"{op}{bits}_rrrr", f"{op} {{0}}, {{1}}, {{2}}, {{3}}", (r, r, r, r)) for op in ("madd", "msub")]
        out += [
            Form(f"{op}{bits}_rr", f"{op} {{0}}, {{1}}", (r, r))
            for op in ("clz", "cls", "rbit", "rev", "rev16", "mvn", "neg", "negs", "mov")
        ]
        out.append(Form(f"mov{bits}_rs", "add {0}, {1}, #0", (rs, rs)))
        for op in ("cmp", "cmn"):
            out.append(Form(f"{op}{bits}_rr", f"{op} {{0}}, {{1}}", (r, r)))
            out.append(Form(f"{op}{bits}_ri", f"{op} {{0}}, #{{1}}", (rs, "u12")))
            out.append(Form(f"{op}{bits}_rr_uxtw", f"{op} {{0}}, {{1}}, uxtw", (rs, "w")))
        out.append(Form(f"tst{bits}_rr", "tst {0}, {1}", (r, r)))
        for op in ("movz", "movn", "movk"):
            hw = "u1*16" if bits == "32" else "u2*16"
            out.append(Form(f"{op}{bits}_ri", f"{op} {{0}}, #{{1}}, lsl #{{2}}", (r, "u16", hw)))
        out += [
            Form(f"{op}{bits}_rrii", f"{op} {{0}}, {{1}}, #{{2}}, #{{3}}", (r, r, f"u{width}", f"u{width}"))
            for op in ("ubfm", "sbfm", "bfm")
        ]
        out.append(Form(f"lsr{bits}_rri", "lsr {0}, {1}, #{2}", (r, r, f"u{width}")))
        out.append(Form(f"asr{bits}_rri", "asr {0}, {1}, #{2}", (r, r, f"u{width}")))
        out.append(Form(f"extr{bits}_rrri", "extr {0}, {1}, {2}, #{3}", (r, r, r, f"u{width}")))
        out += [
            Form(f"{op}{bits}_rrrc", f"{op} {{0}}, {{1}}, {{2}}, {{3}}", (r, r, r, "cc"))
            for op in ("csel", "csinc", "csinv", "csneg")
        ]
        for op in ("ccmp", "ccmn"):
            out.append(Form(f"{op}{bits}_rric", f"{op} {{0}}, {{1}}, #{{2}}, {{3}}", (r, r, "u4", "cc")))
            out.append(Form(f"{op}{bits}_riic", f"{op} {{0}}, #{{1}}, #{{2}}, {{3}}", (r, "u5", "u4", "cc")))
        out += [Form(f"{op}{bits}_rr", f"{op} {{0}}, {{1}}", (r, "w")) for op in ("sxtb", "sxth")]
    out += [Form("uxtb32_rr", "uxtb {0}, {1}", ("w", "w")), Form("uxth32_rr", "uxth {0}, {1}", ("w", "w"))]
    out += [Form("sxtw64_rr", "sxtw {0}, {1}", ("x", "w")), Form("rev32_64_rr", "rev32 {0}, {1}", ("x", "x"))]
    out += [Form(f"{op}_rrr", f"{op} {{0}}, {{1}}, {{2}}", ("x", "w", "w")) for op in ("smull", "umull")]
    out += [Form(f"{op}_rrr", f"{op} {{0}}, {{1}}, {{2}}", ("x", "x", "x")) for op in ("smulh", "umulh")]
    out += [
        Form(f"{op}_rrrr", f"{op} {{0}}, {{1}}, {{2}}, {{3}}", ("x", "w", "w", "x"))
        for op in ("smaddl", "umaddl", "smsubl", "umsubl")
    ]
    out += [
        Form(f"{op}_rrr", f"{op} {{0}}, {{1}}, {{2}}", ("w", "w", "w"))
        for op in ("crc32b", "crc32h", "crc32w", "crc32cb", "crc32ch", "crc32cw")
    ]
    out += [Form(f"{op}_rrr", f"{op} {{0}}, {{1}}, {{2}}", ("w", "w", "x")) for op in ("crc32x", "crc32cx")]
    out += [Form(f"{op}_r", f"{op} {{0}}", ("x",)) for op in ("br", "blr", "ret")]
    out += [Form(f"{op}_i", f"{op} #{{0}}", ("u16",)) for op in ("brk", "hlt", "svc")]
    out += [Form(text.replace(" ", "_"), text) for text in ("nop", "ret", "dmb ish", "dmb ishld", "dsb ish", "isb")]
    for name in ("nzcv", "fpcr", "fpsr", "tpidr_el0"):
        out += [Form(f"mrs_{name}", f"mrs {{0}}, {name}", ("x",)), Form(f"msr_{name}", f"msr {name}, {{0}}", ("x",))]
    return out


# (suffix of the encoder, load, store, register kind, access size in bytes, unscaled load, unscaled store)
_ACCESSES: Final = (
    ("32", "ldr", "str", "w", 4),
    ("64", "ldr", "str", "x", 8),
    ("b32", "ldrb", "strb", "w", 1),
    ("h32", "ldrh", "strh", "w", 2),
    ("sb32", "ldrsb", "", "w", 1),
    ("sb64", "ldrsb", "", "x", 1),
    ("sh32", "ldrsh", "", "w", 2),
    ("sh64", "ldrsh", "", "x", 2),
    ("sw64", "ldrsw", "", "x", 4),
    ("_b", "ldr", "str", "b", 1),
    ("_h", "ldr", "str", "h", 2),
    ("_s", "ldr", "str", "s", 4),
    ("_d", "ldr", "str", "d", 8),
    ("_q", "ldr", "str", "q", 16),
)


def _memory() -> list[Form]:
    out: list[Form] = []
    for suffix, load, store, kind, size in _ACCESSES:
        scale = size.bit_length() - 1
        amount = f" #{scale}" if scale else ""
        for op in filter(None, (load, store)):
            name = op[:3] + suffix
            unscaled = op[:2] + "ur" + op[3:]
            scaled = f"u12*{size}" if size > 1 else "u12"
            out.append(Form(f"{name}_rm", f"{op} {{0}}, [{{1}}, #{{2}}]", (kind, "xs", scaled)))
            out.append(Form(f"{name}_ru", f"{unscaled} {{0}}, [{{1}}, #{{2}}]", (kind, "xs", "s9")))
            out.append(Form(f"{name}_pre", f"{op} {{0}}, [{{1}}, #{{2}}]!", (kind, "xs", "s9")))
            out.append(Form(f"{name}_post", f"{op} {{0}}, [{{1}}], #{{2}}", (kind, "xs", "s9")))
            for letter, index, extend in (("x", "x", "lsl"), ("w", "w", "uxtw"), ("s", "w", "sxtw")):
                plain = "" if extend == "lsl" else f", {extend}"
                out.append(Form(f"{name}_r{letter}1", f"{op} {{0}}, [{{1}}, {{2}}{plain}]", (kind, "xs", index)))
                if scale:
                    text = f"{op} {{0}}, [{{1}}, {{2}}, {extend}{amount}]"
                    out.append(Form(f"{name}_r{letter}", text, (kind, "xs", index)))
    for suffix, kind, size in (("32", "w", 4), ("64", "x", 8), ("_s", "s", 4), ("_d", "d", 8), ("_q", "q", 16)):
        for op in ("ldp", "stp"):
            offset = f"s7*{size}"
            out.append(Form(f"{op}{suffix}_rrm", f"{op} {{0}}, {{1}}, [{{2}}, #{{3}}]", (kind, kind, "xs", offset)))
            out.append(Form(f"{op}{suffix}_pre", f"{op} {{0}}, {{1}}, [{{2}}, #{{3}}]!", (kind, kind, "xs", offset)))
            out.append(Form(f"{op}{suffix}_post", f"{op} {{0}}, {{1}}, [{{2}}], #{{3}}", (kind, kind, "xs", offset)))
    for width, kind in (("b", "w"), ("h", "w"), ("", "w"), ("", "x")):
        bits = {"x": "64", "w": "32"}[kind]
        out += [
            Form(f"{op}{width}{bits}_rm", f"{op}{width} {{0}}, [{{1}}]", (kind, "xs"))
            for op in ("ldar", "stlr", "ldxr", "ldaxr")
        ]
        out += [
            Form(f"{op}{width}{bits}_rrm", f"{op}{width} {{0}}, {{1}}, [{{2}}]", ("w", kind, "xs"))
            for op in ("stxr", "stlxr")
        ]
    return out


def _scalar_float() -> list[Form]:
    out: list[Form] = []
    for f in ("s", "d"):
        out += [
            Form(f"{op}_{f}_rrr", f"{op} {{0}}, {{1}}, {{2}}", (f, f, f))
            for op in ("fadd", "fsub", "fmul", "fdiv", "fnmul", "fmin", "fmax", "fminnm", "fmaxnm", "fabd")
        ]
        out += [
            Form(f"{op}_{f}_rr", f"{op} {{0}}, {{1}}", (f, f))
            for op in ("fmov", "fabs", "fneg", "fsqrt", *(f"frint{mode}" for mode in "nmpzaxi"))
        ]
        out += [
            Form(f"{op}_{f}_rrrr", f"{op} {{0}}, {{1}}, {{2}}, {{3}}", (f, f, f, f))
            for op in ("fmadd", "fmsub", "fnmadd", "fnmsub")
        ]
        for op in ("fcmp", "fcmpe"):
            out.append(Form(f"{op}_{f}_rr", f"{op} {{0}}, {{1}}", (f, f)))
            out.append(Form(f"{op}_{f}_r0", f"{op} {{0}}, #0.0", (f,)))
        out.append(Form(f"fcsel_{f}_rrrc", "fcsel {0}, {1}, {2}, {3}", (f, f, f, "cc")))
        out.append(Form(f"fccmp_{f}_rric", "fccmp {0}, {1}, #{2}, {3}", (f, f, "u4", "cc")))
        out.append(Form(f"fmov_{f}_ri", "fmov {0}, #{1}", (f, "f8")))
        for bits, r in (("32", "w"), ("64", "x")):
            out += [Form(f"{op}_{f}_r{bits}", f"{op} {{0}}, {{1}}", (f, r)) for op in ("scvtf", "ucvtf")]
            out += [
                Form(f"{op}{bits}_r{f}", f"{op} {{0}}, {{1}}", (r, f))
                for op in (
                    "fcvtzs",
                    "fcvtzu",
                    "fcvtns",
                    "fcvtms",
                    "fcvtps",
                    "fcvtas",
                    "fcvtnu",
                    "fcvtmu",
                    "fcvtpu",
                    "fcvtau",
                )
            ]
    out += [Form("fcvt_sd_rr", "fcvt {0}, {1}", ("s", "d")), Form("fcvt_ds_rr", "fcvt {0}, {1}", ("d", "s"))]
    out += [Form("fcvt_hs_rr", "fcvt {0}, {1}", ("h", "s")), Form("fcvt_sh_rr", "fcvt {0}, {1}", ("s", "h"))]
    for f, r, bits in (("s", "w", "32"), ("d", "x", "64")):
        out += [Form(f"fmov{bits}_r{f}", "fmov {0}, {1}", (r, f)), Form(f"fmov{bits}_{f}r", "fmov {0}, {1}", (f, r))]
    return out


_ALL: Final = ("8b", "16b", "4h", "8h", "2s", "4s", "2d")
_INTEGERS: Final = ("16b", "8h", "4s", "2d")
_FLOATS: Final = ("2s", "4s", "2d")
_ELEMENT_BITS: Final = {"b": 8, "h": 16, "s": 32, "d": 64}


def _same(op: str, arrangement: str) -> Form:
    text = f"{op} {{0}}.{arrangement}, {{1}}.{arrangement}, {{2}}.{arrangement}"
    return Form(f"{op}_{arrangement}_rrr", text, ("v", "v", "v"))


def _pair(op: str, arrangement: str) -> Form:
    return Form(f"{op}_{arrangement}_rr", f"{op} {{0}}.{arrangement}, {{1}}.{arrangement}", ("v", "v"))


def _vector() -> list[Form]:
    out: list[Form] = []
    for op in ("and", "orr", "eor", "bic", "orn", "bsl", "bit", "bif"):
        out += [_same(op, "8b"), _same(op, "16b")]
    for op in (
        "add",
        "sub",
        "cmeq",
        "cmgt",
        "cmge",
        "cmhi",
        "cmhs",
        "cmtst",
        "addp",
        "sshl",
        "ushl",
        "sqadd",
        "uqadd",
        "sqsub",
        "uqsub",
        "zip1",
        "zip2",
        "uzp1",
        "uzp2",
        "trn1",
        "trn2",
    ):
        out += [_same(op, arrangement) for arrangement in _ALL]
    for op in (
        "mul",
        "mla",
        "mls",
        "smin",
        "smax",
        "umin",
        "umax",
        "sminp",
        "smaxp",
        "uminp",
        "umaxp",
        "sabd",
        "uabd",
        "shadd",
        "uhadd",
        "srhadd",
        "urhadd",
    ):
        out += [_same(op, arrangement) for arrangement in _ALL[:-1]]
    out += [_same("sqrdmulh", arrangement) for arrangement in ("4h", "8h", "2s", "4s")]
    for op in (
        "fadd",
        "fsub",
        "fmul",
        "fdiv",
        "fmin",
        "fmax",
        "fminnm",
        "fmaxnm",
        "fcmeq",
        "fcmgt",
        "fcmge",
        "fmla",
        "fmls",
        "faddp",
        "fabd",
    ):
        out += [_same(op, arrangement) for arrangement in _FLOATS]
    for op in (
        "fabs",
        "fneg",
        "fsqrt",
        "fcvtzs",
        "fcvtzu",
        "fcvtns",
        "scvtf",
        "ucvtf",
        *(f"frint{m}" for m in "nmpzaxi"),
    ):
        out += [_pair(op, arrangement) for arrangement in _FLOATS]
    for op in ("abs", "neg"):
        out += [_pair(op, arrangement) for arrangement in _ALL]
    out += [_pair(op, arrangement) for op in ("mvn", "cnt", "rbit") for arrangement in ("8b", "16b")]
    for op in ("cmeq", "cmgt", "cmge", "cmlt", "cmle"):
        out += [Form(f"{op}_{a}_r0", f"{op} {{0}}.{a}, {{1}}.{a}, #0", ("v", "v")) for a in _INTEGERS]
    for op in ("addv", "smaxv", "sminv", "umaxv", "uminv"):
        out += [Form(f"{op}_{a}_rr", f"{op} {{0}}, {{1}}.{a}", (a[-1], "v")) for a in ("8b", "16b", "4h", "8h", "4s")]
    for narrow, wide in (("8b", "8h"), ("4h", "4s"), ("2s", "2d")):
        full = {"8b": "16b", "4h": "8h", "2s": "4s"}[narrow]
        for op in ("xtn", "sqxtn", "uqxtn", "sqxtun"):
            out.append(Form(f"{op}_{narrow}_rr", f"{op} {{0}}.{narrow}, {{1}}.{wide}", ("v", "v")))
            out.append(Form(f"{op}2_{full}_rr", f"{op}2 {{0}}.{full}, {{1}}.{wide}", ("v", "v")))
        for op in ("sxtl", "uxtl"):
            out.append(Form(f"{op}_{wide}_rr", f"{op} {{0}}.{wide}, {{1}}.{narrow}", ("v", "v")))
            out.append(Form(f"{op}2_{wide}_rr", f"{op}2 {{0}}.{wide}, {{1}}.{full}", ("v", "v")))
        for op in ("smull", "umull", "saddl", "uaddl", "ssubl", "usubl", "smlal", "umlal"):
            out.append(Form(f"{op}_{wide}_rrr", f"{op} {{0}}.{wide}, {{1}}.{narrow}, {{2}}.{narrow}", ("v", "v", "v")))
            out.append(Form(f"{op}2_{wide}_rrr", f"{op}2 {{0}}.{wide}, {{1}}.{full}, {{2}}.{full}", ("v", "v", "v")))
    for a, wide in (("16b", "8h"), ("8h", "4s"), ("4s", "2d")):
        out += [Form(f"{op}_{wide}_rr", f"{op} {{0}}.{wide}, {{1}}.{a}", ("v", "v")) for op in ("saddlp", "uaddlp")]
    out += [
        Form(f"{op}_{to}_rr", f"{op} {{0}}.{to}, {{1}}.{source}", ("v", "v"))
        for op, to, source in (("fcvtl", "2d", "2s"), ("fcvtn", "2s", "2d"))
    ]
    for a in _INTEGERS:
        bits = _ELEMENT_BITS[a[-1]]
        width = bits.bit_length() - 1
        out.append(Form(f"shl_{a}_rri", f"shl {{0}}.{a}, {{1}}.{a}, #{{2}}", ("v", "v", f"u{width}")))
        out += [
            Form(f"{op}_{a}_rri", f"{op} {{0}}.{a}, {{1}}.{a}, #{{2}}", ("v", "v", f"r{bits}"))
            for op in ("sshr", "ushr", "ssra", "usra")
        ]
        e, r = a[-1], "x" if bits == 64 else "w"
        lanes = f"u{7 - width}"
        out.append(Form(f"dup_{a}_rr", f"dup {{0}}.{a}, {{1}}", ("v", r)))
        out.append(Form(f"dup_{a}_rl", f"dup {{0}}.{a}, {{1}}.{e}[{{2}}]", ("v", "v", lanes)))
        out.append(Form(f"ins_{e}_lr", f"ins {{0}}.{e}[{{1}}], {{2}}", ("v", lanes, r)))
        out.append(Form(f"ins_{e}_ll", f"ins {{0}}.{e}[{{1}}], {{2}}.{e}[{{3}}]", ("v", lanes, "v", lanes)))
        out.append(Form(f"umov_{e}_rl", f"umov {{0}}, {{1}}.{e}[{{2}}]", (r, "v", lanes)))
        if bits < 32:
            out.append(Form(f"smov32_{e}_rl", f"smov {{0}}, {{1}}.{e}[{{2}}]", ("w", "v", lanes)))
        out.append(Form(f"ld1r_{a}_rm", f"ld1r {{{{ {{0}}.{a} }}}}, [{{1}}]", ("v", "xs")))
        out += [Form(f"{op}_{a}_rm", f"{op} {{{{ {{0}}.{a} }}}}, [{{1}}]", ("v", "xs")) for op in ("ld1", "st1")]
    out += [Form("ext_16b_rrri", "ext {0}.16b, {1}.16b, {2}.16b, #{3}", ("v", "v", "v", "u4"))]
    out += [Form("tbl_16b_rrr", "tbl {0}.16b, {{ {1}.16b }}, {2}.16b", ("v", "v", "v"))]
    out += [Form("tbx_16b_rrr", "tbx {0}.16b, {{ {1}.16b }}, {2}.16b", ("v", "v", "v"))]
    for a in ("4s", "2d"):
        out += [_pair(op, a) for op in ("rev64",) if a == "4s"]
        out += [Form(f"fcmeq_{a}_r0", f"fcmeq {{0}}.{a}, {{1}}.{a}, #0.0", ("v", "v"))]
    return out


def aarch64_forms() -> list[Form]:
    """The whole table, in order."""
    return [*_integer(), *_memory(), *_scalar_float(), *_vector()]
