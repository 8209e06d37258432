"""The cameras around simulated people, and the frames of reference in which the raw data speaks of them.

Three worlds occur: the room (floor at z = 0), in which motion is made; aria01's world (metres, z up, origin where its
glasses were switched on), in which poses are given; and COLMAP's, a similarity of it with a scale of its own.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from finepose_mp.cameras import Camera
from finepose_mp.geometry import apply_rigid
from finepose_mp.preprocessing.egohumans.catalogue import Take
from finepose_mp.preprocessing.simulation.glasses import Glasses, own_world, wear_glasses
from finepose_mp.preprocessing.simulation.motion import Motion
from finepose_mp.preprocessing.simulation.stages import Stage, stage

# fx fy cx cy k1..k4 at 3840 x 2160; made up, of the size and shape of an action camera's calibration.
_EXO_LENS = np.array([1903.0, 1906.0, 1918.0, 1083.0, 0.031, 0.062, -0.085, 0.041])
_EXO_SIZE = (3840, 2160)


@dataclass(frozen=True)
class ExoCamera:
    """A fixed camera; `camera` has its true pose in aria01's world."""

    name: str
    camera: Camera


@dataclass(frozen=True)
class Scene:
    """Everything true about one simulated take, T frames.

    joints_3d_world (T, P, 17, 3) metres in aria01's world for everybody who wears glasses, `people` by name in order;
    those also named in `take.arias` are annotated. colmap_from_world (4, 4) is a similarity. floor is the height of the
    floor in aria01's world.
    """

    take: Take
    people: tuple[str, ...]
    joints_3d_world: np.ndarray
    glasses: tuple[Glasses, ...]
    exo: tuple[ExoCamera, ...]
    colmap_from_world: np.ndarray
    floor: float

    @property
    def colmap_from_aria(self) -> dict[str, np.ndarray]:
        """The similarities (4, 4) from every Aria's own world to COLMAP's, the content of the dataset's pickle."""
        return {worn.name: self.colmap_from_world @ worn.world_from_own for worn in self.glasses}

    @property
    def valid(self) -> list[int]:
        """Indices of the annotated people."""
        return [i for i, name in enumerate(self.people) if name in self.take.arias]


def people_of(take: Take) -> tuple[str, ...]:
    """Everybody who wears glasses in a take, the unannotated ones included, sorted."""
    return tuple(sorted((*take.arias, *take.invalid_arias)))


def film(take: Take, motion: Motion, rng: np.random.Generator) -> Scene:
    """Moving people of the room frame in aria01's world, wearing glasses and watched by the take's fixed cameras."""
    people = people_of(take)
    world_from_room = _world_from_room(motion, rng)
    joints = apply_rigid(motion.joints, world_from_room)
    head_rotation = world_from_room[:, :3] @ motion.head_rotation
    glasses = tuple(
        wear_glasses(name, joints[:, p], head_rotation[:, p], own_world(joints[0, p, 0], name == "aria01", rng), rng)
        for p, name in enumerate(people)
    )
    # Absent cameras take part in the arrangement and are then taken away, as in the real gymnasium.
    cameras = sorted((*take.exo_cameras, *take.invalid_cameras))
    exo = _exo_cameras(take.scene.suffix, cameras, motion, world_from_room, rng)
    return Scene(
        take=take,
        people=people,
        joints_3d_world=joints,
        glasses=glasses,
        exo=tuple(camera for camera in exo if camera.name not in take.absent_cameras),
        colmap_from_world=_random_similarity(rng),
        floor=float(world_from_room[2, 3]),
    )


def _world_from_room(motion: Motion, rng: np.random.Generator) -> np.ndarray:
    """(3, 4): aria01's world has its origin near its first position, 1.2 to 1.6 m above the floor, facing anywhere."""
    rotation = Rotation.from_euler("z", rng.uniform(0, 2 * np.pi)).as_matrix()
    origin = np.append(motion.joints[0, 0, 0, :2] + rng.normal(0, 0.5, 2), rng.uniform(1.2, 1.6))
    return np.column_stack([rotation, -rotation @ origin])


def _random_similarity(rng: np.random.Generator) -> np.ndarray:
    """COLMAP's arbitrary frame: any rotation, any origin, and a unit of 0.1 to 10 metres."""
    similarity = np.eye(4)
    scale = 10 ** rng.uniform(-1, 1)
    similarity[:3, :3] = scale * Rotation.random(None, rng).as_matrix()
    similarity[:3, 3] = scale * rng.normal(0, 2.0, 3)
    return similarity


def _exo_cameras(
    scene: str, names: list[str], motion: Motion, world_from_room: np.ndarray, rng: np.random.Generator
) -> list[ExoCamera]:
    """Cameras on poles in a ring around the people, looking at them, in aria01's world."""
    ground = motion.joints[..., :2]
    middle = (ground.max(axis=(0, 1, 2)) + ground.min(axis=(0, 1, 2))) / 2
    half_size = np.maximum(np.ptp(ground, axis=(0, 1, 2)) / 2, np.array(stage(scene).half_size) * 0.8)
    angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * (
        np.arange(len(names)) + rng.uniform(-0.25, 0.25, len(names))
    ) / len(names)
    cameras = []
    for name, angle in zip(names, angles, strict=True):
        pose = _on_a_pole(middle, half_size, angle, stage(scene), rng)
        world_to_camera = pose @ np.linalg.inv(np.vstack([world_from_room, [0, 0, 0, 1]]))
        params, size = _exo_lens(scene, name, rng)
        cameras.append(ExoCamera(name, Camera("opencv_fisheye", params, size, world_to_camera)))
    return cameras


def _on_a_pole(
    middle: np.ndarray, half_size: np.ndarray, angle: float, place: Stage, rng: np.random.Generator
) -> np.ndarray:
    """Pose (3, 4) room to camera (right, down, forward) of a camera outside the room that looks at its middle."""
    direction = np.array([np.cos(angle), np.sin(angle)])
    margin = place.pole_distance - max(place.half_size)
    distance = 1 / np.max(np.abs(direction) / half_size) + margin * rng.uniform(0.5, 1.2)
    centre = np.append(middle + distance * direction, rng.uniform(*place.pole_height))
    target = np.append(middle + rng.normal(0, 0.5, 2), rng.uniform(0.6, 1.3))
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    rotation = Rotation.from_rotvec(np.radians(rng.normal(0, [0.5, 0.5, 1.5]))).as_matrix() @ rotation
    return np.column_stack([rotation, -rotation @ centre])


def _exo_lens(scene: str, name: str, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """Lens parameters (8,) and image size; cam02 of volleyball recorded in half the size, like the real one."""
    params = _EXO_LENS * (1 + rng.normal(0, [0.003, 0.003, 0.003, 0.005, 0.05, 0.05, 0.05, 0.05]))
    if (scene, name) == ("volleyball", "cam02"):
        params[:4] /= 2
        return params, (_EXO_SIZE[0] // 2, _EXO_SIZE[1] // 2)
    return params, _EXO_SIZE
