"""Cameras of a recording, from a calibration file: YAML or JSON, OpenCV's matrices, or a file of this toolkit.

    world_up: +z                                   # axis of the world that points up
    cameras:
      - name: left                                 # as the keypoints' camera is called
        model: brown_conrady                       # a lens model of docs/FORMAT.md
        params: [1480, 1479, 951, 546, -0.11, 0.07, 0, 0, 0]
        image_size: [1920, 1080]
        world_to_camera: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4]]      # optional; metres
      - name: glasses
        ...
        frame: [0, 1, 2]                           # of a camera that moves: one pose for each of these frames
        world_to_camera: [[[...], [...], [...]], ...]
        wearer: anna

In place of `model` and `params`: `K` (3, 3), `D` with OpenCV's coefficients, and `fisheye: true` where they are those
of cv2.fisheye. In place of `world_to_camera`: `R`, a matrix or a rotation vector, and `T`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from finepose_mp import schema
from finepose_mp.cameras import MODELS, Camera
from finepose_mp.geometry import nearest_rotation

_KEYS = {"name", "model", "params", "image_size", "world_to_camera", "frame", "kind", "wearer"}
_OPENCV = {"K", "D", "R", "T", "fisheye"}
_UP_AXES = ("+x", "-x", "+y", "-y", "+z", "-z")
_LARGEST_RESIDUAL = 1e-2  # of a rotation matrix; files with four decimals stay far below


class CameraFileError(ValueError):
    """A camera file that cannot be used; the message names file and camera, what is wrong and what is expected."""


@dataclass(frozen=True, eq=False)
class RecordedCamera:
    """A camera by name. `frame` (T,) numbers the frames of a pose (T, 3, 4); None where the pose is one for all."""

    name: str
    camera: Camera
    frame: np.ndarray | None = None
    kind: str = "exo"
    wearer: str = ""

    def poses(self, frame: np.ndarray) -> np.ndarray:
        """World to camera (T, 3, 4) in the frames of these numbers, NaN where it is not known."""
        pose = self.camera.world_to_camera
        if pose is None:
            return np.full((len(frame), 3, 4), np.nan)
        if self.frame is None:
            return np.broadcast_to(pose, (len(frame), 3, 4))
        place = np.searchsorted(self.frame, frame).clip(0, len(self.frame) - 1)
        return np.where((self.frame[place] == frame)[:, None, None], pose[place], np.nan)


@dataclass(frozen=True)
class CameraFile:
    """The cameras of a file, and the axis of their world that points up; None where it does not say."""

    path: Path
    cameras: list[RecordedCamera]
    world_up: str | None


def read_cameras(path: Path, sequence: str | None = None) -> CameraFile:
    """The cameras of a calibration file, or of one sequence of a file of this toolkit.

    Raises:
        FileNotFoundError: there is no such file.
        CameraFileError: not readable, an unknown lens model or key, numbers of the wrong shape, or no rotation.
        SchemaError: an HDF5 file that is none of this toolkit's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such camera file")
    data = path.read_bytes()
    if data.startswith(b"\x89HDF"):
        return _of_contract(path, sequence)
    try:
        text = data.decode("utf-8-sig")
        content = json.loads(text) if text.lstrip().startswith(("{", "[")) else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise CameraFileError(f"{path}: neither YAML nor JSON: {str(error)[:200]}") from error
    entries = content.get("cameras", [content]) if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise CameraFileError(f"{path}: expected `cameras`, a list of cameras with model, params and image_size")
    up = content.get("world_up") if isinstance(content, dict) else None
    if up not in (None, *_UP_AXES):
        raise CameraFileError(f"{path}: world_up is {up!r}, expected one of {' '.join(_UP_AXES)}")
    cameras = [_camera(entry, n, path) for n, entry in enumerate(entries)]
    names = [camera.name for camera in cameras]
    if len(set(names)) < len(names):
        raise CameraFileError(f"{path}: two cameras have one name; found {', '.join(names)}")
    return CameraFile(path, cameras, up)


def _camera(entry: dict, number: int, path: Path) -> RecordedCamera:
    name = str(entry.get("name", f"camera_{number + 1}"))
    where = f"{path}: camera {name}"
    unknown = sorted(set(entry) - _KEYS - _OPENCV - {"world_up"})
    if unknown:
        raise CameraFileError(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(sorted(_KEYS | _OPENCV))}")
    model, params = _lens(entry, where)
    size = _numbers(entry.get("image_size"), (2,), f"{where}: image_size (width and height, pixels)")
    frame, pose = None, _pose(entry, where)
    if pose is not None and pose.ndim == 3:
        frame = _numbers(entry.get("frame"), (len(pose),), f"{where}: frame (a number for each pose)").astype(int)
        if (np.diff(frame) <= 0).any():
            raise CameraFileError(f"{where}: frame numbers must increase")
    wearer = str(entry.get("wearer") or "")
    kind = str(entry.get("kind", "ego_rgb" if wearer else "exo"))
    if kind not in schema.CAMERA_KINDS or (kind != "exo") != bool(wearer):
        raise CameraFileError(
            f"{where}: kind {kind!r}, wearer {wearer or 'nobody'!r}; expected one of {', '.join(schema.CAMERA_KINDS)}, "
            "the ego kinds with a wearer and exo without"
        )
    return RecordedCamera(name, Camera(model, params, (int(size[0]), int(size[1])), pose), frame, kind, wearer)


def _lens(entry: dict, where: str) -> tuple[str, np.ndarray]:
    if "K" in entry:
        return _opencv_lens(entry, where)
    model = entry.get("model")
    if model not in MODELS:
        raise CameraFileError(f"{where}: unknown lens model {model!r}; known: {', '.join(MODELS)}, or OpenCV's K and D")
    names = MODELS[model].parameter_names
    return model, _numbers(entry.get("params"), (len(names),), f"{where}: params of {model} ({' '.join(names)})")


def _opencv_lens(entry: dict, where: str) -> tuple[str, np.ndarray]:
    """Lens of a camera matrix and OpenCV's coefficients: k1 k2 p1 p2 [k3], or k1 k2 k3 k4 of cv2.fisheye."""
    matrix = _numbers(entry["K"], (3, 3), f"{where}: K")
    pinhole = [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]
    values = _numbers(entry.get("D") or [], None, f"{where}: D").ravel()
    if entry.get("fisheye"):
        if len(values) != 4:
            raise CameraFileError(f"{where}: cv2.fisheye has 4 coefficients D, found {len(values)}")
        return "opencv_fisheye", np.array([*pinhole, *values])
    if values[5:].any() or len(values) not in (0, 4, 5, 8, 12, 14):
        raise CameraFileError(
            f"{where}: {len(values)} coefficients D; k1 k2 p1 p2 k3 are known and others must be 0: calibrate with five"
        )
    if not values.any():
        return "pinhole", np.array(pinhole)
    return "brown_conrady", np.array([*pinhole, *np.append(values, 0.0)[:5]])


def _pose(entry: dict, where: str) -> np.ndarray | None:
    """(3, 4), (T, 3, 4), or None where the file does not say."""
    if entry.get("world_to_camera") is not None:
        pose = _numbers(entry["world_to_camera"], None, f"{where}: world_to_camera")
        if pose.ndim not in (2, 3) or pose.shape[-2:] not in ((3, 4), (4, 4)):
            raise CameraFileError(f"{where}: world_to_camera has shape {pose.shape}, expected (3, 4) or (T, 3, 4)")
        pose = pose[..., :3, :]
    elif entry.get("R") is not None or entry.get("T") is not None:
        rotation = _numbers(entry.get("R"), None, f"{where}: R")
        if rotation.size == 3:
            rotation = Rotation.from_rotvec(rotation.ravel()).as_matrix()
        translation = _numbers(entry.get("T"), None, f"{where}: T").ravel()
        if rotation.shape != (3, 3) or translation.shape != (3,):
            raise CameraFileError(
                f"{where}: R has shape {rotation.shape} and T {translation.shape}, expected 3x3 and 3"
            )
        pose = np.column_stack([rotation, translation])
    else:
        return None
    rotation, residual = nearest_rotation(pose[..., :3])
    if not np.max(residual) < _LARGEST_RESIDUAL:
        raise CameraFileError(
            f"{where}: the first three columns of world_to_camera are no rotation ({np.max(residual):.3g} off); "
            "x_camera = R x_world + t wants R orthonormal with determinant +1, and t in metres"
        )
    return np.concatenate([rotation, pose[..., 3:]], axis=-1)


def _numbers(values: object, shape: tuple[int, ...] | None, what: str) -> np.ndarray:
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.array(np.nan)
    if values is None or (shape is not None and found.shape != shape) or not np.isfinite(found).all():
        expected = f"{' x '.join(map(str, shape))} numbers" if shape else "numbers"
        raise CameraFileError(f"{what}: expected {expected}, found {str(values)[:80]}")
    return found


def _of_contract(path: Path, sequence: str | None) -> CameraFile:
    with schema.open_file(path) as file:
        names = schema.sequence_names(file)
        if sequence is None and len(names) != 1:
            raise CameraFileError(
                f"{path}: holds {len(names)} sequences ({', '.join(names[:5])}...); choose one with --sequence"
            )
        take = schema.read_sequence(file, sequence or names[0])
    cameras = []
    for k, name in enumerate(take.camera):
        count = len(MODELS[take.camera_model[k]].parameter_names)
        size = (int(take.image_size[k, 0]), int(take.image_size[k, 1]))
        moves = bool(take.camera_is_moving[k])
        pose = take.world_to_camera[k] if moves else take.world_to_camera[k, 0]
        lens = Camera(take.camera_model[k], take.camera_params[k, 0, :count], size, pose)
        frame = take.frame if moves else None
        cameras.append(RecordedCamera(name, lens, frame, take.camera_kind[k], take.camera_wearer[k]))
    return CameraFile(path, cameras, take.world_up)
