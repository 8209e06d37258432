"""docs/KEYPOINTS.md does what it says."""

import re

import numpy as np
from conftest import REPOSITORY, run_tool
from keypoint_files import POSES, SCORES, write_json

from finepose_mp.preprocessing.keypoints import FORMATS

TEXT = (REPOSITORY / "docs/KEYPOINTS.md").read_text()


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "results.json", [
        {"image_id": t, "category_id": 1, "keypoints": np.column_stack([POSES[t, p], SCORES[t, p]]).ravel().tolist()}
        for t in range(3) for p in range(2)
    ])  # fmt: skip
    names = {}
    for example in re.findall(r"```python\n(.*?)```", TEXT, flags=re.S):
        exec(compile(example, "docs/KEYPOINTS.md", "exec"), names)
    assert "joint set coco17, ASSUMED" in capsys.readouterr().out
    assert names["tracks"].keypoints.shape == (3, 2, 17, 2)


def test_every_format_is_described():
    for program in ("COCO", "EgoHumans", "OpenPose", "AlphaPose", "MMPose", "RTMLib", "MediaPipe", "Ultralytics"):
        assert program in FORMATS
        assert program in TEXT


def test_the_measurement_prints_its_table(monkeypatch, capsys):
    small = ("--scenes", "fencing", "--takes", "1", "--frames", "20")
    status, table, _ = run_tool(monkeypatch, capsys, "measure_scene.py", *small)
    assert status == 0
    rows = [line.split() for line in table.splitlines()[1:-1]]
    assert [row[1:-4] for row in rows] == [
        ["fixed", "at", "rest"], ["worn", "ignored"], ["worn", "estimated"], ["worn", "known"],
        ["worn", "+", "worn", "ones"], ["worn", "+", "all", "others"],
    ]  # fmt: skip
    assert "association of 20 frames with 8 people" in table
    status, _, errors = run_tool(monkeypatch, capsys, "measure_scene.py", "--scenes", "chess")
    assert status == 2 and "unknown scene 'chess'" in errors
    status, _, errors = run_tool(monkeypatch, capsys, "measure_scene.py", "--run", "somewhere")
    assert status == 2 and "--run and --data belong together" in errors
