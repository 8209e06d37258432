"""Cameras of MPI-INF-3DHP: its calibration file, the built-in table, and pinholes fitted to annotations."""

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import numpy as np
import yaml

from finepose_mp.geometry import nearest_rotation
from finepose_mp.preprocessing.unpickling import DamagedFileError

TITLE = "Skeletool Camera Calibration File"
_MILLIMETRES = 1000.0  # in a metre
_WORDS = {"name", "sensor", "size", "animated", "intrinsic", "extrinsic", "radial"}
_LARGEST_CORRECTION = 1e-3  # of a rotation written with 7 digits, whose rounding stays below 1e-6


@dataclass(frozen=True)
class Pinhole:
    """A camera: fx fy cx cy (4,) in pixels, width and height, and world to camera (3, 4) in metres or None."""

    intrinsics: np.ndarray
    image_size: tuple[int, int]
    world_to_camera: np.ndarray | None


def parse_calibration(text: str, name: str) -> dict[int, Pinhole]:
    """Camera number -> camera, from the text of a camera.calibration.

    Key words are found wherever they stand, values by white space, so that neither blanks nor line ends matter.

    Args:
        text: content of the file.
        name: what to call the file in messages.

    Raises:
        DamagedFileError: another kind of file, or a camera that lacks something or is no camera.
    """
    if TITLE not in text[:200]:
        raise DamagedFileError(
            f"{name}: starts with {text[:40]!r}, expected {TITLE!r}; it is not a camera.calibration, download it again"
        )
    found = {}
    for camera in _split_cameras(text):
        number = _number(camera, name)
        if number in found:
            raise DamagedFileError(f"{name}: camera {number} is there twice; download it again")
        found[number] = _parse_camera(camera, f"{name}: camera {number}")
    if not found:
        raise DamagedFileError(f"{name}: names no camera; expected 14 (or 8) entries that start with 'name'")
    return found


@cache
def builtin_training() -> dict[int, Pinhole]:
    """The eight training cameras of the literature; their calibration is the same in all sequences."""
    return {int(number): _from_table(entry) for number, entry in _table()["train"].items()}


@cache
def builtin_test(sequence: str) -> Pinhole:
    """The camera of a test sequence, "TS1" to "TS6"; TS2's has no pose."""
    return _from_table(_table()["test"][sequence])


def fit_intrinsics(points_camera: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """fx fy cx cy (4,) of the pinhole that takes points (N, 3) closest to pixels (N, 2).

    Linear least squares of u z = fx x + cx z and v z = fy y + cy z, each divided by z so that residuals are pixels.
    """
    slopes = points_camera[:, :2] / points_camera[:, 2:]
    fitted = [
        np.linalg.lstsq(np.stack([slopes[:, i], np.ones(len(slopes))], axis=1), pixels[:, i], rcond=None)[0]
        for i in range(2)
    ]
    return np.array([fitted[0][0], fitted[1][0], fitted[0][1], fitted[1][1]])


def with_intrinsics(camera: Pinhole, intrinsics: np.ndarray) -> Pinhole:
    """The same camera with other fx fy cx cy."""
    return replace(camera, intrinsics=np.asarray(intrinsics, float))


def _split_cameras(text: str) -> list[dict[str, list[str]]]:
    """For every camera {key word: its values}."""
    cameras: list[dict[str, list[str]]] = []
    values: list[str] = []
    for word in text.replace(":", " ").split():
        if word == "name":
            cameras.append({})
        if word in _WORDS and cameras:
            values = cameras[-1].setdefault(word, [])
        else:
            values.append(word)
    return cameras


def _number(camera: dict[str, list[str]], name: str) -> int:
    label = " ".join(camera["name"])
    if not re.fullmatch(r"\d+", label):
        raise DamagedFileError(f"{name}: a camera's name is {label!r}, expected a number from 0 to 13")
    return int(label)


def _parse_camera(camera: dict[str, list[str]], where: str) -> Pinhole:
    size = _numbers(camera, "size", 2, where)
    intrinsic = _numbers(camera, "intrinsic", 16, where).reshape(4, 4)
    extrinsic = _numbers(camera, "extrinsic", 16, where).reshape(4, 4)
    if intrinsic[0, 1] or intrinsic[1, 0] or (intrinsic[2] != (0, 0, 1, 0)).any() or (size < 1).any():
        raise DamagedFileError(
            f"{where}: size {size.tolist()} and intrinsic {intrinsic.tolist()} are no pinhole without skew; "
            "download the file again"
        )
    pixels = intrinsic[[0, 1, 0, 1], [0, 1, 2, 2]]
    pose = _pose(extrinsic[:3, :3], extrinsic[:3, 3], where)
    return Pinhole(pixels, (int(size[0]), int(size[1])), pose)


def _numbers(camera: dict[str, list[str]], word: str, count: int, where: str) -> np.ndarray:
    found = camera.get(word, [])
    try:
        values = np.array([float(value) for value in found])
    except ValueError:
        values = np.array([np.nan])
    if len(values) != count or not np.isfinite(values).all():
        raise DamagedFileError(
            f"{where}: {word} is {' '.join(found[:20]) or 'missing'}, expected {count} numbers; download the file again"
        )
    return values


def _pose(rotation: np.ndarray, translation_mm: np.ndarray, where: str) -> np.ndarray:
    """World to camera (3, 4) in metres with a rotation that is one to the last digit."""
    nearest, correction = nearest_rotation(rotation)
    if correction > _LARGEST_CORRECTION:
        raise DamagedFileError(f"{where}: extrinsic is {correction:.2g} from a rotation; download the file again")
    return np.concatenate([nearest, np.asarray(translation_mm)[:, None] / _MILLIMETRES], axis=1)


def _from_table(entry: dict) -> Pinhole:
    pose = None
    if "rotation" in entry:
        pose = _pose(np.array(entry["rotation"], float), np.array(entry["translation_mm"], float), "built-in table")
    return Pinhole(np.array(entry["intrinsics"], float), tuple(entry["image_size"]), pose)


@cache
def _table() -> dict:
    return yaml.safe_load(files(__package__).joinpath("cameras.yaml").read_text(encoding="utf-8"))
