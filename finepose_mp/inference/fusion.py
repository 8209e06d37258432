"""One pose of a person from every camera that sees them, and where the person stands.

Hypotheses of all cameras are turned into the orientation of the world and the root is solved from the keypoints of all
cameras together. For every joint, multi-view J-Agg then takes the hypothesis that comes closest to its rays in all of
them, and soft multi-view J-Agg the mean weighted by that closeness. They know where the cameras are, but nothing true
about the person. With one camera these are J-Agg and soft J-Agg.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from finepose_mp.aggregation import j_agg, multi_view_distances, p_agg, soft_j_agg
from finepose_mp.geometry import recover_root_track
from finepose_mp.inference.views import View
from finepose_mp.skeletons import JointSet

_BLOCK = 128  # frames whose hypotheses are held at once


@dataclass(frozen=True)
class Sighting:
    """A person in one camera over T frames: its keypoints, and what a model made of them."""

    view: View
    hypotheses: np.ndarray  # (H, T, J, 3) root-relative, metres, camera frame; NaN where not lifted


class Fusion:
    """What K cameras saw of one person over T frames.

    A camera sees the person in frames with `min_keypoints` usable keypoints and a lifted pose.

    Attributes:
        sees: (K, T) bool.
        pose: (K, T, J, 3) mean hypothesis of each camera, root-relative, along the world's axes; NaN where not lifted.
    """

    def __init__(self, sightings: list[Sighting], joints: JointSet, min_keypoints: int) -> None:
        self._sightings, self._joints = sightings, joints
        views = [each.view for each in sightings]
        poses = [joints.root_relative(p_agg(each.hypotheses)) for each in sightings]
        self.pose = np.stack([view.in_world_orientation(pose) for view, pose in zip(views, poses, strict=True)])
        weights = np.stack([view.weights for view in views])
        self.sees = ((weights > 0).sum(axis=-1) >= min_keypoints) & np.isfinite(self.pose).all(axis=(-2, -1))
        self._weights = np.where(self.sees[..., None], weights, 0.0)
        self._directions = np.stack([view.directions_world for view in views])
        self._origins = np.stack([view.origins_world for view in views])[:, :, None]

    def mean_pose(self, frames: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Multi-view P-Agg (F, J, 3): the mean over the cameras that see the person; 0 where none does."""
        sees = self.sees[:, frames, None, None]
        return np.where(sees, self.pose[:, frames], 0.0).sum(axis=0) / np.maximum(sees.sum(axis=0), 1)

    @cached_property
    def root(self) -> np.ndarray:
        """Roots (T, 3), world, metres, from the mean pose and the keypoints of all cameras; NaN where not determined.

        See `geometry.recover_root_track`: frames that nobody sees are bridged as far as their neighbours tell.
        """
        return self.solve_root(self.mean_pose())

    def solve_root(self, pose: np.ndarray) -> np.ndarray:
        """Roots (T, 3) as `root`, for another pose (T, J, 3)."""
        k, t, j = self._weights.shape
        by_frame = [
            np.concatenate(list(np.broadcast_to(array, (k, t, j, 3))), axis=1)
            for array in (pose, self._directions, self._origins)
        ]
        weights = np.concatenate(list(self._weights), axis=1)
        return recover_root_track(*by_frame, weights, self._sightings[0].view.time)

    def choose(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Multi-view J-Agg and soft J-Agg, each (F, J, 3), root-relative, along the world's axes, of some frames."""
        hard, soft = np.empty((2, len(frames), len(self._joints), 3))
        for first in range(0, len(frames), _BLOCK):
            block = slice(first, first + _BLOCK)
            hypotheses, distances = self.candidates(frames[block])
            hard[block] = j_agg(hypotheses, distances, self._joints.root_joints)
            soft[block] = soft_j_agg(hypotheses, distances, self._joints.root_joints)
        return hard, soft

    def hypotheses(self, frames: np.ndarray) -> np.ndarray:
        """(H, F, J, 3) of frames that some camera sees: the h-th of every camera that sees the person, fused.

        By the weights of soft multi-view J-Agg, so that what it gives lies among these.
        """
        count = len(self._sightings[0].hypotheses)
        fused = np.empty((count, len(frames), len(self._joints), 3))
        for first in range(0, len(frames), _BLOCK):
            block = slice(first, first + _BLOCK)
            hypotheses, distances = self.candidates(frames[block])
            # Where no camera has the keypoint, the mean over those that see the person, not over the others' stand-ins.
            sees = np.repeat(self.sees[:, frames[block], None], count, axis=0)
            distances = np.where(sees, np.nan_to_num(distances), np.nan)
            hypotheses, distances = (each.reshape(-1, count, *each.shape[1:]) for each in (hypotheses, distances))
            fused[:, block] = soft_j_agg(hypotheses, distances, self._joints.root_joints)
        return fused

    def candidates(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hypotheses (KH, F, J, 3) of all cameras along the world's axes, and their distances (KH, F, J) from the 2D.

        Distances are in metres, NaN where no camera has the keypoint or the camera does not see the person.
        """
        of_each = [
            each.view.at(frames).in_world_orientation(
                self._joints.root_relative(each.hypotheses[:, frames].astype(np.float64))
            )
            for each in self._sightings
        ]
        # Of cameras that do not see the person nothing is chosen; the mean in their place does not change the mean.
        sees = np.repeat(self.sees[:, frames], [len(each) for each in of_each], axis=0)
        hypotheses = np.where(sees[..., None, None], np.concatenate(of_each), self.mean_pose(frames))
        distances = multi_view_distances(
            hypotheses,
            self.root[frames],
            self._directions[:, frames],
            self._origins[:, frames],
            self._weights[:, frames],
        )
        return hypotheses, np.where(sees[..., None], distances, np.nan)
