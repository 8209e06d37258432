"""Project Aria glasses on moving heads: where their three cameras are, what their lenses are, what their files say.

Every pair of glasses has a world of its own (its odometry started somewhere, facing somewhere, with a metre that is off
by up to two percent), and its calibration speaks of that world. Camera coordinates are those of the sensor (VRS
orientation), which is turned by 90 degrees against the stored images.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from finepose_mp import geometry
from finepose_mp.cameras import UPRIGHT, Camera, rotate_fisheye624_clockwise
from finepose_mp.preprocessing.egohumans.aria import LENSES
from finepose_mp.preprocessing.simulation.motion import FPS

LENS_MODEL = "aria_fisheye624"
RGB_CIRCLE = LENSES[0].image_circle  # pixels around the principal point beyond which the RGB image is black

# A nominal lens of each kind, f cu cv k0..k5 p0 p1 s0..s3; made up, of the size and shape that calibrations have.
_RGB_LENS = (612, 703, 705, 0.36, -0.37, 0.05, 1.02, -1.50, 0.57, 6e-4, -4e-4, -6e-4, 2e-4, -1.1e-3, 1e-4)
_SLAM_LENS = (242, 318, 241, -0.024, 0.095, -0.075, 0.012, 0.002, -6e-4, 3e-4, -2e-4, 2e-4, -1e-4, -3e-4, 1e-4)

# Camera axes (right, down, forward) of an upright camera in the head's axes (forward, left, up).
_UPRIGHT_IN_HEAD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class Sensor:
    """One of the three cameras: name, sensor size (width, height), and its mount on the head.

    `place` is forward, left and up of the point between the eyes, metres; `yaw` (left) and `pitch` (down) degrees.
    """

    name: str
    size: tuple[int, int]
    lens: tuple[float, ...]
    place: tuple[float, float, float]
    yaw: float
    pitch: float

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the stored image, turned by 90 degrees."""
        return self.size[1], self.size[0]


SENSORS = (
    Sensor("rgb", (1408, 1408), _RGB_LENS, (0.030, 0.055, 0.010), 0.0, 6.0),
    Sensor("left", (640, 480), _SLAM_LENS, (0.020, 0.070, 0.005), 36.0, 3.0),
    Sensor("right", (640, 480), _SLAM_LENS, (0.020, -0.070, 0.005), -36.0, 3.0),
)


@dataclass(frozen=True)
class Glasses:
    """The glasses of one person for T frames, sensors in the order of `SENSORS`.

    params (3, T, 15); world_to_sensor (3, T, 3, 4), rigid, metres, from aria01's world; world_from_own (4, 4), the
    similarity from the glasses' own world to aria01's.
    """

    name: str
    params: np.ndarray
    world_to_sensor: np.ndarray
    world_from_own: np.ndarray

    def own_world_to_sensor(self) -> np.ndarray:
        """Rigid poses (3, T, 3, 4) in the glasses' own world and metre, as calibration files have them."""
        rotation, translation, _ = geometry.split_similarity(self.world_to_sensor @ self.world_from_own)
        return np.concatenate([rotation, translation[..., None]], axis=-1)

    def camera(self, sensor: int) -> Camera:
        """The upright camera of the stored image of one sensor, in aria01's world."""
        upright = np.column_stack([UPRIGHT, np.zeros(3)])
        return Camera(
            LENS_MODEL,
            rotate_fisheye624_clockwise(self.params[sensor], SENSORS[sensor].size),
            SENSORS[sensor].image_size,
            geometry.compose(upright, self.world_to_sensor[sensor]),
        )


def wear_glasses(
    name: str,
    joints: np.ndarray,
    head_rotation: np.ndarray,
    world_from_own: np.ndarray,
    rng: np.random.Generator,
) -> Glasses:
    """The glasses of a person whose joints (T, 17, 3) and head rotation (T, 3, 3) are given in aria01's world."""
    between_eyes = joints[:, 1:3].mean(axis=1)
    fit = rng.normal(0, 1.5, 3)  # degrees: no two noses are alike
    params, poses = [], []
    for sensor in SENSORS:
        mount = Rotation.from_euler("ZYX", np.add((sensor.yaw, sensor.pitch, 0), fit), degrees=True).as_matrix()
        sensor_to_world = head_rotation @ mount @ _UPRIGHT_IN_HEAD @ UPRIGHT
        centre = between_eyes + head_rotation @ np.array(sensor.place)
        rotation = sensor_to_world.swapaxes(-1, -2)
        poses.append(np.concatenate([rotation, -rotation @ centre[..., None]], axis=-1))
        params.append(_online_calibration(sensor, len(joints), rng))
    return Glasses(name, np.stack(params), np.stack(poses), world_from_own)


def own_world(anchor: np.ndarray, is_reference: bool, rng: np.random.Generator) -> np.ndarray:
    """The similarity (4, 4) from the own world of glasses switched on near `anchor` (3,) to aria01's world."""
    world_from_own = np.eye(4)
    if not is_reference:
        scale = 1 + np.clip(rng.normal(0, 0.008), -0.02, 0.02)
        world_from_own[:3, :3] = scale * Rotation.from_euler("z", rng.uniform(0, 2 * np.pi)).as_matrix()
        world_from_own[:3, 3] = anchor + rng.normal(0, [0.4, 0.4, 0.05])
    return world_from_own


def _online_calibration(sensor: Sensor, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Lens parameters (T, 15): individual for every pair of glasses, with focal length and centre drifting slowly."""
    lens = np.array(sensor.lens) * (1 + rng.normal(0, 0.002, 15))
    lens[1:3] += rng.normal(0, 2.0, 2)
    clock = np.arange(frames) / FPS
    drift = np.sin(2 * np.pi * (clock[:, None] / rng.uniform(20, 60, 3) + rng.random(3)))
    params = np.tile(lens, (frames, 1))
    params[:, :3] += drift * [0.05, 0.08, 0.08]
    return params
