"""Made-up people as 2D keypoint programs would write them down, and their cameras."""

import json
from pathlib import Path

import numpy as np
import yaml
from contract_file import make_sequence

from finepose_mp import schema
from finepose_mp.cameras import MODELS
from finepose_mp.skeletons import convert


def recorded(frames: int = 24, persons: int = 2, exo: int = 2) -> schema.Sequence:
    """A take with cameras cam01, cam02, ... and everybody's true 3D."""
    return make_sequence(frames=frames, persons=persons, exo=exo)


def write_openpose(folder: Path, sequence: schema.Sequence, camera: str) -> Path:
    """BODY_25 of everybody in one camera, people in an order that changes: (0, 0, 0) where a joint is missing."""
    k = sequence.camera.index(camera)
    pixels, _ = convert(sequence.joints_2d_detected[k], "coco17", "body25")
    scores, _ = convert(sequence.detection_score[k][..., None], "coco17", "body25")
    poses = np.nan_to_num(np.concatenate([pixels, scores], axis=-1))
    folder.mkdir(parents=True)
    for t in range(len(sequence.frame)):
        people = [person for person in np.roll(np.arange(len(sequence.person)), t) if poses[t, person, :, 2].any()]
        content = {"people": [{"pose_keypoints_2d": poses[t, person].ravel().tolist()} for person in people]}
        (folder / f"{camera}_{t:012d}_keypoints.json").write_text(json.dumps(content))
    return folder


def write_coco(path: Path, sequence: schema.Sequence, camera: str, frames: range | None = None, **extra) -> Path:
    """COCO results of everybody in one camera; `extra` gives each entry more keys, as functions of the person."""
    k = sequence.camera.index(camera)
    poses = np.concatenate([sequence.joints_2d_detected[k], sequence.detection_score[k][..., None]], axis=-1)
    entries = [
        {
            "image_id": t,
            "category_id": 1,
            "keypoints": np.nan_to_num(poses[t, p]).ravel().tolist(),
            "score": 0.9,
            **{key: value(p) for key, value in extra.items()},
        }
        for t in frames or range(len(sequence.frame))
        for p in range(len(sequence.person))
        if np.isfinite(poses[t, p, :, 0]).any()
    ]
    path.write_text(json.dumps(entries))
    return path


def camera_entry(sequence: schema.Sequence, camera: str) -> dict:
    """What a camera file says about a fixed camera."""
    k = sequence.camera.index(camera)
    count = len(MODELS[sequence.camera_model[k]].parameter_names)
    return {
        "name": camera,
        "model": sequence.camera_model[k],
        "params": sequence.camera_params[k, 0, :count].tolist(),
        "image_size": sequence.image_size[k].tolist(),
        "world_to_camera": sequence.world_to_camera[k, 0].tolist(),
    }


def write_cameras(path: Path, *entries: dict, **others) -> Path:
    """A camera file of these entries."""
    path.write_text(yaml.safe_dump({**others, "cameras": list(entries)}))
    return path
