"""Keypoints in NumPy archives: VideoPose3D's custom data sets, and plain arrays as RTMLib returns them.

VideoPose3D: `positions_2d`, a dictionary video -> action -> list over cameras of (T, J, 2) pixels of one person, and
`metadata` with the layout and the size of each video (its INFERENCE.md). RTMLib returns (P, J, 2) and scores (P, J) of
one image; frames of a video are kept as arrays `keypoints` (T, P, J, 2) with NaN for nobody, or as an array of T such
objects, with `scores` alike and, where known, `ids` (T, P), `frame` (T,), `fps`, `image_size` and `joint_set`. The same
in JSON is a list of {"keypoints": (P, J, 2), "scores": (P, J)}, one a frame.
"""

import numpy as np

from finepose_mp.preprocessing.keypoints.content import Content
from finepose_mp.preprocessing.keypoints.found import Found, KeypointsError, Person, numbers_of, of_kind, whole_number

_LAYOUTS = {"coco": "coco17", "h36m": "h36m17"}


def read_videopose3d(content: Content) -> list[Found] | None:
    """One person of each camera of each action of a custom data set of VideoPose3D."""
    if content.kind != "arrays" or "positions_2d" not in content.value:
        return None
    positions, metadata = _item(content, "positions_2d"), _item(content, "metadata", {})
    layout = metadata.get("layout_name")
    of_videos = of_kind(metadata.get("video_metadata", {}), dict, f"{content.path}: video_metadata")
    found = []
    for video, actions in positions.items():
        size = of_kind(of_videos.get(video, {}), dict, f"{content.path}: video_metadata of {video}")
        size = [whole_number(size[key], f"{content.path}: {key} of {video}") for key in "wh" if key in size]
        for action, cameras in of_kind(actions, dict, f"{content.path}: positions_2d of {video}").items():
            if not isinstance(cameras, list | tuple | np.ndarray):
                raise KeypointsError(f"{content.path}: {video}/{action} is {cameras!r:.60}, expected a list of cameras")
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
                        joint_set=_LAYOUTS.get(str(layout)),
                        image_size=tuple(size) if len(size) == 2 else None,
                        notes=[] if str(layout) in _LAYOUTS else [f"layout {layout!r} is not known by name"],
                    )
                )
    return found


def read_arrays(content: Content) -> list[Found] | None:
    """People of arrays `keypoints` and `scores` over frames."""
    if content.kind != "arrays" or "keypoints" not in content.value:
        return None
    arrays, where = content.value, str(content.path)
    notes = _check_axes(arrays["keypoints"], where)
    count = len(arrays["keypoints"])
    for name in ("scores", "ids", "frame"):
        shape = arrays[name].shape if name in arrays else (count,)
        if shape[:1] != (count,):
            raise KeypointsError(
                f"{where}: {name} of shape {shape} for keypoints of {count} frames; expected one entry a frame"
            )
    frames = arrays["frame"].tolist() if "frame" in arrays else list(range(count))
    frames = [whole_number(number, f"{where}: frame[{t}]") for t, number in enumerate(frames)]
    people = []
    for t, number in enumerate(frames):
        said = f"{where}: frame {number}"
        scores = arrays["scores"][t] if "scores" in arrays else None
        ids = _ids(arrays["ids"][t], said) if "ids" in arrays else None
        people += _people(number, arrays["keypoints"][t], scores, ids, said)
    size = numbers_of(arrays["image_size"], f"{where}: image_size") if "image_size" in arrays else None
    if size is not None and size.shape != (2,):
        raise KeypointsError(f"{where}: image_size of shape {size.shape}, expected width and height in pixels")
    fps = numbers_of(arrays["fps"], f"{where}: fps") if "fps" in arrays else None
    if fps is not None and fps.size != 1:
        raise KeypointsError(f"{where}: fps of shape {fps.shape}, expected one number")
    return [
        Found(
            format="arrays",
            people=people,
            frames=frames,
            joint_set=str(arrays["joint_set"]) if "joint_set" in arrays else None,
            image_size=tuple(whole_number(s, f"{where}: image_size") for s in size) if size is not None else None,
            fps=fps.item() if fps is not None else None,
            notes=notes,
        )
    ]


def _check_axes(keypoints: np.ndarray, where: str) -> list[str]:
    """Doubts about an array that can be (T, P, J, 2 or 3), or holds one object a frame; others are refused."""
    if keypoints.dtype == object and keypoints.ndim:
        return []
    if keypoints.dtype.kind not in "fiub":
        raise KeypointsError(f"{where}: keypoints of {keypoints.dtype}, expected numbers")
    if keypoints.ndim != 4 or keypoints.shape[-1] not in (2, 3):
        one = "; for one person in every frame, save keypoints[:, None]" if keypoints.ndim == 3 else ""
        raise KeypointsError(
            f"{where}: keypoints of shape {keypoints.shape}, expected (frames, people, joints, 2 or 3){one}"
        )
    frames, people = keypoints.shape[:2]
    # People of one frame are not alike; a person in one frame and the next is.
    if people > frames > 1 and _typical_step(keypoints, axis=1) < 0.25 * _typical_step(keypoints, axis=0):
        return [
            f"WARNING: keypoints of shape {keypoints.shape} have more people than frames, and move from person to "
            "person as from frame to frame; expected (frames, people, joints, 2 or 3): if the first two are exchanged, "
            "save keypoints.swapaxes(0, 1)"
        ]
    return []


def _typical_step(keypoints: np.ndarray, axis: int) -> float:
    """Median distance of joints (T, P, J, 2 or 3) from the next along an axis, NaN where no two are there."""
    steps = np.linalg.norm(np.diff(keypoints[..., :2].astype(float), axis=axis), axis=-1)
    known = steps[np.isfinite(steps)]
    return float(np.median(known)) if len(known) else np.nan


def read_frame_lists(content: Content) -> list[Found] | None:
    """People of a JSON list of {"keypoints": (P, J, 2), "scores": (P, J)}, one a frame."""
    frames = content.value
    if content.kind != "json" or not isinstance(frames, list) or not frames:
        return None
    if not all(isinstance(frame, dict) and {"keypoints", "scores"} <= frame.keys() for frame in frames):
        return None
    numbers = [
        whole_number(frame.get("frame", n), f"{content.path}: entry {n}: frame") for n, frame in enumerate(frames)
    ]
    people = []
    for number, frame in zip(numbers, frames, strict=True):
        where = f"{content.path}: frame {number}"
        ids = _ids(frame["ids"], where) if "ids" in frame else None
        people += _people(number, frame["keypoints"], frame["scores"], ids, where)
    return [Found("RTMLib predictions", people, numbers)]


def _ids(values: object, where: str) -> list[str]:
    """Ids of the people of one frame, as text."""
    values = values.tolist() if isinstance(values, np.ndarray | np.generic) else values
    return [str(identity) for identity in of_kind(values, list, f"{where}: ids")]


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
