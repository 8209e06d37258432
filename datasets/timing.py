"""Frames of a take at another rate than it was recorded at: which recorded frames are read, and none that were not.

A take read at a lower rate keeps every n-th frame where n is a whole number (50 Hz at 25 Hz: every second). Otherwise
each instant is the recorded frame closest in time: 30 Hz at 25 Hz reads frames 0, 1, 2, 4, 5, ..., so that a pose is up
to half a recorded frame early or late. Nothing is interpolated: 2D, 3D and masks of a frame are those of one recorded
frame. A higher rate than recorded is refused, as its frames would have to be made up.
"""

import math

import numpy as np

SAME_RATE = 0.01  # relative difference: 29.97 Hz counts as 30


def frames_per_step(recorded: float, wanted: float | None) -> float:
    """How many recorded frames one read frame stands for, 1 where all are read.

    Args:
        recorded: rate of the take in Hz. wanted: rate to read it at; None: as recorded.

    Raises:
        ValueError: the take was recorded at a lower rate; the message says both.
    """
    if wanted is None:
        return 1.0
    step = recorded / wanted
    whole = max(1, round(step))
    if abs(step - whole) <= SAME_RATE * whole:
        return float(whole)
    if step < 1:
        raise ValueError(
            f"recorded at {recorded:g} Hz, asked for {wanted:g} Hz: frames would have to be made up; choose "
            f"data.frame_rate {recorded:g} or less (tools/evaluate.py: --frame-rate {recorded:g})"
        )
    return step


def length_at(length: int, step: float) -> int:
    """Frames that a take of `length` recorded frames has when read `step` frames apart."""
    return math.ceil((length - 0.5) / step)


def recorded_frames(start: int, stop: int, step: float) -> np.ndarray:
    """Positions (stop - start,) in the recording of the frames start..stop that are read `step` frames apart."""
    return np.floor(np.arange(start, stop) * step + 0.5).astype(np.int64)


def is_same_rate(one: float, other: float) -> bool:
    """Whether two rates in Hz are the same up to how they are written down."""
    return abs(one - other) <= SAME_RATE * max(one, other)
