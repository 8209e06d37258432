"""What one camera saw of a person, and how well poses agree with it: the 2D side of choosing among hypotheses."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from finepose_mp import aggregation, cameras
from finepose_mp.geometry import apply_rigid, invert_rigid, ray_directions, recover_root_track


@dataclass(frozen=True)
class View:
    """The keypoints of a person in one camera over T frames, and the camera. There is no truth about the person in it.

    Camera poses are measured from the cameras themselves (SLAM, calibration), as a deployed system would have them.
    """

    keypoints: np.ndarray  # (T, J, 2) px; any value where the weight is 0
    rays: np.ndarray  # (T, J, 2) x/z, y/z of the keypoints; likewise
    weights: np.ndarray  # (T, J) detection scores, 0 where there is no usable keypoint
    camera_model: str
    camera_params: np.ndarray  # (T, 15)
    world_to_camera: np.ndarray  # (T, 3, 4)
    time: np.ndarray  # (T,) seconds

    @cached_property
    def camera_to_world(self) -> np.ndarray:
        """(T, 3, 4)."""
        return invert_rigid(self.world_to_camera)

    @property
    def origins_world(self) -> np.ndarray:
        """Camera centres (T, 3) in metres."""
        return self.camera_to_world[..., 3]

    @cached_property
    def directions_camera(self) -> np.ndarray:
        """Unit vectors (T, J, 3) towards the keypoints."""
        return ray_directions(self.rays)

    @cached_property
    def directions_world(self) -> np.ndarray:
        """Unit vectors (T, J, 3) towards the keypoints."""
        return self.in_world_orientation(self.directions_camera)

    def in_world_orientation(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (..., T, J, 3) of the camera frame along the world's axes."""
        return vectors @ self.camera_to_world[..., :3].swapaxes(-1, -2)

    def at(self, frames: np.ndarray) -> "View":
        """The view in some of its frames, given by index."""
        names = ("keypoints", "rays", "weights", "camera_params", "world_to_camera", "time")
        return replace(self, **{name: getattr(self, name)[frames] for name in names})

    def solve_root(self, pose: np.ndarray) -> np.ndarray:
        """Roots (T, 3), metres, camera frame, of a root-relative pose (T, J, 3), from the keypoints alone.

        Solved and smoothed in the world, so that a turning head does not move the person; NaN where the keypoints do
        not determine it. See `geometry.recover_root_track`.
        """
        known = np.isfinite(pose).all(axis=(-2, -1))[:, None]
        root_world = recover_root_track(
            self.in_world_orientation(pose),
            self.directions_world,
            self.origins_world[:, None],
            np.where(known, self.weights, 0.0),
            self.time,
        )
        return apply_rigid(root_world, self.world_to_camera)

    def reprojection_errors(self, hypotheses: np.ndarray, root: np.ndarray) -> np.ndarray:
        """Distances (H, T, J) in pixels of hypotheses (H, T, J, 3) from the keypoints, NaN where there is none."""
        keypoints = np.where(self.weights[..., None] > 0, self.keypoints, np.nan)
        params = self.camera_params[:, None]
        return aggregation.reprojection_errors(hypotheses, root, keypoints, self.camera_model, params)

    def ray_distances(self, hypotheses: np.ndarray, root: np.ndarray) -> np.ndarray:
        """Distances (H, T, J) in metres of hypotheses (H, T, J, 3) from the rays of keypoints, NaN where is none."""
        directions = np.where(self.weights[..., None] > 0, self.directions_camera, np.nan)
        return aggregation.ray_distances(hypotheses, root, directions)


def view_of(sample: dict, world_to_camera: np.ndarray, fps: float, coordinates: str) -> View:
    """The view in a track's data.

    Args:
        sample: of `TrackReader.read`.
        world_to_camera: (T, 3, 4); frames in which it is unknown give no keypoints.
        fps: frames a second.
        coordinates: of `sample["input_2d"]`, "rays" or "screen".
    """
    keypoints, usable = sample["input_px"].astype(np.float64), sample["input_mask"]
    if coordinates == "rays":
        rays = sample["input_2d"].astype(np.float64)
    else:
        rays = cameras.unproject(keypoints, sample["camera_model"], sample["camera_params"][:, None])
    usable = usable & np.isfinite(rays).all(axis=-1) & np.isfinite(world_to_camera).all(axis=(-2, -1))[:, None]
    return View(
        keypoints=keypoints,
        rays=rays,
        weights=np.where(usable, sample["input_score"].astype(np.float64), 0.0),
        camera_model=sample["camera_model"],
        camera_params=sample["camera_params"],
        world_to_camera=world_to_camera,
        time=sample["frame"] / fps,
    )
