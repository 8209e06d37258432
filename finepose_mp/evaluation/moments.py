"""The worst moment of each take: the person, camera and frame with the largest error of the headline's pose."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from finepose_mp import cameras
from finepose_mp.aggregation import p_agg
from finepose_mp.evaluation.scoring import MILLIMETRES, LiftedTrack
from finepose_mp.skeletons import JointSet


@dataclass(frozen=True)
class Moment:
    """One person in one frame of one camera: hypotheses, truth and the keypoints that the model was given.

    Poses are root-relative in the camera frame, in metres. Whatever is called `true` is ground truth.
    """

    take: str
    scene: str
    camera: str
    camera_kind: str
    person: str
    sequence: str
    frame_index: int  # position in the sequence
    seconds: float  # since the take began
    joint_set: str  # of the poses, by name
    hypotheses: np.ndarray  # (H, J, 3)
    true_3d: np.ndarray  # (J, 3), NaN where not scored
    true_root_camera: np.ndarray  # (3,) metres, camera frame
    keypoints: np.ndarray  # (J, 2) px, NaN where the model had none
    camera_model: str
    camera_params: np.ndarray  # (15,)
    image_size: tuple[int, int]  # px
    world_to_camera: np.ndarray  # (3, 4)
    error_mm: float  # mean over the scored joints

    @property
    def predicted_3d(self) -> np.ndarray:
        """Mean of the hypotheses (J, 3)."""
        return p_agg(self.hypotheses)

    def seen_px(self, pose: np.ndarray) -> np.ndarray:
        """Pixels (J, 2) of a root-relative pose (J, 3), its root placed at the true one."""
        return cameras.project(pose + self.true_root_camera, self.camera_model, self.camera_params)

    def summary(self) -> dict[str, str | int | float]:
        """Where it is and how large the error, for the results."""
        about = {"camera": self.camera, "person": self.person, "frame index": self.frame_index}
        return about | {"mpjpe": round(self.error_mm, 6)}


def worst_moment(lifted: LiftedTrack, joints: JointSet) -> Moment | None:
    """The frame of a track with the largest mean error; None where nothing is scored.

    Only frames with at least half as many scored joints as the fullest one count, so that a single joint does not win.
    """
    scored = lifted.target_mask & (lifted.times_scored > 0)[:, None]
    count = scored.sum(axis=-1)
    if not count.any():
        return None
    predicted = joints.root_relative(p_agg(lifted.hypotheses))
    distance = np.linalg.norm(predicted - lifted.target_3d, axis=-1)
    error = MILLIMETRES * np.where(scored, distance, 0.0).sum(axis=-1) / np.maximum(count, 1)
    t = int(np.argmax(np.where(2 * count >= count.max(), error, -1.0)))
    track, view = lifted.track, lifted.view
    return Moment(
        take=track.take,
        scene=track.scene,
        camera=track.camera,
        camera_kind=track.camera_kind,
        person=track.person,
        sequence=track.sequence,
        frame_index=int(track.recorded_frames(t, t + 1)[0]),
        seconds=float(view.time[t] - view.time[0]),
        joint_set=joints.name,
        hypotheses=joints.root_relative(lifted.hypotheses[:, t].astype(np.float64)),
        true_3d=np.where(scored[t, :, None], lifted.target_3d[t], np.nan),
        true_root_camera=lifted.true_root_camera[t].astype(np.float64),
        keypoints=np.where(view.weights[t, :, None] > 0, view.keypoints[t], np.nan),
        camera_model=view.camera_model,
        camera_params=view.camera_params[t],
        image_size=tuple(int(size) for size in track.image_size),
        world_to_camera=view.world_to_camera[t],
        error_mm=float(error[t]),
    )


def worst_of_takes(moments: Iterable[Moment | None]) -> dict[str, Moment]:
    """{take: its worst moment}, by takes' names; the first of equals by camera and person, in whatever order given."""
    worst: dict[str, Moment] = {}
    there = [moment for moment in moments if moment is not None]
    for moment in sorted(there, key=lambda each: (each.take, each.camera, each.person)):
        if moment.take not in worst or moment.error_mm > worst[moment.take].error_mm:
            worst[moment.take] = moment
    return worst
