"""`python tools/convert.py egohumans`: exit status, messages, and no need of torch."""

import errno
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY, run_tool
from converted_take import TAGGING
from raw_archive import files_of, under, write_archive
from raw_take import RawTake

from finepose_mp import schema


def run(folder, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "tools/convert.py"), "egohumans", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_works_without_any_flag(tmp_path):
    RawTake().write(tmp_path / "data/raw/egohumans" / TAGGING)
    result = run(tmp_path)
    assert result.returncode == 0, result.stderr
    assert "data/egohumans.h5: 1 sequences, 6 frames; findings: 0 error, " in result.stdout
    assert "frames/s" in result.stderr
    with schema.open_file(tmp_path / "data/egohumans.h5") as file:
        assert schema.sequence_names(file) == [TAGGING]


def test_failed_take_is_named_and_changes_the_exit_status(tmp_path):
    RawTake().write(tmp_path / "raw" / TAGGING)
    (tmp_path / "raw/01_tagging/002_tagging").mkdir()
    result = run(tmp_path, "--raw", "raw", "--out", "out.h5")
    assert result.returncode == 1
    assert "FAILED 01_tagging/002_tagging" in result.stdout and "fit_poses3d" in result.stdout


def test_what_looks_like_a_take_and_is_not_used_is_named(tmp_path, monkeypatch, capsys):
    raw = tmp_path / "raw"
    folder = RawTake().write(raw / TAGGING)
    for place in ("more/003_tagging", "01_tagging/002_tagging (1)", "001_soccer", ".Trash-1000/files/005_tagging"):
        RawTake().write(raw / place)
    RawTake().write(raw / "backup" / TAGGING)
    for name in ("archives/001_tagging.tar.gz", "code/egohumans-main.zip", "benchmark/coco.tar.gz"):
        write_archive(raw / name, {"x": b""})
    (raw / "01_tagging-2024-002.zip").write_bytes(b"PK\3\4xxxx")
    (raw / "01_tagging/002_tagging.tar.bz2").write_bytes(b"BZh91AY")
    write_archive(raw / "more/004_tagging.tar.gz", under("004_tagging", files_of(folder)))
    (raw / "again").symlink_to(raw / "01_tagging")
    (raw / "benchmark/01_tagging/001_tagging/coco").mkdir(parents=True)
    how = ("convert.py", "egohumans", "--raw", raw, "--out", tmp_path / "out.h5")
    status, printed, _ = run_tool(monkeypatch, capsys, *how)
    report = (tmp_path / "out.findings.md").read_text()
    named = {
        "FAILED 01_tagging-2024-002.zip": "is a zip file, which is not read; unpack it there",
        "FAILED 01_tagging/002_tagging.tar.bz2": "is a bzip2 file, which is not read",
        "NOT USED 001_soccer": "move or rename it",
        "NOT USED 01_tagging/002_tagging (1)": "move or rename it",
        "NOT USED more/003_tagging": "move or rename it",
        "NOT USED more/004_tagging.tar.gz": "move or rename it",
    }
    lines = [line for line in printed.splitlines() if "FAILED" in line or "NOT USED" in line]
    assert status == 1 and len(lines) == len(named) and f"{len(named)} left out" in report
    for label, advice in named.items():
        name = label.removeprefix("FAILED ").removeprefix("NOT USED ")
        (line,) = [line for line in lines if f"{label}: " in line]
        assert f"{raw}/{name}" in line and advice in line
        assert f"* **{name}**" in report
    for name in ("01_tagging-2024-002.zip", "01_tagging/002_tagging.tar.bz2"):
        (raw / name).unlink()
    assert run_tool(monkeypatch, capsys, *how, "--resume")[0] == 0  # for what nobody asked for changes no exit status
    for name in (tmp_path / "raw" / "more").iterdir():
        name.rename(raw / "01_tagging" / name.name)
    run_tool(monkeypatch, capsys, *how, "--resume")
    with schema.open_file(tmp_path / "out.h5") as file:
        assert schema.sequence_names(file) == [f"01_tagging/{n}_tagging" for n in ("001", "003", "004")]


def test_what_was_not_used_is_named_where_nothing_could_be_converted(tmp_path, monkeypatch, capsys):
    raw = tmp_path / "raw"
    RawTake().write(raw / "unpacked" / TAGGING)
    (raw / "001_tagging.tar.gz").write_bytes(b"")
    status, _, said = run_tool(monkeypatch, capsys, "convert.py", "egohumans", "--raw", raw, "--out", tmp_path / "x.h5")
    assert status == 2 and "is an empty file" in said and f"NOT USED unpacked/{TAGGING}: {raw}/unpacked" in said


def test_a_folder_that_cannot_be_read_stops_nothing(tmp_path, monkeypatch, capsys):
    RawTake().write(tmp_path / "raw" / TAGGING)
    (tmp_path / "raw/lost+found").mkdir()
    RawTake().write(tmp_path / "raw/more/002_tagging")

    def refusing(call):
        def checked(path, *arguments, **how):
            if "lost+found" in str(path) and (call is not os.stat or not str(path).endswith("lost+found")):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *arguments, **how)

        return checked

    for name in ("stat", "scandir", "listdir"):  # tests may run as root, for whom there is no permission to lack
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    status, printed, _ = run_tool(
        monkeypatch, capsys, "convert.py", "egohumans", "--raw", tmp_path / "raw", "--out", tmp_path / "out.h5"
    )
    assert status == 0 and "NOT USED more/002_tagging" in printed


def test_names_of_files_that_are_no_text(tmp_path):
    raw = tmp_path / os.fsdecode(b"raw_\xe9")
    files = files_of(RawTake().write(raw / TAGGING))
    write_archive(raw / "01_tagging/002_tagging.tar.gz", under("002_tagging", files))
    (raw / "01_tagging/003_tagging").mkdir()
    result = run(tmp_path, "--raw", raw, "--out", "out.h5")
    assert result.returncode == 1, result.stderr
    assert "out.h5: 2 sequences" in result.stdout and "raw_\\udce9/01_tagging/003_tagging" in result.stdout
    assert "raw_\\udce9/01_tagging/003_tagging" in (tmp_path / "out.findings.md").read_text()


@pytest.mark.parametrize(
    "prepare, arguments, message",
    [
        (lambda folder: None, (), "no such folder"),
        (lambda folder: (folder / "data/raw/egohumans").mkdir(parents=True), (), "which holds nothing"),
        (
            lambda folder: (folder / "x/01_tagging/001_tagging/ego").mkdir(parents=True),
            ("--raw", "x"),
            "none of 1 sequences",
        ),
    ],
)
def test_nothing_usable(tmp_path, prepare, arguments, message):
    prepare(tmp_path)
    result = run(tmp_path, *arguments)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "data/egohumans.h5").exists()


def test_existing_output(tmp_path):
    RawTake().write(tmp_path / "raw" / TAGGING)
    (tmp_path / "out.h5").write_bytes(b"old")
    result = run(tmp_path, "--raw", "raw", "--out", "out.h5")
    assert result.returncode == 2 and "out.h5 exists" in result.stderr
    assert (tmp_path / "out.h5").read_bytes() == b"old"
    assert run(tmp_path, "--raw", "raw", "--out", "out.h5", "--overwrite").returncode == 0


def test_converts_where_torch_cannot_be_imported(tmp_path):
    RawTake().write(tmp_path / "raw" / TAGGING)
    script = """
import sys
from pathlib import Path

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is not installed")

sys.meta_path.insert(0, NoTorch())
from finepose_mp.preprocessing.egohumans import dataset
dataset.convert(dataset.find_takes(Path("raw")), Path("out.h5"))
assert "torch" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.h5").exists()
