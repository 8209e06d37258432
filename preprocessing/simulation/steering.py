"""Ground paths of people who share a room: goals pull them, walls and other people push them back."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter1d

_CLEARANCE = 0.85  # metres between two people that the push restores
_ACCELERATION = 5.0  # m/s², of somebody sprinting off
_TURN_RATE = 5.0  # rad/s, of somebody turning round in a hurry
LEAD_IN = 30  # frames simulated before the first one, so that everybody is under way when the take begins

Goals = Callable[[int, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def steer(start: np.ndarray, goals: Goals, frames: int, half_size: tuple[float, float], fps: float) -> np.ndarray:
    """Paths (T, P, 2) in metres of people who start at `start` (P, 2) and follow their goals without bumping.

    Args:
        start: (P, 2) metres, room frame, at least 0.85 m apart.
        goals: called with (frame, position (P, 2), velocity (P, 2)) in order of time; returns the velocity that each
            person wants (P, 2) in m/s, and who stays on the spot (P,) bool.
        frames: number of frames T.
        half_size: the room reaches from -x to x and from -y to y, metres.
        fps: frames per second.
    """
    position, velocity = np.array(start, float), np.zeros_like(start, dtype=float)
    walls = np.array(half_size)
    path = np.empty((frames, *position.shape))
    for frame in range(frames):
        wanted, staying = goals(frame, position, velocity)
        wanted = (
            wanted + _evasion(position, velocity) - 4.0 * np.sign(position) * np.maximum(np.abs(position) - walls, 0)
        )
        wanted[staying] = 0
        change = wanted - velocity
        limit = np.where(staying, 2.0, 1.0) * _ACCELERATION / fps
        velocity = velocity + change * np.minimum(1, limit / np.maximum(np.linalg.norm(change, axis=1), 1e-9))[:, None]
        position = _pushed_apart(position + velocity / fps, staying)
        path[frame] = position
    return gaussian_filter1d(path, 1.5, axis=0, mode="nearest")


def facing_along(
    path: np.ndarray, look: np.ndarray, fps: float, watchful: float = 0.0, seconds: float = 0.25
) -> np.ndarray:
    """Heading (T,) in radians, continuous: along the path when moving, towards `look` (T, 2) when slow.

    `watchful` from 0 to 1 is how much somebody who moves keeps turned towards what they look at.
    """
    velocity = np.gradient(path, 1 / fps, axis=0)
    speed = np.linalg.norm(velocity, axis=1, keepdims=True)
    towards = look - path
    towards = towards / np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-6)
    moving = np.clip((speed - 0.4) / 0.6, 0, 1) * (1 - watchful)
    heading = moving * velocity / np.maximum(speed, 1e-6) + (1.02 - moving) * towards
    heading = heading / np.maximum(np.linalg.norm(heading, axis=1, keepdims=True), 1e-6)
    angle = gaussian_filter1d(np.unwrap(np.arctan2(heading[:, 1], heading[:, 0])), 0.7 * seconds * fps, mode="nearest")
    for t in range(1, len(angle)):
        angle[t] = angle[t - 1] + np.clip(angle[t] - angle[t - 1], -_TURN_RATE / fps, _TURN_RATE / fps)
    return gaussian_filter1d(angle, 0.7 * seconds * fps, mode="nearest")


def spread_out(rng: np.random.Generator, count: int, half_size: tuple[float, float], apart: float = 1.2) -> np.ndarray:
    """Random places (P, 2) in the room, pairwise at least `apart` metres away from each other."""
    places = [rng.uniform(-1, 1, 2) * half_size]
    while len(places) < count:
        place = rng.uniform(-1, 1, 2) * half_size
        if min(np.hypot(*(place - other)) for other in places) >= apart:
            places.append(place)
    return np.array(places)


def _evasion(position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Velocity (P, 2) that keeps people from running into each other: away, and a little to the right."""
    gap = position[:, None] - position[None]
    distance = np.linalg.norm(gap, axis=-1) + 10 * np.eye(len(position))
    strength = 2.5 * np.clip((1.5 - distance) / 0.7, 0, 1) ** 2
    away = gap / np.maximum(distance, 1e-6)[..., None]
    right = np.stack([-away[..., 1], away[..., 0]], axis=-1)
    approaching = ((velocity[None] - velocity[:, None]) * away).sum(-1) > 0.5
    return (strength[..., None] * (away + 0.8 * approaching[..., None] * right)).sum(axis=1)


def _pushed_apart(position: np.ndarray, staying: np.ndarray) -> np.ndarray:
    position = position.copy()
    for _ in range(4):
        for i in range(len(position)):
            for j in range(i + 1, len(position)):
                gap = position[i] - position[j]
                distance = np.hypot(*gap)
                if distance >= _CLEARANCE:
                    continue
                push = (_CLEARANCE - distance) * (gap / distance if distance > 1e-6 else np.array([1.0, 0.0]))
                share = 0.5 if staying[i] == staying[j] else float(staying[j])
                position[i] += share * push
                position[j] -= (1 - share) * push
    return position
