"""The folder colmap/workplace of a simulated take: lenses and sparsely registered images, with their usual oddities.

As in the download, Aria images are registered with intrinsics that mean nothing, a fixed camera has several registered
poses that scatter a little, most lines of 2D points are empty, and cameras placed by hand have a file of their own
beside a wrong registration. Every third take has an image of a phone.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from finepose_mp.geometry import invert_rigid
from finepose_mp.preprocessing.simulation.detections import NoiseModel
from finepose_mp.preprocessing.simulation.scene import ExoCamera, Scene
from finepose_mp.preprocessing.simulation.writer import npy, write_pickle, write_text

_ARIA_STEP = 20  # frames between registered Aria images
_CALIBRATED_APART = ("fencing", "volleyball", "badminton", "tennis")  # from a recording with frame numbers of its own
_PHONE_ID = 90

Registered = tuple[int, str, np.ndarray]  # camera id, image name, world_to_camera (3, 4)


def write_colmap(folder: Path, scene: Scene, noise: NoiseModel, rng: np.random.Generator) -> None:
    """Writes colmap/workplace of a take."""
    workplace = folder / "colmap/workplace"
    workplace.mkdir(parents=True)
    first_exo = len(scene.glasses) + 1
    registered = _aria_images(scene, noise, rng)
    for camera_id, exo in enumerate(scene.exo, start=first_exo):
        registered += _exo_images(camera_id, exo, scene, noise, rng)
        if exo.name in scene.take.manual_cameras:
            pose = _disturbed(exo.camera.world_to_camera, noise.manual_m, noise.manual_degrees, rng)
            matrix = np.vstack([_in_colmap(pose, scene), [0, 0, 0, 1]])
            (workplace / f"{exo.name}.npy").write_bytes(npy(matrix))
    has_phone = scene.take.number % 3 == 0
    if has_phone:
        registered.append((_PHONE_ID, "mobile/00001.jpg", scene.exo[0].camera.world_to_camera))
    write_text(workplace / "cameras.txt", _camera_lines(scene, first_exo, has_phone, rng))
    write_text(workplace / "images.txt", _image_lines(registered, scene, rng))
    write_text(workplace / "points3D.txt", _point_lines(scene, rng))
    write_pickle(workplace / "colmap_from_aria_transforms.pkl", scene.colmap_from_aria)
    # Estimated on its own in the other direction, so not quite the inverse.
    inverse = {name: _slightly_off(np.linalg.inv(matrix)) for name, matrix in scene.colmap_from_aria.items()}
    write_pickle(workplace / "aria_from_colmap_transforms.pkl", inverse)


def _aria_images(scene: Scene, noise: NoiseModel, rng: np.random.Generator) -> list[Registered]:
    registered = []
    for camera_id, worn in enumerate(scene.glasses, start=1):
        poses = worn.camera(0).world_to_camera
        for frame in range(0, len(poses), _ARIA_STEP):
            pose = _disturbed(poses[frame], noise.colmap_m, noise.colmap_degrees, rng)
            registered.append((camera_id, f"{worn.name}/{frame + 1:05d}.jpg", pose))
    return registered


def _exo_images(
    camera_id: int, exo: ExoCamera, scene: Scene, noise: NoiseModel, rng: np.random.Generator
) -> list[Registered]:
    """Three to six registered poses of a fixed camera; a camera placed by hand has one, and a wrong one."""
    last = 2000 if scene.take.scene.suffix in _CALIBRATED_APART else len(scene.joints_3d_world)
    if exo.name in scene.take.manual_cameras:
        wrong = np.column_stack([Rotation.random(None, rng).as_matrix(), rng.normal(0, 5, 3)])
        return [(camera_id, f"{exo.name}/00001.jpg", wrong)]
    frames = np.unique(np.linspace(1, last, int(rng.integers(3, 7))).astype(int))
    pose = exo.camera.world_to_camera
    return [
        (
            camera_id,
            f"{exo.name}/{frame:05d}.jpg",
            _disturbed(pose, noise.colmap_m, noise.colmap_degrees, rng),
        )
        for frame in frames
    ]


def _disturbed(pose: np.ndarray, metres: float, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """A pose (3, 4) whose centre and direction are off by errors of these deviations."""
    camera_to_world = invert_rigid(pose)
    rotation = camera_to_world[:, :3] @ Rotation.from_rotvec(np.radians(degrees) * rng.standard_normal(3)).as_matrix()
    return invert_rigid(np.column_stack([rotation, camera_to_world[:, 3] + metres * rng.standard_normal(3)]))


def _in_colmap(pose: np.ndarray, scene: Scene) -> np.ndarray:
    """The rigid pose (3, 4) in COLMAP's world and unit of a metric pose in aria01's world.

    With COLMAP's points X_c = s R_1 X + t_1 the same camera has R_c = R R_1^T and t_c = s t - R_c t_1.
    """
    similarity = scene.colmap_from_world
    scale = np.cbrt(np.linalg.det(similarity[:3, :3]))
    rotation = pose[:, :3] @ (similarity[:3, :3] / scale).T
    return np.column_stack([rotation, scale * pose[:, 3] - rotation @ similarity[:3, 3]])


def _camera_lines(scene: Scene, first_exo: int, has_phone: bool, rng: np.random.Generator) -> list[str]:
    lines = [
        "# Camera list with one line of data per camera (SIMULATED, not recorded):",
        "#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]",
        f"# Number of cameras: {len(scene.glasses) + len(scene.exo) + has_phone}",
    ]
    for camera_id in range(1, first_exo):
        lens = [605 + rng.normal(0, 5), 605 + rng.normal(0, 5), 704, 704, *rng.normal(0, 0.05, 4)]
        lines.append(_camera_line(camera_id, (1408, 1408), lens))
    for camera_id, exo in enumerate(scene.exo, start=first_exo):
        lines.append(_camera_line(camera_id, exo.camera.image_size, exo.camera.params))
    if has_phone:
        lines.append(_camera_line(_PHONE_ID, (1920, 1440), [1500, 1500, 960, 720, 0, 0, 0, 0]))
    return lines


def _camera_line(camera_id: int, size: tuple[int, int], lens: np.ndarray | list[float]) -> str:
    return f"{camera_id} OPENCV_FISHEYE {size[0]} {size[1]} {_numbers(lens)}"


def _image_lines(registered: list[Registered], scene: Scene, rng: np.random.Generator) -> list[str]:
    """Two lines an image; of the second ones, with 2D points, most are empty."""
    lines = [
        "# Image list with two lines of data per image (SIMULATED, not recorded):",
        "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
        "#   POINTS2D[] as (X, Y, POINT3D_ID)",
        f"# Number of images: {len(registered)}, mean observations per image: 0",
    ]
    for image_id, (camera_id, name, world_to_camera) in enumerate(registered, start=1):
        pose = _in_colmap(world_to_camera, scene)
        x, y, z, w = Rotation.from_matrix(pose[:, :3]).as_quat()
        lines.append(f"{image_id} {_numbers([w, x, y, z, *pose[:, 3]])} {camera_id} {name}")
        points = rng.uniform(10, 1000, (int(rng.integers(1, 4)), 2)) if rng.random() < 0.3 else []
        lines.append(" ".join(f"{u:.2f} {v:.2f} -1" for u, v in points))
    return lines


def _point_lines(scene: Scene, rng: np.random.Generator) -> list[str]:
    """A few points of the floor."""
    floor = np.column_stack([rng.uniform(-4, 4, (60, 2)), np.full(60, scene.floor), np.ones(60)])
    points = scene.colmap_from_world[:3] @ floor.T
    lines = ["# 3D point list with one line of data per point (SIMULATED, not recorded):"]
    lines += ["#   POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"]
    lines += [f"# Number of points: {len(floor)}, mean track length: 0"]
    return lines + [f"{i} {_numbers(point)} 128 128 128 0.5" for i, point in enumerate(points.T, start=1)]


def _numbers(values: np.ndarray | list[float]) -> str:
    """Numbers with all their digits, as COLMAP writes them."""
    return " ".join(repr(float(value)) for value in values)


def _slightly_off(similarity: np.ndarray) -> np.ndarray:
    similarity = similarity.copy()
    similarity[:3] *= 1.001
    return similarity
