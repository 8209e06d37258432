"""Restricted loading of `.npy` and pickle files from a download: plain arrays and containers, never code.

A pickle names functions to call while it is read, so reading a hostile one with `pickle.load` or `numpy.load(...,
allow_pickle=True)` runs whatever it names. Here the few names that NumPy needs stand for checked stand-ins of our own,
builtin containers are allowed, and any other name is refused before anything is called.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable

import numpy as np
from numpy.lib import format as npy_format

# No file of a motion data set holds more elements; a header that claims more is damaged or hostile.
MAX_ELEMENTS = 100_000_000

_NPY_MAGIC = b"\x93NUMPY"
_PLAIN_DTYPE = re.compile(r"[<>|=]?([biuf?]\d*|[cSU]\d+|O8?)")
_CONTAINERS = {"dict": dict, "list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_BUILTIN_MODULES = ("builtins", "__builtin__")
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUFFER_MODULES = ("numpy.core.numeric", "numpy._core.numeric")

# The form of a pickle, for looking at one without reading it: bytes of each opcode's argument.
_ARGUMENT_LENGTHS = {ord(opcode.code): opcode.arg.n if opcode.arg else 0 for opcode in pickletools.opcodes}
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_STOP, _PUT, _LONG_BINPUT = b".pr"
_TWO_LINES = b"ci"  # GLOBAL and INST: module and name


class DamagedFileError(ValueError):
    """A file that is truncated or not what its name says."""


class UnsafeFileError(ValueError):
    """A pickle that asks for a name outside the allowed few; nothing of it was executed."""


def load_npy(data: bytes, name: str) -> np.ndarray:
    """The array in the bytes of a `.npy` file; arrays of objects go through the restricted unpickler.

    Args:
        data: the whole file.
        name: what to call the file in messages.

    Raises:
        DamagedFileError: not a `.npy`, truncated, or with a header that its content cannot fill.
        UnsafeFileError: a pickled object that is more than arrays and containers.
    """
    stream = io.BytesIO(data)
    shape, fortran_order, dtype = _read_npy_header(stream, name)
    body = data[stream.tell() :]
    if dtype.hasobject:
        return _object_array(load_pickle(body, name), shape, dtype, name)
    expected = math.prod(shape) * dtype.itemsize
    if len(body) != expected:
        raise DamagedFileError(f"{name}: {len(body)} bytes of data where its header {shape} {dtype} needs {expected}")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran_order else "C")


def load_pickle(data: bytes, name: str) -> object:
    """The object in the bytes of a pickle file: containers, numbers, text and plain NumPy arrays.

    Raises:
        DamagedFileError: truncated or not a pickle.
        UnsafeFileError: it asks for anything else than arrays and containers.
    """
    try:
        _check_memory(data)
        return _RestrictedUnpickler(io.BytesIO(data), name).load()
    except UnsafeFileError:
        raise
    except Exception as error:  # damaged bytes make the unpickler raise almost anything
        raise DamagedFileError(f"{name}: not a complete pickle ({type(error).__name__}: {error})") from error


def _check_memory(data: bytes) -> None:
    """Raises ValueError where a pickle makes the unpickler ask for memory that its bytes do not fill.

    Objects are numbered one after the other, but a single changed bit turns a number into one of billions, for which
    the unpickler would set up a table. (This is `pickletools.genops`, five times faster: it runs for every file.)
    """
    position = step = 0
    while position < len(data) and data[position] != _STOP:
        code = data[position]
        length = _ARGUMENT_LENGTHS.get(code)
        if length is None:
            return  # no opcode: the unpickler will say so
        position += 1
        if length >= 0:
            if code == _LONG_BINPUT and int.from_bytes(data[position : position + 4], "little") > step:
                raise ValueError(f"an object with an impossible number at byte {position}")
            position += length
        elif length == pickletools.UP_TO_NEWLINE:
            line_end = data.find(b"\n", position)
            if code == _PUT and int(data[position:line_end]) > step:
                raise ValueError(f"an object with an impossible number at byte {position}")
            if code in _TWO_LINES:
                line_end = data.find(b"\n", line_end + 1)
            if line_end < 0:
                return
            position = line_end + 1
        else:
            size = _LENGTH_BYTES[length]
            position += size + int.from_bytes(data[position : position + size], "little")
            if position > len(data):
                raise ValueError(f"it ends {position - len(data)} bytes too early")
        step += 1


def _read_npy_header(stream: io.BytesIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
    try:
        version = npy_format.read_magic(stream)
        if version not in readers:
            raise ValueError(f"format version {version}, known are 1.0 and 2.0")
        shape, fortran_order, dtype = readers[version](stream)
    except Exception as error:  # NumPy evaluates the header as a literal, whose errors are of many kinds
        reason = re.sub(r" at 0x[0-9a-f]+", "", str(error))  # the same file gives the same message every time
        raise DamagedFileError(
            f"{name}: no readable .npy header ({reason}); the file starts with {stream.getvalue()[:12]!r}, "
            f"expected {_NPY_MAGIC!r}"
        ) from error
    if not _PLAIN_DTYPE.fullmatch(dtype.str):
        raise DamagedFileError(f"{name}: holds {dtype}, expected numbers, text or objects")
    if any(length < 0 for length in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise DamagedFileError(f"{name}: its header claims shape {shape}, more than {MAX_ELEMENTS} elements")
    return shape, fortran_order, dtype


def _object_array(content: object, shape: tuple[int, ...], dtype: np.dtype, name: str) -> np.ndarray:
    array = np.asarray(content) if isinstance(content, np.ndarray) else None
    if array is None or array.dtype != dtype or array.shape != shape:
        found = f"{array.dtype} {array.shape}" if array is not None else type(content).__name__
        raise DamagedFileError(f"{name}: holds {found} where its header says {dtype} {shape}")
    return array


class _RestrictedUnpickler(pickle.Unpickler):
    """Unpickler that knows NumPy's array, scalar and dtype reconstruction and builtin containers, nothing else."""

    def __init__(self, stream: io.BytesIO, name: str) -> None:
        super().__init__(stream, encoding="latin1")
        self._name = name

    def find_class(self, module: str, name: str) -> Callable:
        if module in _BUILTIN_MODULES and name in _CONTAINERS:
            return _CONTAINERS[name]
        stand_in = _stand_in(module, name)
        if stand_in is None:
            raise UnsafeFileError(
                f"{self._name}: would call {module}.{name} on being read. Only plain NumPy arrays and containers are "
                "allowed, so nothing was executed; do not use this file, download it again from the source"
            )
        return stand_in


def _stand_in(module: str, name: str) -> Callable | None:
    """What a global name of a NumPy pickle is replaced with, or None when the name is not allowed.

    Functions are wrapped anew for every file: a pickle can set attributes on what it was given, and those must not
    outlive it.
    """
    if (module, name) == ("numpy", "ndarray"):
        return _Array
    if (module, name) == ("numpy", "dtype"):
        return _Dtype
    if module in _ARRAY_MODULES and name == "_reconstruct":
        return lambda kind, shape, code: _empty_array(kind)
    if module in _ARRAY_MODULES and name == "scalar":
        return lambda dtype, data: _array_from_bytes(dtype, (), data)[()]
    if module in _BUFFER_MODULES and name == "_frombuffer":
        return lambda data, dtype, shape, order: _array_from_bytes(dtype, shape, data, order == "F")
    # The pickle protocols before 3 write bytes as text to encode, empty ones as a call without arguments.
    if (module, name) == ("_codecs", "encode"):
        return lambda text, encoding: text.encode({"latin1": "latin1"}[encoding])
    if module in _BUILTIN_MODULES and name == "bytes":
        return lambda: b""
    return None


class _Dtype:
    """Stand-in for a dtype under construction: a plain number, text or object type; anything structured is refused."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise ValueError(f"dtype {code!r} is not a plain number, text or object")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        byte_order, subarray, names, fields = state[1:5]
        if subarray is not None or names is not None or fields is not None or byte_order not in ("<", ">", "|", "="):
            raise ValueError("structured dtypes are not allowed")
        self.dtype = self.dtype.newbyteorder(byte_order)


class _Array(np.ndarray):
    """Array under construction; its content is checked against its shape before NumPy sees it."""

    def __new__(cls, *args: object) -> "_Array":
        raise ValueError("an array is not made by calling numpy.ndarray in a pickle")

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran_order, data = state
        if dtype.dtype.hasobject and not (isinstance(data, list) and len(data) == math.prod(shape)):
            raise ValueError(f"array of objects of shape {shape} without its {math.prod(shape)} objects")
        if not dtype.dtype.hasobject:
            data = data.encode("latin1") if isinstance(data, str) else data
            _check_size(dtype, shape, data)
        super().__setstate__((1, tuple(shape), dtype.dtype, bool(fortran_order), data))


def _empty_array(kind: object) -> _Array:
    if kind is not _Array:
        raise ValueError(f"{kind!r} is not numpy.ndarray")
    return np.ndarray.__new__(_Array, (0,), "b")


def _array_from_bytes(dtype: _Dtype, shape: tuple, data: bytes | str, fortran_order: bool = False) -> np.ndarray:
    data = data.encode("latin1") if isinstance(data, str) else data
    _check_size(dtype, shape, data)
    return np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if fortran_order else "C").copy(order="K")


def _check_size(dtype: _Dtype, shape: tuple, data: bytes) -> None:
    expected = math.prod(shape) * dtype.dtype.itemsize
    if dtype.dtype.hasobject or any(length < 0 for length in shape) or len(data) != expected:
        raise ValueError(f"{len(data)} bytes where shape {shape} of {dtype.dtype} needs {expected}")
