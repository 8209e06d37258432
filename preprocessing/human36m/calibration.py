"""The four cameras of Human3.6M: from the data set's metadata.xml where there is one, else from the built-in table.

World to camera: x_camera = R (x_world - centre) with R = Rx(a) Ry(b) Rz(c); lens in the form of `human36m`, whose
tangential terms are not OpenCV's. Lengths of the sources are millimetres, those returned here metres.
"""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import h5py
import numpy as np
import yaml

from finepose_mp.cameras import Camera
from finepose_mp.preprocessing.human36m.files import RawDataError, open_hdf5, read_bytes, reject_web_page

LENS = "human36m"
METADATA_FILE = "metadata.xml"

_SUBJECTS_IN_METADATA = tuple(f"S{number}" for number in range(1, 12))
_MAX_METADATA_BYTES = 10_000_000
_POSE_NUMBERS, _LENS_NUMBERS = 6, 9
# Published copies of the numbers differ by their rounding to float32.
_SAME_METRES, _SAME_ROTATION, _SAME_PIXELS = 1e-5, 1e-5, 1e-3


class Deviation(NamedTuple):
    """A camera of an archive that is not the published one."""

    subject: str
    camera: str
    message: str


@dataclass(frozen=True)
class Calibration:
    """Poses and lenses of the four cameras.

    Attributes:
        source: where it comes from, for messages.
        poses: subject -> camera -> (6,) Euler angles in radians and centre in millimetres.
        lenses: camera -> (9,) fx fy cx cy k1 k2 k3 p1 p2 in pixels.
        source_files: file -> {"sha256": ...}, empty for the built-in table.
    """

    source: str
    poses: dict[str, dict[str, np.ndarray]]
    lenses: dict[str, np.ndarray]
    source_files: dict[str, dict]

    def cameras(self, subject: str) -> dict[str, Camera]:
        """Camera name -> camera of that subject's recording session, in the published order."""
        sizes = image_sizes(subject)
        return {
            name: Camera(LENS, self.lenses[name], sizes[name], _world_to_camera(self.poses[subject][name]))
            for name in camera_names()
        }


def camera_names() -> tuple[str, ...]:
    """The four camera names in the order of the data set, which is that of lists in community archives."""
    return tuple(_table()["lens"])


def image_sizes(subject: str) -> dict[str, tuple[int, int]]:
    """Camera -> width and height of that subject's videos in pixels: S4, S7 and S10 have four of the same height."""
    sizes = _table()["image_size"]
    exception = sizes["exceptions"].get(subject)
    return {name: tuple(exception or size) for name, size in sizes["default"].items()}


@cache
def built_in() -> Calibration:
    """The published cameras of the seven subjects with poses."""
    table = _table()
    poses = {
        subject: {name: np.array(said["euler"] + said["centre"]) for name, said in by_camera.items()}
        for subject, by_camera in table["pose"].items()
    }
    lenses = {name: np.array(numbers) for name, numbers in table["lens"].items()}
    return Calibration("built-in table", poses, lenses, {})


def read_metadata(path: Path) -> Calibration:
    """The cameras of a metadata.xml, of eleven subjects.

    Raises:
        RawDataError: not that file, or of another number of cameras; the message says what was found.
    """
    data = read_bytes(path, _MAX_METADATA_BYTES)
    reject_web_page(data, path)
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise RawDataError(f"{path}: not readable XML ({error}); download it again") from error
    names = [(element.text or "").strip() for element in root.findall("dbcameras/index2id/*")]
    names = names or [name.strip() for name in (root.findtext("dbcameras/index2id") or "").split()]
    if sorted(names) != sorted(camera_names()):
        raise RawDataError(
            f"{path}: <dbcameras> names {len(names)} cameras ({', '.join(names)}), expected the four of Human3.6M: "
            f"{', '.join(camera_names())}. This calibration does not belong to the data set"
        )
    numbers = _numbers_of_w0(root, path)
    count = len(names) * len(_SUBJECTS_IN_METADATA) * _POSE_NUMBERS
    pose_numbers = numbers[:count].reshape(len(names), len(_SUBJECTS_IN_METADATA), _POSE_NUMBERS)
    lens_numbers = numbers[count:].reshape(len(names), _LENS_NUMBERS)
    poses = {
        subject: {name: pose_numbers[k, s] for k, name in enumerate(names)}
        for s, subject in enumerate(_SUBJECTS_IN_METADATA)
    }
    digest = {METADATA_FILE: {"sha256": sha256(data).hexdigest()}}
    return Calibration(str(path), poses, dict(zip(names, lens_numbers, strict=True)), digest)


def compare_with_table(calibration: Calibration) -> list[Deviation]:
    """Cameras that are not those of the built-in table; rounding to float32 is no difference."""
    deviations = []
    for subject in built_in().poses:
        expected, found = built_in().cameras(subject), calibration.cameras(subject)
        for name in camera_names():
            deviations += _compare(found[name], expected[name], subject, name, calibration.source)
    return deviations


def compare_tree_cameras(path: Path) -> list[Deviation]:
    """Cameras in a cameras.h5 of 3d-pose-baseline's tree that are not those of the built-in table.

    Raises:
        RawDataError: not such a file, or a subject with another number of cameras.
    """
    with open_hdf5(path) as file:
        subjects = [subject for subject in built_in().poses if f"subject{subject[1:]}" in file]
        return [deviation for subject in subjects for deviation in _compare_tree_subject(file, subject, path)]


def _compare_tree_subject(file: h5py.File, subject: str, path: Path) -> list[Deviation]:
    group = file[f"subject{subject[1:]}"]
    if len(group) != len(camera_names()):
        raise RawDataError(
            f"{path}: {group.name} has {len(group)} cameras ({', '.join(group)}), expected {len(camera_names())}. "
            "This calibration does not belong to the data set; remove the file to use the built-in one"
        )
    deviations = []
    for k, (name, expected) in enumerate(built_in().cameras(subject).items(), start=1):
        try:
            numbers = {key: np.asarray(group[f"camera{k}"][key], float) for key in ("R", "T", "f", "c", "k", "p")}
            rotation = numbers["R"].reshape(3, 3).T  # stored by columns
            lens = np.concatenate([numbers[key].ravel() for key in ("f", "c", "k", "p")])
            translation = -rotation @ numbers["T"].reshape(3) / 1000
        except (KeyError, ValueError) as error:
            raise RawDataError(f"{path}: {group.name}/camera{k}: {error}; expected R, T, f, c, k and p") from error
        found = Camera(LENS, lens, expected.image_size, np.column_stack([rotation, translation]))
        deviations += _compare(found, expected, subject, name, str(path))
    return deviations


def _compare(found: Camera, expected: Camera, subject: str, name: str, source: str) -> list[Deviation]:
    """The deviation of a camera from the published one, or nothing."""
    pose = np.abs(found.world_to_camera - expected.world_to_camera)
    lens = np.abs(found.params - expected.params).max() if found.params.shape == expected.params.shape else np.inf
    parts = []
    if not pose[:, :3].max() < _SAME_ROTATION:
        parts.append(f"is turned (matrix entries by up to {pose[:, :3].max():.2g}) from")
    if not pose[:, 3].max() < _SAME_METRES:
        parts.append(f"is up to {pose[:, 3].max():.2g} m from")
    if not lens < _SAME_PIXELS:
        parts.append(f"has lens parameters up to {lens:.2g} from those of")
    if not parts:
        return []
    message = f"camera {name} of {subject} in {source} {' and '.join(parts)} the published one"
    return [Deviation(subject, name, message)]


def _world_to_camera(pose: np.ndarray) -> np.ndarray:
    """The rigid transform (3, 4) in metres of three Euler angles in radians and a centre in millimetres."""
    a, b, c = pose[:3]
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    rotation = about_x @ about_y @ about_z
    return np.column_stack([rotation, -rotation @ pose[3:] / 1000])


def _numbers_of_w0(root: ElementTree.Element, path: Path) -> np.ndarray:
    expected = len(camera_names()) * (len(_SUBJECTS_IN_METADATA) * _POSE_NUMBERS + _LENS_NUMBERS)
    text = next((element.text or "" for element in root.iter("w0")), "")
    try:
        numbers = np.array([float(word) for word in text.replace("[", " ").replace("]", " ").split()])
    except ValueError as error:
        raise RawDataError(f"{path}: <w0> holds more than numbers ({error}); download it again") from error
    if len(numbers) != expected or not np.isfinite(numbers).all():
        raise RawDataError(
            f"{path}: <w0> has {len(numbers)} numbers, expected {expected}: 4 cameras x 11 subjects x 6 and 4 x 9. "
            "A calibration with another number of cameras does not belong to the data set"
        )
    return numbers


@cache
def _table() -> dict:
    return yaml.safe_load(resources.files(__package__).joinpath("cameras.yaml").read_text(encoding="utf-8"))
