"""Rigid and similarity transforms, quaternions, and Procrustes alignment.

A transform is a matrix acting on column vectors: (..., 3, 4), or (..., 4, 4) whose last row is ignored. Its leading
axes broadcast against those of the points; the caller inserts the axes. What needs no SVD works on numpy arrays and on
torch tensors.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = Any  # a numpy array or a torch tensor


def array_namespace(array: Array) -> Any:
    """The module (torch or numpy) whose functions apply to `array`.

    torch is looked up among the loaded modules, never imported: without a tensor there is no need for it.
    """
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else np


def as_array_like(value: Array, reference: Array) -> Array:
    """`value` as an array of the library, dtype and device of `reference`; gradients of tensors are kept."""
    xp = array_namespace(reference)
    if xp is np:
        return np.asarray(value, dtype=reference.dtype)
    return xp.as_tensor(value, dtype=reference.dtype, device=reference.device)


def apply_rigid(points: Array, transform: Array) -> Array:
    """Points (..., 3) mapped by transforms (..., 3, 4): R x + t.

    Any affine transform will do, a similarity included.
    """
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    # Coordinate by coordinate: loops over an axis of three, or tiny matrix products, take three times as long.
    rows = (transform[..., i, :] for i in range(3))
    mapped = [x * row[..., 0] + y * row[..., 1] + z * row[..., 2] + row[..., 3] for row in rows]
    return array_namespace(points).stack(mapped, axis=-1)


def _join(linear: Array, translation: Array) -> Array:
    """The (..., 3, 4) transform with the given 3x3 block and translation."""
    return array_namespace(linear).concatenate([linear, translation[..., None]], axis=-1)


def invert_rigid(transform: Array) -> Array:
    """The inverse (..., 3, 4) of rigid transforms, [R^T | -R^T t]; for others see `invert_similarity`."""
    inverse_rotation = transform[..., :3, :3].swapaxes(-1, -2)
    return _join(inverse_rotation, -(inverse_rotation @ transform[..., :3, 3:])[..., 0])


def invert_similarity(transform: Array) -> Array:
    """The inverse (..., 3, 4) of similarity (or any affine) transforms, by inverting the 3x3 block."""
    inverse = array_namespace(transform).linalg.inv(transform[..., :3, :3])
    return _join(inverse, -(inverse @ transform[..., :3, 3:])[..., 0])


def compose(*transforms: Array) -> Array:
    """The (..., 3, 4) product of transforms, written like the matrix product: the last one acts first."""
    *outer, product = transforms
    linear, translation = product[..., :3, :3], product[..., :3, 3]
    for transform in reversed(outer):
        translation = apply_rigid(translation, transform)
        linear = transform[..., :3, :3] @ linear
    return _join(linear, translation)


def split_similarity(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotation (..., 3, 3), translation (..., 3) and scale (...) of s [R | t], the scale divided out of both.

    For a camera pose composed with a similarity of the world (s R, s t), R and t are the metric pose: the division
    changes depths to world units and leaves every pixel where it was. The rotation is returned as found; see
    `nearest_rotation` where it may be inexact.

    Raises:
        ValueError: the 3x3 block has a determinant that is not finite and positive (a reflection or a collapse).
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # NaN is reported below
        determinant = np.linalg.det(matrix[..., :3, :3])
    if not np.all(np.isfinite(determinant) & (determinant > 0)):
        raise ValueError(
            f"expected a similarity transform (determinant of the 3x3 block > 0), found determinant {determinant}; "
            "a negative one is a reflection: check the axis conventions of the file the matrix comes from"
        )
    scale = np.cbrt(determinant)
    return matrix[..., :3, :3] / scale[..., None, None], matrix[..., :3, 3] / scale[..., None], scale


def nearest_rotation(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation (..., 3, 3) closest to a 3x3 matrix, and the Frobenius norm (...) of the correction."""
    matrix = np.asarray(matrix, dtype=np.float64)
    u, _, vt = np.linalg.svd(matrix)
    rotation = _proper_product(u, vt)
    return rotation, np.linalg.norm(rotation - matrix, axis=(-2, -1))


def _proper_product(u: np.ndarray, vt: np.ndarray) -> np.ndarray:
    """U diag(1, 1, +-1) V^T with determinant +1: the best rotation, never a reflection (Umeyama 1991, eq. 40)."""
    u = u.copy()
    u[..., :, -1] *= _handedness(u, vt)[..., None]
    return u @ vt


def _handedness(u: np.ndarray, vt: np.ndarray) -> np.ndarray:
    """+1 (...) where U V^T is a rotation, -1 where it is a reflection; never 0."""
    return np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)


def rotation_from_quaternion(quaternion_wxyz: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of scalar-first quaternions (..., 4), which need not be normalised.

    Raises:
        ValueError: a quaternion of norm zero.
    """
    w, x, y, z = np.moveaxis(np.asarray(quaternion_wxyz, dtype=np.float64), -1, 0)
    norm = np.sqrt(x * x + y * y + z * z + w * w)
    if not norm.all():
        raise ValueError("found a quaternion of norm zero, which is no rotation")
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    rows = (
        (x * x - y * y - z * z + w * w, 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), -x * x + y * y - z * z + w * w, 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), -x * x - y * y + z * z + w * w),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def procrustes(
    source: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None, scale: bool = True
) -> np.ndarray:
    """`source` (..., J, 3) after the rotation, translation and scale that bring it closest to `target`, in float64.

    Least squares over the joints of each pose where `mask` (..., J) is True (all, by default); every joint is moved,
    masked or not. Reflections are excluded, so a mirrored pose is not forgiven (Umeyama 1991; the P-MPJPE alignment of
    Human3.6M protocol 2). With `scale=False` only rotation and translation are fitted.

    Degenerate poses have no unique answer and get a plain one instead of NaN: usable joints of the source that coincide
    land on the centroid of the target, with the rotation left at identity; with no usable joint at all, the source
    comes back unchanged.

    Raises:
        ValueError: shapes disagree, or a usable joint is not finite.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if source.shape != target.shape or source.ndim < 2 or source.shape[-1] != 3:
        raise ValueError(f"source and target must both be (..., J, 3), found {source.shape} and {target.shape}")
    usable = np.ones(source.shape[:-1], bool) if mask is None else np.broadcast_to(mask, source.shape[:-1])
    usable = usable[..., None]
    bad = int(np.count_nonzero(usable & ~(np.isfinite(source) & np.isfinite(target))))
    if bad:
        raise ValueError(
            f"{bad} coordinates of usable joints are not finite; set `mask` to False where a joint is missing"
        )

    count = np.maximum(usable.sum(axis=-2, keepdims=True), 1)
    source_mean = np.where(usable, source, 0.0).sum(axis=-2, keepdims=True) / count
    target_mean = np.where(usable, target, 0.0).sum(axis=-2, keepdims=True) / count
    source_centred = np.where(usable, source - source_mean, 0.0)
    target_centred = np.where(usable, target - target_mean, 0.0)

    u, singular_values, vt = np.linalg.svd(target_centred.swapaxes(-1, -2) @ source_centred)
    rotation = _proper_product(u, vt)
    factor = np.ones(source.shape[:-2])
    if scale:
        singular_values[..., -1] *= _handedness(u, vt)
        spread = np.square(source_centred).sum(axis=(-2, -1))
        factor = np.where(spread > 0, singular_values.sum(axis=-1) / np.where(spread > 0, spread, 1.0), 1.0)
    aligned = factor[..., None, None] * (source - source_mean) @ rotation.swapaxes(-1, -2) + target_mean
    return np.where(usable.any(axis=-2, keepdims=True), aligned, source)


# --- the position of a posed person, from the rays of its keypoints ---

JOINT_NOISE = 0.05  # metres from a predicted joint to the ray of its keypoint: what residuals are weighted with
ROOT_ACCELERATION = 5.0  # m/s^2, standard deviation of a person's acceleration from one frame to the next
ROOT_SPEED = 10.0  # m/s, standard deviation of a person's speed: wide enough to matter only where data is scarce
ROOT_MEMORY = 0.5  # seconds before and after a frame whose keypoints may determine its root
LARGEST_ROOT_ERROR = 0.25  # of the distance: the standard deviation up to which a root counts as determined

_SMALLEST_SPREAD = 1e-6  # rad^2: rays that spread less say nothing about distance


def ray_directions(rays: Array) -> Array:
    """Unit vectors (..., 3), camera frame, of rays (..., 2) = (x/z, y/z)."""
    xp = array_namespace(rays)
    directions = xp.concatenate([rays, xp.ones_like(rays[..., :1])], axis=-1)
    return directions / xp.sqrt((directions * directions).sum(axis=-1))[..., None]


def distance_to_rays(points: Array, directions: Array, origins: Array) -> Array:
    """Distances (...) of points (..., 3) from the lines through `origins` along unit `directions`, both (..., 3)."""
    xp = array_namespace(points)
    offset = points - origins
    across = offset - (offset * directions).sum(axis=-1)[..., None] * directions
    return xp.sqrt((across * across).sum(axis=-1))


def root_equations(points: Array, directions: Array, origins: Array, weights: Array) -> tuple[Array, Array]:
    """Matrix (..., 3, 3) and vector (..., 3) of the normal equations A r = b for the root r of a pose.

    r minimises the sum over N joints of w |(I - d d^T)(p + r - o)|^2, the squared distances of the joints p + r from
    their rays. Every joint gives two independent equations, linear in r. Equations of frames or cameras add up.

    Args:
        points: (..., N, 3) joints relative to the root, metres; any value where the weight is 0.
        directions: (..., N, 3) unit vectors towards the keypoints, in the frame of the points.
        origins: (..., N or 1, 3) camera centres, in the frame of the points; zeros in the camera's own frame.
        weights: (..., N), 1/m^2, 0 where there is no keypoint.
    """
    xp = array_namespace(points)
    used = (weights > 0)[..., None]
    directions = xp.where(used, directions, 0.0)
    offset = xp.where(used, origins - points, 0.0)
    weighted = weights[..., None] * directions
    identity = as_array_like(np.eye(3), points)
    matrix = weights.sum(axis=-1)[..., None, None] * identity - weighted.swapaxes(-1, -2) @ directions
    across = offset - (offset * directions).sum(axis=-1)[..., None] * directions
    return matrix, (weights[..., None] * across).sum(axis=-2)


def solve_root(points: Array, directions: Array, origins: Array, weights: Array) -> Array:
    """Roots (..., 3) that bring posed joints closest to their rays, each frame by itself, in closed form.

    The linear least squares solution of `root_equations`. NaN where the rays do not determine it: fewer than two, all
    within a milliradian, or a solution that puts the person behind the cameras. Arguments as in `root_equations`.
    """
    xp = array_namespace(points)
    matrix, vector = root_equations(points, directions, origins, weights)
    determined = xp.linalg.eigvalsh(matrix)[..., 0] > _SMALLEST_SPREAD * weights.sum(axis=-1)
    # A matrix without an inverse would stop the whole batch.
    matrix = xp.where(determined[..., None, None], matrix, as_array_like(np.eye(3), points))
    root = xp.linalg.solve(matrix, vector[..., None])[..., 0]
    determined = determined & (_weighted_depth(points, directions, origins, weights, root) > 0)
    return xp.where(determined[..., None], root, xp.nan)


def recover_root_track(
    points: np.ndarray, directions: np.ndarray, origins: np.ndarray, weights: np.ndarray, time: np.ndarray
) -> np.ndarray:
    """Roots (T, 3) of a person over time, from posed joints and the rays of their keypoints, in a frame at rest.

    The most likely path under `root_equations` of all frames and a prior under which the velocity changes by chance
    (`ROOT_ACCELERATION`, `ROOT_SPEED`), in one banded system of linear equations: a smoother whose kernel follows from
    what each frame knows. Across its rays a frame is trusted within millimetres; its distance, which a frame knows
    poorly, is averaged over about half a second; frames without keypoints are bridged.

    The frame of reference must not turn with a head. For worn cameras it is the world, through camera poses: they are
    measured from the camera (SLAM) and are no truth about the person.

    NaN where the keypoints within `ROOT_MEMORY` do not determine the root to `LARGEST_ROOT_ERROR`, or where the person
    would be behind the cameras.

    Args:
        points: (T, N, 3) joints relative to the root, metres; N counts the joints of all cameras.
        directions: (T, N, 3) unit vectors towards the keypoints.
        origins: (T, N or 1, 3) camera centres, metres.
        weights: (T, N) trust in each keypoint, at most 1; 0 where there is none, and all else may then be NaN.
        time: (T,) seconds, increasing.
    """
    weights = weights / JOINT_NOISE**2
    matrix, vector = root_equations(points, directions, origins, weights)
    root = _most_likely_path(matrix, vector, time)
    distance = np.fmin.reduce(np.linalg.norm(root[:, None] - origins, axis=-1), axis=-1)
    determined = _largest_deviation(matrix, time) < LARGEST_ROOT_ERROR * distance
    determined &= _weighted_depth(points, directions, origins, weights, root) >= 0
    return np.where(determined[:, None], root, np.nan)


def _weighted_depth(points: Array, directions: Array, origins: Array, weights: Array, root: Array) -> Array:
    """Sum (...) over joints of weight times distance in front of the camera, along the keypoint's ray."""
    along = ((points + root[..., None, :] - origins) * directions).sum(axis=-1)
    return array_namespace(points).where(weights > 0, weights * along, 0.0).sum(axis=-1)


def _most_likely_path(matrix: np.ndarray, vector: np.ndarray, time: np.ndarray) -> np.ndarray:
    """r (T, 3) minimising sum_t (r^T A r - 2 b^T r) + |acceleration|^2 / sigma_a^2 + |velocity|^2 / sigma_v^2."""
    bands = np.zeros((7, len(time), 3))  # lower diagonals of the (3T, 3T) matrix: 3 within a frame, 3 and 6 beyond
    for row in range(3):
        for column in range(row + 1):
            bands[row - column, :, column] = matrix[:, row, column]
    step = np.diff(time)
    _add_penalty(bands, np.stack([-1 / step, 1 / step]) / ROOT_SPEED)
    before, after = step[:-1], step[1:]
    first, last = 2 / (before * (before + after)), 2 / (after * (before + after))  # of the second divided difference
    _add_penalty(bands, np.stack([first, -first - last, last]) / ROOT_ACCELERATION)
    # Without any keypoint nothing says where the path lies; a hair of weight on the origin keeps it finite.
    bands[0] += 1e-9
    from scipy.linalg import solveh_banded  # a third of the start of every process, and hardly any needs it

    return solveh_banded(bands.reshape(7, -1), vector.ravel(), lower=True).reshape(-1, 3)


def _add_penalty(bands: np.ndarray, coefficients: np.ndarray) -> None:
    """Adds the squares of `coefficients` (n, m), m differences over n frames each, to all three coordinates."""
    n, m = coefficients.shape
    for i in range(n):
        for j in range(i, n):
            bands[3 * (j - i), i : i + m] += (coefficients[i] * coefficients[j])[:, None]


def _largest_deviation(matrix: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Standard deviation (T,) of the root along its worst direction, by the keypoints of a frame's neighbourhood."""
    total = np.concatenate([np.zeros((1, 3, 3)), np.cumsum(matrix, axis=0)])
    slack = 1e-6  # seconds, so that rounding of times excludes no frame
    start = np.searchsorted(time, time - ROOT_MEMORY - slack)
    stop = np.searchsorted(time, time + ROOT_MEMORY + slack)
    information = np.linalg.eigvalsh(total[stop] - total[start])[:, 0]
    return 1 / np.sqrt(np.maximum(information, 1e-12))
