"""Across gaps: which tracklet continues which, decided for all of them together.

The likelihood that a tracklet goes on as another, from where it was heading, where the other came from and how large or
tall both are, is weighed against the likelihood that the other is somebody new who may appear anywhere.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from finepose_mp.tracking.association import Note, Tracklet, body_sizes
from finepose_mp.tracking.detections import Detections
from finepose_mp.tracking.placing import Places
from finepose_mp.tracking.settings import TrackingSettings
from finepose_mp.tracking.steadying import Steadied

_EDGE_SECONDS = 0.4  # of a tracklet's end that tell its place, velocity and size
_FORBIDDEN = -1e9

# Margins that a link must have in one round after the other: what is sure is joined first, and tells more as a whole.
_ROUNDS = (6.0, 3.0)


@dataclass(frozen=True)
class _Scale:
    """How people move and where they may appear, in the unit of places: sizes of the body in an image, or metres.

    `noise` of a place; `acceleration` and `top_speed` as in the settings; `widest` is how far people stay together.
    """

    noise: float
    acceleration: float
    top_speed: float
    widest: float


_ON_THE_FLOOR = _Scale(noise=0.25, acceleration=5.0, top_speed=3.0, widest=4.0)
_FLOOR_EXTENT = 8.0  # metres square in which somebody new may appear

_IMAGE_NOISE = 0.2
_SIZE_NOISE, _SIZE_DRIFT, _SIZE_SPREAD = 0.06, 0.25, 0.7  # of log size: of an edge, per root second, among people
_STATURE_NOISE, _STATURE_BIAS, _STATURE_SPREAD = (
    0.05,
    0.02,
    0.09,
)  # metres: in a step, of a whole tracklet, among people
_STEP_SECONDS = 0.3


@dataclass(frozen=True, eq=False)
class _Edges:
    """Ends or beginnings of M tracklets: time (M,) seconds, place (M, D), velocity (M, D) a second, size (M,)."""

    time: np.ndarray
    frame_index: np.ndarray
    place: np.ndarray
    velocity: np.ndarray
    size: np.ndarray


@dataclass(frozen=True, eq=False)
class Evidence:
    """What links are judged by: the steadied keypoints, and where on the floor people stand if that is known."""

    detections: Detections
    steadied: Steadied
    places: Places | None = None


def link_tracklets(
    tracklets: list[Tracklet], evidence: Evidence, settings: TrackingSettings, note: Note
) -> list[list[int]]:
    """Detections of each person, from tracklets that continue each other: lists of positions in order of time.

    `note(kind, frame_index, **facts)` is called with every link, and with every one that was left open in doubt.
    """
    chains = [list(tracklet.detections) for tracklet in tracklets]
    opened: list[dict] = []
    for least in (*(margin for margin in _ROUNDS if margin > settings.link_doubt), settings.link_doubt):
        linked = True
        while linked:
            linked, opened = _round(chains, evidence, settings, least)
            for facts in linked:
                note("linked", **facts)
    for facts in opened:
        note("left_open", **facts)
    return chains


def _round(
    chains: list[list[int]], evidence: Evidence, settings: TrackingSettings, least: float
) -> tuple[list[dict], list[dict]]:
    """Joins chains in place where the margin is at least `least`; facts about links made and about links left open."""
    if not chains:
        return [], []
    gains, gap = _gains(chains, evidence, settings)
    linked: list[dict] = []
    opened: list[dict] = []
    successor: dict[int, int] = {}
    for a, b, margin in _choose(gains):
        first = evidence.detections.frame_index[chains[b][0]]
        facts = {"frame_index": int(first), "detection": chains[b][0], "after": chains[a][-1]}
        facts |= {"gap_seconds": round(float(gap[a, b]), 3), "margin": round(margin, 2)}
        (linked if margin >= least else opened).append(facts)
        if margin >= least:
            successor[a] = b
    joined = []
    for start in sorted(set(range(len(chains))) - set(successor.values())):
        chain = list(chains[start])
        while start in successor:
            start = successor[start]
            chain += chains[start]
        joined.append(chain)
    chains[:] = joined
    return linked, opened


def _gains(chains: list[list[int]], evidence: Evidence, settings: TrackingSettings) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood ratio (M, M) of "row goes on as column" against "column is somebody new", and gaps in seconds."""
    detections, steadied = evidence.detections, evidence.steadied
    usable = detections.usable(settings.min_score) & np.isfinite(steadied.positions).all(axis=-1)
    points = np.where(usable[..., None], steadied.positions, np.nan)
    sizes = body_sizes(np.nan_to_num(points), usable)
    ends, begins = (_edges(chains, detections, points, sizes, at_end) for at_end in (-1, 0))
    gap = begins.time[None] - ends.time[:, None]
    possible = (gap > 0) & (gap <= settings.max_gap_seconds)
    size = np.sqrt(ends.size[:, None] * begins.size[None])
    in_image = _Scale(_IMAGE_NOISE, settings.acceleration, settings.top_speed, np.inf)
    drift = steadied.drift[begins.frame_index][None] - steadied.drift[ends.frame_index][:, None]
    gains = _place_gain(ends, begins, gap, in_image, size, np.maximum(drift, 0.0), steadied.extent)
    gains += _size_gain(ends, begins, gap)
    if evidence.places is not None:
        gains = _floor_gains(chains, evidence, gap, gains)
    return np.where(possible, gains - np.log(settings.newcomers), _FORBIDDEN), gap


def _floor_gains(chains: list[list[int]], evidence: Evidence, gap: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Gains by places on the floor and by stature; `otherwise` where a tracklet's place is not known."""
    ground, stature = evidence.places.ground[:, None], evidence.places.stature
    alone = np.ones(len(stature))
    ends, begins = (_edges(chains, evidence.detections, ground, alone, at_end) for at_end in (-1, 0))
    gains = _place_gain(ends, begins, gap, _ON_THE_FLOOR, np.ones_like(gap), np.zeros_like(gap), _FLOOR_EXTENT)
    clock = evidence.detections.time[evidence.detections.frame_index]
    tall, variance = np.array([_stature(stature[chain], clock[chain]) for chain in chains]).T
    change = (tall[:, None] - tall[None]) ** 2
    same = variance[:, None] + variance[None]
    other = same + 2 * _STATURE_SPREAD**2
    by_stature = -0.5 * change * (1 / same - 1 / other) - 0.5 * np.log(same / other)
    gains += np.where(np.isfinite(by_stature), by_stature, 0.0)
    return np.where(np.isfinite(gains), gains, otherwise)


def _stature(stature: np.ndarray, clock: np.ndarray) -> tuple[float, float]:
    """Stature of a tracklet in metres, NaN where no frame tells, and its variance: steps count, frames do not."""
    known = np.isfinite(stature)
    if not known.any():
        return np.nan, 1.0
    steps = len(np.unique(np.floor(clock[known] / _STEP_SECONDS)))
    return float(np.median(stature[known])), _STATURE_BIAS**2 + _STATURE_NOISE**2 / steps


def _place_gain(
    ends: _Edges, begins: _Edges, gap: np.ndarray, scale: _Scale, unit: np.ndarray, drift: np.ndarray, extent: float
) -> np.ndarray:
    """Log density of the other's place where it is expected, against anywhere within `extent` in two dimensions."""
    gap = np.maximum(gap, 1e-3)
    # People keep their way for a moment only; beyond, they are known to be no faster than people are.
    keeping = scale.top_speed / scale.acceleration
    ahead = (keeping * (1 - np.exp(-gap / keeping)))[..., None]
    expected = ends.place[:, None] + 0.5 * ahead * (ends.velocity[:, None] + begins.velocity[None])
    spread = np.minimum(np.minimum(scale.acceleration * gap**2 / 4, scale.top_speed * gap / 2), scale.widest)
    variance = (np.hypot(scale.noise, spread) * unit) ** 2 + drift
    stray = ((begins.place[None] - expected) ** 2).sum(axis=-1)
    return -0.5 * stray / variance - np.log(2 * np.pi * variance) + 2 * np.log(extent)


def _size_gain(ends: _Edges, begins: _Edges, gap: np.ndarray) -> np.ndarray:
    """Log density of the other's apparent size, against anybody's: people bend, turn and come closer."""
    variance = _SIZE_NOISE**2 + _SIZE_DRIFT**2 * np.maximum(gap, 0.0)
    anybody = 2 * _SIZE_SPREAD**2
    change = np.log(np.maximum(begins.size[None], 1e-9) / np.maximum(ends.size[:, None], 1e-9)) ** 2
    return -0.5 * change * (1 / variance - 1 / anybody) - 0.5 * np.log(variance / anybody)


def _edges(
    chains: list[list[int]], detections: Detections, points: np.ndarray, sizes: np.ndarray, at_end: int
) -> _Edges:
    """Ends (`at_end` -1) or beginnings (0) of chains, by points (N, J, D) with NaN where unknown and sizes (N,)."""
    clock = detections.time[detections.frame_index]
    edges = [_edge(np.array(chain), clock, points, sizes, at_end) for chain in chains]
    time, place, velocity, size = (np.array(part) for part in zip(*edges, strict=True))
    index = np.array([detections.frame_index[chain[at_end]] for chain in chains])
    return _Edges(time, index, place, velocity, size)


def _edge(chain: np.ndarray, clock: np.ndarray, points: np.ndarray, sizes: np.ndarray, at_end: int) -> tuple:
    """Time, place, velocity and size at one end of a chain, from a line through its last moments."""
    times = clock[chain] - clock[chain[at_end]]
    near, times = chain[np.abs(times) <= _EDGE_SECONDS], times[np.abs(times) <= _EDGE_SECONDS]
    known = np.isfinite(points[near]).all(axis=-1)
    # Joints that come and go would move the middle, so each is taken relative to its own mean.
    count = np.maximum(known.sum(axis=0), 1)[:, None]
    filled = np.where(known[..., None], points[near], 0.0)
    means = filled.sum(axis=0) / count
    around = np.where(known[..., None], points[near] - means, 0.0)
    people = np.maximum(known.sum(axis=1), 1)[:, None]
    middles = around.sum(axis=1) / people + means[known.any(axis=0)].mean(axis=0) if known.any() else None
    if middles is None:
        nowhere = np.full(points.shape[-1], np.nan)
        return clock[chain[at_end]], nowhere, nowhere, np.median(sizes[near])
    seen = known.any(axis=1)
    place, velocity = middles[seen][at_end], np.zeros(points.shape[-1])
    if seen.sum() >= 3:
        velocity, place = np.polyfit(times[seen], middles[seen], 1)
    return clock[chain[at_end]], place, velocity, np.median(sizes[near])


def _choose(gains: np.ndarray) -> list[tuple[int, int, float]]:
    """Links (row, column, margin) of the most likely explanation of everything; margin to the best one without it."""
    count = len(gains)
    alone = np.where(np.eye(count, dtype=bool), 0.0, _FORBIDDEN)
    table = np.concatenate([gains, alone], axis=1)  # a column "ends for good" for every row, which gains nothing
    rows, columns = linear_sum_assignment(table, maximize=True)
    best = table[rows, columns].sum()
    chosen = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if column >= count or gains[row, column] <= 0:
            continue
        without = table.copy()
        without[row, column] = _FORBIDDEN
        chosen.append((row, column, float(best - without[linear_sum_assignment(without, maximize=True)].sum())))
    return chosen
