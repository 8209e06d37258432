"""Where predicted people stand, against the truth of a scene: errors in the world, without any alignment."""

from itertools import combinations

import numpy as np

from finepose_mp import schema
from finepose_mp.evaluation.scoring import MILLIMETRES
from finepose_mp.skeletons import JointSet

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
        "all": sequence.predicted_status > 0,
        "seen": sequence.predicted_status == 1,
        "inferred": sequence.predicted_status == 2,
    }
    return {name: _errors(truth, predicted, observed & frames[..., None], joints) for name, frames in groups.items()}


def calibration(sequence: schema.Sequence, joints: JointSet) -> list[dict[str, float | int]]:
    """How well the spread of the hypotheses tells the error: a row for each tenth of the joints, by growing spread.

    Each row has the root mean squares, in mm, of the spread and of the root-relative error, and how many joints: where
    the spread is honest, the error of the mean of H hypotheses is sqrt(1 + 1/H) times it, and grows with it.
    """
    truth, predicted, observed = _compared(sequence, joints)
    usable = observed & (sequence.predicted_status > 0)[..., None] & np.isfinite(sequence.predicted_spread)
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


def _compared(sequence: schema.Sequence, joints: JointSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and prediction (T, P, J, 3) in float64, and where both may be compared (T, P, J)."""
    if sequence.predicted_3d_world is None:
        raise ValueError(f"{sequence.name}: no prediction in it; tools/predict.py makes one")
    truth = sequence.joints_3d_world.astype(np.float64)
    predicted = sequence.predicted_3d_world.astype(np.float64)
    observed = (sequence.joint_status == schema.OBSERVED) & np.isfinite(truth).all(axis=-1)
    observed &= observed[..., list(joints.root_joints)].all(axis=-1, keepdims=True)
    observed &= np.isfinite(predicted).all(axis=(-2, -1))[..., None]
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
