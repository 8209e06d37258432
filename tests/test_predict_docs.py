"""docs/PREDICT.md keeps what it promises about cameras and measurements. (tests/test_docs.py runs all its commands.)"""

import json
import re
import shlex

import numpy as np
import pytest
from conftest import REPOSITORY, run_tool
from contract_file import write_contract_file
from training_runs import untrained_run

from finepose_mp.cameras import project
from finepose_mp.geometry import apply_rigid
from finepose_mp.preprocessing.keypoints import read_cameras
from finepose_mp.skeletons import convert

TEXT = (REPOSITORY / "docs/PREDICT.md").read_text()
_PROMISES = ("--out placed.h5", "--out fused.h5", "measure_scene.py")
_COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.S)
    for line in block.splitlines()
    if any(promise in line for promise in _PROMISES)
]
_CAMERA_FILES = ("camera.yaml", "cameras.yaml")  # in the order of the document


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A folder with a run, a data set, the document's camera files, and people filmed by those cameras."""
    folder = tmp_path_factory.mktemp("recording")
    (folder / "runs").mkdir()
    untrained_run(folder / "runs/egohumans")
    (folder / "data").mkdir()
    write_contract_file(
        folder / "data/egohumans.h5", scenes=("Tagging",), takes_per_scene=3, frames=20, persons=2, exo=2
    )
    for name, text in zip(_CAMERA_FILES, re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.S), strict=True):
        (folder / name).write_text(text)
    world = _people(frames=40)
    left, right = (
        project(apply_rigid(world, each.camera.world_to_camera), each.camera.model, each.camera.params)
        for each in read_cameras(folder / "cameras.yaml").cameras
    )
    for name in ("openpose", "left"):
        _write_openpose(folder / name, left)
    _write_coco(folder / "right.json", right)
    return folder


def _people(frames):
    """Two people (T, 2, 17, 3) who walk through the origin's neighbourhood, +z up, metres."""
    from contract_file import _BODY

    walk = np.zeros((frames, 2, 1, 3))
    walk[:, 0, 0, :2] = np.stack([np.linspace(-0.8, 0.9, frames), np.full(frames, 0.7)], axis=-1)
    walk[:, 1, 0, :2] = np.stack([np.linspace(0.6, -0.7, frames), np.full(frames, -0.8)], axis=-1)
    return _BODY + walk


def _write_openpose(folder, pixels):
    folder.mkdir()
    for t, people in enumerate(convert(pixels, "coco17", "body25")[0]):
        poses = [np.nan_to_num(np.column_stack([pose, 0.9 * np.isfinite(pose[:, 0])])) for pose in people]
        content = {"people": [{"pose_keypoints_2d": pose.ravel().tolist()} for pose in poses]}
        (folder / f"clip_{t:012d}_keypoints.json").write_text(json.dumps(content))


def _write_coco(path, pixels):
    entries = [
        {"image_id": t, "category_id": 1, "keypoints": np.column_stack([pose, np.full(17, 0.9)]).ravel().tolist()}
        for t, people in enumerate(pixels)
        for pose in people[::-1]
    ]
    path.write_text(json.dumps(entries))


def test_people_are_placed_fused_and_measured(recording, monkeypatch, capsys):
    monkeypatch.chdir(recording)
    said = {}
    for command in _COMMANDS:
        _, tool, *arguments = shlex.split(command)
        if tool == "tools/measure_scene.py":
            arguments += ["--scenes", "fencing", "--takes", "1", "--frames", "20"]
        status, said[command], errors = run_tool(monkeypatch, capsys, tool.removeprefix("tools/"), *arguments)
        assert status == 0, f"{command}\n{errors}"
    placed, fused, measured = (next(text for command, text in said.items() if p in command) for p in _PROMISES)
    assert "4 tracks of 2 cameras are 2 people" in fused and "in the world" in fused
    assert "the world is the frame of the camera" in placed and "in the world" in placed
    for words in ("IDF1", "+ worn ones", "with 8 people", "mpjpe_world", "MPJPE in the world through 2 fixed", "spread",
                  "at seams of windows", "inside of windows"):  # fmt: skip
        assert words in measured
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
    exec(compile(example, "docs/PREDICT.md", "exec"), {})
    assert "(40, 2, 17, 3) world" in capsys.readouterr().out


def test_every_option_that_it_names_is_one(monkeypatch, capsys):
    _, usage, _ = run_tool(monkeypatch, capsys, "predict.py", "--help")
    named = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert len(named) > 6
    assert all(option in usage for option in named)
