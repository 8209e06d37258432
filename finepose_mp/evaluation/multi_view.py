"""One pose of a person from all the cameras that see them at once, scored once for every person and frame.

Hypotheses of all cameras are turned into the orientation of the world and the root is solved from the keypoints of all
cameras together. For every joint, multi-view J-Agg then takes the hypothesis that comes closest to its rays in all of
them, and soft multi-view J-Agg the mean weighted by that closeness. They know where the cameras are, but nothing true
about the person.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from finepose_mp.aggregation import j_agg, multi_view_distances, p_agg, soft_j_agg
from finepose_mp.evaluation.scoring import (
    METRICS,
    MILLIMETRES,
    Aggregation,
    LiftedTrack,
    TrackScore,
    Truth,
    pose_errors,
)
from finepose_mp.geometry import recover_root_track
from finepose_mp.skeletons import JointSet

MIN_CAMERAS = 2
CAMERA = "all cameras together"

# All of them in the same frames of the same people.
MULTI_VIEW_AGGREGATIONS: dict[str, Aggregation] = {
    "multi_view_j_agg": Aggregation("Closest to all 2D, joint by joint (multi-view J-Agg)", "deployable"),
    "multi_view_soft_j_agg": Aggregation("Weighted by closeness to all 2D (multi-view soft J-Agg)", "deployable"),
    "multi_view_p_agg": Aggregation("Mean of the hypotheses of all cameras (multi-view P-Agg)", "deployable"),
    "p_agg_of_each_camera": Aggregation("Each camera by itself, mean of their errors (P-Agg)", "deployable"),
}
_BLOCK = 128  # frames whose hypotheses are held at once


@dataclass(frozen=True)
class _Cameras:
    """What K cameras saw of one person, in world coordinates; arrays (K, T, ...)."""

    directions: np.ndarray  # (K, T, J, 3) towards the keypoints
    origins: np.ndarray  # (K, T, 1, 3)
    weights: np.ndarray  # (K, T, J), 0 in frames in which a camera does not see the person
    pose: np.ndarray  # (K, T, J, 3) mean hypothesis of each camera, root-relative

    @property
    def sees(self) -> np.ndarray:
        """(K, T) bool."""
        return (self.weights > 0).any(axis=-1)


def score_person(views: list[LiftedTrack], joints: JointSet, min_keypoints: int) -> TrackScore:
    """Errors of one person seen by several cameras; rows in the order of `MULTI_VIEW_AGGREGATIONS`.

    A camera sees the person in frames with `min_keypoints` usable keypoints and a prediction. Frames count in which
    `MIN_CAMERAS` do and a joint may be scored in one of them. There is one pose for each such frame, so that it counts
    once however many cameras there are; errors do not depend on the frame they are measured in. Where each camera
    stands by itself, the mean of their errors counts.

    Args:
        views: the tracks of one person in one take, at least one.
        joints: joint set of all arrays.
        min_keypoints: that a camera must have to see the person.
    """
    cameras = _in_world(views, joints, min_keypoints)
    scorable = np.stack([view.target_mask for view in views]) & cameras.sees[..., None]
    kept = np.flatnonzero((cameras.sees.sum(axis=0) >= MIN_CAMERAS) & scorable.any(axis=(0, 2)))
    root = _solve_root(cameras, views[0].view.time)
    truth = _truth(views, scorable, cameras.sees, kept)
    poses = _compose(views, cameras, root, kept, joints)
    errors = {row: pose_errors(pose, truth) for row, pose in poses.items()}
    errors["p_agg_of_each_camera"] = _errors_of_each(cameras, truth, kept)
    sums, counts = np.zeros((2, len(METRICS), len(errors), len(joints)))
    for a, row in enumerate(MULTI_VIEW_AGGREGATIONS):
        for m, metric in enumerate(METRICS):
            scored = ~np.isnan(errors[row][metric])
            sums[m, a] = np.where(scored, errors[row][metric], 0).sum(axis=0)
            counts[m, a] = scored.sum(axis=0)
    track = replace(views[0].track, camera=CAMERA, camera_kind=CAMERA)
    tally = Counter(
        {
            "frames scored": len(kept),
            "joints scored": int(truth.mask.sum()),
            "views of the scored frames": int(cameras.sees[:, kept].sum()),
            "frames scored whose root the 2D does not determine": int(np.isnan(root[kept, 0]).sum()),
        }
    )
    return TrackScore(track, sums, counts, tally, _root_errors(views, scorable, root, kept))


def _in_world(views: list[LiftedTrack], joints: JointSet, min_keypoints: int) -> _Cameras:
    poses = [each.view.in_world_orientation(joints.root_relative(p_agg(each.hypotheses))) for each in views]
    pose = np.stack(poses)
    weights = np.stack([each.view.weights for each in views])
    sees = ((weights > 0).sum(axis=-1) >= min_keypoints) & np.isfinite(pose).all(axis=(-2, -1))
    return _Cameras(
        directions=np.stack([each.view.directions_world for each in views]),
        origins=np.stack([each.view.origins_world for each in views])[:, :, None],
        weights=np.where(sees[..., None], weights, 0.0),
        pose=pose,
    )


def _mean_of_seeing(cameras: _Cameras, frames: np.ndarray) -> np.ndarray:
    """The mean pose (T, J, 3) over the cameras that see the person; 0 where none does."""
    sees = cameras.sees[:, frames, None, None]
    return np.where(sees, cameras.pose[:, frames], 0.0).sum(axis=0) / np.maximum(sees.sum(axis=0), 1)


def _solve_root(cameras: _Cameras, time: np.ndarray) -> np.ndarray:
    """Roots (T, 3), world, from the mean pose and the keypoints of all cameras."""
    pose = _mean_of_seeing(cameras, np.arange(len(time)))
    k, _, j = cameras.weights.shape
    by_frame = [
        np.concatenate(list(np.broadcast_to(array, (k, len(time), j, 3))), axis=1)
        for array in (pose, cameras.directions, cameras.origins)
    ]
    return recover_root_track(*by_frame, np.concatenate(list(cameras.weights), axis=1), time)


def _compose(
    views: list[LiftedTrack], cameras: _Cameras, root: np.ndarray, kept: np.ndarray, joints: JointSet
) -> dict[str, np.ndarray]:
    """{row: pose (T, J, 3) in the orientation of the world} in the frames kept."""
    hard, soft = np.empty((2, len(kept), len(joints), 3))
    for first in range(0, len(kept), _BLOCK):
        block = slice(first, first + _BLOCK)
        hypotheses, distances = _candidates(views, cameras, root, kept[block], joints)
        hard[block] = j_agg(hypotheses, distances, joints.root_joints)
        soft[block] = soft_j_agg(hypotheses, distances, joints.root_joints)
    mean = _mean_of_seeing(cameras, kept)
    return {"multi_view_j_agg": hard, "multi_view_soft_j_agg": soft, "multi_view_p_agg": mean}


def _candidates(
    views: list[LiftedTrack], cameras: _Cameras, root: np.ndarray, frames: np.ndarray, joints: JointSet
) -> tuple[np.ndarray, np.ndarray]:
    """Hypotheses (KH, T, J, 3) of all cameras in the orientation of the world, and their distances from the 2D."""
    of_each = [
        each.view.at(frames).in_world_orientation(joints.root_relative(each.hypotheses[:, frames].astype(np.float64)))
        for each in views
    ]
    # Of cameras that do not see the person nothing is chosen; the mean in their place does not change the mean.
    sees = np.repeat(cameras.sees[:, frames], [len(each) for each in of_each], axis=0)
    hypotheses = np.where(sees[..., None, None], np.concatenate(of_each), _mean_of_seeing(cameras, frames))
    distances = multi_view_distances(
        hypotheses, root[frames], cameras.directions[:, frames], cameras.origins[:, frames], cameras.weights[:, frames]
    )
    return hypotheses, np.where(sees[..., None], distances, np.nan)


def _truth(views: list[LiftedTrack], scorable: np.ndarray, sees: np.ndarray, kept: np.ndarray) -> Truth:
    """What is known of the person in any camera that sees them, in the orientation of the world."""
    target = np.zeros((*scorable.shape[1:], 3))
    for each, mask in zip(views, scorable, strict=True):
        of_camera = each.view.in_world_orientation(each.target_3d.astype(np.float64))
        target = np.where(mask[..., None], of_camera, target)
    in_view = np.stack([each.in_view for each in views]) & sees[..., None]
    return Truth(
        target=target[kept],
        mask=scorable.any(axis=0)[kept],
        in_view=in_view.any(axis=0)[kept],
        frame=views[0].frame[kept],
        fps=views[0].track.fps,
    )


def _errors_of_each(cameras: _Cameras, truth: Truth, kept: np.ndarray) -> dict[str, np.ndarray]:
    """Errors of every camera by itself, averaged over the cameras that see the person."""
    of_each = [
        pose_errors(pose[kept], replace(truth, mask=truth.mask & sees[kept, None]))
        for pose, sees in zip(cameras.pose, cameras.sees, strict=True)
    ]
    mean = {}
    for metric in METRICS:
        stacked = np.stack([errors[metric] for errors in of_each])
        scored = ~np.isnan(stacked)
        total = np.where(scored, stacked, 0.0).sum(axis=0)
        mean[metric] = np.divide(total, scored.sum(axis=0), out=np.full_like(total, np.nan), where=scored.any(axis=0))
    return mean


def _root_errors(views: list[LiftedTrack], scorable: np.ndarray, root: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """`TrackScore.root`, without a line of sight as there are several."""
    true_root = np.full_like(root, np.nan)
    for each, mask in zip(views, scorable.any(axis=-1), strict=True):
        world = each.view.origins_world + each.view.in_world_orientation(each.true_root_camera[:, None])[:, 0]
        true_root = np.where(mask[:, None], world, true_root)
    error = MILLIMETRES * np.linalg.norm(root - true_root, axis=-1)[kept]
    return np.array([np.nansum(error), np.nan, np.isfinite(error).sum()])
