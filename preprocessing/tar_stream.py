"""The members of a .tar.gz or .tar file, forwards, once, without unpacking anything.

The standard library's `tarfile` takes a damaged header in the middle of an archive for its end, and reads extended
headers of any size into memory. A converter must know whether it has seen everything, so headers are walked here;
their fields are decoded by `tarfile.TarInfo`.
"""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_BLOCK = 512
_PIECE = 1 << 20
_END_MARK = bytes(_BLOCK)
_MAGIC, _MAGIC_AT = b"ustar", 257  # in every header
_TEXT = ("utf-8", "surrogateescape")
_MAX_EXTENDED_HEADER = 1 << 20  # a path and a few numbers; a hostile archive may claim gigabytes

_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED_FOR_ALL = tarfile.XGLTYPE
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)

# What browsers and download programs add to names: a number, and an ending while the file is still coming.
_NUMBER = r"([ ._-]?\(\d+\)|[ ._-]\d+)?"
_COMING = r"(\.(part|partial|crdownload|download))?"
_ARCHIVE_NAME = re.compile(rf"[^.].*\.(tar|tgz){_NUMBER}(\.gz{_NUMBER})?{_COMING}", re.IGNORECASE)
_COMPRESSED = re.compile(
    rf"(?P<stem>[^.]+)(\.tar{_NUMBER})?\.(gz|zip|7z|rar|bz2|tbz2?|xz|txz|zst|tzst){_NUMBER}{_COMING}", re.IGNORECASE
)
_OTHER_ARCHIVES = {
    b"PK\3\4": "a zip",
    b"BZh": "a bzip2",
    b"\xfd7zXZ": "an xz",
    b"7z\xbc\xaf": "a 7z",
    b"Rar!": "a rar",
    b"\x28\xb5\x2f\xfd": "a zstandard",
}


class ArchiveError(ValueError):
    """An archive that is not one, or damaged: nothing read from it can be trusted."""


class ArchiveCutError(ArchiveError):
    """An archive that ends too early: what was read before the end is sound, the rest is absent."""


class ArchiveRestError(ArchiveError):
    """An archive that was read to its end, and something behind it that is none."""


@dataclass
class Member:
    """One entry of an archive, to be read before the next one is asked for.

    Attributes:
        path: as stored in the archive.
        size: of its content in bytes.
        link_to: what a link points to, None for everything else.
        is_file: whether it is a regular file.
        is_sparse: whether its content is stored without the holes in it, and is not the file's as it stands.
    """

    path: str
    size: int
    link_to: str | None
    is_file: bool
    is_sparse: bool
    _stream: "_Stream"

    def read(self, size: int = -1) -> bytes:
        """The content's first `size` bytes, all by default. Raises ArchiveCutError, ArchiveError."""
        return self._stream.read_exactly(self.size if size < 0 else min(size, self.size), self.path)


def is_archive_name(name: str) -> bool:
    """Whether a file is named like an archive that `members` reads: .tar, .tar.gz, .tgz.

    Hidden files are none, such as those that macOS puts beside others ("._001_tagging.tar.gz").
    """
    return _ARCHIVE_NAME.fullmatch(name) is not None


def compressed_stem(name: str) -> str | None:
    """The part before the endings of a name like that of a compressed file of any kind; None of other names.

    Many of these hold no takes, so the part before decides; `members` says what to do with one it cannot read.
    """
    match = _COMPRESSED.fullmatch(name)
    return match and match["stem"]


def members(path: Path) -> Iterator[Member]:
    """Every entry of the archive in the order in which it is stored; also of archives that were put end to end.

    Raises:
        ArchiveCutError: the file ends before the archive does.
        ArchiveRestError: after every member, for what follows the archive's end and holds no header.
        ArchiveError: neither gzip nor tar, or damaged; where gzip's checksum is wrong, only at the very end.
    """
    with _opened(path) as file:
        yield from _Stream(file, path).members()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with open(path, "rb") as raw:
        start = raw.peek(_BLOCK)
        if start.startswith(b"\x1f\x8b"):
            with _Unzipped(fileobj=raw) as unzipped:
                yield io.BufferedReader(unzipped, _PIECE)
        elif start[_MAGIC_AT:].startswith(_MAGIC):
            yield raw
        else:
            raise ArchiveError(f"{path}: {_not_an_archive(start)}")


class _Unzipped(gzip.GzipFile):
    """Unzipped bytes for a buffer around it, which makes thousands of small members cheap."""

    readinto = gzip.GzipFile.readinto1  # no more than is at hand, so that an error takes nothing along with it


def _not_an_archive(start: bytes) -> str:
    """What a file is that starts this way, and what to do about it."""
    for mark, kind in _OTHER_ARCHIVES.items():
        if start.startswith(mark):
            return f"is {kind} file, which is not read; unpack it there or pack it again as .tar.gz, then remove it"
    if not start:
        return "is an empty file; download it again"
    if b"<html" in start.lower() or b"<!doctype" in start.lower():
        return (
            "is a web page, not an archive: download pages send one when a quota is exceeded or a login is needed; "
            "download it again"
        )
    return f"is neither a gzip nor a tar file, it starts with {start[:12]!r}; download it again"


class _Stream:
    """Bytes of an unzipped archive, read forwards."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._position = 0

    def members(self) -> Iterator[Member]:
        extended: dict[str, str] = {}
        while True:
            header = self._read_header()
            if header is None:
                return
            if header.type in (_LONG_NAME, _LONG_LINK, *_EXTENDED, _EXTENDED_FOR_ALL):
                extended |= self._read_extended(header)
                continue
            member = self._member(header, extended)
            end = self._position + -(-member.size // _BLOCK) * _BLOCK
            extended = {}
            yield member
            self._skip_to(end, member.path)

    def read_exactly(self, size: int, what: str) -> bytes:
        """`size` bytes. Raises ArchiveCutError, ArchiveError."""
        pieces = []
        while size > 0:
            piece = self._read_some(min(size, _PIECE), what)
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _read_some(self, size: int, what: str, may_end: bool = False) -> bytes:
        """At least one byte and at most `size`; none at the end of the file where it `may_end`."""
        piece = self._of_file(self._file.read, size, what)
        if not piece and not may_end:
            raise self._cut(what)
        self._position += len(piece)
        return piece

    def _of_file(self, read: Callable[[int], bytes], size: int, what: str) -> bytes:
        try:
            return read(size)
        except EOFError as error:
            raise self._cut(what) from error
        except (zlib.error, gzip.BadGzipFile) as error:
            raise ArchiveError(f"{self._path}: damaged near {what} ({error}); download it again") from error

    def _cut(self, what: str) -> ArchiveCutError:
        return ArchiveCutError(
            f"{self._path}: ends too early, after {self._position} bytes of content, in {what}; download it again"
        )

    def _skip_to(self, position: int, what: str) -> None:
        while self._position < position:
            self._read_some(min(position - self._position, _PIECE), what)

    def _read_header(self) -> tarfile.TarInfo | None:
        """The next header, None at the archive's end."""
        where = f"the header at {self._position}"
        block = self.read_exactly(_BLOCK, where)
        is_after_end = block == _END_MARK
        if is_after_end:
            block = self._skip_end_mark()
        if not block:
            return None
        try:
            padded = block.ljust(_BLOCK, b"\0")
            header = _plain_file(padded) or tarfile.TarInfo.frombuf(padded, *_TEXT)
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            if is_after_end:
                raise self._rest(block) from error
            raise ArchiveError(f"{self._path}: damaged, {where} is none ({error}); download it again") from error
        continues = header.type == tarfile.GNUTYPE_SPARSE and padded[482]
        while continues:  # the list of a sparse file's pieces, in blocks that its size does not count
            continues = self.read_exactly(_BLOCK, where)[504]
        if header.size < 0:
            raise ArchiveError(f"{self._path}: damaged, {where} claims a size of {header.size}; download it again")
        return header

    def _skip_end_mark(self) -> bytes:
        """The first block that is not zeros, which `cat` may have put there; empty at the end of the file.

        Only there gzip compares its checksum.
        """
        what = "its end"
        while ahead := self._of_file(self._file.peek, _PIECE, what):
            if ahead == bytes(len(ahead)):  # much faster than to strip them
                self._read_some(len(ahead), what)
                continue
            self._read_up_to(len(ahead) - len(ahead.lstrip(b"\0")), what)
            into_block = self._position % _BLOCK
            return bytes(into_block) + self._read_up_to(_BLOCK - into_block, what)
        return b""

    def _read_up_to(self, size: int, what: str) -> bytes:
        """`size` bytes, or what there is before the end of the file."""
        found = b""
        while len(found) < size and (piece := self._read_some(size - len(found), what, may_end=True)):
            found += piece
        return found

    def _rest(self, start: bytes) -> ArchiveError:
        """The error for what follows an end mark, given its first block; all of it is read.

        Zeros in the middle of an archive, as a download with holes has, look like an end mark: headers follow them.
        """
        begin, window, size = self._position - len(start), start, len(start)
        while True:
            at = window.find(_MAGIC)
            while at >= 0:
                if at >= _MAGIC_AT and _is_header(window[at - _MAGIC_AT :][:_BLOCK]):
                    where = f"an end mark, then something else at {begin}, then more members"
                    return ArchiveError(f"{self._path}: damaged, it has {where}; download it again")
                at = window.find(_MAGIC, at + 1)
            piece = self._read_some(_PIECE, "what follows its end", may_end=True)
            if not piece:
                break
            size += len(piece)
            window = window[1 - _BLOCK :] + piece
        begins = start.lstrip(b"\0")
        begin += len(start) - len(begins)
        return ArchiveRestError(
            f"{self._path}: its end is followed by {size - len(start) + len(begins)} bytes that are no archive, at "
            f"{begin}: {begins[:12]!r}; they were not used"
        )

    def _read_extended(self, header: tarfile.TarInfo) -> dict[str, str]:
        """What an entry in front of another says about that one: "path", "linkpath", "size"."""
        where = f"the extended header at {self._position - _BLOCK}"
        if header.size > _MAX_EXTENDED_HEADER:
            raise ArchiveError(f"{self._path}: {where} claims {header.size} bytes, more than a path can need")
        end = self._position + -(-header.size // _BLOCK) * _BLOCK
        content = self.read_exactly(header.size, where)
        self._skip_to(end, where)
        if header.type == _EXTENDED_FOR_ALL:
            return {}
        if header.type in (_LONG_NAME, _LONG_LINK):
            name = content.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            return {"path" if header.type == _LONG_NAME else "linkpath": name}
        try:
            return _parse_records(content)
        except ValueError as error:
            raise ArchiveError(f"{self._path}: damaged, {where} has no records ({error}); download it again") from error

    def _member(self, header: tarfile.TarInfo, extended: dict[str, str]) -> Member:
        is_link = header.type in _LINKS
        try:
            size = 0 if is_link or header.isdir() else int(extended.get("size", header.size))
        except ValueError as error:
            raise ArchiveError(f"{self._path}: damaged, {header.name} has no size ({error})") from error
        link = extended.get("linkpath", header.linkname) if is_link else None
        is_sparse = header.type == tarfile.GNUTYPE_SPARSE or "GNU.sparse." in "\n".join(extended)
        path = extended.get("GNU.sparse.name") or extended.get("path", header.name)
        return Member(path, max(size, 0), link, header.isreg(), is_sparse, self)


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, *_TEXT)
    except (tarfile.HeaderError, ValueError, OverflowError):
        return False
    return True


def _plain_file(block: bytes) -> tarfile.TarInfo | None:
    """The header of a file as nearly every program writes it, in a third of `tarfile`'s time; None of any other."""
    if block[156:157] != tarfile.REGTYPE or block[135] not in b"\0 " or block[154] not in b"\0 ":
        return None
    try:
        size, checksum = int(block[124:135], 8), int(block[148:154], 8)
    except ValueError:
        return None
    if checksum != sum(block[:148]) + sum(b" " * 8) + sum(block[156:]):
        return None
    name, prefix = (field.split(b"\0", 1)[0] for field in (block[:100], block[345:500]))
    header = tarfile.TarInfo((prefix + b"/" + name if prefix else name).decode("utf-8", "surrogateescape"))
    header.size = size
    return header


def _parse_records(content: bytes) -> dict[str, str]:
    """The records "length key=value\\n" of a POSIX extended header. Raises ValueError."""
    records = {}
    while content:
        length_text, _, _ = content.partition(b" ")
        length = int(length_text)
        record = content[len(length_text) + 1 : length]
        if length <= len(length_text) + 2 or len(content) < length or not record.endswith(b"\n"):
            raise ValueError(f"a record of length {length}")
        key, separator, value = record[:-1].partition(b"=")
        if not separator:
            raise ValueError("a record without a value")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        content = content[length:]
    return records
