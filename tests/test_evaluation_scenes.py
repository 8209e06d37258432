"""Errors of a predicted scene in the world, and what its spread says about them."""

import numpy as np
import pytest
from contract_file import make_sequence

from finepose_mp import schema
from finepose_mp.evaluation.scenes import calibration, scene_errors, seam_acceleration
from finepose_mp.inference.long_tracks import overlapping_windows
from finepose_mp.skeletons import joint_set

COCO17 = joint_set("coco17")


@pytest.fixture
def sequence():
    """A sequence with its own truth as the prediction."""
    sequence = make_sequence(frames=40, persons=3)
    there = np.isfinite(sequence.joints_3d_world).all(axis=(-2, -1))
    sequence.predicted_3d_world = sequence.joints_3d_world.copy()
    sequence.predicted_status = there.astype(np.uint8)
    sequence.predicted_spread = np.zeros(sequence.joints_3d_world.shape[:3])
    return sequence


def test_the_truth_has_no_error(sequence):
    errors = scene_errors(sequence, COCO17)
    for name in ("mpjpe_world", "root_error", "mpjpe", "distance_error"):
        assert errors["all"][name] == pytest.approx(0, abs=1e-9)
    assert errors["inferred"]["mpjpe"] is None
    assert errors["seen"]["people and frames"] == (sequence.predicted_status > 0).sum()


def test_a_shift_of_everybody_moves_people_but_not_their_distances_or_poses(sequence):
    sequence.predicted_3d_world += np.array([0.3, 0.0, 0.4], np.float32)
    errors = scene_errors(sequence, COCO17)["all"]
    assert errors["mpjpe_world"] == pytest.approx(500, abs=0.01)
    assert errors["root_error"] == pytest.approx(500, abs=0.01)
    assert errors["mpjpe"] == pytest.approx(0, abs=0.01)
    assert errors["distance_error"] == pytest.approx(0, abs=0.01)


def test_one_person_who_stands_elsewhere_is_a_wrong_distance(sequence):
    away = COCO17.root(sequence.joints_3d_world[:, 0]) - COCO17.root(sequence.joints_3d_world[:, 2])
    unit = away / np.linalg.norm(away, axis=-1, keepdims=True)
    sequence.predicted_3d_world[:, 0] += 0.1 * unit[:, None]
    sequence.predicted_status[:, 1] = 0
    errors = scene_errors(sequence, COCO17)["all"]
    assert errors["distance_error"] == pytest.approx(100, abs=0.01)
    assert errors["root_error"] == pytest.approx(50, abs=0.01)


def test_inferred_frames_are_told_apart(sequence):
    sequence.predicted_status[5:8, 0] = 2
    sequence.predicted_3d_world[5:8, 0] += np.array([0, 0, 0.2], np.float32)
    errors = scene_errors(sequence, COCO17)
    assert errors["inferred"]["root_error"] == pytest.approx(200, abs=0.01)
    assert errors["seen"]["root_error"] == pytest.approx(0, abs=0.01)
    assert errors["inferred"]["people and frames"] == 3


def test_joints_that_were_not_observed_do_not_count(sequence):
    sequence.joint_status[:, :, 9] = schema.INTERPOLATED
    sequence.predicted_3d_world[:, :, 9] += 5
    assert scene_errors(sequence, COCO17)["all"]["mpjpe"] == pytest.approx(0, abs=1e-3)


def test_joints_that_the_model_has_not_do_not_keep_the_others_from_counting(sequence):
    sequence.predicted_3d_world[:, :, 1:5] = np.nan
    sequence.predicted_3d_world[:, 0, COCO17.index("left_hip")] = np.nan  # half of a root
    errors = scene_errors(sequence, COCO17)["all"]
    assert errors["mpjpe"] == errors["root_error"] == pytest.approx(0, abs=1e-9)
    assert errors["people and frames"] == (sequence.predicted_status[:, 1:] > 0).sum()


def test_an_honest_spread_lies_on_the_curve(sequence):
    random = np.random.default_rng(0)
    scale = random.uniform(0.01, 0.2, sequence.joints_3d_world.shape[:3])
    scale[..., list(COCO17.root_joints)] = 0
    noise = scale[..., None] / np.sqrt(3) * random.normal(size=sequence.joints_3d_world.shape)
    sequence.predicted_3d_world += noise.astype(np.float32)
    sequence.predicted_spread = scale
    rows = calibration(sequence, COCO17)
    assert len(rows) == 10
    assert [row["spread"] for row in rows] == sorted(row["spread"] for row in rows)
    for row in rows:
        assert row["error"] == pytest.approx(row["spread"], rel=0.15, abs=1)


def test_without_prediction_or_truth_there_is_nothing_to_score(sequence):
    with pytest.raises(ValueError, match="no prediction in it"):
        scene_errors(make_sequence(), COCO17)
    sequence.joint_status[:] = schema.MISSING
    with pytest.raises(ValueError, match="no person has both"):
        scene_errors(sequence, COCO17)


class TestSeams:
    def test_a_step_where_windows_meet_is_acceleration_at_seams(self, sequence):
        joints = np.zeros(sequence.joints_3d_world.shape)
        bounds = overlapping_windows(40, 9).start[1:]
        for start in bounds:  # the pose changes by 10 cm from one window to the next
            joints[start:, :, 0] += [0.1, 0, 0]
        sequence.predicted_3d_world = joints
        found = seam_acceleration(sequence, COCO17, 9)
        assert found["at seams"] > 0.5 and found["inside"] == pytest.approx(0, abs=1e-6)

    def test_smooth_motion_has_the_same_everywhere(self, sequence):
        time = np.arange(40) / sequence.fps
        joints = np.zeros(sequence.joints_3d_world.shape)
        joints[..., 0, 0] = 0.5 * 3.0 * time[:, None] ** 2  # one joint at 3 m/s^2
        sequence.predicted_3d_world = joints
        found = seam_acceleration(sequence, COCO17, 9)
        assert found["at seams"] == pytest.approx(3 / 17) and found["inside"] == pytest.approx(3 / 17)

    def test_frames_that_do_not_follow_each_other_do_not_count(self, sequence):
        sequence.frame = sequence.frame + 50 * (np.arange(40) >= 20)
        sequence.predicted_3d_world = np.zeros(sequence.joints_3d_world.shape)
        sequence.predicted_3d_world[20:, :, 0] += 1.0
        found = seam_acceleration(sequence, COCO17, 9)
        assert found["at seams"] == found["inside"] == 0

    def test_a_single_window_has_no_seam(self, sequence):
        assert seam_acceleration(sequence, COCO17, 81)["at seams"] is None
