"""Proves that the bytes of a function do what its allocation says, as far as moves, registers, slots and ways go.

Requires: a Func, its Allocation (proved by checker_places), what emission left. Leaves: the trap sites and return
addresses that the bytes have, each with its step and the registers that the step has changed until then. Raises:
CheckError.

What an operation computes is not proved here (tests run it); that it reads its operands' places, writes nothing but its
result, its scratch registers and what it declares, and stores its result where others look for it, is.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from trapline.asm.disassemble import disassemble
from trapline.compile.allocate import SLOT, Allocation, Machine, Step
from trapline.compile.checker_ssa import CheckError
from trapline.compile.ir import Func, Op
from trapline.compile.libcalls import INLINE
from trapline.compile.x86_64.decoded import Effect, Memory, effect_of
from trapline.compile.x86_64.emit import Emitted
from trapline.compile.x86_64.layout import FLOAT_SCRATCH, RESULT_WORD, SCRATCH, STACK_WORD
from trapline.wasm.types import F32, F64, I32

__all__ = ["Site", "check_code"]

_RSP, _RBP, _R14, _R15 = 4, 5, 14, 15
_SCRATCHES: Final = 1 << SCRATCH | 1 << (16 + FLOAT_SCRATCH)
_CALL_TRAPS: Final = ["undefined element", "uninitialized element", "indirect call type mismatch"]
_CONDITIONS: Final = {0: "e", 1: "ne", 2: "l", 3: "b", 4: "g", 5: "a", 6: "le", 7: "be", 8: "ge", 9: "ae"}
"""Of the ten integer comparisons in the order of their opcodes."""
_OPPOSITES: Final = {
    "e": "ne", "ne": "e", "l": "ge", "ge": "l", "b": "ae", "ae": "b", "g": "le", "le": "g", "a": "be", "be": "a",
}  # fmt: skip


class Site(NamedTuple):
    """An instruction that may trap, or a return address, as the bytes have it.

    `block`, `step`: -1 in the function's first instructions. `kinds`: what its row may say. `written`: registers that
    the step has written before, as bits; all of them at a return address.
    """

    offset: int
    block: int
    step: int
    kinds: tuple[str, ...]
    written: int


class _CodeCheck:
    def __init__(self, func: Func, allocation: Allocation, emitted: Emitted, machine: Machine) -> None:
        self._func = func
        self._allocation = allocation
        self._emitted = emitted
        self._machine = machine
        self._at: dict[int, int] = {}
        """Offset -> index of the instruction there."""
        self._offsets: list[int] = []
        self._effects: list[Effect] = []
        self._block = self._step = -1
        self._pos = -1
        self._late_traps: dict[int, tuple[int, int, int, int]] = {}
        """Offset of a hlt out of line -> (block, step, registers written, which trap of its step)."""
        self._late_edges: dict[int, tuple[int, int, int]] = {}
        """Start of moves out of line -> (stop, block, edge)."""
        self.sites: dict[tuple[int, bool], Site] = {}

    def _fail(self, what: str, offset: int = -1, found: object = None, expected: object = None) -> CheckError:
        return CheckError(
            self._func.index,
            what,
            block=self._block,
            opcode=self._pos,
            offset=offset,
            found=found,
            expected=expected,
        )

    def run(self) -> dict[tuple[int, bool], Site]:
        emitted, func = self._emitted, self._func
        for instruction in disassemble(emitted.code[: emitted.data_start], arch="x86_64"):
            self._at[instruction.address] = len(self._offsets)
            self._offsets.append(instruction.address)
            try:
                self._effects.append(effect_of(instruction))
            except KeyError:
                raise self._fail(
                    "an instruction that emission does not make", instruction.address, instruction.text
                ) from None
        self._at[emitted.data_start] = len(self._offsets)
        self._offsets.append(emitted.data_start)
        self._prologue()
        for number in range(len(func.blocks)):
            self._block = number
            self._check_block(number)
        self._block = self._step = self._pos = -1
        self._behind()
        return self.sites

    def _range(self, start: int, stop: int) -> range:
        """Indices of the instructions in [start, stop)."""
        first, last = self._at.get(start, -1), self._at.get(stop, -1)
        if first < 0 or last < first:
            raise self._fail("not on the boundary of an instruction", start if first < 0 else stop)
        return range(first, last)

    # ---- places as memory ----

    def _memory(self, place: int) -> tuple[int, int]:
        """(base, displacement); must match Moves.memory."""
        if place < STACK_WORD:
            return _RBP, -8 * (place - SLOT + 2)
        if place < RESULT_WORD:
            return _RSP, 8 * (place - STACK_WORD)
        return _RBP, 16 + 8 * (place - RESULT_WORD)

    def _is_at(self, memory: Memory | None, place: int) -> bool:
        return memory is not None and memory.scaled < 0 and (memory.base, memory.displacement) == self._memory(place)

    def _is_store(self, effect: Effect, place: int, register: int, value: int) -> bool:
        """Whether an instruction stores a register, as wide as the value is."""
        memory = effect.memory
        return (
            memory is not None
            and self._is_at(memory, place)
            and memory.writes
            and not memory.reads
            and memory.access_bytes == (4 if self._func.type[value] in (I32, F32) else 8)
            and effect.registers[-1] == register
        )

    def _is_load(self, effect: Effect, place: int, register: int, value: int) -> bool:
        memory = effect.memory
        return (
            memory is not None
            and self._is_at(memory, place)
            and memory.reads
            and effect.mnemonic in ("mov", "movss", "movsd")
            and memory.access_bytes == (4 if self._func.type[value] in (I32, F32) else 8)
            and effect.registers[0] == register
        )

    # ---- the function's first instructions ----

    def _prologue(self) -> None:
        emitted, func = self._emitted, self._func
        indices = iter(self._range(0, emitted.block_offsets[0]))
        slots_bytes = 8 * (1 + self._allocation.slot_count)
        for at in indices:
            effect = self._effects[at]
            if effect.mnemonic != "test":
                break
            memory = effect.memory
            if memory is None or memory.base != _RSP:
                raise self._fail("a touch of something else than the stack", self._offsets[at])
            self._site(self._offsets[at], ("stack",), 0)
        frame = [
            self._effects[at],
            self._effects[next(indices)],
            self._effects[next(indices)],
            self._effects[next(indices)],
        ]
        made = (
            frame[0].mnemonic == "push"
            and frame[0].registers == (_RBP,)
            and frame[1].mnemonic == "mov"
            and frame[1].registers == (_RBP, _RSP)
            and frame[2].mnemonic == "sub"
            and frame[2].registers[0] == _RSP
            and frame[3].memory == Memory(_RBP, -1, -8, 8, True, False)
            and frame[3].registers[-1] == _R15
        )
        if not made or not self.sites or (frame[2].immediate or 0) < slots_bytes:
            raise self._fail("the first instructions make the frame", self._offsets[at], frame, slots_bytes)
        params = func.blocks[0].params
        places = self._machine.parameter_places([func.type[param] for param in params])
        for param, place in zip(params, places, strict=True):
            slot = self._allocation.slot[param]
            if slot < 0:
                continue
            if place >= STACK_WORD:
                register = 16 + FLOAT_SCRATCH if func.type[param] in (F32, F64) else SCRATCH
                effect = self._effects[next(indices, -1)]
                if effect.memory is None or effect.memory[:3] != (_RBP, -1, 16 + 8 * (place - STACK_WORD)):
                    raise self._fail(f"load of parameter {param}", 0, effect, place)
                place = register
            effect = self._effects[next(indices, -1)]
            if not self._is_store(effect, SLOT + slot, place, param):
                raise self._fail(f"store of parameter {param} to its slot", 0, effect, slot)
        if next(indices, None) is not None:
            raise self._fail("more in front of the first block than a frame and parameters")

    # ---- blocks ----

    def _check_block(self, number: int) -> None:
        func, allocation, emitted = self._func, self._allocation, self._emitted
        block, steps, marks = func.blocks[number], allocation.steps[number], emitted.step_offsets[number]
        self._step, self._pos = -1, block.start_pos
        if len(marks) != len(steps) + 1:
            raise self._fail("offsets of steps", -1, len(marks), len(steps) + 1)
        stop = emitted.block_offsets[number + 1] if number + 1 < len(func.blocks) else marks[-1]
        if marks[-1] != stop or emitted.block_offsets[number] > marks[0]:
            raise self._fail("a block's steps lie between its start and the next block's", marks[-1], marks[-1], stop)
        indices = self._range(emitted.block_offsets[number], marks[0])
        stores = list(indices)
        if number:
            for param, place in zip(block.params, allocation.param_places[number], strict=True):
                slot = allocation.slot[param]
                if slot >= 0 and place != SLOT + slot and param not in allocation.delivered:
                    if not stores or not self._is_store(self._effects[stores[0]], SLOT + slot, place, param):
                        raise self._fail(f"store of parameter {param} to its slot", emitted.block_offsets[number])
                    stores.pop(0)
        if stores:
            raise self._fail("more than stores in front of a block's first step", self._offsets[stores[0]])
        for index, step in enumerate(steps):
            self._step, self._pos = index, func.pos[step.value]
            inside = self._range(marks[index], marks[index + 1])
            if step.kind != 2:
                if not inside and self._joins(number, index, step):
                    continue
                if self._move(inside, step) != inside.stop:
                    raise self._fail("more than a move", marks[index], len(inside))
            elif func.op[step.value] in (Op.JUMP, Op.BRANCH, Op.SWITCH):
                self._terminator(number, inside, step)
            else:
                self._operation(inside, step)

    def _joins(self, number: int, index: int, step: Step) -> bool:
        """Whether a move without bytes is part of the next instruction, which then reads the move's source."""
        if step.kind == 0 and step.ins[0] == step.out:
            return True
        following = self._allocation.steps[number][index + 1]
        if step.kind != 0 or following.kind != 2 or following.out != step.out or following.ins[0] != step.out:
            return False
        marks = self._emitted.step_offsets[number]
        inside = self._range(marks[index + 1], marks[index + 2])
        if not inside:
            return False
        effect = self._effects[inside[0]]
        reads = set(effect.registers[1:])
        if effect.memory is not None:
            reads |= {effect.memory.base, effect.memory.scaled}
        return (
            effect.registers[0] == step.out
            and step.ins[0] in reads
            and step.out not in reads - {step.ins[0], *following.ins[1:]}
        )

    def _move(self, inside: range, step: Step) -> int:
        """Proves that the instructions begin with a move or constant; the index behind it."""
        func = self._func
        value = step.value
        floating = func.type[value] in (F32, F64)
        own = 16 + FLOAT_SCRATCH if floating else SCRATCH
        other = SCRATCH if floating else 16 + FLOAT_SCRATCH
        out = own if step.out == -2 else step.out
        at = inside.start
        effects = self._effects[at : inside.stop]
        good = False
        if step.kind == 1:
            count = self._constant(effects, value, out)
            good = count > 0
        else:
            source = own if step.ins[0] == -2 else step.ins[0]
            count = 1
            if source == out:
                return at
            if not effects:
                raise self._fail(f"no move of value {value}", self._offsets[at], None, step)
            if source < 32 and out < 32:
                first = effects[0]
                least_bytes = 4 if func.type[value] == I32 else 8
                good = (
                    first.registers == (out, source)
                    and first.mnemonic in ("mov", "movaps")
                    and first.width_bytes >= least_bytes
                )
            elif source < 32:
                good = self._is_store(effects[0], out, source, value)
            elif out < 32:
                good = self._is_load(effects[0], source, out, value)
            else:
                count = 2
                good = (
                    len(effects) >= 2
                    and self._is_load(effects[0], source, other, value)
                    and self._is_store(effects[1], out, other, value)
                )
        if not good:
            raise self._fail(f"a move of value {value}", self._offsets[at], [effect[:5] for effect in effects], step)
        return at + count

    def _constant(self, effects: list[Effect], value: int, out: int) -> int:
        """How many instructions put a constant into a place; 0: they do not."""
        func = self._func
        bits = func.imm[value]
        assert isinstance(bits, int)
        if not effects:
            return 0
        first = effects[0]
        narrow = func.type[value] in (I32, F32)
        mask = 0xFFFF_FFFF if narrow else (1 << 64) - 1
        if out < 32:
            if first.registers[:1] != (out,):
                return 0
            if first.mnemonic in ("xor", "xorps"):
                return int(bits == 0 and first.registers == (out, out))
            if first.immediate is not None:
                return int(first.mnemonic in ("mov", "movabs") and first.immediate & mask == bits)
            return int(out >= 16 and first.memory is not None and first.memory.base == -2)
        if first.memory is not None:
            return int(
                self._is_at(first.memory, out) and first.immediate is not None and first.immediate & mask == bits
            )
        second = effects[1] if len(effects) > 1 else None
        good = (
            first.registers[:1] == (SCRATCH,)
            and first.immediate is not None
            and first.immediate & mask == bits
            and second is not None
            and self._is_store(second, out, SCRATCH, value)
        )
        return 2 if good else 0

    # ---- operations ----

    def _operation(self, inside: range, step: Step) -> None:
        func, value = self._func, step.value
        op = func.op[value]
        shape = self._machine.shape(func, value)
        allowed = _SCRATCHES
        if step.out >= 0:
            allowed |= 1 << step.out
        for register in shape.clobbers:
            allowed |= 1 << register
        slot = self._allocation.slot[value] if step.out >= 0 else -1
        last = inside.stop - 1 if slot >= 0 and step.out != SLOT + slot else inside.stop
        if last < inside.stop and (not inside or not self._is_store(self._effects[last], SLOT + slot, step.out, value)):
            raise self._fail(f"store of value {value} to its slot", self._offsets[inside.stop], None, slot)
        calls = op in (Op.CALL, Op.CALL_INDIRECT)
        written, trap = 0, 0
        for at in range(inside.start, last):
            effect, offset = self._effects[at], self._offsets[at]
            if effect.branch == 3:
                if not shape.call:
                    raise self._fail("a call", offset)
                self._site(self._offsets[at + 1], ("call",), (1 << 32) - 1)
                written = (1 << 32) - 1
                continue
            self._access(effect, offset, step, op)
            trap = self._trap_at(effect, offset, op, written, trap, inside)
            kept = 0
            if calls:  # the callee's instance, and back to ours
                kept = 1 << _R14 | 1 << _R15
            elif op == Op.RETURN:
                kept = 1 << _RSP | 1 << _RBP
            if effect.writes & ~(allowed | kept):
                found = [number for number in range(32) if effect.writes & ~(allowed | kept) >> 0 & 1 << number]
                raise self._fail(f"value {value} writes registers", offset, found, step.out)
            written |= effect.writes
        if calls and not written & 1:
            raise self._fail("no call", self._offsets[inside.start])

    def _access(self, effect: Effect, offset: int, step: Step, op: int) -> None:
        """Memory of the frame that an operation may touch: its operands in slots, and words of results."""
        memory = effect.memory
        if memory is None or memory.base not in (_RBP, _RSP) or effect.mnemonic == "leave":
            return
        if memory.writes:
            raise self._fail("a write to the frame", offset, memory)
        if memory.base == _RBP and memory.displacement == -8 and op in (Op.CALL, Op.CALL_INDIRECT):
            return
        if op == Op.RESULT and memory.base == _RSP:
            return
        if not any(place >= SLOT and self._is_at(memory, place) for place in step.ins):
            raise self._fail("a read of the frame", offset, memory, step.ins)

    def _site(self, offset: int, kinds: tuple[str, ...], written: int) -> None:
        key = offset, kinds == ("call",)
        if key in self.sites:
            raise self._fail("two trap sites at one offset", offset)
        self.sites[key] = Site(offset, self._block, self._step, kinds, written)

    def _trap_at(self, effect: Effect, offset: int, op: int, written: int, trap: int, inside: range) -> int:
        """Trap sites of an instruction; how many traps of its step there are out of line by now."""
        memory = effect.memory
        if memory is not None and _R14 in (memory.base, memory.scaled):
            self._site(offset, ("memory",), written)
        if effect.mnemonic in ("div", "idiv"):
            self._site(offset, ("division",), written)
        elif effect.mnemonic == "hlt":
            self._site(offset, ("unreachable",), written)
        elif effect.branch:
            target = effect.target
            if target in self._at and target >= self._code_stop:
                self._late_traps[target] = self._block, self._step, written, trap
                return trap + 1
            if not self._offsets[inside.start] <= target <= self._offsets[inside.stop]:
                raise self._fail("a jump out of its step", offset, target)
        return trap

    @property
    def _code_stop(self) -> int:
        """Where the blocks end, and code out of line begins."""
        return self._emitted.step_offsets[-1][-1]

    # ---- ways out of a block ----

    def _terminator(self, number: int, inside: range, step: Step) -> None:
        """Where the jumps of a block's end lead, and that nothing but moves of an edge and jumps is there."""
        func, emitted = self._func, self._emitted
        edges = func.blocks[number].edges
        stop = emitted.step_offsets[number][-1]
        leads: dict[int, list[int]] = {}
        """Offset -> the edges that begin there."""
        falls: list[int] = []
        for way, (edge, (start, end)) in enumerate(zip(edges, emitted.edge_offsets[number], strict=True)):
            target = emitted.block_offsets[edge.target]
            moves = self._allocation.edge_moves[number][way]
            if start >= self._code_stop and end > start:
                self._late_edges[start] = end, number, way
                leads.setdefault(start, []).append(way)
            elif end > start or end == stop:
                if end != stop and end > start:
                    raise self._fail(f"edge {way} in line is the end of its block", start, end, stop)
                if end > start or (not moves and target == stop and self._falls(inside)):
                    self._edge(number, way, start, end)
                    falls.append(way)
                    leads.setdefault(start, []).append(way)
                else:
                    leads.setdefault(target, []).append(way)
            elif moves:
                raise self._fail(f"edge {way} makes moves", start)
            else:
                leads.setdefault(target, []).append(way)
        begins = min([emitted.edge_offsets[number][way][0] for way in falls], default=stop)
        before = self._range(self._offsets[inside.start], begins)
        reached = set(falls)
        for at in before:
            effect, offset = self._effects[at], self._offsets[at]
            if effect.writes & ~(_SCRATCHES | self._clobbers(step)):
                raise self._fail("a branch writes registers", offset, effect.writes)
            self._access(effect, offset, step, Op.BRANCH)
            if not effect.branch:
                continue
            if effect.target < 0:
                reached |= self._table(number, before, leads)
            elif effect.target in leads:
                reached |= set(leads[effect.target])
                if func.op[step.value] == Op.BRANCH:
                    self._polarity(effect, offset, step, leads[effect.target])
            elif not self._offsets[inside.start] <= effect.target <= stop:
                raise self._fail("a jump to where no edge leads", offset, effect.target, sorted(leads))
        if reached != set(range(len(edges))):
            raise self._fail("edges that the code takes", self._offsets[inside.start], sorted(reached), len(edges))

    def _clobbers(self, step: Step) -> int:
        out = 0
        for register in self._machine.shape(self._func, step.value).clobbers:
            out |= 1 << register
        return out

    def _falls(self, inside: range) -> bool:
        """Whether control can come to the end of a step."""
        return not inside or self._effects[inside.stop - 1].branch != 1

    def _polarity(self, effect: Effect, offset: int, step: Step, ways: list[int]) -> None:
        compared = self._func.imm[step.value]
        if compared is None:
            holds = "ne"
        elif compared in (0x45, 0x50):
            holds = "e"
        else:
            assert isinstance(compared, int)
            holds = _CONDITIONS[compared - (0x51 if compared >= 0x51 else 0x46)]
        if effect.branch == 2:
            taken = effect.mnemonic[1:]
            if not ((taken == holds and 0 in ways) or (taken == _OPPOSITES[holds] and 1 in ways)):
                raise self._fail("a branch goes the other way", offset, effect.mnemonic, (holds, ways))

    def _table(self, number: int, before: range, leads: dict[int, list[int]]) -> set[int]:
        """Edges that a jump table leads along."""
        func, code = self._func, self._emitted.code
        step = self._allocation.steps[number][-1]
        start = -1
        for at in before:
            effect = self._effects[at]
            if effect.mnemonic == "lea" and effect.memory is not None and effect.memory.base == -2:
                start = self._offsets[at + 1] + effect.memory.displacement
        if start < self._emitted.data_start:
            raise self._fail("a jump through no table", self._offsets[before.start], step)
        found = set()
        for way in range(len(func.blocks[number].edges) - 1):
            entry = int.from_bytes(code[start + 4 * way : start + 4 * way + 4], "little", signed=True)
            if way not in leads.get(start + entry, ()):
                raise self._fail(f"entry {way} of a jump table", start + 4 * way, start + entry, sorted(leads))
            found.add(way)
        return found

    def _edge(self, number: int, way: int, start: int, stop: int) -> None:
        """Moves of an edge and the jump behind them, or nothing where control falls through."""
        inside = self._range(start, stop)
        at = inside.start
        for step in self._allocation.edge_moves[number][way]:
            at = self._move(range(at, inside.stop), step)
        target = self._emitted.block_offsets[self._func.blocks[number].edges[way].target]
        if at == inside.stop:
            if stop != target:
                raise self._fail(f"edge {way} falls through", stop, stop, target)
        elif at + 1 != inside.stop or self._effects[at].branch != 1 or self._effects[at].target != target:
            raise self._fail(f"edge {way} ends in a jump", self._offsets[at], self._effects[at], target)

    # ---- behind the last block ----

    def _behind(self) -> None:
        """Every byte between the last block and the data is an edge's or a trap's."""
        at, stop = self._code_stop, self._emitted.data_start
        while at < stop:
            edge = self._late_edges.get(at)
            trap = self._late_traps.get(at)
            if edge is not None:
                end, self._block, way = edge
                self._edge(self._block, way, at, end)
                at = end
            elif trap is not None:
                self._block, self._step, written, which = trap
                if self._effects[self._at[at]].mnemonic != "hlt":
                    raise self._fail("a trap", at, self._effects[self._at[at]].mnemonic, "hlt")
                self._site(at, self._kinds(which), written)
                at = self._offsets[self._at[at] + 1]
            else:
                raise self._fail("code that nothing leads to", at)

    def _kinds(self, which: int) -> tuple[str, ...]:
        """What the rows of a trap out of line may say."""
        func = self._func
        value = self._allocation.steps[self._block][self._step].value
        op, imm = func.op[value], func.imm[value]
        if op == Op.CALL_INDIRECT:
            return (_CALL_TRAPS[which],)
        if op == Op.LIBCALL:
            assert isinstance(imm, tuple)
            return ("table bounds",) if imm[0] in INLINE or imm[0] >= 0xFC0C else ("memory bounds",)
        if 0x28 <= op <= 0x3E:
            return ("memory bounds",)
        return ("truncation 64",) if op in (0xAA, 0xAB, 0xB0, 0xB1) else ("truncation 32",)


def check_code(func: Func, allocation: Allocation, emitted: Emitted, machine: Machine) -> dict[tuple[int, bool], Site]:
    """The trap sites and return addresses of a function, by offset and whether it is the latter, once its bytes are
    proved."""
    return _CodeCheck(func, allocation, emitted, machine).run()
