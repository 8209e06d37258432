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
