"""From several hypotheses of a pose to one pose.

Hypotheses lie on one axis, named by `axis`; the other axes are those of a pose (..., J, 3). `single` and `p_agg` need
nothing else. J-Agg chooses by how close a joint comes to its 2D keypoint, given errors (H, ..., J) in any unit: with a
root that was solved from the same keypoints (`finepose_mp.geometry.recover_root_track`) it is deployable; with the true
root, as in the papers, it is an oracle. Everything under "oracle" looks at the true pose to choose: an upper bound that
no deployed system reaches, never a headline. The names follow D3DP (Shan et al., ICCV 2023, section 3.4).
"""

import numpy as np

from finepose_mp import cameras
from finepose_mp.geometry import distance_to_rays, root_equations
from finepose_mp.metrics import mpjpe

# Standard deviation, in metres at the person, of a keypoint about its joint: the temperature of soft J-Agg. COCO's
# annotators spread by 0.067 (mean of its 17 keypoints) of the square root of the person's area in the image, which is
# some 0.75 m for somebody who stands.
KEYPOINT_NOISE = 0.05


def single(hypotheses: np.ndarray, axis: int = 0) -> np.ndarray:
    """The first hypothesis: what one draw from the model gives."""
    return np.take(np.asarray(hypotheses, np.float64), 0, axis=axis)


def p_agg(hypotheses: np.ndarray, axis: int = 0) -> np.ndarray:
    """The mean of all hypotheses (D3DP's P-Agg)."""
    return np.mean(hypotheses, axis=axis, dtype=np.float64)


# --- J-Agg: the choice is made with the 2D keypoints ---


def reprojection_errors(
    hypotheses: np.ndarray, root: np.ndarray, keypoints: np.ndarray, model: str, params: np.ndarray
) -> np.ndarray:
    """Distances (H, ..., J) in the image between hypothetical joints seen through the lens and their keypoints.

    NaN where there is no keypoint or no root, or the lens cannot see the joint there. D3DP's code compares in screen
    coordinates and clamps x/z and y/z to +-1; neither changes a choice within the field of view of its cameras.

    Args:
        hypotheses: (H, ..., J, 3) relative to the root, metres, camera frame.
        root: (..., 3) metres, camera frame.
        keypoints: (..., J, 2) in the unit of the lens parameters, pixels as a rule.
        model, params: of `cameras.project`; params broadcast against (..., J, n).
    """
    projected = cameras.project(hypotheses + root[..., None, :], model, params)
    return np.linalg.norm(projected - keypoints, axis=-1)


def ray_distances(
    hypotheses: np.ndarray, root: np.ndarray, directions: np.ndarray, origins: np.ndarray | float = 0.0
) -> np.ndarray:
    """Distances (H, ..., J) in metres between hypothetical joints and the rays of their keypoints.

    The reprojection error brought to where the person is, so that one scale fits every lens and distance. NaN where
    the ray or the root is.

    Args:
        hypotheses: (H, ..., J, 3) relative to the root, metres.
        root: (..., 3) metres.
        directions: (..., J, 3) unit vectors towards the keypoints.
        origins: (..., J or 1, 3) camera centres.
    """
    return distance_to_rays(hypotheses + root[..., None, :], directions, origins)


def multi_view_distances(
    hypotheses: np.ndarray, root: np.ndarray, directions: np.ndarray, origins: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Distances (H, ..., J) in metres between hypothetical joints and the rays of their keypoints in several cameras.

    The square root of the weighted sum over C cameras of squared `ray_distances`; NaN where no camera has the keypoint.
    Up to a constant of the joint it is the distance from the triangulated joint, in the metric of how well the rays
    determine it, which is why it costs the same for any number of cameras.

    Args:
        hypotheses: (H, ..., J, 3) of whichever cameras, relative to the root, metres, in the orientation of the world.
        root: (..., 3) metres, world.
        directions: (C, ..., J, 3) unit vectors towards the keypoints, world.
        origins: (C, ..., J or 1, 3) camera centres, world.
        weights: (C, ..., J), 0 where a camera does not have the keypoint.
    """
    used = (weights > 0)[..., None]
    directions = np.where(used, directions, 0.0)
    offset = np.where(used, origins - root[..., None, :], 0.0)  # from the root, where joints are, for precision
    cameras_last = [np.moveaxis(array, 0, -2) for array in (np.zeros_like(offset), directions, offset)]
    matrix, vector = root_equations(*cameras_last, np.moveaxis(weights, 0, -1))
    constant = (weights * distance_to_rays(np.zeros_like(offset), directions, offset) ** 2).sum(axis=0)
    quadratic = ((matrix @ hypotheses[..., None])[..., 0] * hypotheses).sum(axis=-1)
    squared = quadratic - 2 * (vector * hypotheses).sum(axis=-1) + constant
    return np.where(used[..., 0].any(axis=0), np.sqrt(np.maximum(squared, 0.0)), np.nan)


def j_agg(hypotheses: np.ndarray, errors: np.ndarray, together: tuple[int, ...] = (), axis: int = 0) -> np.ndarray:
    """For every joint the hypothesis with the smallest error (D3DP's J-Agg); bones may not keep their length.

    Joints for which no hypothesis has an error take the mean of all, as in P-Agg.

    Args:
        hypotheses: (..., H, ..., J, 3), H on `axis`.
        errors: of the shape of `hypotheses` without its last axis: distances from the keypoints, NaN where unusable.
        together: joints that share one choice, by the sum of their squared errors: those between which the root lies,
            so that it stays where every hypothesis has it.
    """
    hypotheses, costs = np.moveaxis(np.asarray(hypotheses, np.float64), axis, 0), _costs(errors, together, axis)
    usable = ~np.isnan(costs).any(axis=0)
    chosen = _choose(hypotheses, np.where(usable, costs, 0.0).argmin(axis=0)[..., None])
    return np.where(usable[..., None], chosen, p_agg(hypotheses))


def soft_j_agg(
    hypotheses: np.ndarray,
    errors: np.ndarray,
    together: tuple[int, ...] = (),
    axis: int = 0,
    temperature: float = KEYPOINT_NOISE,
) -> np.ndarray:
    """For every joint the mean of the hypotheses weighted by exp(-error^2 / (2 temperature^2)).

    Read hypotheses as draws from what the model believes before the 2D is looked at again, and keypoints as Gaussian
    about the joint with the temperature as standard deviation: then this is the mean of the belief afterwards. A small
    temperature gives `j_agg`, a large one `p_agg`.

    Args:
        hypotheses, errors, together: as in `j_agg`.
        temperature: in the unit of `errors`, above 0.
    """
    hypotheses, costs = np.moveaxis(np.asarray(hypotheses, np.float64), axis, 0), _costs(errors, together, axis)
    costs = np.where(np.isnan(costs), 0.0, costs)  # the same for all hypotheses where there is no keypoint
    weights = np.exp((costs.min(axis=0) - costs) / (2 * temperature**2))
    return (weights[..., None] * hypotheses).sum(axis=0) / weights.sum(axis=0)[..., None]


def _costs(errors: np.ndarray, together: tuple[int, ...], axis: int) -> np.ndarray:
    """Squared errors (H, ..., J), infinite where only some hypotheses lack one, NaN where all do."""
    costs = np.moveaxis(np.asarray(errors, np.float64), axis, 0) ** 2
    usable = ~np.isnan(costs).all(axis=0)
    costs = np.where(usable, np.where(np.isnan(costs), np.inf, costs), np.nan)
    if together:
        joints = list(together)
        total = np.nansum(costs[..., joints], axis=-1)
        costs[..., joints] = np.where(usable[..., joints].any(axis=-1), total, np.nan)[..., None]
    # Where no hypothesis can be seen, the keypoint tells none of them from the others.
    return np.where(np.isinf(costs).all(axis=0), np.nan, costs)


# --- oracle: the choice is made with the true pose ---


def j_best(hypotheses: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None, axis: int = 0) -> np.ndarray:
    """Oracle: for every joint the hypothesis closest to the truth (D3DP's J-Best); bones may not keep their length.

    Args:
        hypotheses: (..., H, ..., J, 3) in metres, H on `axis`.
        target: (..., J, 3), the true pose.
        mask: (..., J), True where usable; the other joints keep the first hypothesis. None uses every joint.
    """
    hypotheses = np.moveaxis(np.asarray(hypotheses, np.float64), axis, 0)
    errors = np.nan_to_num(mpjpe(hypotheses, target, mask))  # 0 at unusable joints: the first hypothesis wins
    return _choose(hypotheses, errors.argmin(axis=0)[..., None])


def p_best(
    hypotheses: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray | None = None,
    group: np.ndarray | None = None,
    axis: int = 0,
) -> np.ndarray:
    """Oracle: for every group of frames the hypothesis with the smallest mean joint error (D3DP's P-Best).

    The larger the groups the worse the result. The D3DP and FinePOSE programs choose once for a whole mini-batch, so
    that their P-Best depends on the batch size; their papers describe a choice per frame.

    Args:
        hypotheses: (..., H, ..., J, 3) in metres, H on `axis`.
        target: (..., J, 3), the true pose.
        mask: (..., J), True where usable; None uses every joint. A group without one keeps the first hypothesis.
        group: (...) integer label of each frame; frames with equal labels share the choice, for example the window they
            belong to. None: every frame is a group.
    """
    hypotheses = np.moveaxis(np.asarray(hypotheses, np.float64), axis, 0)
    errors = np.nan_to_num(mpjpe(hypotheses, target, mask)).sum(axis=-1)
    if group is not None:
        _, label = np.unique(np.broadcast_to(group, errors.shape[1:]), return_inverse=True)
        flat = errors.reshape(len(errors), -1)
        # Sums choose like means: the number of usable joints is the same for all hypotheses.
        totals = np.stack([np.bincount(label.ravel(), weights=row) for row in flat])
        errors = totals[:, label.ravel()].reshape(errors.shape)
    return _choose(hypotheses, errors.argmin(axis=0)[..., None, None])


def _choose(hypotheses: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take_along_axis(hypotheses, index[None], axis=0)[0]
