"""Reading files of a download, with messages for the ways in which downloads go wrong."""

from pathlib import Path

import h5py

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_WEB_PAGE_STARTS = (b"<!doctype html", b"<html", b"<head", b'<?xml version="1.0" encoding="utf-8"?><!doctype html')


class RawDataError(ValueError):
    """Raw data that cannot be converted; the message names the file, what was found and what to do."""


def files_like(folder: Path, pattern: str) -> list[Path]:
    """Paths in a folder that match a pattern, sorted; without the notes ("._name") that macOS puts beside files."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("._"))


def read_bytes(path: Path, size: int = -1) -> bytes:
    """The file, or its first `size` bytes."""
    with open(path, "rb") as file:
        return file.read(size)


def reject_web_page(start: bytes, path: Path) -> None:
    """Nothing, unless the file is a web page saved under another name: then RawDataError."""
    text = start[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if any(text.startswith(beginning) for beginning in _WEB_PAGE_STARTS) or b"<html" in text:
        raise RawDataError(
            f"{path} is a web page (it starts with {start[:40]!r}), saved under the name of the file: the download "
            "was answered with a page, for example because the login had expired. Log in and download it again"
        )


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file of a download, open for reading. Raises RawDataError when it is something else."""
    start = read_bytes(path, size=512)
    reject_web_page(start, path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "truncated" if start.startswith(_HDF5_MAGIC) else f"it starts with {start[:8]!r}"
        raise RawDataError(f"{path}: not a readable HDF5 file ({reason}: {error}); get it again") from error
