"""Files that appear under their name when they are whole, digests that identify them, folders held by one process."""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_held: set[int] = set()  # descriptors of folders


def _let_go() -> None:
    """Closes what a forked process inherited: should it outlive its parent, it would go on holding the folders."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


def check_free(*paths: Path, overwrite: bool) -> None:
    """Nothing when the files may be written. Raises FileExistsError when one is there and `overwrite` is false."""
    existing = [str(path) for path in paths if Path(path).exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{', '.join(existing)} exists; choose another --out or pass --overwrite to replace it")


@contextmanager
def appearing(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A path to write to, in the folder of `path` and with its suffix, that takes its name when the block succeeds.

    The folder is made if need be. The content is on the disk before the name is; after an error nothing is left, and a
    previous file stays as it was.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
    """
    path = Path(path)
    check_free(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal; the file is read in pieces. Raises OSError when it cannot be."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def held(folder: Path, taken: str) -> Iterator[None]:
    """Keeps a folder, which is made if need be, from other processes that hold it this way, until the block ends.

    The operating system lets go of it however the process ends, and nothing is left in the folder. On a disk that
    knows no locks everybody may hold it; on a shared one, perhaps everybody on another machine.

    Args:
        folder: to hold.
        taken: what the error says.

    Raises:
        BlockingIOError: another process holds the folder.
    """
    descriptor = None
    while descriptor is None:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(folder, taken)
    _held.add(descriptor)
    try:
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _lock(folder: Path, taken: str) -> int | None:
    """Descriptor of the locked folder, None when its holder before finished and removed it in this very moment."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise BlockingIOError(taken) from error
    except OSError:  # no locks on this disk: better unprotected than not at all
        return descriptor
    with suppress(FileNotFoundError):
        if os.path.samestat(os.stat(folder), os.fstat(descriptor)):
            return descriptor
    os.close(descriptor)
    return None
