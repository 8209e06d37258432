"""What the documentation says is what the code does."""

import json
import re

import numpy as np
from conftest import REPOSITORY

from finepose_mp import schema
from finepose_mp.cameras import MODELS, project
from finepose_mp.config import DataConfig
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.reader import read_track
from finepose_mp.skeletons import COCO17


def _code_blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / name).read_text(), flags=re.S)


def test_format_lists_every_variable_with_its_dimensions():
    text = (REPOSITORY / "docs" / "FORMAT.md").read_text()
    for name, variable in (schema.VARIABLES | schema.OPTIONAL_VARIABLES).items():
        assert f"| `{name}` | {' '.join(variable.dims)} |" in text
        assert variable.long_name in text


def test_format_lists_every_lens_model_with_its_parameters():
    text = (REPOSITORY / "docs" / "FORMAT.md").read_text()
    for name, model in MODELS.items():
        assert re.search(rf"\| `{name}`.* \| {' '.join(model.parameter_names)} \|", text)


def test_the_example_of_a_users_own_file_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = next(block for block in _code_blocks("FORMAT.md") if "office.h5" in block)
    exec(compile(example, "docs/FORMAT.md", "exec"), {})
    with schema.open_file(tmp_path / "office.h5") as file:
        assert schema.read_sequence(file, "office/take_1").person == ["anna", "ben"]


def _write_openpose_recording(folder, lens, world_points):
    """OpenPose's files of points (T, 25, 3) in the camera frame, and the calibration of the document."""
    text = (REPOSITORY / "docs" / "FORMAT.md").read_text()
    (folder / "calibration.json").write_text(re.search(r"```json\n(.*?)```", text, flags=re.S)[1])
    (folder / "recording").mkdir()
    pixels = project(world_points, "brown_conrady", lens)
    for t, points in enumerate(pixels):
        person = [[u, v, 0.9] for u, v in points]
        person[4] = [0, 0, 0]  # the right wrist was not found
        people = [{"pose_keypoints_2d": [value for joint in person for value in joint]}]
        people += [{"pose_keypoints_2d": [5.0, 5.0, 0.1] * 25}] if t else []  # somebody far away
        path = folder / "recording" / f"clip_{t:012d}_keypoints.json"
        path.write_text(json.dumps({"version": 1.3, "people": [] if t == 3 else people}))
    return pixels


def test_the_worked_example_turns_an_openpose_recording_into_a_file(tmp_path, monkeypatch):
    """The example runs as it stands; lens, missing joints, frames without anybody and rays come out right."""
    monkeypatch.chdir(tmp_path)
    lens = np.array([1480.2, 1478.9, 951.3, 546.0, -0.11, 0.07, 0.0004, -0.0009, -0.01])
    points = np.random.default_rng(0).normal((0, 0, 4), (0.4, 0.5, 0.3), (5, 25, 3))
    pixels = _write_openpose_recording(tmp_path, lens, points)
    example = next(block for block in _code_blocks("FORMAT.md") if "recording.h5" in block)
    variables = {}
    exec(compile(example, "docs/FORMAT.md", "exec"), variables)
    with schema.open_file(tmp_path / "recording.h5") as file:
        sequence = schema.read_sequence(file, "garden/clip_1")
        assert file.attrs["joint_set"] == "body25"
    found = np.arange(25) != 4
    some = [0, 1, 2, 4]
    np.testing.assert_allclose(sequence.joints_2d_detected[0, some, 0][:, found], pixels[some][:, found], atol=1e-3)
    assert np.isnan(sequence.joints_2d_detected[0, 3]).all() and np.isnan(sequence.joints_2d_detected[0, :, 0, 4]).all()
    assert (sequence.detection_score[0, 3] == 0).all()
    np.testing.assert_allclose(sequence.camera_params[0, 0, :9], lens)
    slopes = points[..., :2] / points[..., 2:]
    np.testing.assert_allclose(variables["rays"][some][:, found], slopes[some][:, found], atol=1e-6)
    data = DataConfig(files=["recording.h5"], joint_set="coco17", camera_kinds=["exo"])
    (track,) = list_tracks(data, "test")
    sample = read_track(track, data)
    right_wrist, nose = COCO17.index("right_wrist"), COCO17.index("nose")
    assert sample["input_mask"][0, nose] and not sample["input_mask"][0, right_wrist]
    np.testing.assert_allclose(sample["input_2d"][0, nose], slopes[0, 0], atol=1e-6)  # body25 starts with the nose


def test_every_test_that_the_method_names_exists():
    text = (REPOSITORY / "docs" / "METHOD.md").read_text()
    defined = "\n".join(path.read_text() for path in (REPOSITORY / "tests").glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 10
    assert not {name for name in named if f"def {name}(" not in defined}
    for name in re.findall(r"`(?:tests/)?(test_\w+\.py)`", text):
        assert (REPOSITORY / "tests" / name).is_file(), name
