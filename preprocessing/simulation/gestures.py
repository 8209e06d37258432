"""Things that people do with arms and trunk in one go: hits, throws, jumps, kneeling down.

A gesture is a table of key moments, interpolated smoothly; wrists are in arm lengths from the shoulder along forward,
left and up of the chest (given for the arm that leads as if it were the left one, and mirrored for the right).
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import PchipInterpolator

from finepose_mp.preprocessing.simulation.motion import BALL_HEIGHT, FPS, Body, Performance, Reach

Keys = tuple[tuple[float, ...], ...]  # rows of (seconds, values...)

GRAVITY = 9.81


@dataclass(frozen=True)
class Gesture:
    """Key moments of the leading arm, the other arm and the trunk (twist to the leading side, lean, crouch in m)."""

    seconds: float
    leading: Keys = ()
    other: Keys = ()
    trunk: Keys = ()
    jump: float = 0.0  # height in metres, 0 when the feet stay on the floor
    elbow: tuple[float, float, float] = field(default=(-0.5, 0.6, -0.8))


SMASH = Gesture(
    0.9,
    leading=(
        (0, -0.2, 0.35, 0.55),
        (0.3, -0.35, 0.3, 0.8),
        (0.5, 0.35, 0.0, 0.9),
        (0.65, 0.75, -0.3, -0.2),
        (0.9, 0.4, -0.3, -0.6),
    ),
    other=((0, 0.5, 0.2, 0.6), (0.35, 0.5, 0.2, 0.5), (0.6, 0.2, 0.0, -0.4), (0.9, 0.3, 0.1, -0.5)),
    trunk=((0, 0.2, 0, 0.03), (0.3, 0.45, -0.12, 0.08), (0.55, -0.3, 0.25, 0.02), (0.9, 0, 0.05, 0)),
    elbow=(-0.2, 0.9, 0.1),
)
SPIKE = Gesture(1.3, SMASH.leading, SMASH.other, SMASH.trunk, jump=0.36, elbow=SMASH.elbow)
FOREHAND = Gesture(
    0.95,
    leading=(
        (0, 0.1, 0.6, -0.3),
        (0.3, -0.45, 0.75, -0.15),
        (0.55, 0.6, 0.5, -0.1),
        (0.75, 0.6, -0.45, 0.35),
        (0.95, 0.4, -0.2, -0.3),
    ),
    other=((0, 0.5, 0.1, 0), (0.5, 0.2, 0.4, -0.3), (0.95, 0.4, 0.1, -0.4)),
    trunk=((0, 0.3, 0.1, 0.06), (0.3, 0.7, 0.12, 0.12), (0.6, -0.35, 0.15, 0.05), (0.95, 0, 0.05, 0)),
)
BACKHAND = Gesture(
    0.95,
    leading=(
        (0, 0.4, -0.4, -0.25),
        (0.3, 0.15, -0.65, -0.3),
        (0.55, 0.6, 0.1, -0.15),
        (0.75, 0.3, 0.8, 0.3),
        (0.95, 0.4, 0.2, -0.3),
    ),
    other=((0, 0.45, 0.05, -0.3), (0.3, 0.3, 0.4, -0.35), (0.6, 0, 0.5, -0.5), (0.95, 0.3, 0.1, -0.5)),
    trunk=((0, -0.3, 0.15, 0.08), (0.3, -0.75, 0.2, 0.14), (0.6, 0.35, 0.1, 0.04), (0.95, 0, 0.05, 0)),
)
UNDERARM = Gesture(
    0.8,
    leading=(
        (0, 0.1, 0.4, -0.8),
        (0.25, -0.2, 0.45, -0.75),
        (0.45, 0.7, 0.2, -0.5),
        (0.6, 0.6, -0.15, 0.45),
        (0.8, 0.4, 0, -0.4),
    ),
    other=((0, 0.3, 0.3, -0.5), (0.8, 0.3, 0.2, -0.5)),
    trunk=((0, 0.15, 0.3, 0.15), (0.3, 0.25, 0.4, 0.22), (0.8, 0, 0.1, 0.02)),
)
BUMP = Gesture(
    0.8,
    leading=((0, 0.55, -0.25, -0.65), (0.35, 0.62, -0.3, -0.6), (0.5, 0.85, -0.3, -0.15), (0.8, 0.5, -0.2, -0.5)),
    other=((0, 0.55, -0.25, -0.65), (0.35, 0.62, -0.3, -0.6), (0.5, 0.85, -0.3, -0.15), (0.8, 0.5, -0.2, -0.5)),
    trunk=((0, 0, 0.35, 0.16), (0.35, 0, 0.4, 0.22), (0.5, 0, 0.2, 0.06), (0.8, 0, 0.1, 0.03)),
    elbow=(-0.1, 0.7, -0.7),
)
SET = Gesture(
    0.7,
    leading=((0, 0.35, -0.2, 0.35), (0.3, 0.3, -0.2, 0.5), (0.45, 0.3, -0.1, 0.92), (0.7, 0.4, 0, 0.2)),
    other=((0, 0.35, -0.2, 0.35), (0.3, 0.3, -0.2, 0.5), (0.45, 0.3, -0.1, 0.92), (0.7, 0.4, 0, 0.2)),
    trunk=((0, 0, -0.05, 0.1), (0.3, 0, -0.08, 0.14), (0.5, 0, -0.05, 0), (0.7, 0, 0, 0)),
    elbow=(0.5, 0.9, -0.1),
)
BLOCK = Gesture(1.3, SET.leading, SET.other, SET.trunk, jump=0.34, elbow=SET.elbow)
JUMP_SHOT = Gesture(
    1.3,
    leading=(
        (0, 0.5, -0.3, -0.2),
        (0.4, 0.35, -0.15, 0.35),
        (0.65, 0.45, -0.1, 0.88),
        (0.9, 0.6, -0.05, 0.7),
        (1.3, 0.4, 0, -0.3),
    ),
    other=(
        (0, 0.5, -0.3, -0.2),
        (0.4, 0.35, -0.15, 0.35),
        (0.6, 0.3, 0.0, 0.75),
        (0.9, 0.4, 0.1, 0.4),
        (1.3, 0.3, 0, -0.4),
    ),
    jump=0.30,
    elbow=(0.5, 0.5, -0.6),
)
PASS = Gesture(
    0.6,
    leading=((0, 0.3, -0.2, -0.1), (0.2, 0.3, -0.2, -0.05), (0.38, 0.93, -0.15, 0.05), (0.6, 0.5, 0, -0.3)),
    other=((0, 0.3, -0.2, -0.1), (0.2, 0.3, -0.2, -0.05), (0.38, 0.93, -0.15, 0.05), (0.6, 0.5, 0, -0.3)),
    trunk=((0, 0, 0, 0.03), (0.35, 0, 0.15, 0.06), (0.6, 0, 0.05, 0)),
)
SIGNAL = Gesture(
    1.6,
    leading=((0, 0.3, 0.3, -0.5), (0.4, 0.3, 0.85, 0.15), (1.1, 0.3, 0.85, 0.2), (1.6, 0.2, 0.3, -0.7)),
    elbow=(-0.3, 0.3, -1.0),
)


def perform(act: Performance, body: Body, gesture: Gesture, frame: int, leading: int) -> None:
    """Adds a gesture, begun at a frame and led by one arm (0 left, 1 right), to a performance."""
    clock = np.arange(len(act.path)) / FPS - frame / FPS
    arm = body.upper_arm + body.forearm
    active = np.clip(np.minimum(clock + 0.15, gesture.seconds + 0.2 - clock) / 0.2, 0, 1)
    active = active**2 * (3 - 2 * active)
    for side, keys in ((leading, gesture.leading), (1 - leading, gesture.other)):
        if keys:
            target = arm * _keyed(keys, clock) * [1, 1 - 2 * side, 1]
            act.reaches.append(Reach(side, active, target, in_chest=True, elbow=gesture.elbow))
    if gesture.trunk:
        twist, lean, crouch = (active[:, None] * _keyed(gesture.trunk, clock)).T
        act.twist += (1 - 2 * leading) * twist
        act.lean += lean
        act.crouch += crouch
    if gesture.jump:
        _jump(act, clock - 0.4, gesture.jump)


def _jump(act: Performance, clock: np.ndarray, height: float) -> None:
    """A jump that leaves the floor at clock 0: crouch, flight along a parabola with pointed toes, give on landing."""
    speed = np.sqrt(2 * GRAVITY * height)
    flight = 2 * speed / GRAVITY
    inside = (clock > 0) & (clock < flight)
    act.lift += np.where(inside, speed * clock - 0.5 * GRAVITY * clock**2, 0)
    before = _bump((clock + 0.4) / 0.4) * np.where(clock < 0, 1, 0)
    after = _bump((clock - flight) / 0.45) * np.where(clock > flight, 1, 0)
    act.crouch += 0.2 * before + 0.17 * after
    part = np.clip(clock / flight, 0, 1)
    push = np.clip(1 + clock / 0.1, 0, 1) * (clock <= 0)
    pointed = 0.75 * np.where(clock <= 0, push, 1 - part**2)
    act.foot_pitch += np.where(clock < flight, pointed, 0)[:, None]


def _bump(part: np.ndarray) -> np.ndarray:
    return np.sin(np.pi * np.clip(part, 0, 1)) ** 2


def ramp(clock: np.ndarray, begin: float, end: float) -> np.ndarray:
    """Smooth rise from 0 at `begin` to 1 at `end`."""
    part = np.clip((clock - begin) / (end - begin), 0, 1)
    return part**2 * (3 - 2 * part)


def _keyed(keys: Keys, clock: np.ndarray) -> np.ndarray:
    table = np.array(keys)
    return PchipInterpolator(table[:, 0], table[:, 1:])(np.clip(clock, table[0, 0], table[-1, 0]))


def kneel(act: Performance, body: Body, down: np.ndarray, first: int, both: bool, sit: float) -> None:
    """Lowers a performance onto its knees as far as `down` (T,) from 0 to 1 says; its path must rest meanwhile.

    Args:
        act, body: who kneels.
        down: 0 standing, 1 kneeling.
        first: side (0 left, 1 right) of the knee that goes down first.
        both: both knees, or only the first with the other foot flat in front.
        sit: 0 upright, 1 sitting back on the heels (only with both knees down).
    """
    knee_height = 0.055
    # One foot after the other: with one knee down, the foot that stays flat steps forward first.
    early, late = ramp(down, 0.0, 0.45), ramp(down, 0.4, 0.8)
    lead, follow = (early, late) if both else (late, early)
    toe_pitch = 1.9 if both else 1.25
    instep = body.ankle_height - BALL_HEIGHT
    ankle_height = BALL_HEIGHT + body.foot * np.sin(toe_pitch) + instep * np.cos(toe_pitch)
    upright = knee_height + 0.985 * body.thigh
    seat = 0.84 * body.thigh
    hip_height = upright + (seat - upright) * (sit if both else 0.0)
    hip_back = np.sqrt(max(body.thigh**2 - (hip_height - knee_height) ** 2, 0))
    ankle_back = np.sqrt(body.shank**2 - (ankle_height - knee_height) ** 2)
    ball_back = ankle_back + body.foot * (1 - np.cos(toe_pitch)) + instep * np.sin(toe_pitch)
    for side, part in ((first, lead), (1 - first, follow)):
        if both or side == first:
            act.foot_shift[:, side, 0] -= ball_back * part
            act.foot_pitch[:, side] += toe_pitch * part
        else:
            act.foot_shift[:, side, 0] += 0.9 * body.thigh * part
        act.foot_raise[:, side] += 0.06 * np.sqrt(4 * part * (1 - part))
    low, seated = ramp(down, 0.0, 0.8 if both else 1.0), ramp(down, 0.7, 1.0)
    act.crouch += (body.standing_hip_height - upright) * low + (upright - hip_height) * seated
    act.pelvis_shift[:, 0] -= hip_back * seated
    act.foot_turn *= (1 - 0.9 * low)[:, None]


def squat(act: Performance, body: Body, down: np.ndarray) -> None:
    """Squats on the balls of the feet as far as `down` (T,) from 0 to 1 says; the path must rest meanwhile."""
    hip_height = 0.30 * (body.thigh + body.shank) + body.ankle_height + 0.06
    act.crouch += (body.standing_hip_height - hip_height) * down
    act.pelvis_shift[:, 0] -= 0.10 * down
    act.foot_pitch += 0.45 * down[:, None]
