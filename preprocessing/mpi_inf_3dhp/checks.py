"""Whether 2D, 3D and cameras of a sequence agree with one another, and whether its bones keep their length."""

import numpy as np

from finepose_mp import cameras
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.preprocessing.mpi_inf_3dhp import facts
from finepose_mp.preprocessing.mpi_inf_3dhp.calibration import Pinhole, builtin_test, fit_intrinsics, with_intrinsics
from finepose_mp.preprocessing.unpickling import DamagedFileError
from finepose_mp.skeletons import MPI17

FITS = 0.1  # px, median over the consistent joints; true cameras stay below 0.01, the next wrong one is at 1.3
_AGREEING = 1e-3  # m between the cameras' 3D of one pose; true ones differ by their rounding, 5e-6
_REFINEMENT = 20.0  # px by which a fit may move intrinsics; poses that hardly differ allow any
_BONE_TOLERANCE = 0.02  # of a bone's usual length

CONSISTENT = [j for j, name in enumerate(MPI17.joints) if name not in facts.EDITED_JOINTS]
_EDITED = [MPI17.index(name) for name in facts.EDITED_JOINTS]
_PELVIS = MPI17.index("pelvis")
_ABOVE_THE_LEGS = [
    j for j in CONSISTENT if j != _PELVIS and MPI17.joints[j].split("_")[-1] not in ("knee", "ankle")
]  # legs of TS6 were scaled on their own
_BONES = {
    "shank": ("knee", "ankle"),
    "forearm": ("elbow", "wrist"),
    "upper arm": ("shoulder", "elbow"),
}


def residuals(poses: np.ndarray, pixels: np.ndarray, camera: Pinhole) -> np.ndarray:
    """Distances (..., J) in px between annotated pixels (..., J, 2) and the camera's picture of poses (..., J, 3)."""
    return np.linalg.norm(cameras.project(poses, "pinhole", camera.intrinsics) - pixels, axis=-1)


def median_residual(poses: np.ndarray, pixels: np.ndarray, camera: Pinhole) -> float:
    """Median in px over the joints whose 2D and 3D agree in the dataset; infinite where nothing is known."""
    return _median(residuals(poses[..., CONSISTENT, :], pixels[..., CONSISTENT, :], camera))


def pelvis_residual(poses: np.ndarray, pixels: np.ndarray, camera: Pinhole) -> float:
    """Median in px of the pelvis alone, which universal poses share with the recorded ones."""
    return _median(residuals(poses[..., [_PELVIS], :], pixels[..., [_PELVIS], :], camera))


def universal_scale(poses: np.ndarray, pixels: np.ndarray, camera: Pinhole) -> float | None:
    """The factor s by which poses (T, J, 3) were scaled about their pelvis; None when that does not explain them.

    Poses root + s (p - root) of true ones p fit their pixels once the scaling is undone: that is linear in 1/s.
    """
    fx, fy, cx, cy = camera.intrinsics
    root = poses[:, _PELVIS, None]
    offset = poses - root
    slope = (pixels - (cx, cy)) / (fx, fy)
    known = (offset[..., :2] - slope * offset[..., 2:])[:, _ABOVE_THE_LEGS]
    wanted = np.broadcast_to(slope * root[..., 2:] - root[..., :2], slope.shape)[:, _ABOVE_THE_LEGS]
    finite = np.isfinite(known) & np.isfinite(wanted)
    size = (known[finite] ** 2).sum()
    if not size > 0:
        return None
    inverse = (known[finite] * wanted[finite]).sum() / size
    restored = (root + inverse * offset)[:, _ABOVE_THE_LEGS]
    error = residuals(restored, pixels[:, _ABOVE_THE_LEGS], camera)
    return float(1 / inverse) if np.nanpercentile(error, 95) < FITS else None


def without_scale(poses: np.ndarray, scale: float) -> np.ndarray:
    """Poses (..., J, 3) whose scaling about the pelvis is undone."""
    root = poses[..., [_PELVIS], :]
    return root + (poses - root) / scale


def fits_everywhere(poses: np.ndarray, pixels: np.ndarray, camera: Pinhole) -> bool:
    """Whether poses (T, J, 3) project onto their pixels in every consistent joint, and not only in most of them."""
    error = residuals(poses[:, CONSISTENT], pixels[:, CONSISTENT], camera)
    return bool((np.nanpercentile(error, 95, axis=0) < FITS).all())


def check_training_cameras(
    poses: np.ndarray, pixels: np.ndarray, rig: dict[int, Pinhole], findings: Findings
) -> np.ndarray:
    """Whether each camera (K,) explains its annotations; one finding about all, and one about each that does not."""
    medians = [median_residual(poses[k], pixels[k], camera) for k, camera in enumerate(rig.values())]
    fits = np.array(medians) < FITS
    if fits.any():
        good = [k for k in range(len(medians)) if fits[k]]
        edited = np.mean(
            [
                np.nanmean(residuals(poses[k][:, _EDITED], pixels[k][:, _EDITED], camera))
                for k, camera in enumerate(rig.values())
                if fits[k]
            ]
        )
        findings.add(
            "reprojection.residual",
            "info",
            f"3D of {len(good)} cameras lies {max(medians[k] for k in good):.4f} px or less (medians) from the 2D of "
            f"{len(CONSISTENT)} joints; hips and spine, edited by the dataset, {edited:.1f} px (mean)",
        )
    for number, median, fit in zip(rig, medians, fits, strict=True):
        if not fit:
            findings.add(
                "reprojection.residual",
                "error",
                f"camera {number}: 3D lies {median:.1f} px (median) from the annotated 2D, expected below {FITS}: "
                "the calibration is another recording's; 2D is projected from the 3D instead",
                camera=str(number),
            )
    return fits


def known_camera(sequence: str, poses: np.ndarray, pixels: np.ndarray) -> Pinhole:
    """The camera of a test sequence; TS2's fitted to the annotations (T, J, ...) where that explains them.

    TS2's calibration file describes another camera, and the table knows the true one from one frame alone.
    """
    camera = builtin_test(sequence)
    if sequence != "TS2":
        return camera
    points, targets = poses[:, CONSISTENT].reshape(-1, 3), pixels[:, CONSISTENT].reshape(-1, 2)
    known = np.isfinite(points).all(axis=-1) & np.isfinite(targets).all(axis=-1)
    fitted = with_intrinsics(camera, fit_intrinsics(points[known], targets[known]))
    before, after = (median_residual(poses, pixels, each) for each in (camera, fitted))
    is_near = (np.abs(fitted.intrinsics - camera.intrinsics) < _REFINEMENT).all()
    return fitted if is_near and after < min(before, FITS) else camera


def test_camera(sequence: str, poses: np.ndarray, pixels: np.ndarray, findings: Findings) -> tuple[Pinhole, bool]:
    """The camera of a test sequence, and whether it explains the annotations (T, J, ...).

    Raises:
        DamagedFileError: another test sequence's camera explains them: the files are mixed up.
    """
    camera = known_camera(sequence, poses, pixels)
    if camera is not builtin_test(sequence):
        values = " ".join(f"{value:.3f}" for value in camera.intrinsics)
        findings.add("camera.fitted", "info", f"intrinsics fitted to the annotations: {values} (fx fy cx cy)")
    median = median_residual(poses, pixels, camera)
    if median < FITS:
        edited = np.nanmean(residuals(poses[:, _EDITED], pixels[:, _EDITED], camera))
        findings.add(
            "reprojection.residual",
            "info",
            f"3D lies {median:.4f} px (median) from the 2D of {len(CONSISTENT)} joints; hips and spine, edited by the "
            f"dataset, {edited:.1f} px (mean)",
        )
        return camera, True
    for other in facts.TEST:
        if median_residual(poses, pixels, builtin_test(other)) < FITS:
            raise DamagedFileError(
                f"{sequence}: its annotations are of the camera of {other}; the sequences are mixed up, put every "
                "file into the folder of its own name"
            )
    findings.add(
        "reprojection.residual",
        "error",
        f"3D lies {median:.1f} px (median) from the annotated 2D, expected below {FITS}: this is not the known camera "
        f"of {sequence}; 2D is projected from the 3D instead",
    )
    return camera, False


def check_agreement(worlds: np.ndarray, numbers: list[int], findings: Findings) -> np.ndarray:
    """Poses (T, J, 3) in the world out of every camera's (K, T, J, 3), cameras that contradict the others reported."""
    middle = np.median(worlds, axis=0)
    apart = [_median(np.linalg.norm(world - middle, axis=-1)) for world in worlds]
    odd = [k for k, distance in enumerate(apart) if not distance < _AGREEING]
    for k in odd:
        findings.add(
            "world.disagreement",
            "error",
            f"camera {numbers[k]}: its 3D lies {1000 * apart[k]:.1f} mm (median) from that of the {len(numbers)} "
            "cameras together; its pose in the calibration is wrong, or its annotations are another sequence's",
            camera=str(numbers[k]),
        )
    return middle


def check_bones(
    joints_3d_world: np.ndarray, frame: np.ndarray, valid_frame: np.ndarray | None, findings: Findings
) -> None:
    """Adds a finding for each bone whose length changes in the course of a sequence (T, J, 3): bones do not.

    Thighs and spine are left out, since the dataset edited hips and spine. TS6 has longer shanks in 199 frames.
    """
    for bone, (upper, lower) in _BONES.items():
        lengths = np.stack(
            [_length(joints_3d_world, f"{side}_{upper}", f"{side}_{lower}") for side in ("left", "right")]
        )
        usual = np.nanmedian(lengths, axis=1, keepdims=True)
        odd = (np.abs(lengths / usual - 1) > _BONE_TOLERANCE).any(axis=0)
        if not odd.any():
            continue
        counted = "" if valid_frame is None else f", {int((odd & (valid_frame != 0)).sum())} of them valid"
        found = lengths[:, odd]
        findings.add(
            "bones.length",
            "warning",
            f"{bone} of {1000 * np.nanmin(found):.1f} to {1000 * np.nanmax(found):.1f} mm in {int(odd.sum())} of "
            f"{len(odd)} frames{counted}, usually {1000 * np.nanmedian(usual):.1f} mm: the metric poses are "
            "inconsistent there",
            frames=frame[odd],
        )


def _length(points: np.ndarray, upper: str, lower: str) -> np.ndarray:
    return np.linalg.norm(points[:, MPI17.index(upper)] - points[:, MPI17.index(lower)], axis=-1)


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else np.inf
