"""The attributes of a sequence, and what its small per-camera variables may hold."""

import json

import h5py
import numpy as np

from finepose_mp import schema
from finepose_mp.cameras import MODELS
from finepose_mp.schema import CAMERA_KINDS, SPLITS
from finepose_mp.validation import root
from finepose_mp.validation.findings import ERROR, INFO, WARNING, some
from finepose_mp.validation.take import Take

UP_AXES = ("+x", "-x", "+y", "-y", "+z", "-z")

_TEXTS = ("scene", "action", "split", "split_within_scene", "world_up")
_JSON = {"subjects": list, "source_files": dict, "findings": list}
_OPTIONAL_JSON = {"activity_names": dict, "prediction": dict}
_FRAMES_PER_SECOND = (1.0, 1000.0)
_IMAGE_SIDES = (16, 20_000)  # pixels


def check_attributes(take: Take) -> None:
    """Reads the attributes into `take.attributes`; "complete" is among them when none is missing or unreadable."""
    group, notes, values = take.group, take.notes, take.attributes
    for name in _TEXTS:
        value = root.attribute(group, name)
        if isinstance(value, str):
            values[name] = value
        else:
            notes.add("attributes", ERROR, f"attribute {name}", "text in UTF-8", _shown(value))
    optional = {name: kind for name, kind in _OPTIONAL_JSON.items() if name in group.attrs}
    for name, kind in (_JSON | optional).items():
        found = root.attribute(group, name)
        value = _parsed(found)
        if isinstance(value, kind):
            values[name] = value
        else:
            wanted = "a list in JSON" if kind is list else "an object in JSON"
            notes.add("attributes", ERROR, f"attribute {name}", wanted, _shown(found))
    relative = values.get("prediction", {}).get("root_relative")
    if isinstance(relative, list):
        values["root_relative"] = relative
    simulated = _single(group, "simulated")
    if simulated is not None:
        values["simulated"] = simulated
    if simulated not in (0, 1):
        notes.add("attributes", ERROR, "attribute simulated", "0 or 1", _shown(root.attribute(group, "simulated")))
    _check_rate(take)
    if {*_TEXTS, *_JSON, *optional, "simulated", "fps"} <= values.keys():
        values["complete"] = True
    _check_values(take)


def _check_rate(take: Take) -> None:
    value = _single(take.group, "fps")
    number = float(value) if isinstance(value, int | float | np.number) else np.nan
    low, high = _FRAMES_PER_SECOND
    if np.isfinite(number) and number > 0:
        take.attributes["fps"] = number
    if not low <= number <= high:
        expected, found = f"frames a second, {low:g} to {high:g}", _shown(root.attribute(take.group, "fps"))
        take.notes.add("fps", ERROR, "attribute fps", expected, found)


def _check_values(take: Take) -> None:
    values, notes = take.attributes, take.notes
    for name in ("split", "split_within_scene"):
        if name in values and values[name] not in SPLITS:
            notes.add("split", ERROR, f"attribute {name}", f"one of {some(SPLITS)}", repr(values[name]))
    if values.get("world_up", "+z") not in UP_AXES:
        notes.add("world_up", ERROR, "attribute world_up", f"one of {' '.join(UP_AXES)}", repr(values.pop("world_up")))
    if values.get("scene") == "":
        notes.add("attributes", WARNING, "attribute scene is empty; results are reported under it")
    strangers = [item for item in values.get("subjects", []) if not isinstance(item, str)]
    if strangers:
        notes.add("attributes", ERROR, "attribute subjects", "a list of names", f"{_shown(strangers[0])} in it")
    own = [item for item in values.get("findings", []) if isinstance(item, dict)]
    if len(own) < len(values.get("findings", [])):
        notes.add("attributes", ERROR, "attribute findings", "a list of objects", "something else in it")
    errors = [str(item.get("message", "")) for item in own if item.get("severity") == "error"]
    if errors:
        message = f"its converter noted {len(errors)} errors; first: {errors[0][:300]}"
        notes.add("converter", WARNING, message, variable="findings")


def check_camera_words(take: Take) -> None:
    """Kind, lens model, wearer, image size and motion flag of every camera."""
    _check_words(take, "camera_kind", CAMERA_KINDS)
    _check_words(take, "camera_model", tuple(MODELS))
    if take.has("camera_kind", "camera_wearer"):
        for name, kind, wearer in zip(take.camera, take.texts("camera_kind"), take.texts("camera_wearer"), strict=True):
            _check_wearer(take, name, kind, wearer)
    if take.has("image_size"):
        for name, size in zip(take.camera, take.read("image_size", ...).tolist(), strict=True):
            low, high = _IMAGE_SIDES
            if not all(low <= side <= high for side in size):
                take.notes.add(
                    "image_size",
                    ERROR,
                    "implausible image size",
                    f"width and height of {low} to {high} px",
                    str(size),
                    variable="image_size",
                    camera=name,
                )


def _check_words(take: Take, variable: str, known: tuple[str, ...]) -> None:
    if not take.has(variable):
        return
    for name, value in zip(take.camera, take.texts(variable), strict=True):
        if value not in known:
            take.notes.add(
                variable,
                ERROR,
                "unknown word",
                f"one of {some(known, 10)}",
                repr(value),
                variable=variable,
                camera=name,
            )


def _check_wearer(take: Take, camera: str, kind: str, wearer: str) -> None:
    if kind == "exo" and wearer:
        take.notes.add(
            "wearer",
            ERROR,
            "a fixed camera that somebody wears",
            "nobody for camera_kind exo",
            repr(wearer),
            variable="camera_wearer",
            camera=camera,
        )
    elif kind.startswith("ego") and not wearer:
        take.notes.add(
            "wearer",
            ERROR,
            "a head-worn camera that nobody wears",
            "the name of its wearer",
            "nobody",
            variable="camera_wearer",
            camera=camera,
        )
    elif wearer and wearer not in take.person:
        take.notes.add(
            "wearer",
            INFO,
            "worn by somebody who is no person of the sequence",
            f"one of {some(take.person)}",
            repr(wearer),
            variable="camera_wearer",
            camera=camera,
        )


def _parsed(value: object) -> object:
    if not isinstance(value, str):
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _single(group: h5py.Group, name: str) -> object:
    """The one value of an attribute, None where it is absent, cannot be read, or has several."""
    try:
        return schema.single(root.attribute(group, name))
    except ValueError:
        return None


def _shown(value: object) -> str:
    return "nothing readable" if value is None else repr(value)[:80]
