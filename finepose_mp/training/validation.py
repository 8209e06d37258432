"""Numbers about whole tracks, the tracks divided among the processes: validation error and mean training pose."""

import numpy as np
from accelerate.utils import gather_object
from torch import nn

from finepose_mp.config import Config
from finepose_mp.datasets.index import Track
from finepose_mp.datasets.reader import TrackReader
from finepose_mp.inference.lifting import lift_tracks
from finepose_mp.metrics import mpjpe
from finepose_mp.skeletons import joint_set


def validation_mpjpe_mm(
    model: nn.Module, config: Config, tracks: list[Track], process: int = 0, processes: int = 1
) -> float:
    """Mean joint error in millimetres over every usable joint of every frame, each counted once.

    One hypothesis from one sampling step: the cheap setting that training watches and selects by (as D3DP does).
    Collective: every process calls it, with the same tracks, and gets the same number.

    Raises:
        ValueError: the tracks hold no usable target, or the model's poses are not finite.
    """
    shares = []
    for track, sample, poses, times_scored in lift_tracks(
        model, config, tracks[process::processes], hypotheses=1, steps=1
    ):
        usable = sample["target_mask"] & (times_scored > 0)[:, None]
        errors = mpjpe(poses[0], sample["target_3d"], usable)
        shares.append((track.key, float(np.nansum(errors)), int(usable.sum())))
    # Summed in one order, so that the number does not depend on how many processes shared the work.
    shares = sorted(gather_object(shares))
    joints = sum(count for _, _, count in shares)
    if joints == 0:
        raise ValueError(
            f"none of {len(tracks)} validation tracks has a usable target joint: nobody is visible with known hips in "
            "a validation take; check the file with tools/validate.py, or choose other data.camera_kinds or scenes"
        )
    return 1000 * sum(total for _, total, _ in shares) / joints


def mean_training_pose(config: Config, tracks: list[Track], process: int = 0, processes: int = 1) -> np.ndarray:
    """Mean target (J, 3) of the tracks: root-relative, camera frame, metres. NaN for joints that no track has.

    Collective: every process calls it, with the same tracks, and gets the same pose.
    """
    joints = len(joint_set(config.data.joint_set))
    shares = []
    # Targets do not depend on the coordinates of the input, and these need no inverted lens model.
    with TrackReader(config.data.model_copy(update={"coordinates": "screen"})) as reader:
        for track in tracks[process::processes]:
            sample = reader.read(track)
            total = sample["target_3d"].sum(axis=0, dtype=np.float64)  # 0 where there is no target
            shares.append((track.key, total.tolist(), sample["target_mask"].sum(axis=0).tolist()))
    shares = sorted(gather_object(shares))
    totals = np.sum([total for _, total, _ in shares], axis=0).reshape(joints, 3)
    counts = np.sum([count for _, _, count in shares], axis=0).reshape(joints, 1)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
