"""Rigid and similarity transforms, quaternions, and Procrustes alignment.

A transform is a matrix acting on column vectors: (..., 3, 4), or (..., 4, 4) whose last row is ignored. Its leading
axes broadcast against those of the points; the caller inserts the axes. What needs no SVD works on numpy arrays and on
torch tensors.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

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
    rotation, translation = transform[..., :3, :3], transform[..., :3, 3]
    # A sum of scaled columns broadcasts over both arguments and avoids millions of tiny matrix products.
    return (
        points[..., 0:1] * rotation[..., :, 0]
        + points[..., 1:2] * rotation[..., :, 1]
        + points[..., 2:3] * rotation[..., :, 2]
        + translation
    )


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

    The only place where the scalar-first order of files meets scipy's scalar-last order.

    Raises:
        ValueError: a quaternion of norm zero (from scipy).
    """
    quaternion_wxyz = np.asarray(quaternion_wxyz, dtype=np.float64)
    rotation = Rotation.from_quat(quaternion_wxyz[..., [1, 2, 3, 0]].reshape(-1, 4))
    return rotation.as_matrix().reshape(*quaternion_wxyz.shape[:-1], 3, 3)


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
