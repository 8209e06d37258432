"""Several cameras that see one person at once: one pose, counted once for each frame."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_evaluation_scoring import FPS, FRAMES, LENS, make_lifted, make_track

from finepose_mp import cameras
from finepose_mp.evaluation.multi_view import CAMERA, MULTI_VIEW_AGGREGATIONS, score_person
from finepose_mp.evaluation.scoring import METRICS, MILLIMETRES
from finepose_mp.geometry import apply_rigid
from finepose_mp.inference.views import View
from finepose_mp.skeletons import COCO17

MIN_KEYPOINTS = 5
ROWS = list(MULTI_VIEW_AGGREGATIONS)


def make_person(count=3, hypotheses=4, noise=0.05, seed=0):
    """One person seen by cameras around them, exactly; every camera's hypotheses err by themselves."""
    random = np.random.default_rng(seed)
    still = make_lifted(hypotheses=1, noise=0, seed=seed)
    pose_world = still.target_3d
    root_world = np.array([0.5, 0.2, 1.0]) + np.arange(FRAMES)[:, None] * [0.05, 0.0, 0.02]
    people = []
    for number in range(count):
        rotation = Rotation.from_euler("y", 360 * number / count + 20, degrees=True).as_matrix()
        world_to_camera = np.concatenate([rotation, [[0.1], [0.2], [5.0]]], axis=1)
        pose, root = pose_world @ rotation.T, apply_rigid(root_world, world_to_camera)
        people.append(
            replace(
                still,
                track=make_track(camera=f"cam{number}", camera_kind="exo", camera_index=number),
                hypotheses=pose + random.normal(size=(hypotheses, *pose.shape)) * noise,
                target_3d=pose,
                view=make_view(pose + root[:, None], world_to_camera),
                true_root_camera=root,
            )
        )
    return people


def make_view(joints_camera, world_to_camera) -> View:
    params = np.full((FRAMES, 15), np.nan)
    params[:, :4] = LENS
    return View(
        keypoints=cameras.project(joints_camera, "pinhole", params[:, None]),
        rays=joints_camera[..., :2] / joints_camera[..., 2:],
        weights=np.ones(joints_camera.shape[:-1]),
        camera_model="pinhole",
        camera_params=params,
        world_to_camera=np.broadcast_to(world_to_camera, (FRAMES, 3, 4)),
        time=np.arange(FRAMES) / FPS,
    )


def blind(lifted, frames):
    """The same with no keypoint in some frames."""
    weights = lifted.view.weights.copy()
    weights[frames] = 0
    return replace(lifted, view=replace(lifted.view, weights=weights))


def score(people):
    return score_person(people, COCO17, MIN_KEYPOINTS)


def means(result):
    """{row: MPJPE in mm}."""
    m = list(METRICS).index("mpjpe")
    return {row: result.sums[m, a].sum() / result.counts[m, a].sum() for a, row in enumerate(ROWS)}


def test_the_truth_has_no_error_in_any_row_and_its_root_is_found():
    result = score(make_person(noise=0))
    assert max(means(result).values()) < 1e-3
    error, along, frames = result.root
    assert error / frames < 0.2
    assert np.isnan(along)
    assert frames == FRAMES


def test_errors_that_differ_from_camera_to_camera_average_out():
    values = means(score(make_person(count=4, noise=0.1)))
    assert values["multi_view_p_agg"] < 0.7 * values["p_agg_of_each_camera"]


def test_the_camera_whose_hypotheses_agree_with_all_keypoints_is_followed():
    """The others guess both arms forward, each in its own frame; the mean of all is drawn along, a choice is not."""
    people = make_person(count=4, noise=0.01)
    wrong = np.zeros((17, 3))
    wrong[7:11] = [0.0, 0.3, 0.3]
    misled = [replace(each, hypotheses=each.hypotheses + wrong) for each in people[1:]]
    values = means(score([people[0], *misled]))
    assert values["multi_view_j_agg"] < 0.5 * values["multi_view_p_agg"]
    assert values["multi_view_soft_j_agg"] < 0.5 * values["multi_view_p_agg"]


def test_each_person_and_frame_counts_once():
    two, four = score(make_person(count=2)), score(make_person(count=4))
    mpjpe = list(METRICS).index("mpjpe")
    for result, cameras_each in ((two, 2), (four, 4)):
        assert (result.counts[mpjpe] == FRAMES).all()
        assert result.tally["frames scored"] == FRAMES
        assert result.tally["joints scored"] == FRAMES * 17
        assert result.tally["views of the scored frames"] == FRAMES * cameras_each
        assert result.track.camera == CAMERA


def test_frames_count_in_which_two_cameras_have_keypoints():
    first, second, third = make_person()
    result = score([blind(first, np.s_[:10]), blind(second, np.s_[5:15]), third])
    assert result.tally["frames scored"] == FRAMES - 5  # frames 5 to 9 have the third alone
    assert result.tally["views of the scored frames"] == 3 * FRAMES - 10 - 10 - 5
    velocity = list(METRICS).index("mpjve")
    assert (result.counts[velocity, :3] == FRAMES - 5 - 2).all()  # none across the gap


def test_one_camera_alone_gives_nothing_to_score():
    result = score(make_person(count=1))
    assert not result.counts.any()
    assert result.tally["frames scored"] == 0


def test_a_camera_that_sees_nobody_changes_nothing():
    people = make_person()
    nobody = blind(make_person(seed=5)[0], np.s_[:])
    nobody = replace(nobody, hypotheses=np.full_like(nobody.hypotheses, np.nan), target_mask=nobody.target_mask & False)
    alone, with_nobody = score(people), score([*people, nobody])
    np.testing.assert_allclose(with_nobody.sums, alone.sums)
    np.testing.assert_array_equal(with_nobody.counts, alone.counts)


def test_joints_that_no_camera_has_a_keypoint_of_take_the_mean():
    people = make_person(noise=0.1)
    without = []
    for each in people:
        weights = each.view.weights.copy()
        weights[:, 9] = 0
        without.append(replace(each, view=replace(each.view, weights=weights)))
    sums = score(without).sums[list(METRICS).index("mpjpe")]
    mean = ROWS.index("multi_view_p_agg")
    for row in ("multi_view_j_agg", "multi_view_soft_j_agg"):
        assert sums[ROWS.index(row), 9] == pytest.approx(sums[mean, 9])
        assert sums[ROWS.index(row), 8] != pytest.approx(sums[mean, 8])


def test_blocks_of_frames_do_not_show(monkeypatch):
    people = make_person()
    whole = score(people)
    monkeypatch.setattr("finepose_mp.inference.fusion._BLOCK", 7)
    np.testing.assert_allclose(score(people).sums, whole.sums)


def test_no_row_depends_on_the_truth():
    """Another truth with the same keypoints: errors of the joints that it leaves alone stay what they were."""
    people = make_person()
    moved = np.zeros((17, 3))
    moved[[0, 16]] = 1.0
    others = []
    for each in people:
        in_camera = moved @ each.view.world_to_camera[0, :, :3].T
        others.append(replace(each, target_3d=each.target_3d + in_camera, true_root_camera=each.true_root_camera + 1))
    alone = ~moved.any(axis=-1)
    mpjpe = list(METRICS).index("mpjpe")
    before, after = score(people).sums[mpjpe], score(others).sums[mpjpe]
    np.testing.assert_allclose(after[:, alone], before[:, alone], rtol=1e-9)
    assert (after[:, ~alone] > before[:, ~alone] + MILLIMETRES).all()
    assert {about.kind for about in MULTI_VIEW_AGGREGATIONS.values()} == {"deployable"}
