"""Where errors come from: by distance to the camera, by time out of view, and beside the spread of the hypotheses.

Errors are summed in bins whose edges are fixed, so that tracks can be pooled by adding, whichever process they come
from. All of it is about the headline's pose; every frame counts once.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

DISTANCE_EDGES_M = np.array([0, 1, 2, 3, 4, 5, 6, 8, 10, 15, np.inf])
UNSEEN_EDGES = np.array([0, 1, 2, 3, 5, 9, 17, 33, 65, np.inf])  # frames; the first bin: seen well in this very frame
NOT_YET_SEEN = len(UNSEEN_EDGES) - 1  # position of the bin for frames before the person was first seen well
SPREAD_EDGES_MM = np.concatenate([[0], 2.0 ** np.arange(0, 10.5, 0.5), [np.inf]])
_ROUND = 6  # decimals of a millimetre, as in the tables


@dataclass(frozen=True)
class Breakdown:
    """Sums over the joints of one track in bins; parts that were not asked for are None.

    Attributes:
        distance: (3, bins of `DISTANCE_EDGES_M`): errors and the baseline's in mm, and how many joints; (2, bins) of
            runs without a baseline.
        unseen: (3, bins of `UNSEEN_EDGES` and one for `NOT_YET_SEEN`): likewise.
        spread: (3, bins of `SPREAD_EDGES_MM`): squared spreads and squared errors in mm², and how many joints.
        hypotheses: that the spread is of.
    """

    distance: np.ndarray
    unseen: np.ndarray | None = None
    spread: np.ndarray | None = None
    hypotheses: int = 1


def by_distance(error: np.ndarray, baseline: np.ndarray | None, distance: np.ndarray) -> np.ndarray:
    """`Breakdown.distance` of errors (T, J) in mm, NaN where not scored, at distances (T,) of the root in metres."""
    bins = np.digitize(distance, DISTANCE_EDGES_M) - 1
    return _by_frame(error, baseline, bins, len(DISTANCE_EDGES_M) - 1)


def by_time_unseen(error: np.ndarray, baseline: np.ndarray | None, unseen: np.ndarray) -> np.ndarray:
    """`Breakdown.unseen` of errors (T, J) in mm, NaN where not scored; `unseen` (T,) is of `frames_unseen`."""
    bins = np.where(unseen < 0, NOT_YET_SEEN, np.digitize(unseen, UNSEEN_EDGES) - 1)
    return _by_frame(error, baseline, bins, NOT_YET_SEEN + 1)


def by_spread(error: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """`Breakdown.spread` of errors (T, J) in mm, NaN where not scored, and spreads (T, J) in mm.

    Joints that cannot differ between hypotheses, as one that is the root, are left out.
    """
    error = np.where(spread > 0, error, np.nan)
    bins = np.digitize(spread, SPREAD_EDGES_MM) - 1
    return _summed(np.stack([spread, error]) ** 2, bins, len(SPREAD_EDGES_MM) - 1)


def frames_unseen(seen: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Frames (T,) since the person was last seen well, by source frame numbers; -1 before that happened at all."""
    latest = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))
    return np.where(latest < 0, -1, frame - frame[latest])


def spread_of(hypotheses: np.ndarray) -> np.ndarray:
    """Root mean square distance (...) of hypotheses (H, ..., 3) from their mean."""
    deviation = hypotheses - hypotheses.mean(axis=0)
    return np.sqrt((deviation**2).sum(axis=-1).mean(axis=0))


def honest_ratio(hypotheses: int) -> float:
    """Root mean square error of the mean of H hypotheses over their spread, were the truth drawn as they are."""
    return float(np.sqrt((hypotheses + 1) / (hypotheses - 1)))


def tables(of_tracks: Iterable[tuple[str, Breakdown]]) -> dict:
    """What is in the sums of tracks, given as (camera kind, breakdown) in a fixed order, ready for JSON.

    Returns:
        {"distance_to_camera": {kind, or "all": rows}, "time_out_of_view": rows or None, "calibration": {...} or None}.
        Rows are bins with joints in them: "from" and "to" (None: no limit) in the unit that stands beside, "joints",
        and means in mm, None for a baseline that is not there.
    """
    of_tracks = list(of_tracks)
    kinds = sorted({kind for kind, _ in of_tracks})
    return {
        "distance_to_camera": {
            "unit": "m",
            "kinds": {kind: _distance_rows(of_tracks, kind) for kind in ("all", *kinds)},
        },
        "time_out_of_view": _unseen_rows([each.unseen for _, each in of_tracks if each.unseen is not None]),
        "calibration": _calibration([each for _, each in of_tracks if each.spread is not None]),
    }


def _distance_rows(of_tracks: list[tuple[str, Breakdown]], kind: str) -> list[dict]:
    sums = sum(each.distance for of_kind, each in of_tracks if kind in ("all", of_kind))
    return _rows(sums, DISTANCE_EDGES_M)


def _unseen_rows(sums: list[np.ndarray]) -> dict | None:
    if not sums:
        return None
    total = sum(sums)
    before = _rows(total[:, NOT_YET_SEEN:], np.array([0, np.inf]))
    return {
        "unit": "frames",
        "rows": _rows(total[:, :NOT_YET_SEEN], UNSEEN_EDGES),
        "not yet seen": {name: before[0][name] for name in ("joints", "mpjpe", "baseline")} if before else None,
    }


def _calibration(parts: list[Breakdown]) -> dict | None:
    if not parts:
        return None
    total = sum(each.spread for each in parts)
    used = np.flatnonzero(total[2])
    if not len(used):
        return None
    overall = np.sqrt(total[:2].sum(axis=1) / total[2].sum())
    rows = [
        _edges(SPREAD_EDGES_MM, b)
        | {"joints": int(total[2, b])}
        | {name: round(float(np.sqrt(total[i, b] / total[2, b])), _ROUND) for i, name in enumerate(("spread", "error"))}
        for b in used
    ]
    return {
        "unit": "mm",
        "hypotheses": parts[0].hypotheses,
        "honest ratio": round(honest_ratio(parts[0].hypotheses), _ROUND),
        "ratio": round(float(overall[1] / overall[0]), _ROUND),
        "spread": round(float(overall[0]), _ROUND),
        "error": round(float(overall[1]), _ROUND),
        "joints": int(total[2].sum()),
        "rows": rows,
    }


def _rows(sums: np.ndarray, edges: np.ndarray) -> list[dict]:
    return [
        _edges(edges, b)
        | {
            "joints": int(sums[-1, b]),
            "mpjpe": round(float(sums[0, b] / sums[-1, b]), _ROUND),
            "baseline": round(float(sums[1, b] / sums[-1, b]), _ROUND) if len(sums) > 2 else None,
        }
        for b in np.flatnonzero(sums[-1])
    ]


def _edges(edges: np.ndarray, b: int) -> dict[str, float | None]:
    return {"from": float(edges[b]), "to": None if np.isinf(edges[b + 1]) else float(edges[b + 1])}


def _by_frame(error: np.ndarray, baseline: np.ndarray | None, bins: np.ndarray, count: int) -> np.ndarray:
    values = np.stack([error] if baseline is None else [error, baseline])
    return _summed(values, np.broadcast_to(bins[:, None], error.shape), count)


def _summed(values: np.ndarray, bins: np.ndarray, count: int) -> np.ndarray:
    """Sums (n + 1, count) of values (n, T, J) in their bins where all of them are known, and how many those are."""
    known = np.isfinite(values).all(axis=0)
    weights = [*values[:, known], np.ones(known.sum())]
    return np.stack([np.bincount(bins[known], weights=each, minlength=count) for each in weights])
