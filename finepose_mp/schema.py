"""The HDF5 contract (schema 1.0) as data, with its writer, reader and version check.

One file per dataset, one group per sequence, valid netCDF-4: `docs/FORMAT.md` describes it for people who write such
files themselves. Shared coordinates live in the root, `frame`, `person` and `camera` in every sequence.
"""

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from finepose_mp import __version__, chunks
from finepose_mp.files import appearing
from finepose_mp.skeletons import joint_set as find_joint_set
from finepose_mp.variables import (
    INTERPOLATED,
    MISSING,
    NONE,
    OBSERVED,
    OPTIONAL_VARIABLES,
    TEXT,
    VARIABLES,
    Variable,
)

__all__ = ["INTERPOLATED", "MISSING", "OBSERVED", "OPTIONAL_VARIABLES", "VARIABLES", "Variable"]  # and what is below

SCHEMA = "finepose_mp"
SCHEMA_VERSION = "1.0"
KNOWN_VERSIONS = (SCHEMA_VERSION,)

CAMERA_KINDS = ("ego_rgb", "ego_slam", "exo")
SPLITS = ("train", "val", "test")
MAX_CAMERA_PARAMS = 15

# What the HDF5 library, and readers of what it gives, make of damaged bytes: it raises almost anything.
DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)

_CHUNK_FRAMES = 256


class SchemaError(ValueError):
    """A file that does not keep the contract; the message names the file and what to do."""


# Shared dimensions: values of their coordinate variables in the root (joint comes from the joint set).
_ROOT_COORDINATES = {
    "xyz": ["x", "y", "z"],
    "uv": ["u", "v"],
    "row": ["x", "y", "z"],
    "column": ["x", "y", "z", "1"],
    "size": ["width", "height"],
    "param": [f"{i}" for i in range(MAX_CAMERA_PARAMS)],
}
_SEQUENCE_COORDINATES = {
    "frame": "frame number in the source",
    "person": "person, the same in every sequence array",
    "camera": "camera name in the source",
}


@dataclass
class Sequence:
    """One sequence in memory; shapes with T frames, P persons, J joints, K cameras.

    Units and frames: `VARIABLES` and, for the last fields, `OPTIONAL_VARIABLES`.
    """

    name: str  # group, "01_tagging/001_tagging"
    frame: np.ndarray  # (T,) i4, as numbered in the source
    person: list[str]
    camera: list[str]
    joints_3d_world: np.ndarray  # (T, P, J, 3)
    joint_status: np.ndarray  # (T, P, J)
    world_to_camera: np.ndarray  # (K, T, 3, 4)
    camera_model: list[str]
    camera_params: np.ndarray  # (K, T, 15)
    camera_kind: list[str]
    camera_is_moving: np.ndarray  # (K,)
    camera_wearer: list[str]
    image_size: np.ndarray  # (K, 2)
    joints_2d_projected: np.ndarray  # (K, T, P, J, 2)
    joints_2d_detected: np.ndarray  # (K, T, P, J, 2)
    detection_score: np.ndarray  # (K, T, P, J)
    in_view: np.ndarray  # (K, T, P, J)
    scene: str  # title in tables, "Tagging"
    action: str  # what people do, in words
    split: str  # the dataset's official one
    split_within_scene: str  # whole takes of every scene divided
    fps: float
    world_up: str = "+z"
    simulated: bool = False
    subjects: list[str] = field(default_factory=list)
    source_files: dict = field(default_factory=dict)  # file or folder -> {"sha256": ..., ...}
    findings: list[dict] = field(default_factory=list)
    valid_frame: np.ndarray | None = None  # (T,); None, here and below: the sequence has no such variable
    activity: np.ndarray | None = None  # (T,)
    activity_names: dict[str, str] | None = None  # number as text -> name, {"1": "Standing/Walking", ...}
    joints_3d_universal_world: np.ndarray | None = None  # (T, P, J, 3)
    predicted_3d_world: np.ndarray | None = None  # (T, P, J, 3)
    predicted_hypotheses_3d_world: np.ndarray | None = None  # (H, T, P, J, 3)
    predicted_spread: np.ndarray | None = None  # (T, P, J)
    predicted_status: np.ndarray | None = None  # (T, P)
    prediction: dict | None = None  # what predicted, how, and what was assumed

    @property
    def hypotheses(self) -> int:
        """How many hypotheses the sequence holds."""
        return 0 if self.predicted_hypotheses_3d_world is None else len(self.predicted_hypotheses_3d_world)


_TEXT_ATTRIBUTES = ("scene", "action", "split", "split_within_scene", "world_up")
_JSON_ATTRIBUTES = ("subjects", "source_files", "findings")
_OPTIONAL_JSON_ATTRIBUTES = ("activity_names", "prediction")
_SEQUENCE_ATTRIBUTES = (*_TEXT_ATTRIBUTES, *_JSON_ATTRIBUTES, "fps", "simulated")


@contextmanager
def create(
    path: Path, dataset: str, joint_set: str, licence: str, citation: str, overwrite: bool = False
) -> Iterator[h5py.File]:
    """An empty file of the contract, open for writing, that appears at `path` only when the block ends without error.

    Until then the data goes to a temporary file in the same folder, removed on error; a previous file stays intact.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
    """
    # Attributes over 64 KiB (findings of a bad take) need the file format of HDF5 1.8 or later.
    with appearing(path, overwrite) as partial, h5py.File(partial, "w", libver=("v108", "latest")) as file:
        _write_root(file, dataset, joint_set, licence, citation)
        yield file


def write_sequence(file: h5py.File, sequence: Sequence) -> None:
    """Adds one sequence to a file opened by `create`.

    Raises:
        SchemaError: an array's shape does not fit the sequence's own coordinates, a value is not allowed, or the
            sequence is in the file already.
    """
    _check_sequence(file, sequence)
    group = file.create_group(sequence.name)
    scales = {name: file[name] for name in (*_ROOT_COORDINATES, "joint")}
    for name, long_name in _SEQUENCE_COORDINATES.items():
        values = getattr(sequence, name)
        values = np.asarray(values, "i4") if name == "frame" else np.asarray(values, dtype=object)
        scales[name] = _write_coordinate(group, name, values, long_name)
    if sequence.hypotheses:
        numbers = np.arange(sequence.hypotheses, dtype="i4")
        scales["hypothesis"] = _write_coordinate(group, "hypothesis", numbers, "number of the hypothesis")
    for name, variable in VARIABLES.items():
        _write_variable(group, name, variable, getattr(sequence, name), scales)
    for name in _present(sequence, OPTIONAL_VARIABLES):
        _write_variable(group, name, OPTIONAL_VARIABLES[name], getattr(sequence, name), scales)
    for name in _TEXT_ATTRIBUTES:
        group.attrs[name] = getattr(sequence, name)
    for name in (*_JSON_ATTRIBUTES, *_present(sequence, _OPTIONAL_JSON_ATTRIBUTES)):
        group.attrs[name] = json.dumps(getattr(sequence, name))
    group.attrs["fps"] = float(sequence.fps)
    group.attrs["simulated"] = np.uint8(sequence.simulated)


def open_file(path: Path) -> h5py.File:
    """The file, open for reading, its schema and version checked.

    Raises:
        FileNotFoundError: there is no such file; the message says how to make one.
        SchemaError: not HDF5, truncated, not of this contract, or of a version this reader does not know.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file. Make it from raw data with `python tools/convert.py egohumans --out {path}`; "
            "without raw data, simulate some first with `python tools/simulate.py --out data/raw/egohumans`. "
            "docs/FORMAT.md says how to write your own"
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise SchemaError(f"{path}: not a readable HDF5 file ({error}); it may be truncated, convert again") from error
    try:
        check_version(file)
    except SchemaError:
        file.close()
        raise
    return file


def check_version(file: h5py.File) -> None:
    """Nothing when the file says a schema and version that this reader knows. Raises SchemaError otherwise."""
    with damage_named(file, "its root attributes"):
        schema, version = (_plain(file.attrs.get(name)) for name in ("schema", "schema_version"))
        writer = _plain(file.attrs.get("converter_version"))
    if schema != SCHEMA:
        raise SchemaError(
            f"{file.filename}: root attribute schema is {schema!r}, expected {SCHEMA!r}; "
            "this is not a file of this toolkit (docs/FORMAT.md), or damaged: copy it again, or convert again"
        )
    if version not in KNOWN_VERSIONS:
        raise SchemaError(
            f"{file.filename}: schema version {version!r}, this reader knows {', '.join(KNOWN_VERSIONS)}; "
            "convert the raw data again with `python tools/convert.py`, or install the finepose_mp that wrote the file "
            f"(converter_version {writer!r})"
        )


def _plain(value: object) -> object:
    """A value of an attribute; arrays, which have no truth value, as lists."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


@contextmanager
def damage_named(file: h5py.File, what: str, *others: type[Exception]) -> Iterator[None]:
    """Makes of whatever HDF5 says about damaged bytes inside the block a SchemaError that names the file.

    SchemaError and the classes `others` pass as they are.
    """
    try:
        yield
    except (SchemaError, *others):
        raise
    except DAMAGE as error:
        raise SchemaError(
            f"{file.filename}: damaged, {what} cannot be read ({error}); copy the file again, or convert again"
        ) from error


def sequence_names(file: h5py.File) -> list[str]:
    """Group names of all sequences, sorted, without the leading slash. Raises SchemaError where they are damaged."""
    names: list[str] = []
    with damage_named(file, "its list of sequences"):
        file.visititems(lambda name, item: names.append(name) if _is_sequence(item) else None)
    return sorted(names)


def item_of(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What a group holds under a name, None where there is nothing, or a link that leads out of the file."""
    try:
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            return None
        item = group.get(name)
    except (OSError, RuntimeError, KeyError, ValueError):
        return None
    # A soft link may lead to one that leads out.
    return item if item is None or item.file.filename == group.file.filename else None


def leads_outside(dataset: h5py.Dataset) -> bool:
    """Whether a dataset's numbers lie in other files, which a file from somebody else has no business to open."""
    return bool(dataset.external) or dataset.is_virtual


def read_sequence(file: h5py.File, name: str) -> Sequence:
    """One whole sequence in memory.

    Raises:
        SchemaError: the sequence, one of its variables or attributes is absent or damaged; the message names it.
    """
    with damage_named(file, f"sequence {name}"):
        return _read_sequence(file, name)


def _read_sequence(file: h5py.File, name: str) -> Sequence:
    if name not in file:
        known = sequence_names(file)
        raise SchemaError(
            f"{file.filename}: no sequence {name!r}; it has {', '.join(known[:10])} ({len(known)} in all)"
        )
    group = file[name]
    absent = [v for v in (*_SEQUENCE_COORDINATES, *VARIABLES) if v not in group]
    absent += [a for a in _SEQUENCE_ATTRIBUTES if a not in group.attrs]
    if absent:
        raise SchemaError(f"{file.filename}: {name} lacks {', '.join(absent)}; `docs/FORMAT.md` lists what is required")
    optional = [v for v in OPTIONAL_VARIABLES if v in group]
    values = {key: _read_values(group[key]) for key in (*_SEQUENCE_COORDINATES, *VARIABLES, *optional)}
    values |= {key: str(group.attrs[key]) for key in _TEXT_ATTRIBUTES}
    optional = [a for a in _OPTIONAL_JSON_ATTRIBUTES if a in group.attrs]
    values |= {key: json.loads(group.attrs[key]) for key in (*_JSON_ATTRIBUTES, *optional)}
    fps, simulated = (single(group.attrs[name]) for name in ("fps", "simulated"))
    return Sequence(name=name, fps=float(fps), simulated=bool(simulated), **values)


def single(attribute: object) -> object:
    """The one value of an attribute, which xarray writes as an array of one. Raises ValueError where there are more."""
    return np.asarray(attribute).item()


def _present(sequence: Sequence, names: Iterable[str]) -> list[str]:
    """Those of the optional fields that the sequence has."""
    return [name for name in names if getattr(sequence, name) is not None]


def _is_sequence(item: object) -> bool:
    return isinstance(item, h5py.Group) and "joints_3d_world" in item


def _read_values(variable: h5py.Dataset) -> np.ndarray | list[str]:
    return variable.asstr()[...].tolist() if h5py.check_string_dtype(variable.dtype) else variable[...]


def _write_root(file: h5py.File, dataset: str, joint_set: str, licence: str, citation: str) -> None:
    joints = find_joint_set(joint_set)
    file.attrs["schema"] = SCHEMA
    file.attrs["schema_version"] = SCHEMA_VERSION
    file.attrs["dataset"] = dataset
    file.attrs["joint_set"] = joint_set
    file.attrs["joint_parents"] = np.asarray(joints.parents, "i4")
    file.attrs["joint_mirror"] = np.asarray(joints.mirror, "i4")
    file.attrs["licence"] = licence
    file.attrs["citation"] = citation
    file.attrs["converter_version"] = __version__
    for name, values in _ROOT_COORDINATES.items():
        _write_coordinate(file, name, np.asarray(values, dtype=object), f"labels of dimension {name}")
    _write_coordinate(file, "joint", np.asarray(joints.joints, dtype=object), f"joint names of {joint_set}")


def _write_coordinate(group: h5py.Group, name: str, values: np.ndarray, long_name: str) -> h5py.Dataset:
    scale = group.create_dataset(name, data=values, dtype=TEXT if values.dtype == object else values.dtype)
    scale.make_scale(name)
    scale.attrs.update(units="1", coordinate_frame=NONE, long_name=long_name)
    return scale


def _write_variable(group: h5py.Group, name: str, variable: Variable, values: object, scales: dict) -> None:
    chunks_shape = _chunks(variable.dims, np.shape(values))
    if chunks_shape is None:
        values = np.asarray(values, dtype=object if variable.dtype is TEXT else variable.dtype)
        data = group.create_dataset(name, data=values, dtype=variable.dtype)
    else:
        data = group.create_dataset(name, np.shape(values), variable.dtype, chunks=chunks_shape, **chunks.FILTERS)
        chunks.write(data, values)
    for axis, dim in enumerate(variable.dims):
        data.dims[axis].attach_scale(scales[dim])
    data.attrs.update(units=variable.units, coordinate_frame=variable.coordinate_frame, long_name=variable.long_name)


def _chunks(dims: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """One camera and one person a chunk, about `_CHUNK_FRAMES` frames long: what a window of one track reads."""
    if "frame" not in dims or 0 in shape:
        return None
    lengths = dict(zip(dims, shape, strict=True))
    # Chunks of equal length: a last one that is mostly filling costs as much as a full one.
    frames = math.ceil(lengths["frame"] / max(1, round(lengths["frame"] / _CHUNK_FRAMES)))
    size = {"hypothesis": 1, "camera": 1, "person": 1, "frame": frames}
    return tuple(min(size.get(dim, length), length) for dim, length in zip(dims, shape, strict=True))


def _check_sequence(file: h5py.File, sequence: Sequence) -> None:
    where = f"{file.filename}: {sequence.name}"
    if sequence.name in file:
        raise SchemaError(f"{where} is in the file already; two takes have the same name")
    lengths = {name: len(file[name]) for name in (*_ROOT_COORDINATES, "joint")}
    lengths |= {name: len(getattr(sequence, name)) for name in _SEQUENCE_COORDINATES}
    lengths["hypothesis"] = sequence.hypotheses
    optional = {name: OPTIONAL_VARIABLES[name] for name in _present(sequence, OPTIONAL_VARIABLES)}
    for name, variable in (VARIABLES | optional).items():
        expected = tuple(lengths[dim] for dim in variable.dims)
        found = np.shape(getattr(sequence, name))
        if found != expected:
            raise SchemaError(f"{where}/{name}: expected shape {expected} ({' '.join(variable.dims)}), found {found}")
    for name, allowed in (("camera_kind", CAMERA_KINDS), ("split", SPLITS), ("split_within_scene", SPLITS)):
        values = getattr(sequence, name)
        unknown = set([values] if isinstance(values, str) else values) - set(allowed)
        if unknown:
            raise SchemaError(
                f"{where}/{name}: found {', '.join(sorted(unknown))}, expected one of {', '.join(allowed)}"
            )
