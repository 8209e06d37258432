"""The hidden folder beside an output in which a conversion collects its parts, and the rules for sharing that place.

The folder is locked while a conversion runs; the operating system drops the lock however the process ends. So a folder
that is there and not locked was left by an interrupted conversion, and belongs to the next one that says `resume`.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile

from finepose_mp.files import held

_STATE = "conversion.json"
_STRUCTURE_BYTES = 256 * 1024  # what a file holds beside the arrays of a sequence


@dataclass
class PartsFolder:
    """A claimed folder of parts.

    Attributes:
        path: the folder.
        out: the file that is being made.
        may_replace: identities of the files at `out` that this conversion may replace.
        extends: there is another file at `out`, whose sequences this conversion has to keep.
    """

    path: Path
    out: Path
    may_replace: list[list[int]] = field(default_factory=list)
    extends: bool = False

    def part(self, name: str, source: str) -> Path:
        """Where the part of a piece of work goes; no two share one, and the name says which it is."""
        readable = re.sub(r"[^A-Za-z0-9]+", "_", name)[:60]
        digest = sha256(os.fsencode(f"{name}\n{source}")).hexdigest()
        return self.path / f"{readable}-{digest[:16]}.h5"

    def finished(self) -> list[Path]:
        """The parts that are whole; one that was being written when its process died has a hidden name."""
        return sorted(self.path.glob("[!.]*.h5"))

    def publish(self, whole: Path) -> None:
        """Moves the finished file to where it was asked for, in one step."""
        os.replace(whole, self.out)
        self.discard()

    def discard(self) -> None:
        """Removes the folder with everything in it; for others it is gone in one step."""
        os.replace(self.path, self.rubbish)
        shutil.rmtree(self.rubbish, ignore_errors=True)

    @property
    def rubbish(self) -> Path:
        """The folder's name while it is being removed."""
        return self.path.with_name(f"{self.path.name}.removed")

    def _save(self) -> None:
        aside = self.path / f"{_STATE}.new"
        aside.write_text(json.dumps({"may_replace": self.may_replace}))
        os.replace(aside, self.path / _STATE)


def check_room(folder: Path, size: int) -> None:
    """Nothing where a new file of `size` bytes has room. Raises OSError (no space, quota, file too large) where not.

    HDF5 does not recover when it cannot write: it may take the whole process down. So it is asked beforehand.
    """
    with TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size + _STRUCTURE_BYTES)
        elif shutil.disk_usage(folder).free < size + _STRUCTURE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


@contextmanager
def claim(out: Path, resume: bool, overwrite: bool) -> Iterator[PartsFolder]:
    """The folder of parts of a conversion into `out`, kept from other conversions until the block ends.

    It stays, with the parts in it, when the block ends with an error and something was finished.

    Raises:
        FileExistsError: `out` exists, or parts are left, and neither argument says what to do with them.
        BlockingIOError: another conversion into `out` is running.
    """
    path = out.with_name(f".{out.name}.parts")
    if out.is_dir():
        raise FileExistsError(f"{out} is a folder; --out names a file, for example {out / 'data.h5'}")
    if out.exists() and not overwrite and not resume and not path.exists():
        raise exists(out)
    _make(path, out)
    taken = f"another conversion into {out} is running (it holds {path}); wait for it, or choose another --out"
    with held(path, taken):
        folder = PartsFolder(path, out)
        shutil.rmtree(folder.rubbish, ignore_errors=True)
        try:
            _settle(folder, resume, overwrite)
            yield folder
        finally:
            if path.is_dir() and not folder.finished():
                folder.discard()


def _make(path: Path, out: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            error.errno, f"{error.strerror}: nothing can be written there; choose another --out", f"{out.parent}"
        ) from error


def _settle(folder: PartsFolder, resume: bool, overwrite: bool) -> None:
    """Decides about what an interrupted conversion left, and about a file at `out`."""
    left = folder.finished()
    if left and not resume and not overwrite:
        raise FileExistsError(
            f"an interrupted conversion into {folder.out} left {len(left)} finished parts in {folder.path}; pass "
            "--resume to use them, or --overwrite to throw them away and start afresh"
        )
    if resume:
        folder.may_replace = _saved_permissions(folder.path / _STATE)
    for entry in folder.path.iterdir():
        if not (resume and entry in left):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if folder.out.exists():
        if overwrite:
            folder.may_replace.append(_identity(folder.out))
        folder.extends = _identity(folder.out) not in folder.may_replace
        if folder.extends and not resume:
            raise exists(folder.out)
    folder._save()


def exists(out: Path, why_not_resumed: str = "") -> FileExistsError:
    """The error of a file at `out` that nobody said what to do with, or that cannot be resumed."""
    if why_not_resumed:
        message = f"cannot be resumed: {why_not_resumed}; choose another name, or pass --overwrite to replace it"
        return FileExistsError(f"{out} {message}")
    return FileExistsError(
        f"{out} exists; choose another name, or pass --resume to keep what is in it and add what failed or is new, or "
        "--overwrite to replace it"
    )


def _saved_permissions(state: Path) -> list[list[int]]:
    try:
        return json.loads(state.read_text())["may_replace"]
    except (OSError, ValueError, KeyError):
        return []


def _identity(path: Path) -> list[int]:
    """What tells one version of a file from another, and stays when it is renamed."""
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
