"""Scoring of one track: what counts, what is left out and why, and how often."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finepose_mp import aggregation, cameras, metrics, schema
from finepose_mp.datasets.index import Track
from finepose_mp.evaluation.scoring import (
    AGGREGATIONS,
    METRICS,
    EvaluationError,
    LiftedTrack,
    aggregations_for,
    score_track,
)
from finepose_mp.inference.views import View
from finepose_mp.skeletons import COCO17

FRAMES, MIN_IN_VIEW, FPS = 24, 5, 20.0
LENS = (600.0, 600.0, 704.0, 704.0)  # fx fy cx cy
MEAN_POSE = np.zeros((17, 3))


def make_track(**changes) -> Track:
    values = {
        "file": Path("made_up.h5"),
        "sequence": "01_tagging/001_tagging",
        "camera": "aria01/rgb",
        "person": "aria02",
        "camera_index": 0,
        "person_index": 1,
        "length": FRAMES,
        "scene": "Tagging",
        "camera_kind": "ego_rgb",
        "camera_model": "pinhole",
        "image_size": (1408, 1408),
        "action": "playing tag",
        "fps": FPS,
        "simulated": False,
    }
    return Track(**(values | changes))


def make_lifted(hypotheses=4, noise=0.05, seed=0, track=None) -> LiftedTrack:
    """A track in which everything is observed and in view, without noise in the 2D, and hypotheses around the truth."""
    random = np.random.default_rng(seed)
    target = COCO17.root_relative(random.normal(size=(1, 17, 3)) * 0.4 + random.normal(size=(FRAMES, 17, 3)) * 0.02)
    everywhere = np.ones((FRAMES, 17), bool)
    root = np.array([0.5, 0.2, 4.0]) + np.arange(FRAMES)[:, None] * [0.05, 0.0, 0.02]
    return LiftedTrack(
        track=track or make_track(),
        hypotheses=target + random.normal(size=(hypotheses, FRAMES, 17, 3)) * noise,
        times_scored=np.ones(FRAMES, int),
        window=np.arange(FRAMES) // 8,
        target_3d=target,
        target_mask=everywhere,
        input_mask=everywhere,
        in_view=everywhere,
        joint_status=np.full((FRAMES, 17), schema.OBSERVED, np.uint8),
        frame=np.arange(1, FRAMES + 1),
        view=make_view(target + root[:, None]),
        true_root_camera=root,
    )


def make_view(joints_camera) -> View:
    """A camera at rest, in the origin of the world, that sees joints (T, J, 3) exactly."""
    rays = joints_camera[..., :2] / joints_camera[..., 2:]
    params = np.full((FRAMES, 15), np.nan)
    params[:, :4] = LENS
    return View(
        keypoints=cameras.project(joints_camera, "pinhole", params[:, None]),
        rays=rays,
        weights=np.ones(rays.shape[:-1]),
        camera_model="pinhole",
        camera_params=params,
        world_to_camera=np.broadcast_to(np.eye(4)[:3], (FRAMES, 3, 4)),
        time=np.arange(FRAMES) / FPS,
    )


def leave_out(lifted: LiftedTrack) -> LiftedTrack:
    """The same track with one case of everything that is not scored, masked as the reader masks it."""
    status, in_view, times = lifted.joint_status.copy(), lifted.in_view.copy(), lifted.times_scored.copy()
    in_view[2, : 17 - MIN_IN_VIEW + 1] = False  # too few left
    in_view[3, :3] = False  # still enough
    status[4, COCO17.index("left_hip")] = schema.MISSING
    status[5, [0, 1]] = schema.MISSING
    status[6, 9] = schema.INTERPOLATED
    status[7, COCO17.index("right_hip")] = schema.INTERPOLATED
    status[10], in_view[10] = schema.MISSING, False  # without a 3D position nothing can be in view
    times[8:10] = 0
    observed = status == schema.OBSERVED
    known = observed[:, list(COCO17.root_joints)].all(axis=1) & (in_view.sum(axis=1) >= MIN_IN_VIEW)
    hypotheses = lifted.hypotheses.copy()
    hypotheses[:, 8:10] = np.nan
    return replace(
        lifted,
        joint_status=status,
        in_view=in_view,
        times_scored=times,
        hypotheses=hypotheses,
        target_mask=observed & known[:, None],
    )


def score(lifted, rows=tuple(AGGREGATIONS), mean_pose=MEAN_POSE, **options):
    return score_track(lifted, list(rows), COCO17, mean_pose, MIN_IN_VIEW, **options)


def means(track_score, rows=tuple(AGGREGATIONS)):
    """{(metric, row): mean over all joints}."""
    counts = track_score.counts.sum(axis=-1)
    return {
        (metric, row): track_score.sums[m, a].sum() / counts[m, a] if counts[m, a] else None
        for m, metric in enumerate(METRICS)
        for a, row in enumerate(rows)
    }


def test_a_perfect_prediction_scores_perfectly_wherever_its_root_lies():
    lifted = make_lifted()
    values = means(score(replace(lifted, hypotheses=np.stack([lifted.target_3d + 3.0] * 4))))
    for (metric, row), value in values.items():
        if row == "training_mean_pose" or metric == "mpjpe_out_of_view":
            continue
        expected = {"pck_150": 100, "auc_150": 100 * 30 / 31}.get(metric, 0)
        assert value == pytest.approx(expected, abs=1e-9)


def test_means_are_those_of_the_metric_functions_in_millimetres():
    lifted = make_lifted()
    values = means(score(lifted))
    pose = COCO17.root_relative(lifted.hypotheses.mean(axis=0))
    for metric in ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve", "acceleration_error"):
        expected, _ = metrics.mean_and_count(getattr(metrics, metric)(pose, lifted.target_3d))
        assert values[metric, "p_agg"] == pytest.approx(1000 * expected)
    assert values["mpjve_per_second", "p_agg"] == pytest.approx(FPS * values["mpjve", "p_agg"])
    assert values["acceleration_error_per_second", "p_agg"] == pytest.approx(
        FPS**2 * values["acceleration_error", "p_agg"]
    )


def test_the_baseline_is_scored_on_the_same_joints():
    lifted = leave_out(make_lifted())
    mean_pose = lifted.target_3d.mean(axis=0)
    result = score(lifted, rows=["p_agg", "training_mean_pose"], mean_pose=mean_pose)
    kept = np.linalg.norm(mean_pose - lifted.target_3d, axis=-1)[
        lifted.target_mask & (lifted.times_scored > 0)[:, None]
    ]
    assert means(result, ("p_agg", "training_mean_pose"))["mpjpe", "training_mean_pose"] == pytest.approx(
        1000 * kept.mean()
    )


@pytest.mark.parametrize("metric", ["mpjpe", "p_mpjpe", "n_mpjpe"])
def test_oracles_are_ordered(metric):
    values = means(score(make_lifted(), align_then_choose=True))
    rows = ["oracle_j_best", "oracle_p_best_frame", "oracle_p_best_window", "single"]
    ordered = [values[metric, row] for row in rows]
    assert ordered == sorted(ordered)
    assert ordered[0] < ordered[2]


def test_protocol_2_is_that_of_the_composed_pose_or_on_request_of_the_papers():
    lifted = make_lifted()
    aligned = metrics.align_similarity(lifted.hypotheses, lifted.target_3d)
    papers = np.linalg.norm(aligned - lifted.target_3d, axis=-1).min(axis=0).mean()
    values = means(score(lifted, align_then_choose=True))
    assert values["p_mpjpe", "oracle_j_best"] == pytest.approx(1000 * papers)
    hypotheses = COCO17.root_relative(lifted.hypotheses)
    best = aggregation.j_best(hypotheses, lifted.target_3d)
    composed, _ = metrics.mean_and_count(metrics.p_mpjpe(best, lifted.target_3d))
    values = means(score(lifted))
    assert values["p_mpjpe", "oracle_j_best"] == pytest.approx(1000 * composed)
    assert composed != pytest.approx(papers, rel=1e-3)


def test_the_papers_protocol_2_keeps_the_choice_by_the_2d():
    lifted = make_lifted()
    hypotheses = COCO17.root_relative(lifted.hypotheses)
    errors = lifted.view.reprojection_errors(hypotheses, lifted.true_root_camera)
    aligned = metrics.align_similarity(hypotheses, lifted.target_3d)
    expected = metrics.mpjpe(aggregation.j_agg(aligned, errors, COCO17.root_joints), lifted.target_3d).mean()
    row = "oracle_j_agg_true_root"
    assert means(score(lifted, align_then_choose=True))["p_mpjpe", row] == pytest.approx(1000 * expected)


def test_j_agg_with_a_solved_root_is_about_as_good_as_with_the_true_one_and_better_than_none():
    """Many hypotheses far apart: the 2D tells which are good across the line of sight."""
    values = means(score(make_lifted(hypotheses=20, noise=0.1)))
    assert values["mpjpe", "j_agg"] < 0.9 * values["mpjpe", "single"]
    assert values["mpjpe", "j_agg"] == pytest.approx(values["mpjpe", "oracle_j_agg_true_root"], rel=0.05)
    assert values["mpjpe", "oracle_j_best"] < values["mpjpe", "j_agg"]


def test_what_is_deployable_does_not_depend_on_the_truth():
    """Another truth with the same keypoints: errors of the joints that it leaves alone stay what they were."""
    lifted = make_lifted(noise=0.1)
    moved = np.zeros((17, 3))
    moved[[0, 3, 16]] = 1.0
    other = replace(lifted, target_3d=lifted.target_3d + moved, true_root_camera=lifted.true_root_camera * 2 + 1)
    rows = [row for row, about in AGGREGATIONS.items() if about.kind == "deployable"]
    assert rows == ["p_agg", "single", "j_agg", "soft_j_agg"]
    alone = ~moved.any(axis=-1)
    mpjpe = list(METRICS).index("mpjpe")
    before, after = score(lifted, rows).sums[mpjpe], score(other, rows).sums[mpjpe]
    np.testing.assert_allclose(after[:, alone], before[:, alone], rtol=1e-12)
    assert (after[:, ~alone] > before[:, ~alone]).all()


def test_without_keypoints_j_agg_is_p_agg():
    lifted = make_lifted()
    nothing_seen = replace(lifted, view=replace(lifted.view, weights=np.zeros((FRAMES, 17))))
    result = score(nothing_seen)
    values = means(result)
    for row in ("j_agg", "soft_j_agg"):
        assert values["mpjpe", row] == pytest.approx(values["mpjpe", "p_agg"])
    assert result.tally["frames scored whose root the 2D does not determine"] == FRAMES
    assert result.root[2] == 0


def test_the_error_of_the_solved_root_is_summed_in_millimetres():
    perfect = make_lifted(noise=0)
    distance, along, frames = score(perfect).root
    assert max(distance, along) / FRAMES < 0.2  # the wide prior on speed costs a tenth of a millimetre
    assert frames == FRAMES
    farther = replace(perfect, true_root_camera=perfect.true_root_camera * 1.1)
    distance, along, _ = score(farther).root
    assert distance == pytest.approx(100 * np.linalg.norm(perfect.true_root_camera, axis=-1).sum(), rel=1e-3)
    assert along == pytest.approx(distance)


def test_frames_and_joints_left_out_are_counted_under_their_reason():
    tally = score(leave_out(make_lifted())).tally
    assert tally["frames scored"] == FRAMES - 6
    assert tally["frames left out: no 3D position"] == 1
    assert tally["frames left out: person not in view"] == 1
    assert tally["frames left out: root not observed"] == 2
    assert tally["frames left out: not lifted"] == 2
    assert tally["joints scored"] == (FRAMES - 6) * 17 - 3
    assert tally["joints left out: no 3D position"] == 17
    assert tally["joints left out: person not in view"] == 17
    assert tally["joints left out: root not observed"] == 2 * 17
    assert tally["joints left out: joint missing"] == 2
    assert tally["joints left out: joint interpolated"] == 1
    assert tally["joints left out: not lifted"] == 2 * 17
    assert tally["joints scored out of view"] == 3
    for what, size in (("frames", FRAMES), ("joints", FRAMES * 17)):
        parts = [n for name, n in tally.items() if name == f"{what} scored" or name.startswith(f"{what} left out")]
        assert sum(parts) == size
        assert tally[f"{what} left out: other"] == 0


def test_interpolated_joints_count_as_left_out_only_when_they_are():
    lifted = leave_out(make_lifted())
    usable = lifted.joint_status != schema.MISSING
    known = usable[:, list(COCO17.root_joints)].all(axis=1) & (lifted.in_view.sum(axis=1) >= MIN_IN_VIEW)
    tally = score(replace(lifted, target_mask=usable & known[:, None]), include_interpolated=True).tally
    assert tally["joints left out: joint interpolated"] == 0
    assert tally["frames left out: root not observed"] == 1
    assert tally["joints left out: other"] == tally["frames left out: other"] == 0


def test_joints_in_and_out_of_view_are_scored_apart():
    lifted = make_lifted(noise=0)
    in_view = lifted.in_view.copy()
    in_view[:, 15:] = False
    hypotheses = lifted.hypotheses.copy()
    hypotheses[:, :, 15:, 0] += 0.1
    result = score(replace(lifted, in_view=in_view, hypotheses=hypotheses))
    values = means(result)
    assert values["mpjpe_in_view", "single"] == pytest.approx(0, abs=1e-9)
    assert values["mpjpe_out_of_view", "single"] == pytest.approx(100)
    assert values["mpjpe", "single"] == pytest.approx(100 * 2 / 17)


def test_velocities_do_not_span_what_was_left_out():
    lifted = make_lifted()
    gap = lifted.target_mask.copy()
    gap[10:12] = False
    result = score(replace(lifted, target_mask=gap))
    names = list(METRICS)
    assert (result.counts[names.index("mpjve")].sum(axis=-1) == (FRAMES - 1 - 3) * 17).all()
    assert (result.counts[names.index("acceleration_error")].sum(axis=-1) == (FRAMES - 2 - 4) * 17).all()


def test_frames_of_the_papers_overlap_count_twice_but_their_steps_once():
    lifted = make_lifted()
    times = lifted.times_scored.copy()
    times[4:12] = 2
    once, twice = score(lifted), score(replace(lifted, times_scored=times))
    names = list(METRICS)
    assert (twice.counts[names.index("mpjpe")].sum(axis=-1) == (FRAMES + 8) * 17).all()
    assert twice.counts[names.index("mpjve")].sum() == once.counts[names.index("mpjve")].sum()
    errors = 1000 * metrics.mpjpe(COCO17.root_relative(lifted.hypotheses[0]), lifted.target_3d)
    single = list(AGGREGATIONS).index("single")
    assert twice.sums[0, single].sum() == pytest.approx(errors.sum() + errors[4:12].sum())
    assert twice.tally["frames counted again by the papers' overlap"] == 8
    assert twice.tally["frames scored"] == FRAMES


def test_frames_without_any_keypoint_are_scored_and_counted():
    lifted = make_lifted()
    input_mask = lifted.input_mask.copy()
    input_mask[:3] = False
    tally = score(replace(lifted, input_mask=input_mask)).tally
    assert tally["frames scored"] == FRAMES
    assert tally["frames scored without a keypoint in them"] == 3


def test_a_track_without_any_scored_joint_adds_nothing():
    lifted = make_lifted()
    nothing = replace(
        lifted,
        hypotheses=np.full((1, FRAMES, 17, 3), np.nan),
        times_scored=np.zeros(FRAMES, int),
        target_mask=np.zeros((FRAMES, 17), bool),
    )
    result = score(nothing)
    assert not result.sums.any()
    assert not result.counts.any()


def test_a_model_that_predicts_nan_is_an_error_that_names_the_track():
    lifted = make_lifted()
    lifted.hypotheses[1, 5, 3] = np.nan
    with pytest.raises(EvaluationError, match=r"01_tagging/001_tagging\|aria01/rgb\|aria02.*not finite"):
        score(lifted)


def test_a_joint_that_training_never_had_is_named():
    mean_pose = MEAN_POSE.copy()
    mean_pose[COCO17.index("left_ear")] = np.nan
    with pytest.raises(EvaluationError, match="left_ear would be scored, but the training targets never had them"):
        score(make_lifted(), mean_pose=mean_pose)


def test_a_target_that_is_not_root_relative_is_an_error():
    lifted = make_lifted()
    with pytest.raises(EvaluationError, match="expected a root-relative target"):
        score(replace(lifted, target_3d=lifted.target_3d + 0.1))


def test_one_hypothesis_has_no_oracle_and_no_aggregation():
    assert aggregations_for(1) == ["single", "training_mean_pose"]
    assert set(aggregations_for(5)) == set(AGGREGATIONS)
