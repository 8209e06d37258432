"""2D detections of Human3.6M's videos from the archives of the community, in the joints of the poses.

An archive's joint order is recognised by its joint count and by which joints its metadata lists as left. Joints are
taken over by name, derived where others determine them, and NaN otherwise; a finding says which. The archives have no
confidences: the score is 1 where there is a detection.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from finepose_mp.files import file_sha256
from finepose_mp.preprocessing.human36m import facts
from finepose_mp.preprocessing.human36m.calibration import camera_names
from finepose_mp.preprocessing.human36m.community import DetectionArchive, read_detections
from finepose_mp.preprocessing.human36m.files import RawDataError, files_like, open_hdf5
from finepose_mp.preprocessing.human36m.findings import finding
from finepose_mp.skeletons import H36M17, convert

# The stacked hourglass fine-tuned on Human3.6M, as 3d-pose-baseline names its joints; there is no joint 9 (head).
SH16 = (
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis spine neck head_top "
    "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist"
).split()

TREE_FOLDER = "StackedHourglass"
_TREE_DATASET = "poses"

_LEFT = {
    (17, frozenset((4, 5, 6, 11, 12, 13))): "h36m17",
    (17, frozenset((1, 3, 5, 7, 9, 11, 13, 15))): "coco17",
    (16, frozenset((3, 4, 5, 13, 14, 15))): "sh16",
}
_LAYOUT_NAMES = {"h36m": "h36m17", "human36m": "h36m17", "coco": "coco17", "mpii": "sh16"}
_JOINT_COUNTS = {"h36m17": 17, "coco17": 17, "sh16": 16}
_MPII_HINT = "sh_pt_mpii"  # the one archive whose sixteen joints keep MPII's own meaning

_FAR_PX, _OTHER_VIEW_PX = 30.0, 100.0


@dataclass(frozen=True)
class ClipDetections:
    """Detections of one clip.

    Attributes:
        location: file or folder, for messages.
        layout: "h36m17", "coco17", "sh16" or "mpii16".
        views: four arrays (T', J, 2) in pixels in the order of cameras; None where a camera has none.
        source_files: file -> {"sha256": ...}.
    """

    location: str
    layout: str
    views: tuple[np.ndarray | None, ...]
    source_files: dict[str, dict]


class DetectionSource(Protocol):
    """Where detections come from; `of_clip` is called before work is handed out, `read` where it is done."""

    location: str

    def of_clip(self, clip: facts.Clip) -> "ClipDetections | TreeDetections | None":
        """What this source has of a clip, None when nothing."""

    def fingerprint(self) -> str:
        """Text that changes when the source does."""


@dataclass(frozen=True)
class ArchiveSource:
    """A data_2d_h36m_*.npz."""

    archive: DetectionArchive
    layout: str

    @property
    def location(self) -> str:
        return str(self.archive.path)

    def of_clip(self, clip: facts.Clip) -> ClipDetections | None:
        views = self.archive.joints_2d.get((clip.subject, clip.name))
        if views is None:
            return None
        return ClipDetections(
            self.location, self.layout, views, {self.archive.path.name: {"sha256": self.archive.digest}}
        )

    def fingerprint(self) -> str:
        return self.archive.digest


@dataclass(frozen=True)
class TreeDetections:
    """Files of one clip in the tree of 3d-pose-baseline: (camera, file), sorted."""

    location: str
    files: tuple[tuple[str, Path], ...]

    def read(self) -> ClipDetections:
        """The detections. Raises RawDataError."""
        by_camera = {camera: _read_tree_file(path) for camera, path in self.files}
        digests = {f"{path.parent.name}/{path.name}": {"sha256": file_sha256(path)} for _, path in self.files}
        return ClipDetections(self.location, "sh16", tuple(by_camera.get(name) for name in camera_names()), digests)


@dataclass(frozen=True)
class TreeSource:
    """The StackedHourglass folders of the tree of 3d-pose-baseline."""

    root: Path

    @property
    def location(self) -> str:
        return str(self.root)

    def of_clip(self, clip: facts.Clip) -> TreeDetections | None:
        folder = self.root / clip.subject / TREE_FOLDER
        files = []
        for path in files_like(folder, "*.h5"):
            stem, _, camera = path.stem.rpartition(".")
            if facts.canonical_name(stem) == clip.name and camera in camera_names():
                files.append((camera, path))
        return TreeDetections(str(folder), tuple(files)) if files else None

    def fingerprint(self) -> str:
        paths = files_like(self.root, f"S*/{TREE_FOLDER}/*.h5")
        return "|".join(f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in paths)


def open_source(path: Path) -> DetectionSource:
    """The detections of a file or folder given by --detections.

    Raises:
        RawDataError: neither a known archive nor such a folder, or a joint order that is not known.
        UnsafeFileError: the archive would run code.
    """
    if path.is_dir():
        if not files_like(path, f"S*/{TREE_FOLDER}/*.h5"):
            raise RawDataError(
                f"{path}: no S*/{TREE_FOLDER}/*.h5 in this folder; give a data_2d_h36m_*.npz or such a tree"
            )
        return TreeSource(path)
    if not path.is_file():
        raise RawDataError(f"{path}: no such file of detections")
    archive = read_detections(path)
    if not archive.joints_2d:
        raise RawDataError(f"{path}: has no detections of {', '.join(facts.clips())}")
    return ArchiveSource(archive, recognise_layout(archive))


def recognise_layout(archive: DetectionArchive) -> str:
    """Name of the joint order of an archive.

    Raises:
        RawDataError: joint count and metadata fit no known order.
    """
    count = next(iter(archive.joints_2d.values()))[0].shape[1]
    if archive.symmetry:
        layout = _LEFT.get((count, frozenset(archive.symmetry[0])))
    else:
        layout = _LAYOUT_NAMES.get(archive.layout_name)
    if layout is None or _JOINT_COUNTS[layout] != count:
        known = "; ".join(f"{name}: {number} joints" for name, number in _JOINT_COUNTS.items())
        raise RawDataError(
            f"{archive.path}: {count} joints a person, left joints "
            f"{list(archive.symmetry[0]) if archive.symmetry else 'not said'}, layout {archive.layout_name!r}: "
            f"no known joint order. Known: {known}"
        )
    return "mpii16" if layout == "sh16" and _MPII_HINT in archive.path.name else layout


def to_pose_joints(joints_2d: np.ndarray, layout: str) -> tuple[np.ndarray, np.ndarray]:
    """Detections (..., 17, 2) in the order of h36m17, NaN where missing, and how each joint came about (17,).

    Args:
        joints_2d: (..., J, 2) in the order of `layout`.
    """
    if layout != "sh16":
        return convert(joints_2d, layout, H36M17.name)
    converted = np.full((*joints_2d.shape[:-2], len(H36M17), 2), np.nan, joints_2d.dtype)
    origin = np.full(len(H36M17), "missing", dtype="<U7")
    for j, name in enumerate(H36M17.joints):
        if name in SH16:
            converted[..., j, :], origin[j] = joints_2d[..., SH16.index(name), :], "copied"
    return converted, origin


def assemble(detections: ClipDetections, frames: int) -> tuple[np.ndarray, list[dict]]:
    """Detections (K, T, 17, 2) of a clip of `frames` poses, NaN where there is none, and findings about them.

    Frames behind the last pose are cut off: the videos are a little longer than the poses, and so are the archives.
    """
    joints_2d = np.full((len(camera_names()), frames, len(H36M17), 2), np.nan, np.float32)
    findings, excess, origin = [], {}, None
    for k, (name, view) in enumerate(zip(camera_names(), detections.views, strict=True)):
        if view is None:
            message = f"{detections.location} has no detections of camera {name}"
            findings.append(finding("detections.absent", "warning", message, camera=name))
            continue
        known = min(len(view), frames)
        joints_2d[k, :known], origin = to_pose_joints(view[:frames], detections.layout)
        if len(view) < frames:
            message = f"{detections.location} ends after {known} of {frames} frames of camera {name}: NaN from there"
            findings.append(finding("detections.short", "warning", message, camera=name, expected=frames, found=known))
        excess[name] = max(len(view) - frames, 0)
    if any(excess.values()):
        counts = ", ".join(f"{name} {number}" for name, number in excess.items())
        message = f"{detections.location} is longer than the poses, as the videos are; frames cut off: {counts}"
        findings.append(finding("detections.tail", "info", message, found=excess))
    return joints_2d, findings + _describe_origin(detections, origin)


def check_residual(joints_2d: np.ndarray, projected: np.ndarray) -> list[dict]:
    """Findings on how far detections lie from the projected poses, both (K, T, 17, 2) with NaN where there is none."""
    findings = []
    for name, distance in zip(camera_names(), np.linalg.norm(joints_2d - projected, axis=-1), strict=True):
        distance = distance[np.isfinite(distance)]
        if not len(distance):
            continue
        typical = float(np.median(distance))
        severity = "info" if typical < _FAR_PX else "warning" if typical < _OTHER_VIEW_PX else "error"
        hint = ": they belong to another camera, clip or subject" if severity == "error" else ""
        message = f"detections of camera {name} lie {typical:.1f} px (median) from the projected poses{hint}"
        findings.append(finding("detections.residual", severity, message, camera=name, found=round(typical, 2)))
    return findings


def _describe_origin(detections: ClipDetections, origin: Iterable[str] | None) -> list[dict]:
    """The finding that says which joints were not simply copied."""
    if origin is None or detections.layout == H36M17.name:
        return []
    by_kind = {
        kind: [joint for joint, how in zip(H36M17.joints, origin, strict=True) if how == kind]
        for kind in ("derived", "missing")
    }
    said = "; ".join(f"{kind}: {', '.join(joints)}" for kind, joints in by_kind.items() if joints)
    message = f"detections of {detections.layout} joints were taken over by name; {said or 'all copied'}"
    return [finding("detections.converted", "info", message, found=by_kind)]


def _read_tree_file(path: Path) -> np.ndarray:
    with open_hdf5(path) as file:
        if _TREE_DATASET not in file:
            raise RawDataError(f"{path}: holds {', '.join(file) or 'nothing'}, expected {_TREE_DATASET!r}")
        joints_2d = file[_TREE_DATASET][...]
    if joints_2d.ndim != 3 or joints_2d.shape[1:] != (len(SH16), 2):
        raise RawDataError(f"{path}: poses have shape {joints_2d.shape}, expected (frames, {len(SH16)}, 2)")
    return joints_2d.astype(np.float32)
