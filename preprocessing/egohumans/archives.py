"""Takes read from an archive as it was downloaded: streamed once, nothing unpacked.

Members come in any order and at any depth. Of those that a conversion needs (a few hundred megabytes of a 20 GB
archive) the content goes to a spool, a nameless temporary file; of images only the first one's head is kept.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from finepose_mp.preprocessing.egohumans.catalogue import SCENE_FOLDER, TAKE_FOLDER
from finepose_mp.preprocessing.egohumans.source import IMAGE_HEAD_BYTES, TakeError, is_image, is_needed
from finepose_mp.preprocessing.tar_stream import ArchiveCutError, ArchiveRestError, Member, members

TAKE_PARTS = ("processed_data", "colmap", "ego", "exo")

_SHOWN = 5  # names in a message
_SPOOL_BUFFER = 1 << 20  # bytes; members are small and many


class SpooledTake:
    """One take of an archive: names of all its files, content of the needed ones (a `source.TakeSource`)."""

    def __init__(self, location: str, spool: BinaryIO) -> None:
        self.location = location
        self._spool = spool
        self._names: dict[str, set[str]] = {}
        self._places: dict[str, tuple[int, int]] = {}  # offset in the spool and size
        self._heads: dict[str, tuple[str, bytes]] = {}  # folder -> first image's path, its first bytes
        self.repeated: list[str] = []

    def names(self, folder: str) -> list[str]:
        """Names of the entries of a folder, sorted; empty when there is no such folder."""
        return sorted(self._names.get(folder, ()))

    def read(self, path: str, size: int = -1) -> bytes:
        """The file's first `size` bytes, all by default; of images only the start of the first one is at hand.

        Raises:
            FileNotFoundError: the archive has no such file.
            TakeError: it has, but the file is none of those that are kept.
        """
        if path in self._places:
            offset, length = self._places[path]
            return os.pread(self._spool.fileno(), length if size < 0 else min(size, length), offset)
        folder, _, name = path.rpartition("/")
        if name not in self._names.get(folder, ()):
            raise FileNotFoundError(f"{self.location} has no {path}")
        first, head = self._heads.get(folder, ("", b""))
        if first != path or not 0 <= size <= IMAGE_HEAD_BYTES:
            raise TakeError(f"{path} was passed over when {self.location} was streamed")
        return head[:size]

    def read_all(self, folder: str, names: Iterable[str]) -> Iterator[bytes | OSError]:
        """The whole content of one file of a folder after the other, or why it cannot be read."""
        for path in (f"{folder}/{name}" for name in names):
            is_file = path in self._places
            yield (
                self.read(path) if is_file else OSError(errno.EINVAL, "a folder, pipe or device, expected a file", path)
            )

    def take_in(self, folder: str, name: str, member: Member) -> None:
        """Notes a member under its folder in the take and its name, and keeps what is needed of its content."""
        self._note(folder, name)
        if not member.is_file:
            return
        path = f"{folder}/{name}" if folder else name
        if is_needed(path):
            if path in self._places:
                self.repeated.append(path)  # an archive that was appended to; its last copy counts, as in unpacking
            self._places[path] = (self._spool.tell(), member.size)
            self._spool.write(member.read())
        elif is_image(path) and _is_frame(name) and (folder not in self._heads or path <= self._heads[folder][0]):
            self._heads[folder] = (path, member.read(IMAGE_HEAD_BYTES))

    def _note(self, folder: str, name: str) -> None:
        known = self._names.setdefault(folder, set())
        if name not in known:
            known.add(name)
            if folder:
                self._note(*_split(folder))


def _is_frame(image: str) -> bool:
    """Whether an image is named like one of a frame, which start at 00001.jpg; not hidden ones, nor 00000.jpg."""
    return re.fullmatch(r"[0-9]{5}\.jpg", image) is not None and image != "00000.jpg"


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


@dataclass
class FoundInArchive:
    """A take met in an archive.

    Attributes:
        scene_folder: the folder around it where that is named like a big sequence, else "".
        take_folder: its own folder's name.
        source: its files.
        is_complete: False where the archive ends too early to be sure that everything was met.
    """

    scene_folder: str
    take_folder: str
    source: SpooledTake
    is_complete: bool = True


@dataclass
class ArchiveContent:
    """What one pass over an archive gave: takes in order of appearance, refused members, what is amiss at its end."""

    takes: list[FoundInArchive] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    cut: ArchiveCutError | None = None
    rest: ArchiveRestError | None = None

    def refusals(self) -> str:
        """The refused members in words; empty when there are none."""
        more = f" and {len(self.refused) - _SHOWN} more" if len(self.refused) > _SHOWN else ""
        return f"{len(self.refused)} members refused: {', '.join(self.refused[:_SHOWN])}{more}" if self.refused else ""


@contextmanager
def streamed(archive: Path, scratch: Path) -> Iterator[ArchiveContent]:
    """The archive's takes, readable until the block ends.

    Args:
        scratch: folder for the spool, which vanishes with the process however it ends.

    Raises:
        ArchiveError: no archive, or damaged in a way that puts all of it in doubt. One that merely ends too early, or
            is followed by something else, is not an error here: see `ArchiveContent`.
    """
    with TemporaryFile(dir=scratch, buffering=_SPOOL_BUFFER) as spool:
        content, pass_ = ArchiveContent(), _Pass(archive, spool)
        try:
            for member in members(archive):
                pass_.take_in(member, content)
        except ArchiveCutError as error:
            content.cut = error
            pass_.doubt_what_was_open()
        except ArchiveRestError as error:
            content.rest = error
        content.takes = [found for found in pass_.takes.values() if set(found.source.names("")) & set(TAKE_PARTS)]
        spool.flush()
        yield content


class _Pass:
    """State of one pass: which takes were met, and which stretch of members belongs to which."""

    def __init__(self, archive: Path, spool: BinaryIO) -> None:
        self._archive = archive
        self._spool = spool
        self._current: str | None = None
        self._stretches: dict[str, int] = {}
        self.takes: dict[str, FoundInArchive] = {}  # by the take's path in the archive

    def take_in(self, member: Member, content: ArchiveContent) -> None:
        problem = _refusal(member)
        if problem:
            content.refused.append(f"{member.path!r} ({problem})")
            return
        take, folder, name = _locate(member.path)
        if take != self._current:
            self._current = take
            self._stretches[take] = self._stretches.get(take, 0) + 1
        if name:
            self._found(take).source.take_in(folder, name, member)

    def _found(self, take: str) -> FoundInArchive:
        if take not in self.takes:
            *around, name = take.split("/")
            scene = around[-1] if around and SCENE_FOLDER.fullmatch(around[-1]) else ""
            source = SpooledTake(str(self._archive), self._spool)
            self.takes[take] = FoundInArchive(scene, name or stem(self._archive), source)
        return self.takes[take]

    def doubt_what_was_open(self) -> None:
        """Marks as incomplete the take that a cut fell into, and those whose members do not lie together."""
        for take, found in self.takes.items():
            found.is_complete = take != self._current and self._stretches[take] == 1


def _refusal(member: Member) -> str | None:
    if member.link_to is not None:
        return f"a link to {member.link_to!r}"
    if member.is_sparse:
        return "a sparse file; pack it again without -S"
    if member.path.startswith("/"):
        return "an absolute path"
    return "leads out of its folder" if ".." in member.path.split("/") else None


def _locate(path: str) -> tuple[str, str, str]:
    """The path in the archive of a member's take, the member's folder in the take and its name, "" outside of takes."""
    folder, _, name = path.rpartition("/")
    known = _locate_folder(folder)
    if known and name not in ("", "."):
        return *known, name
    parts = _parts(path)
    depth = _anchor(parts)
    if depth is None:
        return "", "", ""
    if len(parts) == depth + 1:
        return "/".join(parts), "", ""
    return "/".join(parts[: depth + 1]), "/".join(parts[depth + 1 : -1]), parts[-1]


@lru_cache(maxsize=4096)
def _locate_folder(folder: str) -> tuple[str, str] | None:
    """The same of a folder that is, or is in, one of a take's parts, so that no name in it can change the answer."""
    parts = _parts(folder)
    depth = _anchor(parts)
    if depth is None or len(parts) == depth + 1 or parts[depth + 1] not in TAKE_PARTS:
        return None
    return "/".join(parts[: depth + 1]), "/".join(parts[depth + 1 :])


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _anchor(parts: list[str]) -> int | None:
    """Depth of the take's folder in a member's path; -1 where the archive was made inside it; None outside of takes."""
    if parts and parts[0] in TAKE_PARTS:
        return -1
    named_so = [depth for depth, part in enumerate(parts) if TAKE_FOLDER.fullmatch(part)]
    holding = [depth for depth in named_so if depth + 1 < len(parts) and parts[depth + 1] in TAKE_PARTS]
    return next(iter(holding or named_so[-1:]), None)


def stem(archive: Path) -> str:
    """An archive's name without its ending."""
    return re.sub(r"(\.tar\.gz|\.tgz|\.tar)$", "", archive.name, flags=re.IGNORECASE)
