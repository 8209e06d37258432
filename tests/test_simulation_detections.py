"""Simulated detections follow their stated noise model, and triangulations say what could be seen."""

from dataclasses import replace

import numpy as np
import pytest

from finepose_mp.cameras import Camera
from finepose_mp.preprocessing.simulation.detections import Detections, NoiseModel, detect, triangulate
from finepose_mp.preprocessing.simulation.stages import built_in_motion
from finepose_mp.skeletons import COCO17

LENS = np.array([1900.0, 1900, 1920, 1080, 0.03, 0.06, -0.08, 0.04])
QUIET = NoiseModel.none()


def camera_at(distance: float, side: float = 0.0) -> Camera:
    """A camera on the negative x axis, a metre high, that looks along x."""
    rotation = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    pose = np.column_stack([rotation, -rotation @ np.array([-distance, side, 1.0])])
    return Camera("opencv_fisheye", LENS, (3840, 2160), pose)


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    """(T, 1, 17, 3): somebody who stands in place for a long time, in a random pose of a real scene."""
    pose = built_in_motion("basketball", 2, 2, np.random.default_rng(0)).joints[0, :1]
    pose = pose - [*pose[0, 11, :2], 0]
    return np.broadcast_to(pose, (1500, 1, 17, 3))


def find(people, noise, distance=5.0, wearer=None, **kwargs) -> tuple[Detections, np.ndarray, np.ndarray]:
    camera = camera_at(distance)
    found = detect(people, camera, wearer, noise, np.random.default_rng(1), **kwargs)
    truth = camera.project(camera.to_camera(people))
    return found, truth, np.ptp(truth, axis=2).max(axis=-1)


def test_without_noise_detections_are_the_truth(people):
    found, truth, _ = find(people[:20], QUIET)
    assert found.found.all() and not found.rejected.any() and not found.dummy.any()
    assert np.allclose(found.pixels, truth, atol=1e-9) and (found.scores > 0.9).all()


@pytest.mark.parametrize("distance", [2.5, 8.0, 30.0])
def test_spread_follows_size_floor_and_joint(people, distance):
    noise = replace(QUIET, relative=0.009, floor_px=2.0)
    found, truth, size = find(people, noise, distance)
    error = np.abs(found.pixels - truth)[:, 0]
    # The median of |t| with 4 degrees of freedom is 0.741; half slow, half fast normal noise stays normal.
    measured = np.median(error, axis=(0, 2)) / 0.741
    expected = np.hypot(0.009 * size[0, 0], 2.0) * np.array(
        [0.6, 0.6, 0.6, 0.7, 0.7, 0.9, 0.9, 1, 1, 1.25, 1.25, 1.3, 1.3, 1.05, 1.05, 1.15, 1.15]
    )
    assert np.allclose(measured, expected, rtol=0.15)


def test_small_people_suffer_more_for_their_size(people):
    errors = []
    for distance in (2.5, 30.0):
        found, truth, size = find(people[:400], NoiseModel(), distance)
        errors.append(np.median(np.abs(found.pixels - truth)) / size[0, 0])
    assert errors[1] > 1.5 * errors[0]


def test_tails_are_heavy_and_noise_is_half_slow(people):
    found, truth, _ = find(people, replace(QUIET, relative=0.01, floor_px=0.0))
    error = (found.pixels - truth)[:, 0, :, 0]
    error = error / np.median(np.abs(error), axis=0)
    assert np.mean(np.abs(error) > 5.5) > 0.003  # 0.0002 for a normal distribution
    clipped = np.clip(error, -4, 4)
    correlation = np.mean([np.corrcoef(clipped[1:, j], clipped[:-1, j])[0, 1] for j in range(17)])
    assert 0.25 < correlation < 0.6


def test_scores_fall_with_the_error(people):
    found, truth, size = find(people, NoiseModel())
    error = np.linalg.norm(found.pixels - truth, axis=-1) / size[..., None]
    scores, error = found.scores[found.found].ravel(), error[found.found].ravel()
    assert np.corrcoef(scores, np.log(error + 1e-3))[0, 1] < -0.6
    assert np.median(scores) > 0.75 and ((scores >= 0.01) & (scores <= 0.99)).all()


def test_dropped_joints_are_guessed_with_a_low_score(people):
    found, truth, size = find(people, replace(QUIET, dropped=0.05, dropped_spread=0.1))
    low = found.scores < 0.3
    assert low.mean() == pytest.approx(0.05, abs=0.01)
    error = np.linalg.norm(found.pixels - truth, axis=-1) / size[..., None]
    assert np.median(error[low]) > 0.05 and error[~low].max() < 1e-9
    assert low[1:][low[:-1]].mean() > 0.6  # in runs


def test_swaps_exchange_left_and_right(people):
    found, truth, _ = find(people, replace(QUIET, swapped=0.05))
    mirrored = truth[:, :, list(COCO17.mirror)]
    swapped = np.isclose(found.pixels, mirrored, atol=1e-9).all(-1) & ~np.isclose(truth, mirrored, atol=1e-9).all(-1)
    assert swapped[..., 5:11].all(axis=-1).mean() == pytest.approx(0.05, abs=0.015)
    assert not swapped[..., :5].any()
    assert (found.scores[swapped] < 0.7).all()


def test_people_are_missed_more_often_when_small(people):
    near, _, _ = find(people, NoiseModel(), 4.0)
    far, _, size = find(people, NoiseModel(), 40.0)
    assert 0.005 < 1 - near.found.mean() < 0.04
    assert 1 - far.found.mean() == pytest.approx(0.012 + np.exp(-size[0, 0] / 45), abs=0.08)
    assert not (far.found & (far.dummy | far.rejected)).any() and far.dummy.any() and near.rejected.any()


def test_wearer_and_people_out_of_view_are_not_found(people):
    pair = np.concatenate([people[:10], people[:10] - [20.0, 0, 0]], axis=1)  # the second is behind the camera
    found, _, _ = find(pair, QUIET)
    assert found.found.tolist() == [[True, False]] * 10
    found, _, _ = find(pair, QUIET, wearer=0)
    assert not found.found.any()


def test_joints_out_of_the_image_are_guessed_at_its_border(people):
    low = people[:10] - [0.0, 0, 1.2]
    found, truth, _ = find(low, QUIET, 1.6)
    outside = ~((truth >= 0) & (truth < [3840, 2160])).all(-1)
    assert 0 < outside.mean() < 0.7 and found.found.all()
    assert (found.scores[outside] < 0.3).all() and (found.pixels >= 0).all() and (found.pixels <= [3839, 2159]).all()


def test_nothing_is_found_outside_the_image_circle(people):
    assert not find(people[:5], QUIET, 2.0, image_circle=50.0)[0].found.any()


def test_somebody_in_front_hides_joints(people):
    pair = np.concatenate([people[:300] - [1.0, 0, 0], people[:300]], axis=1)
    error = []
    for hidden in (1.0, 4.0):
        found, truth, _ = find(pair, replace(QUIET, relative=0.01, hidden=hidden))
        error.append(np.median(np.linalg.norm(found.pixels - truth, axis=-1), axis=0))
    assert np.allclose(error[0][0], error[1][0])  # the one in front is as before
    assert (error[1][1] > 3 * error[0][1]).sum() >= 4


def test_triangulation_needs_views_and_marks_what_is_missing(people):
    few = people[:200]
    cameras = [camera_at(5.0, side) for side in (-2.0, -1, 0, 1)]
    views = [detect(few, camera, None, QUIET, np.random.default_rng(i)) for i, camera in enumerate(cameras)]
    rng = np.random.default_rng(0)
    assert np.array_equal(triangulate(few, views, [], 3, QUIET, rng)[..., :3], few)
    assert not triangulate(few, views[:2], [], 3, QUIET, rng).any()
    assert (triangulate(few, views[:2], views[2:3], 3, QUIET, rng)[..., 3] == 1).all()
    noisy = triangulate(few, views, [], 3, replace(QUIET, triangulation_m=0.02, gaps=0.05), rng)
    missing = noisy[..., 3] == 0
    assert 0.02 < missing.mean() < 0.1 and not noisy[missing].any()
    error = (noisy[..., :3] - few)[~missing]
    assert error.std() == pytest.approx(0.01, rel=0.1)  # over the root of four views
