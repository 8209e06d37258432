"""The three head-worn cameras of an Aria: frame-by-frame calibration files, brought into the shared metric world.

Calibrations refer to the sensor (VRS) orientation; the stored images are turned 90 degrees clockwise. Poses and lens
parameters are turned here, once, so that +x is right and +y is down in the stored image and nobody needs to know.
"""

from dataclasses import dataclass

import numpy as np

from finepose_mp import cameras, geometry
from finepose_mp.preprocessing.egohumans import rig, transforms
from finepose_mp.preprocessing.egohumans.findings import Findings
from finepose_mp.preprocessing.egohumans.source import TakeReader
from finepose_mp.preprocessing.unpickling import DamagedFileError

LENS_MODEL = "aria_fisheye624"
MAX_HEAD_STEP_M = 0.5  # between two frames at 20 fps: 10 m/s


@dataclass(frozen=True)
class Lens:
    """One of the three cameras in the order of the calibration file, and its sensor's size before the rotation."""

    name: str
    kind: str
    sensor_size: tuple[int, int]  # width, height
    image_circle: float  # pixels around the principal point; beyond, the image is black

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the stored image, which is turned by 90 degrees."""
        return self.sensor_size[1], self.sensor_size[0]


# Radii as in the device tables of projectaria-tools 2.3.0 (RGB: 1415 px at 2880 x 2880, scaled to 1408 as it does).
LENSES = (
    Lens("rgb", "ego_rgb", (1408, 1408), 707.5),
    Lens("left", "ego_slam", (640, 480), 330.0),
    Lens("right", "ego_slam", (640, 480), 330.0),
)


@dataclass(frozen=True)
class Calibration:
    """One frame of one Aria, lenses in the order of `LENSES`, sensor orientation."""

    params: np.ndarray  # (3, 15) f cu cv k0..k5 p0 p1 s0..s3
    own_world_to_camera: np.ndarray  # (3, 3, 4), metres


def parse_calibration(data: bytes, name: str) -> Calibration:
    """The calibration in a file of eight lines: header, id, then parameters and pose of rgb, left and right.

    Poses are stored column by column: r11 r21 r31 r12 ... r33 t1 t2 t3.

    Raises:
        DamagedFileError: another number of lines or of numbers in a line, a number that is not finite, or a pose
            without a rotation.
    """
    try:
        lines = data.decode("utf-8").strip().split("\n")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{name}: not a text file ({error})") from error
    if len(lines) != 8:
        raise DamagedFileError(f"{name}: {len(lines)} lines, expected 8 (header, id, two for each of three cameras)")
    params = np.stack([_numbers(lines[i], 15, f"{name}, line {i + 1}") for i in (2, 4, 6)])
    poses = np.stack([_numbers(lines[i], 12, f"{name}, line {i + 1}") for i in (3, 5, 7)])
    poses = poses.reshape(3, 4, 3).transpose(0, 2, 1)
    determinants = np.linalg.det(poses[..., :3])
    if not np.allclose(determinants, 1, atol=0.01):
        raise DamagedFileError(f"{name}: camera poses with determinants {determinants.round(4)}, expected rotations")
    return Calibration(params, poses)


def _numbers(line: str, count: int, where: str) -> np.ndarray:
    try:
        numbers = np.array(line.split(), dtype=np.float64)
    except ValueError as error:
        raise DamagedFileError(f"{where}: expected {count} numbers, found {line[:60]!r}") from error
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise DamagedFileError(f"{where}: expected {count} finite numbers, found {len(numbers)}: {line[:60]!r}")
    return numbers


def read_calibrations(reader: TakeReader, aria: str, findings: Findings) -> dict[int, Calibration]:
    """Frame number -> calibration of one Aria; unreadable files are left out with a finding."""
    return reader.parse_frames(f"ego/{aria}/calib", ".txt", parse_calibration, "ego_camera", findings)


def ego_cameras(
    aria: str,
    calibrations: list[Calibration],
    aria_transforms: dict[str, np.ndarray],
    findings: Findings,
) -> list[rig.TakeCamera]:
    """The three upright cameras of one Aria in the shared world, one pose and lens a frame.

    Args:
        calibrations: one for each frame of the take.
        aria_transforms: Aria name -> similarity from its world to the COLMAP frame (`transforms.read_transforms`).

    Raises:
        ValueError: a pose that is no rigid transform, or no transform for this Aria.
    """
    if aria not in aria_transforms:
        raise ValueError(f"{transforms.TRANSFORMS_FILE} has no usable transform of {aria}")
    sensor_params = np.stack([calibration.params for calibration in calibrations], axis=1)  # (3, T, 15)
    own_poses = np.stack([calibration.own_world_to_camera for calibration in calibrations], axis=1)  # (3, T, 3, 4)
    world_to_sensor, residual = shared_world_to_camera(
        own_poses, aria_transforms[aria], aria_transforms[transforms.ANCHOR]
    )
    if residual > 1e-3:
        message = (
            f"rotations of {aria}'s cameras are up to {residual:.2g} from orthonormal; the nearest ones are stored"
        )
        findings.add("ego_camera", "warning", message, person=aria)
    world_to_camera = geometry.compose(np.column_stack([cameras.UPRIGHT, np.zeros(3)]), world_to_sensor)
    params = [cameras.rotate_fisheye624_clockwise(sensor_params[i], lens.sensor_size) for i, lens in enumerate(LENSES)]
    return [
        rig.TakeCamera(
            name=f"{aria}_{lens.name}",
            kind=lens.kind,
            wearer=aria,
            camera=cameras.Camera(LENS_MODEL, params[i], lens.image_size, world_to_camera[i]),
            image_folder=f"ego/{aria}/images/{lens.name}",
            image_circle=lens.image_circle,
        )
        for i, lens in enumerate(LENSES)
    ]


def shared_world_to_camera(
    own_world_to_camera: np.ndarray, aria_transform: np.ndarray, anchor_transform: np.ndarray
) -> tuple[np.ndarray, float]:
    """Metric poses (..., 3, 4) in aria01's world of cameras posed in another Aria's world, and the worst correction.

    M = A T_a^-1 T_1, its scale s_1 / s_a divided out; A maps Aria a's own world to its camera.
    """
    own_to_shared = np.linalg.solve(aria_transform, anchor_transform)
    world_to_camera, _, residual = transforms.metric_pose(own_world_to_camera @ own_to_shared)
    return world_to_camera, residual


def check_ego_cameras(found: list[rig.TakeCamera], frames: np.ndarray, findings: Findings) -> None:
    """Reports drifting lenses and jumps of the head in one Aria's cameras."""
    for camera in found:
        drift = np.ptp(camera.camera.params, axis=0)
        if drift.any():
            message = (
                f"{camera.name}: lens calibrated online; over the take the focal length varies by {drift[0]:.3f} px, "
                f"the centre by {max(drift[1:3]):.3f} px"
            )
            findings.add("ego_camera", "info", message, camera=camera.name)
    step = np.linalg.norm(np.diff(transforms.camera_centres(found[0].camera.world_to_camera), axis=0), axis=-1)
    jumps = (step > MAX_HEAD_STEP_M) & (np.diff(frames) == 1)
    if jumps.any():
        message = f"{found[0].wearer}'s head jumps by up to {step[jumps].max():.2f} m from one frame to the next"
        findings.add("ego_camera", "warning", message, person=found[0].wearer, frames=frames[1:][jumps])
