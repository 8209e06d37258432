"""A simulated take in the layout of the raw EgoHumans download: folders, text files, pickles inside npy, pictures."""

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finepose_mp.cameras import Camera
from finepose_mp.preprocessing.simulation import pictures
from finepose_mp.preprocessing.simulation.detections import Detections
from finepose_mp.preprocessing.simulation.glasses import SENSORS, Glasses
from finepose_mp.preprocessing.simulation.scene import Scene

_PICKLE_PROTOCOL = 4  # fixed: the same seed writes the same bytes with every Python

# COCO-WholeBody's 133 points: coco17, six of the feet, 68 of the face, 21 of each hand. Only coco17 is simulated; every
# other point repeats the joint that it hangs on, with half its score.
_WHOLE_BODY = np.array([*range(17), *[15] * 3, *[16] * 3, *[0] * 68, *[9] * 21, *[10] * 21])

# Blue, green, red, as the official toolkit draws people.
_COLOURS = ((178, 114, 0), (0, 94, 213), (115, 158, 0), (167, 121, 204))


@dataclass(frozen=True)
class Annotations:
    """What is annotated in a take: triangulated (T, P, 17, 4) and detections by camera name, valid people only."""

    triangulated: np.ndarray
    detections: dict[str, Detections]


def write_take(folder: Path, scene: Scene, annotations: Annotations) -> None:
    """Writes everything but COLMAP's files of a take into `folder`, which must not exist."""
    folder.mkdir(parents=True)
    names = [scene.people[i] for i in scene.valid]
    truth = scene.joints_3d_world[:, scene.valid]
    fit = np.concatenate([truth, np.ones((*truth.shape[:-1], 1))], axis=-1)
    _write_poses(folder / "processed_data/fit_poses3d", names, fit)
    _write_poses(folder / "processed_data/poses3d", names, annotations.triangulated)
    for camera, found in annotations.detections.items():
        _write_detections(folder / f"processed_data/poses2d/{camera}/rgb", names, found, scene.take.keypoints_2d or 17)
    for worn in scene.glasses:
        _write_calibrations(folder / f"ego/{worn.name}/calib", worn)
    _write_pictures(folder, scene)


def npy(content: object) -> bytes:
    """A `.npy` file: a plain array as such, anything else pickled inside an array of objects."""
    if isinstance(content, np.ndarray) and content.dtype != object:
        array = content
    elif isinstance(content, list):
        array = np.empty(len(content), object)
        array[:] = content
    else:
        array = np.empty((), object)
        array[()] = content
    header = f"{{'descr': {array.dtype.str!r}, 'fortran_order': False, 'shape': {array.shape!r}, }}"
    header = header.ljust(128 - 10 - 1) + "\n"
    body = pickle.dumps(array, protocol=_PICKLE_PROTOCOL) if array.dtype == object else array.tobytes()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + body


def _write_poses(folder: Path, names: list[str], poses: np.ndarray) -> None:
    """One dictionary person -> (17, 4) a frame, from (T, P, 17, 4)."""
    folder.mkdir(parents=True)
    for frame, pose in enumerate(poses, start=1):
        content = {name: pose[p].copy() for p, name in enumerate(names)}
        (folder / f"{frame:05d}.npy").write_bytes(npy(content))


def _write_detections(folder: Path, names: list[str], found: Detections, count: int) -> None:
    """One array of dictionaries a frame; nobody found is an empty array of floats."""
    folder.mkdir(parents=True)
    hangs_on = _WHOLE_BODY[:count]
    keypoints = np.concatenate([found.pixels, found.scores[..., None]], axis=-1)[:, :, hangs_on]
    keypoints[:, :, 17:, 2] *= 0.5
    keypoints = keypoints.astype(np.float32)
    for t in range(len(keypoints)):
        entries = [_entry(t, p, name, found, keypoints[t, p]) for p, name in enumerate(names)]
        entries = [entry for entry in entries if entry is not None]
        (folder / f"{t + 1:05d}.npy").write_bytes(npy(entries if entries else np.zeros(0)))


def _entry(t: int, p: int, name: str, found: Detections, keypoints: np.ndarray) -> dict | None:
    """What the file says about a person in a frame, None where it is silent."""
    if not (found.found[t, p] or found.rejected[t, p] or found.dummy[t, p]):
        return None
    entry = {
        "bbox": np.append(found.boxes[t, p], 1.0),
        "human_name": name,
        "human_id": p,  # the position among valid people, not the number of the Aria
        "color": _COLOURS[p % len(_COLOURS)],
    }
    if found.dummy[t, p]:
        return entry | {"keypoints": np.zeros_like(keypoints)}
    scores = keypoints[:, 2].copy()
    keypoints = keypoints.copy()
    if found.rejected[t, p]:
        keypoints[:, 2] = 0
    is_valid = bool(found.found[t, p])
    return entry | {"keypoints": keypoints, "raw_keypoints_confidence": scores, "is_valid": is_valid}


def _write_calibrations(folder: Path, worn: Glasses) -> None:
    """Eight lines a frame: header, id, then lens and pose of each sensor; poses column by column, in the own world."""
    folder.mkdir(parents=True)
    poses = worn.own_world_to_sensor()
    columns = poses.transpose(1, 0, 3, 2).reshape(poses.shape[1], len(SENSORS), 12)
    numbers = np.concatenate([worn.params.transpose(1, 0, 2), columns], axis=-1).reshape(len(columns), -1)
    lens, pose = " ".join(["%.16f"] * 15), " ".join(["%.16f"] * 12)
    header = "Serial, intrinsics (radtanthinprsim), extrinsic (3x4), SIMULATED\naria\n"
    template = header + f"{lens}\n{pose}\n" * len(SENSORS)
    for frame, row in enumerate(numbers.tolist(), start=1):
        (folder / f"{frame:05d}.txt").write_text(template % tuple(row), encoding="utf-8", newline="\n")


def _write_pictures(folder: Path, scene: Scene) -> None:
    """The first frame of every camera, in its true size."""
    everybody = list(enumerate(scene.joints_3d_world[0]))
    for exo in scene.exo:
        label = f"{scene.take.name} {exo.name} frame 1"
        _write(folder / f"exo/{exo.name}/images/00001.jpg", pictures.picture(exo.camera, everybody, scene.floor, label))
    for p, worn in enumerate(scene.glasses):
        others = [(i, joints) for i, joints in everybody if i != p]
        for s, sensor in enumerate(SENSORS):
            label = f"{scene.take.name} {worn.name} {sensor.name} frame 1"
            data = pictures.picture(_first_frame(worn, s), others, scene.floor, label, grayscale=sensor.name != "rgb")
            _write(folder / f"ego/{worn.name}/images/{sensor.name}/00001.jpg", data)


def _first_frame(worn: Glasses, sensor: int) -> Camera:
    moving = worn.camera(sensor)
    return Camera(moving.model, moving.params[0], moving.image_size, moving.world_to_camera[0])


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(data)


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Writes lines of text, ended by line feeds on every system."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def write_pickle(path: Path, content: object) -> None:
    """Writes a pickle with the fixed protocol."""
    path.write_bytes(pickle.dumps(content, protocol=_PICKLE_PROTOCOL))
