"""Arrays with a first axis of cameras, of which one camera's part is in memory: long takes are larger than that."""

import math
import tempfile
from pathlib import Path

import numpy as np

LARGEST_IN_MEMORY = 16 * 2**20  # bytes


def camera_array(shape: tuple[int, ...], dtype: type, scratch: Path | None) -> "np.ndarray | SpilledArray":
    """An uninitialised array (K, ...), in a nameless temporary file in the folder `scratch` where it is large."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.empty(shape, dtype) if size <= LARGEST_IN_MEMORY else SpilledArray(shape, dtype, scratch)


class SpilledArray:
    """An array (K, ...) in a file that vanishes with it; its parts along the first axis are set and got as arrays."""

    def __init__(self, shape: tuple[int, ...], dtype: type, scratch: Path | None) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.nbytes = math.prod(shape) * self.dtype.itemsize
        self._scratch = scratch
        self._file = tempfile.TemporaryFile(dir=scratch)

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, k: int, values: np.ndarray) -> None:
        part = np.broadcast_to(np.asarray(values, self.dtype), self.shape[1:])
        self._file.seek(k * self._stride)
        self._file.write(memoryview(np.ascontiguousarray(part)).cast("B"))

    def __getitem__(self, k: int | slice) -> np.ndarray:
        start, stop, _ = k.indices(len(self)) if isinstance(k, slice) else (k, k + 1, 1)
        self._file.seek(start * self._stride)
        found = np.frombuffer(bytearray(self._file.read((stop - start) * self._stride)), self.dtype)
        found = found.reshape(stop - start, *self.shape[1:])
        return found if isinstance(k, slice) else found[0]

    def __array__(self, dtype: type | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def copy(self) -> "SpilledArray":
        """The same in a file of its own."""
        other = SpilledArray(self.shape, self.dtype, self._scratch)
        for k in range(len(self)):
            other[k] = self[k]
        return other

    @property
    def _stride(self) -> int:
        return self.nbytes // len(self)
