"""Where the poses of one clip come from: a CDF file, an HDF5 file of 3d-pose-baseline's tree, or an array of an npz.

All give the same float32 numbers: millimetres are divided in double precision and rounded once, which is what the
authors of data_3d_h36m.npz did.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cdflib
import numpy as np

from finepose_mp.files import file_sha256
from finepose_mp.preprocessing.human36m.facts import JOINTS_IN_FILES, KEPT_JOINTS
from finepose_mp.preprocessing.human36m.files import RawDataError, open_hdf5, read_bytes, reject_web_page

TREE_DATASET = "3D_positions"

_CDF_MAGIC = tuple(map(bytes.fromhex, ("cdf30001", "cdf26002", "0000ffff")))  # version 3, 2.6, and before
_MM = 1000.0


@dataclass(frozen=True)
class ClipPoses:
    """The poses of one clip.

    Attributes:
        joints_3d_world: (T, 17, 3) float32 in metres, in the order of h36m17.
        joints_2d_published: camera -> (T', 17, 2) pixels of the official D2_Positions, where they are there.
        source_files: path in the raw data -> {"sha256": ...}.
    """

    joints_3d_world: np.ndarray
    joints_2d_published: dict[str, np.ndarray] = field(default_factory=dict)
    source_files: dict[str, dict] = field(default_factory=dict)


class PoseSource(Protocol):
    """Something that can be sent to another process and read there."""

    location: str  # file, for messages

    def read(self) -> ClipPoses:
        """The poses. Raises RawDataError."""

    def fingerprint(self) -> str:
        """Text that changes when the source does."""


@dataclass(frozen=True)
class CdfPoses:
    """Official files: D3_Positions of a clip, and its D2_Positions of some cameras."""

    path: Path
    root: Path  # that names in the file's record of sources are relative to
    d2: tuple[tuple[str, Path], ...] = ()  # camera, file

    @property
    def location(self) -> str:
        return str(self.path)

    def read(self) -> ClipPoses:
        millimetres = _read_cdf(self.path, 3 * JOINTS_IN_FILES).reshape(-1, JOINTS_IN_FILES, 3)
        pixels = {
            camera: _read_cdf(path, 2 * JOINTS_IN_FILES).reshape(-1, JOINTS_IN_FILES, 2)[:, KEPT_JOINTS]
            for camera, path in self.d2
        }
        return ClipPoses(_metres(millimetres[:, KEPT_JOINTS]), pixels, _digests(self._paths(), self.root))

    def fingerprint(self) -> str:
        return "|".join(map(_stamp, self._paths()))

    def _paths(self) -> list[Path]:
        return [self.path, *(path for _, path in self.d2)]


@dataclass(frozen=True)
class TreePoses:
    """One MyPoses/3D_positions/*.h5 of the tree of 3d-pose-baseline."""

    path: Path
    root: Path

    @property
    def location(self) -> str:
        return str(self.path)

    def read(self) -> ClipPoses:
        with open_hdf5(self.path) as file:
            if TREE_DATASET not in file:
                raise RawDataError(f"{self.path}: holds {', '.join(file) or 'nothing'}, expected {TREE_DATASET!r}")
            columns = file[TREE_DATASET][...]
        expected = 3 * JOINTS_IN_FILES
        if columns.ndim != 2 or columns.shape[0] != expected or 0 in columns.shape:
            raise RawDataError(f"{self.path}: {TREE_DATASET} has shape {columns.shape}, expected ({expected}, frames)")
        millimetres = columns.T.reshape(-1, JOINTS_IN_FILES, 3)
        return ClipPoses(_metres(millimetres[:, KEPT_JOINTS]), source_files=_digests([self.path], self.root))

    def fingerprint(self) -> str:
        return _stamp(self.path)


@dataclass(frozen=True)
class ArrayPoses:
    """Poses (T, 17, 3) in metres that were taken from data_3d_h36m.npz, whose SHA-256 is `digest`."""

    joints_3d_world: np.ndarray
    location: str
    digest: str

    def read(self) -> ClipPoses:
        return ClipPoses(self.joints_3d_world, source_files={Path(self.location).name: {"sha256": self.digest}})

    def fingerprint(self) -> str:
        return self.digest


def _read_cdf(path: Path, columns: int) -> np.ndarray:
    """Variable Pose (T, columns) of a CDF file, in double precision."""
    start = read_bytes(path, size=512)
    reject_web_page(start, path)
    if start[:4] not in _CDF_MAGIC:
        raise RawDataError(f"{path}: not a CDF file (it starts with {start[:8]!r}); download it again")
    try:
        file = cdflib.CDF(path)
        names = file.cdf_info().zVariables + file.cdf_info().rVariables
        pose = np.asarray(file.varget("Pose")) if "Pose" in names else None
    except Exception as error:  # cdflib trusts the offsets in the file: damaged ones make it raise almost anything
        raise RawDataError(f"{path}: damaged CDF file ({type(error).__name__}: {error}); download it again") from error
    if pose is None:
        raise RawDataError(f"{path}: its variables are {', '.join(names) or 'none'}, expected 'Pose'")
    if pose.ndim != 3 or pose.shape[0] != 1 or pose.shape[2] != columns or not pose.size or pose.dtype.kind != "f":
        what = "D3_Positions: 32 joints x 3" if columns == 3 * JOINTS_IN_FILES else "D2_Positions: 32 joints x 2"
        raise RawDataError(
            f"{path}: Pose is {pose.dtype} {pose.shape}, expected numbers of shape (1, frames, {columns}) ({what})"
        )
    return pose[0].astype(np.float64)


def _metres(millimetres: np.ndarray) -> np.ndarray:
    return (millimetres.astype(np.float64) / _MM).astype(np.float32)


def _digests(paths: list[Path], root: Path) -> dict[str, dict]:
    return {str(path.relative_to(root)): {"sha256": file_sha256(path)} for path in paths}


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{path}:{status.st_size}:{status.st_mtime_ns}"
