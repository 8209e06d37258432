"""One moment per scene with its predictions, for pictures: the camera and frame in which most people are scored."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finepose_mp import schema
from finepose_mp.aggregation import p_agg
from finepose_mp.evaluation.scoring import LiftedTrack
from finepose_mp.geometry import apply_rigid, invert_rigid
from finepose_mp.skeletons import JointSet


@dataclass(frozen=True)
class Example:
    """The people of one frame as one camera sees them, P in the order of the take's file, predicted and true.

    Poses are root-relative in the camera frame, in metres, NaN for people and joints that were not scored. Whatever is
    called `true` is ground truth; the predictions are the mean of the hypotheses.
    """

    scene: str
    file: Path
    sequence: str
    camera: str
    camera_kind: str
    frame_index: int  # position in the sequence
    frame: int  # number in the source
    simulated: bool
    joint_set: str  # of the poses, by name
    person: list[str]
    predicted_3d: np.ndarray  # (P, J, 3)
    true_3d: np.ndarray  # (P, J, 3)
    true_root_camera: np.ndarray  # (P, 3) metres, camera frame
    world_to_camera: np.ndarray  # (3, 4)
    people_scored: int
    joints_scored: int

    @property
    def crowd(self) -> tuple[int, int]:
        """Orders examples: people scored, then joints scored."""
        return self.people_scored, self.joints_scored

    @property
    def caption(self) -> str:
        """What `predicted_3d_world` shows and which truth it uses."""
        return f"mean prediction from {self.camera}, placed at the true root (ground truth, for this picture only)"

    def predicted_3d_world(self) -> np.ndarray:
        """Predicted joints (P, J, 3) in the world frame, metres; the root of each person is the true one."""
        return apply_rigid(self.predicted_3d + self.true_root_camera[:, None], invert_rigid(self.world_to_camera))


def find_example(lifted: list[LiftedTrack], joints: JointSet) -> Example | None:
    """The frame with most people scored, then most joints, of the tracks of one camera in one take; None without any.

    Args:
        lifted: the tracks of everybody that the camera sees.
        joints: joint set of the predictions.
    """
    scored = np.stack([each.target_mask & (each.times_scored > 0)[:, None] for each in lifted])
    people, visible_joints = scored.any(axis=-1).sum(axis=0), scored.sum(axis=(0, 2))
    t = int(np.lexsort((-visible_joints, -people))[0])  # stable: the first of equals
    if not people[t]:
        return None
    track = lifted[0].track
    frame_index = int(track.recorded_frames(t, t + 1)[0])
    with schema.open_file(track.file) as file:
        group = file[track.sequence]
        person = group["person"].asstr()[...].tolist()
        world_to_camera = group["world_to_camera"][track.camera_index, frame_index]
        frame = int(group["frame"][frame_index])
    predicted, true = np.full((2, len(person), len(joints), 3), np.nan)
    true_root = np.full((len(person), 3), np.nan)
    for each, mask in zip(lifted, scored[:, t], strict=True):
        if mask.any():
            p = each.track.person_index
            predicted[p] = joints.root_relative(p_agg(each.hypotheses[:, t]))
            true[p] = np.where(mask[:, None], each.target_3d[t], np.nan)
            true_root[p] = each.true_root_camera[t]
    return Example(
        scene=track.scene,
        file=track.file,
        sequence=track.sequence,
        camera=track.camera,
        camera_kind=track.camera_kind,
        frame_index=frame_index,
        frame=frame,
        simulated=track.simulated,
        joint_set=joints.name,
        person=person,
        predicted_3d=predicted,
        true_3d=true,
        true_root_camera=true_root,
        world_to_camera=world_to_camera,
        people_scored=int(people[t]),
        joints_scored=int(visible_joints[t]),
    )


def most_crowded_by_scene(examples: Iterable[Example]) -> dict[str, Example]:
    """{scene: its example with most people scored}; the first of equals by take and camera, in whatever order given."""
    best: dict[str, Example] = {}
    for example in sorted(examples, key=lambda e: (e.simulated, e.sequence, e.camera)):
        if example.scene not in best or example.crowd > best[example.scene].crowd:
            best[example.scene] = example
    return best
