"""Recorded motion of single people, put together into a scene in which nobody bumps into another.

A motion file is a `.npz` without pickles: `positions` (frames, joints, 3) metres, z up; `joint` names, of which `l_toe`
and `r_toe` are used; `coco17`, the index of each coco17 joint; `clip`, `action`, `split`, `start`, `length`,
`take_group`, one entry a clip; `fps`. Clips of one take group show the same performance on several bodies.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from finepose_mp.preprocessing.simulation.motion import BALL_HEIGHT, FPS, Motion
from finepose_mp.skeletons import COCO17

KEYS = ("positions", "joint", "coco17", "clip", "action", "split", "start", "length", "take_group", "fps")

_HIPS, _EARS = [11, 12], [3, 4]
_LIMBS = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))
_STRETCH = 0.01  # a limb whose length varies by more (deviation over mean) was not recorded well
_AIRBORNE = 0.12  # metres above the clip's floor from which the lowest foot counts as off the floor
_MOST_AIRBORNE = 0.3  # part of a clip; beyond it somebody climbs, and there is nothing to climb here
_SHORTEST = 1.0  # seconds
_APART = 0.8  # metres between two pelvises
_LOOKING_DOWN = 0.1  # radians
_LEG_OF_HEIGHT = 0.49  # leg length over body height (Winter, figure 4.1)


class MotionFileError(ValueError):
    """A motion file that cannot be used; the message names the file, the key and what was expected."""


@dataclass(frozen=True)
class _Clip:
    name: str
    action: str
    split: str
    take_group: int
    joints: np.ndarray  # (N, 17, 3)
    toes: np.ndarray  # (N, 2, 3)


class MotionFile:
    """The usable clips of a motion file."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            MotionFileError: absent, no `.npz`, without one of the keys, inconsistent, or a take group in two splits.
        """
        self.path = Path(path)
        arrays = _load(self.path)
        self.fps = float(arrays["fps"])
        self.clips = [clip for clip in _clips(arrays, self.path) if _is_usable(clip, self.fps)]
        splits: dict[int, str] = {}
        for group, split in zip(arrays["take_group"].tolist(), arrays["split"].tolist(), strict=True):
            if splits.setdefault(group, split) != split:
                raise MotionFileError(f"{self.path}: take_group {group} is in splits {splits[group]} and {split}")

    @cached_property
    def sha256(self) -> str:
        """Digest of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def motion(
        self,
        split: str,
        people: int,
        frames: int,
        words: tuple[str, ...],
        half_size: tuple[float, float],
        rng: np.random.Generator,
    ) -> Motion:
        """People in one room, each with a clip of another take group of that split.

        A clip is resampled to 20 frames a second, played a little slower or faster, perhaps mirrored, scaled to a
        plausible body height, turned about the vertical and put somewhere in the room. One shorter than the take is
        played forwards and backwards in turn, slowing down smoothly before each turn: joints never jump, bones and
        floor contact stay those of the recording, though some steps are walked backwards.

        Args:
            split: only clips of this split are used.
            people, frames: size of the result.
            words: clips whose action contains one of them are preferred.
            half_size: of the room in metres; it grows where people would not fit.

        Raises:
            MotionFileError: the split has fewer usable take groups than people.
        """
        chosen = self._choose(split, people, words, rng)
        played = [_play(clip, frames, self.fps, rng) for clip in chosen]
        placed = _place(played, half_size, rng)
        joints, toes = (np.stack(parts, axis=1) for parts in zip(*placed, strict=True))
        return Motion(joints, toes, _head_rotation(joints), tuple(clip.name for clip in chosen))

    def _choose(self, split: str, people: int, words: tuple[str, ...], rng: np.random.Generator) -> list[_Clip]:
        clips = [clip for clip in self.clips if clip.split == split]
        groups = {clip.take_group for clip in clips}
        if len(groups) < people:
            raise MotionFileError(
                f"{self.path}: split {split!r} has {len(groups)} usable take groups, a scene of {people} people needs "
                "as many; give a motion file with more clips of that split"
            )
        chosen: list[_Clip] = []
        for _ in range(people):
            taken = {clip.take_group for clip in chosen}
            free = [clip for clip in clips if clip.take_group not in taken]
            weights = np.array([15.0 if any(word in clip.action.lower() for word in words) else 1.0 for clip in free])
            chosen.append(free[int(rng.choice(len(free), p=weights / weights.sum()))])
        return chosen


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file.files]
            if missing:
                raise MotionFileError(f"{path}: key {', '.join(missing)} missing; expected {', '.join(KEYS)}")
            return {key: file[key] for key in KEYS}
    except MotionFileError:
        raise
    except FileNotFoundError as error:
        raise MotionFileError(f"{path}: no such motion file") from error
    except Exception as error:  # numpy, zipfile and zlib raise many kinds on damaged bytes
        raise MotionFileError(f"{path}: no readable .npz file ({type(error).__name__}: {error})") from error


def _clips(arrays: dict[str, np.ndarray], path: Path) -> list[_Clip]:
    positions, names = arrays["positions"], arrays["joint"].tolist()
    if positions.ndim != 3 or positions.shape[1:] != (len(names), 3):
        raise MotionFileError(f"{path}: positions have shape {positions.shape}, expected (frames, {len(names)}, 3)")
    counts = {len(arrays[key]) for key in ("clip", "action", "split", "start", "length", "take_group")}
    gather = arrays["coco17"]
    if len(counts) > 1 or len(gather) != len(COCO17) or not ({"l_toe", "r_toe"} <= set(names)):
        raise MotionFileError(f"{path}: expected one entry a clip, 17 coco17 indices and joints l_toe and r_toe")
    if gather.min() < 0 or gather.max() >= len(names):
        raise MotionFileError(f"{path}: coco17 indices must lie in 0..{len(names) - 1}, found {gather.tolist()}")
    end = arrays["start"] + arrays["length"]
    if arrays["start"].min() < 0 or end.max() > len(positions):
        raise MotionFileError(f"{path}: clips reach to frame {end.max()}, positions have {len(positions)}")
    toes = [names.index("l_toe"), names.index("r_toe")]
    return [
        _Clip(str(name), str(action), str(split), int(group), positions[a:b][:, gather], positions[a:b][:, toes])
        for name, action, split, group, a, b in zip(
            *(arrays[key] for key in ("clip", "action", "split", "take_group", "start")), end, strict=True
        )
    ]


def _is_usable(clip: _Clip, fps: float) -> bool:
    """Whether a clip is long enough, keeps its limb lengths, and mostly has a foot on one level floor."""
    if len(clip.joints) < _SHORTEST * fps or not np.isfinite(clip.joints).all() or not np.isfinite(clip.toes).all():
        return False
    for a, b in _LIMBS:
        lengths = np.linalg.norm(clip.joints[:, a] - clip.joints[:, b], axis=-1)
        if lengths.std() > _STRETCH * lengths.mean():
            return False
    lowest = clip.toes[..., 2].min(axis=1)
    return bool(np.mean(lowest - np.percentile(lowest, 5) > _AIRBORNE) < _MOST_AIRBORNE)


def _play(clip: _Clip, frames: int, fps: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Joints (T, 17, 3) and toes (T, 2, 3) of a clip at 20 frames a second, of a plausible body, standing on z = 0."""
    points = np.concatenate([clip.joints, clip.toes], axis=1).astype(np.float64)
    leg = np.linalg.norm(np.diff(points[0, [11, 13, 15]], axis=0), axis=-1).sum()
    scale = np.clip(rng.normal(1.72, 0.09), 1.55, 1.9) * _LEG_OF_HEIGHT / leg
    rate = rng.uniform(0.9, 1.1) / np.sqrt(scale)  # small bodies move quicker, like pendulums
    seconds = (len(points) - 1) / fps
    points = CubicSpline(np.arange(len(points)) / fps, points)(_times(seconds, rate, frames, rng)) * scale
    if rng.random() < 0.5:
        points = points[:, [*COCO17.mirror, 18, 17]] * [1, -1, 1]
    points[..., 2] += BALL_HEIGHT - points[:, 17:, 2].min()
    points[..., 2] += max(0.0, BALL_HEIGHT - points[:, :17, 2].min())  # hands and knees have been on the floor, too
    return points[:, :17], points[:, 17:]


def _times(seconds: float, rate: float, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Moments (T,) of a clip of that many seconds: a stretch of it, or to and fro with rounded turns."""
    needed = (frames - 1) / FPS * rate
    if needed <= seconds:
        return rng.uniform(0, seconds - needed) + np.arange(frames) / FPS * rate
    margin = 12
    clock = rng.uniform(0, 2 * seconds) + np.arange(-margin, frames + margin) / FPS * rate
    to_and_fro = seconds - np.abs(clock % (2 * seconds) - seconds)
    return gaussian_filter1d(to_and_fro, 2.5)[margin:-margin]


def _head_rotation(joints: np.ndarray) -> np.ndarray:
    """Rotations (T, ..., 3, 3), columns forward, left and up, of the heads in coco17 joints (T, ..., 17, 3).

    Recordings put the face on the head at different tilts, so the direction in which the eyes lie from the ears has to
    be levelled: people are taken to look slightly down in the middle (median) of their tilts.
    """
    left = _unit(joints[..., 3, :] - joints[..., 4, :])
    eyes = _unit(joints[..., [1, 2], :].mean(axis=-2) - joints[..., _EARS, :].mean(axis=-2))
    tilt = np.median(np.arcsin(eyes[..., 2]), axis=0)[..., None] + _LOOKING_DOWN
    across = _unit(np.cross(eyes, left))
    forward = np.cos(tilt) * np.cross(left, across) - np.sin(tilt) * across
    return np.stack([forward, left, np.cross(forward, left)], axis=-1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _place(
    played: list[tuple[np.ndarray, np.ndarray]], half_size: tuple[float, float], rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same people turned and moved: no two pelvises closer than 0.8 m, facing each other if possible."""
    placed: list[tuple[np.ndarray, np.ndarray]] = []
    room = np.array(half_size)
    for joints, toes in played:
        ground = joints[:, _HIPS, :2].mean(axis=1)
        ground = ground - (ground.max(axis=0) + ground.min(axis=0)) / 2
        heading = _head_rotation(joints)[:, :2, 0]
        found = None
        while found is None:
            found = _free_place(ground, heading, placed, room, rng)
            room = room if found else 1.1 * room
        angle, offset = found
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shift = offset - (joints[0, _HIPS, :2].mean(axis=0) - ground[0]) @ turn.T
        placed.append(tuple(_moved(points, turn, shift) for points in (joints, toes)))
    return placed


def _free_place(
    ground: np.ndarray,
    heading: np.ndarray,
    placed: list[tuple[np.ndarray, np.ndarray]],
    room: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, np.ndarray] | None:
    """An angle and an offset (2,) for a centred path (T, 2) among people already there; None if there is no room."""
    tries = 200
    angles, offsets = rng.uniform(0, 2 * np.pi, tries), rng.uniform(-1, 1, (tries, 2)) * room
    turns = np.stack([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]).transpose(2, 0, 1)
    paths = np.einsum("nij,tj->nti", turns, ground) + offsets[:, None]
    sights = np.einsum("nij,tj->nti", turns, heading)
    fits = (np.abs(paths) <= 1.15 * room).all(axis=(1, 2))
    seen = 0.3 * rng.random(tries)
    for joints, _ in placed:
        gap = joints[:, _HIPS, :2].mean(axis=1) - paths
        distance = np.linalg.norm(gap, axis=-1)
        fits &= (distance > _APART).all(axis=1)
        seen += ((gap * sights).sum(-1) > 0.7 * distance).mean(axis=1)
    if not fits.any():
        return None
    best = int(np.argmax(np.where(fits, seen, -1)))
    return float(angles[best]), offsets[best]


def _moved(points: np.ndarray, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Points (..., 3) turned about the vertical and shifted on the ground."""
    return np.concatenate([points[..., :2] @ turn.T + shift, points[..., 2:]], axis=-1)
