"""Keypoints in CSV, long or wide, and in files of this toolkit.

Long: a row a joint, columns frame, joint, x, y and, where known, person and score. Wide: a row a person, columns frame,
person and <joint>_x, <joint>_y, <joint>_score of every joint. The header names columns; their order is free.
"""

import csv
import io

import numpy as np

from finepose_mp import schema
from finepose_mp.preprocessing.keypoints.content import Content
from finepose_mp.preprocessing.keypoints.found import Found, KeypointsError, Person, whole_number

_ALIASES = {
    **{name: "frame" for name in ("frame", "frame_id", "frame_index", "image_id")},
    **{name: "person" for name in ("person", "id", "track_id", "person_id", "instance_id")},
    **{name: "x" for name in ("x", "u")},
    **{name: "y" for name in ("y", "v")},
    **{name: "score" for name in ("score", "confidence", "likelihood", "visibility")},
    **{name: "joint" for name in ("joint", "keypoint", "bodypart", "joint_name")},
}


def read_csv(content: Content) -> list[Found] | None:
    """People of a table with a header; None when the text has none with a frame column."""
    if content.kind != "text":
        return None
    lines = [line for line in content.value.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return None
    delimiter = max(",;\t", key=lines[0].count)
    rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter))
    header = [word.strip().lower() for word in rows[0]]
    columns = {_ALIASES.get(name, name): position for position, name in enumerate(header)}
    if "frame" not in columns:
        return None
    ragged = next((n for n, row in enumerate(rows[1:], start=2) if len(row) != len(header)), None)
    if ragged:
        raise KeypointsError(
            f"{content.path}: row {ragged} has {len(rows[ragged - 1])} columns, header has {len(header)}"
        )
    if {"joint", "x", "y"} <= columns.keys():
        return [_read_long(content, columns, rows[1:])]
    return [_read_wide(content, header, columns, rows[1:])]


def _read_long(content: Content, columns: dict[str, int], rows: list[list[str]]) -> Found:
    names = list(dict.fromkeys(row[columns["joint"]].strip() for row in rows))
    people: dict[tuple[int, str | None], np.ndarray] = {}
    for n, row in enumerate(rows, start=2):
        frame = _frame(content, n, row[columns["frame"]])
        key = (frame, row[columns["person"]] if "person" in columns else None)
        pose = people.setdefault(key, np.full((len(names), 3), np.nan))
        joint = names.index(row[columns["joint"]].strip())
        if np.isfinite(pose[joint]).any():
            who = f"person {key[1]!r}" if key[1] is not None else "the only person"
            raise KeypointsError(
                f"{content.path}: row {n}: joint {names[joint]} of {who} in frame {key[0]} for the second time; "
                "several people need a column `person`"
            )
        pose[joint, 0] = _number(content, n, row[columns["x"]])
        pose[joint, 1] = _number(content, n, row[columns["y"]])
        pose[joint, 2] = _number(content, n, row[columns["score"]]) if "score" in columns else np.nan
    found = [
        Person(frame, pose[:, :2], pose[:, 2] if "score" in columns else None, identity)
        for (frame, identity), pose in people.items()
    ]
    return Found("CSV", found, **_joints(names))


def _read_wide(content: Content, header: list[str], columns: dict[str, int], rows: list[list[str]]) -> Found:
    names = [name.removesuffix("_x") for name in header if name.endswith("_x")]
    lacking = [name for name in names if f"{name}_y" not in header]
    if not names or lacking:
        raise KeypointsError(
            f"{content.path}: expected columns frame, joint, x, y or frame, <joint>_x, <joint>_y; found "
            f"{', '.join(header[:8])}"
        )
    score = next((s for s in ("score", "confidence", "likelihood") if f"{names[0]}_{s}" in header), None)
    unscored = [name for name in names if score and f"{name}_{score}" not in header]
    if unscored:
        raise KeypointsError(f"{content.path}: no column {unscored[0]}_{score}, but {names[0]}_{score}; expected both")
    axes = ("x", "y", score) if score else ("x", "y")
    places = [[header.index(f"{name}_{axis}") for axis in axes] for name in names]
    people = []
    for n, row in enumerate(rows, start=2):
        values = np.array([[_number(content, n, row[place]) for place in joint] for joint in places])
        identity = row[columns["person"]] if "person" in columns else None
        frame = _frame(content, n, row[columns["frame"]])
        people.append(Person(frame, values[:, :2], values[:, 2] if score else None, identity))
    return Found("CSV", people, **_joints(names))


def _joints(names: list[str]) -> dict:
    """Joints by name, or nothing said where a table numbers them."""
    return {} if all(name.isdigit() for name in names) else {"joint_names": names}


def _frame(content: Content, row: int, word: str) -> int:
    return whole_number(word.strip(), f"{content.path}: row {row}: frame")


def _number(content: Content, row: int, word: str) -> float:
    if not word.strip():
        return np.nan
    try:
        return float(word)
    except ValueError as error:
        raise KeypointsError(f"{content.path}: row {row}: expected a number, found {word!r}") from error


def read_contract(content: Content, sequence: str | None) -> list[Found] | None:
    """Detections of every camera of one sequence of a file of this toolkit, people by name.

    Raises:
        KeypointsError: several sequences and none chosen, or no detections in it.
    """
    if content.kind != "hdf5":
        return None
    with schema.open_file(content.path) as file:
        names = schema.sequence_names(file)
        if sequence is None and len(names) != 1:
            raise KeypointsError(
                f"{content.path}: holds {len(names)} sequences ({', '.join(names[:5])}...); choose one of them"
            )
        take = schema.read_sequence(file, sequence or names[0])
        joint_set = str(file.attrs["joint_set"])
    found = [_read_camera(take, k, joint_set) for k in range(len(take.camera))]
    found = [camera for camera in found if camera.people]
    if not found:
        raise KeypointsError(f"{content.path}: {take.name} holds no detected 2D keypoints in any camera")
    return found


def _read_camera(take: schema.Sequence, k: int, joint_set: str) -> Found:
    pixels, scores = take.joints_2d_detected[k], take.detection_score[k]
    people = [
        Person(int(take.frame[t]), pixels[t, p], scores[t, p], take.person[p])
        for t, p in zip(*np.nonzero(np.isfinite(pixels[..., 0]).any(axis=-1)), strict=True)
    ]
    return Found(
        format="finepose_mp file",
        people=people,
        frames=take.frame.tolist(),
        camera=take.camera[k],
        joint_set=joint_set,
        image_size=(int(take.image_size[k, 0]), int(take.image_size[k, 1])),
        fps=take.fps,
        units="px",
    )
