"""The poses to export: one variable of one sequence, with everything that says what its numbers mean."""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from finepose_mp import schema
from finepose_mp.skeletons import JointSet, joint_set

_DIMS = ("frame", "person", "joint", "xyz")
TRUTH = "joints_3d_world"
PREDICTION = "predicted_3d_world"

_UP_TO_Y = {
    "+y": np.eye(3),
    "-y": np.diag([1.0, -1.0, -1.0]),
    "+z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "-z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "+x": np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]]),
    "-x": np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]]),
}


class ExportError(ValueError):
    """Poses that cannot be exported; the message says what there is and what to choose."""


@dataclass(frozen=True, eq=False)
class Poses:
    """P people over T frames.

    `points` (T, P, J, 3) metres, NaN where missing; `up` ("+z") is the axis that points up; `frame` (T,) are the
    numbers of the source; `variable` is where the points come from, `coordinate_frame` what it says of itself. Of a
    prediction there are also `status` (T, P), 1 seen and 2 inferred from neighbouring frames, `spread` (T, P, J) of its
    hypotheses in metres, and in `prediction` what predicted and what was assumed.
    """

    points: np.ndarray
    frame: np.ndarray
    fps: float
    person: list[str]
    joints: JointSet
    up: str
    sequence: str
    variable: str
    coordinate_frame: str
    status: np.ndarray | None = None
    spread: np.ndarray | None = None
    prediction: dict | None = None

    @property
    def time(self) -> np.ndarray:
        """(T,) seconds since the first frame."""
        return np.arange(len(self.frame)) / self.fps

    @property
    def points_y_up(self) -> np.ndarray:
        """Points (T, P, J, 3) in metres turned so that +y points up, as glTF, BVH and TRC readers expect."""
        return self.points @ _UP_TO_Y[self.up].T

    @property
    def present(self) -> list[int]:
        """Positions of people who have at least one joint in one frame."""
        return np.flatnonzero(np.isfinite(self.points).all(axis=-1).any(axis=(0, 2))).tolist()


def load_poses(
    path: Path, sequence: str | None = None, variable: str | None = None, select: dict[str, str] | None = None
) -> Poses:
    """Poses of one sequence of a file of this toolkit.

    Args:
        path: a data set or a predicted scene.
        sequence: its name; may be left out where there is only one.
        variable: its name; by default the prediction if there is one, else the truth.
        select: for variables with more dimensions, the name or the position to take along each: {"camera": "cam01"}.

    Raises:
        FileNotFoundError, SchemaError: no file, or not one of this toolkit.
        ExportError: a choice is missing or not among what there is, or nothing but missing values.
    """
    with schema.open_file(path) as file:
        names = schema.sequence_names(file)
        if sequence is None and len(names) != 1:
            raise ExportError(f"{path}: holds {len(names)} sequences, choose one: {', '.join(names[:10])}")
        sequence = sequence or names[0]
        if sequence not in names:
            raise ExportError(f"{path}: no sequence {sequence!r}; it has {', '.join(names[:10])}")
        group = file[sequence]
        name = _choose(group, variable, f"{path}: {sequence}")
        data = group[name]
        frame_of_reference = str(data.attrs.get("coordinate_frame", "world"))
        about = json.loads(group.attrs["prediction"]) if _is_predicted(name) and "prediction" in group.attrs else None
        if (about or {}).get("frame", "world") != "world":
            frame_of_reference = str(about["frame"])
        poses = Poses(
            points=_select(data, group, select or {}, f"{path}: {sequence}/{name}"),
            frame=group["frame"][...],
            fps=float(group.attrs["fps"]),
            person=group["person"].asstr()[...].tolist(),
            joints=joint_set(str(file.attrs["joint_set"])),
            # Camera coordinates have +y down; of a prediction, world_up says what is up.
            up="-y" if not about and frame_of_reference.startswith("camera") else str(group.attrs["world_up"]),
            sequence=sequence,
            variable=name,
            coordinate_frame=frame_of_reference,
            status=_beside(group, name, "predicted_status"),
            spread=_beside(group, name, "predicted_spread"),
            prediction=about,
        )
    if not poses.present:
        raise ExportError(f"{path}: {sequence}/{name} holds no pose of anybody; choose another variable")
    return poses


def _is_predicted(name: str) -> bool:
    return name.startswith("predicted_")


def _beside(group: h5py.Group, name: str, other: str) -> np.ndarray | None:
    """What else a file says of the prediction, None of other variables."""
    return group[other][...] if _is_predicted(name) and other in group else None


def _dims(data: h5py.Dataset) -> tuple[str, ...]:
    return tuple(dim[0].name.rpartition("/")[2] if len(dim) else "" for dim in data.dims)


def _choose(group: h5py.Group, variable: str | None, where: str) -> str:
    """The variable asked for, else the only prediction, else the truth."""
    found = [
        n for n, v in group.items() if isinstance(v, h5py.Dataset) and v.dtype.kind == "f" and _dims(v)[-4:] == _DIMS
    ]
    if variable is not None:
        if variable not in found:
            raise ExportError(f"{where}: no 3D variable {variable!r}; it has {', '.join(found)}")
        return variable
    if PREDICTION in found:
        return PREDICTION
    predictions = [name for name in found if name not in (*schema.VARIABLES, *schema.OPTIONAL_VARIABLES)]
    if len(predictions) > 1:
        raise ExportError(f"{where}: several predictions, choose one: {', '.join(predictions)}")
    return predictions[0] if predictions else TRUTH


def _select(data: h5py.Dataset, group: h5py.Group, select: dict[str, str], where: str) -> np.ndarray:
    """The points (T, P, J, 3) as float64, one item taken of every other dimension."""
    extra = _dims(data)[:-4]
    unknown = sorted(set(select) - set(extra))
    if unknown or set(extra) - set(select):
        wanted = ", ".join(f"{dim}=..." for dim in extra) or "nothing"
        raise ExportError(f"{where}: select {wanted}; found {', '.join(select) or 'nothing'}")
    index = [_position(group, dim, select[dim], length, where) for dim, length in zip(extra, data.shape, strict=False)]
    return data[tuple(index)].astype(np.float64)


def _position(group: h5py.Group, dim: str, chosen: str, length: int, where: str) -> int:
    labels = [str(v) for v in (group[dim].asstr()[...] if dim == "camera" else group[dim][...])] if dim in group else []
    if chosen in labels:
        return labels.index(chosen)
    if chosen.isdigit() and int(chosen) < length:
        return int(chosen)
    raise ExportError(f"{where}: {dim} {chosen!r}; there are {', '.join(labels) or f'0 to {length - 1}'}")
