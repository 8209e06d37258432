"""2D detections of a take: keypoints that a detector found, each with the true identity of its person."""

import numpy as np

from finepose_mp.preprocessing.egohumans.findings import Findings
from finepose_mp.preprocessing.egohumans.people import JOINT_COUNT
from finepose_mp.preprocessing.egohumans.rig import TakeCamera
from finepose_mp.preprocessing.egohumans.source import TakeReader
from finepose_mp.preprocessing.unpickling import DamagedFileError, load_npy

FOLDER = "processed_data/poses2d"

# COCO-17 alone or COCO-WholeBody, whose first 17 keypoints are COCO-17.
KEYPOINT_COUNTS = (17, 133)

# No detector answers this far outside an image: such a number has gone wrong.
FARTHEST_PX = 1e5


def parse_detections(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Person -> (17, 3) u, v in pixels of the stored image and score, of one frame of one camera.

    Entries that stand for nobody are left out: duplicates (is_valid False) and those without any positive score. Of two
    entries for one person the one with the higher mean score is kept.

    Raises:
        DamagedFileError: not a list of people with keypoints.
        UnsafeFileError: a pickle that is more than that.
    """
    array = load_npy(data, name)
    if array.dtype != object and array.size == 0:  # how an empty list of people is stored
        return {}
    if array.dtype != object or array.ndim != 1:
        raise DamagedFileError(f"{name}: holds {array.dtype} {array.shape}, expected a list of people")
    found: dict[str, np.ndarray] = {}
    for entry in array:
        person, keypoints = _parse_entry(entry, name)
        if not entry.get("is_valid", True) or not (keypoints[:, 2] > 0).any():
            continue
        if person not in found or keypoints[:, 2].mean() > found[person][:, 2].mean():
            found[person] = keypoints
    return found


def _parse_entry(entry: object, name: str) -> tuple[str, np.ndarray]:
    if not isinstance(entry, dict) or not isinstance(entry.get("human_name"), str) or "keypoints" not in entry:
        raise DamagedFileError(f"{name}: an entry without human_name and keypoints")
    keypoints = np.asarray(entry["keypoints"])
    if keypoints.ndim != 2 or keypoints.shape[1] != 3 or len(keypoints) not in KEYPOINT_COUNTS:
        raise DamagedFileError(
            f"{name}: keypoints of {entry['human_name']} have shape {keypoints.shape}, expected (17, 3) or (133, 3)"
        )
    if keypoints.dtype.kind not in "fi":
        raise DamagedFileError(f"{name}: keypoints of {entry['human_name']} are {keypoints.dtype}, expected numbers")
    keypoints = keypoints[:JOINT_COUNT].astype(np.float64)
    keypoints[~(np.abs(keypoints) < FARTHEST_PX).all(axis=1)] = 0.0  # NaN compares false
    return entry["human_name"], keypoints


def read_detections(
    reader: TakeReader, camera: TakeCamera, frames: np.ndarray, people: list[str], findings: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """Detected joints (T, P, 17, 2) in pixels, NaN where none, and scores (T, P, 17), 0 where none, of one camera.

    The wearer of the camera has none: what the detector found of his own arms is not a person in view.
    """
    pixels = np.full((len(frames), len(people), JOINT_COUNT, 2), np.nan, np.float32)
    scores = np.zeros((len(frames), len(people), JOINT_COUNT), np.float32)
    folder = detections_folder(camera)
    if folder is None:
        return pixels, scores
    found = reader.parse_frames(folder, ".npy", parse_detections, "detections", findings)
    others: dict[str, list[int]] = {}
    for t, frame in enumerate(frames):
        for person, keypoints in found.get(int(frame), {}).items():
            if person not in people or person == camera.wearer:
                others.setdefault(person, []).append(int(frame))
                continue
            is_detected = keypoints.any(axis=1)
            pixels[t, people.index(person)] = np.where(is_detected[:, None], keypoints[:, :2], np.nan)
            scores[t, people.index(person)] = keypoints[:, 2]
    for person, where in others.items():
        reason = "wears the camera" if person == camera.wearer else "is no valid person of the take"
        message = f"detections of {person} in {camera.name} ignored: {person} {reason}"
        findings.add("detections", "info", message, camera=camera.name, person=person, frames=where)
    return pixels, scores


def detections_folder(camera: TakeCamera) -> str | None:
    """Where a camera's detections lie, or None for the tracking cameras, which never have any."""
    if camera.kind == "ego_slam":
        return None
    return f"{FOLDER}/{camera.wearer or camera.name}/rgb"


def check_detections(reader: TakeReader, rig: list[TakeCamera], frames: np.ndarray, findings: Findings) -> None:
    """Reports cameras whose detections are absent altogether or for some frames."""
    absent, partial = [], []
    for camera in rig:
        folder = detections_folder(camera)
        if folder is None:
            continue
        numbers = set(reader.frame_numbers(folder, ".npy"))
        lacking = sum(int(frame) not in numbers for frame in frames)
        if lacking == len(frames):
            absent.append(camera.name)
        elif lacking:
            partial.append(f"{camera.name} ({lacking})")
    if absent:
        findings.add("detections", "warning", f"no 2D detections under {FOLDER} for {', '.join(absent)}")
    if partial:
        findings.add("detections", "info", f"frames without a file of 2D detections: {', '.join(partial)}")
