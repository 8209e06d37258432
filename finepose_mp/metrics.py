"""Pose errors of single predictions, frame by frame and joint by joint, in float64.

Every function takes poses (..., J, 3) in metres, a mask that is True where a joint may be scored, and returns errors
without averaging them: NaN marks what was not scored and nothing else, because a prediction or target that is not
finite at a usable joint raises. `mean_and_count` takes the mean outside. Times axis is -3 where one is needed.

MPJPE, N-MPJPE and P-MPJPE are Protocols 1 to 3 of the Human3.6M literature; poses are compared as they come, so
root-relative numbers need root-relative poses.
"""

import numpy as np

from finepose_mp.geometry import procrustes

PCK_THRESHOLD = 0.150  # metres
AUC_THRESHOLDS = np.arange(31) * 0.005  # metres: 0, 5, ..., 150 mm; nothing is closer than 0, so 30/31 is the best AUC
MIN_JOINTS_TO_ALIGN = 3  # fewer leave the rotation open, and two joints always fit


def mpjpe(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Distances (..., J) between predicted and true joints, in metres, NaN where the mask is False.

    Args:
        prediction, target: (..., J, 3) in metres; leading axes broadcast.
        mask: (..., J), True where usable; None uses every joint.

    Raises:
        ValueError: a usable joint is not finite.
    """
    prediction, target, mask = _prepare(prediction, target, mask)
    return _distance(prediction, target, mask)


def p_mpjpe(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Distances (..., J) after the best similarity transform of every frame, in metres, NaN where not scored.

    The transform is fitted to the usable joints; reflections are excluded, so a mirrored prediction is not forgiven.
    Frames with fewer than `MIN_JOINTS_TO_ALIGN` usable joints are not scored. Arguments and errors as in `mpjpe`.
    """
    prediction, target, mask = _prepare(prediction, target, mask)
    mask = mask & can_align(mask)[..., None]
    return _distance(procrustes(prediction, target, mask), target, mask)


def n_mpjpe(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Distances (..., J) after the best scale of every frame, in metres, NaN where the mask is False.

    The scale is sum <target, prediction> / sum <prediction, prediction> over the usable joints, about the origin: feed
    root-relative poses. Arguments and errors as in `mpjpe`.
    """
    prediction, target, mask = _prepare(prediction, target, mask)
    return _distance(_scaled(prediction, target), target, mask)


def mpjve(
    prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None, frame: np.ndarray | None = None
) -> np.ndarray:
    """Velocity errors (..., T-1, J) in metres per frame, NaN where either frame of a step is not usable.

    Args:
        prediction, target: (..., T, J, 3) in metres.
        mask: (..., T, J), True where usable; None uses every joint.
        frame: (T,) frame numbers; steps between frames that do not follow each other are not scored. None: all do.

    Raises:
        ValueError: a usable joint is not finite.
    """
    return _difference_error(prediction, target, mask, frame, order=1)


def acceleration_error(
    prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None, frame: np.ndarray | None = None
) -> np.ndarray:
    """Acceleration errors (..., T-2, J) in metres per frame squared, from x[t-1] - 2 x[t] + x[t+1].

    NaN where one of the three frames is not usable. Arguments and errors as in `mpjve`.
    """
    return _difference_error(prediction, target, mask, frame, order=2)


def pck(errors: np.ndarray, threshold: float = PCK_THRESHOLD) -> np.ndarray:
    """Per error 100 where it is below the threshold (strictly) and 0 elsewhere; NaN stays NaN. Its mean is the PCK."""
    return np.where(np.isnan(errors), np.nan, 100.0 * (errors < threshold))


def auc(errors: np.ndarray, thresholds: np.ndarray = AUC_THRESHOLDS) -> np.ndarray:
    """Per error the percentage of ascending thresholds that lie above it (strictly); NaN stays NaN.

    Its mean is the mean PCK over the thresholds, at most 96.774 with the default ones (MPI-INF-3DHP's).
    """
    above = len(thresholds) - np.searchsorted(thresholds, errors, side="right")
    return np.where(np.isnan(errors), np.nan, 100.0 * above / len(thresholds))


def mean_and_count(values: np.ndarray, axis: int | tuple[int, ...] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the values that were scored, and how many they are; the mean of none is NaN."""
    scored = ~np.isnan(values)
    count = scored.sum(axis)
    total = np.where(scored, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)[()], count


def can_align(mask: np.ndarray) -> np.ndarray:
    """Frames (...) with enough usable joints for P-MPJPE, from a mask (..., J)."""
    return mask.sum(axis=-1) >= MIN_JOINTS_TO_ALIGN


def align_similarity(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Predictions (..., J, 3) moved onto the target by the transform that P-MPJPE uses. Arguments as in `mpjpe`."""
    prediction, target, mask = _prepare(prediction, target, mask)
    return procrustes(prediction, target, mask)


def align_scale(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Predictions (..., J, 3) scaled by the factor that N-MPJPE uses. Arguments as in `mpjpe`."""
    return _scaled(*_prepare(prediction, target, mask)[:2])


def _prepare(
    prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All three in one shape, float64, zeros where not usable, so that no NaN of a masked joint reaches a sum."""
    prediction, target = np.broadcast_arrays(np.asarray(prediction, np.float64), np.asarray(target, np.float64))
    if prediction.ndim < 2 or prediction.shape[-1] != 3:
        raise ValueError(f"expected poses (..., joint, 3), found shape {prediction.shape}")
    mask = np.broadcast_to(True if mask is None else np.asarray(mask, bool), prediction.shape[:-1])
    for name, points in (("prediction", prediction), ("target", target)):
        bad = mask & ~np.isfinite(points).all(axis=-1)
        if bad.any():
            raise ValueError(
                f"{name} is not finite at {int(bad.sum())} of {int(mask.sum())} usable joints, first at index "
                f"{tuple(int(i) for i in np.argwhere(bad)[0])}; mask joints that are missing"
            )
    return np.where(mask[..., None], prediction, 0.0), np.where(mask[..., None], target, 0.0), mask


def _distance(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask, np.linalg.norm(prediction - target, axis=-1), np.nan)


def _scaled(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    overlap = (target * prediction).sum(axis=(-2, -1), keepdims=True)
    size = (prediction * prediction).sum(axis=(-2, -1), keepdims=True)
    # A prediction collapsed into the origin stays there under every scale.
    return prediction * np.divide(overlap, size, out=np.zeros_like(overlap), where=size > 0)


def _difference_error(
    prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, frame: np.ndarray | None, order: int
) -> np.ndarray:
    prediction, target, mask = _prepare(prediction, target, mask)
    length = mask.shape[-2]
    frame = np.arange(length) if frame is None else np.asarray(frame)
    if frame.shape != (length,):
        raise ValueError(f"expected {length} frame numbers, found shape {frame.shape}")
    steps = max(length - order, 0)
    usable = np.ones((*mask.shape[:-2], steps, mask.shape[-1]), bool)
    for offset in range(order + 1):
        usable &= mask[..., offset : offset + steps, :]
        usable &= (frame[offset : offset + steps] == frame[:steps] + offset)[:, None]
    difference = np.diff(prediction, n=order, axis=-3) - np.diff(target, n=order, axis=-3)
    return np.where(usable, np.linalg.norm(difference, axis=-1), np.nan)
