"""Where the files of one take come from, and a reader that keeps a digest of everything it read.

Parsers take bytes and a name, never a path, so that a take can be read from a folder as well as from an archive.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from finepose_mp.preprocessing.egohumans.findings import Findings
from finepose_mp.preprocessing.unpickling import DamagedFileError

Parsed = TypeVar("Parsed")

_FRAME_NAME = re.compile(r"(\d{5})(\.\w+)")


class TakeError(ValueError):
    """A take that cannot be converted; the message says what is absent or wrong and where."""


class TakeSource(Protocol):
    """The files of one take, addressed by paths relative to it with forward slashes."""

    location: str  # for messages: folder or archive

    def names(self, folder: str) -> list[str]:
        """Names of the entries of a folder, sorted; empty when there is no such folder."""

    def read(self, path: str, size: int = -1) -> bytes:
        """The file's first `size` bytes, all by default. Raises FileNotFoundError."""


class DirectorySource:
    """A take that is unpacked in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.location = str(folder)

    def names(self, folder: str) -> list[str]:
        path = self.folder / folder
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []

    def read(self, path: str, size: int = -1) -> bytes:
        with open(self.folder / path, "rb") as file:
            return file.read(size)


class TakeReader:
    """Reads a take's files and remembers the SHA-256 of what was read, per file or per folder of frames."""

    def __init__(self, source: TakeSource) -> None:
        self.source = source
        self.source_files: dict[str, dict] = {}

    def names(self, folder: str) -> list[str]:
        """Names of the entries of a folder, sorted; empty when there is no such folder."""
        return self.source.names(folder)

    def has(self, path: str) -> bool:
        """Whether the take has this file or folder."""
        folder, _, name = path.rpartition("/")
        return name in self.names(folder)

    def file(self, path: str) -> bytes:
        """The content of one file. Raises TakeError when it is absent."""
        try:
            data = self.source.read(path)
        except FileNotFoundError as error:
            raise TakeError(f"{path} is missing") from error
        self.source_files[path] = {"sha256": hashlib.sha256(data).hexdigest()}
        return data

    def head(self, path: str, size: int) -> bytes:
        """The first bytes of one file, without a digest: for image headers."""
        return self.source.read(path, size)

    def frame_numbers(self, folder: str, ending: str) -> dict[int, str]:
        """Frame number -> file name of the numbered files (00001.npy, ...) in a folder, ascending; 0 is no frame."""
        matches = (_FRAME_NAME.fullmatch(name) for name in self.names(folder))
        return {int(m[1]): m[0] for m in matches if m and m[2] == ending and int(m[1]) > 0}

    def frames(self, folder: str, ending: str) -> Iterator[tuple[int, str, bytes]]:
        """Frame number, path and content of a folder's numbered files, ascending.

        The folder's digest is over its files' contents one after the other.
        """
        digest = hashlib.sha256()
        numbers = self.frame_numbers(folder, ending)
        for number, name in numbers.items():
            data = self.source.read(f"{folder}/{name}")
            digest.update(data)
            yield number, f"{folder}/{name}", data
        if numbers:
            self.source_files[folder] = {"files": len(numbers), "sha256": digest.hexdigest()}

    def parse_frames(
        self, folder: str, ending: str, parse: Callable[[bytes, str], Parsed], check: str, findings: Findings
    ) -> dict[int, Parsed]:
        """Frame number -> parsed content of a folder's numbered files.

        A damaged file counts as absent; all of them together become one finding with the first one's message.
        """
        parsed: dict[int, Parsed] = {}
        damaged: dict[int, str] = {}
        for number, path, data in self.frames(folder, ending):
            try:
                parsed[number] = parse(data, path)
            except DamagedFileError as error:
                damaged[number] = str(error)
        if damaged:
            first = next(iter(damaged.values()))
            findings.add(check, "error", f"{len(damaged)} unreadable files left out; first: {first}", frames=damaged)
        return parsed
