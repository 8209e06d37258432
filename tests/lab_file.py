"""A small contract file of one person in a laboratory with fixed cameras, as Human3.6M and MPI-INF-3DHP have them.

Poses are made up, cameras are true: 2D and 3D agree. Any joint set, frame rate and clip lengths.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from finepose_mp import cameras, runs, schema
from finepose_mp.config import Config
from finepose_mp.models import build_model
from finepose_mp.skeletons import H36M17, convert, joint_set

IMAGE_SIZE, LENS = (1000, 1002), (1145.0, 1144.0, 512.5, 515.5)

# Human3.6M's 17 joints of somebody who stands; forward, left, up in metres.
_BODY = np.array(
    [
        *[(0, 0, 0.95), (0, -0.13, 0.95), (0.02, -0.13, 0.5), (0, -0.13, 0.06), (0, 0.13, 0.95), (0.02, 0.13, 0.5)],
        *[(0, 0.13, 0.06), (0, 0, 1.2), (0, 0, 1.46), (0.06, 0, 1.57), (0.02, 0, 1.68), (0, 0.15, 1.44)],
        *[(0, 0.2, 1.16), (0.1, 0.22, 0.92), (0, -0.15, 1.44), (0, -0.2, 1.16), (0.1, -0.22, 0.92)],
    ]
)


@dataclass(frozen=True)
class Clip:
    """What a sequence is called and how long it is."""

    name: str  # "S9/Greeting"
    scene: str
    frames: int = 20
    split: str = "test"
    action: str = ""
    findings: tuple = field(default_factory=tuple)


def write_lab_file(
    path: Path,
    clips: list[Clip],
    joints: str = "h36m17",
    dataset: str = "human36m",
    fps: float = 50.0,
    views: int = 2,
    start: int = 0,
) -> Path:
    """The path of a written file; the same arguments give the same arrays.

    Args:
        joints: joint set of the file; what Human3.6M's joints do not determine is missing in it.
        fps: frames a second; the motion is the same function of time at every rate.
        views: fixed cameras. start: number of the first frame.
    """
    with schema.create(path, dataset=dataset, joint_set=joints, licence="none", citation="none") as file:
        for clip in clips:
            schema.write_sequence(file, make_clip(clip, joints, fps, views, start))
    return Path(path)


def make_clip(clip: Clip, joints: str, fps: float, views: int, start: int = 0) -> schema.Sequence:
    """One clip in memory."""
    native = _motion(clip, fps)
    poses = (native if joints == H36M17.name else convert(native, H36M17.name, joints)[0]).astype(np.float32)
    known = np.isfinite(poses).all(axis=-1)
    transforms = np.stack([_camera(k, views) for k in range(views)])
    in_camera = np.einsum("kij,tnj->ktni", transforms[..., :3], poses.astype(float)) + transforms[:, None, None, :, 3]
    pixels = cameras.project(in_camera, "pinhole", np.array(LENS)).astype(np.float32)
    seen = cameras.in_view(in_camera, "pinhole", np.array(LENS), IMAGE_SIZE)
    pixels = np.where(seen[..., None], pixels, np.nan)
    params = np.full((views, clip.frames, schema.MAX_CAMERA_PARAMS), np.nan)
    params[..., :4] = LENS
    return schema.Sequence(
        name=clip.name,
        frame=np.arange(start, start + clip.frames),
        person=[clip.name.split("/")[0]],
        camera=[f"cam{k}" for k in range(views)],
        joints_3d_world=poses[:, None],
        joint_status=np.where(known, schema.OBSERVED, schema.MISSING).astype(np.uint8)[:, None],
        world_to_camera=np.repeat(transforms[:, None], clip.frames, axis=1),
        camera_model=["pinhole"] * views,
        camera_params=params,
        camera_kind=["exo"] * views,
        camera_is_moving=np.zeros(views, np.uint8),
        camera_wearer=[""] * views,
        image_size=np.tile(np.array(IMAGE_SIZE, np.int32), (views, 1)),
        joints_2d_projected=pixels[:, :, None],
        joints_2d_detected=pixels[:, :, None],
        detection_score=seen.astype(np.float32)[:, :, None],
        in_view=seen.astype(np.uint8)[:, :, None],
        scene=clip.scene,
        action=clip.action or clip.scene.lower(),
        split=clip.split,
        split_within_scene=clip.split,
        fps=fps,
        subjects=[clip.name.split("/")[0]],
        findings=list(clip.findings),
    )


def make_run(folder: Path, file: Path, window: int = 9, trained_hz: tuple[float, ...] = (), **sections: dict) -> Path:
    """A run directory as training leaves it, its weights random; keyword arguments update sections.

    Without `trained_hz` the run does not say which frame rates it was trained at.
    """
    values = {
        "run_dir": folder,
        "data": {"files": [file], "joint_set": "h36m17", "camera_kinds": ["exo"], "window": window},
        "model": {"name": "d3dp", "width": 16, "depth": 1, "heads": 2},
        "evaluation": {"hypotheses": 2, "sampling_steps": 1},
    }
    for name, section in sections.items():
        values[name] = values[name] | section
    config = Config.model_validate(values)
    runs.create_run(config)
    torch.manual_seed(0)
    joints = joint_set(config.data.joint_set)
    with runs.checkpoint(folder, "best") as partial:
        runs.save_weights(partial, build_model(config.model, len(joints), window), config)
    mean_pose = joints.root_relative(convert(_BODY, H36M17.name, joints.name)[0])
    runs.write_mean_pose(folder, mean_pose, joints.name)
    if trained_hz:
        runs.write_training_data(folder, {"frame_rates_hz": list(trained_hz), "files": {}})
    return folder


def _motion(clip: Clip, fps: float) -> np.ndarray:
    """Poses (T, 17, 3) in the world, metres, +z up: somebody who sways and walks in a circle."""
    digest = hashlib.blake2b(clip.name.encode(), digest_size=4).digest()
    random = np.random.default_rng(int.from_bytes(digest, "big"))
    time = np.arange(clip.frames)[:, None, None] / fps
    phase, reach = random.uniform(0, 6, (17, 3)), random.uniform(0.01, 0.05, (17, 3))
    heading = random.uniform(0, 6) + 0.4 * time[:, 0, 0]
    turn = np.zeros((clip.frames, 3, 3))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(heading)
    turn[:, 1, 0], turn[:, 0, 1], turn[:, 2, 2] = np.sin(heading), -np.sin(heading), 1
    body = (_BODY * random.uniform(0.95, 1.05) + reach * np.sin(2 * time + phase)) @ turn.swapaxes(-1, -2)
    body[..., :2] += 0.5 * np.stack([np.cos(heading), np.sin(heading)], axis=-1)[:, None]
    return body


def _camera(number: int, count: int) -> np.ndarray:
    """World-to-camera transform (3, 4) of a camera five metres away that looks at the middle of the room."""
    angle = 2 * np.pi * number / count + 0.3
    centre = np.array([5 * np.cos(angle), 5 * np.sin(angle), 1.5])
    forward = np.array([-np.cos(angle), -np.sin(angle), -0.1])
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return np.column_stack([rotation, -rotation @ centre])
