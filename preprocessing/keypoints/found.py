"""What readers of keypoint formats hand over, before anything is assumed about what the file leaves open."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

UNNAMED = "camera"  # the camera of a file that names none


class KeypointsError(ValueError):
    """Keypoints that cannot be used as they are; the message says which file, what was found and what to do."""


@dataclass(frozen=True)
class Person:
    """One detected person: keypoints (J, 2) and scores (J,) as the file has them, scores None where it has none."""

    frame: int
    keypoints: np.ndarray
    scores: np.ndarray | None
    identity: str | None = None


@dataclass
class Found:
    """All people in one camera of a file.

    `frames` are the numbers of all frames, None where the file names only those with people. `units` is what the format
    defines: None where it does not say. `is_order_free` marks frame numbers that may be
    arbitrary, such as ids of images.
    """

    format: str
    people: list[Person]
    frames: list[int] | None = None
    camera: str = UNNAMED
    joint_set: str | None = None
    joint_names: list[str] | None = None
    image_size: tuple[int, int] | None = None
    fps: float | None = None
    units: str | None = None
    is_order_free: bool = False
    notes: list[str] = field(default_factory=list)


def triples(numbers: Iterable[float], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (J, 2) and third values (J,) of a flat list x y v x y v ..., or of a list of such triples.

    Raises:
        KeypointsError: not numbers, or not in threes.
    """
    values = numbers_of(numbers, where)
    if values.ndim == 2 and values.shape[1] == 3:
        values = values.reshape(-1)
    if values.ndim != 1 or values.size % 3:
        raise KeypointsError(f"{where}: keypoints of shape {values.shape}, expected x, y and score of every joint")
    return values.reshape(-1, 3)[:, :2], values.reshape(-1, 3)[:, 2]


def numbers_of(values: object, where: str) -> np.ndarray:
    """The values as float64, null as NaN. Raises KeypointsError when they are anything else than numbers."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise KeypointsError(f"{where}: expected numbers, found {str(values)[:60]!r} ({error})") from error


def identity_of(entry: dict, *keys: str) -> str | None:
    """The first of `keys` that names somebody, as text. -1 and null name nobody, a list stands for its only item."""
    for key in keys:
        value = entry.get(key)
        if isinstance(value, list):
            value = value[0] if len(value) == 1 else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is not None and value not in (-1, "-1", ""):
            return str(value)
    return None
