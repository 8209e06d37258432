"""What a 2D keypoint detector found in the frames of one camera."""

from dataclasses import dataclass, replace

import numpy as np

from finepose_mp.skeletons import convert, joint_set


@dataclass(frozen=True, eq=False)
class Detections:
    """N detected people in T frames of one camera, ordered by frame; J joints.

    `keypoints` (N, J, 2) in pixels of the stored image, NaN where there is none. `scores` (N, J), 0 where there is no
    keypoint, 1 where the detector gives none. `frame_index` (N,) is the position in `frame` (T,), the frame numbers of
    the source, increasing; frames in which nobody was found are among them. `fps` is the rate of these frames: a
    fifth of the source's where all numbers are 5 apart. `ids` names people across frames, or is None where nobody said
    who is who. `assumptions` says in words what the source left open.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    frame_index: np.ndarray
    frame: np.ndarray
    joint_set: str
    image_size: tuple[int, int]
    fps: float
    ids: tuple[str, ...] | None = None
    camera: str = "camera"
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        people, joints = len(self.frame_index), len(joint_set(self.joint_set))
        for name, expected in (("keypoints", (people, joints, 2)), ("scores", (people, joints))):
            found = np.shape(getattr(self, name))
            if found != expected:
                raise ValueError(
                    f"detections of {self.camera}: {name} has shape {found}, expected {expected} "
                    f"({people} people, {joints} joints of {self.joint_set})"
                )
        if self.ids is not None and len(self.ids) != people:
            raise ValueError(f"detections of {self.camera}: {len(self.ids)} ids for {people} people")
        if people and (np.diff(self.frame_index) < 0).any():
            raise ValueError(f"detections of {self.camera}: people are not ordered by frame")

    @property
    def frame_count(self) -> int:
        """T, frames without people included."""
        return len(self.frame)

    @property
    def time(self) -> np.ndarray:
        """(T,) seconds since the first frame."""
        steps = np.diff(self.frame)
        return (self.frame - self.frame[:1]) / (self.fps * (np.gcd.reduce(steps) if len(steps) else 1))

    def converted(self, target: str) -> "Detections":
        """The same people in another joint set, by name of joint; what was derived and what is missing is said.

        A joint derived from others has their mean score; one that cannot be had is NaN with score 0.
        """
        if target == self.joint_set:
            return self
        keypoints, origin = convert(self.keypoints, self.joint_set, target)
        scores = convert(self.scores[..., None], self.joint_set, target)[0][..., 0]
        scores = np.where(np.isfinite(keypoints).all(axis=-1), scores, 0.0)
        names = np.array(joint_set(target).joints)
        said = [f"{how}: {', '.join(names[origin == how])}" for how in ("derived", "missing") if (origin == how).any()]
        note = f"joints converted from {self.joint_set} to {target} by name" + "".join(f"; {text}" for text in said)
        changed = {"keypoints": keypoints, "scores": scores, "joint_set": target}
        return replace(self, **changed, assumptions=(*self.assumptions, note))

    def usable(self, min_score: float) -> np.ndarray:
        """Which keypoints (N, J) are there with at least this score."""
        return (self.scores >= min_score) & np.isfinite(self.keypoints).all(axis=-1)


def repeated_ids(detections: Detections) -> list[tuple[int, str]]:
    """(frame number, id) of ids that name more than one person of a frame, each once, in order."""
    if detections.ids is None:
        return []
    seen: set[tuple[int, str]] = set()
    repeated: dict[tuple[int, str], None] = {}
    for index, identity in zip(detections.frame_index.tolist(), detections.ids, strict=True):
        if (index, identity) in seen:
            repeated[int(detections.frame[index]), identity] = None
        seen.add((index, identity))
    return list(repeated)
