"""The fit against the raw triangulation it was made from: how far apart they are, and whether the fit is late or early.

The authors' smoothing joins a person's frames without looking at the clock. Where a person is absent from one frame of
`poses3d`, all later poses of that person in `fit_poses3d` belong to a moment one frame later.
"""

import numpy as np

from finepose_mp.preprocessing.findings import Findings

# "Within a few centimetres" is what smoothing and constant limb lengths cost; more says that the two do not belong
# together. The tail is wider: a joint triangulated wrongly in one frame is what the fit is there to mend.
MEDIAN_TOLERANCE_M = 0.05
TAIL_TOLERANCE_M = 0.25  # 95th percentile

# A person who stands still agrees with himself at any time: only a clear and visible gain counts as a shift.
_SHIFT_GAIN = 2.0
_VISIBLE_M = 0.02

_WINDOW = 100  # frames that are compared together, 5 s: long enough for everybody to move once
_SHORTEST = 5  # frames; a shorter stretch between two absences is compared together with the one before
_REACH = 3  # frames of shift looked for beyond the number of absences,
_FARTHEST = 30  # which are counted up to here


def check_alignment(
    fit: np.ndarray, raw: np.ndarray, absent: np.ndarray, frames: np.ndarray, person: str, findings: Findings
) -> np.ndarray:
    """Mask (T,) of frames whose fitted pose belongs to another moment; reports them, and the distance of the others.

    Args:
        fit: (T, J, 3) fitted joints of one person in metres, NaN where missing.
        raw: (T, J, 3) triangulated joints, NaN where not observed.
        absent: (T,) frames in which the triangulation does not have the person at all.
        frames: (T,) numbers of the frames, for messages.
    """
    shifts = _shifts(fit, raw, absent)
    for shift in sorted(set(shifts.tolist()) - {0}):
        where = shifts == shift
        before, after = _median_distance(fit, raw, where, 0), _median_distance(fit, raw, where, shift)
        message = (
            f"{person}'s fitted poses from frame {frames[where][0]} to {frames[where][-1]} show the moment "
            f"{abs(shift)} frames {'later' if shift > 0 else 'earlier'}: they are {100 * after:.1f} cm from the "
            f"triangulation of that moment, {100 * before:.1f} cm from that of their own; stored as missing"
        )
        findings.add(
            "alignment.shifted",
            "error",
            message,
            person=person,
            frames=frames[where],
            expected={"shift_frames": 0},
            found={"shift_frames": int(shift), "median_m": round(before, 4), "median_shifted_m": round(after, 4)},
        )
    _report_distance(fit, raw, shifts == 0, person, findings)
    return shifts != 0


def _report_distance(fit: np.ndarray, raw: np.ndarray, where: np.ndarray, person: str, findings: Findings) -> None:
    distance = np.linalg.norm(fit[where] - raw[where], axis=-1)
    distance = distance[np.isfinite(distance)]
    if not len(distance):
        return
    median, tail = (float(value) for value in np.percentile(distance, [50, 95]))
    agrees = median <= MEDIAN_TOLERANCE_M and tail <= TAIL_TOLERANCE_M
    findings.add(
        "alignment.distance",
        "info" if agrees else "warning",
        f"{person}: fit and triangulation differ by {100 * median:.1f} cm (median), {100 * tail:.1f} cm (95 %)",
        person=person,
        expected={"median_m": MEDIAN_TOLERANCE_M, "p95_m": TAIL_TOLERANCE_M},
        found={"median_m": round(median, 4), "p95_m": round(tail, 4)},
    )


def _shifts(fit: np.ndarray, raw: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """For each frame t (T,) the k for which fit[t] is clearly closest to raw[t + k], the same for whole stretches."""
    shifts = np.zeros(len(fit), int)
    for start, stop in _stretches(absent):
        reach = min(int(absent[:stop].sum()), _FARTHEST) + _REACH
        shifts[start:stop] = _best_shift(fit, raw, start, stop, reach)
    return shifts


def _stretches(absent: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of stretches that cover all frames; one begins with every absence, none is longer than a window."""
    begins = np.flatnonzero(absent & ~np.concatenate([[False], absent[:-1]]))
    starts = sorted({0, *begins.tolist(), *range(0, len(absent), _WINDOW)})
    kept = [0]
    for start in starts:
        if start - kept[-1] >= _SHORTEST and len(absent) - start >= _SHORTEST:
            kept.append(start)
    return list(zip(kept, [*kept[1:], len(absent)], strict=True))


def _best_shift(fit: np.ndarray, raw: np.ndarray, start: int, stop: int, reach: int) -> int:
    where = np.zeros(len(fit), bool)
    where[start:stop] = True
    here = _median_distance(fit, raw, where, 0)
    if not here > _VISIBLE_M:  # NaN compares false
        return 0
    medians = {k: _median_distance(fit, raw, where, k) for k in range(-reach, reach + 1)}
    medians = {k: median for k, median in medians.items() if np.isfinite(median)}
    best = min(medians, key=medians.__getitem__)
    return best if here > _SHIFT_GAIN * medians[best] else 0


def _median_distance(fit: np.ndarray, raw: np.ndarray, where: np.ndarray, shift: int) -> float:
    """Median of |fit[t] - raw[t + shift]| over the frames t in a mask (T,); NaN with less than a pose to compare."""
    t = np.flatnonzero(where)
    t = t[(t + shift >= 0) & (t + shift < len(raw))]
    distance = np.linalg.norm(fit[t] - raw[t + shift], axis=-1)
    distance = distance[np.isfinite(distance)]
    return float(np.median(distance)) if len(distance) >= fit.shape[1] else float("nan")
