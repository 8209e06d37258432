"""The form of a sequence: its coordinates, variables, dimensions, types, units and attributes."""

import h5py
import numpy as np

from finepose_mp import schema
from finepose_mp.schema import MAX_CAMERA_PARAMS, OPTIONAL_VARIABLES, VARIABLES, Variable
from finepose_mp.skeletons import JointSet
from finepose_mp.validation import root
from finepose_mp.validation.findings import ERROR, INFO, WARNING, Findings, some
from finepose_mp.validation.take import Take

# Beyond these a number is damage, not data: most of a week at 20 frames a second, and a chunk of storage that does not
# fit into memory beside anything else.
_MOST_FRAMES = 10_000_000
_LARGEST_CHUNK = 256 * 2**20  # bytes

_KNOWN = {*VARIABLES, *OPTIONAL_VARIABLES, "frame", "person", "camera", "hypothesis"}


def open_take(file: h5py.File, name: str, joints: JointSet) -> tuple[Take | None, Findings]:
    """The sequence of that name and the findings about its form; None where not even its coordinates are sound."""
    group = file[name]
    notes = Findings(name)
    frame = _frame_numbers(group, notes)
    names = {key: _names(group, key, notes) for key in ("person", "camera")}
    if frame is None or None in names.values():
        return None, notes
    notes.frame = frame
    take = Take(group, name, frame, names["person"], names["camera"], joints, notes)
    _check_frame_numbers(take)
    lengths = {"frame": len(frame), "person": len(take.person), "camera": len(take.camera), "joint": len(joints)}
    lengths |= {"xyz": 3, "uv": 2, "row": 3, "column": 4, "size": 2, "param": MAX_CAMERA_PARAMS}
    numbers = schema.item_of(group, "hypothesis")
    lengths["hypothesis"] = numbers.size if isinstance(numbers, h5py.Dataset) else 0
    for variable, description in (VARIABLES | OPTIONAL_VARIABLES).items():
        item = schema.item_of(group, variable)
        if item is None and variable in OPTIONAL_VARIABLES:
            continue
        if _is_usable(item, variable, description, lengths, notes):
            take.usable.add(variable)
            _check_description(item, variable, description, notes)
    _check_scales(take)
    _check_unknown(take)
    return take, notes


def _frame_numbers(group: h5py.Group, notes: Findings) -> np.ndarray | None:
    item = schema.item_of(group, "frame")
    problem = ""
    if not isinstance(item, h5py.Dataset) or item.ndim != 1 or item.dtype.kind not in "iu":
        problem = "is missing or no list of whole numbers"
    elif not 0 < len(item) <= _MOST_FRAMES:
        problem = f"has {len(item)} entries"
    elif _is_foreign(item):
        problem = "lies in another file or in chunks too large to read"
    else:
        try:
            return item[...].astype(np.int64)
        except (OSError, RuntimeError, ValueError) as error:
            problem = f"cannot be read ({error})"
    notes.add("coordinates", ERROR, f"coordinate frame {problem}", "one number a frame", variable="frame")
    return None


def _names(group: h5py.Group, key: str, notes: Findings) -> list[str] | None:
    found = root.labels(schema.item_of(group, key))
    if not found or len(set(found)) < len(found) or not all(found):
        shown = "nothing readable" if found is None else some(found) or "none"
        notes.add("coordinates", ERROR, f"coordinate {key}", "names, each once", shown, variable=key)
        return None
    return found


def _check_frame_numbers(take: Take) -> None:
    step = np.diff(take.frame)
    wrong = np.concatenate([[False], step <= 0])
    if wrong.any():
        take.notes.add(
            "frames",
            ERROR,
            "frame numbers do not increase",
            "every number larger than the one before",
            f"{wrong.sum()} that are not",
            variable="frame",
            at=wrong,
        )
    holes = np.concatenate([[False], step > 1])
    if holes.any():
        take.notes.add(
            "frames",
            WARNING,
            "frame numbers have holes before these frames; windows of consecutive frames run across them",
            "steps of 1",
            f"{holes.sum()} larger steps, {int(step[step > 1].sum() - holes.sum())} numbers missing",
            variable="frame",
            at=holes,
        )


def _is_usable(item: object, name: str, description: Variable, lengths: dict[str, int], notes: Findings) -> bool:
    """Whether a variable is there with the right shape and a readable type."""
    if not isinstance(item, h5py.Dataset):
        notes.add("variables", ERROR, "missing", " ".join(description.dims), variable=name)
        return False
    expected = tuple(lengths[dim] for dim in description.dims)
    if item.shape != expected:
        shape = f"{expected} ({' '.join(description.dims)})"
        notes.add("shape", ERROR, "wrong shape", shape, str(item.shape), variable=name)
        return False
    wants_text = h5py.check_string_dtype(description.dtype) is not None if _is_text(description) else False
    is_text = h5py.check_string_dtype(item.dtype) is not None
    if is_text != wants_text or (not is_text and item.dtype.kind not in "fiub"):
        wanted = "text" if wants_text else str(np.dtype(description.dtype))
        notes.add("type", ERROR, "wrong type", wanted, str(item.dtype), variable=name)
        return False
    if _is_foreign(item):
        message = "its numbers lie in another file or in chunks too large to read; nothing of it was read"
        notes.add("storage", ERROR, message, "data in this file, in chunks along frames", variable=name)
        return False
    if not is_text and item.dtype != np.dtype(description.dtype):
        wanted = str(np.dtype(description.dtype))
        notes.add("type", WARNING, "unusual type", wanted, str(item.dtype), variable=name)
    return True


def _is_text(description: Variable) -> bool:
    return isinstance(description.dtype, np.dtype) and description.dtype.kind == "O"


def _is_foreign(item: h5py.Dataset) -> bool:
    chunk = int(np.prod(item.chunks, dtype=object)) * item.dtype.itemsize if item.chunks else 0
    return schema.leads_outside(item) or chunk > _LARGEST_CHUNK


def _check_description(item: h5py.Dataset, name: str, description: Variable, notes: Findings) -> None:
    """Unit and coordinate frame: a number in another unit is a wrong number, one without a unit is a guess."""
    units = root.attribute(item, "units")
    if units != description.units:
        severity = WARNING if units is None else ERROR
        found = "none" if units is None else repr(units)
        notes.add("units", severity, "attribute units", repr(description.units), found, variable=name)
    frame = root.attribute(item, "coordinate_frame")
    if frame != description.coordinate_frame:
        notes.add(
            "coordinate_frame",
            WARNING,
            "attribute coordinate_frame",
            repr(description.coordinate_frame),
            "none" if frame is None else repr(frame),
            variable=name,
        )
    if not isinstance(root.attribute(item, "long_name"), str):
        notes.add("attributes", INFO, "no long_name that says what it holds", variable=name)


def _check_scales(take: Take) -> None:
    """Dimension scales, without which other readers see no names of people, joints and cameras."""
    without = []
    for name in sorted(take.usable):
        dims = (VARIABLES | OPTIONAL_VARIABLES)[name].dims
        try:
            scales = [[scale.name.rsplit("/", 1)[-1] for scale in dim.values()] for dim in take.group[name].dims]
        except (OSError, RuntimeError, ValueError, KeyError):
            scales = []
        if [names[:1] for names in scales] != [[dim] for dim in dims]:
            without.append(name)
    if without:
        take.notes.add(
            "scales",
            WARNING,
            f"dimension scales are missing or others than the dimensions' own at {some(without, 20)}",
            "the coordinates attached by name, as finepose_mp.schema does",
        )


def _check_unknown(take: Take) -> None:
    unknown = sorted(name for name in take.group if name not in _KNOWN)
    unknown = [name for name in unknown if not isinstance(schema.item_of(take.group, name), h5py.Group)]
    if unknown:
        take.notes.add("variables", INFO, f"not part of the contract, ignored by this toolkit: {some(unknown)}")


def is_readable(take: Take) -> bool:
    """Whether the toolkit can read the sequence: what is required is there, and no attribute is unreadable."""
    return take.has(*schema.VARIABLES) and "complete" in take.attributes
