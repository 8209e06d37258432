"""2D keypoints of everybody in a video, by an installed detector (the extra `detect`: rtmlib, which brings OpenCV)."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from finepose_mp.preprocessing.keypoints.assembly import ReadingOptions, assemble
from finepose_mp.preprocessing.keypoints.found import Found, KeypointsError, Person
from finepose_mp.tracking import Detections

# Keypoints (P, 17, 2) in pixels and scores (P, 17) of everybody in an image (height, width, 3), BGR.
Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def detect_people(path: Path, options: ReadingOptions | None = None, detector: Detector | None = None) -> Detections:
    """Everybody in every frame of a video, COCO's 17 joints, not associated over time.

    Args:
        path: of a video that OpenCV decodes.
        options: what the user knows better than the file.
        detector: of one image; None: RTMPose's balanced model, whose weights are fetched on first use.

    Raises:
        FileNotFoundError: there is no such file.
        KeypointsError: the detector is not installed, or the video does not decode.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video")
    video = _imported("cv2")
    name = "the given detector" if detector else "RTMPose (rtmlib, balanced)"
    detector = detector or _rtmpose()
    capture = video.VideoCapture(str(path))
    try:
        people, frames, size, rate = [], 0, (0, 0), capture.get(video.CAP_PROP_FPS)
        expected = int(capture.get(video.CAP_PROP_FRAME_COUNT))
        for frame, image in enumerate(_images(capture)):
            keypoints, scores = detector(image)
            people += [Person(frame, *pose) for pose in zip(keypoints, scores, strict=True)]
            frames, size = frame + 1, (image.shape[1], image.shape[0])
    finally:
        capture.release()
    if not frames:
        raise KeypointsError(
            f"{path}: OpenCV decodes not a single frame of it; it is damaged, no video, or of a codec that this build "
            "of OpenCV lacks. Convert it, for example with `ffmpeg -i IN -c:v libx264 OUT.mp4`"
        )
    notes = [f"2D keypoints by {name}"]
    if frames < expected:
        notes.append(f"{frames} of {expected} frames decode: the video ends there or is damaged")
    found = Found(
        format="video",
        people=people,
        frames=list(range(frames)),
        camera=path.stem,
        joint_set="coco17",
        image_size=size,
        fps=rate if rate > 0 else None,
        units="px",
        notes=notes,
    )
    return assemble(found, options or ReadingOptions(), str(path))


def _images(capture: object) -> Iterator[np.ndarray]:
    is_there, image = capture.read()
    while is_there:
        yield image
        is_there, image = capture.read()


def _rtmpose() -> Detector:
    body = _imported("rtmlib").Body(mode="balanced", backend="onnxruntime", device="cpu")

    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes = body.det_model(image)
        # Without a box RTMPose would take the whole image for a person.
        return body.pose_model(image, bboxes=boxes) if len(boxes) else (np.empty((0, 17, 2)), np.empty((0, 17)))

    return detect


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise KeypointsError(
            f"reading a video takes a 2D keypoint detector, which is not installed ({error}): "
            "`pip install finepose_mp[detect]`, or run a detector of your own and pass its keypoints"
        ) from error
