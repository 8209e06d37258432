"""What the documentation says is what the code does."""

import json
import re
from dataclasses import replace

import mpi_inf_3dhp_raw
import numpy as np
import pytest
from conftest import REPOSITORY
from docs_commands import NOT_RUN, PAGES, Command, Runner, commands_of
from recorded_people import recorded, write_coco, write_openpose

from finepose_mp import schema
from finepose_mp.cameras import MODELS, project
from finepose_mp.config import ConfigError, DataConfig
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.reader import read_track
from finepose_mp.preprocessing.human36m import synthetic
from finepose_mp.skeletons import COCO17, convert


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


# Files that a reader of the pages has from elsewhere, or made by following another page.
BEFORE = (
    "python tools/simulate.py --out data/raw/egohumans --scenes tagging legoassemble fencing basketball volleyball "
    "badminton tennis",
    "python tools/convert.py egohumans",
    "python tools/convert.py human36m --raw DIR --detections data_2d_h36m_cpn_ft_h36m_dbb.npz --out data/human36m.h5",
    "python tools/convert.py mpi-inf-3dhp",
    "accelerate launch train.py",
)
HUMAN36M = {("S1", "Eating"): 14, ("S5", "Eating"): 14, ("S9", "Greeting"): 12}


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    """A folder with small raw data of every kind, as somebody has it who followed the README."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("configs", "docs", "train.py", "tools"):
        (folder / name).symlink_to(REPOSITORY / name)
    synthetic.write_official(folder / "DIR", HUMAN36M, with_metadata=True)
    synthetic.write_pose_detections(folder / "data_2d_h36m_cpn_ft_h36m_dbb.npz", HUMAN36M)
    raw = folder / "DIR"
    (folder / "data" / "raw").mkdir(parents=True)
    (folder / "data" / "raw" / "mpi-inf-3dhp").symlink_to(raw)
    mpi_inf_3dhp_raw.write_training(raw / "S1" / "Seq1", mpi_inf_3dhp_raw.training(frames=20))
    mpi_inf_3dhp_raw.write_training(raw / "S2" / "Seq1", mpi_inf_3dhp_raw.training(frames=20, seed=1))
    mpi_inf_3dhp_raw.write_test(raw / "TS1" / "annot_data.mat", mpi_inf_3dhp_raw.official_test("TS1", frames=20))
    runner = Runner(folder)
    _write_keypoints(folder)
    for text in BEFORE:
        runner.run(Command("README.md", tuple(text.split())))
    return runner


def _write_keypoints(folder):
    """What programs found in two recordings of 1920 x 1080 pixels, and the camera files of the page on prediction."""
    take = recorded()
    take = replace(take, joints_2d_detected=take.joints_2d_detected / 2)
    for name, camera in (("openpose", "cam01"), ("left", "cam01")):
        write_openpose(folder / name, take, camera)
    for name, camera in (("coco.json", "cam01"), ("right.json", "cam02")):
        write_coco(folder / name, take, camera)
    landmarks, _ = convert(take.joints_2d_detected[take.camera.index("cam01")], "coco17", "blazepose33")
    people = np.nan_to_num(landmarks / [1920, 1080]).tolist()
    seen = [[[{"x": x, "y": y, "z": 0.0, "visibility": 0.9} for x, y in each] for each in frame] for frame in people]
    (folder / "mediapipe.json").write_text(json.dumps(seen))
    lens, several = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs" / "PREDICT.md").read_text(), flags=re.S)
    (folder / "camera.yaml").write_text(lens)
    (folder / "cameras.yaml").write_text(several)


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_every_command_of_the_documentation_runs(reader, page):
    for command in commands_of(page):
        reader.run(command)


def test_nothing_stands_among_the_commands_not_run_that_no_page_has():
    commands = [command for page in ("README.md", *PAGES) for command in commands_of(page)]
    assert len(commands) > 40
    for page, text in NOT_RUN:
        assert any(command.is_meant_by(page, text) for command in commands), (page, text)


def test_commands_that_cannot_work_are_found(reader):
    for text in (
        "python tools/evaluate.py --rum runs/egohumans --data data/egohumans.h5",  # an option that does not exist
        "python tools/evaluate.py --run runs/nobody --data data/egohumans.h5",  # a file that does not exist
        "accelerate launch --config_file configs/accelerate/two_nodes.yaml train.py --set model.widht=3",  # only parsed
        "make cake",
        "python -c pass",  # neither run nor known not to be
    ):
        with pytest.raises((AssertionError, ConfigError)):
            reader.run(Command("TRAIN.md", tuple(text.split())))
