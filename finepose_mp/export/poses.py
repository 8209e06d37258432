"""The poses to export: one variable of one sequence, with everything that says what its numbers mean."""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from finepose_mp import schema
from finepose_mp.skeletons import JOINT_SETS, JointSet

_DIMS = ("frame", "person", "joint", "xyz")
TRUTH = "joints_3d_world"
PREDICTION = "predicted_3d_world"

_MOST_ROWS = 1_000_000

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
        """(T,) seconds since the first frame, by the frames' numbers."""
        return (self.frame - self.frame[0]) / self.fps

    def at_regular_times(self, points: np.ndarray) -> tuple[np.ndarray, float]:
        """Points (T, ...) as rows of equal distance in time, NaN in frames that are left out, and the rows a second.

        Raises:
            ExportError: far more frames are left out than there are.
        """
        step = int(np.gcd.reduce(np.diff(self.frame))) or 1
        rows = (self.frame - self.frame[0]) // step
        if rows[-1] >= _MOST_ROWS:
            raise ExportError(
                f"{self.sequence}: {len(rows)} frames from {self.frame[0]} to {self.frame[-1]} are {rows[-1] + 1} rows "
                f"of equal distance in time, as bvh and trc want them, more than {_MOST_ROWS}; choose csv, npz or glb"
            )
        regular = np.full((rows[-1] + 1, *points.shape[1:]), np.nan)
        regular[rows] = points
        return regular, self.fps / step

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
        FileNotFoundError, SchemaError: no file, not one of this toolkit, or damaged.
        ExportError: a choice is missing or not among what there is, or nothing but missing values.
    """
    with schema.open_file(path) as file:
        names = schema.sequence_names(file)
        if sequence is None and len(names) != 1:
            raise ExportError(f"{path}: holds {len(names)} sequences, choose one: {', '.join(names[:10])}")
        sequence = sequence or names[0]
        if sequence not in names:
            raise ExportError(f"{path}: no sequence {sequence!r}; it has {', '.join(names[:10])}")
        with schema.damage_named(file, f"sequence {sequence}", ExportError):
            poses = _read(file, sequence, variable, select or {})
    if not poses.present:
        raise ExportError(f"{path}: {sequence}/{poses.variable} holds no pose of anybody; choose another variable")
    return poses


def _read(file: h5py.File, sequence: str, variable: str | None, select: dict[str, str]) -> Poses:
    group, where = file[sequence], f"{file.filename}: {sequence}"
    frame, person, joints = _frames(group, where), _coordinate(group, "person", where), _joints(file)
    name = _choose(group, variable, where)
    data = _dataset(group, name, where)
    points = _select(data, group, select, f"{where}/{name}")
    shape = (len(frame), len(person), len(joints))
    _check_shape(points, (*shape, 3), f"{where}/{name}")
    about = _prediction(group, where) if _is_predicted(name) else None
    frame_of_reference = str(data.attrs.get("coordinate_frame", "world"))
    if (about or {}).get("frame", "world") != "world":
        frame_of_reference = str(about["frame"])
    return Poses(
        points=points,
        frame=frame,
        fps=_rate(group, where),
        person=person.tolist(),
        joints=joints,
        # Camera coordinates have +y down; of a prediction, world_up says what is up.
        up="-y" if not about and frame_of_reference.startswith("camera") else _up(group, where),
        sequence=sequence,
        variable=name,
        coordinate_frame=frame_of_reference.encode(errors="replace").decode(),
        status=_beside(group, name, "predicted_status", shape[:2], where),
        spread=_beside(group, name, "predicted_spread", shape, where),
        prediction=about,
    )


def _item(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What the file itself holds under a name; None for nothing, and for what lies in another file."""
    item = schema.item_of(group, name)
    return None if isinstance(item, h5py.Dataset) and schema.leads_outside(item) else item


def _dataset(group: h5py.Group, name: str, where: str) -> h5py.Dataset:
    item = _item(group, name)
    if not isinstance(item, h5py.Dataset):
        raise schema.SchemaError(
            f"{where}/{name}: expected an array in this file, found none, or one in another file, which is not read; "
            f"`python tools/validate.py {group.file.filename}` says what else is wrong"
        )
    return item


def _values(group: h5py.Group, name: str, where: str) -> np.ndarray:
    """A whole dataset; text as strings."""
    data = _dataset(group, name, where)
    with schema.damage_named(group.file, f"{group.name.strip('/')}/{name}"):
        return data.asstr()[...] if h5py.check_string_dtype(data.dtype) else data[...]


def _coordinate(group: h5py.Group, name: str, where: str) -> np.ndarray:
    values = _values(group, name, where)
    if values.ndim != 1:
        raise schema.SchemaError(
            f"{where}/{name}: expected a list, found shape {values.shape}; correct it (docs/FORMAT.md)"
        )
    return values


def _frames(group: h5py.Group, where: str) -> np.ndarray:
    frame = _coordinate(group, "frame", where).astype(np.int64)
    if (np.diff(frame) <= 0).any():
        raise ExportError(f"{where}/frame: expected increasing numbers, found a step back")
    return frame


def _joints(file: h5py.File) -> JointSet:
    name = str(file.attrs.get("joint_set"))
    if name not in JOINT_SETS:
        raise schema.SchemaError(
            f"{file.filename}: root attribute joint_set: expected one of {', '.join(JOINT_SETS)}, found {name!r}; "
            "correct it (docs/FORMAT.md)"
        )
    return JOINT_SETS[name]


def _rate(group: h5py.Group, where: str) -> float:
    found = group.attrs.get("fps")
    try:
        rate = float(schema.single(found))
    except (TypeError, ValueError):
        rate = np.nan
    if not 0 < rate < np.inf:
        raise schema.SchemaError(
            f"{where}: attribute fps: expected frames a second, above 0, found {found!r}; correct it (docs/FORMAT.md)"
        )
    return rate


def _up(group: h5py.Group, where: str) -> str:
    up = str(group.attrs.get("world_up"))
    if up not in _UP_TO_Y:
        raise schema.SchemaError(
            f"{where}: attribute world_up: expected one of {' '.join(_UP_TO_Y)}, found {up!r}; "
            "correct it (docs/FORMAT.md)"
        )
    return up


def _prediction(group: h5py.Group, where: str) -> dict | None:
    """What the file says about the prediction, None where it says nothing."""
    if "prediction" not in group.attrs:
        return None
    with schema.damage_named(group.file, f"attribute prediction of {group.name.strip('/')}"):
        about = json.loads(group.attrs["prediction"])
    if not isinstance(about, dict):
        raise schema.SchemaError(f"{where}: attribute prediction: expected an object in JSON, found {about!r:.80}")
    return about


def _check_shape(array: np.ndarray, expected: tuple[int, ...], where: str) -> None:
    if array.shape != expected:
        raise schema.SchemaError(
            f"{where}: expected shape {expected}, as long as the coordinates of its dimensions, found {array.shape}; "
            "convert again, or choose another variable"
        )


def _is_predicted(name: str) -> bool:
    return name.startswith("predicted_")


def _beside(group: h5py.Group, name: str, other: str, shape: tuple[int, ...], where: str) -> np.ndarray | None:
    """What else a file says of the prediction, None of other variables."""
    if not _is_predicted(name) or other not in group:
        return None
    values = _values(group, other, where)
    _check_shape(values, shape, f"{where}/{other}")
    return values


def _dims(data: h5py.Dataset) -> tuple[str, ...]:
    return tuple(dim[0].name.rpartition("/")[2] if len(dim) else "" for dim in data.dims)


def _choose(group: h5py.Group, variable: str | None, where: str) -> str:
    """The variable asked for, else the only prediction, else the truth."""
    items = {name: _item(group, name) for name in group}
    found = [
        n for n, v in items.items() if isinstance(v, h5py.Dataset) and v.dtype.kind == "f" and _dims(v)[-4:] == _DIMS
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
        lengths = dict(zip(extra, data.shape, strict=False))
        wanted = "--select " + " ".join(f"{dim}=0" for dim in extra) if extra else "nothing to select"
        known = "".join(f"; {dim} is {_items(group, dim, length)}" for dim, length in lengths.items())
        raise ExportError(f"{where}: expected {wanted}, found {' '.join(select) or 'none'}{known}")
    index = [_position(group, dim, select[dim], length, where) for dim, length in zip(extra, data.shape, strict=False)]
    return data[tuple(index)].astype(np.float64)


def _position(group: h5py.Group, dim: str, chosen: str, length: int, where: str) -> int:
    labels = _labels(group, dim)
    if chosen in labels:
        return labels.index(chosen)
    if chosen.isdigit() and int(chosen) < length:
        return int(chosen)
    raise ExportError(f"{where}: no {dim} {chosen!r}; {dim} is {_items(group, dim, length)}")


def _labels(group: h5py.Group, dim: str) -> list[str]:
    return [str(value) for value in _values(group, dim, group.name)] if _item(group, dim) is not None else []


def _items(group: h5py.Group, dim: str, length: int) -> str:
    """What may be selected along a dimension: names if it has some, and positions."""
    names = [label for label in _labels(group, dim) if not label.isdigit()]
    return (f"{', '.join(names)} or " if names else "") + f"0 to {length - 1}"
