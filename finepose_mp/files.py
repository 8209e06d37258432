"""Files: such that appear under their name when they are whole, and digests that identify them."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_free(*paths: Path, overwrite: bool) -> None:
    """Nothing when the files may be written. Raises FileExistsError when one is there and `overwrite` is false."""
    existing = [str(path) for path in paths if Path(path).exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{', '.join(existing)} exists; choose another --out or pass --overwrite to replace it")


@contextmanager
def appearing(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A path to write to, in the folder of `path` and with its suffix, that takes its name when the block succeeds.

    The folder is made if need be; after an error nothing is left, and a previous file stays as it was.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
    """
    path = Path(path)
    check_free(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal; the file is read in pieces. Raises OSError when it cannot be."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
