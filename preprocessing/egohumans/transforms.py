"""World frames of a take: from every Aria's own world to the one shared world (aria01's), with all scales removed.

COLMAP reconstructs at an arbitrary scale. `colmap_from_aria` holds, for every Aria `a`, the similarity T_a from its own
world in metres to the COLMAP frame. The shared world of a take is that of aria01, even where aria01 itself is no valid
person.
"""

import numpy as np

from finepose_mp import geometry
from finepose_mp.preprocessing.egohumans.source import TakeError, TakeReader
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.preprocessing.unpickling import DamagedFileError, load_pickle

ANCHOR = "aria01"
TRANSFORMS_FILE = "colmap/workplace/colmap_from_aria_transforms.pkl"

# Beyond rounding, below what moves a pixel: rotations this far from orthonormal are replaced by the nearest one.
ORTHONORMAL_TOLERANCE = 1e-6
# A 3x3 block this far (Frobenius, scale divided out) from a rotation is 0.06 degrees of shear: no rounding does that.
SHEAR_TOLERANCE = 1e-3
# Two visual-inertial systems in one room agree better than this; more is a wrong alignment.
SCALE_TOLERANCE = 0.05


def read_transforms(reader: TakeReader, findings: Findings) -> dict[str, np.ndarray]:
    """Aria name -> (4, 4) similarity from that Aria's world (metres) to the COLMAP frame; others are left out.

    Raises:
        TakeError: no usable transform of aria01, without which there is no shared world.
        DamagedFileError: the file holds something else than matrices by name.
    """
    usable: dict[str, np.ndarray] = {}
    problems: dict[str, str] = {}
    for name, value in parse_transforms(reader.file(TRANSFORMS_FILE), TRANSFORMS_FILE).items():
        problem = _similarity_problem(value)
        if problem:
            problems[name] = problem
            message = f"{TRANSFORMS_FILE}: transform of {name} {problem}; left out"
            findings.add(
                "transforms.unusable", "error", message, person=name, expected="similarity, 4x4", found=problem
            )
        else:
            usable[name] = value.astype(np.float64)
    if ANCHOR not in usable:
        raise TakeError(
            f"{TRANSFORMS_FILE} has no usable transform of {ANCHOR}, whose world all poses and cameras are in; "
            f"it has {', '.join(usable) or 'none'}"
            + (f", and that of {ANCHOR} {problems[ANCHOR]}" if ANCHOR in problems else "")
        )
    _report_scales(usable, findings)
    return usable


def parse_transforms(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Aria name -> array, sorted, as in the file. Raises DamagedFileError when it is no dictionary of arrays."""
    content = load_pickle(data, name)
    if not isinstance(content, dict):
        raise DamagedFileError(f"{name}: holds {type(content).__name__}, expected a dictionary of 4x4 matrices")
    for aria, value in content.items():
        if not isinstance(aria, str) or not isinstance(value, np.ndarray):
            raise DamagedFileError(f"{name}: {aria!r} holds {type(value).__name__}, expected a 4x4 matrix")
    return dict(sorted(content.items()))


def metric_pose(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rigid transforms (..., 3, 4) in metres of similarities s [R | t], their scales s (...), and the worst correction.

    The correction is the largest Frobenius distance of a rotation block from the nearest rotation, which replaces it; 0
    where none is beyond `ORTHONORMAL_TOLERANCE`, and all stay as they are.

    Raises:
        ValueError: a 3x3 block that is no scaled rotation (not finite, or a reflection).
    """
    rotation, translation, scale = geometry.split_similarity(matrix)
    residual = np.linalg.norm(rotation.swapaxes(-1, -2) @ rotation - np.eye(3), axis=(-2, -1))
    if not (residual <= ORTHONORMAL_TOLERANCE).all():  # the nearest rotation is no farther away, and costs an SVD
        nearest, residual = geometry.nearest_rotation(rotation)
        rotation = np.where(residual[..., None, None] > ORTHONORMAL_TOLERANCE, nearest, rotation)
    worst = float(np.max(residual, initial=0.0))
    poses = np.concatenate([rotation, translation[..., None]], axis=-1)
    return poses, scale, worst if worst > ORTHONORMAL_TOLERANCE else 0.0


def camera_centres(world_to_camera: np.ndarray) -> np.ndarray:
    """Centres (..., 3) of cameras in the world, metres: C = -R^T t."""
    return geometry.invert_rigid(world_to_camera)[..., 3]


def _similarity_problem(matrix: np.ndarray) -> str | None:
    """What is wrong with a matrix that should be a similarity, None when it is one."""
    if matrix.shape != (4, 4) or matrix.dtype.kind not in "fi":
        return f"holds {matrix.dtype} {matrix.shape}, expected a 4x4 matrix"
    if not np.isfinite(matrix).all():
        return "is not finite"
    if not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-9):
        return f"has last row {matrix[3].tolist()}, expected 0 0 0 1"
    try:
        _, _, residual = metric_pose(matrix)
    except ValueError:
        return f"is a reflection: its 3x3 block has determinant {np.linalg.det(matrix[:3, :3]):.3g}, expected above 0"
    if residual > SHEAR_TOLERANCE:
        return f"has a 3x3 block {residual:.2g} away from a scaled rotation"
    return None


def _report_scales(transforms: dict[str, np.ndarray], findings: Findings) -> None:
    """The scales that the converted poses no longer contain, and a warning where two Arias disagree on the metre."""
    scales = {name: float(np.cbrt(np.linalg.det(matrix[:3, :3]))) for name, matrix in transforms.items()}
    anchor_scale = scales[ANCHOR]
    relative = {name: anchor_scale / scale for name, scale in scales.items()}
    text = ", ".join(f"{name} {ratio:.4f}" for name, ratio in relative.items())
    findings.add(
        "transforms.scales",
        "info",
        f"scale removed: {anchor_scale:.6g} COLMAP units a metre; {ANCHOR}'s metre over own: {text}",
        found={"colmap_units_per_metre": anchor_scale, "relative": relative},
    )
    for name, ratio in relative.items():
        if abs(ratio - 1) > SCALE_TOLERANCE:
            findings.add(
                "transforms.scale_disagreement",
                "warning",
                f"{name}'s metre differs from {ANCHOR}'s by a factor {ratio:.3f}; its cameras may be misplaced",
                person=name,
                expected={"ratio": 1.0, "tolerance": SCALE_TOLERANCE},
                found=round(ratio, 5),
            )
