"""Projection of all joints at once, as the conversion does it, beside the same formula point by point in Python."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from finepose_mp import schema
from finepose_mp.cameras import Camera
from finepose_mp.lenses import Terms, lens_model
from finepose_mp.preprocessing.egohumans.rig import at_frames, frame_blocks

_POINTS = 20_000  # projected one by one; of all joints that is enough to know what one costs
_REPEATS = 5


def projection_ratio(path: Path) -> float:
    """How many times as long a point takes alone, in plain Python numbers, in the first sequence of a converted file.

    Cameras of every kind take part alike. What is compared are the seconds of the formula itself: no file is read and
    no mask is made, and poses and parameters are there as Python numbers before the clock starts.

    Raises:
        ValueError: both did not give the same pixels, or there are none.
    """
    with schema.open_file(path) as file:
        sequence = schema.read_sequence(file, schema.sequence_names(file)[0])
    together = alone = 0.0
    for k in range(len(sequence.camera)):
        # Like the conversion: of a fixed camera there is one lens and one pose.
        fixed = slice(None) if sequence.camera_is_moving[k] else 0
        params, world_to_camera = sequence.camera_params[k][fixed], sequence.world_to_camera[k][fixed]
        camera = Camera(sequence.camera_model[k], params, sequence.image_size[k], world_to_camera)
        seconds, pixels = _best(lambda camera=camera: _project_together(camera, sequence.joints_3d_world))
        seen = np.argwhere(np.isfinite(pixels[..., 0]))[: _POINTS // len(sequence.camera)]
        if len(seen):
            together += seconds / pixels[..., 0].size
            alone += _seconds_alone(sequence, k, pixels, seen)
    if not together:
        raise ValueError(f"{path}: nobody is in view of any camera of {sequence.name}")
    return alone / together


def _best(call: Callable[[], Any]) -> tuple[float, Any]:
    """The least seconds of several calls, which is when nothing else disturbed, and what the last one gave."""
    seconds = math.inf
    for _ in range(_REPEATS):
        started = time.thread_time()
        found = call()
        seconds = min(seconds, time.thread_time() - started)
    return seconds, found


def _project_together(camera: Camera, joints_3d_world: np.ndarray) -> np.ndarray:
    pixels = np.empty((*joints_3d_world.shape[:-1], 2))
    for block in frame_blocks(len(joints_3d_world)):
        lens = at_frames(camera, block)
        pixels[block] = lens.project(lens.to_camera(joints_3d_world[block]))
    return pixels


def _seconds_alone(sequence: schema.Sequence, k: int, pixels: np.ndarray, seen: np.ndarray) -> float:
    """Seconds a point, of the joints at the indices seen (n, 3); compares what it gives with their pixels."""
    lens = lens_model(sequence.camera_model[k])
    points = [sequence.joints_3d_world[tuple(index)].astype(float).tolist() for index in seen]
    poses = [sequence.world_to_camera[k, t].tolist() for t in seen[:, 0]]
    terms = [_numbers(lens.terms(sequence.camera_params[k, t])) for t in seen[:, 0]]
    inputs = list(zip(points, poses, terms, strict=True))
    seconds, found = _best(lambda: [_project_one(*each, lens.fisheye, lens.tangential_factor) for each in inputs])
    if not np.allclose(found, pixels[tuple(seen.T)], atol=1e-6):
        raise ValueError(f"{lens.name}: point by point gives other pixels than all at once")
    return seconds / len(seen)


def _numbers(terms: Terms) -> Terms:
    return Terms(*(tuple(float(value) for value in role) for role in terms))


def _project_one(
    point: list[float], pose: list[list[float]], terms: Terms, fisheye: bool, m: float
) -> tuple[float, float]:
    """The formula of `finepose_mp.lenses` for one point in the world."""
    x, y, z = (row[0] * point[0] + row[1] * point[1] + row[2] * point[2] + row[3] for row in pose)
    x, y = x / z, y / z
    radius = math.hypot(x, y)
    t = math.atan(radius) if fisheye else radius
    gain = 0.0
    for k in reversed(terms.radial):
        gain = (gain + k) * t * t
    gain = (1 + gain) * (t / radius if radius > 0 else 1.0)
    wx, wy = x * gain, y * gain
    if fisheye:
        x, y = wx, wy
    rho2 = x * x + y * y
    if terms.tangential:
        px, py = terms.tangential
        wx += px * rho2 + m * (px * x + py * y) * x
        wy += py * rho2 + m * (px * x + py * y) * y
    if terms.prism:
        s0, s1, s2, s3 = terms.prism
        wx += rho2 * (s0 + s1 * rho2)
        wy += rho2 * (s2 + s3 * rho2)
    return terms.focal[0] * wx + terms.centre[0], terms.focal[1] * wy + terms.centre[1]
