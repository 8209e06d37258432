"""Many sequences of a raw dataset as one file of the contract: in parallel, resumable, all of it or nothing.

Every piece of work writes what it reads into a small file of its own in a hidden folder beside the output (`parts`).
When all are there, they are put together in the order of their names, so the data does not depend on how many jobs ran
or which came first. A broken sequence is reported and skipped; a broken output (no space left) stops everything and
leaves the finished parts for `resume`, which also goes on from a finished output, with what failed or is new.
"""

import errno
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import h5py
import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from finepose_mp import __version__, schema
from finepose_mp.preprocessing import parts
from finepose_mp.preprocessing.finished import Finished, finished_in, note_fingerprint

_OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_RESUME_HINT = "run the same command again with --resume, which keeps what is finished"


class ConversionError(RuntimeError):
    """A conversion that could not write its output, or had nothing to put into it; no output was made or changed."""


@dataclass
class Outcome:
    """What became of one sequence: its size and findings, or the `error` it failed with (and is left out for)."""

    name: str
    source: str  # file or folder that it was read from, for messages
    frames: int = 0
    seconds: float = 0.0
    findings: list[dict] = field(default_factory=list)
    error: str | None = None


# What reading gives: usually one sequence; a source that holds several yields them, and outcomes of those it cannot.
Content = schema.Sequence | Iterable[schema.Sequence | Outcome]


@dataclass(frozen=True)
class Work:
    """One piece of work; it is sent to other processes, so `read` is a module-level function or a `partial` of one.

    Attributes:
        name: the sequence's group in the output ("S9/Greeting 1"); for a source of several, any name that sorts it.
        read: reads the sequence. What it raises is reported as the outcome's error, so its message names the file.
        source: file or folder it reads, for messages.
        fingerprint: changes when the inputs do (paths, sizes, times of change, options); a part is used again only if
            it fits. A function is called where the work is done, which keeps slow ones off the start.
        fingerprint_read: the same of what `read` has just read, which spares asking for every file beforehand.
    """

    name: str
    read: Callable[[], Content]
    source: str
    fingerprint: str | Callable[[], str]
    fingerprint_read: Callable[[], str] | None = None


def convert(
    work: Iterable[Work],
    out: Path,
    *,
    dataset: str,
    joint_set: str,
    licence: str,
    citation: str,
    jobs: int | None = 1,
    resume: bool = False,
    overwrite: bool = False,
    on_done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """What became of every sequence, by name; the good ones are in the file `out`, which appears when all are done.

    Args:
        dataset, joint_set, licence, citation: root attributes of the file, see `schema.create`.
        jobs: processes; None leaves it to an enclosing `joblib.parallel_config`, for example of a dask cluster.
        resume: use what earlier conversions into the same `out` have finished, interrupted or not. Whatever an existing
            `out` holds stays in it; sequences whose inputs have changed are read again.
        overwrite: replace `out` if it exists, and throw away what an interrupted conversion left.
        on_done: called with each outcome as it comes in, for a progress bar.

    Raises:
        FileExistsError: `out` exists, or an interrupted conversion left parts, and no argument says what to do; or
            `out` is to be resumed and is not the output of such a conversion.
        BlockingIOError: another conversion into `out` is running.
        ConversionError: the output cannot be written, or not one sequence could be read. A previous `out` is intact.
    """
    # A link is followed, for a rename would put the file in its place, perhaps on another disk.
    out = Path(os.path.realpath(out)) if Path(out).is_symlink() else Path(out)
    works = sorted(work, key=lambda item: (item.name, item.source))
    root = {"dataset": dataset, "joint_set": joint_set, "licence": licence, "citation": citation}
    with parts.claim(out, resume, overwrite) as folder:
        finished = finished_in(out, root) if folder.extends else Finished(out)
        origin, incomplete, outcomes = _convert_parts(
            works, folder, root, jobs, finished, on_done or (lambda outcome: None)
        )
        _keep(finished, origin, outcomes)
        outcomes.sort(key=lambda outcome: (outcome.name, outcome.source))
        if not origin:
            folder.discard()
            errors = "\n".join(f"  {outcome.name}: {outcome.error}" for outcome in outcomes)
            raise ConversionError(
                f"none of {len(outcomes)} sequences could be converted, {out} was not written:\n{errors}"
            )
        if set(origin.values()) == {out}:
            folder.discard()  # nothing new
        else:
            _assemble(origin, incomplete, folder, root)
    return outcomes


def _convert_parts(
    works: list[Work],
    folder: parts.PartsFolder,
    root: dict,
    jobs: int | None,
    finished: Finished,
    on_done: Callable[[Outcome], None],
) -> tuple[dict[str, Path], set[Path], list[Outcome]]:
    """Sequence name -> the file that holds it, those files that lack a sequence of their work, and all outcomes."""
    calls = [
        joblib.delayed(_convert_first_good)(
            [(item, folder.part(item.name, item.source)) for item in copies], root, finished
        )
        for _, copies in groupby(works, key=lambda item: item.name)
    ]
    found: list[tuple[Outcome, Path]] = []
    for of_one_name in _run(calls, jobs):
        for outcome, _ in of_one_name:
            on_done(outcome)
        found += of_one_name
    origin = _choose_origins(found)
    incomplete = {file for outcome, file in found if outcome.error}
    return origin, incomplete, [outcome for outcome, _ in found]


def _convert_first_good(copies: list[tuple[Work, Path]], root: dict, finished: Finished) -> list[tuple[Outcome, Path]]:
    """Outcomes of works of one name, tried in turn until one gives a sequence of that name, and the files with them.

    Runs in any process.
    """
    found: list[tuple[Outcome, Path]] = []
    good = None
    for work, part in copies:
        if good is not None:
            found.append((Outcome(work.name, work.source, error=_copy_error(work.name, work.source, good)), part))
            continue
        file, outcomes = _convert_one(work, part, root, finished)
        good = next((outcome for outcome in outcomes if outcome.name == work.name and not outcome.error), None)
        found += [(outcome, file) for outcome in outcomes]
    return found


def _copy_error(name: str, source: str, first: Work | Outcome) -> str:
    return f"{source} is a second copy of {name}, which {first.source} has too; remove one of them"


def _choose_origins(found: list[tuple[Outcome, Path]]) -> dict[str, Path]:
    """Sequence name -> file that holds it; a name that comes from two sources becomes an error of the later one.

    An error of a name that came from another source says from which.
    """
    failed = [outcome for outcome, _ in found if outcome.error]
    first: dict[str, Outcome] = {}
    origin: dict[str, Path] = {}
    good = [(outcome, file) for outcome, file in found if not outcome.error]
    for outcome, file in sorted(good, key=lambda pair: (pair[0].name, pair[0].source)):
        if outcome.name in first:
            outcome.error = _copy_error(outcome.name, outcome.source, first[outcome.name])
        else:
            first[outcome.name], origin[outcome.name] = outcome, file
    for outcome in failed:
        used = first.get(outcome.name, outcome)
        if used.source != outcome.source and outcome.error != _copy_error(outcome.name, outcome.source, used):
            outcome.error += f". {used.source} was used instead"
    return origin


def _keep(finished: Finished, origin: dict[str, Path], outcomes: list[Outcome]) -> None:
    """Adds the sequences of a finished file that were not found again, so that nothing is lost by resuming."""
    failed = {outcome.name: outcome for outcome in outcomes if outcome.error}
    kept = [name for name in finished.names if name not in origin]
    origin.update(dict.fromkeys(kept, finished.path))
    for outcome in _outcomes_in(finished, kept, str(finished.path)):
        if outcome.name in failed:
            failed[outcome.name].error += f". {finished.path} keeps {outcome.name} as it was converted before"
        else:
            outcomes.append(outcome)


def _outcomes_in(finished: Finished, names: list[str], source: str) -> list[Outcome]:
    """The outcomes of sequences in a finished file."""
    if not names:
        return []
    with schema.open_file(finished.path) as file:
        lengths = [len(file[name]["frame"]) for name in names]
        findings = [json.loads(file[name].attrs["findings"]) for name in names]
    return [Outcome(names[i], source, lengths[i], findings=findings[i]) for i in range(len(names))]


def _run(calls: list, jobs: int | None) -> Iterator[list[tuple[Outcome, Path]]]:
    """Results as they come in. Raises ConversionError when a process dies."""
    try:
        # One piece of work is long; sending several at once would leave processes idle at the end.
        yield from joblib.Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")(calls)
    except TerminatedWorkerError as error:
        raise ConversionError(
            f"a process was killed, often because memory ran out. Use fewer jobs and {_RESUME_HINT}. {error}"
        ) from error


def _convert_one(work: Work, part: Path, root: dict, finished: Finished) -> tuple[Path, list[Outcome]]:
    """The file with what one piece of work gives, its part or a finished one, and its outcomes."""
    start = time.perf_counter()
    fingerprint = None
    if work.fingerprint_read is None or part.exists() or finished.names_of:
        try:
            fingerprint = _full_fingerprint(work, work.fingerprint, root)
        except Exception as error:
            return part, [failure(work.name, work.source, error)]
        if fingerprint in finished.names_of:
            return finished.path, _outcomes_in(finished, finished.names_of[fingerprint], work.source)
        left = _outcomes_left(part, fingerprint)
        if left is not None:
            return part, left
    if not part.parent.is_dir():  # the conversion that asked for this part is over
        raise ConversionError(f"{part.parent} has gone; was it removed while a conversion was running?")
    outcomes: list[Outcome] = []
    try:
        with schema.create(part, **root, overwrite=True) as file:
            for item in _read(work):
                outcome = item if isinstance(item, Outcome) else _write(file, item, work)
                outcome.seconds, start = time.perf_counter() - start, time.perf_counter()
                outcomes.append(outcome)
            file.attrs["fingerprint"] = fingerprint or _fingerprint_read(work, root)
            file.attrs["outcomes"] = json.dumps([vars(outcome) for outcome in outcomes])
    except ConversionError:
        raise
    except (OSError, RuntimeError) as error:  # h5py raises both where it cannot write
        raise ConversionError(f"{part} cannot be written ({error}); put that right and {_RESUME_HINT}") from error
    return part, outcomes


def _full_fingerprint(work: Work, fingerprint: str | Callable[[], str], root: dict) -> str:
    inputs = fingerprint() if callable(fingerprint) else fingerprint
    text = json.dumps([work.name, inputs, root, schema.SCHEMA_VERSION, __version__])
    return sha256(text.encode()).hexdigest()


def _fingerprint_read(work: Work, root: dict) -> str:
    try:
        return _full_fingerprint(work, work.fingerprint_read, root)
    except OSError:  # something went away in the meantime, so nothing that is there later is what was read
        return ""


def _outcomes_left(part: Path, fingerprint: str) -> list[Outcome] | None:
    """The outcomes of a part from an interrupted conversion, None unless it fits and has nothing to try again."""
    if not part.exists():
        return None
    try:
        with schema.open_file(part) as file:
            if file.attrs["fingerprint"] != fingerprint:
                return None
            outcomes = [Outcome(**said) for said in json.loads(file.attrs["outcomes"])]
    except (schema.SchemaError, KeyError, ValueError, OSError):
        return None
    return None if any(outcome.error for outcome in outcomes) else outcomes


def _read(work: Work) -> Iterator[schema.Sequence | Outcome]:
    """What the work reads; whatever goes wrong in reading becomes an outcome, but no space left concerns everybody."""
    try:
        content = work.read()
        yield from [content] if isinstance(content, schema.Sequence) else content
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OUTPUT_ERRORS:
            raise
        yield failure(work.name, work.source, error)


def failure(name: str, source: str, error: Exception) -> Outcome:
    """The outcome of a sequence that could not be read."""
    # The messages of ValueErrors are written for people; of anything else the kind is needed to understand it.
    reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return Outcome(name, source, error=reason)


def _write(file: h5py.File, sequence: schema.Sequence, work: Work) -> Outcome:
    parts.check_room(Path(file.filename).parent, _size(sequence))
    try:
        schema.write_sequence(file, sequence)
    except (ValueError, TypeError) as error:  # the sequence does not keep the contract: its own fault, not the output's
        if sequence.name in file and not isinstance(error, schema.SchemaError):
            del file[sequence.name]
        return failure(sequence.name, work.source, error)
    return Outcome(sequence.name, work.source, len(sequence.frame), findings=sequence.findings)


def _size(sequence: schema.Sequence) -> int:
    """Bytes of a sequence's arrays, more than they take once they are compressed."""
    return sum(getattr(value, "nbytes", 0) for value in vars(sequence).values())


def _assemble(origin: dict[str, Path], incomplete: set[Path], folder: parts.PartsFolder, root: dict) -> None:
    """Puts the sequences together, each with what it was made from, and lets the output appear."""
    whole = folder.path / "whole.hdf5"
    try:
        parts.check_room(folder.path, sum(part.stat().st_size for part in set(origin.values())))
        with schema.create(whole, **root, overwrite=True) as file:
            for name in sorted(origin):
                with schema.open_file(origin[name]) as source:
                    copy_sequence(source, file, name)
                    if origin[name] != folder.out:
                        note_fingerprint(file[name], "" if origin[name] in incomplete else source.attrs["fingerprint"])
        folder.publish(whole)
    except (OSError, RuntimeError) as error:
        raise ConversionError(f"{folder.out} cannot be written ({error}); put that right and {_RESUME_HINT}") from error


def copy_sequence(source: h5py.File, target: h5py.File, name: str) -> None:
    """Copies one sequence between files of the contract, compressed as it is, its dimension scales attached anew."""
    parent, _, last = name.rpartition("/")
    source.copy(source[name], target.require_group(parent or "/"), name=last)
    variables = dict(target[name].items())
    for copied in variables.values():
        for references in {"DIMENSION_LIST", "REFERENCE_LIST"} & set(copied.attrs):
            del copied.attrs[references]  # they point into the other file
    for key, variable in source[name].items():
        for axis, scales in enumerate(variable.dims):
            for label in scales:  # asking the scale for its path would make HDF5 search the whole file
                variables[key].dims[axis].attach_scale(variables.get(label) or target[label])
