"""The official annotation files in one form: every camera's 2D and 3D of the 17 joints that the literature uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finepose_mp.preprocessing.findings import Findings
from finepose_mp.preprocessing.mpi_inf_3dhp import facts, matlab
from finepose_mp.preprocessing.unpickling import DamagedFileError

TRAINING_FILE = "annot.mat"
TEST_FILE = "annot_data.mat"
CALIBRATION_FILE = "camera.calibration"
_METRES = 1e-3  # in a millimetre
_JOINTS = len(facts.JOINTS_OF_28)


@dataclass(frozen=True)
class Annotations:
    """What a source says about one sequence: K cameras, T frames, the 17 joints of mpi17.

    `metric` is annot3, the poses as recorded; `universal` is univ_annot3, scaled about the pelvis to one body height.
    A community file has one of them.
    """

    camera: list[int]
    frame: np.ndarray  # (T,) as numbered in the source
    pixels: np.ndarray  # (K, T, 17, 2)
    metric: np.ndarray | None  # (K, T, 17, 3) metres, frame of each camera
    universal: np.ndarray | None  # the same
    valid_frame: np.ndarray | None = None  # (T,) bool
    activity: np.ndarray | None = None  # (T,) int

    @property
    def poses(self) -> np.ndarray:
        """(K, T, 17, 3) metric poses, or the universal ones of a source that has no others."""
        return self.universal if self.metric is None else self.metric


def read_training(path: Path, sequence: str, wanted: Sequence[int], findings: Findings) -> Annotations:
    """The annotations in an annot.mat, in those of the wanted cameras that it has, cut to the length of the videos.

    Args:
        path: the file.
        sequence: "S1/Seq1".
        wanted: camera numbers.
        findings: grows by what is odd about the file.

    Raises:
        DamagedFileError: the file is no annot.mat, or has none of the wanted cameras.
    """
    cells = _camera_numbers(path)
    camera = [number for number in wanted if number in cells]
    if not camera:
        raise DamagedFileError(f"{path}: has cameras {cells}, none of the wanted {list(wanted)}; choose others")
    if len(camera) < len(wanted):
        absent = ", ".join(str(number) for number in wanted if number not in cells)
        findings.add(
            "cameras.absent", "warning", f"no annotations of camera {absent}; the file has {len(cells)} cameras"
        )
    place = [cells.index(number) for number in camera]
    arrays = {
        name: _read_cells(path, name, place, len(cells), size)
        for name, size in (("annot2", 2), ("annot3", 3), ("univ_annot3", 3))
    }
    rows = {name: array.shape[1] for name, array in arrays.items()}
    frame = _frame_numbers(path, rows["annot2"])
    if len(set(rows.values()) | {len(frame)}) > 1:
        raise DamagedFileError(f"{path}: rows differ, {rows} and frames {len(frame)}; download it again")
    length = training_length(sequence, len(frame), findings)
    return Annotations(
        camera,
        frame[:length],
        arrays["annot2"][:, :length],
        arrays["annot3"][:, :length] * _METRES,
        arrays["univ_annot3"][:, :length] * _METRES,
    )


def read_test(path: Path, sequence: str, findings: Findings) -> Annotations:
    """The annotations in an annot_data.mat, with valid frames and activities; frames count from 1 as its images do.

    Args:
        path: the file.
        sequence: "TS1" to "TS6".
        findings: grows by what is odd about the file.

    Raises:
        DamagedFileError: the file is no annot_data.mat, or another sequence's.
    """
    arrays = {name: _read_person(path, name, size) for name, size in (("annot2", 2), ("annot3", 3), ("univ_annot3", 3))}
    per_frame = {name: _read_per_frame(path, name) for name in ("valid_frame", "activity_annotation")}
    rows = {name: len(array) for name, array in (arrays | per_frame).items()}
    if len(set(rows.values())) > 1:
        raise DamagedFileError(f"{path}: numbers of rows differ, {rows}; download it again")
    valid, activity = per_frame["valid_frame"] != 0, per_frame["activity_annotation"].astype(np.int32)
    check_test_length(str(path), sequence, len(valid), int(valid.sum()), findings)
    unknown = sorted(set(activity.tolist()) - set(facts.ACTIVITIES))
    if unknown:
        message = f"activities {unknown} are not among 1 to 7; frames with them count in no activity"
        findings.add("activity.unknown", "warning", message)
    return Annotations(
        camera=[0],
        frame=np.arange(1, len(valid) + 1),
        pixels=arrays["annot2"][None],
        metric=arrays["annot3"][None] * _METRES,
        universal=arrays["univ_annot3"][None] * _METRES,
        valid_frame=valid,
        activity=activity,
    )


def check_test_length(source: str, sequence: str, rows: int, valid: int, findings: Findings) -> None:
    """Nothing when a test sequence is as long as published, a finding when not.

    Raises:
        DamagedFileError: it is exactly as long as another sequence, which it then is.
    """
    expected = facts.TEST[sequence]
    if (rows, valid) == (expected.frames, expected.valid_frames):
        return
    same = [name for name, test in facts.TEST.items() if test.frames == rows and name != sequence]
    if same:
        raise DamagedFileError(
            f"{source}: {rows} frames are those of {same[0]}, {sequence} has {expected.frames}; "
            "the sequences are mixed up, put every file into the folder of its own name"
        )
    findings.add(
        "frames.test_length",
        "warning",
        f"{rows} frames, {valid} of them valid; the distributed file has {expected.frames}, {expected.valid_frames} "
        "valid: numbers are not those of the official test set",
    )


def training_length(sequence: str, rows: int, findings: Findings) -> int:
    """How many rows of a training sequence to keep: those of its videos, or all where there are fewer."""
    expected = facts.TRAINING[sequence].frames
    if rows < expected:
        findings.add("frames.short", "warning", f"{rows} annotated frames, the videos have {expected}")
    elif rows > 1.02 * expected:
        like = [name for name, training in facts.TRAINING.items() if training.frames == rows and name != sequence]
        belongs = f" as {like[0]} does: the sequences may be mixed up" if like else ""
        message = f"{rows} annotated frames, the videos have {expected}{belongs}; the first {expected} are kept"
        findings.add("frames.long", "warning", message)
    elif rows > expected:
        findings.add(
            "frames.beyond_video", "info", f"{rows - expected} annotated frames beyond the videos' end left out"
        )
    return min(rows, expected)


def _camera_numbers(path: Path) -> list[int]:
    """Camera number of every cell."""
    cells = matlab.read_variable(path, "cameras")
    numbers = [] if isinstance(cells, list) else cells.ravel().astype(int).tolist()
    if not numbers or len(set(numbers)) != len(numbers) or not set(numbers) <= set(facts.CAMERA_SETS["all"]):
        raise DamagedFileError(f"{path}: cameras is {numbers}, expected different numbers from 0 to 13")
    return numbers


def _read_cells(path: Path, name: str, place: list[int], cells: int, size: int) -> np.ndarray:
    """(K, F, 17, size) of the cells at some places."""
    value = matlab.read_variable(path, name)
    if not isinstance(value, list) or len(value) != cells:
        found = f"{len(value)} cells" if isinstance(value, list) else f"an array of shape {value.shape}"
        raise DamagedFileError(f"{path}: {name} has {found}, expected {cells} cells, one for each camera")
    width = facts.ALL_JOINTS * size
    wrong = {value[i].shape for i in place if value[i].ndim != 2 or value[i].shape[1] != width}
    lengths = {len(value[i]) for i in place}
    if wrong or len(lengths) > 1:
        shapes = sorted({value[i].shape for i in place})
        raise DamagedFileError(
            f"{path}: cells of {name} have shapes {shapes}, expected (frames, {width}) alike, {facts.ALL_JOINTS} joints"
        )
    joints = [value[i].reshape(-1, facts.ALL_JOINTS, size)[:, facts.JOINTS_OF_28] for i in place]
    return np.stack(joints)


def _frame_numbers(path: Path, rows: int) -> np.ndarray:
    if "frames" not in matlab.variable_names(path):
        return np.arange(rows)
    return matlab.read_variable(path, "frames").ravel().astype(np.int32)


def _read_person(path: Path, name: str, size: int) -> np.ndarray:
    """(N, 17, size) of a variable that MATLAB holds as size x 17 x 1 x N."""
    value = matlab.read_variable(path, name)
    if isinstance(value, list) or value.ndim > 4:
        raise DamagedFileError(f"{path}: {name} is no array of {size} x {_JOINTS} x 1 x frames")
    full = value.reshape(*value.shape, *(1,) * (4 - value.ndim))  # MATLAB drops trailing axes of length one
    if full.shape[:3] != (size, _JOINTS, 1):
        raise DamagedFileError(f"{path}: {name} is {value.shape}, expected {size} x {_JOINTS} x 1 x frames, one person")
    return np.ascontiguousarray(full[:, :, 0].transpose(2, 1, 0))


def _read_per_frame(path: Path, name: str) -> np.ndarray:
    value = matlab.read_variable(path, name)
    if isinstance(value, list) or value.size != max(value.shape):
        raise DamagedFileError(f"{path}: {name} is no list of one number for each frame")
    return value.ravel()
