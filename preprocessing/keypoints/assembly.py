"""From what a file says to detections: joints by name, pixels, scores, frames; every assumption in words."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finepose_mp.cameras import denormalize_screen
from finepose_mp.preprocessing.keypoints.content import frame_number
from finepose_mp.preprocessing.keypoints.found import (
    SPARSEST,
    UNNAMED,
    Found,
    KeypointsError,
    Person,
    step_of,
)
from finepose_mp.preprocessing.keypoints.joints import Joints, recognise_joints
from finepose_mp.skeletons import joint_set as find_joint_set
from finepose_mp.tracking import Detections, repeated_ids

UNITS = ("px", "fraction", "screen")
DEFAULT_FPS = 30.0

# Shares of sure keypoints outside the image, by more than _MARGIN of its longer side: detectors put joints of people
# whom the border cuts a little beyond it, and some of them put the legs of a half-body image far below it.
_MARGIN = 0.02
_NOTED_OUTSIDE, _MOST_OUTSIDE, _MOSTLY_INSIDE = 0.05, 0.5, 0.02

_MOST_FRAMES = 10**9  # a year at 30 frames a second
_LEAST_MILLISECONDS, _MOST_APART = 10, 1000  # steps that may be times; steps that no every n-th frame has
_MINUTE, _HOUR = 41, 4041  # from HHMM59 to the next, and from HH5959


@dataclass(frozen=True)
class ReadingOptions:
    """What the user says about the keypoints, None where the file is to say it.

    Attributes:
        joint_set: name of the joint set.
        image_size: width and height in pixels of the image the keypoints refer to.
        fps: frames a second.
        units: px; fraction (0..1 of width and height); or screen (-1..1 by the width, as lifting papers do).
        sequence: which one, of a file of this toolkit that holds several.
        ignore_ids: whether ids in the file are dropped, so that people are associated anew.
        camera_size: width and height in pixels that the camera was calibrated for, taken where nothing else is known.
    """

    joint_set: str | None = None
    image_size: tuple[int, int] | None = None
    fps: float | None = None
    units: str | None = None
    sequence: str | None = None
    ignore_ids: bool = False
    camera_size: tuple[int, int] | None = None


def assemble(found: Found, options: ReadingOptions, source: str) -> Detections:
    """Detections from what a reader found, all that was assumed said in `assumptions`.

    Raises:
        KeypointsError: nobody in it; files of frames far from the others; unknown joints; no image size; keypoints
            that seem not to be pixels or lie outside the image; an id that names two people of one frame.
    """
    named = "" if found.camera == UNNAMED else f", camera {found.camera}"
    notes = [f"{source}: {found.format}{named}", *found.notes]
    joints = recognise_joints(found, options.joint_set, source)
    notes.append(joints.said)
    people = sorted(found.people, key=lambda person: person.frame)
    frame, frame_index = _frames(found, people, source, notes)
    keypoints, scores = _stack(people, joints, notes)
    size = _image_size(found, options, source, notes)
    units = options.units or found.units
    keypoints = _in_pixels(keypoints, size, units, options.units is not None, source, notes)
    _check_inside(keypoints, scores, size, source, notes)
    detections = Detections(
        keypoints=keypoints,
        scores=scores,
        frame_index=frame_index,
        frame=frame,
        joint_set=joints.name,
        image_size=size,
        fps=_rate(found, options, step_of(frame), source, notes),
        ids=_ids(people, frame_index, options, notes),
        camera=found.camera,
        assumptions=tuple(notes),
    )
    _check_ids(detections, source)
    return detections


def _frames(found: Found, people: list[Person], source: str, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (T,) of all frames, increasing, and the position among them of every person (N,).

    Where most numbers follow each other, those left out are frames without people. Others stay as they are.
    """
    index = np.array([person.frame for person in people])
    numbers = np.unique(index if found.frames is None else found.frames)
    if found.is_order_free and np.ptp(numbers) + 1 > SPARSEST * len(numbers):
        notes.append(f"ids of images ({numbers[0]} ... {numbers[-1]}) are no frame numbers: taken in their order")
        return np.arange(len(numbers)), np.searchsorted(numbers, index)
    steps = np.diff(numbers)
    step = step_of(numbers)
    count = int(numbers[-1] - numbers[0]) // step + 1
    is_too_long = count > SPARSEST * len(numbers)
    typical = np.sort(steps)[(len(steps) - 1) // 2] if len(steps) else step
    are_times = _are_times(numbers, steps)
    if not are_times and typical == step and is_too_long and Path(source).is_dir():
        raise KeypointsError(
            f"{source}: {_far_away(numbers, steps, source)} is far from the others of {len(numbers)} frames, numbered "
            f"{numbers[0]} ... {numbers[-1]}; take it out, or give each recording alone"
        )
    if are_times or numbers[-1] > _MOST_FRAMES:
        notes.append(
            f"WARNING: {len(numbers)} frame numbers {numbers[0]} ... {numbers[-1]} seem to be times: taken in their "
            "order, the n-th of every camera for one moment; say with --fps how many there are a second"
        )
        return np.arange(len(numbers)), np.searchsorted(numbers, index)
    if typical != step or is_too_long:
        notes.append(
            f"frame numbers {numbers[0]} ... {numbers[-1]} are unevenly apart, typically by {typical}: taken as they "
            "are, and poses of these frames as following each other; if these are times, number frames one by one"
        )
        return numbers, np.searchsorted(numbers, index)
    frame = np.arange(numbers[0], numbers[-1] + 1, step)
    if found.frames is not None and len(frame) > len(numbers):
        what = "have no file" if Path(source).is_dir() else "are not in it"
        notes.append(
            f"{len(frame) - len(numbers)} frame numbers between {frame[0]} and {frame[-1]} {what}: taken as frames "
            "without people"
        )
    return frame, np.searchsorted(frame, index)


def _are_times(numbers: np.ndarray, steps: np.ndarray) -> bool:
    """Whether numbers (T,), and steps (T - 1,) between them, are those of a clock and count no frames."""
    if numbers[0] > _MOST_FRAMES:
        return True
    if not len(steps):
        return False
    if (steps == steps[0]).all():
        return bool(steps[0] > _MOST_APART)
    hops = steps != 1
    if np.isin(steps, (1, _MINUTE, _HOUR)).all() and (numbers[:-1][hops] % 100 == 59).all():  # HHMMSS
        return True
    typical = np.median(steps)
    is_even = np.abs(steps - typical) <= 0.25 * typical
    jitters = step_of(numbers) < typical  # every n-th frame does not
    return bool(jitters and typical >= _LEAST_MILLISECONDS and len(steps) > 3 and is_even.mean() > 0.9)


def _far_away(numbers: np.ndarray, steps: np.ndarray, folder: str) -> str:
    """Name of the file beside the longest hole among frame numbers, on its side of fewer files."""
    hole = int(np.argmax(steps))
    number = numbers[hole + 1] if hole + 1 >= len(numbers) / 2 else numbers[hole]
    names = sorted(file.name for file in Path(folder).iterdir() if not file.name.startswith("."))
    return next(name for name in names if frame_number(name) == number)


def _stack(people: list[Person], joints: Joints, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (N, J, 2), NaN where missing, and scores (N, J) in 0..1, 0 where missing."""
    raw = np.stack([person.keypoints for person in people])
    if all(person.scores is None for person in people):
        scores = np.ones(raw.shape[:2])
        notes.append("no scores: every keypoint counts fully, those at exactly (0, 0) are missing")
    else:
        scores = np.stack([np.ones(len(p.keypoints)) if p.scores is None else p.scores for p in people])
    undefined = np.isnan(scores).sum()
    if undefined:
        notes.append(f"{undefined} scores are not numbers: those keypoints are taken as missing")
    scores = np.where(np.isnan(scores), 0.0, scores)
    if set(np.unique(scores)) <= {0.0, 1.0, 2.0} and (scores == 2).any():
        notes.append("third values are visibility flags 0, 1, 2: hidden and visible joints count fully")
    elif (scores > 1.01).any():
        notes.append(f"scores reach {scores.max():.2f}: those above 1 count as 1")
    missing = (scores <= 0) | ~np.isfinite(raw).all(axis=-1) | (raw == 0).all(axis=-1)
    keypoints = np.full((len(people), len(find_joint_set(joints.name)), 2), np.nan)
    ordered = np.zeros(keypoints.shape[:2])
    keypoints[:, joints.target] = np.where(missing[..., None], np.nan, raw)
    ordered[:, joints.target] = np.where(missing, 0.0, np.clip(scores, 0.0, 1.0))
    return keypoints, ordered


def _image_size(found: Found, options: ReadingOptions, source: str, notes: list[str]) -> tuple[int, int]:
    size = options.image_size or found.image_size or options.camera_size
    if size is None:
        raise KeypointsError(
            f"{source}: {found.format} does not say how large the images are; pass their size, for example "
            "--image-size 1920 1080"
        )
    if len(size) != 2 or min(size) < 1:
        raise KeypointsError(f"{source}: image size {size}, expected width and height in pixels")
    if options.image_size and found.image_size and tuple(options.image_size) != tuple(found.image_size):
        notes.append(f"image size {options.image_size} as given, not {found.image_size} as in the file")
    known = "given" if options.image_size else "from the file" if found.image_size else "of the camera"
    notes.append(f"image size {size[0]} x {size[1]} ({known})")
    return int(size[0]), int(size[1])


def _rate(found: Found, options: ReadingOptions, step: int, source: str, notes: list[str]) -> float:
    """Frames a second of the frames that are there, every `step`-th of the source's."""
    of_file = found.fps or None  # OpenCV says 0 of images
    given = of_file if options.fps is None else options.fps
    if given is not None and not 0 < given < 10_000:
        raise KeypointsError(f"{source}: {given} frames a second is no frame rate; pass the right one with --fps")
    rate = float(given or DEFAULT_FPS)
    known = "given" if options.fps else "from the file" if of_file else "ASSUMED: the file does not say, pass --fps"
    notes.append(f"{rate:g} frames a second ({known})")
    if options.fps and of_file and options.fps != of_file:
        notes.append(f"the file says {of_file:g} frames a second")
    if step > 1:
        times = " (are they milliseconds, pass --fps 1000)" if step >= _LEAST_MILLISECONDS else ""
        notes.append(f"frame numbers are {step} apart, so that makes {rate / step:g} of these frames a second{times}")
    return rate / step


def _in_pixels(
    keypoints: np.ndarray, size: tuple[int, int], units: str | None, is_given: bool, source: str, notes: list[str]
) -> np.ndarray:
    if units not in (None, *UNITS):
        raise KeypointsError(f"{source}: unknown units {units!r}; known: {', '.join(UNITS)}")
    known = keypoints[np.isfinite(keypoints).all(axis=-1)]
    if not is_given and units in (None, "px") and len(known) and (np.abs(known) <= 2).mean() > 0.99:
        raise KeypointsError(
            f"{source}: keypoints lie between {known.min():.2f} and {known.max():.2f}, so they are probably not "
            "pixels. Are they fractions of width and height (pass --units fraction), centred and divided by half "
            "the width (--units screen), or really pixels (--units px)?"
        )
    if units == "fraction":
        notes.append("keypoints are fractions of the image's width and height")
        return keypoints * np.array(size, float)
    if units == "screen":
        notes.append("keypoints are screen coordinates, -1..1 by the width")
        return denormalize_screen(keypoints, np.array(size, float))
    notes.append("keypoints are pixels")
    return keypoints


def _check_inside(
    keypoints: np.ndarray, scores: np.ndarray, size: tuple[int, int], source: str, notes: list[str]
) -> None:
    sure = keypoints[np.isfinite(keypoints).all(axis=-1) & (scores > 0.3)]
    if not len(sure):
        raise KeypointsError(f"{source}: not a single keypoint with a score above 0.3")
    outside = _share_outside(sure, size)
    if outside < _NOTED_OUTSIDE:
        return
    exchanged = ""
    if _share_outside(sure, size[::-1]) < _MOSTLY_INSIDE:
        exchanged = " (are people cut off by its border, or width and height exchanged?)"
    high = np.percentile(sure, 99, axis=0)
    said = (
        f"{outside:.0%} of the keypoints lie outside an image of {size[0]} x {size[1]} (they reach to {high[0]:.0f}, "
        f"{high[1]:.0f}){exchanged}"
    )
    if outside > _MOST_OUTSIDE:
        raise KeypointsError(f"{source}: {said}; pass the size of the images they were found in, or their units")
    notes.append(said)


def _share_outside(keypoints: np.ndarray, size: tuple[int, int]) -> float:
    """Share of keypoints (n, 2) farther from the image than the margin."""
    margin = _MARGIN * max(size)
    return float(((keypoints < -margin) | (keypoints > np.array(size) + margin)).any(axis=-1).mean())


def _ids(
    people: list[Person], frame_index: np.ndarray, options: ReadingOptions, notes: list[str]
) -> tuple[str, ...] | None:
    ids = [person.identity for person in people]
    if None in ids:
        if any(ids):
            notes.append(f"{ids.count(None)} of {len(ids)} people have no id, so all ids are left aside")
        return None
    crowded = max(Counter(frame_index.tolist()).values()) > 1
    if crowded and len(set(ids)) == 1:  # what programs write when tracking is off
        notes.append(f"everybody has the id {ids[0]}, so there are no ids")
        return None
    if options.ignore_ids:
        notes.append(f"{len(set(ids))} ids of the file left aside, as asked")
        return None
    notes.append(f"people are told apart by {len(set(ids))} ids of the file")
    return tuple(ids)


def _check_ids(detections: Detections, source: str) -> None:
    repeated = repeated_ids(detections)
    if repeated:
        frame, identity = repeated[0]
        raise KeypointsError(
            f"{source}: in frame {frame} id {identity} names more than one person ({len(repeated)} such cases); "
            "correct the file, or pass --ignore-ids to associate people by their motion"
        )
