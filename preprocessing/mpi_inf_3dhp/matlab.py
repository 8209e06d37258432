"""Variables of a MATLAB file, v7.3 (HDF5) or older, in MATLAB's own axis order, without MATLAB."""

from pathlib import Path

import h5py
import numpy as np
from scipy.io import loadmat, whosmat

from finepose_mp.preprocessing.unpickling import DamagedFileError

Value = np.ndarray | list[np.ndarray]  # a numeric array, or the arrays of a cell array in column order

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_OLD_HEADER = b"MATLAB 5.0 MAT-file"


def read_variable(path: Path, name: str) -> Value:
    """One variable: float64 with its axes as MATLAB has them, or a list of such for a cell array.

    Both kinds of file are read, whichever the dataset ships: v7.3 is HDF5 with reversed axes, the older ones are
    MATLAB's own format. One variable at a time, because a training file's do not fit into memory together.

    Raises:
        DamagedFileError: another kind of file, a truncated one, or one without that variable; the message says which.
    """
    path = Path(path)
    reader = _read_hdf5 if _is_hdf5(path) else _read_old
    try:
        value = reader(path, name)
    except DamagedFileError:
        raise
    except Exception as error:  # damaged bytes make both readers raise almost anything
        raise DamagedFileError(
            f"{path}: {name} cannot be read ({type(error).__name__}: {error}); the file is truncated or damaged, "
            "download it again"
        ) from error
    return value


def variable_names(path: Path) -> list[str]:
    """Names of the variables of a MATLAB file, sorted. Raises DamagedFileError as `read_variable` does."""
    path = Path(path)
    try:
        if _is_hdf5(path):
            with h5py.File(path, "r") as file:
                return sorted(name for name in file if not name.startswith("#"))
        return sorted(name for name, _, _ in whosmat(path))
    except DamagedFileError:
        raise
    except Exception as error:
        raise DamagedFileError(
            f"{path}: not a complete MATLAB file ({type(error).__name__}: {error}); download it again"
        ) from error


def _is_hdf5(path: Path) -> bool:
    """Whether it is v7.3. Raises DamagedFileError when it is no MATLAB file at all, saying what it looks like."""
    with open(path, "rb") as file:
        head = file.read(520)
    if head[:8] == _HDF5_SIGNATURE or head[512:520] == _HDF5_SIGNATURE:
        return True
    if head.startswith(_OLD_HEADER):
        return False
    start = head.lstrip()[:9].lower()
    if start.startswith((b"<html", b"<!doctype", b"<?xml")):
        what = "it is a web page, probably a download server's answer"
    elif head.startswith(b"version https://git-lfs"):
        what = "it is a pointer of git-lfs, not the file itself"
    else:
        what = f"it starts with {head[:16]!r}" if head else "it is empty"
    raise DamagedFileError(f"{path}: not a MATLAB file, v5 to v7.3: {what}; download it again")


def _read_hdf5(path: Path, name: str) -> Value:
    with h5py.File(path, "r") as file:
        if name not in file:
            raise _missing(path, name, [key for key in file if not key.startswith("#")])
        data = file[name]
        if not isinstance(data, h5py.Dataset):
            raise DamagedFileError(f"{path}: {name} is a struct, expected numbers or cells")
        if h5py.check_ref_dtype(data.dtype):
            return [_numbers(file[cell][()].T, path, name) for cell in data[()].ravel()]
        return _numbers(data[()].T, path, name)


def _read_old(path: Path, name: str) -> Value:
    content = loadmat(path, variable_names=[name])
    if name not in content:
        raise _missing(path, name, [key for key, _, _ in whosmat(path)])
    data = content[name]
    if data.dtype == object:
        return [_numbers(cell, path, name) for cell in data.ravel(order="F")]
    return _numbers(data, path, name)


def _numbers(data: np.ndarray, path: Path, name: str) -> np.ndarray:
    if data.dtype.kind not in "biuf":
        raise DamagedFileError(f"{path}: {name} holds {data.dtype}, expected numbers")
    return np.asarray(data, np.float64)


def _missing(path: Path, name: str, names: list[str]) -> DamagedFileError:
    return DamagedFileError(
        f"{path}: no variable {name}; it has {', '.join(sorted(names)[:12]) or 'none'}. It is another file than its "
        "name says, or an incomplete download"
    )
