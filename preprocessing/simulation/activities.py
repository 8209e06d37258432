"""What people do in the three test scenes: playing tag, assembling on the floor, fencing."""

import numpy as np

from finepose_mp.preprocessing.simulation.gestures import SIGNAL, kneel, perform, ramp, squat
from finepose_mp.preprocessing.simulation.motion import FPS, Body, Performance, Reach, smooth_noise, still
from finepose_mp.preprocessing.simulation.steering import facing_along, spread_out, steer

EYE_HEIGHT = 1.55  # metres, where other people's faces are when gaze is planned


def play_tag(rng: np.random.Generator, bodies: list[Body], frames: int) -> list[Performance]:
    """One person is "it", chases the nearest other and passes it on by touching; the others run away or walk about."""
    path, chaser, touches = _tag_paths(rng, len(bodies), frames)
    now = np.arange(frames)
    acts = []
    for p, body in enumerate(bodies):
        others = [q for q in range(len(bodies)) if q != p]
        nearest = np.array(others)[np.argmin(np.linalg.norm(path[:, others] - path[:, [p]], axis=-1), axis=1)]
        look = np.where((chaser == p)[:, None], path[now, nearest], path[now, chaser])
        facing = facing_along(path[:, p], look, FPS)
        act = still(body, path[:, p], facing, _at_height(_glances(rng, look, path[:, others], frames), EYE_HEIGHT))
        act.crouch += 0.05 * (1 + smooth_noise(rng, (frames,), 1.0)).clip(0, 2)
        act.lean += 0.08 * smooth_noise(rng, (frames,), 1.0).clip(-0.5, 2)
        acts.append(act)
    for frame, tagger, tagged in touches:
        _touch(acts[tagger], path[:, tagged], bodies[tagged], frame, int(rng.integers(2)))
    return acts


def _tag_paths(
    rng: np.random.Generator, count: int, frames: int
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int]]]:
    """Paths (T, P, 2), who is "it" (T,), and the touches (frame, tagger, tagged) of a game of tag."""
    fleet = rng.uniform(2.1, 3.1, count)
    wander = 0.9 * smooth_noise(rng, (frames, count, 2), 2.0)
    chaser = np.zeros(frames, int)
    touches: list[tuple[int, int, int]] = []
    it, rest = int(rng.integers(count)), 0
    immune = it  # who passed it on last and is not to be caught next

    def goals(frame: int, position: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal it, rest, immune
        chaser[frame] = it
        gap = position - position[it]
        distance = np.linalg.norm(gap, axis=1)
        away = gap / np.maximum(distance, 0.1)[:, None] - 0.35 * position
        alarm = np.clip((3.2 - distance) / 1.6, 0, 1)[:, None]
        wanted = alarm * fleet[:, None] * _unit(away + 0.4 * wander[frame]) + (1 - alarm) * wander[frame]
        rest = max(rest - 1, 0)
        if rest:  # somebody just caught lets the others get away first
            return wanted, np.arange(count) == it
        distance[[it, immune] if count > 2 else it] = np.inf
        prey = int(np.argmin(distance))
        wanted[it] = (0.5 + fleet[it]) * _unit(gap[prey] + 0.25 * velocity[prey])
        if distance[prey] < 1.0:
            touches.append((frame, it, prey))
            it, rest, immune = prey, int(rng.integers(12, 26)), it
        return wanted, np.zeros(count, bool)

    return steer(spread_out(rng, count, (2.6, 2.2)), goals, frames, (3.4, 3.0), FPS), chaser, touches


def _touch(act: Performance, prey_path: np.ndarray, prey: Body, frame: int, side: int) -> None:
    """Stretches a hand towards the back of somebody being caught."""
    clock = (np.arange(len(prey_path)) - frame) / FPS
    weight = ramp(clock, -0.45, -0.05) * (1 - ramp(clock, 0.05, 0.45))
    target = _at_height(prey_path, 0.74 * prey.height)
    act.reaches.append(Reach(side, weight, target))
    act.lean += 0.3 * weight
    act.twist += (2 * side - 1) * 0.3 * weight


def assemble(rng: np.random.Generator, bodies: list[Body], frames: int) -> list[Performance]:
    """Everybody kneels or squats around something built on the floor, and goes now and then to fetch the next part."""
    turn, count = rng.uniform(0, 2 * np.pi), len(bodies)
    tower = rng.uniform(0.1, 0.45)
    errands = [
        _errands(rng, turn + 2 * np.pi * p / count, 0.42 * np.pi * min(1, 3 / count) / 2, frames) for p in range(count)
    ]
    paths = np.stack([path for path, _, _ in errands], axis=1)
    acts = []
    for p, body in enumerate(bodies):
        path, look, visits = errands[p]
        facing = facing_along(path, look, FPS, seconds=0.3)
        others = [q for q in range(count) if q != p]
        gaze = _at_height(look, 0.3)
        seen = _glances(rng, path, paths[:, others], frames)
        meeting = ramp(smooth_noise(rng, (frames,), 1.5), 0.2, 0.5)[:, None]
        gaze = (1 - meeting) * gaze + meeting * _at_height(seen, 1.1)
        act = still(body, path, facing, gaze)
        act.lean += 0.05 * smooth_noise(rng, (frames,), 1.2)
        for begin, end in visits:
            _work(rng, act, body, tower, begin, end)
        acts.append(act)
    return acts


def _errands(
    rng: np.random.Generator, bearing: float, sector: float, frames: int
) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float]]]:
    """One person's path (T, 2), what is looked at (T, 2), and (begin, end) in seconds of the stops to work.

    Stops alternate between a place at the common work and a heap of parts further out, all inside the person's sector
    of the room, so that nobody crosses another one's way.
    """
    clock = np.arange(frames) / FPS - rng.uniform(0, 5.5)
    pace, now, at_work = rng.uniform(0.8, 1.2), -8.0, bool(rng.random() < 0.65)
    place = _polar(rng.uniform(0.95, 1.1), bearing)
    heap = _polar(rng.uniform(2.4, 2.9), bearing + rng.uniform(-0.5, 0.5) * sector)
    place = place if at_work else heap
    path, look, visits = np.empty((frames, 2)), np.empty((frames, 2)), []
    while now < clock[-1] + 3:
        stay = rng.uniform(3.5, 9.0) if at_work else rng.uniform(3.5, 5.0)
        target = heap if at_work else _polar(rng.uniform(0.95, 1.15), bearing + rng.uniform(-1, 1) * sector)
        walk_time = np.linalg.norm(target - place) / pace + 0.8
        resting = (clock >= now) & (clock < now + stay)
        path[resting] = place
        look[resting] = 0.3 * place if at_work else 1.35 * heap
        walking = (clock >= now + stay) & (clock < now + stay + walk_time)
        part = ramp(clock[walking], now + stay, now + stay + walk_time)[:, None]
        path[walking] = place + part * (target - place)
        look[walking] = 1.35 * heap if at_work else 0.3 * target
        visits.append((now - clock[0], now + stay - clock[0]))
        now, place, at_work = now + stay + walk_time, target, not at_work
    return path, look, visits


def _work(rng: np.random.Generator, act: Performance, body: Body, tower: float, begin: float, end: float) -> None:
    """Goes down between two moments (seconds), works with both hands, gets up again."""
    frames = len(act.path)
    clock = np.arange(frames) / FPS
    slow = rng.uniform(0.9, 1.3)
    down = ramp(clock, begin + 0.7, begin + 0.7 + slow) * (1 - ramp(clock, end - slow - 0.1, end - 0.1))
    style = rng.choice(["one knee", "both knees", "squat", "bend"], p=[0.35, 0.25, 0.25, 0.15])
    first, bow = int(rng.integers(2)), {"one knee": 0.75, "both knees": 0.8, "squat": 0.45, "bend": 1.1}[str(style)]
    if style == "squat":
        squat(act, body, down)
    elif style == "bend":
        act.crouch += 0.12 * down
        act.pelvis_shift[:, 0] -= 0.16 * down
    else:
        kneel(act, body, down, first, style == "both knees", rng.uniform(0, 0.8))
    act.lean += bow * (1 + 0.12 * smooth_noise(rng, (frames,), 1.5)) * down
    act.twist += 0.2 * smooth_noise(rng, (frames,), 1.8) * down
    ahead = np.stack([np.cos(act.facing), np.sin(act.facing)], axis=1)
    left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    for side, sign in enumerate((1.0, -1.0)):
        wander = smooth_noise(rng, (frames, 3), 0.9)
        reach = 0.50 + 0.09 * wander[:, :1]
        spot = act.path + reach * ahead + (sign * 0.13 + 0.09 * wander[:, 1:2]) * left
        height = np.clip(tower + 0.12 + 0.13 * wander[:, 2], 0.06, 0.8)
        act.reaches.append(Reach(side, ramp(down, 0.35, 0.95), _at_height(spot, height), elbow=(-0.5, 0.7, -0.5)))


def fence(rng: np.random.Generator, bodies: list[Body], frames: int) -> list[Performance]:
    """The first and the third person fence along a line; a referee walks beside them, others watch."""
    clock = np.arange(frames) / FPS
    fencers = [0, 2] if len(bodies) > 2 else [0, 1]
    attacks = _attacks(rng, clock[-1])
    line = rng.uniform(0, 2 * np.pi)
    along, across = _polar(1, line), _polar(1, line + np.pi / 2)
    middle, gap = 0.8 * smooth_noise(rng, (frames,), 4.0), 2.7 + 0.35 * smooth_noise(rng, (frames,), 1.6).clip(-1.4, 2)
    places = {}
    for i, p in enumerate(fencers):
        own_attacks = [(begin, extended) for begin, extended, attacker in attacks if attacker == i]
        busy = sum((_lunge_shape(clock, *attack) for attack in own_attacks), np.zeros(frames))
        moves = np.gradient(middle + (0.5 if i else -0.5) * gap) * (1 - np.clip(4 * busy, 0, 1))
        places[p] = (middle[0] + (0.5 if i else -0.5) * gap[0] + np.cumsum(moves), busy)
    _keep_measure(places, fencers)
    acts = []
    for p, body in enumerate(bodies):
        if p in places:
            opponent = places[fencers[1 - fencers.index(p)]][0]
            acts.append(_fencer(rng, body, places[p], opponent, along, across, fencers.index(p)))
        else:
            acts.append(_bystander(rng, body, middle, along, across, p))
    return acts


def _attacks(rng: np.random.Generator, seconds: float) -> list[tuple[float, float, int]]:
    """(begin, seconds extended, attacker 0 or 1) of lunges, one at a time."""
    attacks, now = [], rng.uniform(-1.0, 2.0)
    while now < seconds:
        extended = rng.uniform(0.15, 0.5)
        attacks.append((now, extended, int(rng.integers(2))))
        now += extended + 1.3 + rng.exponential(1.5)
    return attacks


def _lunge_shape(clock: np.ndarray, begin: float, extended: float) -> np.ndarray:
    return ramp(clock, begin, begin + 0.4) * (1 - ramp(clock, begin + 0.4 + extended, begin + 1.0 + extended))


def _keep_measure(places: dict[int, tuple[np.ndarray, np.ndarray]], fencers: list[int]) -> None:
    """Moves both fencers apart, smoothly, wherever their frozen steps would have brought them too close."""
    (left, left_busy), (right, right_busy) = places[fencers[0]], places[fencers[1]]
    shortage = np.maximum(2.1 - (right - left), 0).max() / 2
    places[fencers[0]] = (left - shortage, left_busy)
    places[fencers[1]] = (right + shortage, right_busy)


def _fencer(
    rng: np.random.Generator,
    body: Body,
    place: tuple[np.ndarray, np.ndarray],
    opponent: np.ndarray,
    along: np.ndarray,
    across: np.ndarray,
    end: int,
) -> Performance:
    """On guard, side on, weapon arm towards the opponent; lunges where `place` says."""
    position, lunge = place
    frames, direction = len(position), 1.0 - 2.0 * end
    armed = int(rng.random() < 0.75)  # 1: right-handed
    sign = 1.0 - 2.0 * armed
    path = position[:, None] * along + rng.uniform(-0.1, 0.1) * across
    facing = np.full(frames, np.arctan2(*(direction * along)[::-1])) + 0.04 * smooth_noise(rng, (frames,), 2.0)
    act = still(body, path, facing, _at_height(opponent[:, None] * along, 1.35))
    side_on, spread = rng.uniform(0.6, 1.0), rng.uniform(0.23, 0.30) * body.height / 1.72
    act.pelvis_turn -= sign * (side_on + 0.25 * lunge)
    act.twist += sign * 0.3
    front, rear = armed, 1 - armed
    act.stance[:, front] = np.array([spread, 0.02 * sign])
    act.stance[:, rear] = np.array([-spread, -0.02 * sign])
    act.foot_turn[:, front], act.foot_turn[:, rear] = 0.0, -1.35 * sign
    act.crouch += rng.uniform(0.07, 0.14) + 0.015 * smooth_noise(rng, (frames,), 0.8) + 0.10 * lunge
    act.foot_shift[:, front, 0] += 0.52 * body.height / 1.72 * lunge
    act.foot_raise[:, front] += 0.05 * np.sqrt(4 * lunge * (1 - lunge))
    act.pelvis_shift[:, 0] += 0.34 * lunge
    act.lean += 0.04 + 0.18 * lunge
    act.tilt -= 0.05 * sign * lunge
    _arms_on_guard(rng, act, body, lunge, armed, sign)
    return act


def _arms_on_guard(
    rng: np.random.Generator, act: Performance, body: Body, lunge: np.ndarray, armed: int, sign: float
) -> None:
    frames, reach = len(lunge), body.upper_arm + body.forearm
    ahead = np.stack([np.cos(act.facing), np.sin(act.facing)], axis=1)
    side = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    parry = smooth_noise(rng, (frames, 2), 0.5)
    distance = (0.55 + 0.08 * parry[:, :1]) * body.height / 1.72 + (0.34 + 0.3) * lunge[:, None]
    weapon = act.path + distance * ahead + (0.10 * parry[:, 1:] - 0.05 * sign) * side
    height = 0.62 * body.height + 0.08 * smooth_noise(rng, (frames,), 0.6) + 0.12 * lunge
    act.reaches.append(Reach(armed, np.ones(frames), _at_height(weapon, height), elbow=(-0.3, 0.2, -1.0)))
    raised = rng.uniform(0, 1)
    ready = np.array([-0.35, 0.55, 0.35 * raised - 0.35]) * reach * [1, sign * -1, 1]
    stretched = np.array([-0.75, 0.5, -0.15]) * reach * [1, sign * -1, 1]
    target = ready + lunge[:, None] * (stretched - ready) + 0.03 * smooth_noise(rng, (frames, 3), 1.0)
    act.reaches.append(Reach(1 - armed, np.ones(frames), target, in_chest=True, elbow=(-0.3, 0.2, -1.0)))


def _bystander(
    rng: np.random.Generator, body: Body, middle: np.ndarray, along: np.ndarray, across: np.ndarray, person: int
) -> Performance:
    """Somebody who watches from the side: the referee follows the fencers and signals, others hardly move."""
    frames, referee = len(middle), person == 1
    side, distance = (-1.0, 2.3) if referee else (1.0, 2.6 + 0.8 * max(person - 3, 0))
    follow = 0.8 if referee else 0.15
    wander = (0.25 if referee else 0.12) * smooth_noise(rng, (frames, 2), 3.0)
    path = (follow * middle + wander[:, 0])[:, None] * along + (side * distance + wander[:, 1])[:, None] * across
    look = middle[:, None] * along + 0.3 * smooth_noise(rng, (frames, 2), 1.0)
    facing = facing_along(path, look, FPS, watchful=0.9)
    act = still(body, path, facing, _at_height(look, 1.25))
    act.crouch += 0.02 * smooth_noise(rng, (frames,), 2.0).clip(0, 2)
    act.tilt += 0.06 * smooth_noise(rng, (frames,), 2.5)
    now = rng.uniform(0, 3)
    while referee and now < frames / FPS:
        perform(act, body, SIGNAL, int(now * FPS), int(rng.integers(2)))
        now += SIGNAL.seconds + rng.uniform(0.6, 4)
    return act


def _glances(rng: np.random.Generator, main: np.ndarray, others: np.ndarray, frames: int) -> np.ndarray:
    """A point (T, 2) looked at: mostly `main` (T, 2), now and then one of the other people (T, P, 2)."""
    gaze = main.copy()
    now = 0
    while now < frames:
        glance = slice(now, now + int(rng.integers(10, 50)))
        if rng.random() < 0.4:
            gaze[glance] = others[glance, int(rng.integers(others.shape[1]))]
        now = glance.stop
    return gaze


def _at_height(ground: np.ndarray, height: float | np.ndarray) -> np.ndarray:
    """Points (T, 3) above ground points (T, 2)."""
    return np.concatenate([ground, np.broadcast_to(height, (len(ground),))[:, None]], axis=1)


def _polar(radius: float, angle: float) -> np.ndarray:
    return radius * np.array([np.cos(angle), np.sin(angle)])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 0.1)
