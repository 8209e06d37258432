"""Cameras: projection and its inverse, the range of each lens model, rotated images, and the torch twin."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finepose_mp import cameras
from finepose_mp.cameras import Camera, in_view, max_angle, project, unproject

pytestmark = pytest.mark.filterwarnings("error")

ARIA = [610.0, 704.5, 702.25, 0.41, -0.48, 0.17, 1.13, -1.70, 0.65]
ARIA = np.array([*ARIA, 0.0009, -0.0003, -0.0008, -0.0003, -0.0014, 0.0001])
EXO = np.array([1906.5, 1912.2, 1920, 1080, 0.028, 0.079, -0.103, 0.0495])
PLAUSIBLE = {
    "pinhole": np.array([1100.0, 1150.0, 512.0, 500.0]),
    "human36m": np.array([1145.0, 1143.8, 512.5, 515.5, -0.207, 0.248, -0.003, -0.0014, -0.001]),
    "brown_conrady": np.array([900.0, 910.0, 640.0, 360.0, -0.28, 0.07, 0.0008, -0.0004, -0.005]),
    "opencv_fisheye": EXO,
    "aria_fisheye624": ARIA,
}
MODELS = sorted(PLAUSIBLE)


def points_within(model, params, share, count=200, seed=0):
    """Points in front of the camera, up to `share` of the model's range and of what lenses of its kind cover."""
    rng = np.random.default_rng(seed)
    widest = np.deg2rad(75 if model == "opencv_fisheye" else 55)
    angle = share * min(float(max_angle(model, params)), widest) * np.sqrt(rng.uniform(0, 1, count))
    turn, depth = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.2, 20, count)
    return np.stack([np.tan(angle) * np.cos(turn) * depth, np.tan(angle) * np.sin(turn) * depth, depth], axis=-1)


def perturbed(model):
    """Parameters near plausible ones: focal length and centre by tens of pixels, coefficients by tens of percent."""
    size = len(PLAUSIBLE[model])
    factor = st.lists(st.floats(0.7, 1.3), min_size=size, max_size=size).map(np.array)
    return factor.map(lambda factors: PLAUSIBLE[model] * factors)


# Known pixels: made-up calibrations; the "toolkit" values come from running the EgoHumans toolkit's own camera class.
ARIA_POINTS = np.array([(0.3, -0.2, 1), (1.0, 0.8, 2), (-0.9, 0.7, 1), (0, 0, 1), (0.3, 0.2, -1)])
ARIA_PIXELS = [(887.761502, 579.944916), (1001.868481, 939.753563), (223.616296, 1075.199202), (704.5, 702.25)]
TOOLKIT_PIXELS = [(887.739509, 580.010894), (1001.937976, 939.545077), (223.438839, 1075.731572), (704.5, 702.25)]
TOOLKIT_UPRIGHT = [(827.989106, 887.739509), (468.454923, 1001.937976), (332.268428, 223.438839), (705.75, 704.5)]
EXO_POINTS = np.array([(0.3, -0.2, 1), (2.0, 1.0, 2.5), (-1.5, 0.4, 1.2), (0, 0, 1), (-0.3, 0.2, -1)])
EXO_PIXELS = [(2471.306502, 711.363478), (3196.378158, 1720.097119), (167.240883, 1548.799858), (1920, 1080)]
BEHIND = [(np.nan, np.nan)]


@pytest.mark.parametrize(
    "model, params, points, expected, toolkit_form",
    [
        ("aria_fisheye624", ARIA, ARIA_POINTS, ARIA_PIXELS, False),
        ("aria_fisheye624", ARIA, ARIA_POINTS, TOOLKIT_PIXELS, True),
        ("opencv_fisheye", EXO, EXO_POINTS, EXO_PIXELS, False),
    ],
)
def test_known_pixels(model, params, points, expected, toolkit_form):
    np.testing.assert_allclose(project(points, model, params, toolkit_form), expected + BEHIND, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "model, params, points", [("aria_fisheye624", ARIA, ARIA_POINTS), ("opencv_fisheye", EXO, EXO_POINTS)]
)
def test_known_pixels_lead_back_to_the_points(model, params, points):
    rays = unproject(project(points, model, params), model, params)
    np.testing.assert_allclose(rays[:4], points[:4, :2] / points[:4, 2:], rtol=0, atol=1e-13)
    assert np.isnan(rays[4]).all()


def test_upright_pixels_of_the_toolkit():
    params = cameras.rotate_fisheye624_clockwise(ARIA, (1408, 1408), toolkit_form=True)
    pixels = project(ARIA_POINTS @ cameras.UPRIGHT.T, "aria_fisheye624", params, toolkit_form=True)
    np.testing.assert_allclose(pixels, TOOLKIT_UPRIGHT + BEHIND, rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_unproject_inverts_project(model, data):
    params = data.draw(perturbed(model))
    points = points_within(model, params, share=0.95, seed=data.draw(st.integers(0, 1000)))
    rays = unproject(project(points, model, params), model, params)
    np.testing.assert_allclose(rays, points[:, :2] / points[:, 2:], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_project_inverts_unproject_over_the_whole_image(model):
    params = PLAUSIBLE[model]
    pixels = np.stack(np.meshgrid(np.linspace(0, 1279, 30), np.linspace(0, 719, 20)), axis=-1)
    rays = unproject(pixels, model, params)
    assert np.isfinite(rays).all()
    again = project(np.concatenate([rays, np.ones_like(rays[..., :1])], axis=-1), model, params)
    np.testing.assert_allclose(again, pixels, rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(params=perturbed("aria_fisheye624"), seed=st.integers(0, 1000), toolkit_form=st.booleans())
def test_rotated_parameters_equal_rotated_pixels(params, seed, toolkit_form):
    width, height = 640, 480
    points = points_within("aria_fisheye624", params, share=1.0, seed=seed)
    u, v = project(points, "aria_fisheye624", params, toolkit_form).T
    upright = cameras.rotate_fisheye624_clockwise(params, (width, height), toolkit_form)
    pixels = project(points @ cameras.UPRIGHT.T, "aria_fisheye624", upright, toolkit_form)
    expected = np.stack([(height if toolkit_form else height - 1) - v, u], axis=-1)
    np.testing.assert_allclose(pixels, expected, rtol=1e-12, atol=1e-9)


def test_rotation_moves_image_content_as_rot90_does():
    image = np.arange(3 * 4).reshape(3, 4)  # height 3, width 4
    params = cameras.rotate_fisheye624_clockwise(np.array([1.0, 2.0, 0.0, *np.zeros(12)]), (4, 3))
    u, v = project(np.array([0.0, 0.0, 1.0]), "aria_fisheye624", params).astype(int)
    assert np.rot90(image, k=-1)[v, u] == image[0, 2]


class TestInView:
    PARAMS = np.array([100.0, 100.0, 0.0, 0.0])

    @pytest.mark.parametrize(
        "pixel, inside",
        [
            ((0, 0), True),
            ((-0.01, 5), False),
            ((639.9, 479.9), True),
            ((640, 5), False),
            ((5, 480), False),
            ((5, -1), False),
        ],
    )
    def test_border(self, pixel, inside):
        point = np.array([pixel[0] / 100, pixel[1] / 100, 1.0])
        assert in_view(point, "pinhole", self.PARAMS, (640, 480)) == inside

    @pytest.mark.parametrize("z", [0.0, -0.0, -1.0, -1e-300, np.nan, -np.inf])
    @pytest.mark.parametrize("model", MODELS)
    def test_never_behind_the_camera(self, model, z):
        assert not in_view(np.array([0.01, 0.02, z]), model, PLAUSIBLE[model], (4000, 4000))
        assert np.isnan(project(np.array([0.01, 0.02, z]), model, PLAUSIBLE[model])).all()

    def test_image_circle_surrounds_the_principal_point(self):
        params = np.array([100.0, 100.0, 330.0, 250.0])
        points = np.array([[1.49, 0, 1], [1.51, 0, 1], [-1.51, 0, 1]])
        assert in_view(points, "pinhole", params, (640, 480), image_circle=150).tolist() == [True, False, False]

    def test_every_camera_has_its_own_size(self):
        sizes = np.array([[640, 480], [320, 240]])[:, None]
        points = np.array([[4.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
        assert in_view(points, "pinhole", self.PARAMS, sizes).tolist() == [[True, True], [False, True]]


def test_parameters_broadcast_over_cameras_and_frames():
    rng = np.random.default_rng(1)
    params = ARIA * rng.uniform(0.95, 1.05, (3, 4, 1, 1, 15))
    points = rng.uniform((-0.5, -0.5, 1), (0.5, 0.5, 3), (3, 4, 2, 17, 3))
    pixels = project(points, "aria_fisheye624", params)
    assert pixels.shape == (3, 4, 2, 17, 2)
    np.testing.assert_array_equal(pixels[2, 1], project(points[2, 1], "aria_fisheye624", params[2, 1, 0, 0]))
    rays = unproject(pixels, "aria_fisheye624", params)
    np.testing.assert_allclose(rays, points[..., :2] / points[..., 2:], atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_padding_of_files_is_ignored(model):
    padded = np.full(15, np.nan)
    padded[: len(PLAUSIBLE[model])] = PLAUSIBLE[model]
    points = points_within(model, PLAUSIBLE[model], 0.9, count=5)
    np.testing.assert_array_equal(project(points, model, padded), project(points, model, PLAUSIBLE[model]))


@pytest.mark.parametrize("model", MODELS)
def test_missing_points_and_pixels_stay_missing_and_alone(model):
    points = points_within(model, PLAUSIBLE[model], 0.9, count=4).astype(np.float32)
    points[1, 2] = np.nan
    pixels = project(points, model, PLAUSIBLE[model])
    assert pixels.dtype == np.float64
    assert np.isfinite(pixels).all(axis=-1).tolist() == [True, False, True, True]
    rays = unproject(pixels, model, PLAUSIBLE[model])
    assert np.isfinite(rays).all(axis=-1).tolist() == [True, False, True, True]


def test_no_points_at_all():
    assert project(np.zeros((0, 17, 3)), "aria_fisheye624", ARIA).shape == (0, 17, 2)
    assert project(np.zeros((0, 17, 3)), "pinhole", np.zeros((0, 1, 15))).shape == (0, 17, 2)
    assert unproject(np.zeros((0, 17, 2)), "aria_fisheye624", ARIA).shape == (0, 17, 2)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: project(np.ones(3), "fish_eye", EXO), "unknown lens model 'fish_eye'.*opencv_fisheye"),
        (lambda: project(np.ones(3), "opencv_fisheye", EXO[:6]), r"8 parameters \(fx fy cx cy k1 k2 k3 k4\).*\(6,\)"),
        (
            lambda: project(np.ones((5, 2)), "opencv_fisheye", EXO),
            r"points must have shape \(\.\.\., 3\), found \(5, 2\)",
        ),
        (lambda: unproject(np.ones((5, 3)), "opencv_fisheye", EXO), r"pixels must have shape \(\.\.\., 2\)"),
        (lambda: project(np.ones(3), "opencv_fisheye", EXO, toolkit_form=True), "aria_fisheye624 only"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_screen_coordinates_are_divided_by_the_width_in_both_axes():
    sizes = np.array([[1000, 500], [200, 400]])[:, None]
    corners = np.array([[[0.0, 0.0], [1000, 500]], [[0, 0], [200, 400]]])
    screen = cameras.normalize_screen(corners, sizes)
    np.testing.assert_allclose(screen, [[[-1, -0.5], [1, 0.5]], [[-1, -2], [1, 2]]])
    np.testing.assert_allclose(cameras.denormalize_screen(screen, sizes), corners)


class TestCamera:
    POSE = np.array([[0.0, -1, 0, 0.5], [0, 0, -1, 1.5], [1, 0, 0, 2.0]])  # looks along world +x, z up

    def moving(self):
        poses = np.repeat(self.POSE[None], 4, axis=0)
        poses[:, 2, 3] += np.arange(4)
        return Camera("opencv_fisheye", EXO + np.arange(4)[:, None] * [0, 0, 1, 0, 0, 0, 0, 0], (3840, 2160), poses)

    def test_still_camera(self):
        camera = Camera("opencv_fisheye", EXO, (3840, 2160), self.POSE)
        points_world = np.array([[3.0, 0.5, 1.5]])
        np.testing.assert_allclose(camera.to_camera(points_world), [[0, 0, 5]])
        np.testing.assert_allclose(camera.project(camera.to_camera(points_world)), [[1920, 1080]])
        np.testing.assert_allclose(camera.to_world(camera.to_camera(points_world)), points_world)
        assert camera.in_view(camera.to_camera(points_world)).tolist() == [True]

    @pytest.mark.parametrize("dtype", [np.float32, np.int64])
    def test_pose_keeps_its_precision_whatever_the_points_are(self, dtype):
        camera = Camera("opencv_fisheye", EXO, (3840, 2160), self.POSE)
        points_world = np.array([[3, 1, 2]])
        points_camera = camera.to_camera(points_world.astype(dtype))
        assert points_camera.dtype == np.float64
        np.testing.assert_allclose(points_camera, [[-0.5, -0.5, 5]], rtol=0, atol=1e-15)
        np.testing.assert_allclose(camera.to_world(points_camera), points_world, rtol=0, atol=1e-15)

    @pytest.mark.parametrize("inner", [(), (17,), (2, 17)])
    def test_moving_camera_matches_frames(self, inner):
        camera = self.moving()
        points_world = np.random.default_rng(2).uniform((3, -1, 0), (8, 1, 2), (4, *inner, 3))
        points_camera = camera.to_camera(points_world)
        pixels = camera.project(points_camera)
        for t in range(4):
            frame = Camera(camera.model, camera.params[t], camera.image_size, camera.world_to_camera[t])
            np.testing.assert_allclose(points_camera[t], frame.to_camera(points_world[t]))
            np.testing.assert_allclose(pixels[t], frame.project(points_camera[t]))
        np.testing.assert_allclose(camera.to_world(points_camera), points_world)
        np.testing.assert_allclose(camera.unproject(pixels), points_camera[..., :2] / points_camera[..., 2:])
        assert camera.in_view(points_camera).shape == (4, *inner)

    def test_other_number_of_frames_is_refused(self):
        with pytest.raises(ValueError, match=r"camera with 4 frames.*\(5, 17, 3\)"):
            self.moving().to_camera(np.zeros((5, 17, 3)))

    def test_without_pose(self):
        camera = Camera("pinhole", PLAUSIBLE["pinhole"], (1000, 1000))
        assert camera.project(np.array([0.0, 0, 1])).tolist() == [512, 500]
        with pytest.raises(ValueError, match="no pose"):
            camera.to_camera(np.zeros((5, 3)))


class TestTorch:
    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize("dtype, pixel, ray", [("float64", 1e-9, 1e-12), ("float32", 5e-3, 2e-5)])
    def test_same_numbers_as_numpy(self, torch, model, dtype, pixel, ray):
        params = PLAUSIBLE[model]
        points = np.concatenate([points_within(model, params, 0.8), [[0, 0, 1], [0.1, 0, -1], [np.nan, 0, 1]]])
        tensor = torch.tensor(points, dtype=getattr(torch, dtype))
        pixels = project(tensor, model, torch.tensor(params))
        assert pixels.dtype == tensor.dtype
        expected = project(points, model, params)
        np.testing.assert_allclose(pixels.numpy(), expected, rtol=0, atol=pixel)
        rays = unproject(pixels, model, params)
        assert rays.dtype == tensor.dtype
        np.testing.assert_allclose(rays.numpy(), unproject(expected, model, params), rtol=0, atol=ray)
        seen = in_view(tensor, model, params, (1000, 1000), image_circle=300)
        assert seen.tolist() == in_view(points, model, params, (1000, 1000), image_circle=300).tolist()

    @pytest.mark.parametrize("model", MODELS)
    def test_gradients_are_those_of_the_formula(self, torch, model):
        points = torch.tensor(points_within(model, PLAUSIBLE[model], 0.8, count=4)).requires_grad_()
        params = torch.tensor(PLAUSIBLE[model]).requires_grad_()
        assert torch.autograd.gradcheck(lambda p, k: project(p, model, k), (points, params), atol=1e-4)

    @pytest.mark.parametrize("model", MODELS)
    def test_rays_have_gradients_too(self, torch, model):
        pixels = torch.tensor(project(points_within(model, PLAUSIBLE[model], 0.8, count=4), model, PLAUSIBLE[model]))
        assert torch.autograd.gradcheck(lambda p: unproject(p, model, PLAUSIBLE[model]), pixels.requires_grad_())

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("model", MODELS)
    def test_unseen_points_give_no_gradient_rather_than_nan(self, torch, model, dtype):
        unseen = [[0.1, 0.2, -1.0], [0.1, 0.2, 0.0], [0.0, 0.0, 0.0], [np.nan, 0.0, 1.0], [1e6, 0, 1], [np.inf, 1, 1]]
        points = torch.tensor([[0.0, 0.0, 1.0], [0.2, 0.1, 1.0], *unseen], dtype=getattr(torch, dtype)).requires_grad_()
        params = torch.tensor(PLAUSIBLE[model]).requires_grad_()
        pixels = project(points, model, params)
        pixels[torch.isfinite(pixels)].sum().backward()
        assert torch.isfinite(points.grad).all() and torch.isfinite(params.grad).all()
        assert (points.grad[:2, :2] != 0).any(dim=1).all()
        assert (points.grad[2:] == 0).all()

    def test_unknown_parameters_give_no_gradient_rather_than_nan(self, torch):
        params = torch.tensor(np.stack([EXO, np.full(8, np.nan)]), requires_grad=True)
        point = torch.tensor([0.1, 0.2, 1.0], dtype=torch.float64, requires_grad=True)
        pixels = project(point, "opencv_fisheye", params)
        assert torch.isfinite(pixels).all(dim=1).tolist() == [True, False]
        torch.nan_to_num(pixels).sum().backward()
        assert torch.isfinite(point.grad).all() and (params.grad[1] == 0).all()

    def test_gradient_on_the_axis_is_the_focal_length(self, torch):
        point = torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
        project(point, "opencv_fisheye", EXO)[0].backward()
        np.testing.assert_allclose(point.grad.numpy(), [EXO[0] / 2, 0, 0], atol=1e-12)

    def test_hypotheses_of_a_batch(self, torch):
        points = torch.rand((2, 5, 9, 17, 3), generator=torch.Generator().manual_seed(0)) + torch.tensor(
            [-0.5, -0.5, 2.0]
        )
        params = torch.tensor(np.stack([EXO, EXO * 1.01]), dtype=torch.float32)
        pixels = project(points, "opencv_fisheye", params[:, None, None, None])
        assert pixels.shape == (2, 5, 9, 17, 2) and torch.isfinite(pixels).all()
        torch.testing.assert_close(pixels[1], project(points[1], "opencv_fisheye", params[1]))

    def test_whole_numbers_are_no_reason_to_truncate_the_parameters(self, torch):
        pixels = project(torch.tensor([[1, 1, 4]]), "opencv_fisheye", EXO)
        np.testing.assert_allclose(pixels.numpy(), project([[1, 1, 4]], "opencv_fisheye", EXO), rtol=1e-6)

    def test_camera_takes_tensors(self, torch):
        camera = Camera("pinhole", PLAUSIBLE["pinhole"], (1000, 1000), TestCamera.POSE)
        points = torch.tensor([[3.0, 0.5, 1.5]])
        torch.testing.assert_close(camera.project(camera.to_camera(points)), torch.tensor([[512.0, 500.0]]))
        torch.testing.assert_close(camera.to_world(camera.to_camera(points)), points)


def test_importing_cameras_leaves_torch_alone():
    script = "import sys, finepose_mp.cameras; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
