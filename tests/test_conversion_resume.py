"""Interrupted conversions: what was there before stays, what was finished is kept, the end is the same file."""

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_work import ROOT, assert_same, convert, die, read_unless, sequence, work

from finepose_mp import schema
from finepose_mp.preprocessing import conversion, parts
from finepose_mp.preprocessing.conversion import ConversionError, Outcome, Work

NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The file of an uninterrupted conversion."""
    path = tmp_path_factory.mktemp("reference") / "out.h5"
    convert([work(name) for name in NAMES], path)
    return path


def interrupt_after(count: int):
    """A function for `on_done` that interrupts like Ctrl-C when so many sequences are done."""
    done = []

    def on_done(outcome):
        done.append(outcome)
        if len(done) == count:
            raise KeyboardInterrupt

    return on_done


def interrupted(works, out: Path, count: int = 2, **how) -> None:
    with pytest.raises(KeyboardInterrupt):
        convert(works, out, on_done=interrupt_after(count), **how)


def test_resuming_reads_only_what_is_not_there(reference, tmp_path):
    out, log = tmp_path / "out.h5", tmp_path / "log"
    works = [work(name, log) for name in NAMES]
    interrupted(works, out)
    assert not out.exists() and log.read_text() == "a\nb\n"
    outcomes = convert(works, out, resume=True)
    assert log.read_text() == "a\nb\nc\n"
    assert_same(out, reference)
    assert [(outcome.name, outcome.frames, len(outcome.findings)) for outcome in outcomes] == [
        (name, 4, 1) for name in NAMES
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out.h5"]


def test_resuming_where_nothing_was_interrupted_is_a_conversion(reference, tmp_path):
    convert([work(name) for name in NAMES], tmp_path / "out.h5", resume=True)
    assert_same(tmp_path / "out.h5", reference)


def test_changed_input_is_read_again(reference, tmp_path):
    out, log = tmp_path / "out.h5", tmp_path / "log"
    interrupted([work("a", log, "old"), work("b", log), work("c", log)], out)
    convert([work("a", log, "new"), work("b", log), work("c", log)], out, resume=True)
    assert log.read_text() == "a\nb\na\nc\n"
    assert_same(out, reference)


def test_a_part_that_was_damaged_meanwhile_is_made_again(reference, tmp_path):
    out = tmp_path / "out.h5"
    interrupted([work(name) for name in NAMES], out)
    for part in (tmp_path / ".out.h5.parts").glob("*.h5"):
        part.write_bytes(part.read_bytes()[:1000])
    convert([work(name) for name in NAMES], out, resume=True)
    assert_same(out, reference)


def test_what_failed_is_tried_again(reference, tmp_path):
    out, flag = tmp_path / "out.h5", tmp_path / "flag"
    works = [Work("a", partial(read_unless, flag, "a", ValueError("a: broken")), "a.mat", "1"), work("b"), work("c")]
    interrupted(works, out)
    flag.touch()
    convert(works, out, resume=True)
    assert_same(out, reference)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_finished_file_is_resumed_with_what_failed_and_what_is_new(reference, tmp_path, jobs):
    out, log, flag = tmp_path / "out.h5", tmp_path / "log", tmp_path / "flag"
    works = [work("a", log), Work("b", partial(read_unless, flag, "b", ValueError("b: broken")), "b.mat", "1")]
    assert [outcome.error for outcome in convert(works, out)] == [None, "b: broken"]
    flag.touch()
    outcomes = convert([*works, work("c", log)], out, resume=True, jobs=jobs)
    assert log.read_text() == "a\nc\n"
    assert_same(out, reference)
    assert [vars(outcome) | {"seconds": 0} for outcome in outcomes] == [
        vars(Outcome(name, f"{name}.mat", 4, findings=sequence(name).findings)) for name in NAMES
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flag", "log", "out.h5"]


def test_resuming_a_complete_file_leaves_it_as_it_is(tmp_path):
    out, log = tmp_path / "out.h5", tmp_path / "log"
    works = [work(name, log) for name in NAMES]
    convert(works, out)
    before = out.stat()
    assert [outcome.name for outcome in convert(works, out, resume=True)] == NAMES
    assert log.read_text() == "a\nb\nc\n"
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out.h5"]


def test_resuming_a_finished_file_reads_changed_input_again(tmp_path):
    out, log = tmp_path / "out.h5", tmp_path / "log"
    convert([work("a", log), work("b", log, "old")], out)
    convert([work("a", log), work("b", log, "new")], out, resume=True)
    convert([work("a", log), work("b", log, "new")], out, resume=True)
    assert log.read_text() == "a\nb\nb\n"


def test_resuming_loses_nothing_whose_input_has_gone_or_broken(reference, tmp_path):
    out = tmp_path / "out.h5"
    convert([work("a"), work("b", None, "good")], out)
    broken = Work("b", partial(read_unless, tmp_path / "flag", "b", ValueError("b: broken")), "b.mat", "bad")
    outcomes = convert([broken, work("c")], out, resume=True)
    assert_same(out, reference)
    assert [(outcome.name, outcome.source, outcome.error) for outcome in outcomes] == [
        ("a", str(out), None),
        ("b", "b.mat", f"b: broken. {out} keeps b as it was converted before"),
        ("c", "c.mat", None),
    ]


def test_a_source_of_which_a_part_failed_is_read_again(tmp_path):
    out, log = tmp_path / "out.h5", tmp_path / "log"

    def read():
        yield from (sequence("a"), Outcome("b", "heap.zip", error="heap.zip: cut") if log.exists() else sequence("b"))

    works = [Work("heap", read, "heap.zip", "1")]
    log.touch()
    convert(works, out)
    log.unlink()
    outcomes = convert(works, out, resume=True)
    assert [(outcome.name, outcome.error) for outcome in outcomes] == [("a", None), ("b", None)]
    with schema.open_file(out) as file:
        assert schema.sequence_names(file) == ["a", "b"]


@pytest.mark.parametrize(
    "other, reason",
    [
        (lambda out: out.write_bytes(b"years of work"), "not a readable HDF5 file"),
        (lambda out: _write_by_hand(out), "not written by a conversion"),
        (lambda out: conversion.convert([work("a")], out, **ROOT | {"dataset": "other"}), "its dataset is 'other'"),
    ],
)
def test_only_the_output_of_such_a_conversion_is_resumed(tmp_path, other, reason):
    out = tmp_path / "out.h5"
    other(out)
    before = out.read_bytes()
    with pytest.raises(FileExistsError, match=f"out.h5 cannot be resumed: .*{reason}.*--overwrite"):
        convert([work("a"), work("b")], out, resume=True)
    assert out.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda group: group.__delitem__("frame"), "frame is damaged .KeyError"),
        (lambda group: group.attrs.__delitem__("findings"), "findings is damaged .KeyError"),
        (lambda group: group.attrs.__setitem__("findings", "[{bad"), "findings is damaged .JSONDecodeError"),
        (lambda group: group.attrs.__setitem__("findings", '[{"check": "x"}]'), "findings is damaged .*severity"),
    ],
)
def test_a_finished_file_that_was_damaged_is_not_resumed(tmp_path, damage, reason):
    out = tmp_path / "out.h5"
    convert([work("a"), work("b")], out)
    with h5py.File(out, "r+") as file:
        damage(file["b"])
    before = out.read_bytes()
    with pytest.raises(FileExistsError, match=f"out.h5 cannot be resumed: b/{reason}.*--overwrite"):
        convert([work("a"), work("b"), work("c")], out, resume=True)
    assert out.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def _write_by_hand(out: Path) -> None:
    with schema.create(out, **ROOT) as file:
        schema.write_sequence(file, sequence("a"))


def test_overwriting_takes_nothing_from_the_file_it_replaces(tmp_path):
    out, log = tmp_path / "out.h5", tmp_path / "log"
    works = [work(name, log) for name in NAMES]
    convert(works, out)
    interrupted(works, out, overwrite=True)
    convert(works, out, resume=True)
    assert log.read_text() == "a\nb\nc\n" * 2


def test_leftover_parts_need_a_decision(reference, tmp_path):
    out, log = tmp_path / "out.h5", tmp_path / "log"
    works = [work(name, log) for name in NAMES]
    interrupted(works, out)
    with pytest.raises(FileExistsError, match=r"left 2 finished parts in .*--resume to use them, or --overwrite"):
        convert(works, out)
    convert(works, out, overwrite=True)
    assert log.read_text() == "a\nb\na\nb\nc\n"
    assert_same(out, reference)


def test_parts_of_takes_that_are_no_longer_wanted_do_not_come_in(reference, tmp_path):
    out = tmp_path / "out.h5"
    interrupted([work("0"), *(work(name) for name in NAMES)], out)
    convert([work(name) for name in NAMES], out, resume=True)
    assert_same(out, reference)


def test_the_permission_to_replace_a_file_is_remembered_and_covers_no_other(reference, tmp_path):
    out = tmp_path / "out.h5"
    works = [work(name) for name in NAMES]
    out.write_bytes(b"previous")
    interrupted(works, out, overwrite=True)
    assert out.read_bytes() == b"previous"
    out.unlink()
    out.write_bytes(b"somebody else's")
    with pytest.raises(FileExistsError, match="--overwrite"):
        convert(works, out, resume=True)
    assert out.read_bytes() == b"somebody else's"
    convert(works, out, resume=True, overwrite=True)
    assert_same(out, reference)

    interrupted(works, out, overwrite=True)
    convert(works, out, resume=True)
    assert_same(out, reference)


@pytest.mark.parametrize("there_before", [False, True])
def test_interrupted_between_the_appearance_of_the_file_and_the_end(reference, tmp_path, monkeypatch, there_before):
    out, works = tmp_path / "out.h5", [work(name) for name in NAMES]
    if there_before:
        convert(works[:1], out)
        del works[0]  # kept although its raw data has gone
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(parts.PartsFolder, "discard", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        convert(works, out, resume=there_before)
    assert_same(out, reference)
    convert(works, out, resume=True)
    assert_same(out, reference)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


@pytest.mark.parametrize("failing", ["write_sequence", "create"])
def test_no_space_left_while_writing(reference, tmp_path, monkeypatch, failing):
    out, works = tmp_path / "out.h5", [work(name) for name in NAMES]
    out.write_bytes(b"previous")
    real, calls = getattr(schema, failing), []

    def full(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(ConversionError, match=r"No space left.*--resume"):
        patch.setattr(schema, failing, full)
        convert(works, out, overwrite=True)
    assert out.read_bytes() == b"previous"
    assert len(list((tmp_path / ".out.h5.parts").glob("*.h5"))) == 2
    convert(works, out, resume=True)
    assert_same(out, reference)


def test_no_space_left_while_assembling(reference, tmp_path, monkeypatch):
    out, works = tmp_path / "out.h5", [work(name) for name in NAMES]
    with monkeypatch.context() as patch, pytest.raises(ConversionError, match=r"out\.h5 cannot be written.*No space"):
        patch.setattr(
            conversion, "copy_sequence", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left"))
        )
        convert(works, out)
    assert not out.exists()
    convert(works, out, resume=True)
    assert_same(out, reference)


def test_no_space_left_for_what_reading_needs_concerns_all(tmp_path):
    flag, works = tmp_path / "flag", [work("a")]
    error = OSError(errno.ENOSPC, "No space left on device")
    works.append(Work("b", partial(read_unless, flag, "b", error), "b.tar.gz", "1"))
    with pytest.raises(ConversionError, match=r"No space left.*--resume"):
        convert(works, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


# Files may not grow beyond a limit, as on a full disk, where HDF5 brings the process down if one lets it.
_LIMITED = """
import resource, signal, sys
from pathlib import Path
from functools import partial
from small_work import convert, sequence, work
from finepose_mp.preprocessing.conversion import ConversionError, Outcome, Work
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
out = Path(sys.argv[1])
works = [work("a"), Work("b", partial(sequence, "b", 5000), "b", "1"), work("c")]
if len(sys.argv) == 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    convert(works, out, resume=True)
except ConversionError as error:
    sys.exit(f"ConversionError {error}")
"""


def test_a_disk_that_fills_up_in_the_middle_of_a_file(tmp_path):
    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        command = [sys.executable, "-c", _LIMITED, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    result = run(tmp_path / "out.h5")
    assert result.returncode == 1 and "ConversionError" in result.stderr.splitlines()[-1], result.stderr
    assert "cannot be written" in result.stderr
    assert not (tmp_path / "out.h5").exists()
    assert run(tmp_path / "out.h5", "unlimited").returncode == 0
    with schema.open_file(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(
            schema.read_sequence(file, "b").joints_3d_world, np.float32(sequence("b", 5000).joints_3d_world)
        )


def test_a_killed_worker_stops_the_conversion_and_resuming_finishes_it(reference, tmp_path):
    out, flag = tmp_path / "out.h5", tmp_path / "flag"
    works = [work("a"), work("b"), Work("c", partial(die, flag, "c"), "c.mat", "1")]
    with pytest.raises(ConversionError, match=r"a process was killed.*--resume"):
        convert(works, out, jobs=2)
    assert not out.exists()
    flag.touch()
    convert(works, out, resume=True)
    assert_same(out, reference)


def _in_a_child(out: Path, fingerprint: str, **how) -> int:
    """Process id of a child that converts into `out`, resuming what is there."""
    child = os.fork()
    if child == 0:
        try:
            convert([work(name, None, fingerprint) for name in NAMES], out, resume=True, **how)
        finally:
            os._exit(0)
    return child


@pytest.mark.parametrize("overwrite", [True, False])
def test_killed_at_any_moment(reference, tmp_path, overwrite):
    """Kills at random moments of conversions that follow each other, each replacing or renewing the file before it."""
    out, rng = tmp_path / "out.h5", np.random.default_rng(0)
    out.write_bytes(reference.read_bytes())
    killed, longest, started = 0, 0.2, 0  # seconds; found out on the way, since it is the machine's
    while killed < 12:
        started += 1
        child = _in_a_child(out, str(started), overwrite=overwrite)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        in_time = os.WIFSIGNALED(status)
        killed += in_time
        longest *= 1.25 if in_time else 0.8  # as many too late as in time: kills reach to the end of a conversion
        with schema.open_file(out) as file:  # the old one or a new one, never half a one
            assert schema.sequence_names(file) == NAMES
    convert([work(name) for name in NAMES], out, resume=True, overwrite=overwrite)
    assert_same(out, reference)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
