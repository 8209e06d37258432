"""2D detections of a take: keypoints that a detector found, each with the true identity of its person."""

import numpy as np

from finepose_mp.preprocessing.egohumans.layouts import Batch, LayoutReader, Parts, batches_of_files
from finepose_mp.preprocessing.egohumans.people import JOINT_COUNT
from finepose_mp.preprocessing.egohumans.rig import TakeCamera, frame_blocks
from finepose_mp.preprocessing.egohumans.source import TakeReader
from finepose_mp.preprocessing.findings import Findings, count_of, report_unreadable
from finepose_mp.preprocessing.unpickling import DamagedFileError, load_npy

FOLDER = "processed_data/poses2d"

# COCO-17 alone or COCO-WholeBody, whose first 17 keypoints are COCO-17.
KEYPOINT_COUNTS = (17, 133)

# No detector answers this far outside an image: such a number has gone wrong.
FARTHEST_PX = 1e5

# Of the frames: people may be in view for a moment, far away or hidden, and never be detected.
MIN_IN_VIEW = 0.1


def parse_detections(data: bytes, name: str) -> Parts:
    """The people in one frame of one camera: (name, whether the entry is valid) and keypoints (17 or 133, 3).

    Raises:
        DamagedFileError: not a list of people with keypoints.
        UnsafeFileError: a pickle that is more than that.
    """
    array = load_npy(data, name)
    if array.dtype != object and array.size == 0:  # how an empty list of people is stored
        return []
    if array.dtype != object or array.ndim != 1:
        raise DamagedFileError(f"{name}: holds {array.dtype} {array.shape}, expected a list of people")
    return [_parse_entry(entry, name) for entry in array]


def _parse_entry(entry: object, name: str) -> tuple[tuple[str, bool], np.ndarray]:
    if not isinstance(entry, dict) or not isinstance(entry.get("human_name"), str) or "keypoints" not in entry:
        raise DamagedFileError(f"{name}: an entry without human_name and keypoints")
    keypoints = entry["keypoints"]
    if not isinstance(keypoints, np.ndarray):
        raise DamagedFileError(
            f"{name}: keypoints of {entry['human_name']} are {type(keypoints).__name__}, expected an array of numbers"
        )
    keypoints = np.asarray(keypoints)
    if keypoints.ndim != 2 or keypoints.shape[1] != 3 or len(keypoints) not in KEYPOINT_COUNTS:
        raise DamagedFileError(
            f"{name}: keypoints of {entry['human_name']} have shape {keypoints.shape}, expected (17, 3) or (133, 3)"
        )
    if keypoints.dtype.kind not in "fi":
        raise DamagedFileError(f"{name}: keypoints of {entry['human_name']} are {keypoints.dtype}, expected numbers")
    is_valid = entry.get("is_valid", True)
    if not isinstance(is_valid, bool | np.bool_ | int):
        raise DamagedFileError(f"{name}: is_valid of {entry['human_name']} is {type(is_valid).__name__}, expected bool")
    return (str(entry["human_name"]), bool(is_valid)), keypoints


_LAYOUTS = LayoutReader(parse_detections)  # of all cameras and takes


def read_detections(
    reader: TakeReader,
    camera: TakeCamera,
    frames: np.ndarray,
    people: list[str],
    findings: Findings,
) -> tuple[np.ndarray, np.ndarray]:
    """Detected joints (T, P, 17, 2) in pixels, NaN where none, and scores (T, P, 17), 0 where none, of one camera.

    Entries that stand for nobody are left out: duplicates (is_valid False) and those without any positive score. Of two
    entries for one person the one with the higher mean score is kept. The wearer of the camera has none: what the
    detector found of his own arms is not a person in view.
    """
    keypoints = np.zeros((len(frames), len(people), JOINT_COUNT, 3))
    ignored: dict[str, list[int]] = {}
    damaged: dict[int, str] = {}
    folder = detections_folder(camera)
    for files in batches_of_files(reader.frames(folder, ".npy", damaged)) if folder else ():
        batches, damage = _LAYOUTS.read(files)
        damaged |= damage
        for batch in batches:
            _take_batch(batch, keypoints, frames, people, camera.wearer, ignored)
    report_unreadable("detections.unreadable", damaged, findings, camera=camera.name)
    for person, where in ignored.items():
        if not where:
            continue
        reason = "wears the camera" if person == camera.wearer else "is no valid person of the take"
        message = f"detections of {person} in {camera.name} ignored: {person} {reason}"
        findings.add("detections.ignored", "info", message, camera=camera.name, person=person, frames=where)
    pixels, scores = np.empty((*keypoints.shape[:-1], 2), np.float32), np.empty(keypoints.shape[:-1], np.float32)
    wrong = np.zeros(len(frames), int)
    for block in frame_blocks(len(frames)):
        found = keypoints[block]
        wrong[block] = _clear_unusable(found).sum(axis=(1, 2))
        u, v, score = np.moveaxis(found, -1, 0)
        is_detected = (u != 0) | (v != 0) | (score != 0)
        pixels[block][..., 0], pixels[block][..., 1] = np.where(is_detected, (u, v), np.nan)
        scores[block] = score
    if wrong.any():
        message = (
            f"{count_of(int(wrong.sum()), 'keypoint')} in {folder} are no positions (not finite, or {FARTHEST_PX:.0f} "
            "px and more); stored as none. Get these files again, or see what wrote them"
        )
        where = frames[wrong > 0]
        findings.add(
            "detections.no_position", "error", message, camera=camera.name, frames=where, found=int(wrong.sum())
        )
    return pixels, scores


def _take_batch(
    batch: Batch,
    keypoints: np.ndarray,
    frames: np.ndarray,
    people: list[str],
    wearer: str,
    ignored: dict[str, list[int]],
) -> None:
    """Puts a batch's detections of valid people where they belong in (T, P, 17, 3), and notes the others' frames."""
    t = np.minimum(np.searchsorted(frames, batch.frames), len(frames) - 1)
    is_used = frames[t] == batch.frames
    t = t[is_used]
    by_person: dict[str, list[np.ndarray]] = {}
    for (person, is_valid), found in batch.parts:
        if is_valid:
            by_person.setdefault(person, []).append(found[is_used, :JOINT_COUNT])
    for person, entries in by_person.items():
        found = entries[0] if len(entries) == 1 else _best(entries)
        if person in people and person != wearer:
            keypoints[t, people.index(person)] = found
        else:
            stands_for_somebody = (found[..., 2] > 0).any(axis=1)
            ignored.setdefault(person, []).extend(frames[t[stands_for_somebody]].tolist())


def _best(entries: list[np.ndarray]) -> np.ndarray:
    """Of several detections (n, 17, 3) of one person, in every frame the one with the highest mean score."""
    stacked = np.stack(entries, axis=1).astype(np.float64)
    usable = stacked.copy()
    _clear_unusable(usable)
    return stacked[np.arange(len(stacked)), usable[..., 2].mean(axis=-1).argmax(axis=1)]


def _clear_unusable(keypoints: np.ndarray) -> np.ndarray:
    """Sets to zero, in (..., 17, 3), what has gone wrong as a number, and people without any positive score.

    Returns a mask (..., 17) of what has gone wrong.
    """
    u, v, score = np.moveaxis(np.abs(keypoints), -1, 0)
    wrong = ~((u < FARTHEST_PX) & (v < FARTHEST_PX) & (score < FARTHEST_PX))  # NaN compares false
    keypoints[wrong] = 0.0
    keypoints[~(keypoints[..., 2] > 0).any(axis=-1)] = 0.0
    return wrong


def detections_folder(camera: TakeCamera) -> str | None:
    """Where a camera's detections lie, or None for the tracking cameras, which never have any."""
    if camera.kind == "ego_slam":
        return None
    return f"{FOLDER}/{camera.wearer or camera.name}/rgb"


def check_anybody(
    reader: TakeReader,
    camera: TakeCamera,
    scores: np.ndarray,
    in_view: np.ndarray,
    frames: np.ndarray,
    findings: Findings,
) -> None:
    """Reports a camera with files of detections in which, by their scores (T, P, 17), there is nobody at all.

    That is a warning where people are in view, (T,), in a tenth of the frames or more. Files in which numbers have gone
    wrong, and unreadable ones, are reported already.
    """
    folder = detections_folder(camera)
    if folder is None or scores.any():
        return
    count = int(np.isin(frames, reader.frame_numbers(folder, ".npy")).sum())
    explained = {item["check"] for item in findings.items if item.get("camera") == camera.name}
    if not count or explained & {"detections.unreadable", "detections.no_position"}:
        return
    seen = int(in_view.sum())
    is_odd = seen >= MIN_IN_VIEW * len(frames)
    message = f"{camera.name}: nobody detected in {count_of(count, 'file')} of {folder}; people are in its view in "
    message += f"{seen} of {len(frames)} frames" + (": was the detector run? Get the folder again" if is_odd else "")
    findings.add("detections.nobody", "warning" if is_odd else "info", message, camera=camera.name, found=count)


def check_detections(reader: TakeReader, rig: list[TakeCamera], frames: np.ndarray, findings: Findings) -> None:
    """Reports cameras whose detections are absent altogether or for some frames."""
    absent, partial = [], {}
    for camera in rig:
        folder = detections_folder(camera)
        if folder is None:
            continue
        lacking = len(frames) - int(np.isin(frames, reader.frame_numbers(folder, ".npy")).sum())
        if lacking == len(frames):
            absent.append(camera.name)
        elif lacking:
            partial[camera.name] = lacking
    if absent:
        message = f"no 2D detections under {FOLDER} for {', '.join(absent)}"
        findings.add("detections.absent", "warning", message, found=absent)
    if partial:
        listed = ", ".join(f"{name} ({count})" for name, count in partial.items())
        message = f"frames without a file of 2D detections: {listed}"
        findings.add("detections.partial", "info", message, expected=0, found=partial)
