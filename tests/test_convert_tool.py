"""`python tools/convert.py egohumans`: exit status, messages, and no need of torch."""

import subprocess
import sys

import pytest
from conftest import REPOSITORY
from converted_take import TAGGING
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
