"""The three head-worn cameras of an Aria: frame-by-frame calibration files, brought into the shared metric world.

Calibrations refer to the sensor (VRS) orientation; the stored images are turned 90 degrees clockwise. Poses and lens
parameters are turned here, once, so that +x is right and +y is down in the stored image and nobody needs to know.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from pydantic_core import from_json

from finepose_mp import cameras, geometry
from finepose_mp.preprocessing.egohumans import rig, transforms
from finepose_mp.preprocessing.egohumans.source import TakeReader
from finepose_mp.preprocessing.findings import Findings, report_unreadable
from finepose_mp.preprocessing.unpickling import DamagedFileError
from finepose_mp.skeletons import COCO17

LENS_MODEL = "aria_fisheye624"
MAX_HEAD_STEP_M = 0.5  # between two frames at 20 fps: 10 m/s
# Of the focal length, 6 px of Aria's RGB camera: online calibration follows a lens's temperature, by much less.
MAX_LENS_DRIFT = 0.01
# The middle of eyes, ears and nose is about 10 cm behind the glasses, and joints are centimetres off.
FARTHEST_FROM_HEAD_M = 0.4
DETERMINANT_TOLERANCE = 0.01  # of a rotation; beyond, the twelve numbers are something else

_NUMBERS_IN_LINES = (15, 12) * 3


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


_HEAD = [COCO17.index(name) for name in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")]


@dataclass(frozen=True)
class Calibrations:
    """The readable calibrations of one Aria, lenses in the order of `LENSES`, sensor orientation."""

    frames: np.ndarray  # (n,) numbers, ascending
    params: np.ndarray  # (n, 3, 15) f cu cv k0..k5 p0 p1 s0..s3
    own_world_to_camera: np.ndarray  # (n, 3, 3, 4), metres

    def at(self, frames: np.ndarray) -> "Calibrations":
        """Those of some of its frames."""
        rows = np.searchsorted(self.frames, frames)
        return Calibrations(self.frames[rows], self.params[rows], self.own_world_to_camera[rows])


def parse_calibration(data: bytes, name: str) -> list[float]:
    """The 3 x 27 numbers in a file of eight lines: header, id, then 15 parameters and 12 of a pose for each camera.

    Raises:
        DamagedFileError: another number of lines or of numbers in a line.
    """
    lines = data.strip().split(b"\n")
    if len(lines) != 8:
        raise DamagedFileError(f"{name}: {len(lines)} lines, expected 8 (header, id, two for each of three cameras)")
    rows = _as_json(lines[2:])
    if rows is not None and tuple(map(len, rows)) == _NUMBERS_IN_LINES:
        return list(itertools.chain.from_iterable(rows))
    numbers: list[float] = []
    for i, count in enumerate(_NUMBERS_IN_LINES, start=2):
        try:
            found = list(map(float, lines[i].split()))
        except ValueError as error:
            raise DamagedFileError(f"{name}, line {i + 1}: expected {count} numbers, {_found(lines[i])}") from error
        if len(found) != count:
            raise DamagedFileError(
                f"{name}, line {i + 1}: expected {count} finite numbers, found {len(found)}: {_found(lines[i])}"
            )
        numbers += found
    return numbers


def _as_json(lines: list[bytes]) -> list[list[float]] | None:
    """The numbers in lines where single spaces are between them, as a JSON parser reads them, in a quarter of the time.

    It rounds correctly, as `float` does, but does not know all of its notations: None is no verdict.
    """
    text = b"\n".join(lines)
    if text.translate(None, b"0123456789+-.eE \n"):  # nothing that means something else to JSON
        return None
    try:
        rows = from_json(b"[[" + text.replace(b" ", b",").replace(b"\n", b"],[") + b"]]")
        return [list(map(float, row)) for row in rows]
    except (ValueError, OverflowError):
        return None


def _found(line: bytes) -> str:
    return f"found {line[:60].decode('utf-8', 'replace')!r}"


def read_calibrations(reader: TakeReader, aria: str, findings: Findings) -> Calibrations | None:
    """The calibrations of one Aria, None without any; unreadable files are left out with a finding."""
    numbers: dict[int, list[float]] = {}
    damaged: dict[int, str] = {}
    folder = f"ego/{aria}/calib"
    for frame, path, data in reader.frames(folder, ".txt", damaged):
        try:
            numbers[frame] = parse_calibration(data, path)
        except DamagedFileError as error:
            damaged[frame] = str(error)
    frames = np.array(list(numbers), int)
    content = np.array(list(numbers.values())).reshape(-1, len(LENSES), 27)
    # Poses are stored column by column: r11 r21 r31 r12 ... r33 t1 t2 t3.
    poses = content[..., 15:].reshape(-1, len(LENSES), 4, 3).swapaxes(-1, -2)
    problems = _problems(content, poses)
    damaged |= {int(frames[i]): f"{folder}/{frames[i]:05d}.txt{text}" for i, text in problems.items()}
    report_unreadable("ego_camera.unreadable", damaged, findings, person=aria)
    sound = ~np.isin(np.arange(len(frames)), list(problems))
    return Calibrations(frames[sound], content[sound, :, :15], poses[sound]) if sound.any() else None


def _problems(content: np.ndarray, poses: np.ndarray) -> dict[int, str]:
    """What is wrong with numbers (n, 3, 27) and the poses (n, 3, 3, 4) in them, by position: ends of messages."""
    problems = {}
    wrong = ~(np.abs(content) <= rig.LARGEST_NUMBER)  # NaN compares false
    for i in np.flatnonzero(wrong.any(axis=(1, 2))):
        lens, column = np.argwhere(wrong[i])[0]
        line, count = 3 + 2 * lens + (column >= 15), 12 if column >= 15 else 15
        found = f"found {content[i, lens, column]}"
        problems[int(i)] = f", line {line}: expected {count} finite numbers up to {rig.LARGEST_NUMBER:.0f}, {found}"
    focal = content[..., 0]
    for i, lens in np.argwhere(focal < rig.SHORTEST_FOCAL_PX):
        text = f", line {3 + 2 * lens}: focal length {focal[i, lens]}, expected {rig.SHORTEST_FOCAL_PX:.0f} px or more"
        problems.setdefault(int(i), text)
    determinants = np.linalg.det(np.nan_to_num(poses[..., :3]))
    for i in np.flatnonzero(~(np.abs(determinants - 1) <= DETERMINANT_TOLERANCE).all(axis=1)):
        text = f": camera poses with determinants {determinants[i].round(4)}, expected rotations"
        problems.setdefault(int(i), text)
    return problems


def ego_cameras(
    aria: str,
    calibrations: Calibrations,
    aria_transforms: dict[str, np.ndarray],
    findings: Findings,
) -> list[rig.TakeCamera]:
    """The three upright cameras of one Aria in the shared world, one pose and lens a frame.

    Args:
        calibrations: for each frame of the take.
        aria_transforms: Aria name -> similarity from its world to the COLMAP frame (`transforms.read_transforms`).

    Raises:
        ValueError: a pose that is no rigid transform, or no transform for this Aria.
    """
    if aria not in aria_transforms:
        raise ValueError(f"{transforms.TRANSFORMS_FILE} has no usable transform of {aria}")
    sensor_params = calibrations.params.swapaxes(0, 1)  # (3, T, 15)
    own_poses = calibrations.own_world_to_camera.swapaxes(0, 1)  # (3, T, 3, 4)
    world_to_sensor, residual = shared_world_to_camera(
        own_poses, aria_transforms[aria], aria_transforms[transforms.ANCHOR]
    )
    if residual > transforms.SHEAR_TOLERANCE:
        message = (
            f"rotations of {aria}'s cameras are up to {residual:.2g} from orthonormal; the nearest ones are stored"
        )
        expected = {"residual": transforms.SHEAR_TOLERANCE}
        findings.add("ego_camera.not_orthonormal", "warning", message, person=aria, expected=expected, found=residual)
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
        _report_drift(camera, findings)
    step = np.linalg.norm(np.diff(transforms.camera_centres(found[0].camera.world_to_camera), axis=0), axis=-1)
    jumps = (step > MAX_HEAD_STEP_M) & (np.diff(frames) == 1)
    if jumps.any():
        findings.add(
            "ego_camera.head_jump",
            "warning",
            f"{found[0].wearer}'s head jumps by up to {step[jumps].max():.2f} m from one frame to the next",
            person=found[0].wearer,
            frames=frames[1:][jumps],
            expected={"step_m": MAX_HEAD_STEP_M},
            found=round(float(step[jumps].max()), 4),
        )


def check_glasses_on_head(found: list[rig.TakeCamera], joints_3d_world: np.ndarray, findings: Findings) -> None:
    """Reports how far one Aria's glasses are from their wearer's head, of joints (T, 17, 3) in metres.

    The glasses are midway between the two tracking cameras, as for the authors; the head is where its known joints are
    on average. Nobody is detected by the tracking cameras, so nothing else contradicts a wrong place of them.
    """
    left, right = (transforms.camera_centres(camera.camera.world_to_camera) for camera in found[1:])
    head = joints_3d_world[:, _HEAD]
    count = np.isfinite(head[..., 0]).sum(axis=1)
    head = np.nansum(head, axis=1) / np.maximum(count, 1)[:, None]
    distance = np.where(count > 0, np.linalg.norm((left + right) / 2 - head, axis=-1), np.nan)
    if not (count > 0).any():
        return
    wearer, median = found[0].wearer, float(np.nanmedian(distance))
    agrees = median <= FARTHEST_FROM_HEAD_M
    findings.add(
        "ego_camera.off_head",
        "info" if agrees else "warning",
        f"{wearer}'s glasses are {100 * median:.0f} cm (median) from the middle of the head"
        + ("" if agrees else f": does somebody else wear them, or is the transform of {wearer} wrong?"),
        person=wearer,
        expected={"median_m": FARTHEST_FROM_HEAD_M},
        found={"median_m": round(median, 4), "frames": int((distance > FARTHEST_FROM_HEAD_M).sum())},
    )


def _report_drift(camera: rig.TakeCamera, findings: Findings) -> None:
    """How far a lens moves over the take, if it does; online calibration follows temperature, by very little."""
    drift = np.ptp(camera.camera.params, axis=0)
    if not drift.any():
        return
    focal, centre = float(drift[0]), float(drift[1:3].max())
    relative = max(focal, centre) / float(np.median(camera.camera.params[:, 0]))
    findings.add(
        "ego_camera.drift",
        "info" if relative <= MAX_LENS_DRIFT else "warning",
        f"{camera.name}: lens calibrated online; over the take the focal length varies by {focal:.3f} px, "
        f"the centre by {centre:.3f} px",
        camera=camera.name,
        expected={"relative_to_focal": MAX_LENS_DRIFT},
        found={"focal_px": round(focal, 4), "centre_px": round(centre, 4), "relative_to_focal": round(relative, 6)},
    )
