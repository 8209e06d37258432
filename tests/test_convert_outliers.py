"""Numbers that are wrong in a single frame are named, with the frame; people who really move fast are not."""

import numpy as np
import pytest
from converted_take import concerns, only
from simulated_take import FIT, TRIANGULATED, SimulatedTake

from finepose_mp.preprocessing.egohumans import outliers
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.preprocessing.simulation.writer import npy
from finepose_mp.preprocessing.unpickling import load_npy
from finepose_mp.skeletons import COCO17

FRAMES = 24
WRIST = COCO17.index("left_wrist")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return SimulatedTake.make(tmp_path_factory.mktemp("sound") / "raw", "02_legoassemble/001_legoassemble", FRAMES, 5)


@pytest.fixture
def take(sound):
    return sound.copy()


def move_wrist(frame, metres):
    def change(k, people):
        if k == frame:
            people["aria02"][WRIST, 1] += metres

    return change


@pytest.mark.parametrize("frame", [1, 2, 12, FRAMES - 1, FRAMES])
def test_a_joint_that_jumps_for_one_frame_and_comes_back(take, frame):
    take.poses(FIT, move_wrist(frame, 0.12))
    findings = take.convert().findings
    assert {"outliers.joint"} <= concerns(findings) <= {"outliers.joint", "plausibility.limb_length"}
    finding = only(findings, "outliers.joint")
    assert (finding["person"], finding["frames"], finding["found"]["joints"]) == ("aria02", [[frame, frame]], 1)
    assert "left wrist" in finding["message"] and finding["found"]["metres"] == pytest.approx(0.12, abs=0.03)


def test_a_jump_that_the_triangulation_saw_too_is_none(take):
    for folder in (FIT, TRIANGULATED):
        take.poses(folder, move_wrist(12, 0.12))
    assert concerns(take.convert().findings) == set()


@pytest.mark.parametrize("both, found", [(False, {"outliers.joint"}), (True, set())])
def test_a_small_jump_that_the_triangulation_contradicts(take, both, found):
    for folder in (FIT, TRIANGULATED) if both else (FIT,):
        take.poses(folder, move_wrist(12, 0.04))
    findings = take.convert().findings
    assert concerns(findings) == found
    if found:
        finding = only(findings, "outliers.joint")
        assert (finding["person"], finding["frames"], finding["found"]["joints"]) == ("aria02", [[12, 12]], 1)
        assert finding["found"]["metres"] == pytest.approx(0.04, abs=0.01)


def fast_wrist(seed, fit=0.002, triangulation=0.01):
    """A person (T, 17, 3) who stands still but for the left wrist, which is hit to and fro; fitted and triangulated.

    With noise of so many metres, of which the triangulation's has heavy tails.
    """
    rng = np.random.default_rng(seed)
    path = np.tile(rng.normal(size=(1, 17, 3)), (60, 1, 1))
    path[:, WRIST, 0] += np.cumsum(np.where(np.arange(60) // 6 % 2, 0.15, -0.15))  # 3 m/s, turned in one frame
    return path + fit * rng.standard_normal(path.shape), path + triangulation * rng.standard_t(2, path.shape)


def smoothed(path):
    """(T, 17, 3) through the authors' filter, 5 frames and order 3."""
    weights = np.array([-3, 12, 17, 12, -3]) / 35
    windows = np.lib.stride_tricks.sliding_window_view(path, 5, axis=0)
    return np.concatenate([path[:2], windows @ weights, path[-2:]])


@pytest.mark.parametrize("fit, triangulation", [(0.002, 0.01), (0.005, 0.001), (0.002, 0.03)])
@pytest.mark.parametrize("follows", [False, True])
def test_hard_turns_and_noise_are_no_outliers(fit, triangulation, follows):
    findings = Findings()
    for seed in range(20):
        joints, triangulated = fast_wrist(seed, fit, triangulation)
        joints = smoothed(triangulated) if follows else joints
        outliers._check_joints(joints, triangulated, np.arange(1, 61), "aria01", findings)
    assert [f for f in findings.items if f["found"]["metres"] < outliers.JOINT_DEVIATION_M] == []


@pytest.mark.parametrize("hole", [slice(None), slice(28, 33)])
def test_without_triangulation_a_small_jump_is_possible(hole):
    joints, _ = fast_wrist(0)
    triangulated = joints.copy()
    joints[30, 5] += 0.025
    triangulated[hole] = np.nan
    findings = Findings()
    outliers._check_joints(joints, triangulated, np.arange(1, 61), "aria01", findings)
    assert findings.items == []


def test_what_the_fit_smoothed_away_is_no_outlier():
    """A triangulation that was wrong for one frame, and the fit made of it."""
    path, triangulated = np.zeros((2, 15, 17, 3))
    triangulated[7, WRIST, 0] = 0.3
    path[5:10, WRIST, 0] = 0.3 * np.array([-3, 12, 17, 12, -3]) / 35
    findings = Findings()
    outliers._check_joints(path, triangulated, np.arange(1, 16), "aria01", findings)
    assert findings.items == []


def test_what_a_smoothed_impulse_leaves_is_no_outlier():
    """What the authors' filter, 5 frames and order 3, makes of a hand that is 30 cm away for one frame."""
    path = np.zeros((15, 17, 3))
    path[5:10, WRIST, 0] = 0.3 * np.array([-3, 12, 17, 12, -3]) / 35
    findings = Findings()
    outliers._check_joints(path, np.full_like(path, np.nan), np.arange(1, 16), "aria01", findings)
    assert findings.items == []
    path[7, WRIST, 0] += 0.5
    outliers._check_joints(path, np.full_like(path, np.nan), np.arange(1, 16), "aria01", findings)
    assert findings.items[0]["frames"] == [[8, 8]]


def test_neighbours_across_a_hole_say_nothing():
    path = np.zeros((9, 17, 3))
    path[4] = 1.0
    findings = Findings()
    outliers._check_joints(path, np.full_like(path, np.nan), np.array([1, 2, 3, 4, 9, 14, 15, 16, 17]), "a", findings)
    assert findings.items == []


def change_calibration(take, frame, line, number, value):
    """Puts `value` in place of a number of one line of aria02's calibration."""

    def change(lines):
        numbers = lines[line].split()
        numbers[number] = str(value(float(numbers[number])))
        return [*lines[:line], " ".join(numbers), *lines[line + 1 :]]

    take.lines(f"ego/aria02/calib/{frame:05d}.txt", change)


@pytest.mark.parametrize("line, camera", [(3, "aria02_rgb"), (5, "aria02_left"), (7, "aria02_right")])
@pytest.mark.parametrize("frame", [1, 12])
def test_a_camera_that_leaves_its_glasses_for_one_frame(take, line, camera, frame):
    change_calibration(take, frame, line, 9, lambda metres: metres + 0.1)
    findings = take.convert().findings
    assert concerns(findings) == {"outliers.camera_pose"}
    finding = only(findings, "outliers.camera_pose")
    assert (finding["camera"], finding["frames"]) == (camera, [[frame, frame]])
    assert finding["found"]["metres"] == pytest.approx(0.1, abs=0.01)


def test_a_lens_that_changes_for_one_frame(take):
    change_calibration(take, 9, 4, 3, lambda k0: k0 + 0.05)
    findings = take.convert().findings
    assert concerns(findings) == {"outliers.lens"}
    assert (only(findings, "outliers.lens")["camera"], only(findings, "outliers.lens")["frames"]) == (
        "aria02_left",
        [[9, 9]],
    )


def test_a_detection_that_leaves_its_joint_for_one_frame(take, sound):
    folder = "processed_data/poses2d/cam01/rgb"
    sequence = sound.convert()
    camera, person = sequence.camera.index("cam01"), 1
    seen = sequence.in_view[camera, :, person].all(axis=-1) & (sequence.detection_score[camera, :, person] > 0.5).all(1)
    frame = next(t for t in range(1, FRAMES - 1) if seen[t - 1 : t + 2].all()) + 1
    path = f"{folder}/{frame:05d}.npy"
    people = [dict(entry) for entry in load_npy(take.files[path], path)]
    entry = next(entry for entry in people if entry["human_name"] == "aria02")
    entry["keypoints"] = np.array(entry["keypoints"])
    entry["keypoints"][WRIST, 0] += 700
    for some in people:
        some.update({key: np.array(value) for key, value in some.items() if isinstance(value, np.ndarray)})
    take.files[path] = npy(people)
    findings = [f for f in take.convert().findings if f not in sequence.findings and f["check"] == "outliers.detection"]
    (finding,) = findings
    assert (finding["camera"], finding["person"], finding["frames"]) == ("cam01", "aria02", [[frame, frame]])
    assert "left wrist" in finding["message"]


def test_flags_that_are_neither(take):
    take.poses(TRIANGULATED, lambda k, people: k == 5 and people["aria01"][:2, 3].fill(0.75))
    finding = only(take.convert().findings, "poses.flag_value")
    assert (finding["person"], finding["frames"], finding["found"]) == ("aria01", [[5, 5]], 2)
