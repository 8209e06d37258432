"""Frame by frame: which person continues which track; where that is in doubt, tracks end and begin anew."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from finepose_mp.tracking.detections import Detections
from finepose_mp.tracking.settings import TrackingSettings
from finepose_mp.tracking.steadying import Steadied

Note = Callable[..., None]  # called with the kind of a decision, the position of its frame, and facts by name

_VELOCITY_MEMORY = 0.1  # seconds over which a track's velocity is averaged


@dataclass
class Tracklet:
    """A stretch of one person: positions in the list of detections, in order of time."""

    detections: list[int] = field(default_factory=list)


@dataclass(eq=False)
class _Active:
    """What is expected of tracks that may go on: A tracks, J joints, D coordinates."""

    tracklet: np.ndarray  # (A,) position in the list of tracklets
    points: np.ndarray  # (A, J, D), as last seen
    usable: np.ndarray  # (A, J)
    velocity: np.ndarray  # (A, D) a second
    seen: np.ndarray  # (A,) seconds

    def select(self, rows: np.ndarray) -> "_Active":
        return _Active(*(value[rows] for value in vars(self).values()))

    def join(self, other: "_Active") -> "_Active":
        return _Active(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))


def body_sizes(points: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Root mean square distances (N,) of usable joints (N, J, D) from their mean; 0 where there is none."""
    count = np.maximum(usable.sum(axis=-1), 1)
    filled = np.where(usable[..., None], points, 0.0)
    centred = np.where(usable[..., None], filled - (filled.sum(axis=1) / count[:, None])[:, None], 0.0)
    return np.sqrt((centred**2).sum(axis=(1, 2)) / count)


def similarity(
    points: np.ndarray, usable: np.ndarray, others: np.ndarray, others_usable: np.ndarray, tolerance: np.ndarray
) -> np.ndarray:
    """How alike (A, n) poses (A, J, D) and (n, J, D) are, in place and in shape: 1 the same, 0 nothing in common.

    The mean over joints that both have of 1 / (1 + (distance / tolerance)^2), tolerance (A or 1, n): the idea of
    COCO's object keypoint similarity with heavier tails, so that a limb gone astray does not decide. It is lowered
    where only few joints are had by both.
    """
    both = usable[:, None] & others_usable[None]
    squared = ((points[:, None] - others[None]) ** 2).sum(axis=-1) / tolerance[..., None] ** 2
    kernel = np.where(both, 1 / (1 + np.where(both, squared, 0.0)), 0.0)
    count = both.sum(axis=-1)
    return kernel.sum(axis=-1) / np.maximum(count, 1) * np.minimum(count / 4, 1.0)


def associate_frames(
    detections: Detections, steadied: Steadied, candidates: np.ndarray, settings: TrackingSettings, note: Note
) -> list[Tracklet]:
    """Tracklets of candidates (N,) bool: stretches during which there was no doubt who is who.

    `note(kind, frame_index, **facts)` is called with every decision that is more than going on.
    """
    usable = detections.usable(settings.min_score) & np.isfinite(steadied.positions).all(axis=-1)
    points = np.where(usable[..., None], steadied.positions, 0.0)
    sizes = np.maximum(body_sizes(points, usable), 1e-9)
    starts = np.searchsorted(detections.frame_index, np.arange(detections.frame_count + 1))
    tracklets: list[Tracklet] = []
    active = _begin(np.zeros(0, int), points, usable, 0.0, tracklets)
    for t, now in enumerate(detections.time):
        people = np.arange(starts[t], starts[t + 1])
        people = people[candidates[people]]
        active = active.select(np.flatnonzero(now - active.seen <= settings.coast_seconds))
        pairs, doubtful = _pair(active, points[people], usable[people], sizes[people], now, settings)
        for row, column, margin in doubtful:
            after = tracklets[active.tracklet[row]].detections[-1]
            note("split", t, detection=int(people[column]), after=after, margin=round(margin, 3))
        rows, columns = (np.array(part, int) for part in (zip(*pairs, strict=True) if pairs else ([], [])))
        going_on = _go_on(active.select(rows), people[columns], points, usable, now, tracklets)
        ended = {row for row, _, _ in doubtful}
        waiting = [row for row in range(len(active.seen)) if row not in ended and row not in rows]
        fresh = np.setdiff1d(people, people[columns])
        active = going_on.join(active.select(np.array(waiting, int)))
        active = active.join(_begin(fresh, points, usable, now, tracklets))
    return tracklets


def _begin(people: np.ndarray, points: np.ndarray, usable: np.ndarray, now: float, tracklets: list) -> _Active:
    first = len(tracklets)
    tracklets.extend(Tracklet([int(person)]) for person in people)
    return _Active(
        tracklet=np.arange(first, len(tracklets)),
        points=points[people],
        usable=usable[people],
        velocity=np.zeros((len(people), points.shape[-1])),
        seen=np.full(len(people), now),
    )


def _go_on(
    active: _Active, people: np.ndarray, points: np.ndarray, usable: np.ndarray, now: float, tracklets: list
) -> _Active:
    """The tracks with the people who continue them, one for one."""
    for tracklet, person in zip(active.tracklet, people, strict=True):
        tracklets[tracklet].detections.append(int(person))
    if not len(people):
        return active
    step = (now - active.seen)[:, None]
    both = (active.usable & usable[people])[..., None]
    moved = np.where(both, points[people] - active.points, np.nan)
    # The mean of the middle joints would do too; the median shrugs off exchanged limbs.
    measured = np.nanmedian(moved, axis=1) / step
    is_new = ~active.velocity.any(axis=-1, keepdims=True)
    gain = np.where(is_new, 1.0, 1 - np.exp(-step / _VELOCITY_MEMORY))
    velocity = active.velocity + gain * (measured - active.velocity)
    return _Active(active.tracklet, points[people], usable[people], velocity, np.full(len(people), now))


def _pair(
    active: _Active, points: np.ndarray, usable: np.ndarray, sizes: np.ndarray, now: float, settings: TrackingSettings
) -> tuple[list[tuple[int, int]], list[tuple[int, int, float]]]:
    """Pairs (track, person) beyond doubt, and pairs (track, person, margin) of the best pairing that are in doubt."""
    if not len(active.seen) or not len(points):
        return [], []
    step = (now - active.seen)[:, None]
    expected = active.points + (active.velocity * step)[:, None]
    tolerance = sizes * (settings.joint_noise + settings.joint_speed * step)
    alike = similarity(expected, active.usable, points, usable, tolerance)
    alike = np.where(alike >= settings.min_similarity, alike, 0.0)
    rows, columns = linear_sum_assignment(alike, maximize=True)
    pairs, doubtful = [], []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if alike[row, column] == 0:
            continue
        margin = _margin(alike, rows, columns, row, column)
        if margin < settings.doubt:
            doubtful.append((row, column, margin))
        else:
            pairs.append((row, column))
    return pairs, doubtful


def _margin(alike: np.ndarray, rows: np.ndarray, columns: np.ndarray, row: int, column: int) -> float:
    """How much summed similarity is lost when this pair of the best pairing is forbidden and something else pairs up.

    Leaving both alone is no alternative explanation, so a pair without rivals has no doubt.
    """
    rivals = max(np.delete(alike[row], column).max(initial=0.0), np.delete(alike[:, column], row).max(initial=0.0))
    if rivals == 0:
        return np.inf
    without = alike.copy()
    without[row, column] = 0.0
    return float(alike[rows, columns].sum() - without[linear_sum_assignment(without, maximize=True)].sum())
