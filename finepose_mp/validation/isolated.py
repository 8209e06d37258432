"""Validation in a process of its own: damaged HDF5 files can bring down the library that reads them."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from finepose_mp.validation.file import validate
from finepose_mp.validation.findings import Report

_LEAST_PATIENCE_S = 60.0
_SLOWEST_BYTES_PER_S = 1e6


def validate_isolated(path: Path, on_sequence: Callable[[str], None] | None = None) -> Report:
    """What `validate` says about a file, which is unusable when the process that reads it crashes or never ends.

    Arguments as in `validate`. Call it from a main module that is guarded by `if __name__ == "__main__"`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(str(path), theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        while ours.poll(_patience(path)):
            message = ours.recv()
            if isinstance(message, Report):
                return message
            if on_sequence is not None:
                on_sequence(message)
        return _unusable(path, f"the process that read it was silent for {_patience(path):.0f} s")
    except EOFError:
        process.join()
        return _unusable(path, f"the process that read it ended with status {process.exitcode}")
    finally:
        process.kill()
        process.join()


def _patience(path: Path) -> float:
    """Seconds that one sequence may take: a minute, and what the whole file takes at a rate far below the usual.

    Damaged bytes can send the HDF5 library into a loop without end.
    """
    size = Path(path).stat().st_size if Path(path).is_file() else 0
    return _LEAST_PATIENCE_S + size / _SLOWEST_BYTES_PER_S


def _unusable(path: Path, reason: str) -> Report:
    return Report(Path(path), unusable=f"{path}: damaged or hostile: {reason}; copy or convert it again")


def _work(path: str, connection: Connection) -> None:
    connection.send(validate(Path(path), on_sequence=connection.send))
