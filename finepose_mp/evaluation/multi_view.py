"""One pose of a person from all the cameras that see them at once, scored once for every person and frame.

How the poses come about is in `inference.fusion`.
"""

from collections import Counter
from dataclasses import replace

import numpy as np

from finepose_mp.evaluation.scoring import (
    METRICS,
    MILLIMETRES,
    Aggregation,
    LiftedTrack,
    TrackScore,
    Truth,
    pose_errors,
)
from finepose_mp.inference.fusion import Fusion, Sighting
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
    fusion = Fusion([Sighting(each.view, each.hypotheses) for each in views], joints, min_keypoints)
    scorable = np.stack([view.target_mask for view in views]) & fusion.sees[..., None]
    kept = np.flatnonzero((fusion.sees.sum(axis=0) >= MIN_CAMERAS) & scorable.any(axis=(0, 2)))
    truth = _truth(views, scorable, fusion.sees, kept)
    poses = (*fusion.choose(kept), fusion.mean_pose(kept))
    errors = {row: pose_errors(pose, truth) for row, pose in zip(MULTI_VIEW_AGGREGATIONS, poses, strict=False)}
    errors["p_agg_of_each_camera"] = _errors_of_each(fusion, truth, kept)
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
            "views of the scored frames": int(fusion.sees[:, kept].sum()),
            "frames scored whose root the 2D does not determine": int(np.isnan(fusion.root[kept, 0]).sum()),
        }
    )
    return TrackScore(track, sums, counts, tally, _root_errors(views, scorable, fusion.root, kept))


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


def _errors_of_each(fusion: Fusion, truth: Truth, kept: np.ndarray) -> dict[str, np.ndarray]:
    """Errors of every camera by itself, averaged over the cameras that see the person."""
    of_each = [
        pose_errors(pose[kept], replace(truth, mask=truth.mask & sees[kept, None]))
        for pose, sees in zip(fusion.pose, fusion.sees, strict=True)
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
