"""What people do in the four ball games: run, jump, throw and hit, on one court or on both sides of a net."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finepose_mp.preprocessing.simulation.gestures import (
    BACKHAND,
    BLOCK,
    BUMP,
    FOREHAND,
    JUMP_SHOT,
    PASS,
    SET,
    SMASH,
    SPIKE,
    UNDERARM,
    Gesture,
    perform,
    ramp,
)
from finepose_mp.preprocessing.simulation.motion import FPS, Body, Performance, Reach, smooth_noise, still
from finepose_mp.preprocessing.simulation.steering import Goals, facing_along, spread_out, steer

_BEFORE_CONTACT = 0.5  # seconds from the beginning of a hit to the ball
_SETTLE = 0.25  # seconds that somebody stands before jumping


@dataclass(frozen=True)
class _Contact:
    """Somebody plays the ball: when (seconds), who, with which gesture, where (2,) in metres."""

    seconds: float
    player: int
    gesture: Gesture
    place: np.ndarray


@dataclass(frozen=True)
class _Net:
    """A game over a net at x = 0: half size of the court in metres, seconds between hits, the hits and how often.

    `touches` is the number of hits a side has; `hits` lists for each touch the gestures, one of which is played.
    """

    half_size: tuple[float, float]
    pause: tuple[float, float]
    hits: tuple[tuple[Gesture, ...], ...]
    crouch: float


_VOLLEYBALL = _Net((4.6, 3.2), (0.9, 1.4), ((BUMP, BUMP, SET), (SET, BUMP), (SPIKE, SPIKE, SMASH, SET)), 0.12)
_BADMINTON = _Net((4.2, 2.6), (0.9, 1.5), ((SMASH, SMASH, SPIKE, UNDERARM, FOREHAND, BACKHAND),), 0.09)
_TENNIS = _Net((6.5, 3.6), (1.3, 2.0), ((FOREHAND, FOREHAND, BACKHAND, BACKHAND, SMASH),), 0.10)


def play_volleyball(rng: np.random.Generator, bodies: list[Body], frames: int) -> list[Performance]:
    """Two against two over a net: receive, set, spike, with blocks."""
    return _play_over_net(rng, bodies, frames, _VOLLEYBALL)


def play_badminton(rng: np.random.Generator, bodies: list[Body], frames: int) -> list[Performance]:
    """Doubles with overhead and underarm strokes."""
    return _play_over_net(rng, bodies, frames, _BADMINTON)


def play_tennis(rng: np.random.Generator, bodies: list[Body], frames: int) -> list[Performance]:
    """Forehands, backhands and smashes from far behind the net."""
    return _play_over_net(rng, bodies, frames, _TENNIS)


def play_basketball(rng: np.random.Generator, bodies: list[Body], frames: int) -> list[Performance]:
    """One dribbles, passes or shoots; the others run free or defend with spread arms."""
    count, room = len(bodies), (3.6, 3.2)
    plan = _ball_plan(rng, count, frames)
    waypoints = rng.uniform(-1, 1, (frames // 30 + 2, count, 2)) * room
    pace = rng.uniform(1.2, 3.2, (frames // 30 + 2, count, 1))
    carrier = np.zeros(frames, int)
    for contact, following in zip(plan, [*plan[1:], None], strict=True):
        carrier[int(max(contact.seconds, 0) * FPS) : None if following is None else int(following.seconds * FPS)] = (
            contact.player
        )
    offsets = rng.integers(0, 30, count)

    def goals(frame: int, position: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        leg = (frame + offsets) // 30
        people = np.arange(count)
        wanted = 1.2 * (waypoints[leg, people] - position)
        wanted *= np.minimum(1, pace[leg, people] / np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 0.1))
        return wanted, _jumping(plan, frame, count)

    path = steer(spread_out(rng, count, (2.6, 2.4)), goals, frames, room, FPS)
    ball = path[np.arange(frames), carrier]
    basket = np.array([room[0] + 0.8, 0.0])
    acts = []
    for p, body in enumerate(bodies):
        has_ball = carrier == p
        look = np.where(has_ball[:, None], basket, ball)
        gaze = np.where(has_ball[:, None], [*basket, 2.4], _above(ball, 1.2))
        act = still(body, path[:, p], facing_along(path[:, p], look, FPS, watchful=0.35), gaze)
        act.crouch += 0.06 + 0.04 * smooth_noise(rng, (frames,), 1.0).clip(-1, 2)
        act.lean += 0.12
        _dribble(rng, act, body, _eased(has_ball))
        _defend(rng, act, body, _eased(~has_ball & (smooth_noise(rng, (frames,), 1.5) > 0)))
        acts.append(act)
    for contact in plan:
        arm = int(rng.integers(2))
        perform(acts[contact.player], bodies[contact.player], contact.gesture, _start(contact), arm)
    return acts


def _ball_plan(rng: np.random.Generator, count: int, frames: int) -> list[_Contact]:
    """Who plays the ball when; each contact's player holds it until the next player gets it."""
    plan, now, player = [], 0.0, int(rng.integers(count))
    while now < frames / FPS:
        now += rng.uniform(1.5, 3.5)
        plan.append(_Contact(now, player, JUMP_SHOT if rng.random() < 0.45 else PASS, np.zeros(2)))
        player = int((player + rng.integers(1, count)) % count)
    return [_Contact(-1.0, plan[0].player, PASS, np.zeros(2)), *plan]


def _dribble(rng: np.random.Generator, act: Performance, body: Body, weight: np.ndarray) -> None:
    clock, arm = np.arange(len(weight)) / FPS, body.upper_arm + body.forearm
    side = int(rng.integers(2))
    beat = np.cos(2 * np.pi * rng.uniform(1.4, 1.9) * clock + rng.uniform(0, 6))
    target = np.stack([0.45 + 0.05 * beat, np.full_like(beat, 0.3 - 0.6 * side), -0.6 + 0.2 * beat], axis=1)
    act.reaches.append(Reach(side, weight, arm * target, in_chest=True, elbow=(-0.8, 0.5, -0.2)))
    act.lean += 0.15 * weight


def _defend(rng: np.random.Generator, act: Performance, body: Body, weight: np.ndarray) -> None:
    arm = body.upper_arm + body.forearm
    for side, sign in enumerate((1.0, -1.0)):
        wave = 0.15 * smooth_noise(rng, (len(weight), 3), 0.7)
        target = arm * (np.array([0.35, 0.7 * sign, 0.1]) + wave)
        act.reaches.append(Reach(side, weight, target, in_chest=True, elbow=(-0.2, 0.5, -0.8)))
    act.crouch += 0.07 * weight
    act.stance[:, :, 1] *= 1 + 0.6 * weight[:, None]


def _play_over_net(rng: np.random.Generator, bodies: list[Body], frames: int, game: _Net) -> list[Performance]:
    count = len(bodies)
    side = np.where(np.arange(count) < (count + 1) // 2, -1.0, 1.0)
    homes = _homes(side, game)
    plan = _rally(rng, side, homes, frames, game)
    path = steer(
        homes + rng.uniform(-0.2, 0.2, homes.shape), _rally_goals(rng, plan, homes, frames), frames, game.half_size, FPS
    )
    ball = _ball_path(plan, frames)
    acts = []
    for p, body in enumerate(bodies):
        across = np.stack([np.full(frames, -4.0 * side[p]), 0.4 * ball[:, 1]], axis=1)
        act = still(body, path[:, p], facing_along(path[:, p], across, FPS, watchful=0.9), _above(ball, 1.7))
        act.stance[:, :, 1] *= rng.uniform(1.4, 2.0)
        act.crouch += game.crouch * (1 + 0.3 * smooth_noise(rng, (frames,), 0.8)).clip(0.2, 2)
        act.lean += rng.uniform(0.15, 0.3)
        _hands_ready(rng, act, body)
        acts.append(act)
    leading = rng.random(count) < 0.85
    for contact in plan:
        p = contact.player
        perform(acts[p], bodies[p], contact.gesture, _start(contact), int(leading[p]))
    return acts


def _homes(side: np.ndarray, game: _Net) -> np.ndarray:
    """Where the players of both sides (P,) wait, (P, 2): side by side, two metres or more apart."""
    homes = np.zeros((len(side), 2))
    for sign in (-1.0, 1.0):
        members = np.flatnonzero(side == sign)
        homes[members, 0] = sign * 0.55 * game.half_size[0]
        homes[members, 1] = (np.arange(len(members)) - (len(members) - 1) / 2) * 0.9 * game.half_size[1]
    return homes


def _rally(rng: np.random.Generator, side: np.ndarray, homes: np.ndarray, frames: int, game: _Net) -> list[_Contact]:
    """The contacts of the whole take in order of time, sides taking turns."""
    contacts, now, sign, touch = [], rng.uniform(-1, 0.5), rng.choice([-1.0, 1.0]), 0
    last = -1
    while now < frames / FPS + 1:
        now += rng.uniform(*game.pause)
        members = np.flatnonzero(side == sign)
        others = members[members != last] if len(members) > 1 else members
        last = int(rng.choice(others if touch else members))
        spot = homes[last] + rng.uniform(-1, 1, 2) * 0.3 * np.array(game.half_size)
        gestures: Sequence[Gesture] = game.hits[touch]
        gesture = gestures[int(rng.integers(len(gestures)))]
        if gesture is SPIKE and len(game.hits) > 1:
            spot[0] = 1.0 * sign
            _add_block(rng, contacts, side, sign, homes, now)
        contacts.append(_Contact(now, last, gesture, spot))
        touch += 1
        if touch == len(game.hits):
            touch, sign = 0, -sign
    return sorted(contacts, key=lambda contact: contact.seconds)


def _add_block(
    rng: np.random.Generator, contacts: list[_Contact], side: np.ndarray, sign: float, homes: np.ndarray, now: float
) -> None:
    blockers = np.flatnonzero(side == -sign)
    if rng.random() < 0.5:
        blocker = int(rng.choice(blockers))
        contacts.append(_Contact(now + 0.05, blocker, BLOCK, np.array([-0.8 * sign, homes[blocker, 1]])))


def _rally_goals(rng: np.random.Generator, plan: list[_Contact], homes: np.ndarray, frames: int) -> Goals:
    """Players run to where they will hit, back home in between."""
    wander = 0.35 * smooth_noise(rng, (frames, *homes.shape), 1.5)

    def goals(frame: int, position: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        now = frame / FPS
        wanted = 1.5 * (homes + wander[frame] - position)
        wanted *= np.minimum(1, 1.8 / np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 0.1))
        for contact in reversed(plan):
            if -0.3 < contact.seconds - now < 1.3:
                left = max(contact.seconds - now - 0.15, 0.3)
                way = (contact.place - position[contact.player]) / left
                wanted[contact.player] = way * min(1, 3.4 / max(np.linalg.norm(way), 0.1))
        return wanted, _jumping(plan, frame, len(homes))

    return goals


def _jumping(plan: list[_Contact], frame: int, count: int) -> np.ndarray:
    """Who stays on the spot (P,) because of a jump."""
    staying = np.zeros(count, bool)
    for contact in plan:
        since = frame / FPS - contact.seconds + _BEFORE_CONTACT
        staying[contact.player] |= contact.gesture.jump > 0 and -_SETTLE < since < 1.35
    return staying


def _start(contact: _Contact) -> int:
    return round((contact.seconds - _BEFORE_CONTACT) * FPS)


def _ball_path(plan: list[_Contact], frames: int) -> np.ndarray:
    """Ground point (T, 2) below the ball, flying from contact to contact; only gaze follows it."""
    clock = np.arange(frames) / FPS
    times = [contact.seconds for contact in plan]
    return np.stack([np.interp(clock, times, [contact.place[i] for contact in plan]) for i in (0, 1)], axis=1)


def _hands_ready(rng: np.random.Generator, act: Performance, body: Body) -> None:
    """Hands in front of somebody waiting for the ball; running swings them freely."""
    frames, arm = len(act.path), body.upper_arm + body.forearm
    speed = np.linalg.norm(np.gradient(act.path, 1 / FPS, axis=0), axis=1)
    weight = 0.85 * (1 - ramp(speed, 1.2, 2.2))
    for side, sign in enumerate((1.0, -1.0)):
        target = np.array([0.5, 0.05 * sign, -0.35]) + 0.08 * smooth_noise(rng, (frames, 3), 0.9)
        act.reaches.append(Reach(side, weight, arm * target, in_chest=True, elbow=(-0.5, 0.5, -0.8)))


def _eased(condition: np.ndarray) -> np.ndarray:
    """Weight (T,) that follows a condition (T,) within a few tenths of a second."""
    kernel = np.hanning(9) / np.hanning(9).sum()
    return np.convolve(np.pad(condition.astype(float), 4, mode="edge"), kernel, mode="valid")


def _above(ground: np.ndarray, height: float) -> np.ndarray:
    return np.concatenate([ground, np.full((len(ground), 1), height)], axis=1)
