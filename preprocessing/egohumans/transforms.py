"""World frames of a take: from every Aria's own world to the one shared world (aria01's), with all scales removed.

COLMAP reconstructs at an arbitrary scale. `colmap_from_aria` holds, for every Aria `a`, the similarity T_a from its own
world in metres to the COLMAP frame. The shared world of a take is that of aria01, even where aria01 itself is no valid
person.
"""

import numpy as np

from finepose_mp import geometry
from finepose_mp.preprocessing.egohumans.findings import Findings
from finepose_mp.preprocessing.egohumans.source import TakeError, TakeReader
from finepose_mp.preprocessing.unpickling import DamagedFileError, load_pickle

ANCHOR = "aria01"
TRANSFORMS_FILE = "colmap/workplace/colmap_from_aria_transforms.pkl"

# Beyond rounding, below what moves a pixel: rotations this far from orthonormal are replaced by the nearest one.
ORTHONORMAL_TOLERANCE = 1e-6
# Two visual-inertial systems in one room agree better than this; more is a wrong alignment.
SCALE_TOLERANCE = 0.05


def read_transforms(reader: TakeReader, findings: Findings) -> dict[str, np.ndarray]:
    """Aria name -> (4, 4) similarity from that Aria's world (metres) to the COLMAP frame.

    Raises:
        TakeError: no usable transform of aria01, without which there is no shared world.
    """
    transforms = parse_transforms(reader.file(TRANSFORMS_FILE), TRANSFORMS_FILE)
    usable: dict[str, np.ndarray] = {}
    for name, matrix in sorted(transforms.items()):
        problem = _similarity_problem(matrix)
        if problem:
            findings.add("transforms", "error", f"{TRANSFORMS_FILE}: transform of {name} {problem}", person=name)
        else:
            usable[name] = matrix
    if ANCHOR not in usable:
        raise TakeError(
            f"{TRANSFORMS_FILE} has no usable transform of {ANCHOR}, whose world all poses and cameras are in; "
            f"it has {', '.join(usable) or 'none'}"
        )
    _report_scales(usable, findings)
    return usable


def parse_transforms(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Aria name -> (4, 4) float64, as in the file. Raises DamagedFileError when the content is anything else."""
    content = load_pickle(data, name)
    if not isinstance(content, dict):
        raise DamagedFileError(f"{name}: holds {type(content).__name__}, expected a dictionary of 4x4 matrices")
    transforms = {}
    for aria, value in content.items():
        matrix = np.asarray(value)
        if not isinstance(aria, str) or matrix.shape != (4, 4) or matrix.dtype.kind not in "fi":
            raise DamagedFileError(f"{name}: {aria!r} holds {matrix.dtype} {matrix.shape}, expected a 4x4 matrix")
        transforms[aria] = matrix.astype(np.float64)
    return transforms


def metric_pose(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rigid transforms (..., 3, 4) in metres of similarities s [R | t], their scales s (...), and the worst correction.

    The correction is the largest Frobenius distance of a rotation block from the nearest rotation, which replaces it.

    Raises:
        ValueError: a 3x3 block that is no scaled rotation (not finite, or a reflection).
    """
    rotation, translation, scale = geometry.split_similarity(matrix)
    nearest, residual = geometry.nearest_rotation(rotation)
    rotation = np.where(residual[..., None, None] > ORTHONORMAL_TOLERANCE, nearest, rotation)
    return np.concatenate([rotation, translation[..., None]], axis=-1), scale, float(np.max(residual, initial=0.0))


def camera_centres(world_to_camera: np.ndarray) -> np.ndarray:
    """Centres (..., 3) of cameras in the world, metres: C = -R^T t."""
    return geometry.invert_rigid(world_to_camera)[..., 3]


def _similarity_problem(matrix: np.ndarray) -> str | None:
    if not np.isfinite(matrix).all():
        return "is not finite"
    if not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-9):
        return f"has last row {matrix[3].tolist()}, expected 0 0 0 1"
    try:
        _, _, residual = metric_pose(matrix)
    except ValueError as error:
        return f"is no similarity ({error})"
    return f"has a 3x3 block {residual:.2g} away from a scaled rotation" if residual > 1e-3 else None


def _report_scales(transforms: dict[str, np.ndarray], findings: Findings) -> None:
    """The scales that the converted poses no longer contain, and a warning where two Arias disagree on the metre."""
    scales = {name: float(np.cbrt(np.linalg.det(matrix[:3, :3]))) for name, matrix in transforms.items()}
    anchor_scale = scales[ANCHOR]
    relative = {name: anchor_scale / scale for name, scale in scales.items()}
    text = ", ".join(f"{name} {ratio:.4f}" for name, ratio in relative.items())
    findings.add(
        "transforms",
        "info",
        f"scale removed: {anchor_scale:.6g} COLMAP units a metre; {ANCHOR}'s metre over own: {text}",
    )
    for name, ratio in relative.items():
        if abs(ratio - 1) > SCALE_TOLERANCE:
            message = f"{name}'s metre differs from {ANCHOR}'s by a factor {ratio:.3f}; its cameras may be misplaced"
            findings.add("transforms", "warning", message, person=name)
