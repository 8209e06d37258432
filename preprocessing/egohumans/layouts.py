"""Many small pickles of one layout, read at the cost of copying their numbers.

A folder of frames holds hundreds of files of the same program, which differ in the contents of their arrays only. The
first file of a layout is read by the restricted unpickler, and where its arrays lie in it is found out. A file that
agrees with it in every other byte holds the same structure with other numbers, and needs no unpickling. A file that
does not is read on its own, so the result never depends on whether there is a layout.
"""

import itertools
import pickletools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from finepose_mp.preprocessing.unpickling import DamagedFileError

# The content of one file: arrays, each under a key that says what it is.
Parts = list[tuple[Hashable, np.ndarray]]
Parse = Callable[[bytes, str], Parts]

_FEWEST_FILES = 8  # finding a layout costs as much as reading so many files one by one
_MOST_TRIES = 64  # of files of one length; whoever writes more does not write alike, and four failures are enough

_FILES_AT_ONCE = 512  # so that memory does not grow with the length of a take

# Opcodes of byte strings, and how many bytes opcode and length take.
_BYTE_STRINGS = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9}


@dataclass(frozen=True)
class Batch:
    """Files of one layout: their frame numbers (n,), and their arrays (n, ...) under the same keys."""

    frames: np.ndarray
    parts: Parts


@dataclass(frozen=True)
class _Layout:
    """A file to compare with: which of its bytes must agree, and where its arrays lie."""

    template: np.ndarray  # (length,) uint8
    fixed: np.ndarray  # positions of the bytes that must agree
    parts: list[tuple[Hashable, int, np.ndarray]]  # key, first byte, an array of that type and shape

    def fits(self, files: np.ndarray) -> np.ndarray:
        """Which of the files (n, length) have this layout: bool (n,)."""
        return (files[:, self.fixed] == self.template[self.fixed]).all(axis=1)

    def read(self, files: np.ndarray) -> Parts:
        """The arrays (n, ...) of files (n, length) that have this layout."""
        return [
            (key, np.ascontiguousarray(files[:, start : start + like.nbytes]).view(like.dtype).reshape(-1, *like.shape))
            for key, start, like in self.parts
        ]


class LayoutReader:
    """Reads files with `parse`, which says what a file holds and whether it is damaged; remembers layouts it has met.

    The keys that `parse` gives may depend on anything but the contents of arrays.
    """

    def __init__(self, parse: Parse) -> None:
        self._parse = parse
        self._layouts: dict[int, list[_Layout]] = {}
        self._tries: Counter[int] = Counter()

    def read(self, files: list[tuple[int, str, bytes]]) -> tuple[list[Batch], dict[int, str]]:
        """What files given as frame number, name and content hold, and what is wrong with the damaged ones, by frame.

        Raises:
            UnsafeFileError: a pickle tried to be more than data.
        """
        by_length: dict[int, list[tuple[int, str, bytes]]] = {}
        for file in files:
            by_length.setdefault(len(file[2]), []).append(file)
        batches: list[Batch] = []
        damaged: dict[int, str] = {}
        for alike in by_length.values():
            while alike:
                alike = self._read_known(alike, batches)
                alike = self._read_first(alike, batches, damaged)
        return batches, damaged

    def _read_known(self, files: list[tuple[int, str, bytes]], batches: list[Batch]) -> list[tuple[int, str, bytes]]:
        """Reads the files, all of one length, whose layouts are known; returns the others."""
        length = len(files[0][2])
        if not self._layouts.get(length):
            return files
        frames = np.array([number for number, _, _ in files])
        content = np.frombuffer(b"".join(data for _, _, data in files), np.uint8).reshape(len(files), length)
        unread = np.ones(len(files), bool)
        for layout in self._layouts[length]:
            fits = np.zeros(len(files), bool)
            fits[unread] = layout.fits(content[unread])
            if fits.any():
                batches.append(Batch(frames[fits], layout.read(content[fits])))
                unread &= ~fits
        return [files[i] for i in np.flatnonzero(unread)]

    def _read_first(
        self, files: list[tuple[int, str, bytes]], batches: list[Batch], damaged: dict[int, str]
    ) -> list[tuple[int, str, bytes]]:
        """Reads the first of several files, and remembers its layout if there are many; returns the others."""
        if not files:
            return []
        number, name, data = files[0]
        try:
            parts = self._parse(data, name)
        except DamagedFileError as error:
            damaged[number] = str(error)
            return files[1:]
        batches.append(Batch(np.array([number]), [(key, array[None]) for key, array in parts]))
        if len(files) >= _FEWEST_FILES and self._tries[len(data)] < _MOST_TRIES:
            layout = _find_layout(data, parts, self._parse, name)
            if layout is not None:
                self._layouts.setdefault(len(data), []).append(layout)
            self._tries[len(data)] += 1 if layout is not None else _MOST_TRIES // 4
        return files[1:]


def batches_of_files(files: Iterable[tuple[int, str, bytes]]) -> Iterator[list[tuple[int, str, bytes]]]:
    """The files in lists of limited length, in order."""
    files = iter(files)
    while some := list(itertools.islice(files, _FILES_AT_ONCE)):
        yield some


def _find_layout(data: bytes, parts: Parts, parse: Parse, name: str) -> _Layout | None:
    """The layout of a file that was parsed into `parts`; None where its arrays' bytes cannot be told for sure.

    The byte strings of a copy are overwritten with noise: where the noise turns up in the arrays is where they lie.
    """
    strings = _byte_strings(data)
    noise, zeros = bytearray(data), bytearray(data)
    rng = np.random.default_rng(0)
    for start, stop in strings:
        noise[start:stop], zeros[start:stop] = rng.bytes(stop - start), bytes(stop - start)
    try:
        noisy, empty = parse(bytes(noise), name), parse(bytes(zeros), name)
    except DamagedFileError:
        return None
    # A key that follows from a byte string would change with it.
    if not [key for key, _ in parts] == [key for key, _ in noisy] == [key for key, _ in empty]:
        return None
    places = {bytes(noise[start:stop]): start for start, stop in strings if stop - start >= 8}
    found = []
    for (key, array), (_, noisy_array) in zip(parts, noisy, strict=True):
        start = places.get(noisy_array.tobytes())
        if start is None:
            return None
        found.append((key, start, array))
    fixed = np.ones(len(data), bool)
    for start, stop in strings:
        fixed[start:stop] = False
    return _Layout(np.frombuffer(data, np.uint8), np.flatnonzero(fixed), found)


def _byte_strings(data: bytes) -> list[tuple[int, int]]:
    """(start, stop) of the byte strings in the pickle of a `.npy` file; none where there is no complete pickle."""
    size_of_length = 2 if data[6:7] == b"\x01" else 4  # the header's length, in format 1.0 and later
    body = 8 + size_of_length + int.from_bytes(data[8 : 8 + size_of_length], "little")
    found = []
    try:
        for opcode, argument, position in pickletools.genops(data[body:]):
            if opcode.name in _BYTE_STRINGS and position is not None:
                start = body + position + _BYTE_STRINGS[opcode.name]
                found.append((start, start + len(argument)))
    except Exception:  # like the unpickler, on bytes that are none of its own it raises almost anything
        return []
    return found
