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
of cv2.fisheye. In place of `world_to_camera`: `R`, a matrix or a rotation vector in radians, and `T` in metres.
OpenCV's own names do as well, and so do the files of cv2.FileStorage in YAML and JSON: `camera_matrix`,
`distortion_coefficients`, `fisheye_model`, `rvec`, `tvec`, `image_width` and `image_height`.
"""

import json
import re
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from finepose_mp import schema
from finepose_mp.cameras import MODELS, Camera
from finepose_mp.geometry import invert_rigid, nearest_rotation
from finepose_mp.preprocessing.keypoints.found import form_checked

_KEYS = {"name", "model", "params", "image_size", "world_to_camera", "frame", "kind", "wearer"}
_OPENCV = {"K", "D", "R", "T", "fisheye"}
_OTHER_NAMES = {
    "camera_matrix": "K", "distortion_coefficients": "D", "distortion": "D", "fisheye_model": "fisheye", "rvec": "R",
    "tvec": "T", "camera_name": "name",
}  # fmt: skip
# What OpenCV's calibration programs write besides, which says nothing about the camera itself.
_OF_CALIBRATIONS = {
    "calibration_time", "nr_of_frames", "nframes", "board_width", "board_height", "square_size", "marker_size", "flags",
    "fix_aspect_ratio", "aspectRatio", "avg_reprojection_error", "per_view_reprojection_errors",
    "extrinsic_parameters", "image_points", "grid_points",
    "rectification_matrix", "projection_matrix",  # of ROS, about images that it rectified
}  # fmt: skip
_REMARKS = {"comment", "comments", "description", "date", "title"}
_ROS_LENSES = {"plumb_bob": False, "rational_polynomial": False, "equidistant": True}  # whether of cv2.fisheye
_UP_AXES = ("+x", "-x", "+y", "-y", "+z", "-z")
_LARGEST_RESIDUAL = 1e-2  # of a rotation matrix; files with four decimals stay far below
_SHORTEST, _LONGEST = 0.1, 100.0  # focal lengths, of the longer side of the image: 157 degrees across it, and 0.6
_FAR, _FARTHEST = 300.0, 3000.0  # metres between cameras of one scene: in doubt, and never
_ROUNDED = 0.002  # metres between neighbours in single precision, in which places are kept
_PLACE = "T and the last column of world_to_camera are metres (divide millimetres by 1000)"


class _Yaml(yaml.SafeLoader):
    """Safe YAML that knows the matrices of cv2.FileStorage."""


_Yaml.add_constructor("tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, deep=True))


class CameraFileError(ValueError):
    """A camera file that cannot be used; the message names file and camera, what is wrong and what is expected."""


@dataclass(frozen=True, eq=False)
class RecordedCamera:
    """A camera by name. `frame` (T,) numbers the frames of a pose (T, 3, 4); None where the pose is one for all.

    `doubts` says what is unlikely about its lens.
    """

    name: str
    camera: Camera
    frame: np.ndarray | None = None
    kind: str = "exo"
    wearer: str = ""
    doubts: tuple[str, ...] = ()

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
        CameraFileError: not readable, an unknown lens model or key, numbers of the wrong shape or size, or no
            rotation.
        SchemaError: an HDF5 file that is none of this toolkit's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such camera file")
    with form_checked(path, CameraFileError, "docs/PREDICT.md"):
        return _read(path, sequence)


def _read(path: Path, sequence: str | None) -> CameraFile:
    data = path.read_bytes()
    if data.startswith(b"\x89HDF"):
        return _of_contract(path, sequence)
    try:
        text = data.decode("utf-8-sig")
        is_json = text.lstrip().startswith(("{", "["))
        content = json.loads(text) if is_json else yaml.load(re.sub(r"\A%YAML:.*", "", text), _Yaml)
    except (ValueError, yaml.YAMLError) as error:
        raise CameraFileError(f"{path}: neither YAML nor JSON: {' '.join(str(error).split())[:200]}") from error
    entries = _entries(content, path)
    up = content.get("world_up") if isinstance(content, dict) else None
    if up not in (None, *_UP_AXES):
        raise CameraFileError(f"{path}: world_up is {up!r}, expected one of {' '.join(_UP_AXES)}")
    cameras = [_camera(entry, n, path) for n, entry in enumerate(entries)]
    names = [camera.name for camera in cameras]
    if len(set(names)) < len(names):
        raise CameraFileError(f"{path}: two cameras have one name; found {', '.join(names)}")
    return CameraFile(path, cameras, up)


def _entries(content: object, path: Path) -> list[dict]:
    """What a file says about each camera."""
    entries = content
    if isinstance(content, dict):
        unknown = sorted(map(str, content.keys() - _REMARKS - {"cameras", "world_up", "name"}))
        if "cameras" in content and unknown:
            raise CameraFileError(
                f"{path}: unknown {', '.join(unknown)}; known beside `cameras`: world_up (lengths are metres, angles "
                "radians; frames a second are said with --fps)"
            )
        is_one_camera = not all(isinstance(content[name], dict) for name in content if name != "world_up")
        entries = content.get("cameras", [content] if is_one_camera else None)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise CameraFileError(
            f"{path}: expected `cameras`, a list of cameras, each with its `name`, model, params and image_size"
        )
    return entries


def _camera(entry: dict, number: int, path: Path) -> RecordedCamera:
    name = str(entry.get("name", entry.get("camera_name", f"camera_{number + 1}")))
    where = f"{path}: camera {name}"
    entry = _in_our_names(entry, where)
    model, params = _lens(entry, where)
    size = _numbers(entry.get("image_size"), (2,), f"{where}: image_size (width and height, pixels)")
    doubts = _doubts_about_lens(model, params, size, where)
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
    camera = Camera(model, params, (int(size[0]), int(size[1])), pose)
    return RecordedCamera(name, camera, frame, kind, wearer, tuple(f"camera {name}: {doubt}" for doubt in doubts))


def _in_our_names(entry: dict, where: str) -> dict:
    """What a file says about a camera, OpenCV's names replaced by ours."""
    named = {key: value for key, value in entry.items() if key not in _OF_CALIBRATIONS | _REMARKS}
    if {"image_width", "image_height"} <= named.keys():
        named["image_size"] = [named.pop("image_width"), named.pop("image_height")]
    if str(named.get("distortion_model")) in _ROS_LENSES:
        named.setdefault("fisheye_model", _ROS_LENSES[named.pop("distortion_model")])
    twice = sorted(f"{theirs} and {ours}" for theirs, ours in _OTHER_NAMES.items() if {theirs, ours} <= named.keys())
    if twice:
        raise CameraFileError(f"{where}: {', '.join(twice)} are the same, give one of them")
    named = {_OTHER_NAMES.get(key, key): value for key, value in named.items()}
    unknown = sorted(map(str, named.keys() - _KEYS - _OPENCV - {"world_up"}))
    if unknown:
        theirs = ", ".join(f"{ours} or {theirs}" for theirs, ours in _OTHER_NAMES.items())
        raise CameraFileError(
            f"{where}: unknown {', '.join(unknown)}; known: {', '.join(sorted(_KEYS | _OPENCV))}; by OpenCV's names "
            f"{theirs}, image_size or image_width and image_height (frames a second are said with --fps)"
        )
    return named


def _lens(entry: dict, where: str) -> tuple[str, np.ndarray]:
    if "K" in entry:
        return _opencv_lens(entry, where)
    model = entry.get("model")
    if not isinstance(model, str) or model not in MODELS:
        raise CameraFileError(f"{where}: unknown lens model {model!r}; known: {', '.join(MODELS)}, or OpenCV's K and D")
    names = MODELS[model].parameter_names
    return model, _numbers(entry.get("params"), (len(names),), f"{where}: params of {model} ({' '.join(names)})")


def _doubts_about_lens(model: str, params: np.ndarray, size: np.ndarray, where: str) -> list[str]:
    """What is unlikely about a lens of images of this size. Raises CameraFileError for one that cannot be."""
    terms = MODELS[model].terms(params)
    centre, focal = np.array(terms.centre), np.array(terms.focal)
    image = f"an image of {size[0]:.0f} x {size[1]:.0f}"
    if (size < 1).any():
        raise CameraFileError(f"{where}: {image}, expected width and height in pixels")
    doubts = []
    if not ((centre > 0) & (centre < size)).all():
        said = (
            f"the principal point ({centre[0]:g}, {centre[1]:g}) lies outside {image}; expected pixels, with "
            "K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] and image_size = [width, height]"
        )
        if ((centre < -size) | (centre > 2 * size)).any():
            raise CameraFileError(f"{where}: {said}")
        doubts.append(f"{said}: right only for images that were cut out of larger ones")
    if not ((focal > _SHORTEST * max(size)) & (focal < _LONGEST * max(size))).all():
        said = (
            f"focal lengths of {focal[0]:g} and {focal[1]:g} for {image} are those of few cameras; expected pixels: "
            "millimetres times the image's width in pixels, divided by the sensor's in millimetres"
        )
        if not focal.all():
            raise CameraFileError(f"{where}: {said}")
        doubts.append(said + ("; a negative one mirrors the image" if (focal < 0).any() else ""))
    return doubts


def _opencv_lens(entry: dict, where: str) -> tuple[str, np.ndarray]:
    """Lens of a camera matrix and OpenCV's coefficients: k1 k2 p1 p2 [k3], or k1 k2 k3 k4 of cv2.fisheye."""
    matrix = _numbers(entry["K"], (3, 3), f"{where}: K")
    if (matrix[2] != (0, 0, 1)).any() or matrix[1, 0]:
        raise CameraFileError(
            f"{where}: K is {matrix.tolist()}, expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; is it transposed?"
        )
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
        absent = [name for name in ("R", "T") if entry.get(name) is None]
        if absent:
            raise CameraFileError(f"{where}: {absent[0]} is missing; a pose is R and T, x_camera = R x_world + T")
        rotation = _numbers(entry["R"], None, f"{where}: R")
        if rotation.size == 3:
            if np.linalg.norm(rotation) > 2 * np.pi:
                raise CameraFileError(
                    f"{where}: the rotation vector R turns by {np.linalg.norm(rotation):.0f} radians, more than a full "
                    "turn; if these are degrees, multiply by pi / 180. Euler angles want a matrix"
                )
            rotation = Rotation.from_rotvec(rotation.ravel()).as_matrix()
        translation = _numbers(entry["T"], None, f"{where}: T").ravel()
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


def doubts_about_places(cameras: list[RecordedCamera], path: Path) -> list[str]:
    """Warnings of cameras that stand far from each other, or a single one from the origin, as those in millimetres do.

    Raises:
        CameraFileError: cameras too far apart for one scene.
    """
    posed = [each for each in cameras if each.camera.world_to_camera is not None]
    centres = [invert_rigid(each.camera.world_to_camera)[..., 3].reshape(-1, 3) for each in posed]
    places = [(f"camera {each.name}", np.median(c, axis=0)) for each, c in zip(posed, centres, strict=True)]
    doubts = []
    for (first, here), (second, there) in combinations(places, 2):
        distance = np.linalg.norm(here - there)
        said = f"{path}: {first} stands {distance:.0f} m from {second}; {_PLACE}"
        if distance > _FARTHEST:
            raise CameraFileError(f"{said}, expected less than {_FARTHEST:.0f} m")
        if distance > _FAR:
            doubts.append(f"WARNING: {said}")
    for name, place in places:
        distance, step = np.linalg.norm(place), np.spacing(np.abs(place).max().astype(np.float32))
        rounded = f"; places are kept to {step:.1g} m there, take the origin near the scene" if step > _ROUNDED else ""
        if rounded or (len(places) == 1 and distance > _FAR):
            doubts.append(f"WARNING: {path}: {name} stands {distance:.0f} m from the world's origin; {_PLACE}{rounded}")
    return doubts


def _numbers(values: object, shape: tuple[int, ...] | None, what: str) -> np.ndarray:
    try:
        if isinstance(values, dict):  # a matrix of cv2.FileStorage
            values = np.reshape(values["data"], (values["rows"], values["cols"]))
        found = np.array(values, dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        found = np.array(np.nan)
    if values is None or (shape is not None and found.shape != shape) or not np.isfinite(found).all():
        expected = f"{' x '.join(map(str, shape))} numbers" if shape else "numbers"
        raise CameraFileError(f"{what}: expected {expected}, found {' '.join(str(values).split())[:80]}")
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
