"""Where on the floor detected people stand and how tall they are, from one camera whose poses are known.

The ray of the lower ankle meets the floor where the person stands; the ray of the head above that spot tells the height
of the head. Both scale with the camera's height above the floor, which need not be known well to tell people apart.
"""

from dataclasses import dataclass

import numpy as np

from finepose_mp.cameras import Camera
from finepose_mp.geometry import invert_rigid
from finepose_mp.skeletons import joint_set
from finepose_mp.tracking.association import body_sizes
from finepose_mp.tracking.detections import Detections

_EYE_HEIGHT = 1.55  # metres of a worn camera above the floor, at the median of its path
_ANKLE_HEIGHT = 0.08  # metres, of a foot on the floor
_FARTHEST = 20.0  # metres; farther out a pixel of error moves people by too much
_HEAD_JOINTS = ("nose", "left_ear", "right_ear", "head")
_FEET_JOINTS = ("left_ankle", "right_ankle")


@dataclass(frozen=True, eq=False)
class Places:
    """Where N people stand: `ground` (N, 2) metres on the floor, `stature` (N,) metres from floor to head.

    NaN where a detection does not tell.
    """

    ground: np.ndarray
    stature: np.ndarray


def places_on_floor(
    detections: Detections, directions: np.ndarray, camera: Camera, world_up: str, min_score: float
) -> Places:
    """Places of people whose joints are seen along `directions` (N, J, 3), unit vectors in the world of a worn camera.

    Where feet are out of view the distance follows from the apparent size, calibrated on people whose feet are seen.
    """
    axis, sign = "xyz".index(world_up[1]), -1.0 if world_up[0] == "-" else 1.0
    flat = [i for i in range(3) if i != axis]
    centres = invert_rigid(np.asarray(camera.world_to_camera))[..., 3]
    centres = np.broadcast_to(centres, (detections.frame_count, 3))
    height = sign * centres[:, axis]
    above_floor = (height - np.median(height) + _EYE_HEIGHT)[detections.frame_index]
    usable = detections.usable(min_score) & np.isfinite(directions).all(axis=-1)
    across = np.linalg.norm(directions[..., flat], axis=-1)
    slope = np.where(usable, sign * directions[..., axis] / np.maximum(across, 1e-9), np.nan)
    feet = _extreme(slope, detections, _FEET_JOINTS, np.fmin)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = (above_floor - _ANKLE_HEIGHT) / -feet
    distance = np.where((distance > 0) & (distance < _FARTHEST), distance, np.nan)
    head = _extreme(slope, detections, _HEAD_JOINTS, np.fmax)
    stature = above_floor + distance * head
    sizes = body_sizes(np.where(usable[..., None], directions, 0.0), usable)
    span = np.nanmedian(distance * sizes) if np.isfinite(distance).any() else np.nan
    distance = np.where(np.isnan(distance), span / np.maximum(sizes, 1e-6), distance)
    heading = np.where(usable[..., None], directions, 0.0).sum(axis=1)[:, flat]
    heading /= np.maximum(np.linalg.norm(heading, axis=-1, keepdims=True), 1e-9)
    return Places(centres[detections.frame_index][:, flat] + distance[:, None] * heading, stature)


def _extreme(slope: np.ndarray, detections: Detections, names: tuple[str, ...], pick: np.ufunc) -> np.ndarray:
    """The lowest or highest slope (N,) among the named joints that the joint set has, NaN where none is usable."""
    joints = joint_set(detections.joint_set)
    columns = [joints.index(name) for name in names if name in joints.joints]
    return pick.reduce(slope[:, columns], axis=-1) if columns else np.full(len(slope), np.nan)
