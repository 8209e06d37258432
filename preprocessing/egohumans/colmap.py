"""COLMAP text files: lens parameters of the fixed cameras and the poses of their registered images.

Format: https://colmap.github.io/format.html#text-format
"""

import math
from dataclasses import dataclass

import numpy as np

from finepose_mp import geometry
from finepose_mp.preprocessing.unpickling import DamagedFileError

# COLMAP's model name -> ours, and the number of its parameters.
LENS_MODELS = {"OPENCV_FISHEYE": ("opencv_fisheye", 8)}


@dataclass(frozen=True)
class ColmapCamera:
    """One line of cameras.txt; `params` in COLMAP's order, pixels."""

    camera_id: int
    model: str
    image_size: tuple[int, int]  # width, height
    params: np.ndarray
    line: int  # its number, for messages


@dataclass(frozen=True)
class RegisteredImage:
    """A pose line of images.txt: `colmap_to_camera` (3, 4) in COLMAP units, and the folder its image lies in."""

    camera_id: int
    folder: str  # "cam01" or "aria01"
    colmap_to_camera: np.ndarray
    quaternion_norm: float  # as written; the pose is of the normalised one


def parse_cameras(data: bytes, name: str) -> dict[int, ColmapCamera]:
    """Camera id -> its line of cameras.txt.

    Raises:
        DamagedFileError: a line that is not "ID MODEL WIDTH HEIGHT PARAMS...", naming it.
    """
    cameras = {}
    for number, line in _lines(data, name):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            camera_id, width, height = int(words[0]), int(words[2]), int(words[3])
            params = np.array(words[4:], dtype=np.float64)
        except (ValueError, IndexError) as error:
            raise _damaged(name, number, line, "CAMERA_ID MODEL WIDTH HEIGHT PARAMS...") from error
        cameras[camera_id] = ColmapCamera(camera_id, words[1], (width, height), params, number)
    if not cameras:
        raise DamagedFileError(f"{name}: no camera in it")
    return cameras


def parse_images(data: bytes, name: str) -> list[RegisteredImage]:
    """The registered images of images.txt in file order, those in folders other than camNN and ariaNN included.

    Every image has two lines, of which the second (its 2D points) may be empty: lines are paired before any is dropped.

    Raises:
        DamagedFileError: a line where a pose is due that is none, or the other way round, naming it.
    """
    lines = [(number, line) for number, line in _lines(data, name) if not line.startswith("#")]
    while lines and not lines[-1][1].strip():  # the last points line may be empty, and so may what follows it
        lines.pop()
    for number, line in lines[1::2]:
        if "/" in line:  # an image's name: somebody dropped the empty lines of points
            raise _damaged(name, number, line, "2D points or nothing: every image has two lines")
    found = [_pose_line(line, number, name) for number, line in lines[::2]]
    values = np.array([numbers for numbers, _, _ in found]).reshape(-1, 7)
    norms = np.linalg.norm(values[:, :4], axis=1)
    poses = np.concatenate([geometry.rotation_from_quaternion(values[:, :4]), values[:, 4:, None]], axis=-1)
    return [
        RegisteredImage(camera_id, image_name.rpartition("/")[0], pose, float(norm))
        for (_, camera_id, image_name), pose, norm in zip(found, poses, norms, strict=True)
    ]


def _pose_line(line: str, number: int, name: str) -> tuple[list[float], int, str]:
    """Quaternion and translation, camera id and image name."""
    words = line.split()
    try:
        values = [float(word) for word in words[1:8]]
        camera_id, image_name = int(words[8]), words[9]
        if not all(map(math.isfinite, values)) or not any(values[:4]):
            raise ValueError("no pose")
    except (ValueError, IndexError) as error:
        raise _damaged(name, number, line, "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME") from error
    return values, camera_id, image_name


def images_by_folder(images: list[RegisteredImage]) -> dict[str, list[RegisteredImage]]:
    """Camera folder ("cam01") -> its registered images. There is no other table from camera ids to names."""
    folders: dict[str, list[RegisteredImage]] = {}
    for image in images:
        folders.setdefault(image.folder, []).append(image)
    return folders


def _lines(data: bytes, name: str) -> list[tuple[int, str]]:
    try:
        return list(enumerate(data.decode("utf-8").split("\n"), start=1))
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{name}: not a text file ({error})") from error


def _damaged(name: str, number: int, line: str, expected: str) -> DamagedFileError:
    return DamagedFileError(f"{name}, line {number}: found {line[:80]!r}, expected {expected}")
