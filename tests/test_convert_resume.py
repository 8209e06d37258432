"""Interrupted EgoHumans conversions, by the command and by the library, with the inputs changing in between."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from shutil import copytree, rmtree

import pytest
from conftest import REPOSITORY
from raw_archive import files_of, under, write_archive
from raw_take import RawTake
from small_work import assert_same

from finepose_mp.preprocessing.egohumans import dataset
from finepose_mp.preprocessing.egohumans.source import DirectorySource

TAKES = [f"01_tagging/{i:03d}_tagging" for i in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two takes in folders, two in archives."""
    folder = tmp_path_factory.mktemp("download") / "raw"
    for name in TAKES[:2]:
        RawTake().write(folder / name)
    files = files_of(folder / TAKES[0])
    for name in TAKES[2:]:
        write_archive(folder / f"{name}.tar.gz", under(name, files))
    return folder


@pytest.fixture(scope="module")
def reference(raw, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "out.h5"
    dataset.convert(dataset.find_takes(raw), path)
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(REPOSITORY / "tools/convert.py"), "egohumans", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60)


def wait_for_a_part(folder) -> None:
    """Until the first part of a conversion is finished, at most some seconds."""
    for _ in range(2000):
        if list(folder.glob(".*.parts/*.h5")):
            return
        time.sleep(0.01)
    raise AssertionError("no part appeared")


@pytest.mark.parametrize("jobs, number", [(2, signal.SIGKILL), (1, signal.SIGINT)])
def test_the_command_is_stopped_and_resumed(raw, reference, tmp_path, jobs, number):
    out = tmp_path / "out.h5"
    how = ("--raw", raw, "--out", out, "--jobs", jobs)
    with open(tmp_path / "stderr", "w") as stderr:
        process = subprocess.Popen(command(*how), stderr=stderr, start_new_session=True)
    try:
        wait_for_a_part(tmp_path)
        process.send_signal(number)
        process.wait(timeout=30)
        said = (tmp_path / "stderr").read_text()
        finish_what_was_stopped(process.returncode, said, how, reference)
    finally:
        with suppress(ProcessLookupError):  # workers wait for their killed parent a while before they give up
            os.killpg(process.pid, signal.SIGKILL)


def finish_what_was_stopped(returncode: int, said: str, how: tuple, reference) -> None:
    out = how[how.index("--out") + 1]
    if returncode == 0:  # it was faster than the signal
        assert_same(out, reference)
        return
    assert not out.exists()
    if returncode > 0:  # not killed, but interrupted
        assert returncode == 2 and "--resume goes on from here" in said and "Traceback" not in said
    resumed = run(*how, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same(out, reference)


def test_the_command_adds_to_a_finished_file(raw, reference, tmp_path):
    folder, out = tmp_path / "raw", tmp_path / "out.h5"
    copytree(raw, folder)
    whole = (folder / f"{TAKES[3]}.tar.gz").read_bytes()
    (folder / f"{TAKES[3]}.tar.gz").write_bytes(whole[: len(whole) // 2])
    how = ("--raw", folder, "--out", out)
    first = run(*how)
    assert first.returncode == 1 and f"FAILED {TAKES[3]}" in first.stdout and "--resume tries again" in first.stdout
    assert "pass --resume to keep" in run(*how).stderr
    (folder / f"{TAKES[3]}.tar.gz").write_bytes(whole)
    rmtree(folder / TAKES[0])
    assert run(*how, "--resume").returncode == 0
    assert_same(out, reference)


def test_folders_and_archives_give_the_same_file_with_more_jobs(raw, reference, tmp_path):
    dataset.convert(dataset.find_takes(raw), tmp_path / "out.h5", jobs=2)
    assert_same(tmp_path / "out.h5", reference)


def test_an_archive_that_was_truncated_is_read_again_once_it_is_whole(raw, reference, tmp_path):
    folder = tmp_path / "raw"
    for name in TAKES[2:]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        whole = (raw / f"{name}.tar.gz").read_bytes()
        (folder / f"{name}.tar.gz").write_bytes(whole if name == TAKES[2] else whole[: len(whole) // 2])
    for name in TAKES[:2]:
        RawTake().write(folder / name)
    outcomes = []

    def stop_in_the_end(outcome):
        outcomes.append(outcome)
        if len(outcomes) == len(TAKES):
            raise KeyboardInterrupt

    out = tmp_path / "out.h5"
    with pytest.raises(KeyboardInterrupt):
        dataset.convert(dataset.find_takes(folder), out, on_take=stop_in_the_end)
    assert [outcome.name for outcome in outcomes if outcome.error] == [TAKES[3]]
    (folder / f"{TAKES[3]}.tar.gz").write_bytes((raw / f"{TAKES[3]}.tar.gz").read_bytes())
    dataset.convert(dataset.find_takes(folder), out, resume=True)
    assert_same(out, reference)


@pytest.mark.parametrize("change", ["content", "removed", "image"])
def test_a_take_that_changed_is_converted_again(tmp_path, change):
    folder, out = RawTake().write(tmp_path / "raw" / TAKES[0]), tmp_path / "out.h5"
    RawTake().write(tmp_path / "raw" / TAKES[1])

    def stop(outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.convert(dataset.find_takes(tmp_path / "raw"), out, on_take=stop)
    pose, calibration = folder / "processed_data/fit_poses3d/00002.npy", folder / "ego/aria01/calib/00003.txt"
    if change == "content":
        pose.write_bytes(pose.read_bytes()[::-1])  # as long as before
    elif change == "removed":
        calibration.unlink()
    else:
        os.rename(folder / "exo/cam01/images/00001.jpg", folder / "exo/cam01/images/00002.jpg")
    dataset.convert(dataset.find_takes(tmp_path / "raw"), out, resume=True)
    dataset.convert(dataset.find_takes(tmp_path / "raw"), tmp_path / "fresh.h5")
    assert_same(out, tmp_path / "fresh.h5")


def test_a_fingerprint_of_what_was_read_is_that_of_what_is_there(tmp_path):
    folder = RawTake().write(tmp_path / "take")
    files, poses = DirectorySource(folder), "processed_data/fit_poses3d"
    asked = files.fingerprint()
    assert len(list(files.read_all(poses, files.names(poses)))) > 0
    assert files.fingerprint() == asked
    read = list(files.read_all(poses, files.names(poses)))
    changed = folder / poses / "00003.npy"
    changed.write_bytes(read[2] + b"x")
    assert files.fingerprint() == asked, "what was read was as before"
    assert files.fingerprint() == DirectorySource(folder).fingerprint() != asked


def test_a_number_of_jobs_that_is_none(tmp_path):
    result = run("--raw", tmp_path, "--jobs", "0")
    assert result.returncode == 2 and "'0' is no number of processes" in result.stderr


def test_a_catalogue_that_is_none(tmp_path):
    (tmp_path / "c.yaml").write_text("scenes: {}")
    result = run("--raw", tmp_path, "--catalogue", tmp_path / "c.yaml")
    assert result.returncode == 2 and "c.yaml is no catalogue" in result.stderr and "Traceback" not in result.stderr
