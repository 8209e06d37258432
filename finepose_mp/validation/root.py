"""What a file says about itself, and which of its groups are sequences."""

import h5py
import numpy as np

from finepose_mp import schema
from finepose_mp.skeletons import JOINT_SETS, JointSet
from finepose_mp.validation.findings import ERROR, INFO, WARNING, Findings, some

_LABELS = {"xyz": ["x", "y", "z"], "uv": ["u", "v"], "row": ["x", "y", "z"], "size": ["width", "height"]}
_TEXTS = ("dataset", "licence", "citation", "converter_version")


def attribute(item: h5py.Group | h5py.Dataset, name: str) -> object:
    """The value of an attribute, None where it is absent or cannot be read: text that is not UTF-8 cannot."""
    try:
        value = item.attrs.get(name)
        if isinstance(value, str):
            value.encode()  # h5py lets foreign bytes pass as lone surrogates
        return value
    except (OSError, RuntimeError, TypeError, ValueError, KeyError):
        return None


def labels(dataset: object, most: int = 100_000) -> list[str] | None:
    """The strings of a one-dimensional dataset of text; None where it is anything else, or implausibly long."""
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1 or len(dataset) > most:
        return None
    if schema.leads_outside(dataset):
        return None
    if h5py.check_string_dtype(dataset.dtype) is None:
        return None
    try:
        return dataset.asstr()[...].tolist()
    except (OSError, RuntimeError, ValueError):
        return None


def check_root(file: h5py.File, notes: Findings) -> JointSet | None:
    """The file's joint set; None, with findings, where it does not say or the file's own joints contradict it."""
    for name in _TEXTS:
        if not isinstance(attribute(file, name), str):
            message = f"root attribute {name} is missing or no text"
            notes.add("attributes", INFO if name == "converter_version" else WARNING, message)
    for name, expected in _LABELS.items():
        if labels(schema.item_of(file, name)) != expected:
            notes.add("coordinates", ERROR, f"root coordinate {name}", str(expected), _shown(file, name))
    for name in ("column", "param"):
        if labels(schema.item_of(file, name)) is None:
            notes.add("coordinates", ERROR, f"root coordinate {name} is missing or no list of names")
    return _joint_set(file, notes)


def _joint_set(file: h5py.File, notes: Findings) -> JointSet | None:
    name = attribute(file, "joint_set")
    if not isinstance(name, str) or name not in JOINT_SETS:
        notes.add("joint_set", ERROR, "root attribute joint_set", f"one of {some(list(JOINT_SETS))}", repr(name))
        return None
    joints = JOINT_SETS[name]
    if labels(schema.item_of(file, "joint")) != list(joints.joints):
        message = f"root coordinate joint does not hold the names of {name} in their order"
        notes.add("joint_set", ERROR, message, some(list(joints.joints), 17), _shown(file, "joint"))
        return None
    for key, expected in (("joint_parents", joints.parents), ("joint_mirror", joints.mirror)):
        found = attribute(file, key)
        if found is None or not np.array_equal(np.asarray(found), expected):
            message = f"root attribute {key} is not that of {name}"
            notes.add("joint_set", WARNING, message, str(list(expected)), str(found))
    return joints


def _shown(file: h5py.File, name: str) -> str:
    found = labels(schema.item_of(file, name))
    return "nothing of that name, or no list of names" if found is None else some(found, 17)


def find_sequences(file: h5py.File) -> list[str]:
    """Names of all groups that have a variable of the contract, sorted; links are not followed."""
    found: set[str] = set()
    wanted = set(schema.VARIABLES)

    def visit(name: str, item: object) -> None:
        parent, _, last = name.rpartition("/")
        if last in wanted and parent:
            found.add(parent)

    file.visititems(visit)
    return sorted(found)
