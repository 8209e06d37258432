"""The fixed cameras of a take: lenses from COLMAP, poses from COLMAP or made by hand, both in the shared metric world.

Pixels follow the intrinsics as COLMAP wrote them, like the authors' own projections and triangulation; COLMAP's
half-pixel origin is not subtracted (half a pixel in 3840).
"""

import re
from dataclasses import dataclass

import numpy as np

from finepose_mp.cameras import Camera
from finepose_mp.preprocessing.egohumans import agreement, catalogue, colmap, rig, transforms
from finepose_mp.preprocessing.egohumans.source import TakeReader
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.preprocessing.unpickling import DamagedFileError, load_npy

WORKPLACE = "colmap/workplace"

# A static camera's registered poses should agree this well; a third-party loader merges with the same tolerances.
SPREAD_TOLERANCE_M = 0.02
SPREAD_TOLERANCE_DEGREES = 1.0
# COLMAP writes 17 digits of unit quaternions. Should a file have fewer, all its quaternions are about as far from 1.
QUATERNION_TOLERANCE = 1e-9
QUATERNION_TIMES_USUAL = 100.0
# A pose made by hand may be rounded to two digits, which is 0.03 away from a rotation; more is a wrong matrix.
MANUAL_SHEAR_TOLERANCE = 0.05
MANUAL_ORTHONORMAL_TOLERANCE = 1e-4  # 0.2 px; four digits of every entry

LARGEST_IMAGE_PX = 65535  # along a side, as a JPEG can say it

CAMERA_FOLDER = re.compile(r"cam\d{2}")
_NAMED_FOLDER = re.compile(r"(cam|aria)\d{2}")


@dataclass(frozen=True)
class _Colmap:
    """What COLMAP knows: cameras by id, registered images by folder."""

    cameras: dict[int, colmap.ColmapCamera]
    images: dict[str, list[colmap.RegisteredImage]]

    @property
    def quaternion_tolerance(self) -> float:
        """How far the norm of a quaternion may be from 1, of as many digits as the file's others have."""
        usual = np.median([abs(image.quaternion_norm - 1) for images in self.images.values() for image in images])
        return max(QUATERNION_TOLERANCE, QUATERNION_TIMES_USUAL * float(usual))


def read_exo_cameras(
    reader: TakeReader, facts: catalogue.Take, anchor_transform: np.ndarray, findings: Findings
) -> list[rig.TakeCamera]:
    """The valid fixed cameras in order of their names; a camera that cannot be placed is left out with a finding.

    Args:
        anchor_transform: (4, 4) similarity from the shared world to the COLMAP frame.

    Raises:
        TakeError: COLMAP's text files are missing.
        DamagedFileError: they are damaged.
    """
    found = _Colmap(
        colmap.parse_cameras(reader.file(f"{WORKPLACE}/cameras.txt"), f"{WORKPLACE}/cameras.txt"),
        colmap.images_by_folder(colmap.parse_images(reader.file(f"{WORKPLACE}/images.txt"), f"{WORKPLACE}/images.txt")),
    )
    _report_unnamed(found, findings)
    cameras = []
    for name in _camera_names(reader, found, facts, findings):
        try:
            cameras.append(_read_camera(reader, name, found, facts, anchor_transform, findings))
        except ValueError as error:  # includes DamagedFileError of a manual pose
            findings.add("exo_camera.left_out", "error", f"{name} left out: {error}", camera=name, found=str(error))
    agreement.check_lenses(cameras, findings)
    return cameras


def _camera_names(reader: TakeReader, found: _Colmap, facts: catalogue.Take, findings: Findings) -> list[str]:
    """Valid cameras: those with a folder under exo/, or, where images were not downloaded at all, those of COLMAP."""
    folders = [name for name in reader.names("exo") if CAMERA_FOLDER.fullmatch(name)]
    names = set(folders or [name for name in found.images if CAMERA_FOLDER.fullmatch(name)])
    ignored = sorted(names & set(facts.invalid_cameras))
    if ignored:
        message = f"{', '.join(ignored)} declared invalid by the official configuration, left out"
        findings.add("exo_camera.declared_invalid", "info", message, found=ignored)
    return sorted(names - set(ignored))


def _report_unnamed(found: _Colmap, findings: Findings) -> None:
    """Reports COLMAP's cameras that are none of the take's: a phone that helped to calibrate, or one without images."""
    folders: dict[int, set[str]] = {}
    for folder, images in found.images.items():
        for image in images:
            folders.setdefault(image.camera_id, set()).add(folder)
    for camera_id in sorted(found.cameras):
        taken = sorted(folders.get(camera_id, ()))
        if any(_NAMED_FOLDER.fullmatch(folder) for folder in taken):
            continue
        reason = f"took the images in {', '.join(taken)}" if taken else "has no registered image, so no name"
        message = f"COLMAP camera {camera_id} {reason}; left out"
        severity = "info" if taken else "warning"
        findings.add("exo_camera.unnamed", severity, message, found={"camera_id": camera_id, "folders": taken})


def _read_camera(
    reader: TakeReader,
    name: str,
    found: _Colmap,
    facts: catalogue.Take,
    anchor_transform: np.ndarray,
    findings: Findings,
) -> rig.TakeCamera:
    images = found.images.get(name, [])
    if not images:
        raise ValueError(
            f"{WORKPLACE}/images.txt has no image of it, so neither its lens nor its pose is known; "
            "without either the camera cannot be used"
        )
    lens = _lens(name, images, found, findings)
    model, count = colmap.LENS_MODELS.get(lens.model, (None, 0))
    if model is None or len(lens.params) != count or not np.isfinite(lens.params).all():
        raise ValueError(
            f"{WORKPLACE}/cameras.txt, line {lens.line} gives it {lens.model} with {len(lens.params)} parameters "
            f"{lens.params.tolist()}, expected "
            + " or ".join(f"{known} with {n}, all finite" for known, (_, n) in colmap.LENS_MODELS.items())
        )
    _check_lens_is_possible(lens)
    if _is_manual(reader, name, facts, findings):
        colmap_to_camera = _manual_pose(reader, name, findings)[None]
    else:
        _check_quaternions(name, images, found.quaternion_tolerance, findings)
        colmap_to_camera = np.stack([image.colmap_to_camera for image in images])
    poses, _, residual = transforms.metric_pose(colmap_to_camera @ anchor_transform)
    _check_orthonormal(name, residual, transforms.ORTHONORMAL_TOLERANCE, findings)
    world_to_camera = static_pose(poses, name, findings)
    camera = Camera(model, lens.params, lens.image_size, world_to_camera)
    return rig.TakeCamera(name, "exo", "", camera, f"exo/{name}/images")


def _check_lens_is_possible(lens: colmap.ColmapCamera) -> None:
    """Raises ValueError when the image or its lens can be no camera's."""
    where, (width, height) = f"{WORKPLACE}/cameras.txt, line {lens.line}", lens.image_size
    if not (1 <= width <= LARGEST_IMAGE_PX and 1 <= height <= LARGEST_IMAGE_PX):
        raise ValueError(f"{where}: images of {width}x{height} px, expected 1 to {LARGEST_IMAGE_PX} along each side")
    if (lens.params[:2] < rig.SHORTEST_FOCAL_PX).any() or (np.abs(lens.params) > rig.LARGEST_NUMBER).any():
        raise ValueError(
            f"{where}: parameters {lens.params.tolist()}, expected two focal lengths of {rig.SHORTEST_FOCAL_PX:.0f} px "
            f"or more first, and none beyond {rig.LARGEST_NUMBER:.0f}"
        )


def _lens(name: str, images: list[colmap.RegisteredImage], found: _Colmap, findings: Findings) -> colmap.ColmapCamera:
    """The lens of a camera: that of most of its images, should COLMAP have split it into several."""
    ids = [image.camera_id for image in images]
    camera_id = max(sorted(set(ids)), key=ids.count)
    if len(set(ids)) > 1:
        message = f"COLMAP has cameras {sorted(set(ids))} for {name}; {camera_id}, of most images, is used"
        findings.add("exo_camera.several_lenses", "warning", message, camera=name, expected=1, found=sorted(set(ids)))
    if camera_id not in found.cameras:
        raise ValueError(f"{WORKPLACE}/cameras.txt has no camera {camera_id}, which images.txt names")
    return found.cameras[camera_id]


def _is_manual(reader: TakeReader, name: str, facts: catalogue.Take, findings: Findings) -> bool:
    """Whether the pose comes from camNN.npy: as the catalogue says; outside of it, wherever there is such a file."""
    path = f"{WORKPLACE}/{name}.npy"
    if not reader.has(path):
        if name in facts.manual_cameras:
            raise ValueError(
                f"its pose is known to be made by hand, and {path} is missing; get it from the take's archive"
            )
        return False
    if facts.known and name not in facts.manual_cameras:
        message = f"{path} ignored: the official configuration takes this camera's pose from COLMAP"
        findings.add("exo_camera.manual_ignored", "warning", message, camera=name)
        return False
    findings.add("exo_camera.manual_pose", "info", f"pose of {name} was made by hand ({path})", camera=name)
    return True


def _check_orthonormal(name: str, residual: float, tolerance: float, findings: Findings) -> None:
    if residual > tolerance:
        message = f"rotation of {name} was {residual:.2g} away from orthonormal; the nearest rotation is stored"
        expected = {"residual": tolerance}
        findings.add("exo_camera.not_orthonormal", "warning", message, camera=name, expected=expected, found=residual)


def _check_quaternions(name: str, images: list[colmap.RegisteredImage], tolerance: float, findings: Findings) -> None:
    worst = max((image.quaternion_norm for image in images), key=lambda norm: abs(norm - 1))
    if abs(worst - 1) > tolerance:
        message = (
            f"quaternions of {name} in {WORKPLACE}/images.txt have norms up to 1 {worst - 1:+.2g}, where the file's "
            f"digits are good for 1e{np.log10(tolerance):.0f}: a damaged number? They were normalised"
        )
        expected = {"norm": 1.0, "tolerance": tolerance}
        findings.add("exo_camera.quaternion_norm", "warning", message, camera=name, expected=expected, found=worst)


def _manual_pose(reader: TakeReader, name: str, findings: Findings) -> np.ndarray:
    """(3, 4) transform from the COLMAP frame to a camera whose pose was made by hand; a scale in it is divided out."""
    path = f"{WORKPLACE}/{name}.npy"
    matrix = load_npy(reader.file(path), path)
    if matrix.shape not in ((3, 4), (4, 4)) or matrix.dtype.kind not in "fi" or not np.isfinite(matrix).all():
        raise DamagedFileError(f"{path}: holds {matrix.dtype} {matrix.shape}, expected a finite 4x4 matrix")
    pose, scale, residual = transforms.metric_pose(matrix.astype(np.float64))
    if residual > MANUAL_SHEAR_TOLERANCE:
        raise DamagedFileError(f"{path}: a 3x3 block {residual:.2g} away from a scaled rotation")
    _check_orthonormal(name, residual, MANUAL_ORTHONORMAL_TOLERANCE, findings)
    if abs(scale - 1) > transforms.SHEAR_TOLERANCE:
        message = f"{path} contains a scale of {scale:.4g}, expected a rigid pose; it was divided out"
        findings.add(
            "exo_camera.manual_scale", "warning", message, camera=name, expected=1.0, found=round(float(scale), 6)
        )
    return pose


def static_pose(poses: np.ndarray, name: str, findings: Findings) -> np.ndarray:
    """The pose (3, 4) among those registered (n, 3, 4) that lies closest to all others; reports their spread.

    The medoid is a pose that COLMAP really found, and one bad registration does not pull it away as it does a mean.
    """
    centres = transforms.camera_centres(poses)
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    angles = _angles_degrees(poses[:, None, :, :3], poses[None, :, :, :3])
    chosen = int(np.argmin((distances / SPREAD_TOLERANCE_M + angles / SPREAD_TOLERANCE_DEGREES).sum(axis=1)))
    if len(poses) > 1:
        worst_m, worst_degrees = distances[chosen].max(), angles[chosen].max()
        message = (
            f"{name}: {len(poses)} registered poses within {100 * worst_m:.2f} cm and {worst_degrees:.3f} degrees "
            f"(median {100 * np.median(distances[chosen]):.2f} cm) of the one stored"
        )
        agrees = worst_m <= SPREAD_TOLERANCE_M and worst_degrees <= SPREAD_TOLERANCE_DEGREES
        findings.add(
            "exo_camera.spread",
            "info" if agrees else "warning",
            message,
            camera=name,
            expected={"metres": SPREAD_TOLERANCE_M, "degrees": SPREAD_TOLERANCE_DEGREES},
            found={
                "poses": len(poses),
                "metres": round(float(worst_m), 5),
                "degrees": round(float(worst_degrees), 4),
                "median_metres": round(float(np.median(distances[chosen])), 5),
            },
        )
    return poses[chosen]


def _angles_degrees(rotations: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Angles (...) between rotations (..., 3, 3), from the chord so that tiny angles keep their digits."""
    chord = np.linalg.norm(rotations - others, axis=(-2, -1))
    return np.degrees(2 * np.arcsin(np.clip(chord / (2 * np.sqrt(2)), 0, 1)))
