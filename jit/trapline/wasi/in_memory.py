"""Files and directories that live in this process's memory, made from dicts of bytes.

They behave like those of the host: links, names removed while a file is open, times, numbers of their own. Every open
descriptor of a file shares its `Node`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Final, TypeAlias, Union

from trapline import tuning
from trapline.wasi.abi import DIRECTORY_RIGHTS, FILE_RIGHTS, FdFlags, FileType, OFlags, Rights, Stat
from trapline.wasi.beneath import components
from trapline.wasi.descriptor import Descriptor, Directory, Entry, OpenMode
from trapline.wasi.errno import Errno, Refused

__all__ = ["FileNode", "FolderNode", "LinkNode", "MemoryDirectory", "MemoryFile", "Node", "Tree"]

Tree: TypeAlias = Mapping[str, Union[bytes, "Tree"]]
"""Names, with the content of files and the trees of directories."""

_DEVICE: Final = 0x7472_6170
_numbers: Final = itertools.count(1)
_MAX_NAME_BYTES: Final = 255
_CHANGING: Final = (
    Rights.FD_WRITE
    | Rights.PATH_CREATE_DIRECTORY
    | Rights.PATH_CREATE_FILE
    | Rights.PATH_SYMLINK
    | Rights.PATH_REMOVE_DIRECTORY
    | Rights.PATH_UNLINK_FILE
)


class Node:
    """What a name in a directory stands for; `links` counts the names."""

    filetype: int = FileType.UNKNOWN

    def __init__(self) -> None:
        self.ino = next(_numbers)
        self.links = 1
        self.atim = self.mtim = self.ctim = time.time_ns()

    def size_bytes(self) -> int:
        """What $filestat calls size."""
        return 0

    def stat(self) -> Stat:
        """Its attributes."""
        return Stat(
            _DEVICE, self.ino, self.filetype, self.links, self.size_bytes(), self.atim, self.mtim, self.ctim
        )

    def changed(self) -> None:
        """Take the time of a change."""
        self.mtim = self.ctim = time.time_ns()

    def set_times(self, atim: int | None, mtim: int | None) -> None:
        """Change times; None leaves one as it is."""
        self.atim = self.atim if atim is None else atim
        self.mtim = self.mtim if mtim is None else mtim
        self.ctim = time.time_ns()


class FileNode(Node):
    """A file's content."""

    filetype = FileType.REGULAR_FILE

    def __init__(self, data: bytes | bytearray | memoryview = b"") -> None:
        super().__init__()
        self.data = bytearray(data)

    def size_bytes(self) -> int:
        return len(self.data)

    def resize(self, size_bytes: int) -> None:
        """Cut off or fill up with zeros. Raises Refused where that is too large for a file in memory."""
        more = size_bytes - len(self.data)
        if size_bytes < 0:
            raise Refused(Errno.INVAL)
        if size_bytes > tuning.WASI_MAX_MEMORY_FILE_BYTES:
            raise Refused(Errno.FBIG)
        if more > 0:
            self.data += bytes(more)
        else:
            del self.data[size_bytes:]
        self.changed()


class LinkNode(Node):
    """A symbolic link."""

    filetype = FileType.SYMBOLIC_LINK

    def __init__(self, target: bytes) -> None:
        super().__init__()
        self.target = target

    def size_bytes(self) -> int:
        return len(self.target)


class FolderNode(Node):
    """A directory's names."""

    filetype = FileType.DIRECTORY

    def __init__(self, tree: Tree | None = None) -> None:
        super().__init__()
        self.names: dict[bytes, Node] = {}
        self.removed = False
        for name, content in (tree or {}).items():
            encoded = name.encode()
            if not encoded or b"/" in encoded or b"\0" in encoded or encoded in (b".", b".."):
                raise ValueError(f"found {name!r}, expected the name of a file or directory")
            if isinstance(content, Mapping):
                self.names[encoded] = FolderNode(content)
            elif isinstance(content, bytes | bytearray | memoryview):
                self.names[encoded] = FileNode(content)
            else:
                raise ValueError(f"found {content!r} as {name!r}, expected bytes, or a dict for a directory")

    def tree(self) -> dict[str, bytes | Tree]:
        """What is in it now, as it was given; without links."""
        found: dict[str, bytes | Tree] = {}
        for name, node in self.names.items():
            if isinstance(node, FolderNode):
                found[name.decode()] = node.tree()
            elif isinstance(node, FileNode):
                found[name.decode()] = bytes(node.data)
        return found

    def add(self, name: bytes, node: Node) -> None:
        """Give a node a name. Raises Refused where no names can be made any more."""
        if self.removed:
            raise Refused(Errno.NOENT)
        if len(name) > _MAX_NAME_BYTES:
            raise Refused(Errno.NAMETOOLONG)
        self.names[name] = node
        self.changed()

    def remove(self, name: bytes) -> None:
        """Take a name away."""
        self.names.pop(name).links -= 1
        self.changed()

    def holds(self, other: FolderNode) -> bool:
        """Whether another directory is this one or beneath it."""
        if self is other:
            return True
        return any(isinstance(node, FolderNode) and node.holds(other) for node in self.names.values())


class MemoryFile(Descriptor):
    """An open file in memory."""

    filetype = FileType.REGULAR_FILE

    def __init__(self, node: FileNode, mode: OpenMode, mutable: bool) -> None:
        super().__init__()
        self.node = node
        self.flags = mode.fdflags
        self._position = 0
        self._readable = mode.read or not mode.write
        self._writable = mode.write
        self._mutable = mutable
        gone = (0 if self._readable else Rights.FD_READ) | (0 if self._writable else Rights.FD_WRITE)
        self.rights = FILE_RIGHTS & ~gone

    def read(self, views: list[memoryview]) -> int:
        found = self.pread(views, self._position)
        self._position += found
        return found

    def pread(self, views: list[memoryview], offset: int) -> int:
        if not self._readable:
            raise Refused(Errno.BADF)
        start = offset
        with memoryview(self.node.data) as data:
            for view in views:
                with data[offset : offset + len(view)] as piece:
                    view[: len(piece)] = piece
                    offset += len(piece)
        return offset - start

    def write(self, views: list[memoryview]) -> int:
        if self.flags & FdFlags.APPEND:
            self._position = len(self.node.data)
        written = self.pwrite(views, self._position)
        self._position += written
        return written

    def pwrite(self, views: list[memoryview], offset: int) -> int:
        if not self._writable:
            raise Refused(Errno.BADF)
        data = self.node.data
        if self.flags & FdFlags.APPEND:
            offset = len(data)
        start = offset
        stop = offset + sum(map(len, views))
        if stop > tuning.WASI_MAX_MEMORY_FILE_BYTES:
            raise Refused(Errno.FBIG)
        if stop > start > len(data):
            data += bytes(start - len(data))
        for view in views:
            data[offset : offset + len(view)] = view
            offset += len(view)
        self.node.changed()
        return offset - start

    def seek(self, offset: int, whence: int) -> int:
        start = (0, self._position, len(self.node.data))[whence]
        if not 0 <= start + offset < 1 << 63:
            raise Refused(Errno.INVAL)
        self._position = start + offset
        return self._position

    def available_bytes(self) -> int:
        return max(len(self.node.data) - self._position, 0)

    def stat(self) -> Stat:
        return self.node.stat()

    def set_flags(self, flags: int) -> None:
        if (flags ^ self.flags) & (FdFlags.DSYNC | FdFlags.RSYNC | FdFlags.SYNC):
            raise Refused(Errno.INVAL)
        self.flags = flags

    def _need_mutable(self) -> None:
        if not self._mutable:
            raise Refused(Errno.PERM)

    def set_size(self, size_bytes: int) -> None:
        self._need_mutable()
        if not self._writable:
            raise Refused(Errno.INVAL)
        self.node.resize(size_bytes)

    def set_times(self, atim: int | None, mtim: int | None) -> None:
        self._need_mutable()
        self.node.set_times(atim, mtim)

    def advise(self, offset: int, size_bytes: int, advice: int) -> None:
        if offset < 0 or size_bytes < 0:
            raise Refused(Errno.INVAL)

    def allocate(self, offset: int, size_bytes: int) -> None:
        self._need_mutable()
        if not self._writable:
            raise Refused(Errno.BADF)
        if offset < 0 or size_bytes <= 0:
            raise Refused(Errno.INVAL)
        if offset + size_bytes > len(self.node.data):
            self.node.resize(offset + size_bytes)

    def sync(self, data_only: bool) -> None:
        pass


class MemoryDirectory(Directory):
    """An open directory in memory."""

    def __init__(self, node: FolderNode, mutable: bool) -> None:
        super().__init__()
        self.node = node
        self._mutable = mutable
        gone = 0 if mutable else _CHANGING
        self.rights = DIRECTORY_RIGHTS & ~gone
        self.inheriting = (DIRECTORY_RIGHTS | FILE_RIGHTS) & ~gone

    def stat(self) -> Stat:
        return self.node.stat()

    def sync(self, data_only: bool) -> None:
        pass

    def _need_mutable(self) -> None:
        if not self._mutable:
            raise Refused(Errno.PERM)

    def set_times(self, atim: int | None, mtim: int | None) -> None:
        self._need_mutable()
        self.node.set_times(atim, mtim)

    def entries(self) -> list[Entry]:
        return [Entry(name, node.ino, node.filetype) for name, node in self.node.names.items()]

    def _find(self, path: bytes, follow: bool) -> tuple[FolderNode, bytes, bool]:
        """The directory, the name in it (`.` for itself), and whether the path asks for a directory. Raises Refused."""
        pending, directory = components(path)
        passed = [self.node]
        links = 0
        while True:
            name = pending.pop() if pending else b"."
            if name == b"..":
                if len(passed) == 1:
                    raise Refused(Errno.PERM)
                passed.pop()
                continue
            if len(name) > _MAX_NAME_BYTES:
                raise Refused(Errno.NAMETOOLONG)
            node = passed[-1].names.get(name)
            if isinstance(node, LinkNode) and (pending or follow or directory):
                links += 1
                if links > tuning.WASI_MAX_LINKS:
                    raise Refused(Errno.LOOP)
                more, wants_directory = components(node.target)
                if not pending:
                    directory = directory or wants_directory
                elif more[0] == b".":
                    del more[0]
                pending.extend(more)
            elif not pending:
                return passed[-1], name, directory
            elif isinstance(node, FolderNode):
                passed.append(node)
            else:
                raise Refused(Errno.NOENT if node is None else Errno.NOTDIR)

    def _node(self, path: bytes, follow: bool) -> Node:
        folder, name, directory = self._find(path, follow)
        node = folder if name == b"." else folder.names.get(name)
        if node is None:
            raise Refused(Errno.NOENT)
        if directory and not isinstance(node, FolderNode):
            raise Refused(Errno.NOTDIR)
        return node

    def open(self, path: bytes, mode: OpenMode) -> Descriptor:
        oflags = mode.oflags
        if oflags & OFlags.CREAT and oflags & OFlags.DIRECTORY:
            raise Refused(Errno.INVAL)
        folder, name, directory = self._find(path, mode.follow and not oflags & OFlags.EXCL)
        if mode.write or oflags & (OFlags.CREAT | OFlags.TRUNC):
            self._need_mutable()
        directory = directory or bool(oflags & OFlags.DIRECTORY)
        node = folder if name == b"." else folder.names.get(name)
        if node is None:
            if not oflags & OFlags.CREAT:
                raise Refused(Errno.NOENT)
            if directory:
                raise Refused(Errno.ISDIR)
            node = FileNode()
            folder.add(name, node)
        elif oflags & OFlags.CREAT and oflags & OFlags.EXCL:
            raise Refused(Errno.EXIST)
        if isinstance(node, FolderNode):
            if mode.write or oflags & (OFlags.CREAT | OFlags.TRUNC):
                raise Refused(Errno.ISDIR)
            return MemoryDirectory(node, self._mutable)
        if directory:
            raise Refused(Errno.NOTDIR)
        if not isinstance(node, FileNode):
            raise Refused(Errno.LOOP)
        if oflags & OFlags.TRUNC:
            node.resize(0)
        return MemoryFile(node, mode, self._mutable)

    def stat_at(self, path: bytes, follow: bool) -> Stat:
        return self._node(path, follow).stat()

    def set_times_at(self, path: bytes, follow: bool, atim: int | None, mtim: int | None) -> None:
        self._need_mutable()
        self._node(path, follow).set_times(atim, mtim)

    def _new_name(self, path: bytes, for_directory: bool = False) -> tuple[FolderNode, bytes]:
        """Where something new is to be. Raises Refused where something is already."""
        self._need_mutable()
        # A link is not followed where something is made, whatever stands at the end of the path.
        folder, name, directory = self._find(path.rstrip(b"/") or path, False)
        if name == b"." or name in folder.names:
            raise Refused(Errno.EXIST)
        if (directory or path.endswith(b"/")) and not for_directory:
            raise Refused(Errno.NOENT)
        return folder, name

    def make_directory(self, path: bytes) -> None:
        folder, name = self._new_name(path, for_directory=True)
        folder.add(name, FolderNode())

    def _old_name(self, path: bytes) -> tuple[FolderNode, bytes, Node, bool]:
        """A name that is to be taken away, what it stands for, and whether the path asks for a directory."""
        self._need_mutable()
        folder, name, directory = self._find(path.rstrip(b"/") or path, False)
        node = folder if name == b"." else folder.names.get(name)
        if node is None:
            raise Refused(Errno.NOENT)
        directory = directory or path.endswith(b"/")
        if directory and not isinstance(node, FolderNode):
            raise Refused(Errno.NOTDIR)
        return folder, name, node, directory

    def remove_directory(self, path: bytes) -> None:
        folder, name, node, _ = self._old_name(path)
        if name == b".":
            raise Refused(Errno.INVAL)
        if not isinstance(node, FolderNode):
            raise Refused(Errno.NOTDIR)
        if node.names:
            raise Refused(Errno.NOTEMPTY)
        node.removed = True
        folder.remove(name)

    def unlink(self, path: bytes) -> None:
        folder, name, node, _ = self._old_name(path)
        if isinstance(node, FolderNode):
            raise Refused(Errno.ISDIR)
        folder.remove(name)

    def symlink(self, target: bytes, path: bytes) -> None:
        if not target:
            raise Refused(Errno.NOENT)
        if target[:1] == b"/":
            raise Refused(Errno.PERM)
        folder, name = self._new_name(path)
        folder.add(name, LinkNode(target))

    def readlink(self, path: bytes) -> bytes:
        node = self._node(path, False)
        if not isinstance(node, LinkNode):
            raise Refused(Errno.INVAL)
        return node.target

    def rename(self, path: bytes, other: Directory, new_path: bytes) -> None:
        if not isinstance(other, MemoryDirectory):
            raise Refused(Errno.XDEV)
        other._need_mutable()
        folder, name, node, _ = self._old_name(path)
        target, new_name, wants_directory = other._find(new_path.rstrip(b"/") or new_path, False)
        if name == b"." or new_name == b".":
            raise Refused(Errno.BUSY)
        if (wants_directory or new_path.endswith(b"/")) and not isinstance(node, FolderNode):
            raise Refused(Errno.NOTDIR)
        if isinstance(node, FolderNode) and node.holds(target):
            raise Refused(Errno.INVAL)
        old = target.names.get(new_name)
        if old is node:
            return
        if isinstance(old, FolderNode):
            if not isinstance(node, FolderNode):
                raise Refused(Errno.ISDIR)
            if old.names:
                raise Refused(Errno.NOTEMPTY)
            old.removed = True
        elif old is not None and isinstance(node, FolderNode):
            raise Refused(Errno.NOTDIR)
        target.add(new_name, node)
        if old is not None:
            old.links -= 1
        del folder.names[name]
        folder.changed()

    def link(self, path: bytes, follow: bool, other: Directory, new_path: bytes) -> None:
        if not isinstance(other, MemoryDirectory):
            raise Refused(Errno.XDEV)
        self._need_mutable()
        node = self._node(path, follow)
        folder, name = other._new_name(new_path)
        if isinstance(node, FolderNode):
            raise Refused(Errno.PERM)
        folder.add(name, node)
        node.links += 1


