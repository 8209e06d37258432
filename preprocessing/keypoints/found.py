"""What readers of keypoint formats hand over, before anything is assumed about what the file leaves open."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from finepose_mp.schema import SchemaError

UNNAMED = "camera"  # the camera of a file that names none

# Numbers farther apart than this on average, in their smallest common step, do not count frames.
SPARSEST = 50

LARGEST_WHOLE = 2**62  # differences of any two still are int64
_KINDS = {dict: "an object with keys", list: "a list", str: "text"}


class KeypointsError(ValueError):
    """Keypoints that cannot be used as they are; the message says which file, what was found and what to do."""


@contextmanager
def form_checked(path: object, error_type: type[ValueError], docs: str) -> Iterator[None]:
    """For reading a file of others: whatever its contents make a reader raise becomes an error that names the file.

    Errors that name it already (OSError, SchemaError and `error_type`) pass as they are.
    """
    try:
        yield
    except (OSError, SchemaError, error_type):
        raise
    except Exception as error:  # contents of an unexpected form make readers raise almost anything
        raise error_type(
            f"{path}: damaged or of an unexpected form ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); see {docs}"
        ) from error


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


def step_of(numbers: Sequence[int]) -> int:
    """What all numbers are apart from each other, a multiple of it; 1 for a single one."""
    return math.gcd(*(int(number) - int(numbers[0]) for number in numbers)) or 1


def are_frames(numbers: Sequence[int]) -> bool:
    """Whether numbers can be those of frames: not so far apart that nearly all frames in between are lacking."""
    return (max(numbers) - min(numbers)) // step_of(numbers) < SPARSEST * len(numbers)


def triples(numbers: Iterable[float], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (J, 2) and third values (J,) of a flat list x y v x y v ..., or of a list of such triples.

    Raises:
        KeypointsError: not numbers, or not in threes.
    """
    values = numbers_of(numbers, where)
    if values.ndim == 2 and values.shape[1] == 3:
        values = values.reshape(-1)
    if values.ndim != 1 or values.size % 3 or not values.size:
        raise KeypointsError(f"{where}: keypoints of shape {values.shape}, expected x, y and score of every joint")
    return values.reshape(-1, 3)[:, :2], values.reshape(-1, 3)[:, 2]


def numbers_of(values: object, where: str) -> np.ndarray:
    """The values as float64, null as NaN. Raises KeypointsError when they are anything else than numbers."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise KeypointsError(f"{where}: expected numbers, found {str(values)[:60]!r} ({error})") from error


def whole_number(value: object, where: str) -> int:
    """A number of a frame or of pixels, also where it came as text or as 3.0. Raises KeypointsError for others."""
    try:
        number = float(value) if isinstance(value, str) else value
        if isinstance(number, bool) or number != int(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise KeypointsError(f"{where} is {_shown(value)}, expected a whole number") from None
    if abs(number) > LARGEST_WHOLE:
        raise KeypointsError(f"{where} is {_shown(value)}, too large: number frames and images from 0 on")
    return int(number)


def of_kind(value: object, kind: type, where: str) -> object:
    """The value, when it is a dict, list or str as expected. Raises KeypointsError otherwise."""
    if not isinstance(value, kind):
        raise KeypointsError(f"{where} is {_shown(value)}, expected {_KINDS[kind]}")
    return value


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)[:60]


def person_of(frame: int, keypoints: object, scores: object | None, identity: str | None, where: str) -> Person:
    """A person of keypoints (J, 2) and scores (J,). Raises KeypointsError when they are anything else."""
    keypoints = numbers_of(keypoints, where)
    if keypoints.ndim != 2 or keypoints.shape[1] != 2:
        raise KeypointsError(f"{where}: keypoints of shape {keypoints.shape}, expected (joints, 2)")
    if scores is not None:
        scores = numbers_of(scores, where)
        if scores.shape != keypoints.shape[:1]:
            raise KeypointsError(f"{where}: scores of shape {scores.shape} for {len(keypoints)} joints")
    return Person(frame, keypoints, scores, identity)


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
