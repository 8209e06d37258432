"""Metrics against the field's own functions (golden values) and in the cases where those fail."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finepose_mp import metrics
from finepose_mp.metrics import acceleration_error, auc, mean_and_count, mpjpe, mpjve, n_mpjpe, p_mpjpe, pck

TOLERANCE = 1e-9  # of the float64 golden values


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden/metrics/golden_metrics.npz")


@pytest.fixture(scope="module")
def poses(golden):
    return golden["single/pred"], golden["single/gt"]


@pytest.fixture(scope="module")
def root_relative(poses):
    return tuple(points - points[:, :1] for points in poses)


def mean(errors, axis=None):
    return mean_and_count(errors, axis)[0]


@pytest.fixture
def walk():
    """A smooth motion (T, J, 3) and a prediction beside it."""
    rng = np.random.default_rng(0)
    target = np.cumsum(rng.normal(size=(12, 17, 3)), axis=0) * 0.02
    return target + rng.normal(size=target.shape) * 0.03, target


@pytest.mark.parametrize(
    ("metric", "key"), [(mpjpe, "mpjpe"), (p_mpjpe, "p_mpjpe"), (n_mpjpe, "n_mpjpe"), (mpjve, "mpjve")]
)
def test_means_equal_videopose3d(golden, poses, metric, key):
    assert mean(metric(*poses)) == pytest.approx(golden[f"single/{key}_vp3d"], abs=TOLERANCE)


@pytest.mark.parametrize(("metric", "key"), [(mpjpe, "mpjpe"), (n_mpjpe, "n_mpjpe"), (mpjve, "mpjve")])
def test_root_relative_means_equal_videopose3d(golden, root_relative, metric, key):
    assert mean(metric(*root_relative)) == pytest.approx(golden[f"single/{key}_rootrel"], abs=TOLERANCE)


@pytest.mark.parametrize(("metric", "key"), [(mpjpe, "mpjpe"), (p_mpjpe, "p_mpjpe")])
def test_every_frame_equals_motionbert(golden, poses, metric, key):
    """Rotated, mirrored and rotated-and-mirrored frames are among them: reflections must not be forgiven."""
    np.testing.assert_allclose(
        mean(metric(*poses), axis=-1), golden[f"single/{key}_per_frame_motionbert"], atol=TOLERANCE
    )


def test_acceleration_of_every_frame_equals_motionagformer(golden, root_relative):
    errors = acceleration_error(*root_relative)
    np.testing.assert_allclose(mean(errors, axis=-1), golden["single/acc_err_per_frame_motionagformer"], atol=TOLERANCE)


@pytest.mark.parametrize(("metric", "alignment"), [(mpjpe, "none"), (n_mpjpe, "scale"), (p_mpjpe, "procrustes")])
def test_masked_means_equal_mmpose(golden, poses, metric, alignment):
    """mmpose fits the alignment to masked joints too and masks only the mean: so does masking the errors."""
    errors = np.where(golden["single/mask"], metric(*poses), np.nan)
    expected = golden[f"single/mmpose1x_keypoint_mpjpe_{alignment}"]
    assert mean(errors) == pytest.approx(expected, abs=TOLERANCE)


def test_aligned_poses_equal_mmpose(golden, poses):
    np.testing.assert_allclose(
        metrics.align_similarity(*poses), golden["single/mmpose_procrustes_aligned"], atol=TOLERANCE
    )


def test_pck_per_joint_equals_mmpose_1(golden, root_relative):
    errors = mpjpe(*root_relative, golden["single/mask"])
    per_joint = mean(pck(errors), axis=0) / 100
    np.testing.assert_allclose(per_joint, golden["single/mmpose1x_pck150_per_joint"], atol=TOLERANCE)
    assert per_joint.mean() == pytest.approx(golden["single/mmpose1x_pck150_avg"], abs=TOLERANCE)


@pytest.mark.parametrize(("alignment", "metric"), [("none", mpjpe), ("scale", n_mpjpe), ("procrustes", p_mpjpe)])
def test_pooled_pck_and_auc_equal_mmpose_0(golden, root_relative, alignment, metric):
    mask = golden["single/mask"]
    errors = np.where(mask, metric(*root_relative), np.nan)
    assert mean(pck(errors)) == pytest.approx(golden[f"single/mmpose029_3dpck_{alignment}"], abs=1e-5)
    assert mean(auc(errors)) == pytest.approx(golden[f"single/mmpose029_3dauc_{alignment}"], abs=1e-5)


def test_errors_exactly_on_a_threshold_do_not_count(golden):
    errors = golden["edge/err_m"]
    assert mean(pck(errors)) == pytest.approx(golden["edge/mmpose029_3dpck"], abs=1e-5)
    assert mean(auc(errors)) == pytest.approx(golden["edge/mmpose029_3dauc"], abs=1e-5)
    assert auc(np.array([0.0])) == pytest.approx(100 * 30 / 31)


def test_mask_leaves_out_joints_and_whole_frames_without_poisoning_the_mean(walk):
    prediction, target = walk
    mask = np.ones(target.shape[:2], bool)
    mask[3, 5] = mask[7] = False
    hidden_prediction, hidden_target = prediction.copy(), target.copy()
    hidden_prediction[~mask] = np.nan
    hidden_target[~mask] = np.nan
    for metric in (mpjpe, p_mpjpe, n_mpjpe):
        errors = metric(hidden_prediction, hidden_target, mask)
        np.testing.assert_array_equal(np.isnan(errors), ~mask)
        value, count = mean_and_count(errors)
        assert count == mask.sum()
        assert np.isfinite(value)
        np.testing.assert_allclose(errors[0], metric(prediction, target)[0])


def test_alignment_is_fitted_to_usable_joints_only(walk):
    _, target = walk
    mask = np.ones(target.shape[:2], bool)
    mask[:, 4] = False
    prediction = 1.3 * target + 0.2
    prediction[:, 4] += 5.0
    np.testing.assert_allclose(p_mpjpe(prediction, target, mask)[mask], 0, atol=1e-12)
    assert mean(p_mpjpe(prediction, target)) > 0.01


def test_a_mirrored_prediction_is_not_forgiven(walk):
    _, target = walk
    assert mean(p_mpjpe(target * [-1, 1, 1], target)) > 0.01


def test_a_collapsed_prediction_scores_finitely(walk):
    _, target = walk
    collapsed = np.zeros_like(target)
    distance_to_mean = np.linalg.norm(target - target.mean(axis=1, keepdims=True), axis=-1)
    np.testing.assert_allclose(p_mpjpe(collapsed, target), distance_to_mean, atol=1e-12)
    np.testing.assert_allclose(n_mpjpe(collapsed, target), np.linalg.norm(target, axis=-1))


def test_frames_with_too_few_joints_are_not_aligned(walk):
    prediction, target = walk
    mask = np.zeros(target.shape[:2], bool)
    mask[0, :2] = mask[1, :3] = True
    scored = ~np.isnan(p_mpjpe(prediction, target, mask))
    assert not scored[0].any()
    assert scored[1].sum() == 3
    assert (~np.isnan(mpjpe(prediction, target, mask))).sum() == 5


@pytest.mark.parametrize(("metric", "order"), [(mpjve, 1), (acceleration_error, 2)])
def test_differences_span_neither_masked_nor_absent_frames(walk, metric, order):
    prediction, target = walk
    frame = np.arange(len(target))
    frame[8:] += 3  # frames 8, 9 and 10 of the source are absent
    mask = np.ones(target.shape[:2], bool)
    mask[4] = False
    mask[2, 6] = False
    errors = metric(prediction, target, mask, frame)
    plain = metric(prediction, target)
    for step in range(len(target) - order):
        window = slice(step, step + order + 1)
        contiguous = frame[window][-1] - frame[step] == order
        expected = mask[window].all(axis=0) & contiguous
        np.testing.assert_array_equal(~np.isnan(errors[step]), expected)
        np.testing.assert_allclose(errors[step][expected], plain[step][expected])


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_tracks_have_no_differences(length):
    points = np.zeros((length, 17, 3))
    assert mpjve(points, points).shape == (max(length - 1, 0), 17)
    assert acceleration_error(points, points).shape == (max(length - 2, 0), 17)


def test_mean_of_nothing_is_nan_and_counted_as_nothing():
    value, count = mean_and_count(np.full((3, 2), np.nan))
    assert np.isnan(value)
    assert count == 0


def test_a_prediction_that_is_not_finite_is_an_error_and_not_an_exclusion(walk):
    prediction, target = walk
    prediction[2, 3, 1] = np.nan
    with pytest.raises(
        ValueError, match=r"prediction is not finite at 1 of 204 usable joints, first at index \(2, 3\)"
    ):
        mpjpe(prediction, target)


def test_poses_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"\(\.\.\., joint, 3\), found shape \(4, 17, 2\)"):
        mpjpe(np.zeros((4, 17, 2)), np.zeros((4, 17, 2)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 5.0))
def test_p_mpjpe_ignores_similarity_transforms_and_never_exceeds_a_fixed_one(seed, scale):
    rng = np.random.default_rng(seed)
    target, prediction = rng.normal(size=(2, 3, 17, 3))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    moved = scale * prediction @ rotation + rng.normal(size=3)
    np.testing.assert_allclose(p_mpjpe(moved, target), p_mpjpe(prediction, target), atol=1e-9)
    squared = [(metric(prediction, target) ** 2).sum() for metric in (p_mpjpe, n_mpjpe, mpjpe)]
    assert squared[0] <= squared[1] + 1e-9 <= squared[2] + 2e-9
