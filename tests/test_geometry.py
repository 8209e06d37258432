"""Geometry: transforms compose and invert as matrices do, scales come apart, Procrustes finds the best alignment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from finepose_mp import geometry
from finepose_mp.geometry import apply_rigid, compose, procrustes, split_similarity

pytestmark = pytest.mark.filterwarnings("error")


def rigid(*shape, seed=0):
    """Random rigid transforms (*shape, 3, 4)."""
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(int(np.prod(shape)), rng=rng).as_matrix().reshape(*shape, 3, 3)
    return np.concatenate([rotation, rng.normal(size=(*shape, 3, 1))], axis=-1)


def similarity(scale, axis, degrees, translation):
    """A 4x4 similarity: scaled rotation about a coordinate axis, then translation."""
    matrix = np.eye(4)
    matrix[:3, :3] = scale * Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    matrix[:3, 3] = translation
    return matrix


class TestTransforms:
    def test_one_transform_for_all_points(self):
        points, transform = np.random.default_rng(1).normal(size=(5, 17, 3)), rigid(1)[0]
        np.testing.assert_allclose(apply_rigid(points, transform), points @ transform[:, :3].T + transform[:, 3])

    def test_one_transform_per_camera_and_frame(self):
        points, transforms = np.random.default_rng(1).normal(size=(4, 2, 17, 3)), rigid(3, 4)
        result = apply_rigid(points, transforms[:, :, None, None])
        assert result.shape == (3, 4, 2, 17, 3)
        np.testing.assert_allclose(result[2, 1], apply_rigid(points[1], transforms[2, 1]))

    def test_inverse_undoes(self):
        points, transforms = np.random.default_rng(1).normal(size=(4, 17, 3)), rigid(4)[:, None]
        back = apply_rigid(apply_rigid(points, transforms), geometry.invert_rigid(transforms))
        np.testing.assert_allclose(back, points, atol=1e-12)

    def test_inverse_of_a_similarity_undoes(self):
        transform = similarity(0.1, "z", 30, (0.5, -0.25, 0.125))
        inverse = geometry.invert_similarity(transform)
        np.testing.assert_allclose(inverse, np.linalg.inv(transform)[:3], atol=1e-12)

    def test_composition_applies_the_last_first(self):
        first, second, third = rigid(3)
        points = np.random.default_rng(1).normal(size=(17, 3))
        expected = apply_rigid(apply_rigid(apply_rigid(points, first), second), third)
        np.testing.assert_allclose(apply_rigid(points, compose(third, second, first)), expected, atol=1e-12)

    def test_composition_broadcasts(self):
        outer, inner = rigid(3, 1), rigid(4, seed=1)
        assert compose(outer, inner).shape == (3, 4, 3, 4)
        np.testing.assert_allclose(compose(outer, inner)[2, 3], compose(outer[2, 0], inner[3]), atol=1e-12)

    def test_tensors(self):
        torch = pytest.importorskip("torch")
        transforms, points = rigid(4), np.random.default_rng(1).normal(size=(4, 3))
        tensors = torch.tensor(transforms)
        for numpy_result, torch_result in (
            (apply_rigid(points, transforms), apply_rigid(torch.tensor(points), tensors)),
            (geometry.invert_rigid(transforms), geometry.invert_rigid(tensors)),
            (geometry.invert_similarity(transforms), geometry.invert_similarity(tensors)),
            (compose(transforms, transforms), compose(tensors, tensors)),
        ):
            np.testing.assert_allclose(torch_result.numpy(), numpy_result, atol=1e-12)


class TestSimilarity:
    """The worked examples of COLMAP and Aria poses composed with similarities, as EgoHumans needs them."""

    COLMAP_FROM_ARIA1 = similarity(0.1, "z", 30, (0.5, -0.25, 0.125))
    COLMAP_FROM_ARIA2 = similarity(0.102, "z", -60, (0.3, 0.2, -0.1))

    def test_fixed_camera(self):
        pose = np.empty((3, 4))
        pose[:, :3] = geometry.rotation_from_quaternion([0.70710678, 0.70710678, 0, 0])
        pose[:, 3] = 0.2, 0.1, 0.4
        rotation, translation, scale = split_similarity(compose(pose, self.COLMAP_FROM_ARIA1))
        world_to_camera = np.concatenate([rotation, translation[:, None]], axis=1)
        np.testing.assert_allclose(scale, 0.1, rtol=1e-9)
        np.testing.assert_allclose(rotation, [[0.866025, -0.5, 0], [0, 0, -1], [0.5, 0.866025, 0]], atol=1e-6)
        np.testing.assert_allclose(translation, [7, -0.25, 1.5], atol=1e-9)
        centre = geometry.invert_rigid(world_to_camera)[:, 3]
        np.testing.assert_allclose(centre, [-6.812178, 2.200962, -0.25], atol=1e-6)
        np.testing.assert_allclose(
            apply_rigid(np.array([1, 2, 0.5]), world_to_camera), [6.866025, -0.75, 3.732051], atol=1e-6
        )

    def test_head_worn_camera(self):
        pose = similarity(1, "y", 20, (0.01, 0.02, 0.03))[:3]
        aria2_from_aria1 = compose(geometry.invert_similarity(self.COLMAP_FROM_ARIA2), self.COLMAP_FROM_ARIA1)
        rotation, translation, scale = split_similarity(compose(pose, aria2_from_aria1))
        np.testing.assert_allclose(scale, 0.980392157, atol=1e-9)
        expected = [[0, -0.939693, 0.342020], [1, 0, 0], [0, 0.342020, 0.939693]]
        np.testing.assert_allclose(rotation, expected, atol=1e-6)
        np.testing.assert_allclose(translation, [5.381528, -0.497549, 0.469997], atol=1e-6)

    def test_many_at_once(self):
        scales = np.array([0.1, 1, 10])
        rotation, translation, found = split_similarity(rigid(3) * scales[:, None, None])
        np.testing.assert_allclose(found, scales)
        np.testing.assert_allclose(rotation, rigid(3)[..., :3], atol=1e-12)
        np.testing.assert_allclose(translation, rigid(3)[..., 3], atol=1e-12)

    @pytest.mark.parametrize("diagonal", [(1, 1, -1), (1, 1, 0), (1, 1, np.nan)])
    def test_reflections_and_collapses_are_refused(self, diagonal):
        with pytest.raises(ValueError, match="expected a similarity"):
            split_similarity(np.diag([*diagonal, 1]))


class TestRotations:
    def test_nearest_rotation_reports_what_it_corrected(self):
        rotation, residual = geometry.nearest_rotation(rigid(5)[..., :3])
        np.testing.assert_allclose(rotation, rigid(5)[..., :3], atol=1e-12)
        assert (residual < 1e-12).all()
        bent = np.diag([1.01, 1, 1])
        rotation, residual = geometry.nearest_rotation(bent)
        np.testing.assert_allclose(rotation, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(residual, 0.01)

    def test_nearest_rotation_is_never_a_reflection(self):
        rotation, _ = geometry.nearest_rotation(np.diag([1.0, 1.0, -0.5]))
        np.testing.assert_allclose(np.linalg.det(rotation), 1)

    def test_quaternions_are_scalar_first_and_need_no_normalisation(self):
        half = np.sqrt(0.5)
        quaternions = np.array([[[1, 0, 0, 0], [2 * half, 2 * half, 0, 0]]])
        expected = [[np.eye(3), [[1, 0, 0], [0, 0, -1], [0, 1, 0]]]]
        np.testing.assert_allclose(geometry.rotation_from_quaternion(quaternions), expected, atol=1e-12)
        with pytest.raises(ValueError):
            geometry.rotation_from_quaternion([0.0, 0, 0, 0])


def poses(seed, count=3, joints=17):
    return np.random.default_rng(seed).normal(size=(count, joints, 3))


class TestProcrustes:
    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100))
    def test_similarities_are_undone(self, seed, scale):
        target = poses(seed)
        source = scale * apply_rigid(target, rigid(3, seed=seed)[:, None])
        np.testing.assert_allclose(procrustes(source, target), target, atol=1e-9)

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 1000), scaled=st.booleans())
    def test_nothing_nearby_is_better(self, seed, scaled):
        source, target = poses(seed, 1)[0], poses(seed + 1, 1)[0]
        aligned = procrustes(source, target, scale=scaled)
        best = np.square(aligned - target).sum()
        rng = np.random.default_rng(seed)
        for _ in range(10):
            nudge = Rotation.from_rotvec(rng.normal(size=3) * 0.01).as_matrix()
            other = aligned @ nudge.T + rng.normal(size=3) * 0.01
            if scaled:
                other = other * rng.uniform(0.98, 1.02)
            assert np.square(other - target).sum() >= best - 1e-9

    def test_rotation_alone_is_that_of_scipy(self):
        source, target = poses(0, 1)[0], poses(1, 1)[0]
        centred = source - source.mean(axis=0)
        rotation, _ = Rotation.align_vectors(target - target.mean(axis=0), centred)
        expected = rotation.apply(centred) + target.mean(axis=0)
        np.testing.assert_allclose(procrustes(source, target, scale=False), expected, atol=1e-9)

    def test_published_numbers(self, shared):
        golden = np.load(shared / "golden/metrics/golden_metrics.npz")
        aligned = procrustes(golden["single/pred"], golden["single/gt"])
        per_frame = np.linalg.norm(aligned - golden["single/gt"], axis=-1).mean(axis=-1)
        np.testing.assert_allclose(per_frame, golden["single/p_mpjpe_per_frame_motionbert"], rtol=0, atol=1e-9)
        assert per_frame[10:20].min() > per_frame[:10].max()  # frames 10 to 19 are mirrored, and stay wrong

    def test_masked_joints_do_not_vote_but_move_along(self):
        target = poses(0)
        source = apply_rigid(target, rigid(3)[:, None])
        mask = np.ones((3, 17), bool)
        mask[1, :5] = mask[2, 9] = False
        broken = np.where(mask[..., None], target, np.nan)
        np.testing.assert_allclose(procrustes(source, broken, mask), target, atol=1e-9)
        broken = np.where(mask[..., None], source, np.nan)
        aligned = procrustes(broken, target, mask)
        np.testing.assert_allclose(aligned[mask], target[mask], atol=1e-9)
        assert np.isnan(aligned[~mask]).all()

    def test_a_mask_of_one_pose_serves_all(self):
        mask = np.arange(17) > 3
        one_by_one = [procrustes(s, t, mask) for s, t in zip(poses(0), poses(1), strict=True)]
        np.testing.assert_allclose(procrustes(poses(0), poses(1), mask), one_by_one, atol=1e-12)

    def test_coinciding_joints_land_on_the_centroid(self):
        target = poses(0)
        aligned = procrustes(np.ones_like(target), target)
        np.testing.assert_allclose(aligned, np.broadcast_to(target.mean(axis=1, keepdims=True), target.shape))

    def test_one_usable_joint_is_met(self):
        mask = np.arange(17) == 4
        source, target = poses(0), poses(1)
        aligned = procrustes(source, target, mask)
        np.testing.assert_allclose(aligned[:, 4], target[:, 4])
        np.testing.assert_allclose(aligned - aligned[:, :1], source - source[:, :1])

    def test_no_usable_joint_leaves_the_pose_alone(self):
        mask = np.ones((3, 17), bool)
        mask[1] = False
        aligned = procrustes(poses(0), poses(1), mask)
        np.testing.assert_array_equal(aligned[1], poses(0)[1])
        np.testing.assert_allclose(aligned[[0, 2]], procrustes(poses(0)[[0, 2]], poses(1)[[0, 2]]))

    @pytest.mark.parametrize("flat", [(1, 1, 0), (1, 0, 0), (0, 0, 0)])
    def test_flat_targets_give_finite_poses(self, flat):
        assert np.isfinite(procrustes(poses(0), poses(1) * flat)).all()
        assert np.isfinite(procrustes(poses(0) * flat, poses(1))).all()

    def test_float32_input_is_aligned_in_double(self):
        target = poses(0).astype(np.float32)
        aligned = procrustes(2 * target + 1, target)
        assert aligned.dtype == np.float64
        np.testing.assert_allclose(aligned, target, atol=1e-6)

    def test_missing_joints_must_be_masked(self):
        source = poses(0)
        source[1, 2, 0] = np.nan
        with pytest.raises(ValueError, match=r"1 coordinates of usable joints are not finite.*mask"):
            procrustes(source, poses(1))

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match=r"\(3, 17, 3\) and \(3, 16, 3\)"):
            procrustes(poses(0), poses(0, joints=16))


def looking_at(random, frames, cameras=1):
    """A pose (T, 17, 3) on a path, and the rays of its joints from cameras at the world's origin or about it."""
    pose = random.normal(size=(1, 17, 3)) * 0.35 + random.normal(size=(frames, 17, 3)) * 0.02
    time = np.arange(frames) / 20
    root = np.stack([0.5 * np.sin(time), 0.1 * np.cos(2 * time), 4 + 0.5 * np.sin(0.7 * time)], axis=-1)
    origins = np.repeat(random.normal(size=(cameras, 3)) * (cameras > 1) * 2, 17, axis=0)  # (17 C, 3)
    points = np.tile(pose, (1, cameras, 1))
    directions = points + root[:, None] - origins
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return points, directions, np.broadcast_to(origins, points.shape), root, time


class TestRoot:
    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 1000), cameras=st.integers(1, 3))
    def test_exact_rays_give_the_exact_root(self, seed, cameras):
        points, directions, origins, root, _ = looking_at(np.random.default_rng(seed), 5, cameras)
        weights = np.random.default_rng(seed + 1).uniform(0.1, 1, points.shape[:-1])
        np.testing.assert_allclose(geometry.solve_root(points, directions, origins, weights), root, atol=1e-9)

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 1000))
    def test_nothing_nearby_is_closer_to_the_rays(self, seed):
        random = np.random.default_rng(seed)
        points, directions, origins, _, _ = looking_at(random, 1)
        points = points + random.normal(size=points.shape) * 0.05
        weights = random.uniform(size=points.shape[:-1])
        best = geometry.solve_root(points, directions, origins, weights)

        def cost(root):
            return (weights * geometry.distance_to_rays(points + root[:, None], directions, origins) ** 2).sum()

        for _ in range(10):
            assert cost(best + random.normal(size=3) * 0.02) >= cost(best)

    def test_rays_from_the_camera_are_x_and_y_over_z(self):
        np.testing.assert_allclose(
            geometry.ray_directions(np.array([0.75, 1.0])), np.array([0.75, 1, 1]) / 1.25 / 1.28062485
        )
        np.testing.assert_allclose(np.linalg.norm(geometry.ray_directions(np.ones((4, 2))), axis=-1), 1)

    def test_tensors_give_the_same(self):
        torch = pytest.importorskip("torch")
        points, directions, origins, root, _ = looking_at(np.random.default_rng(0), 5)
        tensors = [torch.tensor(a.copy()) for a in (points, directions, origins, np.ones(points.shape[:-1]))]
        np.testing.assert_allclose(geometry.solve_root(*tensors).numpy(), root, atol=1e-9)

    def test_joints_without_a_keypoint_may_hold_anything(self):
        points, directions, origins, root, time = looking_at(np.random.default_rng(0), 5)
        weights = np.ones(points.shape[:-1])
        weights[:, 3:6] = 0
        directions[:, 3:6] = np.nan
        points[:, 4] = np.nan
        np.testing.assert_allclose(geometry.solve_root(points, directions, origins, weights), root, atol=1e-9)
        found = geometry.recover_root_track(points, directions, origins, weights, time)
        np.testing.assert_allclose(found, root, atol=2e-3)

    def test_what_the_rays_leave_open_is_nan_and_stops_no_other_frame(self):
        points, directions, origins, root, _ = looking_at(np.random.default_rng(0), 5)
        weights = np.ones(points.shape[:-1])
        weights[0], weights[1, 1:] = 0, 0  # no keypoint, one keypoint
        directions[2] = directions[2, :1]  # all in the same place
        points[3] = -points[3]  # mirrored through the root: the solution is behind the camera
        found = geometry.solve_root(points, directions, origins, weights)
        assert np.isnan(found[:4]).all()
        np.testing.assert_allclose(found[4], root[4], atol=1e-9)


class TestRootTrack:
    def test_smoothing_makes_noisy_distances_better_and_leaves_the_rest_alone(self):
        random = np.random.default_rng(0)
        points, directions, origins, root, time = looking_at(random, 100)
        predicted = points + random.normal(size=points.shape) * 0.05
        weights = np.ones(points.shape[:-1])
        alone = geometry.solve_root(predicted, directions, origins, weights) - root
        smooth = geometry.recover_root_track(predicted, directions, origins, weights, time) - root
        assert np.abs(smooth[:, 2]).mean() < 0.6 * np.abs(alone[:, 2]).mean()
        assert np.linalg.norm(smooth[:, :2], axis=-1).mean() < 1.05 * np.linalg.norm(alone[:, :2], axis=-1).mean()

    def test_frames_without_keypoints_are_bridged_and_long_gaps_are_not(self):
        points, directions, origins, root, time = looking_at(np.random.default_rng(0), 100)
        weights = np.ones(points.shape[:-1])
        weights[20:25] = weights[40:80] = 0
        weights[90, 1:] = 0  # a single keypoint
        found = geometry.recover_root_track(points, directions, origins, weights, time)
        np.testing.assert_allclose(found[15:30], root[15:30], atol=0.02)
        np.testing.assert_allclose(found[90], root[90], atol=0.01)
        assert np.isnan(found[52:68]).all()
        assert np.isfinite(np.delete(found, np.s_[40:80], axis=0)).all()

    def test_a_head_that_turns_does_not_move_a_person_who_stands(self):
        """In the world, frame by frame through the camera's pose; in the turning camera the smoother would lag."""
        random = np.random.default_rng(0)
        points, _, origins, _, time = looking_at(random, 60)
        root = np.array([0.2, 0.1, 4.0])
        turn = Rotation.from_rotvec(np.stack([0 * time, 0.6 * np.sin(6 * time), 0 * time], axis=-1)).as_matrix()
        directions = points + root - origins
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        predicted = points + random.normal(size=points.shape) * 0.05
        weights = np.ones(points.shape[:-1])
        in_world = geometry.recover_root_track(predicted, directions, origins, weights, time)
        into_camera = turn.swapaxes(-1, -2)  # vectors @ R^T
        in_camera = geometry.recover_root_track(
            predicted @ into_camera, directions @ into_camera, origins, weights, time
        )
        error_world = np.linalg.norm(in_world - root, axis=-1).mean()
        error_camera = np.linalg.norm(in_camera - root @ into_camera, axis=-1).mean()
        assert error_world < 0.5 * error_camera

    def test_a_person_who_would_be_behind_the_camera_has_no_root(self):
        points, directions, origins, _, time = looking_at(np.random.default_rng(0), 30)
        found = geometry.recover_root_track(-points, directions, origins, np.ones(points.shape[:-1]), time)
        assert np.isnan(found).all()

    @pytest.mark.parametrize("frames", [1, 2, 3])
    def test_short_takes(self, frames):
        points, directions, origins, root, time = looking_at(np.random.default_rng(0), frames)
        found = geometry.recover_root_track(points, directions, origins, np.ones(points.shape[:-1]), time)
        np.testing.assert_allclose(found, root, atol=1e-3)

    def test_without_any_keypoint_nothing_is_known(self):
        points, directions, origins, _, time = looking_at(np.random.default_rng(0), 10)
        found = geometry.recover_root_track(points, directions, origins, np.zeros(points.shape[:-1]), time)
        assert np.isnan(found).all()

    def test_it_is_the_best_path_of_all(self):
        """Against the dense system that the bands stand for, with uneven steps."""
        random = np.random.default_rng(0)
        points, directions, origins, _, _ = looking_at(random, 6)
        time = np.cumsum(random.uniform(0.02, 0.2, 6))
        weights = np.ones(points.shape[:-1])
        matrix, vector = geometry.root_equations(points, directions, origins, weights / geometry.JOINT_NOISE**2)
        dense = np.zeros((18, 18))
        for t in range(6):
            dense[3 * t : 3 * t + 3, 3 * t : 3 * t + 3] = matrix[t]
        first = np.diff(np.eye(6), axis=0) / np.diff(time)[:, None]
        second = np.diff(first, axis=0) / ((time[2:] - time[:-2]) / 2)[:, None]
        prior = first.T @ first / geometry.ROOT_SPEED**2 + second.T @ second / geometry.ROOT_ACCELERATION**2
        expected = np.linalg.solve(dense + np.kron(prior, np.eye(3)), vector.ravel()).reshape(6, 3)
        found = geometry.recover_root_track(points, directions, origins, weights, time)
        np.testing.assert_allclose(found, expected, atol=1e-6)
