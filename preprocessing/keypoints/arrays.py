"""Keypoints in NumPy archives: VideoPose3D's custom data sets, and plain arrays as RTMLib returns them.

VideoPose3D: `positions_2d`, a dictionary video -> action -> list over cameras of (T, J, 2) pixels of one person, and
`metadata` with the layout and the size of each video (its INFERENCE.md). RTMLib returns (P, J, 2) and scores (P, J) of
one image; frames of a video are kept as arrays `keypoints` (T, P, J, 2) with NaN for nobody, or as an array of T such
objects, with `scores` alike and, where known, `ids` (T, P), `frame` (T,), `fps`, `image_size` and `joint_set`. The same
in JSON is a list of {"keypoints": (P, J, 2), "scores": (P, J)}, one a frame.
"""

import numpy as np

from finepose_mp.preprocessing.keypoints.content import Content
from finepose_mp.preprocessing.keypoints.found import Found, KeypointsError, Person, numbers_of

_LAYOUTS = {"coco": "coco17", "h36m": "h36m17"}


def read_videopose3d(content: Content) -> list[Found] | None:
    """One person of each camera of each action of a custom data set of VideoPose3D."""
    if content.kind != "arrays" or "positions_2d" not in content.value:
        return None
    positions, metadata = _item(content, "positions_2d"), _item(content, "metadata", {})
    layout = metadata.get("layout_name")
    found = []
    for video, actions in positions.items():
        size = metadata.get("video_metadata", {}).get(video, {})
        for action, cameras in actions.items():
            for number, keypoints in enumerate(cameras):
                where = f"{content.path}: {video}/{action}/{number}"
                keypoints = numbers_of(keypoints, where)
                if keypoints.ndim != 3 or keypoints.shape[-1] not in (2, 3):
                    raise KeypointsError(f"{where}: keypoints of shape {keypoints.shape}, expected (T, J, 2)")
                people = [
                    Person(frame, pose[:, :2], pose[:, 2] if pose.shape[1] == 3 else None)
                    for frame, pose in enumerate(keypoints)
                ]
                found.append(
                    Found(
                        format="VideoPose3D data set",
                        people=people,
                        frames=list(range(len(keypoints))),
                        camera=f"{video}/{action}/{number}",
                        joint_set=_LAYOUTS.get(layout),
                        image_size=(int(size["w"]), int(size["h"])) if {"w", "h"} <= size.keys() else None,
                        notes=[] if layout in _LAYOUTS else [f"layout {layout!r} is not known by name"],
                    )
                )
    return found


def read_arrays(content: Content) -> list[Found] | None:
    """People of arrays `keypoints` and `scores` over frames."""
    if content.kind != "arrays" or "keypoints" not in content.value:
        return None
    arrays, where = content.value, str(content.path)
    frames = arrays["frame"].tolist() if "frame" in arrays else list(range(len(arrays["keypoints"])))
    people = []
    for t, number in enumerate(frames):
        scores = arrays["scores"][t] if "scores" in arrays else None
        ids = [str(identity) for identity in arrays["ids"][t]] if "ids" in arrays else None
        people += _people(int(number), arrays["keypoints"][t], scores, ids, f"{where}: frame {number}")
    size = arrays.get("image_size")
    return [
        Found(
            format="arrays",
            people=people,
            frames=[int(number) for number in frames],
            joint_set=str(arrays["joint_set"]) if "joint_set" in arrays else None,
            image_size=(int(size[0]), int(size[1])) if size is not None else None,
            fps=float(arrays["fps"]) if "fps" in arrays else None,
        )
    ]


def read_frame_lists(content: Content) -> list[Found] | None:
    """People of a JSON list of {"keypoints": (P, J, 2), "scores": (P, J)}, one a frame."""
    frames = content.value
    if content.kind != "json" or not isinstance(frames, list) or not frames:
        return None
    if not all(isinstance(frame, dict) and {"keypoints", "scores"} <= frame.keys() for frame in frames):
        return None
    numbers = [int(frame.get("frame", n)) for n, frame in enumerate(frames)]
    people = []
    for number, frame in zip(numbers, frames, strict=True):
        ids = [str(identity) for identity in frame["ids"]] if "ids" in frame else None
        people += _people(number, frame["keypoints"], frame["scores"], ids, f"{content.path}: frame {number}")
    return [Found("RTMLib predictions", people, numbers)]


def _people(frame: int, keypoints: object, scores: object, ids: list[str] | None, where: str) -> list[Person]:
    """People of one frame; rows of NaN stand for nobody."""
    keypoints = numbers_of(keypoints, where)
    if keypoints.size == 0:
        return []
    if keypoints.ndim != 3 or keypoints.shape[-1] not in (2, 3):
        raise KeypointsError(f"{where}: keypoints of shape {keypoints.shape}, expected (people, joints, 2 or 3)")
    if scores is None:
        scores = keypoints[..., 2] if keypoints.shape[-1] == 3 else None
    else:
        scores = numbers_of(scores, where)
    if scores is not None and scores.shape != keypoints.shape[:2]:
        raise KeypointsError(f"{where}: scores of shape {scores.shape} for keypoints of shape {keypoints.shape}")
    if ids is not None and len(ids) != len(keypoints):
        raise KeypointsError(f"{where}: {len(ids)} ids for {len(keypoints)} people")
    return [
        Person(frame, keypoints[p, :, :2], None if scores is None else scores[p], ids[p] if ids else None)
        for p in range(len(keypoints))
        if np.isfinite(keypoints[p, :, :2]).any()
    ]


def _item(content: Content, name: str, default: dict | None = None) -> dict:
    """The dictionary that an array of one object holds."""
    if name not in content.value and default is not None:
        return default
    array = content.value[name]
    value = array.item() if array.dtype == object and array.size == 1 else None
    if not isinstance(value, dict):
        raise KeypointsError(f"{content.path}: {name} is {array.dtype} {array.shape}, expected one dictionary")
    return value
