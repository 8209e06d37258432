"""People's own 2D keypoints, read from the formats that detectors and data sets write, and recordings made of them."""

from finepose_mp.preprocessing.keypoints.assembly import DEFAULT_FPS, UNITS, ReadingOptions
from finepose_mp.preprocessing.keypoints.camera_files import CameraFileError, read_cameras
from finepose_mp.preprocessing.keypoints.found import KeypointsError
from finepose_mp.preprocessing.keypoints.reading import FORMATS, check_same_rate, read_keypoints
from finepose_mp.preprocessing.keypoints.recording import Recording, RecordingOptions, read_recording

__all__ = [
    "DEFAULT_FPS",
    "FORMATS",
    "UNITS",
    "CameraFileError",
    "KeypointsError",
    "ReadingOptions",
    "Recording",
    "RecordingOptions",
    "check_same_rate",
    "read_cameras",
    "read_keypoints",
    "read_recording",
]
