"""People in JSON as pose estimation programs write them: OpenPose, MMPose, Ultralytics, MediaPipe.

Sources of the forms: OpenPose's doc/02_output.md; MMPose's demos and inferencer (`--save-predictions`,
`pred_out_dir`); `Results.to_json` and `save_txt` of Ultralytics; MediaPipe's `PoseLandmarkerResult` and the message
NormalizedLandmarkList.
"""

import numpy as np

from finepose_mp.preprocessing.keypoints.content import Content
from finepose_mp.preprocessing.keypoints.found import (
    Found,
    KeypointsError,
    Person,
    identity_of,
    numbers_of,
    of_kind,
    person_of,
    triples,
    whole_number,
)
from finepose_mp.skeletons import JOINT_SETS

_IDS = ("track_id", "instance_id", "id")


def read_openpose(content: Content) -> list[Found] | None:
    """People of a folder (or one file) of {"people": [{"pose_keypoints_2d": [x, y, score, ...], "person_id"}]}."""
    entries = _frames_of(content)
    if not any(isinstance(entry, dict) and isinstance(entry.get("people"), list) for _, _, entry in entries):
        return None
    people, empty = [], 0
    for frame, name, entry in entries:
        file = f"{content.path / name}" if content.kind == "json_folder" else f"{content.path}"
        for n, person in enumerate(of_kind(of_kind(entry, dict, file).get("people"), list, f"{file}: people")):
            where = f"{file}: people[{n}]"
            if of_kind(person, dict, where).get("pose_keypoints_2d") == []:  # of whom hands or a face alone were seen
                empty += 1
                continue
            keypoints, scores = triples(person.get("pose_keypoints_2d", ()), where)
            people.append(Person(frame, keypoints, scores, identity_of(person, "person_id")))
    notes = [f"{empty} people without keypoints of the body are left out"] if empty else []
    return [Found("OpenPose", people, [frame for frame, _, _ in entries], notes=notes)]


def read_mmpose(content: Content) -> list[Found] | None:
    """People of MMPose's predictions: of a video, of one image, or of a folder of images."""
    names, entries = None, [(frame, entry) for frame, _, entry in _frames_of(content)]
    if content.kind == "json":
        value = content.value
        if isinstance(value, dict) and "instance_info" in value:
            names = _mmpose_names(value.get("meta_info"), f"{content.path}: meta_info")
            value = value["instance_info"]
        if not isinstance(value, list):
            return None
        if value and all(isinstance(entry, dict) and "instances" in entry for entry in value):
            where = f"{content.path}: entry"
            entries = [
                (whole_number(entry.get("frame_id", n), f"{where} {n}: frame_id"), entry["instances"])
                for n, entry in enumerate(value)
            ]
        else:
            entries = [(0, value)]
    if not all(_is_mmpose_image(instances) for _, instances in entries) or not any(i for _, i in entries):
        return None
    people = []
    for frame, instances in entries:
        for n, instance in enumerate(instances):
            where = f"{content.path}: frame {frame}, instance {n}"
            identity = identity_of(instance, *_IDS)
            people.append(person_of(frame, instance["keypoints"], instance["keypoint_scores"], identity, where))
    return [Found("MMPose predictions", people, [frame for frame, _ in entries], joint_names=names)]


def read_ultralytics(content: Content) -> list[Found] | None:
    """People of a list of `Results.to_json` (parsed or still text), one per frame, or of a single one."""
    frames = content.value if content.kind == "json" else [entry for _, _, entry in _frames_of(content)]
    numbers = [frame for frame, _, _ in _frames_of(content)] if content.kind == "json_folder" else None
    if not isinstance(frames, list) or not frames:
        return None
    if all(isinstance(entry, dict) for entry in frames):
        frames = [frames]
    if not all(isinstance(frame, list) for frame in frames):
        return None
    boxes = [box for frame in frames for box in frame]
    if not boxes or not all(isinstance(box, dict) and "box" in box for box in boxes):
        return None
    if not any("keypoints" in box for box in boxes):
        raise KeypointsError(f"{content.path}: Ultralytics boxes without keypoints; use a pose model (yolo...-pose)")
    numbers = numbers or list(range(len(frames)))
    people = [
        _ultralytics_person(number, box, f"{content.path}: frame {number}")
        for number, frame in zip(numbers, frames, strict=True)
        for box in frame
        if "keypoints" in box
    ]
    return [Found("Ultralytics results", people, numbers)]


def read_ultralytics_labels(content: Content) -> list[Found] | None:
    """People of a folder of label files: class, box, x y score of every joint in fractions, confidence, track id."""
    if content.kind != "text_folder":
        return None
    people = []
    for frame, name, text in content.value:
        for line in text.splitlines():
            if line.strip():
                people.append(_label(frame, line.split(), f"{content.path}/{name}"))
    return [Found("Ultralytics labels", people, [frame for frame, _, _ in content.value], units="fraction")]


def read_mediapipe(content: Content) -> list[Found] | None:
    """People of MediaPipe's landmarks, one result or landmark list a frame. Fractions of the image by definition."""
    entries = _frames_of(content)
    if content.kind == "json" and isinstance(content.value, dict) and isinstance(content.value.get("frames"), list):
        entries = [(n, "frames", entry) for n, entry in enumerate(content.value["frames"])]
    elif content.kind == "json" and isinstance(content.value, list) and not _is_landmarks(content.value):
        entries = [(n, f"frame {n}", entry) for n, entry in enumerate(content.value)]
    poses = [(frame, name, _landmark_lists(entry)) for frame, name, entry in entries]
    if any(found is None for _, _, found in poses) or not any(found for _, _, found in poses):
        return None
    people = [
        _mediapipe_person(frame, landmarks, f"{content.path}: {name}")
        for frame, name, found in poses
        for landmarks in found
    ]
    frames = [frame for frame, _, _ in poses]
    return [Found("MediaPipe landmarks", people, frames, joint_set="blazepose33", units="fraction")]


def _frames_of(content: Content) -> list[tuple[int, str, object]]:
    """(frame, name, content) of the files of a folder, or of the only file as frame 0."""
    if content.kind == "json_folder":
        return content.value
    return [(0, "the file", content.value)] if content.kind == "json" else [(0, "the file", None)]


def _is_mmpose_image(instances: object) -> bool:
    return isinstance(instances, list) and all(
        isinstance(i, dict) and {"keypoints", "keypoint_scores"} <= i.keys() for i in instances
    )


def _mmpose_names(meta: object, where: str) -> list[str] | None:
    """Names of joints in order, None where nothing is said about them."""
    names = None if meta is None else of_kind(meta, dict, where).get("keypoint_id2name")
    if not names:
        return None
    number = {key: whole_number(key, f"{where}: keypoint_id2name") for key in of_kind(names, dict, where)}
    return [str(names[key]) for key in sorted(names, key=number.get)]


def _ultralytics_person(frame: int, box: dict, where: str) -> Person:
    points = of_kind(box["keypoints"], dict, f"{where}: keypoints")
    x, y = (numbers_of(points.get(axis), f"{where}: {axis}") for axis in "xy")
    if x.ndim != 1 or x.shape != y.shape:
        raise KeypointsError(f"{where}: keypoints with x of shape {x.shape} and y of {y.shape}, expected (joints,)")
    return person_of(frame, np.stack([x, y], axis=-1), points.get("visible"), identity_of(box, *_IDS), where)


def _label(frame: int, words: list[str], where: str) -> Person:
    values = numbers_of(words, where)
    for extra in (0, 1, 2):
        joints, rest = divmod(len(values) - 5 - extra, 3)
        if rest == 0 and joints in {len(joint_set) for joint_set in JOINT_SETS.values()}:
            break
    else:
        raise KeypointsError(f"{where}: a line of {len(values)} numbers is no box with keypoints; use a pose model")
    points = values[5 : 5 + 3 * joints].reshape(-1, 3)
    # The track id comes last and is a whole number; a confidence has a decimal point.
    identity = words[-1] if extra and words[-1].isdigit() else None
    return Person(frame, points[:, :2], points[:, 2], identity)


def _is_landmarks(value: object) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(p, dict) and {"x", "y"} <= p.keys() for p in value)
    )


def _landmark_lists(entry: object) -> list | None:
    """Landmarks of every person of a frame, whichever wrapping they came in; None when it is none of them."""
    if entry is None or entry == []:
        return []
    if _is_landmarks(entry):
        return [entry]
    if isinstance(entry, list):
        lists = [_landmark_lists(item) for item in entry]
        return None if None in lists else [landmarks for found in lists for landmarks in found]
    if isinstance(entry, dict):
        for key in ("pose_landmarks", "poseLandmarks", "landmarks", "landmark"):
            if key in entry:
                return _landmark_lists(entry[key])
    return None


def _mediapipe_person(frame: int, landmarks: list[dict], where: str) -> Person:
    is_scored = all("visibility" in point for point in landmarks)
    scores = [point["visibility"] for point in landmarks] if is_scored else None
    return person_of(frame, [(point["x"], point["y"]) for point in landmarks], scores, None, where)
