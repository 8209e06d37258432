"""MPI-INF-3DHP's official evaluation as arithmetic: MPJPE, PCK and AUC of sets of frames, from errors in millimetres.

What the dataset's evaluation scripts compute, in one pass over the errors: MPJPE of each of 17 joints and their
unweighted mean; PCK at 150 mm and AUC over 0, 5, ..., 150 mm (strictly below) of eight groups with 14 joints, which
leave out pelvis, spine and head. Thresholds are compared in millimetres, as in the scripts: in metres, errors that lie
exactly on one would fall on either side. `reference` is the same loop by loop.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finepose_mp.skeletons import MPI17

PCK_THRESHOLD_MM = 150.0
AUC_THRESHOLDS_MM = np.arange(31) * 5.0

# Joints of each group, in the order of the official tables.
JOINT_GROUPS: dict[str, tuple[int, ...]] = {
    "Head": (MPI17.index("head_top"),),
    "Neck": (MPI17.index("neck"),),
    **{
        title: (MPI17.index(f"right_{joint}"), MPI17.index(f"left_{joint}"))
        for title, joint in (
            ("Shou", "shoulder"),
            ("Elbow", "elbow"),
            ("Wrist", "wrist"),
            ("Hip", "hip"),
            ("Knee", "knee"),
            ("Ankle", "ankle"),
        )
    },
}
ALL = "All"
_SCORED = np.array([joint for group in JOINT_GROUPS.values() for joint in group])
_MEMBERSHIP = np.array([[joint in group for joint in range(len(MPI17))] for group in JOINT_GROUPS.values()], float)


@dataclass(frozen=True)
class Scores:
    """Tables with one row for each set of frames, in the order of `rows`; NaN where a set has nothing to score."""

    rows: tuple[str, ...]
    frames: np.ndarray  # (R,) frames in each set
    mpjpe: np.ndarray  # (R, 17) mm by joint
    mpjpe_mean: np.ndarray  # (R,) mm, unweighted mean over the joints that were scored
    pck: np.ndarray  # (R, 8) percent by group
    pck_total: np.ndarray  # (R,)
    auc: np.ndarray  # (R, 8) percent by group
    auc_total: np.ndarray  # (R,)

    def headline(self, row: int) -> dict[str, float]:
        """{"pck": percent, "auc": percent, "mpjpe": mm} of one set, as papers report them."""
        return {"pck": self.pck_total[row], "auc": self.auc_total[row], "mpjpe": self.mpjpe_mean[row]}


def joint_errors_mm(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Distances (..., 17) in mm of predictions relative to the pelvis (..., 17, 3) from absolute targets, both in mm.

    The official script subtracts the target's pelvis and takes the prediction as it is: one whose pelvis is not at the
    origin pays for that in every joint.
    """
    pelvis = target[..., MPI17.root_joints[0], None, :]
    return np.linalg.norm(prediction - (target - pelvis), axis=-1)


def score_sets(errors_mm: np.ndarray, sets: Mapping[str, np.ndarray]) -> Scores:
    """MPJPE, PCK and AUC of sets of frames.

    Args:
        errors_mm: (N, 17) in the order of mpi17; NaN where a joint is not scored, and then not counted.
        sets: title -> (N,) bool, True for the frames of that set. Sets may overlap and be empty.
    """
    member = np.array([np.asarray(frames, bool) for frames in sets.values()]).reshape(len(sets), len(errors_mm))
    scored = ~np.isnan(errors_mm)
    errors = np.where(scored, errors_mm, 0.0)
    below = scored & (errors < PCK_THRESHOLD_MM)
    above = len(AUC_THRESHOLDS_MM) - np.searchsorted(AUC_THRESHOLDS_MM, errors, side="right")
    curve_mean = np.where(scored, above / len(AUC_THRESHOLDS_MM), 0.0)
    # One matrix product sums everything that is averaged, set by set.
    stacked = np.concatenate([scored, errors, below, curve_mean], axis=1)
    count, total, hits, area = np.split(member.astype(float) @ stacked, 4, axis=1)
    mpjpe = _divide(total, count)
    return Scores(
        rows=tuple(sets),
        frames=member.sum(axis=1),
        mpjpe=mpjpe,
        mpjpe_mean=_mean_of_scored(mpjpe),
        pck=_divide(100 * hits @ _MEMBERSHIP.T, count @ _MEMBERSHIP.T),
        pck_total=_divide(100 * hits[:, _SCORED].sum(axis=1), count[:, _SCORED].sum(axis=1)),
        auc=_divide(100 * area @ _MEMBERSHIP.T, count @ _MEMBERSHIP.T),
        auc_total=_divide(100 * area[:, _SCORED].sum(axis=1), count[:, _SCORED].sum(axis=1)),
    )


def by_sequence(errors_mm: np.ndarray, sequence: np.ndarray) -> Scores:
    """The official sequence-wise tables: a row for each sequence, in order of their names.

    Args:
        errors_mm: (N, 17), all sequences after one another.
        sequence: (N,) name of each frame's sequence.
    """
    sequence = np.asarray(sequence)
    return score_sets(errors_mm, {str(name): sequence == name for name in np.unique(sequence)})


def by_activity(errors_mm: np.ndarray, activity: np.ndarray, names: Mapping[int, str]) -> Scores:
    """The official activity-wise tables: a row for each activity, and one for all frames pooled.

    Args:
        errors_mm: as in `by_sequence`.
        activity: (N,) number of each frame's activity.
        names: number -> name of every activity that gets a row, with frames or without.
    """
    activity = np.asarray(activity)
    sets = {title: activity == number for number, title in names.items()}
    return score_sets(errors_mm, sets | {ALL: np.ones(len(errors_mm), bool)})


def mean_of_rows(scores: Scores) -> dict[str, float]:
    """Unweighted mean over the sets of a table of PCK, AUC and MPJPE: the papers' average over sequences."""
    return {name: float(np.mean(getattr(scores, column))) for name, column in _HEADLINE_COLUMNS.items()}


_HEADLINE_COLUMNS = {"pck": "pck_total", "auc": "auc_total", "mpjpe": "mpjpe_mean"}


def _divide(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _mean_of_scored(mpjpe: np.ndarray) -> np.ndarray:
    known = ~np.isnan(mpjpe)
    return _divide(np.where(known, mpjpe, 0.0).sum(axis=1), known.sum(axis=1))
