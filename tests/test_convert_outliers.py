"""Numbers that are wrong in a single frame are named, with the frame; people who really move fast are not."""

import numpy as np
import pytest
from converted_take import concerns, only
from simulated_take import CAMERAS, FIT, TRIANGULATED, SimulatedTake

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


def test_a_fixed_camera_that_is_worse_than_the_others(take):
    camera = take.colmap_camera("cam03")

    def change(lines):
        return [
            " ".join([*line.split()[:7], str(float(line.split()[7]) + 30), *line.split()[8:]])
            if line.startswith(f"{camera} ")
            else line
            for line in lines
        ]

    take.lines(CAMERAS, change)
    findings = take.convert().findings
    assert concerns(findings) == {"outliers.reprojection"}
    assert only(findings, "outliers.reprojection")["camera"] == "cam03"


def test_flags_that_are_neither(take):
    take.poses(TRIANGULATED, lambda k, people: k == 5 and people["aria01"][:2, 3].fill(0.75))
    finding = only(take.convert().findings, "poses.flag_value")
    assert (finding["person"], finding["frames"], finding["found"]) == ("aria01", [[5, 5]], 2)
