"""Cameras against other people's implementations: OpenCV, COLMAP, kornia, Project Aria's tools, Human3.6M code."""

import json

import numpy as np
import pytest

from finepose_mp import cameras, geometry
from finepose_mp.cameras import project, unproject

FISHEYE = np.array([1906.5, 1912.2, 1920.0, 1080.0, 0.028, 0.079, -0.103, 0.0495])
BROWN = np.array([900.0, 910.0, 640.0, 360.0, -0.28, 0.07, 0.0008, -0.0004, -0.005])
# Made-up calibrations of the kind that Project Aria glasses have.
ARIA = {  # f cu cv | k0 .. k5 | p0 p1 | s0 .. s3
    name: np.array(numbers.replace("|", " ").split(), dtype=float)
    for name, numbers in {
        "rgb": "610 704.5 702.25 | 0.41 -0.48 0.17 1.13 -1.7 0.65 | 9e-4 -3e-4 | -8e-4 -3e-4 -1.4e-3 1e-4",
        "slam": "240.5 318.25 241.75 | -0.027 0.104 -0.071 0.0115 0.0016 -5e-4 | 19e-4 18e-4 | -3e-3 -3e-4 -26e-4 2e-5",
    }.items()
}
SENSOR_SIZE = {"rgb": (1408, 1408), "slam": (640, 480)}


def cone(degrees, count=300, seed=0):
    """Points in front of the camera, up to that angle from its axis, the axis itself included."""
    rng = np.random.default_rng(seed)
    radius = np.tan(np.deg2rad(rng.uniform(0, degrees, count)))
    turn, depth = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.3, 10, count)
    points = np.stack([radius * np.cos(turn) * depth, radius * np.sin(turn) * depth, depth], axis=-1)
    points[0] = 0, 0, 1
    return points


def rays_of(points):
    return points[:, :2] / points[:, 2:]


def matrix(params):
    return np.array([[params[0], 0, params[2]], [0, params[1], params[3]], [0, 0, 1]])


class TestOpenCV:
    @pytest.fixture(autouse=True)
    def cv2(self):
        return pytest.importorskip("cv2")

    def test_fisheye(self, cv2):
        points = cone(70)
        expected, _ = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), matrix(FISHEYE), FISHEYE[4:])
        np.testing.assert_allclose(project(points, "opencv_fisheye", FISHEYE), expected[:, 0], rtol=0, atol=1e-9)

    def test_brown_conrady(self, cv2):
        points = cone(35)
        expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix(BROWN), BROWN[4:])
        np.testing.assert_allclose(project(points, "brown_conrady", BROWN), expected[:, 0], rtol=0, atol=1e-9)


class TestColmap:
    """pycolmap's models, both ways."""

    @pytest.mark.parametrize(
        "model, params, colmap_model, colmap_params, degrees",
        [
            ("pinhole", BROWN[:4], "PINHOLE", BROWN[:4], 75),
            ("opencv_fisheye", FISHEYE, "OPENCV_FISHEYE", FISHEYE, 70),
            ("brown_conrady", np.append(BROWN[:8], 0), "OPENCV", BROWN[:8], 35),
            ("brown_conrady", BROWN, "FULL_OPENCV", np.concatenate([BROWN, np.zeros(3)]), 35),
            ("aria_fisheye624", ARIA["rgb"], "RAD_TAN_THIN_PRISM_FISHEYE", ARIA["rgb"][[0, *range(15)]], 55),
            ("aria_fisheye624", ARIA["slam"], "RAD_TAN_THIN_PRISM_FISHEYE", ARIA["slam"][[0, *range(15)]], 75),
        ],
    )
    def test_same_pixels_and_rays(self, model, params, colmap_model, colmap_params, degrees):
        pycolmap = pytest.importorskip("pycolmap")
        if not hasattr(pycolmap.CameraModelId, colmap_model):
            pytest.skip(f"this pycolmap has no {colmap_model}")
        camera = pycolmap.Camera(model=colmap_model, width=1408, height=1408, params=np.asarray(colmap_params))
        points = cone(degrees)
        pixels = project(points, model, params)
        np.testing.assert_allclose(pixels, camera.img_from_cam(points), rtol=0, atol=1e-9)
        np.testing.assert_allclose(unproject(pixels, model, params), rays_of(points), rtol=0, atol=1e-9)
        np.testing.assert_allclose(unproject(pixels, model, params), camera.cam_from_img(pixels), rtol=0, atol=1e-7)


class TestKornia:
    @pytest.fixture(autouse=True)
    def torch(self):
        pytest.importorskip("kornia")
        return pytest.importorskip("torch")

    def test_fisheye(self, torch):
        from kornia.geometry.camera.distortion_kannala_brandt import distort_points_kannala_brandt

        points = cone(70)
        expected = distort_points_kannala_brandt(torch.tensor(rays_of(points)), torch.tensor(FISHEYE))
        np.testing.assert_allclose(project(points, "opencv_fisheye", FISHEYE), expected.numpy(), rtol=0, atol=1e-9)

    def test_brown_conrady(self, torch):
        from kornia.geometry.calibration import distort_points

        points = cone(35)
        ideal = torch.tensor(project(points, "pinhole", BROWN))[None]
        expected = distort_points(ideal, torch.tensor(matrix(BROWN))[None], torch.tensor(BROWN[4:])[None])
        np.testing.assert_allclose(project(points, "brown_conrady", BROWN), expected[0].numpy(), rtol=0, atol=1e-9)


class TestProjectAria:
    """FisheyeRadTanThinPrism of projectaria-tools 2.3.0; recorded numbers are its output for the calibrations above."""

    @pytest.mark.parametrize(
        "camera, point, pixel",
        [
            ("rgb", (0.3, -0.2, 1), (887.7615019290698, 579.9449159198946)),
            ("rgb", (1, 0.8, 2), (1001.8684810662751, 939.7535626356441)),
            ("rgb", (-0.9, 0.7, 1), (223.6162955957002, 1075.1992022308962)),
            ("rgb", (-0.2, -1.1, 0.9), (588.94691503258, 66.50750264959333)),
            ("slam", (0.3, -0.2, 1), (387.3631176931059, 195.6299770436039)),
            ("slam", (2.5, 0.4, 1), (608.55676201902, 288.0123503394584)),
            ("slam", (-3, 0.7, 0.5), (-10.756626884137802, 317.9679842798985)),
            ("slam", (0.1, -1.1, 0.6), (341.5948642706673, -19.901769271318813)),
        ],
    )
    def test_recorded_pixels(self, camera, point, pixel):
        pixels = project(np.array(point), "aria_fisheye624", ARIA[camera])
        np.testing.assert_allclose(pixels, pixel, rtol=0, atol=1e-9)

    @pytest.mark.parametrize(
        "camera, pixel, ray",
        [
            ("rgb", (100, 1300), (-1.7206635808864084, 1.7081986213793214)),
            ("rgb", (704.5, 702.25), (0, 0)),
            ("rgb", (1200.5, 300.25), (0.946462111812908, -0.7648419955974793)),
            ("slam", (20, 240), (-2.7389395178442952, -0.013470162968861391)),
            ("slam", (600, 60.5), (4.630443206430989, -2.964681539524009)),
            ("slam", (318.25, 470), (0.0017385398276535075, 1.346458645596481)),
        ],
    )
    def test_recorded_rays(self, camera, pixel, ray):
        np.testing.assert_allclose(unproject(np.array(pixel), "aria_fisheye624", ARIA[camera]), ray, rtol=0, atol=1e-10)

    @pytest.mark.parametrize(
        "camera, centre, tangential_and_prism",
        [
            ("rgb", (704.75, 704.5), (0.0003, 0.0009, 0.0014, -0.0001, -0.0008, -0.0003)),
            ("slam", (237.25, 318.25), (-0.0018, 0.0019, 0.0026, -2e-05, -0.003, -0.0003)),
        ],
    )
    def test_recorded_rotation(self, camera, centre, tangential_and_prism):
        rotated = cameras.rotate_fisheye624_clockwise(ARIA[camera], SENSOR_SIZE[camera])
        expected = [ARIA[camera][0], *centre, *ARIA[camera][3:9], *tangential_and_prism]
        np.testing.assert_allclose(rotated, expected, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("index", range(3))
    def test_real_calibrations(self, shared, index):
        calibration = pytest.importorskip("projectaria_tools.core.calibration")
        sample = np.load(shared / "data/aria/mps_sample_headpose.npz")
        params = sample["cam_params"][index, :15]
        model = calibration.CameraProjection(calibration.CameraModelType.FISHEYE624, params)
        points = cone(80)
        expected = np.array([model.project(point) for point in points])
        np.testing.assert_allclose(project(points, "aria_fisheye624", params), expected, rtol=0, atol=1e-9)
        pixels = params[1:3] + np.random.default_rng(1).uniform(-330, 330, (300, 2)) * params[0] / 250
        rays = unproject(pixels, "aria_fisheye624", params)
        seen = np.isfinite(rays).all(axis=-1)
        assert seen.mean() > 0.9
        expected = np.array([model.unproject(pixel) for pixel in pixels])
        np.testing.assert_allclose(rays[seen], rays_of(expected)[seen], rtol=1e-9, atol=1e-9)
        assert (expected[~seen, 2] < 0.02 * np.linalg.norm(expected[~seen], axis=-1)).all()


class TestHuman36M:
    @pytest.fixture
    def setup(self, shared):
        """(golden arrays, per camera params (4, 1, 9), world_to_camera (7, 4, 1, 3, 4)) in metres."""
        golden = np.load(shared / "golden/metrics/golden_metrics.npz")
        tables = json.loads((shared / "formats/human36m_cameras.json").read_text())
        names = cameras.MODELS["human36m"].parameter_names
        params = np.array([[tables["intrinsics"][i][name] for name in names] for i in golden["camera/ids"]])
        return golden, params[:, None], _poses(tables, golden)

    def test_pixels_of_two_published_code_bases(self, setup):
        golden, params, world_to_camera = setup
        points_camera = geometry.apply_rigid(golden["camera/world_m"].astype(np.float64), world_to_camera)
        np.testing.assert_allclose(points_camera, golden["camera/vp3d_camera_m"], rtol=0, atol=2e-6)
        np.testing.assert_allclose(points_camera, golden["camera/baseline3d_camera_mm_f64"] / 1000, rtol=0, atol=1e-9)
        pixels = project(points_camera, "human36m", params)
        np.testing.assert_allclose(pixels, golden["camera/baseline3d_px_f64"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(pixels, golden["camera/vp3d_px"], rtol=1e-6, atol=3e-4)  # float32 inside
        rays = unproject(pixels, "human36m", params)
        np.testing.assert_allclose(rays, points_camera[..., :2] / points_camera[..., 2:], rtol=0, atol=1e-12)

    def test_back_to_the_world(self, setup):
        golden, _, world_to_camera = setup
        points = geometry.apply_rigid(golden["camera/vp3d_camera_m"], geometry.invert_rigid(world_to_camera))
        np.testing.assert_allclose(points, golden["camera/vp3d_world_roundtrip_m"], rtol=0, atol=3e-6)

    def test_is_not_opencv(self, setup):
        _, params, _ = setup
        corner = np.array([0.45, 0.44, 1.0])
        opencv = params[..., [0, 1, 2, 3, 4, 5, 7, 8, 6]]
        shift = project(corner, "human36m", params) - project(corner, "brown_conrady", opencv)
        assert 0.3 < np.linalg.norm(shift, axis=-1).max() < 3


def test_screen_coordinates(shared):
    golden = np.load(shared / "golden/metrics/golden_metrics.npz")
    screen = cameras.normalize_screen(golden["norm/px"], (1000, 1002))
    np.testing.assert_allclose(screen, golden["norm/out_1000x1002"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(cameras.denormalize_screen(screen, (1000, 1002)), golden["norm/back"], rtol=0, atol=1e-9)


def _poses(tables, golden):
    poses = np.empty((len(golden["camera/subjects"]), len(golden["camera/ids"]), 1, 3, 4))
    for s, subject in enumerate(golden["camera/subjects"]):
        for c, camera in enumerate(golden["camera/ids"]):
            pose = tables["extrinsics"][f"S{subject}"][camera]
            rotation = geometry.rotation_from_quaternion(pose["quaternion_camera_to_world_wxyz"]).T
            translation = np.array(pose["t_world_to_camera"]) / 1000
            poses[s, c, 0] = np.concatenate([rotation, translation[:, None]], axis=1)
    return poses
