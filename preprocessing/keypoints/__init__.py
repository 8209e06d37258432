"""People's own 2D keypoints, read from the formats that detectors and data sets write."""

from finepose_mp.preprocessing.keypoints.assembly import DEFAULT_FPS, UNITS, ReadingOptions
from finepose_mp.preprocessing.keypoints.found import KeypointsError
from finepose_mp.preprocessing.keypoints.reading import FORMATS, check_same_rate, read_keypoints

__all__ = [
    "DEFAULT_FPS",
    "FORMATS",
    "UNITS",
    "KeypointsError",
    "ReadingOptions",
    "check_same_rate",
    "read_keypoints",
]
