"""Where the files of one take come from, and a reader that keeps a digest of everything it read.

Parsers take bytes and a name, never a path, so that a take can be read from a folder as well as from an archive.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

_FRAME_NAME = re.compile(r"(\d{5})(\.\w+)")

# What a conversion reads of a take, * standing for any name; of everything else only the names matter. Archives hold
# no more than this, so a parser that wants another file adds it here.
NEEDED_FILES = (
    "SIMULATED.json",
    "colmap/workplace/*.txt",
    "colmap/workplace/*.npy",
    "colmap/workplace/*.pkl",
    "ego/aria*/calib/*.txt",
    "processed_data/fit_poses3d/*.npy",
    "processed_data/poses3d/*.npy",
    "processed_data/poses2d/*/rgb/*.npy",
)
IMAGE_FOLDERS = ("ego/aria*/images/*", "exo/cam*/images")  # the first image of each is looked at for its size
IMAGE_HEAD_BYTES = 256 * 1024  # enough for the metadata in front of a JPEG's size


def _one_of(patterns: Iterable[str]) -> re.Pattern:
    return re.compile("|".join(re.escape(pattern).replace(r"\*", "[^/]*") for pattern in patterns))


_NEEDED = _one_of(NEEDED_FILES)
_IMAGE = _one_of(f"{folder}/*.jpg" for folder in IMAGE_FOLDERS)


def is_needed(path: str) -> bool:
    """Whether a file, by its path in the take, is read as a whole."""
    return _NEEDED.fullmatch(path) is not None


def is_image(path: str) -> bool:
    """Whether a file, by its path in the take, is an image of which the size may be looked at."""
    return _IMAGE.fullmatch(path) is not None


def needed_files(folder: Path) -> Iterator[os.DirEntry]:
    """The files of a take's folder that are read as a whole, sorted for each kind."""
    for pattern in NEEDED_FILES:
        yield from entries_at(folder, pattern)


def image_folders(folder: Path) -> Iterator[os.DirEntry]:
    """The folders of images in a take's folder, sorted for each kind of camera."""
    for pattern in IMAGE_FOLDERS:
        yield from entries_at(folder, pattern)


def entries_at(folder: str | Path, pattern: str) -> Iterator[os.DirEntry]:
    """What lies at a pattern below a folder, sorted. Like `Path.glob`, and ten times faster on a take."""
    first, _, rest = pattern.partition("/")
    try:
        entries = [entry for entry in os.scandir(folder) if fnmatchcase(entry.name, first)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in sorted(entries, key=lambda entry: entry.name):
        if not rest:
            yield entry
        elif entry.is_dir():
            yield from entries_at(entry.path, rest)


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
        return sorted(os.listdir(path)) if path.is_dir() else []

    def read(self, path: str, size: int = -1) -> bytes:
        # A take has tens of thousands of files: joining Path objects and buffering would cost as much as reading them.
        with open(f"{self.location}/{path}", "rb", buffering=0) as file:
            return file.read(size)


class TakeReader:
    """Reads a take's files and remembers the SHA-256 of what was read, per file or per folder of frames."""

    def __init__(self, source: TakeSource) -> None:
        self.source = source
        self.source_files: dict[str, dict] = {}
        self._frame_numbers: dict[tuple[str, str], dict[int, str]] = {}

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
        if (folder, ending) not in self._frame_numbers:
            matches = (_FRAME_NAME.fullmatch(name) for name in self.names(folder))
            found = {int(m[1]): m[0] for m in matches if m and m[2] == ending and int(m[1]) > 0}
            self._frame_numbers[folder, ending] = found
        return self._frame_numbers[folder, ending]

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
