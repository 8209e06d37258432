"""Made-up people in 2D, for tests of formats: two people in three frames of an image of 640 x 480."""

import json
from pathlib import Path

import numpy as np

IMAGE_SIZE = (640, 480)
FRAMES = range(3)
NAMES = ("aria01", "aria03")

_RANDOM = np.random.default_rng(5)
POSES = _RANDOM.uniform([100, 100], [400, 400], (1, 2, 17, 2)) + np.arange(3)[:, None, None, None] * 2.0
SCORES = _RANDOM.uniform(0.5, 0.99, (3, 2, 17))


def write_json(path: Path, content: object) -> Path:
    """The path of a file with the content as JSON."""
    path.write_text(json.dumps(content))
    return path
