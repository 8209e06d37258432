"""Writes raw MPI-INF-3DHP data of made-up people, with the true cameras and the dataset's own oddities, for tests."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

from finepose_mp.geometry import apply_rigid
from finepose_mp.preprocessing.mpi_inf_3dhp import facts
from finepose_mp.preprocessing.mpi_inf_3dhp.calibration import Pinhole, builtin_test, builtin_training

UNIVERSAL_SCALE = 0.955
_HIPS_AND_SPINE = (8, 11, 15)  # of the 17, edited in the image
_PELVIS_OF_28 = 4
_JOINTS_OF_28 = np.array(facts.JOINTS_OF_28)

# The 28 joints of a person who stands: right, up, forward in metres, the pelvis at the origin.
_SPINE = {0: (0, 0.35, 0), 1: (0, 0.45, 0), 2: (0, 0.25, 0), 3: (0, 0.15, 0), 4: (0, 0, 0)}
_HEAD = {5: (0, 0.52, 0), 6: (0, 0.62, 0.02), 7: (0, 0.78, 0.02)}
_ARM = ((0.05, 0.5, 0), (0.18, 0.48, 0), (0.25, 0.22, 0), (0.27, 0, 0.1), (0.28, -0.08, 0.13))
_LEG = ((0.1, 0, 0), (0.12, -0.42, 0.03), (0.12, -0.83, 0), (0.12, -0.88, 0.1), (0.12, -0.88, 0.17))


def body_28(frames: int, seed: int = 0) -> np.ndarray:
    """Poses (T, 28, 3) of somebody who walks about in the world, metres, +y up; bones keep their lengths."""
    body = np.zeros((28, 3))
    for joint, place in (_SPINE | _HEAD).items():
        body[joint] = place
    for first, limb in ((9, _ARM), (19, _LEG)):
        side = 8 if limb is _ARM else 18
        body[side : side + 5] = np.array(limb) * (-1, 1, 1)  # left
        body[side + 5 : side + 10] = limb  # right
        assert first == side + 1
    random = np.random.default_rng(seed)
    time = np.arange(frames) / 25
    turn = 0.8 * time + random.uniform(0, 6)
    lean = 0.2 * np.sin(2 * time)
    rotation = _about_y(turn) @ _about_x(lean)
    place = np.stack([0.4 * np.sin(time), np.full(frames, 0.9), 0.4 * np.cos(time)], axis=-1)
    return np.einsum("tij,kj->tki", rotation, body) + place[:, None]


@dataclass
class Raw:
    """Annotations of one sequence as its file holds them: pixels and millimetres, cameras K, 28 or 17 joints."""

    pixels: np.ndarray  # (K, T, J, 2)
    metric: np.ndarray  # (K, T, J, 3)
    universal: np.ndarray  # the same
    camera: list[int]
    valid: np.ndarray
    activity: np.ndarray


def annotate(world: np.ndarray, rig: dict[int, Pinhole], pelvis: int, edited: tuple[int, ...]) -> Raw:
    """What the dataset would say about poses (T, J, 3): 6 significant digits, some joints moved in the image."""
    poses = np.stack([1000 * apply_rigid(world, _pose(camera)) for camera in rig.values()])
    intrinsics = np.stack([camera.intrinsics for camera in rig.values()])[:, None, None]
    pixels = intrinsics[..., :2] * poses[..., :2] / poses[..., 2:] + intrinsics[..., 2:]
    pixels[:, :, edited] += (0.8, -0.6)
    root = poses[:, :, pelvis, None]
    frames = np.arange(len(world))
    return Raw(
        _six_digits(pixels),
        _six_digits(poses),
        _six_digits(root + UNIVERSAL_SCALE * (poses - root)),
        list(rig),
        valid=(frames % 5 != 4),
        activity=1 + frames * 3 // len(frames),
    )


def training(frames: int = 40, cameras: tuple[int, ...] = facts.CAMERA_SETS["vnect"], seed: int = 0) -> Raw:
    """A training sequence in some of its 14 cameras; those without a known calibration copy another one's."""
    rig = {number: calibrated(number) for number in cameras}
    return annotate(body_28(frames, seed), rig, _PELVIS_OF_28, tuple(_JOINTS_OF_28[list(_HIPS_AND_SPINE)]))


def official_test(sequence: str, frames: int = 40, seed: int = 0) -> Raw:
    """A test sequence in its own camera."""
    camera = builtin_test(sequence)
    world = body_28(frames, seed)[:, _JOINTS_OF_28]
    if camera.world_to_camera is None:
        world = world * (1, -1, -1) + (0, 0, 4)  # in front of the camera, whose frame is the world
    return annotate(world, {0: camera}, 14, _HIPS_AND_SPINE)


def calibrated(number: int) -> Pinhole:
    """The camera of that number, or for cameras that the table lacks one that is known, turned into another."""
    return builtin_training().get(number, builtin_training()[number % 3])


def calibration_text(cameras: tuple[int, ...], line_end: str = "\n", blanks: str = "") -> str:
    """A camera.calibration of some cameras."""
    lines = ["Skeletool Camera Calibration File V1.0"]
    for number in cameras:
        camera = calibrated(number)
        fx, fy, cx, cy = camera.intrinsics
        intrinsic = [fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0, 0, 0, 0, 1]
        pose = np.vstack([camera.world_to_camera * ((1, 1, 1, 1000),), [0, 0, 0, 1]])
        lines += [
            f"name          {number}",
            "  sensor      10 10",
            f"  size        {camera.image_size[0]} {camera.image_size[1]}",
            "  animated    0",
            "  intrinsic   " + " ".join(f"{value:.7g}" for value in intrinsic),
            "  extrinsic   " + " ".join(f"{value:.7g}" for value in pose.ravel()),
            "  radial      0",
        ]
    return line_end.join(line + blanks for line in lines) + line_end


def write_training(folder: Path, raw: Raw, calibration: str | None = "", v73: bool = False, **changes) -> Path:
    """S1/Seq1-like folder with annot.mat and camera.calibration (None: without); `changes` replace variables."""
    folder.mkdir(parents=True, exist_ok=True)
    variables = {
        "annot2": [cell.reshape(len(cell), -1) for cell in raw.pixels],
        "annot3": [cell.reshape(len(cell), -1) for cell in raw.metric],
        "univ_annot3": [cell.reshape(len(cell), -1) for cell in raw.universal],
        "cameras": np.array([raw.camera], float),
        "frames": np.arange(raw.pixels.shape[1], dtype=float)[:, None],
    }
    path = folder / "annot.mat"
    write_mat(path, _changed(variables, changes), v73)
    if calibration is not None:
        (folder / "camera.calibration").write_text(calibration or calibration_text(tuple(raw.camera)))
    return path


def write_test(path: Path, raw: Raw, v73: bool = True, **changes) -> Path:
    """An annot_data.mat; `changes` replace variables, None removes one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    variables = {
        "annot2": raw.pixels[0].transpose(2, 1, 0)[:, :, None],
        "annot3": raw.metric[0].transpose(2, 1, 0)[:, :, None],
        "univ_annot3": raw.universal[0].transpose(2, 1, 0)[:, :, None],
        "valid_frame": raw.valid[:, None].astype(float),
        "activity_annotation": raw.activity[:, None].astype(float),
    }
    write_mat(path, _changed(variables, changes), v73)
    return path


def write_mat(path: Path, variables: dict[str, np.ndarray | list[np.ndarray]], v73: bool) -> None:
    """A MATLAB file, in v7.3 with MATLAB's header, reversed axes and cells behind references."""
    if not v73:
        savemat(path, {name: _cells(value) if isinstance(value, list) else value for name, value in variables.items()})
        return
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            if isinstance(value, list):
                references = [file.create_dataset(f"#refs#/{name}_{i}", data=v.T).ref for i, v in enumerate(value)]
                file.create_dataset(name, data=np.array([references], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
            else:
                file.create_dataset(name, data=value.T)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def write_community(path: Path, sequences: dict[str, Raw], kind: str, fps: float | None = None) -> Path:
    """A community npz of "metric" or "universal" poses; sequences are named as in our files."""
    content = {}
    for name, raw in sequences.items():
        poses = getattr(raw, kind)
        joints = _JOINTS_OF_28 if poses.shape[2] == 28 else np.arange(17)
        views = [{"data_2d": raw.pixels[k][:, joints], "data_3d": poses[k][:, joints]} for k in range(len(raw.camera))]
        if name in facts.TEST:
            content[name] = views[0] | {"valid": raw.valid.astype(float)}
        else:
            rate = facts.TRAINING[name].fps if fps is None else fps
            content[name.replace("/", " ")] = [dict(zip(map(str, raw.camera), views, strict=True)), rate]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, data=np.array(content, dtype=object))
    return path


def _changed(variables: dict, changes: dict) -> dict:
    return {name: value for name, value in (variables | changes).items() if value is not None}


def _cells(arrays: list[np.ndarray]) -> np.ndarray:
    cells = np.empty((len(arrays), 1), dtype=object)
    for i, array in enumerate(arrays):
        cells[i, 0] = array
    return cells


def _pose(camera: Pinhole) -> np.ndarray:
    return np.eye(3, 4) if camera.world_to_camera is None else camera.world_to_camera


def _six_digits(values: np.ndarray) -> np.ndarray:
    scale = 10.0 ** (5 - np.floor(np.log10(np.maximum(np.abs(values), 1e-12))))
    return np.round(values * scale) / scale


def _about_y(angle: np.ndarray) -> np.ndarray:
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], axis=-1).reshape(-1, 3, 3)


def _about_x(angle: np.ndarray) -> np.ndarray:
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], axis=-1).reshape(-1, 3, 3)
