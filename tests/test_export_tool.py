"""tools/export.py: what it writes of a predicted scene, and what it says when it cannot."""

import csv
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from contract_file import add_prediction, make_sequence, write_contract_file

from finepose_mp import schema
from finepose_mp.export import FORMATS
from finepose_mp.export.tables import CSV_COLUMNS, PREDICTION_COLUMNS


def run(command, folder):
    words = shlex.split(command)
    words = [sys.executable, str(REPOSITORY / words[1]), *words[2:]]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set and a predicted scene."""
    place = tmp_path_factory.mktemp("export")
    write_contract_file(place / "dataset.h5", takes_per_scene=1, frames=8)
    sequence = add_prediction(make_sequence(name="scene", frames=8))
    with schema.create(place / "scene.h5", "made-up", "coco17", licence="none", citation="none") as file:
        schema.write_sequence(file, sequence)
    return place


def test_the_page_knows_all_formats_and_columns():
    text = (REPOSITORY / "docs/EXPORT.md").read_text()
    assert all(f"| `{name}` |" in text for name in FORMATS)
    assert all(f"`{column}`" in text for column in CSV_COLUMNS + PREDICTION_COLUMNS)


def test_a_predicted_scene_says_who_was_seen_and_what_was_assumed(folder):
    result = run("python tools/export.py scene.h5 --out all --formats csv npz bvh glb trc", folder)
    assert result.returncode == 0, result.stderr
    written = [line.strip() for line in result.stdout.splitlines()[1:]]
    assert len(written) == 3 + 2 * 3 + 1 and all((folder / path).stat().st_size for path in written)
    about = json.loads((folder / "all/scene_export.json").read_text())
    assert about["prediction"]["assumed"]
    with schema.open_file(folder / "scene.h5") as file, np.load(folder / "all/scene.npz") as archive:
        assert (archive["status"] == file["scene/predicted_status"][...]).all()
        assert archive["spread"] == pytest.approx(file["scene/predicted_spread"][...], nan_ok=True)
    lines = (folder / "all/scene.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert {row["status"] for row in rows} == {"seen", "inferred"}
    assert all(float(row["spread_m"]) > 0 for row in rows)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("dataset.h5", "holds 3 sequences, choose one"),
        ("nothing.h5", "no such file"),
        (
            "scene.h5 --variable predicted_hypotheses_3d_world",
            "expected --select hypothesis=0, found none; hypothesis is 0 to 2",
        ),
        ("scene.h5 --select hypothesis", "--select wants DIM=ITEM"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, said, folder):
    result = run(f"python tools/export.py {arguments} --out nowhere", folder)
    assert result.returncode == 2
    assert said in result.stderr
    assert not (folder / "nowhere").exists()
