"""Reads people's own 2D keypoints, whichever of the known formats they are in."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from finepose_mp.preprocessing.keypoints import arrays, coco, json_people, tables
from finepose_mp.preprocessing.keypoints.assembly import ReadingOptions, assemble
from finepose_mp.preprocessing.keypoints.content import Content, read_content
from finepose_mp.preprocessing.keypoints.found import Found, KeypointsError, form_checked
from finepose_mp.tracking import Detections

# In the order in which they are asked; each takes what has its form and leaves the rest.
_READERS: tuple[Callable[[Content], list[Found] | None], ...] = (
    coco.read_results,
    coco.read_dataset,
    json_people.read_openpose,
    json_people.read_mmpose,
    json_people.read_ultralytics,
    json_people.read_ultralytics_labels,
    arrays.read_frame_lists,
    json_people.read_mediapipe,
    arrays.read_videopose3d,
    arrays.read_arrays,
    tables.read_csv,
)

FORMATS = (
    "COCO keypoint results, COCO or COCO-video data sets and the EgoHumans benchmark (person_keypoints), OpenPose "
    "folders, AlphaPose results, MMPose and RTMLib predictions, MediaPipe landmarks, Ultralytics results and labels, "
    "VideoPose3D custom data sets, NumPy arrays, CSV, HDF5 of this toolkit"
)


def read_keypoints(path: Path, options: ReadingOptions | None = None) -> list[Detections]:
    """Detections of every camera that a file or folder of 2D keypoints holds, at least one.

    The format is recognised by content. What the file leaves open and was assumed is in each one's `assumptions`.

    Args:
        path: a file, or a folder with one file a frame.
        options: what the user knows better than the file.

    Raises:
        FileNotFoundError: there is no such file.
        KeypointsError: no known format, or keypoints that cannot be used as they are; the message says what to do.
        SchemaError: an HDF5 file that is none of this toolkit's.
    """
    options, source = options or ReadingOptions(), str(path)
    with form_checked(source, KeypointsError, "docs/KEYPOINTS.md"):
        found = _find(read_content(Path(path)), options, source)
    seen = [camera for camera in found if camera.people]
    unseen = [camera.camera for camera in found if not camera.people]
    detections = [assemble(camera, options, source) for camera in seen or found]
    if unseen:
        note = f"nobody was found in {len(unseen)} other cameras: {', '.join(unseen[:5])}"
        detections = [replace(camera, assumptions=(*camera.assumptions, note)) for camera in detections]
    return detections


def check_same_rate(detections: list[Detections]) -> None:
    """Nothing when all cameras have one frame rate. Raises KeypointsError naming those that differ."""
    rates = {camera.fps for camera in detections}
    if len(rates) > 1:
        said = ", ".join(f"{camera.camera} {camera.fps:g}" for camera in detections)
        raise KeypointsError(
            f"cameras of one scene need one frame rate, found {said} frames a second; resample the keypoints, or pass "
            "--fps if a file does not know its own"
        )


def _find(content: Content, options: ReadingOptions, source: str) -> list[Found]:
    found = tables.read_contract(content, options.sequence)
    for reader in _READERS:
        if found is not None:
            break
        found = reader(content)
    if found is None:
        raise KeypointsError(f"{source}: {_describe(content)} is none of the known formats: {FORMATS}")
    if not found:
        raise KeypointsError(f"{source}: holds no images and nobody in them")
    return found


def _describe(content: Content) -> str:
    value = content.value
    if content.kind == "json_folder":
        _, name, first = value[0]
        return f"a folder of {len(value)} files, the first, {name}, {_describe(Content(content.path, 'json', first))},"
    if isinstance(value, dict):
        return f"{content.kind} with {', '.join(sorted(map(str, value))[:6]) or 'nothing in it'}"
    if isinstance(value, list):
        return f"{content.kind}, a list of {len(value)}" + (f" {type(value[0]).__name__}" if value else "")
    return f"{content.kind} that starts with {str(value).lstrip()[:40]!r}"
