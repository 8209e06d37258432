"""From what a file says to detections: joints by name, pixels, scores, frames; every assumption in words."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from finepose_mp.cameras import denormalize_screen
from finepose_mp.preprocessing.keypoints.found import UNNAMED, Found, KeypointsError, Person
from finepose_mp.preprocessing.keypoints.joints import Joints, recognise_joints
from finepose_mp.skeletons import joint_set as find_joint_set
from finepose_mp.tracking import Detections, repeated_ids

UNITS = ("px", "fraction", "screen")
DEFAULT_FPS = 30.0

# Frame numbers farther apart than this on average are no clock: they are ids of images.
_SPARSEST = 50


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
        KeypointsError: nobody in it; unknown joints; no image size; keypoints that seem not to be pixels or lie outside
            the image; an id that names two people of one frame.
    """
    named = "" if found.camera == UNNAMED else f", camera {found.camera}"
    notes = [f"{source}: {found.format}{named}", *found.notes]
    joints = recognise_joints(found, options.joint_set, source)
    notes.append(joints.said)
    people = sorted(found.people, key=lambda person: person.frame)
    frame, frame_index = _frames(found, people, notes)
    keypoints, scores = _stack(people, joints, notes)
    size = _image_size(found, options, source, notes)
    keypoints = _in_pixels(keypoints, size, found.units, options.units, source, notes)
    _check_inside(keypoints, scores, size, source)
    detections = Detections(
        keypoints=keypoints,
        scores=scores,
        frame_index=frame_index,
        frame=frame,
        joint_set=joints.name,
        image_size=size,
        fps=_rate(found, options, _step(frame), notes),
        ids=_ids(people, frame_index, options, notes),
        camera=found.camera,
        assumptions=tuple(notes),
    )
    _check_ids(detections, source)
    return detections


def _frames(found: Found, people: list[Person], notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers (T,), and the position among them of every person (N,)."""
    numbers = np.unique([person.frame for person in people])
    index = np.array([person.frame for person in people])
    if found.frames is not None:
        frame = np.array(sorted(found.frames))
    elif found.is_order_free and np.ptp(numbers) + 1 > _SPARSEST * len(numbers):
        notes.append(f"ids of images ({numbers[0]} ... {numbers[-1]}) are no frame numbers: taken in their order")
        frame, index = np.arange(len(numbers)), np.searchsorted(numbers, index)
    else:
        frame = np.arange(numbers[0], numbers[-1] + 1, _step(numbers))
    return frame, np.searchsorted(frame, index)


def _step(frame: np.ndarray) -> int:
    """What all frame numbers are apart from each other, a multiple of it; 1 for a single frame."""
    return math.gcd(*np.diff(frame).tolist()) or 1


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


def _rate(found: Found, options: ReadingOptions, step: int, notes: list[str]) -> float:
    """Frames a second of the frames that are there, every `step`-th of the source's."""
    if options.fps is not None and not 0 < options.fps < 10_000:
        raise KeypointsError(f"{options.fps} frames a second is no frame rate")
    rate = float(options.fps or found.fps or DEFAULT_FPS)
    known = "given" if options.fps else "from the file" if found.fps else "ASSUMED: the file does not say, pass --fps"
    notes.append(f"{rate:g} frames a second ({known})")
    if options.fps and found.fps and options.fps != found.fps:
        notes.append(f"the file says {found.fps:g} frames a second")
    if step > 1:
        notes.append(f"frame numbers are {step} apart, so that makes {rate / step:g} of these frames a second")
    return rate / step


def _in_pixels(
    keypoints: np.ndarray, size: tuple[int, int], defined: str | None, given: str | None, source: str, notes: list[str]
) -> np.ndarray:
    units = given or defined
    if units not in (None, *UNITS):
        raise KeypointsError(f"{source}: unknown units {units!r}; known: {', '.join(UNITS)}")
    known = keypoints[np.isfinite(keypoints).all(axis=-1)]
    if given is None and defined in (None, "px") and len(known) and (np.abs(known) <= 2).mean() > 0.99:
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


def _check_inside(keypoints: np.ndarray, scores: np.ndarray, size: tuple[int, int], source: str) -> None:
    sure = keypoints[np.isfinite(keypoints).all(axis=-1) & (scores > 0.3)]
    if not len(sure):
        raise KeypointsError(f"{source}: not a single keypoint with a score above 0.3")
    outside = ((sure < 0) | (sure > np.array(size))).any(axis=-1).mean()
    if outside > 0.5:
        high = np.percentile(sure, 99, axis=0)
        raise KeypointsError(
            f"{source}: {outside:.0%} of the keypoints lie outside an image of {size[0]} x {size[1]} (they reach to "
            f"{high[0]:.0f}, {high[1]:.0f}); pass the size of the images they were found in, or their units"
        )


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
