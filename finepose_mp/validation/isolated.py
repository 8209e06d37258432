"""Validation in a process of its own: damaged HDF5 files can bring down the library that reads them."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from finepose_mp.validation.file import validate
from finepose_mp.validation.findings import Report


def validate_isolated(path: Path, on_sequence: Callable[[str], None] | None = None) -> Report:
    """What `validate` says about a file; a crash of the process that reads it makes the file unusable, no more.

    Arguments as in `validate`. Call it from a main module that is guarded by `if __name__ == "__main__"`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(str(path), theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            message = ours.recv()
            if isinstance(message, Report):
                return message
            if on_sequence is not None:
                on_sequence(message)
    except EOFError:
        process.join()
        reason = f"the process that read it ended with status {process.exitcode}"
        return Report(Path(path), unusable=f"{path}: damaged or hostile: {reason}; copy or convert it again")
    finally:
        process.kill()
        process.join()


def _work(path: str, connection: Connection) -> None:
    connection.send(validate(Path(path), on_sequence=connection.send))
