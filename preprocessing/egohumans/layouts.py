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
_MOST_LAYOUTS = 1000  # kept of files of one length; of a hostile download every file may have its own
_MOST_MASKS = 4  # places where files of one length have their byte strings

_FILES_AT_ONCE = 128  # as many as stay in the processor's cache while they are hashed, compared and copied

# Opcodes of byte strings, and how many bytes opcode and length take.
_BYTE_STRINGS = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9}

File = tuple[int, str, bytes]  # frame number, name, content


@dataclass(frozen=True)
class Batch:
    """Files of one layout: their frame numbers (n,), and their arrays (n, ...) under the same keys.

    Arrays may be views of what was read, at any byte: copy what is kept.
    """

    frames: np.ndarray
    parts: Parts


# Where the arrays of files of one layout lie: key, first byte, an array of that type and shape.
_Layout = list[tuple[Hashable, int, np.ndarray]]


class _Mask:
    """Files of one length whose byte strings lie at the same places, and which layouts these have.

    What is outside of the byte strings says the layout: files that agree there differ in numbers only.
    """

    def __init__(self, strings: list[tuple[int, int]], length: int) -> None:
        self.strings = strings
        edges = [0, *(edge for string in strings for edge in string), length]
        self._fixed = [slice(*edge) for edge in zip(edges[::2], edges[1::2], strict=True) if edge[0] < edge[1]]
        self.layouts: dict[bytes, _Layout | None] = {}  # None: its arrays cannot be told for sure
        self._met: Counter[bytes] = Counter()

    def is_worth_a_try(self, fixed: bytes, count: int) -> bool:
        """Whether a layout, of which so many more files were met, has been met often enough to find it."""
        if len(self._met) >= _MOST_LAYOUTS:
            self._met.clear()
            self.layouts.clear()
        self._met[fixed] += count
        return fixed not in self.layouts and self._met[fixed] >= _FEWEST_FILES

    def rows_by_layout(self, content: np.ndarray) -> dict[bytes, list[int]]:
        """The rows of files (n, length) that agree in all bytes outside of byte strings, by these bytes."""
        fixed = np.concatenate([content[:, part] for part in self._fixed], axis=1)
        rows: dict[bytes, list[int]] = {}
        width, text = fixed.shape[1], fixed.tobytes()
        for i in range(len(fixed)):
            rows.setdefault(text[i * width : (i + 1) * width], []).append(i)
        return rows


class LayoutReader:
    """Reads files with `parse`, which says what a file holds and whether it is damaged; remembers layouts it has met.

    The keys that `parse` gives may depend on anything but the contents of arrays.
    """

    def __init__(self, parse: Parse) -> None:
        self._parse = parse
        self._masks: dict[int, list[_Mask]] = {}

    def read(self, files: list[File]) -> tuple[list[Batch], dict[int, str]]:
        """What files given as frame number, name and content hold, and what is wrong with the damaged ones, by frame.

        Raises:
            UnsafeFileError: a pickle tried to be more than data.
        """
        by_length: dict[int, list[File]] = {}
        for file in files:
            by_length.setdefault(len(file[2]), []).append(file)
        batches: list[Batch] = []
        damaged: dict[int, str] = {}
        for length, alike in by_length.items():
            masks = self._masks.setdefault(length, [])
            for mask in masks:
                alike = self._read_alike(alike, mask, batches)
            while alike and len(masks) < _MOST_MASKS:
                strings = _byte_strings(alike[0][2])
                if strings in [mask.strings for mask in masks]:
                    break
                masks.append(_Mask(strings, length))
                alike = self._read_alike(alike, masks[-1], batches)
            for file in alike:
                self._read_alone(file, batches, damaged)
        return batches, damaged

    def _read_alike(self, files: list[File], mask: _Mask, batches: list[Batch]) -> list[File]:
        """Reads the files, all of one length, whose layout is known or worth finding; returns the others."""
        if not files or not files[0][2]:
            return files
        content = np.frombuffer(b"".join([data for _, _, data in files]), np.uint8).reshape(len(files), -1)
        frames = np.array([number for number, _, _ in files])
        left = []
        for fixed, rows in mask.rows_by_layout(content).items():
            if mask.is_worth_a_try(fixed, len(rows)):
                mask.layouts[fixed] = self._find_layout(files[rows[0]])
            layout = mask.layouts.get(fixed)
            if layout is None:
                left += rows
                continue
            which = slice(None) if len(rows) == len(content) else rows
            parts = [(key, _view(content, start, like)[which]) for key, start, like in layout]
            batches.append(Batch(frames[which], parts))
        return [files[i] for i in sorted(left)]

    def _find_layout(self, file: File) -> _Layout | None:
        _, name, data = file
        try:
            return _find_layout(data, self._parse(data, name), self._parse, name)
        except DamagedFileError:
            return None

    def _read_alone(self, file: File, batches: list[Batch], damaged: dict[int, str]) -> None:
        number, name, data = file
        try:
            parts = self._parse(data, name)
        except DamagedFileError as error:
            damaged[number] = str(error)
        else:
            batches.append(Batch(np.array([number]), [(key, array[None]) for key, array in parts]))


def _view(files: np.ndarray, start: int, like: np.ndarray) -> np.ndarray:
    """The arrays (n, ...) that lie at one place in files (n, length), without a copy."""
    shape, strides = (len(files), *like.shape), (files.strides[0], *np.empty(like.shape, like.dtype).strides)
    return np.ndarray(shape, like.dtype, files, start, strides)


def batches_of_files(files: Iterable[File]) -> Iterator[list[File]]:
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
    return found


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
