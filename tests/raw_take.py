"""Writer of a tiny raw EgoHumans take with hand-computed truth, following the description of the download.

Two people (aria01, aria02), two fixed cameras, a few frames. It shares no code with the simulator or the converter, so
that it can witness against both. A test changes the attributes before `write`, or the files after it.
"""

import io
import os
import pickle
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image


def rotation_z(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def similarity(scale: float, rotation: np.ndarray, translation: tuple) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * rotation, translation
    return matrix


# COLMAP units: a tenth of a metre of aria01, a little more of aria02.
TRANSFORMS = {
    "aria01": similarity(0.1, rotation_z(30), (0.5, -0.25, 0.125)),
    "aria02": similarity(0.102, rotation_z(-60), (0.3, 0.2, -0.1)),
}
HALF_TURN = np.sqrt(0.5)
CAM01_QUATERNION, CAM01_TRANSLATION = (HALF_TURN, HALF_TURN, 0, 0), (0.2, 0.1, 0.4)  # Rx(90 degrees)
# cam01 in aria01's world, in metres: computed by hand from the lines above.
CAM01_POSE = np.column_stack([[[np.sqrt(0.75), -0.5, 0], [0, 0, -1], [0.5, np.sqrt(0.75), 0]], [7, -0.25, 1.5]])
EXO_LENS = (1906.5, 1912.2, 1920, 1080, 0.028, 0.079, -0.103, 0.0495)
EGO_LENS = np.array(
    [610.0, 704.5, 702.25, 0.41, -0.48, 0.17, 1.13, -1.70, 0.65, 0.0009, -0.0003, -0.0008, -0.0003, -0.0014, 0.0001]
)
SLAM_LENS = np.array([240.0, 319.5, 239.5, -0.02, 0.1, -0.06, 0.01, 0, 0, 0.0004, -0.0002, 0, 0, 0, 0])

# Where the people's noses are in frame 1, in cam01's coordinates, and the pixels there.
NOSES_IN_CAM01 = {"aria01": (4.0, 2.0, 5.0), "aria02": (1.5, -1.0, 5.0)}
NOSE_PIXELS_IN_CAM01 = {"aria01": (3196.378158, 1720.097119), "aria02": (2471.306502, 711.363478)}
# The nose of aria02 in the glasses of aria01 (sensor coordinates), and its pixel there before the image is turned.
NOSE_IN_ARIA01 = (0.6, -0.4, 2.0)
NOSE_PIXEL_IN_ARIA01 = (887.761502, 579.944916)


def to_world(point_camera: tuple, pose: np.ndarray) -> np.ndarray:
    return pose[:, :3].T @ (np.array(point_camera) - pose[:, 3])


def body(nose: np.ndarray) -> np.ndarray:
    """(17, 4): a person below a nose, flags 1."""
    heights = np.array([0, 0.03, 0.03, 0, 0, -0.2, -0.2, -0.5, -0.5, -0.7, -0.7, -0.7, -0.7, -1.1, -1.1, -1.5, -1.5])
    sides = np.array([0, 0.03, -0.03, 0.07, -0.07, *[0.18, -0.18] * 3, *[0.1, -0.1] * 3])
    return np.column_stack([nose[0] + sides, np.full(17, nose[1]), nose[2] + heights, np.ones(17)])


class RawTake:
    """A take in the making. Frames count from 1; people walk 2 cm a frame along the world's x axis."""

    def __init__(self, frames: int = 6) -> None:
        self.frames = range(1, frames + 1)
        noses = {person: to_world(point, CAM01_POSE) for person, point in NOSES_IN_CAM01.items()}
        step = np.array([0.02, 0, 0])
        self.fit = {k: {p: body(nose + (k - 1) * step) for p, nose in noses.items()} for k in self.frames}
        self.triangulated = {k: {p: pose.copy() for p, pose in poses.items()} for k, poses in self.fit.items()}
        self.transforms = dict(TRANSFORMS)
        # camera id, model, width, height, parameters
        self.cameras_txt = [
            (1, "OPENCV_FISHEYE", 1408, 1408, (600, 600, 704, 704, 0, 0, 0, 0)),
            (2, "OPENCV_FISHEYE", 3840, 2160, EXO_LENS),
            (7, "OPENCV_FISHEYE", 1920, 1080, (950, 951, 960, 540, 0.02, 0.01, 0, 0)),
        ]
        # quaternion (scalar first), translation, camera id, image name, line of 2D points
        self.images_txt = [
            ((1, 0, 0, 0), (0, 0, 0), 1, "aria01/00001.jpg", "704.0 704.0 -1"),
            (CAM01_QUATERNION, CAM01_TRANSLATION, 2, "cam01/00001.jpg", ""),
            (CAM01_QUATERNION, (-0.3, 0.15, 0.5), 7, "cam02/00100.jpg", "1.5 2.5 12 3.0 4.0 -1"),
        ]
        self.manual: dict[str, np.ndarray] = {}
        self.calibrations = {("aria01", k): self._calibration_aria01(noses["aria02"]) for k in self.frames}
        self.calibrations |= {("aria02", k): self._calibration_aria02() for k in self.frames}
        self.detections: dict[tuple[str, int], list[dict]] = {}
        for k in self.frames:
            self.detections["cam01", k] = [detection(p, NOSE_PIXELS_IN_CAM01[p]) for p in noses]
            self.detections["aria01", k] = [detection("aria02", (827.0, 887.5))]
            self.detections["aria02", k] = []
        self.image_sizes = {f"exo/{name}": size for name, size in (("cam01", (3840, 2160)), ("cam02", (1920, 1080)))}
        self.simulated: str | None = None

    @staticmethod
    def _calibration_aria01(nose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lenses (3, 15) and poses (3, 3, 4); aria01's own world is the shared one."""
        rotation = rotation_z(40) @ np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
        rgb = np.column_stack([rotation, np.array(NOSE_IN_ARIA01) - rotation @ nose])
        beside = np.zeros((3, 4))
        beside[0, 3] = 0.06
        return np.stack([EGO_LENS, SLAM_LENS, SLAM_LENS]), np.stack([rgb, rgb + beside, rgb - beside])

    @staticmethod
    def _calibration_aria02() -> tuple[np.ndarray, np.ndarray]:
        c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
        pose = np.column_stack([[[c, 0, s], [0, 1, 0], [-s, 0, c]], [0.01, 0.02, 0.03]])
        return np.stack([EGO_LENS, SLAM_LENS, SLAM_LENS]), np.stack([pose] * 3)

    def write(self, folder: Path) -> Path:
        """Writes the take into `folder`, which is created, and returns it."""
        for name, poses in (("fit_poses3d", self.fit), ("poses3d", self.triangulated)):
            for k, content in poses.items():
                _write(folder / f"processed_data/{name}/{k:05d}.npy", npy(content))
        for (camera, k), people in self.detections.items():
            # A list of nobody is stored as an empty array of floats.
            content = np.array(people, dtype=object) if people else np.array([])
            _write(folder / f"processed_data/poses2d/{camera}/rgb/{k:05d}.npy", npy(content))
        for (aria, k), (lenses, poses) in self.calibrations.items():
            _write(folder / f"ego/{aria}/calib/{k:05d}.txt", _calibration_text(lenses, poses))
        for aria in {aria for aria, _ in self.calibrations}:
            for name, size in (("rgb", (1408, 1408)), ("left", (480, 640)), ("right", (480, 640))):
                _write(folder / f"ego/{aria}/images/{name}/00001.jpg", _jpeg(*size))
        for camera, size in self.image_sizes.items():
            _write(folder / f"{camera}/images/00001.jpg", _jpeg(*size))
        self._write_colmap(folder / "colmap/workplace")
        if self.simulated is not None:
            _write(folder / "SIMULATED.json", self.simulated.encode())
        return folder

    def _write_colmap(self, folder: Path) -> None:
        cameras = [f"{i} {model} {w} {h} {_numbers(params)}" for i, model, w, h, params in self.cameras_txt]
        _write(folder / "cameras.txt", _text(["# Camera list", "#   ...", "# Number of cameras: 3", *cameras]))
        images = ["# Image list", "#   ...", "#   ...", "# Number of images: 3"]
        for i, (quaternion, translation, camera_id, name, points) in enumerate(self.images_txt, start=1):
            images += [f"{i} {_numbers(quaternion)} {_numbers(translation)} {camera_id} {name}", points]
        _write(folder / "images.txt", _text(images))
        _write(folder / "colmap_from_aria_transforms.pkl", pickle.dumps(self.transforms))
        for camera, matrix in self.manual.items():
            _write(folder / f"{camera}.npy", npy(matrix))


def detection(person: str, nose: tuple, keypoints: int = 17, score: float = 0.9) -> dict:
    """An entry of poses2d: all keypoints in a column below the nose."""
    points = np.column_stack(
        [np.full(keypoints, nose[0]), nose[1] + 3.0 * np.arange(keypoints), np.full(keypoints, score)]
    )
    return {
        "bbox": np.array([nose[0] - 50, nose[1] - 20, nose[0] + 50, nose[1] + 200, 1.0]),
        "human_name": person,
        "human_id": 0,
        "color": (255, 0, 0),
        "keypoints": points,
        "raw_keypoints_confidence": points[:, 2].copy(),
        "is_valid": True,
    }


class CodeInAPickle:
    """An object whose pickle creates the file `witness` when it is loaded by anything careless."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


def npy(content: object) -> bytes:
    """The bytes of a .npy file as numpy.save writes them, pickled where `content` is no plain array."""
    stream = io.BytesIO()
    np.save(stream, content, allow_pickle=True)
    return stream.getvalue()


def _calibration_text(lenses: np.ndarray, poses: np.ndarray) -> bytes:
    lines = ["Serial, intrinsics (radtanthinprsim), extrinsic (3x4)", "aria"]
    for lens, pose in zip(lenses, poses, strict=True):
        lines += [_numbers(lens), _numbers(pose.T.ravel())]  # column by column
    return _text(lines)


def _numbers(values: object) -> str:
    return " ".join(f"{value:.16f}" for value in values)


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


@cache
def _jpeg(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, "JPEG", quality=1)
    return stream.getvalue()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
