"""The community's npz archives of Human3.6M: data_3d_h36m.npz and data_2d_h36m_*.npz of the VideoPose3D lineage.

Both hold a pickled dictionary, read by the restricted unpickler: an archive that asks for code is refused.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finepose_mp.files import file_sha256
from finepose_mp.preprocessing.human36m.calibration import camera_names
from finepose_mp.preprocessing.human36m.facts import JOINTS_IN_FILES, KEPT_JOINTS, canonical_name, clips
from finepose_mp.preprocessing.human36m.files import RawDataError, read_bytes, reject_web_page
from finepose_mp.preprocessing.human36m.poses import ArrayPoses
from finepose_mp.preprocessing.unpickling import load_npy

POSES_KEY = "positions_3d"
DETECTIONS_KEY = "positions_2d"


@dataclass(frozen=True)
class DetectionArchive:
    """A data_2d_h36m_*.npz in memory.

    Attributes:
        path: the file. digest: its SHA-256.
        joints_2d: (subject, clip) -> four arrays (T', J, 2) in pixels, cameras in the published order.
        symmetry: left and right joints as the archive's metadata lists them, empty when it does not.
        layout_name: "coco", "h36m", "mpii" or "" where the metadata does not say.
    """

    path: Path
    digest: str
    joints_2d: dict[tuple[str, str], tuple[np.ndarray, ...]]
    symmetry: tuple[tuple[int, ...], ...]
    layout_name: str


def members(path: Path) -> list[str]:
    """Names of the arrays of an npz file.

    Raises:
        RawDataError: it is a web page or not an npz.
    """
    reject_web_page(read_bytes(path, size=512), path)
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        raise RawDataError(f"{path}: not a complete npz archive ({error}); get it again") from error


def read_poses(path: Path) -> dict[tuple[str, str], ArrayPoses]:
    """(Subject, canonical clip) -> poses of a data_3d_h36m.npz.

    Raises:
        RawDataError: not such an archive, or an array of another shape.
        UnsafeFileError: it would run code.
    """
    digest = file_sha256(path)
    content = _read_dictionary(path, POSES_KEY)
    found: dict[tuple[str, str], ArrayPoses] = {}
    for subject in sorted(content):
        by_clip = _expect(content.pop(subject), dict, f"{path}: {subject}")
        for clip in sorted(by_clip):
            where = f"{path}: {subject}/{clip}"
            joints = _kept_joints(_expect(by_clip.pop(clip), np.ndarray, where), where)
            found[str(subject), canonical_name(str(clip))] = ArrayPoses(joints, str(path), digest)
    return found


def read_detections(path: Path) -> DetectionArchive:
    """A data_2d_h36m_*.npz in memory, of the subjects that have published poses.

    Raises:
        RawDataError: not such an archive, a clip without its four cameras, or joints that differ from clip to clip.
        UnsafeFileError: it would run code.
    """
    content = _read_dictionary(path, DETECTIONS_KEY)
    metadata = _read_dictionary(path, "metadata") if "metadata" in members(path) else {}
    symmetry = metadata.get("keypoints_symmetry") or ()
    joints_2d: dict[tuple[str, str], tuple[np.ndarray, ...]] = {}
    for subject in sorted(content):
        by_clip = _expect(content.pop(subject), dict, f"{path}: {subject}")
        if subject not in clips():
            continue  # archives of detections also have the subjects whose poses were never published
        for clip in sorted(by_clip):
            where = f"{path}: {subject}/{clip}"
            joints_2d[str(subject), canonical_name(str(clip))] = _views(by_clip.pop(clip), where)
    _check_joint_counts(joints_2d, metadata.get("num_joints"), path)
    return DetectionArchive(
        path,
        file_sha256(path),
        joints_2d,
        tuple(tuple(int(joint) for joint in side) for side in symmetry),
        str(metadata.get("layout_name", "")),
    )


def _read_dictionary(path: Path, key: str) -> dict:
    names = members(path)
    if key not in names:
        raise RawDataError(f"{path}: holds {', '.join(names) or 'nothing'}, expected {key!r}")
    try:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(f"{key}.npy")
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise RawDataError(f"{path}: damaged archive ({error}); get it again") from error
    array = load_npy(data, f"{path}:{key}.npy")
    if array.shape != () or array.dtype != object or not isinstance(array.item(), dict):
        raise RawDataError(f"{path}: {key} is {array.dtype} {array.shape}, expected one pickled dictionary")
    return array.item()


def _expect(value: object, kind: type, where: str):
    if not isinstance(value, kind):
        found = f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise RawDataError(f"{where} is {found}, expected {'an array' if kind is np.ndarray else kind.__name__}")
    return value


def _kept_joints(joints: np.ndarray, where: str) -> np.ndarray:
    """The 17 joints (T, 17, 3) of an archive's array, which has all 32 or, in some copies, those 17."""
    counts = (JOINTS_IN_FILES, len(KEPT_JOINTS))
    if joints.ndim != 3 or joints.shape[1] not in counts or joints.shape[2] != 3 or not len(joints):
        raise RawDataError(f"{where} has shape {joints.shape}, expected (frames, {counts[0]} or {counts[1]}, 3)")
    kept = joints[:, KEPT_JOINTS] if joints.shape[1] == JOINTS_IN_FILES else joints
    return np.array(kept, np.float32)


def _views(value: object, where: str) -> tuple[np.ndarray, ...]:
    """Four arrays (T', J, 2), one a camera."""
    views = list(value) if isinstance(value, (list, tuple, np.ndarray)) else []
    if len(views) != len(camera_names()):
        raise RawDataError(
            f"{where} has detections of {len(views)} cameras, expected {len(camera_names())} "
            f"({', '.join(camera_names())}); these are not detections of Human3.6M"
        )
    for view in views:
        if not isinstance(view, np.ndarray) or view.ndim != 3 or view.shape[2] != 2 or view.dtype.kind not in "fiu":
            raise RawDataError(f"{where}: {getattr(view, 'shape', type(view).__name__)}, expected (frames, joints, 2)")
    return tuple(np.array(view, np.float32) for view in views)


def _check_joint_counts(joints_2d: dict, said: object, path: Path) -> None:
    first: dict[int, str] = {}
    for (subject, clip), views in joints_2d.items():
        for view in views:
            first.setdefault(view.shape[1], f"{subject}/{clip}")
    if len(first) > 1:
        counts = ", ".join(f"{count} ({where})" for count, where in first.items())
        raise RawDataError(f"{path}: the number of joints differs: {counts}; expected one number throughout")
    if said is not None and first and int(said) not in first:
        raise RawDataError(f"{path}: its metadata says {said} joints, its arrays have {next(iter(first))}")
