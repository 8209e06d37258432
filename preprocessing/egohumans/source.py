"""Where the files of one take come from, and a reader that keeps a digest of everything it read.

Parsers take bytes and a name, never a path, so that a take can be read from a folder as well as from an archive.
"""

import errno
import fnmatch
import hashlib
import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

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

_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK  # nobody may ever write into a pipe that lies where a file should
_NO_STATUS = (-1, -1)  # of what cannot be read, for now


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


def needed_files(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The files of a take's folder that are read as a whole: (their folder in the take, their names), both sorted."""
    for pattern in NEEDED_FILES:
        parent, _, name = pattern.rpartition("/")
        for found in folders_at(folder, parent):
            try:
                names = sorted(fnmatch.filter(os.listdir(folder / found), name))
            except (FileNotFoundError, NotADirectoryError):
                continue
            yield found, names


def image_folders(folder: Path) -> Iterator[str]:
    """The folders of images in a take's folder, by their paths in it, sorted for each kind of camera."""
    for pattern in IMAGE_FOLDERS:
        yield from folders_at(folder, pattern)


def folders_at(folder: Path, pattern: str) -> list[str]:
    """Paths relative to a folder of what lies at a pattern in it, sorted; "" for the folder itself."""
    found = [""]
    for part in pattern.split("/") if pattern else ():
        found = [f"{above}/{name}".lstrip("/") for above in found for name in _names_like(folder / above, part)]
    return found


def _names_like(folder: Path, pattern: str) -> list[str]:
    if "*" not in pattern:
        return [pattern] if (folder / pattern).is_dir() else []
    return sorted(fnmatch.filter(os.listdir(folder), pattern)) if folder.is_dir() else []


class TakeError(ValueError):
    """A take that cannot be converted; the message says what is absent or wrong and where."""


class TakeSource(Protocol):
    """The files of one take, addressed by paths relative to it with forward slashes."""

    location: str  # for messages: folder or archive

    def names(self, folder: str) -> list[str]:
        """Names of the entries of a folder, sorted; empty when there is no such folder."""

    def read(self, path: str, size: int = -1) -> bytes:
        """The file's first `size` bytes, all by default. Raises OSError, FileNotFoundError for one."""

    def read_all(self, folder: str, names: Iterable[str]) -> Iterator[bytes | OSError]:
        """The whole content of one file of a folder after the other, or why it cannot be read."""


class DirectorySource:
    """A take that is unpacked in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.location = str(folder)
        self._statuses: dict[tuple[str, bytes], bytes] = {}  # folder and names -> sizes and times, digests of both

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(f"{self.location}/{folder}"))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: str, size: int = -1) -> bytes:
        return _read(f"{self.location}/{path}", size=size)[1]

    def read_all(self, folder: str, names: Iterable[str]) -> Iterator[bytes | OSError]:
        # A take has tens of thousands of small files: path look-ups and file objects would cost as much as reading.
        names, statuses = list(names), array("q")
        directory = os.open(self.folder / folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in names:
                try:
                    status, content = _read(name, directory)
                except OSError as error:
                    statuses.extend(_NO_STATUS)
                    yield error
                else:
                    statuses.extend((status.st_size, status.st_mtime_ns))
                    yield content
        finally:
            os.close(directory)
        self._statuses[folder, _digest("\n".join(names))] = _digest(statuses)

    def fingerprint(self) -> str:
        """Changes with names, sizes and times of the needed files, and with the set of images.

        Of files that were read it is as they were when that was done, and is forgotten with this call.
        """
        digest, read = hashlib.sha256(), self._statuses
        self._statuses = {}
        for folder, names in needed_files(self.folder):
            key = folder, _digest("\n".join(names))
            statuses = read.get(key) or _digest(self._ask_for_statuses(folder, names))
            digest.update(b"".join([os.fsencode(folder), *key[1:], statuses]))
        for folder in image_folders(self.folder):
            status = os.stat(self.folder / folder)
            digest.update(os.fsencode(f"{folder}\n{status.st_size} {status.st_mtime_ns}\n"))
        return digest.hexdigest()

    def _ask_for_statuses(self, folder: str, names: list[str]) -> array:
        statuses = array("q")
        for name in names:
            try:
                status = os.stat(f"{self.location}/{folder}/{name}")
            except OSError:  # a link that leads nowhere
                statuses.extend(_NO_STATUS)
            else:
                is_file = stat.S_ISREG(status.st_mode)
                statuses.extend((status.st_size, status.st_mtime_ns) if is_file else _NO_STATUS)
        return statuses


def _digest(content: str | array) -> bytes:
    return hashlib.sha256(os.fsencode(content) if isinstance(content, str) else content).digest()


def _read(path: str, directory: int | None = None, size: int = -1) -> tuple[os.stat_result, bytes]:
    """Status and first `size` bytes, all by default, of a file; its path may be relative to an open directory.

    Raises:
        OSError: it cannot be read, or is a folder or a pipe.
    """
    file = os.open(path, _OPEN_FLAGS, dir_fd=directory)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "found a folder, pipe or device, expected a file", path)
        if size >= 0:
            return status, os.read(file, size)
        content = os.read(file, status.st_size + 1)  # a byte more than there are says that there are no more
        if len(content) == status.st_size:
            return status, content
        pieces = [content]
        while pieces[-1]:
            pieces.append(os.read(file, 1 << 20))
        return status, b"".join(pieces)
    finally:
        os.close(file)


class TakeReader:
    """Reads a take's files and remembers the SHA-256 of what was read, per file or per folder of frames."""

    def __init__(self, source: TakeSource) -> None:
        self.source = source
        self.source_files: dict[str, dict] = {}
        self._numbers: dict[tuple[str, str], tuple[np.ndarray, list[str]]] = {}  # of frames; names of other numbers

    def names(self, folder: str) -> list[str]:
        """Names of the entries of a folder, sorted; empty when there is no such folder."""
        return self.source.names(folder)

    def has(self, path: str) -> bool:
        """Whether the take has this file or folder."""
        folder, _, name = path.rpartition("/")
        return name in self.names(folder)

    def file(self, path: str) -> bytes:
        """The content of one file. Raises TakeError when it is absent or cannot be read."""
        try:
            data = self.source.read(path)
        except OSError as error:
            raise TakeError(_unreadable(path, error)) from error
        self.source_files[path] = {"sha256": hashlib.sha256(data).hexdigest()}
        return data

    def head(self, path: str, size: int) -> bytes:
        """The first bytes of one file, without a digest: for image headers. Raises OSError."""
        return self.source.read(path, size)

    def frame_numbers(self, folder: str, ending: str) -> np.ndarray:
        """Numbers (n,) of the numbered files (00001.npy, ...) in a folder, ascending; 0 is no frame."""
        return self._numbered(folder, ending)[0]

    def misnumbered(self, folder: str, ending: str) -> list[str]:
        """Names of the files in a folder that are numbered, and yet no frames: 00000, or not of five digits; sorted."""
        return self._numbered(folder, ending)[1]

    def _numbered(self, folder: str, ending: str) -> tuple[np.ndarray, list[str]]:
        if (folder, ending) not in self._numbers:
            names = "/".join(["", *self.names(folder), ""])
            found = re.findall(rf"/([0-9]+){re.escape(ending)}(?=/)", names)
            frames = [digits for digits in found if len(digits) == 5 and digits != "00000"]
            others = [f"{digits}{ending}" for digits in found if len(digits) != 5 or digits == "00000"]
            self._numbers[folder, ending] = np.array([int(digits) for digits in frames], int), others
        return self._numbers[folder, ending]

    def frames(self, folder: str, ending: str, unreadable: dict[int, str]) -> Iterator[tuple[int, str, bytes]]:
        """Frame number, path and content of a folder's numbered files, ascending.

        The folder's digest is over its files' contents one after the other.

        Args:
            unreadable: gets what was wrong with the files that cannot be read, by frame number; they are left out.
        """
        numbers = self.frame_numbers(folder, ending).tolist()
        if not numbers:
            return
        digest, count = hashlib.sha256(), 0
        names = [f"{number:05d}{ending}" for number in numbers]
        for number, name, data in zip(numbers, names, self.source.read_all(folder, names), strict=True):
            path = f"{folder}/{name}"
            if isinstance(data, OSError):
                unreadable[number] = _unreadable(path, data)
                continue
            digest.update(data)
            count += 1
            yield number, path, data
        self.source_files[folder] = {"files": count, "sha256": digest.hexdigest()}


def _unreadable(path: str, error: OSError) -> str:
    """Says why a file that is there cannot be read."""
    hint = "; a link that leads nowhere?" if isinstance(error, FileNotFoundError) else ""
    return f"{path} cannot be read ({error.strerror or error}{hint})"
