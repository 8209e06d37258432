"""Aggregations against D3DP's own functions (golden values), their order, what the 2D can choose, and masks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finepose_mp.aggregation import (
    j_agg,
    j_best,
    multi_view_distances,
    p_agg,
    p_best,
    ray_distances,
    reprojection_errors,
    single,
    soft_j_agg,
)
from finepose_mp.cameras import project
from finepose_mp.geometry import ray_directions
from finepose_mp.metrics import align_similarity, mean_and_count, mpjpe

RELATIVE_TOLERANCE = 1e-6  # the golden functions compute in float32
HYPOTHESES = 2  # axis of pred (clip, step, hypothesis, frame, joint, xyz)


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden/metrics/golden_metrics.npz")


@pytest.fixture(scope="module")
def hypotheses(golden):
    return golden["d3dp/pred"].astype(np.float64)


@pytest.fixture(scope="module")
def target(golden):
    """(clip, 1, frame, joint, xyz): the same for all sampling steps."""
    return golden["d3dp/gt_rel"].astype(np.float64)[:, None]


@pytest.fixture(scope="module")
def errors_2d(golden, hypotheses):
    """(hypothesis, clip, step, frame, joint): reprojection with the true root, in the golden data's screen units."""
    params = golden["d3dp/cam9"].astype(np.float64)[[0, 1, 2, 3, 4, 5, 6, 8, 7]]  # the file has p2 before p1
    root = golden["d3dp/traj"].astype(np.float64)[:, None, :, 0]
    keypoints = golden["d3dp/input_2d"].astype(np.float64)[:, None]
    return reprojection_errors(np.moveaxis(hypotheses, HYPOTHESES, 0), root, keypoints, "human36m", params)


@pytest.fixture(scope="module")
def aligned(hypotheses, target):
    """Protocol 2 aligns every hypothesis to the truth first, then selects."""
    return align_similarity(hypotheses, target[:, :, None])


def per_step(pose, target, mask=None):
    errors = mpjpe(pose, target, mask)
    return mean_and_count(errors, axis=(0, 2, 3))[0]


def by_step_p_best(hypotheses, target, group):
    """P-Best of every sampling step alone: groups must not reach across steps."""
    steps = hypotheses.shape[1]
    best = [p_best(hypotheses[:, k], target[:, 0], group=group, axis=HYPOTHESES - 1) for k in range(steps)]
    return np.stack(best, axis=1)


def clip_and_batch(shape):
    clips, frames = shape
    return np.repeat(np.arange(clips)[:, None], frames, axis=1), np.zeros((clips, frames), int)


def test_j_best_equals_d3dp(golden, hypotheses, target):
    value = per_step(j_best(hypotheses, target, axis=HYPOTHESES), target)
    np.testing.assert_allclose(value, golden["d3dp/P1_J_Best"], rtol=RELATIVE_TOLERANCE)
    np.testing.assert_allclose(value, golden["finepose/P1_J_Best"], rtol=RELATIVE_TOLERANCE)


def test_p_agg_and_single_equal_d3dp(golden, hypotheses, target):
    value = per_step(p_agg(hypotheses, axis=HYPOTHESES), target)
    np.testing.assert_allclose(value, golden["d3dp/P1_P_Agg"], rtol=RELATIVE_TOLERANCE)
    value = per_step(single(hypotheses, axis=HYPOTHESES), target)
    np.testing.assert_allclose(value, golden["own/P1_first_hyp"], rtol=RELATIVE_TOLERANCE)


def test_p_best_equals_d3dp_for_every_scope(golden, hypotheses, target):
    window, batch = clip_and_batch((2, 9))
    of_batch = per_step(by_step_p_best(hypotheses, target, batch), target)
    np.testing.assert_allclose(of_batch, golden["d3dp/P1_P_Best"], rtol=RELATIVE_TOLERANCE)
    of_window = per_step(by_step_p_best(hypotheses, target, window), target)
    clips = (golden["d3dp/P1_P_Best_clip0"] + golden["d3dp/P1_P_Best_clip1"]) / 2
    np.testing.assert_allclose(of_window, clips, rtol=RELATIVE_TOLERANCE)
    of_frame = per_step(p_best(hypotheses, target, axis=HYPOTHESES), target)
    np.testing.assert_allclose(of_frame, golden["own/P1_P_Best_per_frame"], rtol=RELATIVE_TOLERANCE)


def test_protocol_2_selects_among_aligned_hypotheses(golden, aligned, hypotheses, target):
    value = per_step(j_best(aligned, target, axis=HYPOTHESES), target)
    np.testing.assert_allclose(value, golden["d3dp/P2_J_Best"], rtol=RELATIVE_TOLERANCE)
    _, batch = clip_and_batch((2, 9))
    value = per_step(by_step_p_best(aligned, target, batch), target)
    np.testing.assert_allclose(value, golden["d3dp/P2_P_Best"], rtol=RELATIVE_TOLERANCE)
    value = per_step(align_similarity(p_agg(hypotheses, axis=HYPOTHESES), target), target)
    np.testing.assert_allclose(value, golden["d3dp/P2_P_Agg"], rtol=RELATIVE_TOLERANCE)


def test_j_agg_equals_d3dp(golden, hypotheses, target, aligned, errors_2d):
    """With the true root and the lens in screen units, as the papers have it; Protocol 2 keeps the choice by the 2D."""
    by_axis = np.moveaxis(errors_2d, 0, HYPOTHESES)
    value = per_step(j_agg(hypotheses, by_axis, axis=HYPOTHESES), target)
    np.testing.assert_allclose(value, golden["d3dp/P1_J_Agg"], rtol=RELATIVE_TOLERANCE)
    np.testing.assert_allclose(value, golden["finepose/P1_J_Agg"], rtol=RELATIVE_TOLERANCE)
    value = per_step(j_agg(aligned, by_axis, axis=HYPOTHESES), target)
    np.testing.assert_allclose(value, golden["d3dp/P2_J_Agg"], rtol=RELATIVE_TOLERANCE)
    np.testing.assert_array_equal(errors_2d.argmin(axis=0), golden["own/J_Agg_index"])


def test_masked_means_equal_d3dp_for_mpi_inf_3dhp(golden, hypotheses, target):
    mask = golden["d3dp3dhp/valid_frame"][:, None]
    value = 1000 * per_step(p_agg(hypotheses, axis=HYPOTHESES), target, mask)
    np.testing.assert_allclose(value, golden["d3dp3dhp/P_Agg"], rtol=RELATIVE_TOLERANCE)
    _, batch = clip_and_batch((2, 9))
    best = [
        p_best(hypotheses[:, k], target[:, 0], mask=mask[:, 0], group=batch, axis=1) for k in range(hypotheses.shape[1])
    ]
    value = 1000 * per_step(np.stack(best, axis=1), target, mask)
    np.testing.assert_allclose(value, golden["d3dp3dhp/P_Best"], rtol=RELATIVE_TOLERANCE)


@st.composite
def guesses(draw):
    """Truth, hypotheses of differing quality, and a mask that leaves something to score."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, frames = draw(st.integers(1, 6)), 12
    target = random.normal(size=(frames, 17, 3))
    spread = random.uniform(0.01, 1, size=(count, frames, 1, 1)) * random.uniform(0.1, 1, size=(count, 1, 17, 1))
    mask = random.random((frames, 17)) > draw(st.floats(0, 0.8))
    mask[0, 0] = True
    return target, target + random.normal(size=(count, frames, 17, 3)) * spread, mask


def mean_error(pose, target, mask):
    return mean_and_count(mpjpe(pose, target, mask))[0]


@settings(max_examples=50, deadline=None)
@given(guesses())
def test_oracles_are_ordered_and_below_the_mean_over_hypotheses(guess):
    target, hypotheses, mask = guess
    poses = [
        j_best(hypotheses, target, mask),
        p_best(hypotheses, target, mask),
        p_best(hypotheses, target, mask, group=np.arange(12) // 4),
        p_best(hypotheses, target, mask, group=np.zeros(12, int)),
    ]
    values = [mean_error(pose, target, mask) for pose in poses] + [mean_error(hypotheses, target, mask)]
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(values))


@settings(max_examples=50, deadline=None)
@given(guesses(), st.integers(0, 2**32 - 1))
def test_no_choice_by_the_2d_beats_the_oracle_and_no_mean_is_worse_than_the_mean_error(guess, seed):
    target, hypotheses, mask = guess
    errors = np.random.default_rng(seed).uniform(size=hypotheses.shape[:-1])
    best, mean = mean_error(j_best(hypotheses, target, mask), target, mask), mean_error(hypotheses, target, mask)
    assert mean_error(j_agg(hypotheses, errors), target, mask) >= best - 1e-12
    assert mean_error(p_agg(hypotheses), target, mask) <= mean + 1e-12


@settings(max_examples=50, deadline=None)
@given(guesses(), st.floats(0.01, 10))
def test_soft_j_agg_lies_between_j_agg_and_p_agg(guess, temperature):
    target, hypotheses, _ = guess
    errors = np.linalg.norm((hypotheses - target)[..., :2], axis=-1)
    soft = soft_j_agg(hypotheses, errors, temperature=temperature)
    assert (soft <= hypotheses.max(axis=0) + 1e-12).all()
    assert (soft >= hypotheses.min(axis=0) - 1e-12).all()
    np.testing.assert_allclose(soft_j_agg(hypotheses, errors, temperature=1e6), p_agg(hypotheses), atol=1e-9)
    gap = np.diff(np.sort(errors**2, axis=0), axis=0).min(initial=np.inf)
    if gap > 1e-6:
        np.testing.assert_allclose(soft_j_agg(hypotheses, errors, temperature=1e-5), j_agg(hypotheses, errors))


def test_p_best_takes_whole_poses_of_one_hypothesis_per_group():
    rng = np.random.default_rng(1)
    hypotheses, target = rng.normal(size=(4, 6, 17, 3)), rng.normal(size=(6, 17, 3))
    best = p_best(hypotheses, target, group=np.array([7, 7, 7, 2, 2, 7]))
    for frames in ([0, 1, 2, 5], [3, 4]):
        assert any(np.array_equal(best[frames], hypotheses[h, frames]) for h in range(4))


def test_masked_joints_do_not_choose_and_ties_keep_the_first():
    target = np.zeros((2, 17, 3))
    hypotheses = np.stack([np.full_like(target, value) for value in (2.0, 1.0, 1.0)])
    hypotheses[2] = -1.0
    mask = np.ones((2, 17), bool)
    mask[0] = False
    hypotheses[1, 0] = np.nan  # not usable, so it may be anything
    np.testing.assert_array_equal(j_best(hypotheses, target, mask)[0], hypotheses[0, 0])
    np.testing.assert_array_equal(p_best(hypotheses, target, mask)[0], hypotheses[0, 0])
    np.testing.assert_array_equal(j_best(hypotheses, target, mask)[1], hypotheses[1, 1])
    np.testing.assert_array_equal(p_best(hypotheses, target, mask)[1], hypotheses[1, 1])


def test_one_hypothesis_is_its_own_best():
    pose, target = np.random.default_rng(0).normal(size=(2, 5, 17, 3))
    for result in (single(pose[None]), p_agg(pose[None]), j_best(pose[None], target), p_best(pose[None], target)):
        np.testing.assert_allclose(result, pose)


class TestJAgg:
    def test_takes_the_joint_whose_reprojection_is_closest(self):
        hypotheses = np.random.default_rng(0).normal(size=(3, 4, 17, 3))
        errors = np.ones((3, 4, 17))
        errors[2, 1, 5] = 0.5
        pose = j_agg(hypotheses, errors)
        np.testing.assert_array_equal(pose[1, 5], hypotheses[2, 1, 5])
        np.testing.assert_array_equal(pose[0], hypotheses[0, 0])  # ties keep the first

    @pytest.mark.parametrize("choose", [j_agg, soft_j_agg])
    def test_joints_without_a_keypoint_take_the_mean(self, choose):
        hypotheses = np.random.default_rng(0).normal(size=(3, 4, 17, 3))
        errors = np.random.default_rng(1).uniform(size=(3, 4, 17))
        errors[:, 2, 7] = np.nan
        np.testing.assert_allclose(choose(hypotheses, errors)[2, 7], p_agg(hypotheses)[2, 7])

    @pytest.mark.parametrize("choose", [j_agg, soft_j_agg])
    def test_a_hypothesis_that_the_lens_cannot_see_is_not_taken(self, choose):
        hypotheses = np.random.default_rng(0).normal(size=(2, 4, 17, 3))
        errors = np.ones((2, 4, 17))
        errors[0] = np.nan
        np.testing.assert_allclose(choose(hypotheses, errors), hypotheses[1])

    @pytest.mark.parametrize("choose", [j_agg, soft_j_agg])
    def test_joints_that_hold_the_root_are_chosen_together(self, choose):
        """Hips of different hypotheses would put the mid-hip somewhere else than at the origin."""
        random = np.random.default_rng(0)
        hypotheses = random.normal(size=(5, 4, 17, 3))
        hypotheses[:, :, 12] = -hypotheses[:, :, 11]
        errors = random.uniform(size=(5, 4, 17))
        errors[:, 0, 11] = errors[:, 1, 11:13] = np.nan
        pose = choose(hypotheses, errors, together=(11, 12))
        np.testing.assert_allclose(pose[:, 11] + pose[:, 12], 0, atol=1e-12)
        apart = choose(hypotheses, errors)
        np.testing.assert_array_equal(np.delete(pose, (11, 12), axis=1), np.delete(apart, (11, 12), axis=1))

    def test_through_a_fisheye_the_hypothesis_on_the_ray_wins_and_none_wins_out_of_its_sight(self):
        params = np.array([610, 704, 703, 0.4, -0.5, 0.2, 1.1, -1.7, 0.65, 1e-3, -4e-4, -8e-4, 0, 5e-4, 0])
        joint, root = np.array([[[0.9, -0.4, 0.3]]]), np.array([[0.5, 0.2, 1.0]])
        closer = joint + 0.3 * (joint + root)  # on the same ray, elsewhere
        behind = joint - np.array([0, 0, 3.0])
        hypotheses = np.stack([joint + np.array([0.05, 0, 0]), closer, behind])
        seen_at = project(joint + root, "aria_fisheye624", params)
        errors = reprojection_errors(hypotheses, root, seen_at, "aria_fisheye624", params)
        assert errors[0, 0, 0] > 5
        assert errors[1, 0, 0] < 1e-6
        assert np.isnan(errors[2, 0, 0])
        np.testing.assert_allclose(j_agg(hypotheses, errors), closer)

    def test_without_a_root_it_is_p_agg(self):
        hypotheses = np.random.default_rng(0).normal(size=(3, 4, 17, 3))
        errors = reprojection_errors(
            hypotheses, np.full((4, 3), np.nan), np.zeros((4, 17, 2)), "pinhole", np.array([600.0, 600, 0, 0])
        )
        np.testing.assert_allclose(j_agg(hypotheses, errors), p_agg(hypotheses))


class TestSeveralCameras:
    """Cameras around a person: the world's axes, any orientation, since only rays enter."""

    @pytest.fixture
    def scene(self):
        random = np.random.default_rng(0)
        joints = random.normal(size=(6, 17, 3)) * 0.4
        root = random.normal(size=(6, 3))
        origins = random.normal(size=(3, 1, 1, 3)) * 4
        directions = joints + root[:, None] - origins
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        return joints, root, directions, np.broadcast_to(origins, (3, 6, 1, 3))

    def test_it_is_the_root_of_the_weighted_sum_of_squared_distances(self, scene):
        joints, root, directions, origins = scene
        random = np.random.default_rng(1)
        hypotheses = joints + random.normal(size=(5, *joints.shape)) * 0.1
        weights = random.uniform(size=(3, 6, 17)) * (random.random((3, 6, 17)) > 0.3)
        each = [weights[c] * ray_distances(hypotheses, root, directions[c], origins[c]) ** 2 for c in range(3)]
        expected = np.where((weights > 0).any(axis=0), np.sqrt(sum(each)), np.nan)
        directions[weights == 0] = np.nan  # there is nothing where no keypoint is
        found = multi_view_distances(hypotheses, root, directions, origins, weights)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)

    def test_two_cameras_tell_depth_where_one_cannot(self, scene):
        joints, root, directions, origins = scene
        along = joints + 0.2 * directions[0]  # where camera 0 sees the joint as well
        hypotheses = np.stack([along, joints + np.array([0.01, 0, 0])])
        weights = np.ones((3, 6, 17))
        one = multi_view_distances(hypotheses, root, directions[:1], origins[:1], weights[:1])
        np.testing.assert_array_equal(j_agg(hypotheses, one), hypotheses[0])
        np.testing.assert_allclose(one[0], 0, atol=1e-6)
        both = multi_view_distances(hypotheses, root, directions, origins, weights)
        np.testing.assert_array_equal(j_agg(hypotheses, both), hypotheses[1])


def test_distances_from_rays_are_reprojection_errors_in_metres():
    random = np.random.default_rng(0)
    root = np.array([[0.3, -0.1, 5.0]])
    joints = random.normal(size=(1, 17, 3)) * 0.3
    params = np.array([1000.0, 1000.0, 0, 0])
    rays = (joints + root)[..., :2] / (joints + root)[..., 2:]
    hypotheses = joints + random.normal(size=(4, 1, 17, 3)) * 0.01
    metres = ray_distances(hypotheses, root, ray_directions(rays))
    pixels = reprojection_errors(hypotheses, root, 1000 * rays, "pinhole", params)
    np.testing.assert_allclose(metres, pixels * (joints + root)[..., 2] / 1000, rtol=0.05)
