"""The README's commands one after the other, on the smallest data: raw takes to a per-scene table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

SCENES = ("Tagging", "Lego")


def run(*command, cwd=REPOSITORY, **environment) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **environment}
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def succeed(*command, **options) -> str:
    result = run(*command, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def train_command(*overrides):
    smallest = "model.width=16 model.depth=1 model.heads=2 training.epochs=1 data.window=9".split()
    return ("train.py", "--config", "configs/demo.yaml", "--set", *smallest, *overrides)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A folder with raw takes, their conversion, a run and its evaluation, as the commands leave them."""
    folder = tmp_path_factory.mktemp("whole_path")
    scenes = ("tagging", "legoassemble")
    succeed("tools/simulate.py", "--out", folder / "raw", "--scenes", *scenes, "--takes", 4, "--frames", 20)
    succeed("tools/convert.py", "egohumans", "--raw", folder / "raw", "--out", folder / "data.h5")
    succeed(*train_command(f"data.files=[{folder}/data.h5]", f"run_dir={folder}/run"))
    table = succeed("tools/evaluate.py", "--run", folder / "run", "--data", folder / "data.h5", "--steps", 1)
    (folder / "table.txt").write_text(table)
    return folder


def test_the_table_has_every_scene_their_mean_and_the_baseline(path):
    table = (path / "table.txt").read_text()
    for word in (*SCENES, "Mean of scenes", "Training mean pose", "SIMULATED"):
        assert word in table


def test_results_hold_millimetres_and_what_they_depend_on(path):
    results = json.loads((path / "run" / "results_test_data.json").read_text())
    for scene in SCENES:
        assert 20 < results["scenes"][scene]["mpjpe"]["training_mean_pose"] < 1000
        assert results["scenes"][scene]["mpjpe"]["p_agg"] > 0
    assert results["simulated"] == "all"
    text = json.dumps(results["choices"])
    for choice in ("hypotheses", "mirrored input averaged", "split", "sha256", "seed"):
        assert choice in text


def test_a_picture_per_scene_is_there(path):
    for scene in SCENES:
        picture = path / "run" / "results_test_data" / "figures" / f"scene_{scene.lower()}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_last_line_names_the_report(path):
    *_, last = (path / "table.txt").read_text().splitlines()
    page = last.rpartition(": ")[2]
    assert page == str(path / "run" / "results_test_data" / "report.html")
    assert "SIMULATED" in Path(page).read_text()


def test_a_scene_of_the_converted_file_can_be_drawn(path, tmp_path):
    output = succeed("tools/visualize.py", path / "data.h5", "--out", tmp_path / "scene.png")
    assert "01_tagging/001_tagging" in output
    assert (tmp_path / "scene.png").stat().st_size > 10_000


def test_a_sequence_of_the_converted_file_can_be_played(path, tmp_path):
    output = succeed("tools/visualize.py", path / "data.h5", "--out", tmp_path / "scene.html")
    assert "01_tagging/001_tagging, 20 frames" in output
    assert "<canvas" in (tmp_path / "scene.html").read_text()


def test_drawing_names_what_does_not_exist(path, tmp_path):
    for options, message in (
        (["--frame", "20"], "has frames 0 to 19, asked for 20"),
        (["--cameras", "cam99"], "not cam99"),
        (["--sequence", "09_chess/001"], "no sequence '09_chess/001'"),
    ):
        result = run("tools/visualize.py", path / "data.h5", *options, "--out", tmp_path / "no.png")
        assert result.returncode == 2
        assert message in result.stderr
        assert not (tmp_path / "no.png").exists()


def test_an_existing_run_is_not_overwritten(path):
    result = run(*train_command(f"data.files=[{path}/data.h5]", f"run_dir={path}/run"))
    assert result.returncode != 0
    assert "--resume" in result.stderr


def test_a_window_longer_than_every_take_is_an_error(path):
    result = run(*train_command(f"data.files=[{path}/data.h5]", f"run_dir={path}/long", "data.window=81"))
    assert result.returncode != 0
    assert "data.window is 81 frames, but the longest take of split train has 20" in result.stderr
    assert not (path / "long").exists()


def test_commands_without_data_say_how_to_get_it(tmp_path):
    result = run(REPOSITORY / "tools" / "convert.py", "egohumans", cwd=tmp_path)
    assert result.returncode == 2
    assert "tools/simulate.py --out data/raw/egohumans" in result.stdout + result.stderr
    result = run(REPOSITORY / "train.py", cwd=tmp_path)
    assert result.returncode != 0
    assert "tools/convert.py egohumans" in result.stderr
    assert "tools/simulate.py" in result.stderr
