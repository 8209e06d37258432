"""Archives of Human3.6M's kinds with made-up people, for tests and benchmarks: no data of the data set is in them.

Poses are smooth, bones keep the lengths of the subject they are named after, people stay where all four cameras see
them. Every kind of archive written from the same lengths and seed holds the same poses.
"""

import json
from pathlib import Path

import h5py
import numpy as np
from cdflib import cdfwrite

from finepose_mp.cameras import project
from finepose_mp.preprocessing.human36m import calibration, facts
from finepose_mp.preprocessing.human36m.archive import SIMULATED_FILE

Lengths = dict[tuple[str, str], int]  # (subject, canonical clip) -> frames

# Joint -> parent, bone of `facts.bone_lengths` or length in millimetres, direction: forward, left, up. Where two joints
# coincide in the files (Spine with Hips, both Shoulders with Neck, ...) the length is 0.
_FINGER_MM, _FOOT_MM, _TOE_MM = 100.0, 150.0, 75.0
_JOINTS: tuple[tuple[int, str | float, tuple[float, float, float]], ...] = (
    (-1, 0.0, (0, 0, 0)),
    *[(0, "hip", (0, -1, 0)), (1, "thigh", (0, 0, -1)), (2, "shank", (-0.1, 0, -1))],
    *[(3, _FOOT_MM, (1, 0, -0.3)), (4, _TOE_MM, (1, 0, 0))],
    *[(0, "hip", (0, 1, 0)), (6, "thigh", (0, 0, -1)), (7, "shank", (-0.1, 0, -1))],
    *[(8, _FOOT_MM, (1, 0, -0.3)), (9, _TOE_MM, (1, 0, 0))],
    *[(0, 0.0, (0, 0, 1)), (11, "spine", (0, 0, 1)), (12, "thorax", (0, 0, 1))],
    *[(13, "neck", (0.3, 0, 1)), (14, "head", (0, 0, 1))],
    *[(13, 0.0, (0, 1, 0)), (16, "clavicle", (0, 1, 0)), (17, "upper_arm", (0, 0.4, -1))],
    *[(18, "forearm", (0.6, 0, -1)), (19, 0.0, (0, 0, 1)), (20, _FINGER_MM, (1, 0, -1))],
    *[(19, 0.0, (0, 0, 1)), (22, _FINGER_MM, (0, 0, -1))],
    *[(13, 0.0, (0, -1, 0)), (24, "clavicle", (0, -1, 0)), (25, "upper_arm", (0, -0.4, -1))],
    *[(26, "forearm", (0.6, 0, -1)), (27, 0.0, (0, 0, 1)), (28, _FINGER_MM, (1, 0, -1))],
    *[(27, 0.0, (0, 0, 1)), (30, _FINGER_MM, (0, 0, -1))],
)
_SWAY = 0.35  # how far a bone's direction moves, in units of its length
_ROAM_MM = 900.0
_NOISE_PX = 3.0
_VIDEO_EXCESS = 3  # frames by which archives of detections are longer than the poses

_METADATA_SUBJECTS = 11


def official_lengths() -> Lengths:
    """The true numbers of poses of all 210 clips."""
    return {(clip.subject, clip.name): clip.frames for names in facts.clips().values() for clip in names.values()}


def make_poses(subject: str, name: str, frames: int, seed: int = 0) -> np.ndarray:
    """Made-up poses (T, 32, 3) float32 of a clip: world coordinates in millimetres, as in the official files."""
    numbers = [ord(letter) for letter in f"{subject}/{name}"]
    random = np.random.default_rng([seed, *numbers])
    time = np.arange(frames)[:, None] / facts.FPS
    lengths = _bone_lengths(subject)
    heading = random.uniform(0, 2 * np.pi) + 0.8 * np.sin(time[:, 0] * random.uniform(0.1, 0.4))
    turn = np.zeros((frames, 3, 3))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(heading)
    turn[:, 1, 0], turn[:, 0, 1], turn[:, 2, 2] = np.sin(heading), -np.sin(heading), 1
    joints = np.zeros((frames, len(_JOINTS), 3))
    joints[:, 0] = _roam(random, time, height=lengths["thigh"] + lengths["shank"])
    for joint, (parent, bone, direction) in enumerate(_JOINTS):
        length = lengths[bone] if isinstance(bone, str) else bone
        if length == 0:
            joints[:, joint] = joints[:, max(parent, 0)]
            continue
        swing = _SWAY * np.sin(time * random.uniform(1, 6, 3) + random.uniform(0, 2 * np.pi, 3))
        toward = np.asarray(direction) / np.linalg.norm(direction) + swing
        toward /= np.linalg.norm(toward, axis=-1, keepdims=True)
        joints[:, joint] = joints[:, parent] + length * np.einsum("tij,tj->ti", turn, toward)
    return joints.astype(np.float32)


def write_official(
    folder: Path,
    lengths: Lengths,
    *,
    seed: int = 0,
    flat: bool = False,
    with_d2: bool = False,
    with_metadata: bool = False,
    dtype: str = "f4",
) -> Path:
    """The folder, with CDF files as the official archives unpack, or (`flat`) as h36m-fetch puts them.

    Args:
        with_d2: also D2_Positions of all cameras.
        with_metadata: also a metadata.xml with the published cameras.
        dtype: of the positions, "f4" or "f8".
    """
    features = "Poses_{}" if flat else "MyPoseFeatures/{}"
    for (subject, name), frames in lengths.items():
        poses = make_poses(subject, name, frames, seed)
        stem = _official_stem(subject, name)
        d3, d2 = (folder / subject / features.format(kind) for kind in ("D3_Positions", "D2_Positions"))
        write_cdf(d3 / f"{stem}.cdf", poses, dtype)
        if with_d2:
            for camera, pixels in _views(subject, poses).items():
                write_cdf(d2 / f"{stem}.{camera}.cdf", pixels.astype("f4"))
    if with_metadata:
        write_metadata(folder / calibration.METADATA_FILE)
    return _mark(folder)


def write_cdf(path: Path, values: np.ndarray, dtype: str = "f4") -> None:
    """Writes values (T, 32, D) as the one variable of a CDF file, coordinates interleaved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values.reshape(1, len(values), -1).astype(dtype)
    file = cdfwrite.CDF(path, cdf_spec={"Compressed": 0})
    try:
        file.write_var(
            {
                "Variable": "Pose",
                "Data_Type": file.CDF_FLOAT if dtype == "f4" else file.CDF_DOUBLE,
                "Num_Elements": 1,
                "Rec_Vary": True,
                "Dim_Sizes": list(values.shape[1:]),
                "Compress": 0,
            },
            var_data=values,
        )
    finally:
        file.close()


def write_community(path: Path, lengths: Lengths, *, seed: int = 0) -> Path:
    """A data_3d_h36m.npz: one pickled dictionary, subject -> clip -> (T, 32, 3) float32 in metres."""
    positions: dict[str, dict[str, np.ndarray]] = {}
    for (subject, name), frames in lengths.items():
        metres = make_poses(subject, name, frames, seed) / np.float32(1000)
        positions.setdefault(subject, {})[name] = metres
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, positions_3d=np.array(positions, dtype=object))
    _mark(path.parent)
    return path


def write_baseline(folder: Path, lengths: Lengths, *, seed: int = 0, with_detections: bool = False) -> Path:
    """The folder, as the h36m tree of 3d-pose-baseline, with its cameras.h5."""
    for (subject, name), frames in lengths.items():
        poses = make_poses(subject, name, frames, seed)
        path = folder / subject / "MyPoses" / "3D_positions" / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["3D_positions"] = poses.reshape(frames, -1).T.astype("f8")
        if with_detections:
            _write_hourglass(folder / subject / "StackedHourglass", subject, name, poses)
    with h5py.File(folder / "cameras.h5", "w") as file:
        for subject in {subject for subject, _ in lengths}:
            _write_tree_cameras(file.create_group(f"subject{subject[1:]}"), subject)
    return _mark(folder)


def write_detections(
    path: Path, lengths: Lengths, joints: dict[str, int | tuple[int, ...]], metadata: dict, *, seed: int = 0
) -> Path:
    """A data_2d_h36m_*.npz: projections with a little noise, some frames longer than the poses.

    Args:
        joints: joint name -> joint of the 32, or several whose mean it is, in the archive's order.
        metadata: as archives have it: layout_name, num_joints, keypoints_symmetry.
    """
    positions: dict[str, dict[str, list[np.ndarray]]] = {}
    for (subject, name), frames in lengths.items():
        random = np.random.default_rng([seed, frames, len(name)])
        poses = make_poses(subject, name, frames + _VIDEO_EXCESS, seed)
        picked = np.stack([poses[:, np.atleast_1d(index)].mean(axis=1) for index in joints.values()], axis=1)
        views = [pixels + random.normal(0, _NOISE_PX, pixels.shape) for pixels in _views(subject, picked).values()]
        positions.setdefault(subject, {})[name] = [view.astype("f4") for view in views]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, positions_2d=np.array(positions, dtype=object), metadata=np.array(metadata, dtype=object))
    return path


def write_pose_detections(path: Path, lengths: Lengths, *, seed: int = 0) -> Path:
    """A data_2d_h36m_cpn_ft_h36m_dbb.npz: detections in the joints of the poses."""
    metadata = {
        "layout_name": "h36m",
        "num_joints": len(facts.KEPT_JOINTS),
        "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
    }
    return write_detections(path, lengths, {str(joint): joint for joint in facts.KEPT_JOINTS}, metadata, seed=seed)


def write_metadata(path: Path) -> None:
    """A metadata.xml with the cameras of the built-in table, where the official file has them."""
    cameras = calibration.built_in()
    numbers: list[float] = []
    for name in calibration.camera_names():
        for subject in range(1, _METADATA_SUBJECTS + 1):
            pose = cameras.poses.get(f"S{subject}", {}).get(name, np.zeros(6))
            numbers += pose.tolist()
    for name in calibration.camera_names():
        numbers += cameras.lenses[name].tolist()
    ids = "".join(f"<item>{name}</item>" for name in calibration.camera_names())
    w0 = " ".join(map(repr, numbers))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<metadata><w0>[{w0}]</w0><dbcameras><index2id>{ids}</index2id></dbcameras></metadata>")


def _mark(folder: Path) -> Path:
    (folder / SIMULATED_FILE).write_text(json.dumps({"made_by": __name__}))
    return folder


def _bone_lengths(subject: str) -> dict[str, float]:
    """Bones of a subject in millimetres; those that are not known differ from all known ones."""
    known = facts.bone_lengths()
    if subject in known:
        return {bone: 1000 * length for bone, length in known[subject].items()}
    scale = 0.9 + 0.01 * int(subject[1:])
    return {bone: 1000 * length * scale for bone, length in known["S1"].items()}


def _roam(random: np.random.Generator, time: np.ndarray, height: float) -> np.ndarray:
    """Positions (T, 3) of the hips in millimetres, around the middle of the room."""
    place = np.empty((len(time), 3))
    for axis in range(2):
        place[:, axis] = _ROAM_MM * np.sin(time[:, 0] * random.uniform(0.2, 0.5) + random.uniform(0, 2 * np.pi))
    place[:, 2] = height + 50 * np.sin(time[:, 0] * random.uniform(1, 4))
    return place


def _views(subject: str, joints_mm: np.ndarray) -> dict[str, np.ndarray]:
    """Camera -> pixels (T, J, 2) of joints (T, J, 3) in millimetres."""
    metres = joints_mm.astype(np.float64) / 1000
    cameras = calibration.built_in().cameras(subject)
    return {name: project(camera.to_camera(metres), camera.model, camera.params) for name, camera in cameras.items()}


def _official_stem(subject: str, name: str) -> str:
    if subject != "S1":
        return name
    return name.replace("Photo", "TakingPhoto").replace("WalkDog", "WalkingDog")


def _write_tree_cameras(group: h5py.Group, subject: str) -> None:
    cameras = calibration.built_in()
    for k, (name, camera) in enumerate(cameras.cameras(subject).items(), start=1):
        stored = group.create_group(f"camera{k}")
        stored["R"] = camera.world_to_camera[:, :3].T
        stored["T"] = cameras.poses[subject][name][3:, None]
        for key, numbers in zip("fckp", np.split(camera.params, [2, 4, 7]), strict=True):
            stored[key] = numbers[:, None]
        stored["Name"] = np.array([[ord(letter)] for letter in name], np.uint16)


# Joints of the 32 in the order of the stacked hourglass of 3d-pose-baseline.
_HOURGLASS = (3, 2, 1, 6, 7, 8, 0, 12, 13, 15, 27, 26, 25, 17, 18, 19)


def _write_hourglass(folder: Path, subject: str, name: str, poses: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for camera, pixels in _views(subject, poses[:, _HOURGLASS]).items():
        with h5py.File(folder / f"{name.replace(' ', '_')}.{camera}.h5", "w") as file:
            file["poses"] = pixels
