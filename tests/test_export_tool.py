"""The commands of docs/EXPORT.md, run as they stand on small files, and what the tool says when they cannot."""

import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from contract_file import make_sequence, write_contract_file

from finepose_mp import schema

COMMANDS = re.findall(
    r"```\n(python tools/export\.py .*?)\n```", (REPOSITORY / "docs/EXPORT.md").read_text(), flags=re.S
)


def run(command, folder):
    words = shlex.split(command)
    words = [sys.executable, str(REPOSITORY / words[1]), *words[2:]]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set and a predicted scene under the names of the documentation."""
    place = tmp_path_factory.mktemp("export")
    write_contract_file(place / "dataset.h5", takes_per_scene=1, frames=8)
    sequence = make_sequence(name="scene", frames=8)
    sequence.predicted_3d_world = sequence.joints_3d_world
    sequence.predicted_hypotheses_3d_world = np.stack([sequence.joints_3d_world] * 2)
    sequence.predicted_spread = np.zeros(sequence.joint_status.shape)
    sequence.predicted_status = np.ones(sequence.joint_status.shape[:2])
    with schema.create(place / "scene.h5", "made-up", "coco17", licence="none", citation="none") as file:
        schema.write_sequence(file, sequence)
    return place


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_runs(command, folder):
    result = run(command, folder)
    assert result.returncode == 0, result.stderr
    written = [line.strip() for line in result.stdout.splitlines()[1:]]
    assert written
    assert all((folder / path).stat().st_size for path in written)


def test_the_page_has_commands_and_knows_all_formats():
    text = (REPOSITORY / "docs/EXPORT.md").read_text()
    assert len(COMMANDS) == 3
    from finepose_mp.export import FORMATS
    from finepose_mp.export.tables import CSV_COLUMNS

    assert all(f"| `{name}` |" in text for name in FORMATS)
    assert all(f"`{column}`" in text for column in CSV_COLUMNS)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("dataset.h5", "holds 3 sequences, choose one"),
        ("nothing.h5", "no such file"),
        ("scene.h5 --variable predicted_hypotheses_3d_world", "select hypothesis=...; found nothing"),
        ("scene.h5 --select hypothesis", "--select wants DIM=ITEM"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, said, folder):
    result = run(f"python tools/export.py {arguments} --out nowhere", folder)
    assert result.returncode == 2
    assert said in result.stderr
    assert not (folder / "nowhere").exists()
