"""Images, copies, patches and breakpoints given bad places, sizes, code and moments."""

from __future__ import annotations

import ctypes
import gc
import platform
import threading
from collections.abc import Callable
from typing import Any

import pytest

import trapline
from tests.conftest import RunPython
from trapline import CodeError, CodeImage, NativeError, TraplineError, assemble

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the machine code here is x86-64")

RETURN_7 = bytes.fromhex("b807000000c3")
HUGE = [-1, -(2**63), 2**47, 2**63, 2**64 - 1, 2**64, 2**200]
NO_INTEGER: list[Any] = [None, 1.5, "1", b"1", [], (1,), object]


@pytest.fixture
def image() -> CodeImage:
    return CodeImage(assemble("a: mov eax, 7\nb: ret"), name="image")


@pytest.mark.parametrize("capacity", [0, *HUGE, *NO_INTEGER[1:]], ids=repr)
def test_capacity(capacity: Any) -> None:
    with pytest.raises(CodeError, match=r"found .* expected an integer of 1 .. "):
        CodeImage(RETURN_7, name="image", capacity_bytes=capacity)


def test_capacity_is_full() -> None:
    """Appending over the capacity changes nothing; what fits to the last byte fits."""
    with pytest.raises(CodeError, match=r"found 6 bytes of code for a capacity of 5"):
        CodeImage(RETURN_7, capacity_bytes=5)
    image = CodeImage(RETURN_7, capacity_bytes=4096)
    copy = image.copy(breakpoints=4)
    with pytest.raises(CodeError, match=r"do not fit"):
        image.append(b"\xc3" * 4081)
    with pytest.raises(CodeError, match=r"do not fit"):
        image.append(b"\xc3", align_bytes=1 << 40)
    assert image.size_bytes == copy.size_bytes == 6
    assert image.append(b"\xc3" * 4080) == 16
    assert image.size_bytes == copy.size_bytes == 4096
    with pytest.raises(CodeError, match=r"do not fit"):
        image.append(b"\xc3", align_bytes=1)
    assert (image[0](), copy[0](), copy.function(4095, "void")()) == (7, 7, None)


@pytest.mark.parametrize("code", [5, 0, "ab", 1.5, [0xC3], (0xC3,), {}, object], ids=repr)
def test_no_code(code: Any, image: CodeImage) -> None:
    with pytest.raises(CodeError, match=r"found code of type .*, expected an Assembly or bytes"):
        CodeImage(code)
    with pytest.raises(CodeError, match=r"found code of type .*, expected an Assembly or bytes"):
        image.append(code)
    with pytest.raises(CodeError, match=r"found code of type .*, expected an Assembly or bytes"):
        image.copy(breakpoints=1).patch(0, code)


def test_empty(image: CodeImage) -> None:
    """Empty code is refused; an empty image has no place."""
    empty = CodeImage(name="empty")
    for nothing in (b"", bytearray(), memoryview(b""), assemble("")):
        with pytest.raises(CodeError, match=r"found no code to append, expected at least one byte"):
            empty.append(nothing)
    with pytest.raises(CodeError, match=r"outside code"):
        empty[0]
    with pytest.raises(CodeError, match=r"outside code"):
        empty.copy(breakpoints=1).add_breakpoint(0)
    assert empty.disassemble() == []
    assert empty.append(RETURN_7) == 0
    assert empty[0]() == 7


def test_buffers(image: CodeImage) -> None:
    """bytes, bytearray and memoryview are code; what is done to them afterwards is not."""
    data = bytearray(RETURN_7)
    images = [CodeImage(data), CodeImage(memoryview(data)), CodeImage(bytes(data))]
    data[1] = 9
    assert [one[0]() for one in images] == [7, 7, 7]


@pytest.mark.parametrize("align", [0, 3, 6, *HUGE, *NO_INTEGER], ids=repr)
def test_alignment(align: Any, image: CodeImage) -> None:
    with pytest.raises(CodeError, match=r"image: found .*align"):
        image.append(b"\xc3", align_bytes=align)


@pytest.mark.parametrize("breakpoints", [*HUGE, *NO_INTEGER], ids=repr)
def test_breakpoint_count(breakpoints: Any, image: CodeImage) -> None:
    with pytest.raises(CodeError, match=r"breakpoints, expected an integer"):
        image.copy(breakpoints=breakpoints)


def test_no_slots_left(image: CodeImage) -> None:
    """The copy says how many it has; the breakpoints that are there stay."""
    none = image.copy(breakpoints=0)
    with pytest.raises(CodeError, match=r"found 0 breakpoint slots in use"):
        none.add_breakpoint("a")
    few = CodeImage(b"\x90" * 200 + b"\xc3").copy(breakpoints=1)  # one page: 64 slots
    for offset in range(64):
        few.add_breakpoint(offset)
    with pytest.raises(CodeError, match=r"found 64 breakpoint slots in use"):
        few.add_breakpoint(64)
    assert len(few.breakpoints) == 64
    few.remove_breakpoint(0)
    few.add_breakpoint(0)
    with pytest.raises(trapline.Trap, match=r"breakpoint"):
        few[0]()


PLACES: list[Any] = ["", "c", "A", -1, 6, 7, 2**64, 2**200, -(2**200), *NO_INTEGER]


@pytest.mark.parametrize(
    "use",
    [
        lambda code, place: code[place],
        lambda code, place: code.function(place),
        lambda code, place: code.offset_of(place),
        lambda code, place: code.address_of(place),
        lambda code, place: code.read(place, 1),
        lambda code, place: code.decode(place),
        lambda code, place: code.disassemble(place),
        lambda code, place: code.around(place, 1, 1),
        lambda code, place: code.patch(place, b"\x90"),
        lambda code, place: code.add_breakpoint(place),
        lambda code, place: code.remove_breakpoint(place),
    ],
    ids="[] function offset_of address_of read decode disassemble around patch add remove".split(),
)
@pytest.mark.parametrize("place", PLACES, ids=repr)
def test_places(use: Callable[[Any, Any], object], place: Any, image: CodeImage) -> None:
    """A label that is missing or a place outside names the code, what was found and what is there."""
    with pytest.raises(CodeError, match=r"image.*found|image.*outside code"):
        use(image.copy(breakpoints=4), place)
    image.copy(breakpoints=4)["a"]()


def test_places_just_outside(image: CodeImage) -> None:
    for place in (image.base - 1, image.base + 6, image.copy(breakpoints=1).base):
        with pytest.raises(CodeError, match=r"outside code; expected an offset below 0x6"):
            image[place]
    assert image[image.base]() == image["a"]() == image[0]() == 7


@pytest.mark.parametrize("size", [-1, 7, 2**32, 2**63, 2**200, *NO_INTEGER], ids=repr)
def test_read_sizes(size: Any, image: CodeImage) -> None:
    """A size beyond the code is refused before any memory is taken for it."""
    with pytest.raises(CodeError, match=r"bytes to read, expected an integer of 0 .. 6"):
        image.read(0, size)
    assert image.read("b", 1) == b"\xc3"


def test_labels(image: CodeImage) -> None:
    """A label that is there already keeps its place, and nothing of the code is published."""
    before = image.size_bytes
    with pytest.raises(CodeError, match=r"label 'a' is there already"):
        image.append(assemble("z: nop\na: ret"))
    assert (image.size_bytes, dict(image.labels)) == (before, {"a": 0, "b": 5})


def test_other_machine() -> None:
    other = assemble("ret", arch="aarch64")
    with pytest.raises(CodeError, match=r"found code for aarch64, expected code for x86_64"):
        CodeImage(other)


def test_other_base(image: CodeImage) -> None:
    """Code laid out for an address goes there or nowhere."""
    text = "d: lea rax, [rip + d]\nret\nabsolute: .quad d"
    with pytest.raises(CodeError, match=r"found code assembled for 0x1000, expected 0 or 0x"):
        image.append(assemble(text, base=0x1000))
    here = image.base + 16
    offset = image.append(assemble(text, base=here))
    assert image.base + offset == here
    assert image["d"]() == here
    assert int.from_bytes(image.read("absolute", 8), "little") == here


def test_kinds(image: CodeImage) -> None:
    """An image is not patched, a copy is not appended to or copied: neither has the method."""
    copy = image.copy(breakpoints=4)
    for name in ("append", "copy"):
        assert not hasattr(copy, name)
    for name in ("patch", "add_breakpoint"):
        assert not hasattr(image, name)
    with pytest.raises(CodeError, match=r"never patched"):
        image._code.patch(0, b"\x90")
    with pytest.raises(CodeError, match=r"never appended to"):
        copy._code.publish(b"\x90", 1)
    with pytest.raises(CodeError, match=r"take a copy of the image"):
        copy._code.copy(4)


def test_patch_outside(image: CodeImage) -> None:
    copy = image.copy(breakpoints=4)
    for offset, code in ((5, b"\xc3\xc3"), (0, b"\x90" * 7), (0, b"\x90" * 4097)):
        with pytest.raises(CodeError, match=r"outside the published code"):
            copy.patch(offset, code)
    copy.patch(5, b"")
    assert copy.read(0, 6) == image.read(0, 6) == RETURN_7
    assert copy["a"]() == 7


def test_patch_over_a_breakpoint(image: CodeImage) -> None:
    """Over any byte of the instruction that a breakpoint displaced."""
    copy = image.copy(breakpoints=4)
    copy.add_breakpoint("a")
    for offset in range(5):
        with pytest.raises(CodeError, match=r"image .copy.: a breakpoint stands at a"):
            copy.patch(offset, b"\x01")
    copy.patch("b", b"\xc3")
    copy.remove_breakpoint("a")
    copy.patch(1, b"\x09")
    assert copy["a"]() == 9


def test_breakpoint_over_a_patch(image: CodeImage) -> None:
    """The patched instruction is what runs past the breakpoint, and what is left when that is gone."""
    copy = image.copy(breakpoints=8)
    passed = copy.function("a", handler=lambda event: None)
    for value in (9, 10, 11):
        copy.patch(1, bytes([value]))
        copy.add_breakpoint("a")
        assert passed() == value
        copy.remove_breakpoint("a")
        assert copy.read(0, 2) == bytes([0xB8, value])
        assert copy["a"]() == value
    assert image["a"]() == 7


def test_breakpoints_are_counted(image: CodeImage) -> None:
    copy = image.copy(breakpoints=4)
    assert copy.add_breakpoint("a") is copy.add_breakpoint(0)
    copy.remove_breakpoint("a")
    assert copy.read(0, 1) == b"\xcc"
    copy.remove_breakpoint("a")
    assert copy.read(0, 1) == b"\xb8"
    with pytest.raises(CodeError, match=r"found no breakpoint at a"):
        copy.remove_breakpoint("a")
    for inside in (1, 2, 3, 4):
        with pytest.raises(CodeError, match=rf"no instruction begins at a\+0x{inside}"):
            copy.add_breakpoint(inside)


def test_truncated_code() -> None:
    """Code that ends in the middle of an instruction: running into it is a trap, looking at it an error."""
    image = CodeImage(bytes.fromhex("90b807"), name="short", capacity_bytes=4096)
    with pytest.raises(trapline.Trap, match=r"short\+0x0"):
        image[0]()
    with pytest.raises(TraplineError, match=r"found|no instruction"):
        image.decode(1)
    with pytest.raises(CodeError, match=r"no instruction begins"):
        image.copy(breakpoints=1).add_breakpoint(1)
    assert len(image.disassemble()) >= 1
    event = trapline.Fiber(image.base).resume()
    assert event is not None
    assert event.report()


def test_running_off_a_full_image() -> None:
    """Behind the last page of a full image there is nothing: a fetch fault, whole or in mid-instruction."""
    for tail in (b"\x90", b"\xb8\x07", b"\x48\xb8"):
        image = CodeImage(b"\x90" * (4096 - len(tail)) + tail, capacity_bytes=4096)
        event = trapline.Fiber(image.base + 4000).resume()
        assert event is not None
        assert event.reason is trapline.StopReason.TRAP
        assert event.report()


def test_find_code(image: CodeImage) -> None:
    copy = image.copy(breakpoints=4)
    assert [trapline.find_code(code.base + at) for code in (image, copy) for at in (0, 5)] == [image, image, copy, copy]
    for address in (0, -1, image.base - 1, image.base + 6, 2**64, 2**200):
        assert trapline.find_code(address) not in (image, copy)
    base = copy.base
    del copy
    gc.collect()
    assert trapline.find_code(base) is None


@pytest.mark.parametrize("threads", [4])
def test_appending_at_the_same_time(threads: int) -> None:
    """Threads append to one image that others copy, patch and run: every label leads to its own code, once."""
    image = CodeImage(assemble("first: ret"))
    copy = image.copy(breakpoints=64)
    both = assemble("both: ret")
    won: list[int] = []
    failed: list[BaseException] = []
    barrier = threading.Barrier(threads)

    def work(number: int) -> None:
        try:
            barrier.wait()
            try:
                image.append(both)
                won.append(number)
            except CodeError:
                pass
            for index in range(60):
                image.append(b"\xb8" + (number * 1000 + index).to_bytes(4, "little") + b"\xc3")
        except BaseException as error:
            failed.append(error)

    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not failed
    assert len(won) == 1
    assert list(image.instruction_offsets) == sorted(image.instruction_offsets)
    values = [copy[offset]() for offset in image.instruction_offsets if copy.read(offset, 1) == b"\xb8"]
    assert sorted(values) == sorted(number * 1000 + index for number in range(threads) for index in range(60))


def test_address_space_is_full(run_python: RunPython) -> None:
    """Under RLIMIT_AS images, copies and fibers are refused by NativeError, and what there is still works."""
    script = """
        import resource, trapline
        image = trapline.CodeImage(bytes.fromhex("b807000000c3"))
        copy = image.copy(breakpoints=4)
        image[0]()
        size = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20),) * 2)
        refused = 0
        for attempt in (lambda: trapline.CodeImage(capacity_bytes=1 << 30), lambda: image.copy(breakpoints=1 << 24),
                        lambda: trapline.Fiber(image.base, max_stack_bytes=1 << 30)):
            try:
                attempt()
            except trapline.NativeError as error:
                assert "the system refused" in str(error), error
                refused += 1
        kept = []
        try:
            while True: kept.append(trapline.Fiber(image.base))
        except trapline.NativeError as error:
            refused += 1
        assert image[0]() == copy[0]() == 7
        kept.clear()
        copy.patch(1, b"\\x08")
        assert copy[0]() == 8
        print(refused)
    """
    run = run_python(script)
    assert (run.returncode, run.stdout) == (0, "4\n"), run


def test_no_descriptors_left(run_python: RunPython) -> None:
    """Under RLIMIT_NOFILE images and first patches are refused by NativeError; nothing is half done."""
    script = """
        import os, resource, trapline
        image = trapline.CodeImage(bytes.fromhex("b807000000c3"))
        fresh, own = image.copy(breakpoints=4), image.copy(breakpoints=4)
        own.patch(1, b"\\x08")
        image.disassemble()                         # which loads capstone
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        refused = 0
        for attempt in (lambda: trapline.CodeImage(b"\\xc3"), lambda: fresh.patch(1, b"\\x09"),
                        lambda: fresh.add_breakpoint(0), lambda: trapline.Fiber(image.base).step()):
            try:
                attempt()
            except trapline.NativeError as error:
                assert "Too many open files" in str(error), error
                refused += 1
        assert not fresh.breakpoints and fresh.read(0, 6) == image.read(0, 6)
        own.patch(1, b"\\x0a"); own.add_breakpoint(5); image.append(b"\\xc3")
        assert (image[0](), fresh[0](), own.function(0, handler=lambda event: None)()) == (7, 7, 10)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        fresh.patch(1, b"\\x09"); assert fresh[0]() == 9
        print(refused)
    """
    run = run_python(script)
    assert (run.returncode, run.stdout) == (0, "4\n"), run


@pytest.mark.parametrize("reused", [False, True])
def test_descriptors_closed_by_others(run_python: RunPython, reused: bool) -> None:
    """os.closerange(3, ...), the numbers perhaps taken by other files: an error where they are needed.

    No data of those files is ever mapped. A patch over two pages, of which one is the copy's already, is done on both
    or on neither.
    """
    script = f"""
        import os, trapline
        image = trapline.CodeImage(bytes.fromhex("b807000000c3").ljust(4096, b"\\x90") * 3)
        own, fresh = image.copy(breakpoints=4), image.copy(breakpoints=4)
        own.patch(1, b"\\x08")
        os.closerange(3, 10000)
        if {reused}:
            held = [os.memfd_create("other") for _ in range(10)]
            for fd in held: os.write(fd, b"\\xcc" * (1 << 16))
            held += [os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR) for _ in range(10)]
    """ + """
        refused = 0
        for attempt in (lambda: image.append(b"\\x90" * 5000), lambda: image.copy(), lambda: own.patch(4097, b"\\x09"),
                        lambda: own.patch(4090, b"\\x0b" * 12), lambda: own.add_breakpoint(4096)):
            try:
                attempt()
            except trapline.CodeError as error:
                assert "closed by somebody else" in str(error), error
                refused += 1
        assert own.read(4090, 12) == image.read(4090, 12)
        assert not own.breakpoints
        own.patch(1, b"\\x09"); fresh.patch(1, b"\\x0a")
        assert [own[0](), own[4096](), fresh[0](), fresh[4096](), image[0]()] == [9, 7, 10, 7, 7]
        del own, fresh, image
        import gc; gc.collect()
    """ + f"""
        if {reused}:
            for fd in held: os.fstat(fd)
        print(refused)
    """
    run = run_python(script)
    assert (run.returncode, run.stdout) == (0, "5\n"), run


def test_no_threads_left(run_python: RunPython) -> None:
    """Where the ticker's thread cannot be made the call is refused by NativeError, and works once it can."""
    script = """
        import os, resource, sys, trapline
        image = trapline.CodeImage(bytes.fromhex("b807000000c3"))
        if os.getuid() == 0:
            os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
        soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
        for _ in range(3):
            try:
                image[0]()
            except trapline.NativeError as error:
                print(error)
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
        assert image[0]() == 7
    """
    run = run_python(script)
    assert run.returncode == 0, run
    assert run.stdout.count("Resource temporarily unavailable") == 3, run


def test_memory_of_the_process(image: CodeImage) -> None:
    """Reading stops where readable memory ends; bad addresses, sizes and data are FiberErrors."""
    fiber = trapline.Fiber(image.base)
    assert fiber.read_memory(image.base, 1 << 45)[:6] == RETURN_7
    assert fiber.read_memory(0, 8) == b""
    assert fiber.read_memory(2**64 - 1, 8) == b""
    block = ctypes.create_string_buffer(3 << 20)
    assert fiber.read_memory(ctypes.addressof(block), 3 << 20) == bytes(3 << 20)
    for address, size in ((-1, 1), (2**64, 1), (0, -1), (None, 1), (0, None), ("0", 1), (0, 1.5)):
        with pytest.raises(trapline.FiberError, match=r"expected a 64-bit address"):
            fiber.read_memory(address, size)  # type: ignore[arg-type]
    fiber.write_memory(ctypes.addressof(block), bytearray(b"abc"))
    assert block.raw[:3] == b"abc"
    for address, data in ((0, b"a"), (-1, b"a"), (2**64, b"a"), (image.base, b"a"), ("0", b"a"), (0, "a"), (0, 5)):
        with pytest.raises(trapline.FiberError):
            fiber.write_memory(address, data)  # type: ignore[arg-type]


def test_capacity_of_native_errors() -> None:
    """More than the machine has is the system's refusal, not a crash."""
    with pytest.raises((NativeError, CodeError)):
        CodeImage(capacity_bytes=1 << 46).copy(breakpoints=1 << 39)
