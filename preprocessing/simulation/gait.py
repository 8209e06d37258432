"""Footsteps of somebody following a ground path: which foot stands where and when, and how the other swings.

Steps alternate with a cadence that follows the speed. A foot is put where the body will be in the middle of its stance
and stays there, exactly, until it is lifted; somebody who has stopped takes the last steps needed to stand well.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

_SUBSTEPS = 4  # of the step planner in every frame
_MISPLACED = 0.07  # metres off its place beyond which the foot of a standing person takes a step
_MISTURNED = 0.45  # radians, likewise
_LONG_STEP = 0.5  # leg lengths that a foot may trail its place before the next step is hurried
_SHORTEST_SWING = 0.2  # seconds
_PLANTED = -1e9


@dataclass(frozen=True)
class Gait:
    """Feet along a path, T frames: left foot first on every axis of two.

    foot_position (T, 2, 2) m, ground point below the ankle of the flat foot; foot_height (T, 2) m, of the ball above
    its place on the floor; foot_yaw, foot_pitch (T, 2) rad, pitch raises the heel; standing (T, 2) bool; phase (T,) in
    strides, whole when the left foot lands; velocity (T, 2) m/s and speed (T,) m/s of the path.
    """

    foot_position: np.ndarray
    foot_height: np.ndarray
    foot_yaw: np.ndarray
    foot_pitch: np.ndarray
    standing: np.ndarray
    phase: np.ndarray
    velocity: np.ndarray
    speed: np.ndarray


@dataclass
class _Steps:
    """One foot's landings: seconds of landing and of lifting, and places (x, y, yaw)."""

    landed: list[float]
    lifted: list[float]
    place: list[np.ndarray]


def walk(
    path: np.ndarray, facing: np.ndarray, stance: np.ndarray, foot_turn: np.ndarray, leg: float, fps: float
) -> Gait:
    """The gait of a person along a path.

    Args:
        path: (T, 2) metres.
        facing: (T,) radians, continuous.
        stance: (T, 2, 2) metres forward and left of the path where the ankles belong.
        foot_turn: (T, 2) radians, of the feet against the facing.
        leg: length of the leg in metres; short legs step faster.
        fps: frames per second.
    """
    velocity = gaussian_filter1d(np.gradient(path, 1 / fps, axis=0), 1.5, axis=0, mode="nearest")
    speed = np.linalg.norm(velocity, axis=1)
    turning = np.abs(gaussian_filter1d(np.gradient(facing, 1 / fps), 1.5, mode="nearest"))
    places = _places(path, facing, stance, foot_turn, speed)
    phase, steps = _plan(places, speed, turning, leg, fps)
    feet = [_swing(foot, np.arange(len(path)) / fps, speed, fps) for foot in steps]
    position, height, yaw, pitch, standing = (np.stack(part, axis=1) for part in zip(*feet, strict=True))
    return Gait(position, height, yaw, pitch, standing, phase, velocity, speed)


def _places(
    path: np.ndarray, facing: np.ndarray, stance: np.ndarray, turn: np.ndarray, speed: np.ndarray
) -> np.ndarray:
    """Where each foot belongs at each frame, (T, 2, 3) of x, y, yaw; running feet land closer to the middle."""
    narrow = np.interp(speed, [0, 1.2, 3], [1, 0.75, 0.35])[:, None]
    forward, left = stance[..., 0], stance[..., 1] * narrow
    cos, sin = np.cos(facing)[:, None], np.sin(facing)[:, None]
    x = path[:, :1] + cos * forward - sin * left
    y = path[:, 1:] + sin * forward + cos * left
    return np.stack([x, y, facing[:, None] + turn], axis=-1)


def _cadence(speed: float, leg: float) -> float:
    """Strides (two steps) a second of adults walking and running at that speed, m/s."""
    return 0.81 * max(speed, 0.5) ** 0.46 * (0.85 / leg) ** 0.5


def _duty(speed: float | np.ndarray) -> float | np.ndarray:
    """The part of a stride during which a foot stands; below one half there is a flight phase."""
    return np.interp(speed, [0, 1.6, 2.3, 3.5], [0.66, 0.60, 0.44, 0.34])


def _plan(
    places: np.ndarray, speed: np.ndarray, turning: np.ndarray, leg: float, fps: float
) -> tuple[np.ndarray, tuple[_Steps, _Steps]]:
    """The stride phase (T,) and the steps of both feet, decided moment by moment."""
    frames = len(places)
    moments = np.arange((frames - 1) * _SUBSTEPS + 1) / (_SUBSTEPS * fps)
    clock = np.arange(frames) / fps
    speeds, turns = np.interp(moments, clock, speed), np.interp(moments, clock, turning)
    targets = np.stack(
        [[np.interp(moments, clock, places[:, side, axis]) for axis in range(3)] for side in (0, 1)]
    ).transpose(2, 0, 1)
    steps = tuple(_Steps([_PLANTED], [], [targets[0, side]]) for side in (0, 1))
    phase, phases = 0.25, np.empty(len(moments))
    for m, now in enumerate(moments):
        phases[m] = phase
        stride = _cadence(max(speeds[m], 0.5 * turns[m]), leg)
        duty = float(_duty(speeds[m]))
        in_stride = [(phase + 0.5 * side) % 1.0 for side in (0, 1)]
        soon = min(m + round(0.1 * fps * _SUBSTEPS), len(moments) - 1)
        for side in (0, 1):
            swinging = len(steps[side].lifted) == len(steps[side].landed)
            # A foot lifted in this stride lands in the next, whatever the speed has become meanwhile.
            if swinging and in_stride[side] < 0.34 and now - steps[side].lifted[-1] > _SHORTEST_SWING:
                ahead = min(m + round(duty / 2 / stride * fps * _SUBSTEPS), len(moments) - 1)
                steps[side].landed.append(now)
                steps[side].place.append(_within_reach(targets[ahead, side], targets[m, side], _LONG_STEP * leg))
            elif not swinging and in_stride[side] >= duty:
                steps[side].lifted.append(now)
        standing = [s for s in (0, 1) if len(steps[s].lifted) < len(steps[s].landed)]
        trailing = max((_distance(steps[s].place[-1], targets[m, s]) for s in standing), default=0)
        stride *= 1 + np.clip((trailing / leg - _LONG_STEP) / 0.15, 0, 1)
        if (
            len(standing) < 2
            or speeds[m] > 0.15
            or any(_misplaced(steps[s].place[-1], targets[soon, s]) for s in (0, 1))
        ):
            phase += max(stride, 0.8) / (fps * _SUBSTEPS)
    return phases[::_SUBSTEPS], steps


def _misplaced(place: np.ndarray, target: np.ndarray) -> bool:
    return _distance(place, target) > _MISPLACED or abs(place[2] - target[2]) > _MISTURNED


def _within_reach(place: np.ndarray, here: np.ndarray, reach: float) -> np.ndarray:
    """The place itself, or the point on the way to it that is no farther than `reach`."""
    part = min(1.0, reach / max(_distance(place, here), 1e-9))
    return np.array([*(here[:2] + part * (place[:2] - here[:2])), place[2]])


def _distance(place: np.ndarray, target: np.ndarray) -> float:
    return float(np.hypot(place[0] - target[0], place[1] - target[1]))


def _swing(foot: _Steps, clock: np.ndarray, speed: np.ndarray, fps: float) -> tuple[np.ndarray, ...]:
    """One foot at every frame: position (T, 2), height of the ball (T,), yaw (T,), pitch (T,), standing (T,) bool."""
    end = clock[-1] + 10.0  # a last step, lifted within the sequence, lands somewhere beyond it
    landed, place = np.array([*foot.landed, end]), np.array([*foot.place, foot.place[-1]])
    lifted = np.array([*foot.lifted, *[end + 1] * (len(landed) - len(foot.lifted))])
    if len(foot.lifted) == len(foot.landed):
        landed[-1] = foot.lifted[-1] + 0.4
        lifted[-1] = end + 1
    step = np.searchsorted(landed, clock, side="right") - 1
    following = np.minimum(step + 1, len(landed) - 1)
    standing = clock < lifted[step]
    pace = np.interp(np.minimum(lifted[step], clock[-1]), clock, speed)
    part = np.clip((clock - lifted[step]) / np.maximum(landed[following] - lifted[step], 1 / fps), 0, 1)
    eased = part**2 * (3 - 2 * part)
    where = place[step] + eased[:, None] * (place[following] - place[step])
    heel_off = np.interp(pace, [0, 0.3, 1.4, 3.0], [0.05, 0.3, 0.75, 1.0])
    rise = np.clip(1 - (lifted[step] - clock) / np.minimum(0.45 * (lifted[step] - landed[step]), 0.25), 0, 1)
    kick = np.interp(pace, [1.0, 3.0], [0.25, 1.1])
    bump = np.sin(np.pi * part)
    swing_pitch = heel_off * (1 - eased) + kick * bump**2 * (1 - part) - 0.22 * bump**2 * part
    pitch = np.where(standing, heel_off * rise**2 * (3 - 2 * rise), swing_pitch)
    height = np.where(standing, 0, np.interp(pace, [0, 1.4, 3.0], [0.05, 0.06, 0.14]) * bump)
    return where[:, :2], height, where[:, 2], pitch, standing
