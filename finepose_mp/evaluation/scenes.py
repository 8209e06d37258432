"""Where predicted people stand, against the truth of a scene: errors in the world, without any alignment."""

from itertools import combinations

import numpy as np

from finepose_mp import schema
from finepose_mp.evaluation.scoring import MILLIMETRES
from finepose_mp.inference.long_tracks import overlapping_windows
from finepose_mp.skeletons import JointSet
from finepose_mp.variables import INFERRED, NOT_PREDICTED, SEEN

ERRORS = {
    "mpjpe_world": "mean distance of joints in the world",
    "root_error": "distance of roots in the world",
    "mpjpe": "mean distance of joints, roots aligned",
    "distance_error": "error of the distance between two people's roots",
}
BINS = 10  # of the calibration curve


def scene_errors(sequence: schema.Sequence, joints: JointSet) -> dict[str, dict[str, float | int | None]]:
    """Errors in mm of a sequence's prediction by how a frame was predicted: "seen", "inferred" and "all".

    Each has the means over joints (or people, or pairs of people) and frames named in `ERRORS`, None where there is
    nothing to compare, and the number of people and frames compared. Joints count that the data says were observed, of
    people whose root was.

    Raises:
        ValueError: the sequence has no prediction, or no truth to compare it with.
    """
    truth, predicted, observed = _compared(sequence, joints)
    groups = {
        "all": sequence.predicted_status != NOT_PREDICTED,
        "seen": sequence.predicted_status == SEEN,
        "inferred": sequence.predicted_status == INFERRED,
    }
    return {name: _errors(truth, predicted, observed & frames[..., None], joints) for name, frames in groups.items()}


def calibration(sequence: schema.Sequence, joints: JointSet) -> list[dict[str, float | int]]:
    """How well the spread of the hypotheses tells the error: a row for each tenth of the joints, by growing spread.

    Each row has the root mean squares, in mm, of the spread and of the root-relative error, and how many joints: where
    the spread is honest, the error of the mean of H hypotheses is sqrt((H + 1) / (H - 1)) times it, and grows with it.
    """
    truth, predicted, observed = _compared(sequence, joints)
    usable = observed & (sequence.predicted_status != NOT_PREDICTED)[..., None] & np.isfinite(sequence.predicted_spread)
    error = MILLIMETRES * np.linalg.norm(joints.root_relative(predicted) - joints.root_relative(truth), axis=-1)[usable]
    spread = MILLIMETRES * sequence.predicted_spread[usable]
    order = np.argsort(spread, kind="stable")
    return [
        {
            "spread": float(np.sqrt(np.mean(spread[part] ** 2))),
            "error": float(np.sqrt(np.mean(error[part] ** 2))),
            "joints": len(part),
        }
        for part in np.array_split(order, BINS)
        if len(part)
    ]


def seam_acceleration(sequence: schema.Sequence, joints: JointSet, window: int) -> dict[str, float | None]:
    """Mean acceleration of joints about their root, m/s^2, where windows of N frames begin or end, and inside of them.

    "at seams" counts second differences over frames that different windows hold, "inside" the others; None where there
    are none. Windows that meet without a seam give the same for both.
    """
    if sequence.predicted_3d_world is None:
        raise ValueError(f"{sequence.name}: no prediction in it; tools/predict.py makes one")
    relative = joints.root_relative(sequence.predicted_3d_world.astype(np.float64))
    change = np.linalg.norm(np.diff(relative, n=2, axis=0), axis=-1) * sequence.fps**2
    step = np.diff(sequence.frame)
    even = (step[1:] == step[:-1]) & (step[1:] == np.min(step, initial=1))
    border = _window_borders(len(sequence.frame), window)
    at_seam = border[1:] | border[:-1]
    known = np.isfinite(change) & even[:, None, None]
    return {
        name: float(change[known & where[:, None, None]].mean()) if (known & where[:, None, None]).any() else None
        for name, where in (("at seams", at_seam), ("inside", ~at_seam))
    }


def _window_borders(length: int, window: int) -> np.ndarray:
    """(T - 1,) bool: whether a frame and the next are held by different windows of a long track."""
    windows = overlapping_windows(length, window)
    held = np.zeros((len(windows.start), length), bool)
    np.put_along_axis(held, windows.frames, True, axis=1)
    return (held[:, 1:] != held[:, :-1]).any(axis=0)


def _compared(sequence: schema.Sequence, joints: JointSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and prediction (T, P, J, 3) in float64, and where both may be compared (T, P, J)."""
    if sequence.predicted_3d_world is None:
        raise ValueError(f"{sequence.name}: no prediction in it; tools/predict.py makes one")
    truth = sequence.joints_3d_world.astype(np.float64)
    predicted = sequence.predicted_3d_world.astype(np.float64)
    observed = (sequence.joint_status == schema.OBSERVED) & np.isfinite(truth).all(axis=-1)
    observed &= np.isfinite(predicted).all(axis=-1)  # a model of another joint set may lack some
    observed &= observed[..., list(joints.root_joints)].all(axis=-1, keepdims=True)
    if not observed.any():
        raise ValueError(f"{sequence.name}: no person has both a prediction and a true pose in any frame")
    return truth, predicted, observed


def _errors(truth: np.ndarray, predicted: np.ndarray, observed: np.ndarray, joints: JointSet) -> dict:
    error_world = np.linalg.norm(predicted - truth, axis=-1)
    relative = np.linalg.norm(joints.root_relative(predicted) - joints.root_relative(truth), axis=-1)
    roots_true, roots = joints.root(truth), joints.root(predicted)
    people = observed.any(axis=-1)
    return {
        "mpjpe_world": _mean(error_world[observed]),
        "root_error": _mean(np.linalg.norm(roots - roots_true, axis=-1)[people]),
        "mpjpe": _mean(relative[observed]),
        "distance_error": _mean(_distance_errors(roots_true, roots, people)),
        "people and frames": int(people.sum()),
    }


def _distance_errors(roots_true: np.ndarray, roots: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Errors of the distance between every two people in every frame that both are compared in."""
    of_pairs = [np.empty(0)]
    for first, second in combinations(range(people.shape[1]), 2):
        both = people[:, first] & people[:, second]
        true, found = (np.linalg.norm(r[both, first] - r[both, second], axis=-1) for r in (roots_true, roots))
        of_pairs.append(np.abs(found - true))
    return np.concatenate(of_pairs)


def _mean(values: np.ndarray) -> float | None:
    return float(MILLIMETRES * values.mean()) if len(values) else None
