"""The validator finds what is wrong with a file, names the place, and finds nothing in sound files."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import REPOSITORY
from contract_file import make_sequence, write_contract_file

from finepose_mp import schema
from finepose_mp.cameras import in_view, project
from finepose_mp.geometry import apply_rigid
from finepose_mp.schema import Sequence
from finepose_mp.skeletons import COCO17, convert
from finepose_mp.validation import Finding, Report, validate

FRAMES = 40
NAME = "04_basketball/001_basketball"


@pytest.fixture(scope="module")
def sound() -> Sequence:
    """One take: three people with glasses, a SLAM camera and two fixed cameras; cameras are not to be changed."""
    return make_sequence(name=NAME, frames=FRAMES, exo=2, slam=True)


def copy_of(sequence: Sequence) -> Sequence:
    copies = {k: v.copy() if isinstance(v, np.ndarray | list | dict) else v for k, v in vars(sequence).items()}
    return Sequence(**copies)


def write(path: Path, *sequences: Sequence, joint_set: str = "coco17") -> Path:
    with schema.create(path, "made-up", joint_set, "none", "none", overwrite=True) as file:
        for sequence in sequences:
            schema.write_sequence(file, sequence)
    return path


def changed(sound: Sequence, tmp_path: Path, change: Callable[[Sequence], None], joint_set: str = "coco17") -> Report:
    sequence = copy_of(sound)
    change(sequence)
    return validate(write(tmp_path / "changed.h5", sequence, joint_set=joint_set))


def the(report: Report, check: str, **where: str) -> Finding:
    """The only finding of a check at a place; the report must not be sound."""
    found = [f for f in report.findings if f.check == check and all(getattr(f, k) == v for k, v in where.items())]
    assert len(found) == 1, [str(f) for f in report.findings]
    assert report.verdict == "findings"
    assert found[0].group == NAME
    return found[0]


def test_sound_files_have_no_findings(tmp_path):
    report = validate(write_contract_file(tmp_path / "sound.h5", frames=FRAMES, slam=True))
    assert [str(f) for f in report.findings] == []
    assert report.verdict == "sound"
    assert report.checked["frames"] == 9 * FRAMES
    measured = report.measured[0]
    assert measured["projected_max_px"] < 1e-2 < 1 < measured["detected_median_px"] < 4
    assert measured["projected_joints"] > 500


def test_the_example_of_the_format_is_sound(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (REPOSITORY / "docs" / "FORMAT.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    exec(compile(next(block for block in blocks if "office.h5" in block), "docs/FORMAT.md", "exec"), {})
    report = validate(tmp_path / "office.h5")
    assert report.verdict == "sound", [str(f) for f in report.findings]


def test_the_worked_example_of_the_format_is_sound(tmp_path, monkeypatch):
    """OpenPose's files and OpenCV's calibration, of a few frames; in one of them OpenPose found nobody."""
    monkeypatch.chdir(tmp_path)
    text = (REPOSITORY / "docs" / "FORMAT.md").read_text()
    calibration = next(block for block in text.split("```json\n")[1:] if "camera_matrix" in block).split("```")[0]
    (tmp_path / "calibration.json").write_text(calibration)
    (tmp_path / "recording").mkdir()
    random = np.random.default_rng(0)
    for t in range(6):
        found = np.column_stack([random.uniform(100, 1000, (25, 2)), random.uniform(0.6, 1, 25)])
        found[t] = 0
        people = [] if t == 3 else [{"pose_keypoints_2d": found.ravel().tolist()}]
        name = f"clip_{t:012d}_keypoints.json"
        (tmp_path / "recording" / name).write_text(json.dumps({"version": 1.3, "people": people}))
    blocks = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    example = next(block for block in blocks if "calibration.json" in block)
    exec(compile(example, "docs/FORMAT.md", "exec"), {})
    with schema.open_file(tmp_path / "recording.h5") as file:
        recording = schema.read_sequence(file, "garden/clip_1")
    assert np.isfinite(recording.joints_2d_detected[0, 0, 0]).all(axis=-1).tolist() == [False] + 24 * [True]
    report = validate(tmp_path / "recording.h5")
    assert report.verdict == "sound", [str(f) for f in report.findings]


@pytest.mark.parametrize("joint_set", ["h36m17", "mpi17"])
def test_files_of_other_joint_sets_are_sound(sound, tmp_path, joint_set):
    def change(s: Sequence) -> None:
        s.joints_3d_world, _ = convert(s.joints_3d_world, "coco17", joint_set)
        known = np.isfinite(s.joints_3d_world[..., 0])
        s.joint_status = np.where(known, schema.OBSERVED, schema.MISSING)
        for k in range(len(s.camera)):
            points = apply_rigid(s.joints_3d_world, s.world_to_camera[k][:, None, None])
            params = s.camera_params[k][:, None, None]
            seen = in_view(points, s.camera_model[k], params, s.image_size[k])
            seen[:, [s.person.index(w) for w in s.camera_wearer[k : k + 1] if w]] = False
            pixels = np.where(seen[..., None], project(points, s.camera_model[k], params), np.nan)
            s.joints_2d_projected[k], s.joints_2d_detected[k] = pixels, pixels
            s.in_view[k], s.detection_score[k] = seen, seen

    report = changed(sound, tmp_path, change, joint_set)
    assert [str(f) for f in report.findings] == []


def test_optional_variables_are_checked_where_they_are(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.valid_frame = np.ones(FRAMES)
        s.joints_3d_universal_world = s.joints_3d_world.copy()

    assert changed(sound, tmp_path, change).verdict == "sound"
    with h5py.File(tmp_path / "changed.h5", "r+") as file:
        file[NAME]["valid_frame"].attrs["units"] = "s"
        del file[NAME]["joints_3d_universal_world"]
        file[NAME]["joints_3d_universal_world"] = np.zeros((3, 3))
    report = validate(tmp_path / "changed.h5")
    assert the(report, "units").variable == "valid_frame"
    assert "(3, 3)" in the(report, "shape", variable="joints_3d_universal_world").found


# --- people ---


def lifted(s: Sequence) -> None:
    """Nobody has a true pose; what was one is a prediction."""
    s.predicted_3d_world = np.nan_to_num(s.joints_3d_world, nan=1.0)
    s.predicted_status = np.ones(s.joint_status.shape[:2], np.uint8)
    s.prediction = {"model": "runs/demo", "frame": "world", "root_relative": []}
    s.joints_3d_world[:], s.joint_status[:] = np.nan, schema.MISSING
    s.joints_2d_projected[:], s.in_view[:] = np.nan, 0


def test_a_prediction_stands_in_for_a_truth_that_is_not_there(sound, tmp_path):
    assert changed(sound, tmp_path, lifted).verdict == "sound"

    def far(s: Sequence) -> None:
        lifted(s)
        s.predicted_3d_world += 4000.0

    report = changed(sound, tmp_path, far)
    assert {f.camera for f in report.findings if f.severity == "error"} == set(sound.camera)
    finding = the(report, "units", camera="cam01")
    assert "far from everybody" in finding.message and "within 200 m" in finding.expected

    def centimetres(s: Sequence) -> None:
        lifted(s)
        s.predicted_3d_world[:, 1] *= 100

    finding = the(changed(sound, tmp_path, centimetres), "units", variable="predicted_3d_world")
    assert "look like centimetres" in finding.message and finding.person == "aria02"


def test_what_a_model_does_badly_is_no_fault_of_the_file(sound, tmp_path):
    def jumpy(s: Sequence) -> None:
        lifted(s)
        s.predicted_3d_world[7, 0] += [3.0, 0, 0]
        s.predicted_3d_world[9, 0, 9] += 0.9

    report = changed(sound, tmp_path, jumpy)
    assert report.verdict == "sound"
    found = {f.check for f in report.findings if f.variable == "predicted_3d_world"}
    assert {"speed", "limbs"} <= found


def test_people_without_a_place_are_far_from_nothing(sound, tmp_path):
    def nowhere(s: Sequence) -> None:
        lifted(s)
        s.predicted_3d_world -= s.predicted_3d_world[:, :, [11, 12]].mean(axis=2, keepdims=True)
        s.prediction = s.prediction | {"root_relative": list(s.person)}
        s.world_to_camera[..., 3] += s.world_to_camera[..., :3] @ np.full(3, 4000.0)

    assert changed(sound, tmp_path, nowhere).verdict == "sound"
    with h5py.File(tmp_path / "changed.h5", "r+") as file:
        file[NAME].attrs["prediction"] = "[1"
    report = validate(tmp_path / "changed.h5")
    assert "attribute prediction" in str(report.findings[0]) and report.verdict == "unusable"


def test_cameras_that_film_nobody_are_near_each_other(sound, tmp_path):
    def apart(s: Sequence) -> None:
        lifted(s)
        s.predicted_3d_world = s.predicted_status = s.prediction = None
        s.world_to_camera[s.camera.index("cam02"), :, :, 3] *= 1000.0

    finding = the(changed(sound, tmp_path, apart), "units")
    assert finding.camera == "cam02" and "far from the other cameras" in finding.message


def test_millimetres_are_named(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.joints_3d_world *= 1000
        s.world_to_camera[..., 3] *= 1000

    report = changed(sound, tmp_path, change)
    finding = the(report, "units", person="aria01")
    assert "millimetres" in finding.message and finding.variable == "joints_3d_world"
    assert {f.check for f in report.findings} == {"units"}  # one cause, one kind of finding


@pytest.mark.parametrize(
    "mistake, words",
    [
        (lambda rotation, t: (rotation, 1000 * t), "translation in millimetres"),
        (lambda rotation, t: (rotation.swapaxes(-1, -2), -rotation.swapaxes(-1, -2) @ t), "maps camera to world"),
        (lambda rotation, t: (rotation, -rotation.swapaxes(-1, -2) @ t), "the camera's centre"),
        (lambda rotation, t: (np.diag([1, -1, -1]) @ rotation, np.diag([1, -1, -1]) @ t), "y up and z backwards"),
    ],
)
def test_the_usual_mistakes_with_poses_are_named(sound, tmp_path, mistake, words):
    def change(s: Sequence) -> None:
        pose = s.world_to_camera[4]
        pose[..., :3], pose[..., 3:] = mistake(pose[..., :3].copy(), pose[..., 3:].copy())

    report = changed(sound, tmp_path, change)
    assert words in the(report, "reprojection", camera="cam01").message
    assert {f.camera for f in report.findings} == {"cam01"}
    assert {f.check for f in report.findings} <= {"reprojection", "units", "detections"}


def test_exchanged_pixels_are_named(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.joints_2d_projected[2] = s.joints_2d_projected[2, ..., ::-1].copy()

    assert "u and v exchanged" in the(changed(sound, tmp_path, change), "reprojection").message


def test_root_relative_poses_are_named(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.joints_3d_world -= s.joints_3d_world[:, :, :1]

    assert "root-relative" in the(changed(sound, tmp_path, change), "coordinate_frame").message


@pytest.mark.parametrize(
    "value, status, words",
    [
        (np.nan, schema.OBSERVED, "is no number"),
        (np.inf, schema.INTERPOLATED, "is no number"),
        (None, schema.MISSING, "calls it missing"),
        (None, 3, "status that does not exist"),
        (0.0, schema.OBSERVED, "exactly 0 0 0"),
    ],
)
def test_status_and_positions_that_contradict(sound, tmp_path, value, status, words):
    def change(s: Sequence) -> None:
        s.joint_status[12:15, 2, 4] = status
        if value is not None:
            s.joints_3d_world[12:15, 2, 4] = value

    report = changed(sound, tmp_path, change)
    finding = next(f for f in report.findings if words in f.message)
    assert (finding.check, finding.person, finding.frames, finding.frame_count) == ("masks", "aria03", ((13, 15),), 3)
    assert report.verdict == "findings"


def test_a_limb_that_grows_is_found_where_it_does(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.joints_3d_world[5:9, 0, COCO17.index("left_ankle"), 2] -= 0.3

    finding = the(changed(sound, tmp_path, change), "limbs")
    assert (finding.person, finding.frames) == ("aria01", ((6, 9),))
    assert "cm off" in finding.found


def test_sides_that_differ_are_found(sound, tmp_path):
    def change(s: Sequence) -> None:
        hip, knee, ankle = (COCO17.index(f"left_{j}") for j in ("hip", "knee", "ankle"))
        s.joints_3d_world[:, 1, knee] += 0.5 * (s.joints_3d_world[:, 1, hip] - s.joints_3d_world[:, 1, knee])
        s.joints_3d_world[:, 1, ankle] += 0.0

    found = [f for f in changed(sound, tmp_path, change).findings if f.check == "limbs"]
    assert {f.person for f in found} == {"aria02"}
    assert any("hip to left knee" in f.message or "hip to knee" in f.message for f in found)


def test_a_teleport_is_found(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.joints_3d_world[20:, 0] += 2.0

    finding = the(changed(sound, tmp_path, change), "speed", person="aria01")
    assert finding.frames == ((21, 21),)


def test_a_wrong_axis_up_is_named(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.world_up = "-y"

    finding = the(changed(sound, tmp_path, change), "world_up")
    assert "along +z" in finding.message and "-y" in finding.expected


def test_one_person_twice_is_found(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.joints_3d_world[3:20, 2] = s.joints_3d_world[3:20, 0]

    finding = the(changed(sound, tmp_path, change), "identity")
    assert finding.person == "aria03" and "aria01" in finding.message and finding.frames == ((4, 20),)


# --- cameras ---


@pytest.mark.parametrize(
    "matrix, words",
    [
        (np.diag([1.0, 1, -1]), "reflection"),
        (0.1 * np.eye(3), "scale of 0.1"),
        (np.array([[1, 0.01, 0], [0, 1, 0], [0, 0, 1]]), "no rotation"),
    ],
)
def test_rotations_that_are_none(sound, tmp_path, matrix, words):
    def change(s: Sequence) -> None:
        s.world_to_camera[0, 7:9, :, :3] = s.world_to_camera[0, 7:9, :, :3] @ matrix

    finding = the(changed(sound, tmp_path, change), "rotation")
    assert words in finding.message
    assert (finding.variable, finding.camera, finding.frames) == ("world_to_camera", "aria01/rgb", ((8, 9),))


def test_a_fixed_camera_that_moves_and_poses_that_are_absent(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.world_to_camera[5, 30:, 0, 3] += 0.001
        s.world_to_camera[4, 3] = np.nan

    report = changed(sound, tmp_path, change)
    assert "camera_is_moving is 0" in the(report, "cameras", camera="cam02").message
    assert the(report, "cameras", camera="cam01").frames == ((4, 4),)


def test_glasses_far_from_their_wearer(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.camera_wearer[0] = "aria02"

    report = changed(sound, tmp_path, change)
    assert the(report, "wearer", variable="world_to_camera").camera == "aria01/rgb"
    assert {f.person for f in report.findings if f.variable == "in_view" and f.check == "wearer"} == {"aria02"}


def test_a_wearer_in_own_camera(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.joints_2d_detected[2, 4:6, 1], s.detection_score[2, 4:6, 1] = 700, 0.9

    finding = the(changed(sound, tmp_path, change), "wearer")
    assert (finding.camera, finding.person, finding.frames) == ("aria02/rgb", "aria02", ((5, 6),))


@pytest.mark.parametrize(
    "number, value, words", [(0, 1.1, "focal length 1.1"), (2, 1e5, "centre"), (4, -100.0, "folds")]
)
def test_implausible_lenses(sound, tmp_path, number, value, words):
    def change(s: Sequence) -> None:
        s.camera_params[4, :, number] = value

    finding = the(changed(sound, tmp_path, change), "lens")
    assert words in finding.found and finding.camera == "cam01"


# --- people in cameras ---


def test_3d_and_2d_that_disagree_in_some_frames(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.joints_2d_projected[4, 10:12, 2] += 20

    finding = the(changed(sound, tmp_path, change), "reprojection")
    assert (finding.camera, finding.frames, finding.severity) == ("cam01", ((11, 12),), "error")
    assert "aria03" in finding.message and "28.28 px" in finding.found


def test_a_shift_in_time_is_named(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.joints_2d_projected[4, 1:] = s.joints_2d_projected[4, :-1].copy()
        s.in_view[4, 1:] = s.in_view[4, :-1].copy()
        s.joints_2d_projected[4, np.isnan(s.joints_3d_world[..., 0])] = np.nan
        s.in_view[4, np.isnan(s.joints_3d_world[..., 0])] = 0

    assert "one frame later" in the(changed(sound, tmp_path, change), "reprojection").message


def test_another_distortion_is_found(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.camera_params[4, :, 4] += 0.2

    finding = the(changed(sound, tmp_path, change), "reprojection")
    assert finding.camera == "cam01" and finding.severity == "warning"


def test_detections_of_somebody_else(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.joints_2d_detected[5, :, [0, 2]] = s.joints_2d_detected[5, :, [2, 0]]
        s.detection_score[5, :, [0, 2]] = s.detection_score[5, :, [2, 0]]

    report = changed(sound, tmp_path, change)
    found = [f for f in report.findings if f.check == "detections"]
    assert {f.person for f in found} == {"aria01", "aria03"} and {f.camera for f in found} == {"cam02"}
    assert all("somebody else" in f.message for f in found)


def test_detections_of_another_camera(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.joints_2d_detected[[4, 5]], s.detection_score[[4, 5]] = (
            s.joints_2d_detected[[5, 4]],
            s.detection_score[[5, 4]],
        )

    report = changed(sound, tmp_path, change)
    assert "nobody is where the detections are" in the(report, "detections", camera="cam01").message


@pytest.mark.parametrize(
    "variable, value, words",
    [
        ("in_view", 0, "a pixel, though in_view is 0"),
        ("in_view", 7, "no flag"),
        ("joints_2d_projected", np.nan, "no pixel, though in_view is 1"),
        ("detection_score", np.nan, "no score"),
        ("detection_score", 85.0, "no score"),
        ("joints_2d_detected", np.nan, "a score above 0 without"),
        ("joints_2d_detected", 0.0, "exactly 0 0"),
        ("joints_2d_detected", 1e5, "farther outside"),
    ],
)
def test_masks_that_disagree_with_values(sound, tmp_path, variable, value, words):
    where = (4, slice(2, 5), 0)
    assert (sound.in_view[where] == 1).all() and (sound.detection_score[where] > 0).any()

    def change(s: Sequence) -> None:
        there = np.ones((3, 17), bool) if variable == "in_view" else s.detection_score[where] > 0
        getattr(s, variable)[where][there] = value

    report = changed(sound, tmp_path, change)
    finding = next(f for f in report.findings if words in f.message)
    assert (finding.camera, finding.person) == ("cam01", "aria01")
    assert finding.frames == ((3, 5),)


def test_in_view_against_geometry(sound, tmp_path):
    def change(s: Sequence) -> None:
        s.in_view[4, 8, 0, 3] = 0
        s.joints_2d_projected[4, 8, 0, 3] = np.nan
        unseen = np.argwhere((s.in_view[0] == 0) & np.isfinite(s.joints_3d_world[..., 0]))
        t, p, j = next(row for row in unseen if row[1] != 0)
        s.in_view[0, t, p, j], s.joints_2d_projected[0, t, p, j] = 1, 700

    report = changed(sound, tmp_path, change)
    assert "well inside" in the(report, "in_view", camera="cam01").message
    assert the(report, "in_view", camera="cam01").frames == ((9, 9),)
    assert "behind the camera" in the(report, "in_view", camera="aria01/rgb").message


# --- between sequences ---


def test_leaks_and_copies(sound, tmp_path):
    copy, cut = copy_of(sound), copy_of(sound)
    copy.name, copy.split = "05_volleyball/001_volleyball", "test"
    cut.name = "04_basketball/002_basketball"
    cut.joints_3d_world[:30] += np.float32(0.5)
    report = validate(write(tmp_path / "twice.h5", sound, copy, cut))
    leak = next(f for f in report.findings if f.check == "leak")
    assert leak.group == copy.name and NAME in leak.message and "train, test" in leak.message
    duplicate = next(f for f in report.findings if f.check == "duplicate")
    assert duplicate.group == cut.name or duplicate.group == NAME
    assert duplicate.frames == ((31, 40),)


def test_one_take_converted_twice_with_other_settings(sound, tmp_path):
    files = {f"folder{i}": {"sha256": f"{i:064d}"} for i in range(5)}
    one, other, third = copy_of(sound), copy_of(sound), copy_of(sound)
    other.name, third.name = "05_volleyball/001_volleyball", "05_volleyball/002_volleyball"
    other.joints_3d_world += np.float32(0.25)
    third.joints_3d_world += np.float32(0.5)
    one.source_files = other.source_files = files
    third.source_files = {"archive.npz": {"sha256": "1"}}
    found = [f for f in validate(write(tmp_path / "twice.h5", one, other, third)).findings if f.check == "duplicate"]
    assert [f.group for f in found] == [other.name] and NAME in found[0].message


def test_subjects_on_both_sides(sound, tmp_path):
    other = make_sequence(name="S9/Greeting 1", split="test", frames=FRAMES, seed=5)
    one = copy_of(sound)
    one.subjects, other.subjects = ["anna", "aria02"], ["anna", "aria02"]
    leaks = [f for f in validate(write(tmp_path / "leak.h5", one, other)).findings if f.check == "leak"]
    assert len(leaks) == 1 and "anna" in leaks[0].message and "S9/Greeting 1" in leaks[0].found
