"""Errors of one track, summed per joint so that tracks can be pooled by adding: nothing here takes a mean."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from finepose_mp import metrics, schema
from finepose_mp.aggregation import j_agg, j_best, p_agg, p_best, single, soft_j_agg
from finepose_mp.datasets.index import Track
from finepose_mp.evaluation.breakdown import Breakdown, by_distance, by_spread, spread_of
from finepose_mp.inference.views import View
from finepose_mp.skeletons import JointSet

MILLIMETRES = 1000.0  # in a metre


class EvaluationError(ValueError):
    """A run or data that cannot be evaluated as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Metric:
    """A column of the results: title and unit of the mean of its errors."""

    title: str
    unit: str


METRICS: dict[str, Metric] = {
    "mpjpe": Metric("MPJPE", "mm"),
    "p_mpjpe": Metric("P-MPJPE", "mm"),
    "n_mpjpe": Metric("N-MPJPE", "mm"),
    "mpjve": Metric("MPJVE", "mm per frame"),
    "mpjve_per_second": Metric("MPJVE", "mm/s"),
    "acceleration_error": Metric("Acceleration error", "mm per frame²"),
    "acceleration_error_per_second": Metric("Acceleration error", "mm/s²"),
    "pck_150": Metric("PCK@150 mm", "%"),
    "auc_150": Metric("AUC 0-150 mm", "%"),
    "mpjpe_in_view": Metric("MPJPE of joints in view", "mm"),
    "mpjpe_out_of_view": Metric("MPJPE of joints out of view", "mm"),
}


@dataclass(frozen=True)
class Aggregation:
    """A row of the results: its title, and whether it is "deployable", an "oracle" or the "baseline"."""

    title: str
    kind: str


BASELINE = "training_mean_pose"
AGGREGATIONS: dict[str, Aggregation] = {
    "p_agg": Aggregation("Mean of the hypotheses (P-Agg)", "deployable"),
    "single": Aggregation("One hypothesis", "deployable"),
    "j_agg": Aggregation("Closest to the 2D, joint by joint (J-Agg, root solved)", "deployable"),
    "soft_j_agg": Aggregation("Weighted by closeness to the 2D (soft J-Agg, root solved)", "deployable"),
    BASELINE: Aggregation("Training mean pose (baseline)", "baseline"),
    "oracle_j_agg_true_root": Aggregation("Closest to the 2D, joint by joint (J-Agg, true root)", "oracle"),
    "oracle_p_best_window": Aggregation("Best hypothesis of each window (P-Best)", "oracle"),
    "oracle_p_best_frame": Aggregation("Best hypothesis of each frame (P-Best)", "oracle"),
    "oracle_j_best": Aggregation("Best hypothesis of each joint (J-Best)", "oracle"),
}


def aggregations_for(hypotheses: int, baseline: bool = True) -> list[str]:
    """Names of the rows that say something for that many hypotheses: with one there is nothing to aggregate.

    `baseline`: whether the mean pose of the training set is known.
    """
    rows = list(AGGREGATIONS) if hypotheses > 1 else ["single", BASELINE]
    return [row for row in rows if baseline or row != BASELINE]


@dataclass(frozen=True)
class LiftedTrack:
    """A track with its prediction: what is compared, in frames T of the take."""

    track: Track
    hypotheses: np.ndarray  # (H, T, J, 3) metres, camera frame, relative to any origin; NaN where nothing was lifted
    times_scored: np.ndarray  # (T,) int, 0 where nothing was lifted; above 1 only with the papers' overlap
    window: np.ndarray  # (T,) int, the window that each frame's prediction comes from
    target_3d: np.ndarray  # (T, J, 3) metres, camera frame, root-relative
    target_mask: np.ndarray  # (T, J) bool, True where the truth may be scored
    input_mask: np.ndarray  # (T, J) bool, True where the model had a keypoint
    in_view: np.ndarray  # (T, J) bool
    joint_status: np.ndarray  # (T, J), as in the schema
    frame: np.ndarray  # (T,) frame numbers of the source
    view: View
    true_root_camera: np.ndarray  # (T, 3) metres, camera frame; any value where nothing may be scored
    comparable: np.ndarray | None = None  # (J,) bool, joints that both the file and the model know; None: all of them


@dataclass(frozen=True)
class TrackScore:
    """Sums over the scored joints of one track, in the order of `METRICS` and of the rows asked for."""

    track: Track
    sums: np.ndarray  # (M, A, J) in the metrics' units, percent or per-second ones included
    counts: np.ndarray  # (M, A, J) how many errors each sum has
    tally: Counter  # frames and joints scored and left out, by name
    root: np.ndarray  # (3,) sums over frames: see `root_error_sums`
    breakdown: Breakdown | None = None  # None: of people over several cameras


def headline(rows: list[str]) -> str:
    """The row that stands first: the first that needs no truth."""
    return next(row for row in rows if AGGREGATIONS[row].kind == "deployable")


def score_track(
    lifted: LiftedTrack,
    rows: list[str],
    joints: JointSet,
    training_mean_pose: np.ndarray | None,
    min_joints_in_view: int,
    include_interpolated: bool = False,
    align_then_choose: bool = False,
) -> TrackScore:
    """Error sums and counts of a track.

    Predictions are moved so that their root lies at the origin, where the target's root is. Frames count
    `times_scored` times in every metric but the velocities and accelerations, whose steps count once.

    Args:
        lifted: the track and its prediction.
        rows: names out of `AGGREGATIONS`.
        joints: joint set of all arrays.
        training_mean_pose: (J, 3) root-relative metres, predicted everywhere in the baseline row; None: no such row.
        min_joints_in_view, include_interpolated: as the target mask was made, to say why joints were left out.
        align_then_choose: see `Options`.

    Raises:
        EvaluationError: a prediction or the mean pose is not finite where it is scored, or the target's root does not
            lie at the origin.
    """
    mask = lifted.target_mask & (lifted.times_scored > 0)[:, None]
    kept = np.flatnonzero(mask.any(axis=-1))
    _check_target_root(lifted, joints)
    hypotheses = joints.root_relative(lifted.hypotheses.astype(np.float64))
    _check_finite(lifted.track, hypotheses[:, kept], training_mean_pose, mask[kept], joints)
    truth = Truth(
        target=lifted.target_3d[kept].astype(np.float64),
        mask=mask[kept],
        in_view=lifted.in_view[kept],
        frame=lifted.frame[kept],
        fps=lifted.track.fps,
    )
    # Frames that are not scored help to solve the root of their neighbours.
    root, true_root = lifted.view.solve_root(p_agg(hypotheses))[kept], lifted.true_root_camera[kept].astype(np.float64)
    view, window = lifted.view.at(kept), lifted.window[kept]
    candidates = Candidates(hypotheses[:, kept], view, window, root, true_root, joints.root_joints)
    aligned = _aligned(candidates.hypotheses, truth) if align_then_choose else {}
    weight = lifted.times_scored[kept]
    sums, counts = np.zeros((2, len(METRICS), len(rows), len(joints)))
    distances = {}
    for a, row in enumerate(rows):
        errors = _row_errors(row, candidates, truth, training_mean_pose, aligned)
        distances[row] = errors["mpjpe"]
        for m, metric in enumerate(METRICS):
            sums[m, a], counts[m, a] = _weighted_sum(errors[metric], weight)
    tally = _tally(lifted, joints, min_joints_in_view, include_interpolated)
    tally["frames scored whose root the 2D does not determine"] = int(np.isnan(root[:, 0]).sum())
    of_bins = _breakdown(distances, candidates)
    return TrackScore(lifted.track, sums, counts, tally, root_error_sums(root, true_root), of_bins)


@dataclass(frozen=True)
class Truth:
    """What predictions are compared with, in the frames in which at least one joint is scored."""

    target: np.ndarray  # (T, J, 3) metres, root-relative
    mask: np.ndarray  # (T, J)
    in_view: np.ndarray  # (T, J)
    frame: np.ndarray  # (T,)
    fps: float


def _row_errors(
    row: str,
    candidates: "Candidates",
    truth: Truth,
    mean_pose: np.ndarray | None,
    aligned: dict[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Errors (T or fewer, J) of every metric for one way of predicting, in the metrics' units."""
    if row == BASELINE:
        return pose_errors(np.broadcast_to(mean_pose, truth.target.shape), truth)
    errors = pose_errors(candidates.compose(row, candidates.hypotheses, truth.target, truth.mask), truth)
    if row not in ("single", "p_agg"):
        for metric, (hypotheses, mask) in aligned.items():
            pose = candidates.compose(row, hypotheses, truth.target, mask)
            errors[metric] = MILLIMETRES * metrics.mpjpe(pose, truth.target, mask)
    return errors


def _aligned(hypotheses: np.ndarray, truth: Truth) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{metric: (hypotheses each aligned to the truth, joints (T, J) it scores)}."""
    can_align = truth.mask & metrics.can_align(truth.mask)[..., None]
    return {
        "p_mpjpe": (metrics.align_similarity(hypotheses, truth.target, can_align), can_align),
        "n_mpjpe": (metrics.align_scale(hypotheses, truth.target, truth.mask), truth.mask),
    }


@dataclass(frozen=True)
class Candidates:
    """The hypotheses (H, T, J, 3) of a track, root-relative metres, and what their view says of them."""

    hypotheses: np.ndarray
    view: View
    window: np.ndarray  # (T,)
    root: np.ndarray  # (T, 3) solved from the 2D; NaN where it is not determined
    true_root: np.ndarray  # (T, 3)
    root_joints: tuple[int, ...]

    @cached_property
    def _reprojection_errors(self) -> np.ndarray:
        return self.view.reprojection_errors(self.hypotheses, self.root)

    @cached_property
    def _oracle_reprojection_errors(self) -> np.ndarray:
        return self.view.reprojection_errors(self.hypotheses, self.true_root)

    @cached_property
    def _ray_distances(self) -> np.ndarray:
        return self.view.ray_distances(self.hypotheses, self.root)

    def compose(self, row: str, hypotheses: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """One pose (T, J, 3) out of hypotheses (H, T, J, 3): these, or the same aligned to the truth.

        What is chosen by the 2D is chosen before any alignment, as in D3DP.

        Args:
            row: name out of `AGGREGATIONS`, not the baseline.
            hypotheses: to compose from.
            target: (T, J, 3), the true pose, of which oracles alone take notice.
            mask: (T, J), True where oracles may compare with it.
        """
        match row:
            case "single":
                return single(hypotheses)
            case "p_agg":
                return p_agg(hypotheses)
            case "j_agg":
                return j_agg(hypotheses, self._reprojection_errors, self.root_joints)
            case "soft_j_agg":
                return soft_j_agg(hypotheses, self._ray_distances, self.root_joints)
            case "oracle_j_agg_true_root":
                return j_agg(hypotheses, self._oracle_reprojection_errors, self.root_joints)
            case "oracle_j_best":
                return j_best(hypotheses, target, mask)
            case "oracle_p_best_frame":
                return p_best(hypotheses, target, mask)
            case "oracle_p_best_window":
                return p_best(hypotheses, target, mask, self.window)
        raise KeyError(f"{row} is not a way to compose hypotheses")


def root_error_sums(root: np.ndarray, true_root: np.ndarray) -> np.ndarray:
    """Sum of the errors of roots (T, 3) in mm, of their parts along the line of sight, and the number of roots.

    Roots are in the camera frame, in metres, NaN (and not counted) where they were not determined.
    """
    known = np.isfinite(root).all(axis=-1)
    error, line_of_sight = root[known] - true_root[known], true_root[known]
    distance = np.linalg.norm(line_of_sight, axis=-1)
    depth = np.abs((error * line_of_sight).sum(axis=-1)) / distance
    return np.array([MILLIMETRES * np.linalg.norm(error, axis=-1).sum(), MILLIMETRES * depth.sum(), known.sum()])


def pose_errors(pose: np.ndarray, truth: Truth) -> dict[str, np.ndarray]:
    """Errors (T or fewer, J) of a pose (T, J, 3) under every metric, in the metrics' units; NaN where not scored."""
    distance = metrics.mpjpe(pose, truth.target, truth.mask)
    velocity = MILLIMETRES * metrics.mpjve(pose, truth.target, truth.mask, truth.frame)
    acceleration = MILLIMETRES * metrics.acceleration_error(pose, truth.target, truth.mask, truth.frame)
    return {
        "mpjpe": MILLIMETRES * distance,
        "p_mpjpe": MILLIMETRES * metrics.p_mpjpe(pose, truth.target, truth.mask),
        "n_mpjpe": MILLIMETRES * metrics.n_mpjpe(pose, truth.target, truth.mask),
        "mpjve": velocity,
        "mpjve_per_second": velocity * truth.fps,
        "acceleration_error": acceleration,
        "acceleration_error_per_second": acceleration * truth.fps**2,
        "pck_150": metrics.pck(distance),
        "auc_150": metrics.auc(distance),
        "mpjpe_in_view": np.where(truth.in_view, MILLIMETRES * distance, np.nan),
        "mpjpe_out_of_view": np.where(truth.in_view, np.nan, MILLIMETRES * distance),
    }


def _breakdown(distances: dict[str, np.ndarray], candidates: Candidates) -> Breakdown:
    """Errors (T, J) in mm of the headline by distance and beside the spread; when people were last seen is not known
    here."""
    error, hypotheses = distances[headline(list(distances))], candidates.hypotheses
    several = len(hypotheses) > 1
    return Breakdown(
        distance=by_distance(error, distances.get(BASELINE), np.linalg.norm(candidates.true_root, axis=-1)),
        spread=by_spread(error, MILLIMETRES * spread_of(hypotheses)) if several else None,
        hypotheses=len(hypotheses),
    )


def _weighted_sum(errors: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums (J,) of what was scored and its count; steps between frames, fewer than the weights, count once."""
    weight = weight[:, None] if len(errors) == len(weight) else 1
    scored = ~np.isnan(errors)
    return (np.where(scored, errors, 0) * weight).sum(axis=0), (scored * weight).sum(axis=0)


def _tally(lifted: LiftedTrack, joints: JointSet, min_joints_in_view: int, include_interpolated: bool) -> Counter:
    """How many frames and joints were scored and, each under the first reason that applies, left out."""
    status, shape = lifted.joint_status, lifted.target_mask.shape
    usable = (status == schema.OBSERVED) | (include_interpolated & (status == schema.INTERPOLATED))
    absent = (status == schema.MISSING).all(axis=-1)
    out_of_view = lifted.in_view.sum(axis=-1) < min_joints_in_view
    unknown = np.zeros(shape[1], bool) if lifted.comparable is None else ~lifted.comparable
    rootless = ~usable[:, list(joints.root_joints)].all(axis=-1)
    not_lifted = lifted.times_scored == 0
    scored = lifted.target_mask & ~not_lifted[:, None]
    frames = [
        ("scored", scored.any(axis=-1)),
        ("left out: no 3D position", absent),
        ("left out: person not in view", out_of_view),
        ("left out: root not observed", rootless),
        ("left out: not lifted", not_lifted),
        ("left out: other", np.ones(shape[0], bool)),
    ]
    single_joints = [
        ("scored", scored),
        *((name, np.broadcast_to(left_out[:, None], shape)) for name, left_out in frames[1:4]),
        ("left out: joint not comparable", np.broadcast_to(unknown, shape)),
        ("left out: joint missing", status == schema.MISSING),
        ("left out: joint interpolated", ~usable),
        ("left out: not lifted", np.broadcast_to(not_lifted[:, None], shape)),
        ("left out: other", np.ones(shape, bool)),
    ]
    tally = Counter({f"frames {name}": count for name, count in _first_that_applies(frames)})
    tally.update({f"joints {name}": count for name, count in _first_that_applies(single_joints)})
    tally["joints scored in view"] = int((scored & lifted.in_view).sum())
    tally["joints scored out of view"] = int((scored & ~lifted.in_view).sum())
    scored_frame = scored.any(axis=-1)
    tally["frames scored without a keypoint in them"] = int((scored_frame & ~lifted.input_mask.any(axis=-1)).sum())
    tally["frames scored but with too few joints for P-MPJPE"] = int((scored_frame & ~metrics.can_align(scored)).sum())
    tally["frames counted again by the papers' overlap"] = int((lifted.times_scored - 1)[scored_frame].sum())
    return tally


def _first_that_applies(cases: list[tuple[str, np.ndarray]]) -> list[tuple[str, int]]:
    rest = np.ones_like(cases[0][1])
    counted = []
    for name, applies in cases:
        counted.append((name, int((rest & applies).sum())))
        rest = rest & ~applies
    return counted


def _check_finite(
    track: Track, hypotheses: np.ndarray, mean_pose: np.ndarray | None, mask: np.ndarray, joints: JointSet
) -> None:
    if not np.isfinite(hypotheses[:, mask]).all():
        raise EvaluationError(
            f"{track.key}: the model predicts positions that are not finite; the training diverged, look at "
            "metrics.jsonl of the run and evaluate an earlier checkpoint"
        )
    if mean_pose is None:
        return
    unknown = mask.any(axis=0) & ~np.isfinite(mean_pose).all(axis=-1)
    if unknown.any():
        names = ", ".join(joints.joints[j] for j in np.flatnonzero(unknown))
        raise EvaluationError(
            f"{track.key}: {names} would be scored, but the training targets never had them, so that the mean pose of "
            "the training set lacks them; train on data in which every joint is observed"
        )


def _check_target_root(lifted: LiftedTrack, joints: JointSet) -> None:
    known = lifted.target_mask[:, list(joints.root_joints)].all(axis=-1)
    offset = np.abs(joints.root(lifted.target_3d[known].astype(np.float64))).max(initial=0.0)
    if offset > 1e-4:  # metres; float32 rounding stays far below
        raise EvaluationError(
            f"{lifted.track.key}: the target's root is {offset:.4f} m from the origin, expected a root-relative target"
        )
