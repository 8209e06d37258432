"""A small valid contract file of made-up people, for tests: cameras are true, so 2D and 3D agree.

People stand on a circle facing each other, step on the spot and swing their arms; each wears a head camera. What is odd
on purpose, and where, is in the constants below, so that tests can ask for it by name.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finepose_mp import cameras, schema
from finepose_mp.skeletons import COCO17

ACTIONS = {
    "Tagging": "playing tag",
    "Lego": "assembling lego bricks",
    "Fencing": "fencing",
    "Basketball": "playing basketball",
    "Tennis": "playing tennis",
}

# Lens parameters in the order of finepose_mp.cameras.MODELS, for the stored (upright) image.
EGO_RGB = (
    "aria_fisheye624",
    (1408, 1408),
    (610, 704, 703, 0.4, -0.5, 0.2, 1.1, -1.7, 0.65, 1e-3, -4e-4, -8e-4, 0, 5e-4, 0),
)
EGO_SLAM = ("aria_fisheye624", (480, 640), (241, 239, 320, -0.02, 0.1, -0.07, 0.01, 0, 0, 1e-4, 2e-4, 0, 0, 0, 0))
EXO = ("opencv_fisheye", (3840, 2160), (1906, 1912, 1920, 1080, 0.028, 0.079, -0.103, 0.0495))

# COCO-17 in the person's own frame: forward, left, up; metres above the floor.
_BODY = np.array(
    [
        *[(0.12, 0, 1.60), (0.10, 0.03, 1.63), (0.10, -0.03, 1.63), (0.02, 0.08, 1.62), (0.02, -0.08, 1.62)],
        *[(0, 0.19, 1.42), (0, -0.19, 1.42), (0, 0.25, 1.15), (0, -0.25, 1.15), (0.1, 0.24, 0.95), (0.1, -0.24, 0.95)],
        *[(0, 0.1, 0.95), (0, -0.1, 0.95), (0.02, 0.1, 0.5), (0.02, -0.1, 0.5), (0, 0.1, 0.08), (0, -0.1, 0.08)],
    ]
)
_SWING = {"wrist": 0.25, "elbow": 0.12, "knee": -0.12, "ankle": -0.2}  # metres forward on the left, back on the right


@dataclass(frozen=True)
class Oddities:
    """Frame ranges of what is irregular in every take of `frames` frames, as slices; persons by position."""

    frames: int

    @property
    def gap(self) -> slice:
        """Person 1 has neither 3D nor detections."""
        return slice(self.frames // 4, self.frames // 4 + max(1, self.frames // 10))

    @property
    def interpolated(self) -> slice:
        """The left wrist of person 0 was interpolated, not observed."""
        return slice(self.frames // 2, self.frames // 2 + max(1, self.frames // 10))

    @property
    def turned_away(self) -> slice:
        """The wearer of ego camera 0 looks away: nobody is in view of that camera."""
        return slice(2 * self.frames // 3, 2 * self.frames // 3 + max(2, self.frames // 5))


def write_contract_file(
    path: Path,
    scenes: tuple[str, ...] = ("Basketball", "Tennis", "Tagging"),
    test_scenes: tuple[str, ...] = ("Tagging",),
    takes_per_scene: int = 3,
    frames: int | tuple[int, ...] = 60,
    persons: int = 3,
    exo: int = 1,
    slam: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """The path of a written contract file. Same arguments, same arrays.

    Args:
        scenes: names of scenes, keys of `ACTIONS`; those in `test_scenes` are the official test split.
        takes_per_scene: takes in each; within a scene the last is "test", the one before "val", the others "train".
        frames: length of every take, or one length for each take of a scene.
        exo: fixed cameras. slam: whether person 0 also wears a SLAM camera.
    """
    lengths = (frames,) * takes_per_scene if isinstance(frames, int) else frames
    with schema.create(
        path, dataset="made-up", joint_set="coco17", licence="none", citation="none", overwrite=overwrite
    ) as file:
        for scene_number, scene in enumerate(scenes, start=1):
            for take in range(takes_per_scene):
                sequence = make_sequence(
                    name=f"{scene_number:02d}_{scene.lower()}/{take + 1:03d}_{scene.lower()}",
                    scene=scene,
                    split="test" if scene in test_scenes else "train",
                    split_within_scene=("train", "val", "test")[max(0, take - takes_per_scene + 3)],
                    frames=lengths[take],
                    persons=persons,
                    exo=exo,
                    slam=slam,
                    seed=(seed, scene_number, take),
                )
                schema.write_sequence(file, sequence)
    return Path(path)


def make_sequence(
    name: str = "04_basketball/001_basketball",
    scene: str = "Basketball",
    split: str = "train",
    split_within_scene: str = "train",
    frames: int = 60,
    persons: int = 3,
    exo: int = 1,
    slam: bool = False,
    seed: int | tuple[int, ...] = 0,
) -> schema.Sequence:
    """One take in memory, with every oddity of `Oddities`."""
    random = np.random.default_rng(seed)
    odd = Oddities(frames)
    position, heading = _paths(random, frames, persons)
    joints = _joints(random, position, heading).astype(np.float32)
    status = np.full((frames, persons, len(COCO17)), schema.OBSERVED, np.uint8)
    status[odd.interpolated, 0, COCO17.index("left_wrist")] = schema.INTERPOLATED
    if persons > 1:
        joints[odd.gap, 1] = np.nan
        status[odd.gap, 1] = schema.MISSING
    views = _cameras(odd, position, heading, exo, slam)
    names = [f"aria{p + 1:02d}" for p in range(persons)]
    wearers = ["" if view["wearer"] is None else names[view["wearer"]] for view in views]
    projected = np.stack([_project(joints, view) for view in views])
    detected, score = _detect(random, projected)
    return schema.Sequence(
        name=name,
        frame=np.arange(1, frames + 1),
        person=names,
        camera=[view["name"] for view in views],
        joints_3d_world=joints,
        joint_status=status,
        world_to_camera=np.stack([view["world_to_camera"] for view in views]),
        camera_model=[view["model"] for view in views],
        camera_params=np.stack([np.tile(_padded(view["params"]), (frames, 1)) for view in views]),
        camera_kind=[view["kind"] for view in views],
        camera_is_moving=np.array([view["wearer"] is not None for view in views], np.uint8),
        camera_wearer=wearers,
        image_size=np.array([view["image_size"] for view in views], np.int32),
        joints_2d_projected=projected,
        joints_2d_detected=detected,
        detection_score=score,
        in_view=np.isfinite(projected[..., 0]).astype(np.uint8),
        scene=scene,
        action=ACTIONS[scene],
        split=split,
        split_within_scene=split_within_scene,
        fps=20.0,
        simulated=True,
        subjects=names,
    )


def add_prediction(sequence: schema.Sequence, hypotheses: int = 3, seed: int = 0) -> schema.Sequence:
    """The sequence with hypotheses a few centimetres off its truth, person 1's last frames without any.

    Person 1's gap is filled from the frame before and counts as inferred, as do five frames of person 0.
    """
    random = np.random.default_rng(seed)
    frames, people = sequence.joint_status.shape[:2]
    truth = sequence.joints_3d_world.astype(float)
    status = np.full((frames, people), 1, np.uint8)
    status[frames // 2 : frames // 2 + 5, 0] = 2
    if people > 1:
        gap = Oddities(frames).gap
        truth[gap, 1] = truth[gap.start - 1, 1] if gap.start else truth[gap.stop, 1]
        status[gap, 1] = 2
        status[-max(1, frames // 10) :, 1] = 0
    noise = random.normal(0, 0.04, (hypotheses, 1, people, truth.shape[2], 3))
    drift = random.normal(0, 0.005, (hypotheses, *truth.shape)).cumsum(axis=1) / np.sqrt(frames)
    poses = np.where(status[..., None, None] > 0, truth + noise + drift, np.nan)
    sequence.predicted_hypotheses_3d_world, sequence.predicted_3d_world = poses, poses.mean(axis=0)
    sequence.predicted_spread = np.sqrt(((poses - poses.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0))
    sequence.predicted_status = status
    sequence.prediction = {
        "model": "runs/demo",
        "checkpoint": "best",
        "hypotheses": hypotheses,
        "sampling_steps": 2,
        "frame": "world",
        "root_relative": [],
        "assumed": ["Keypoints are COCO-17, by their number.", "20 frames a second, as the file says."],
    }
    return sequence


def _paths(random: np.random.Generator, frames: int, persons: int) -> tuple[np.ndarray, np.ndarray]:
    """Floor positions (T, P, 2) in metres on a circle, and headings (T, P) in radians towards its middle."""
    time = np.arange(frames)[:, None] / 20
    angle = 2 * np.pi * np.arange(persons) / max(persons, 2) + 0.1 * np.sin(0.7 * time + random.uniform(0, 6, persons))
    radius = 1.6 + 0.2 * np.sin(0.9 * time + random.uniform(0, 6, persons))
    position = radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return position, angle + np.pi + 0.1 * np.sin(0.5 * time + random.uniform(0, 6, persons))


def _joints(random: np.random.Generator, position: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """Joints (T, P, J, 3) in the world, metres, +z up."""
    frames, persons = heading.shape
    swing = np.zeros(len(COCO17))
    for joint, amplitude in _SWING.items():
        swing[COCO17.index(f"left_{joint}")], swing[COCO17.index(f"right_{joint}")] = amplitude, -amplitude
    phase = 2 * np.pi * np.arange(frames)[:, None] / 20 + random.uniform(0, 6, persons)
    body = np.tile(_BODY, (frames, persons, 1, 1)) * random.uniform(0.92, 1.08, (persons, 1, 1))
    body[..., 0] += np.sin(phase)[..., None] * swing
    joints = np.einsum("tpij,tpkj->tpki", _heading_rotation(heading), body)
    joints[..., :2] += position[:, :, None]
    return joints


def _heading_rotation(heading: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) from a person's forward, left, up to the world."""
    cos, sin, zero, one = np.cos(heading), np.sin(heading), np.zeros_like(heading), np.ones_like(heading)
    return np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], axis=-1).reshape(*heading.shape, 3, 3)


def _cameras(odd: Oddities, position: np.ndarray, heading: np.ndarray, exo: int, slam: bool) -> list[dict]:
    """One head camera for each person, a SLAM camera for person 0, and fixed cameras around the scene."""
    views = []
    for p in range(position.shape[1]):
        gaze = heading[:, p].copy()
        if p == 0:
            gaze[odd.turned_away] += np.pi
        eye = np.concatenate([position[:, p], np.full((odd.frames, 1), 1.65)], axis=1)
        pose = _look(eye, gaze, pitch=-0.2)
        views.append(_view(f"aria{p + 1:02d}/rgb", "ego_rgb", EGO_RGB, pose, wearer=p))
        if slam and p == 0:
            views.append(_view("aria01/slam_left", "ego_slam", EGO_SLAM, pose, wearer=p))
    for k in range(exo):
        angle = np.full(odd.frames, 2 * np.pi * k / exo)
        eye = np.stack([6 * np.cos(angle), 6 * np.sin(angle), np.full_like(angle, 2.5)], axis=-1)
        views.append(_view(f"cam{k + 1:02d}", "exo", EXO, _look(eye, angle + np.pi, pitch=-0.25), wearer=None))
    return views


def _view(name: str, kind: str, lens: tuple, world_to_camera: np.ndarray, wearer: int | None) -> dict:
    model, image_size, params = lens
    return {
        "name": name,
        "kind": kind,
        "model": model,
        "image_size": image_size,
        "params": np.array(params, float),
        "world_to_camera": world_to_camera,
        "wearer": wearer,
    }


def _look(eye: np.ndarray, yaw: np.ndarray, pitch: float) -> np.ndarray:
    """World-to-camera transforms (T, 3, 4) of cameras at `eye` (T, 3) that look along yaw and pitch, in radians."""
    forward = np.stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.full_like(yaw, np.sin(pitch))], -1)
    right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=-1)
    rotation = np.stack([right, np.cross(forward, right), forward], axis=-2)
    return np.concatenate([rotation, -rotation @ eye[..., None]], axis=-1)


def _project(joints: np.ndarray, view: dict) -> np.ndarray:
    """Pixels (T, P, J, 2) in float32, NaN unless in view and not the wearer's own."""
    rotation, translation = view["world_to_camera"][..., :3], view["world_to_camera"][..., 3]
    points = np.einsum("tij,tpkj->tpki", rotation, joints.astype(float)) + translation[:, None, None]
    pixels = cameras.project(points, view["model"], view["params"])
    seen = cameras.in_view(points, view["model"], view["params"], view["image_size"])
    if view["wearer"] is not None:
        seen[:, view["wearer"]] = False
    return np.where(seen[..., None], pixels, np.nan).astype(np.float32)


def _detect(random: np.random.Generator, projected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Detections (..., 2): the projection two pixels off, 3 in 100 missing, 5 in 100 with a score too low to use."""
    detected = projected + random.normal(0, 2, projected.shape).astype(np.float32)
    score = random.uniform(0.5, 1, projected.shape[:-1]).astype(np.float32)
    chance = random.uniform(size=score.shape)
    score[chance < 0.05] = 0.1
    absent = np.isnan(projected[..., 0]) | (chance > 0.97)
    detected[absent], score[absent] = np.nan, 0
    return detected, score


def _padded(params: np.ndarray) -> np.ndarray:
    return np.concatenate([params, np.full(schema.MAX_CAMERA_PARAMS - len(params), np.nan)])
