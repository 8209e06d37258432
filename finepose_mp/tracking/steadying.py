"""Keypoints of a moving camera as a camera at rest would see them, so that only people move.

With known poses, keypoints become directions in the world: exact under rotation, which is what shakes a head-worn
image. Without poses, the shift that most people share from frame to frame is taken for the camera's.
"""

from dataclasses import dataclass

import numpy as np

from finepose_mp.cameras import Camera, unproject
from finepose_mp.geometry import ray_directions
from finepose_mp.tracking.detections import Detections

_TOLERANCE = 0.25  # of a person's size: how far people may stray from the shared shift and still count for it
_BLIND_DRIFT = 1.0  # of the image's width a second: how far an unseen camera may turn while nobody is in view
_SEEN_DRIFT = 0.02  # the same, while people tell how the camera moves


@dataclass(frozen=True, eq=False)
class Steadied:
    """Positions (N, J, D) of keypoints in a frame of reference at rest: pixels (D = 2) or unit directions (D = 3).

    `drift` (T,) is the accumulated variance of that frame's own position, in squared units: between frames a and b the
    standard deviation of a position at rest is sqrt(drift[b] - drift[a]) along each axis. `extent` is how wide the
    image is in the same units.
    """

    positions: np.ndarray
    drift: np.ndarray
    extent: float


def at_rest(detections: Detections) -> Steadied:
    """The pixels themselves: the camera does not move."""
    return Steadied(detections.keypoints, np.zeros(detections.frame_count), float(detections.image_size[0]))


def by_poses(detections: Detections, camera: Camera) -> Steadied:
    """Directions in the world of the keypoints, by the camera's lens and its pose in every frame.

    Args:
        camera: with `params` (n,) or (T, n) and `world_to_camera` (3, 4) or (T, 3, 4).

    Raises:
        ValueError: a camera without pose, or whose number of frames is not that of the detections.
    """
    if camera.world_to_camera is None:
        raise ValueError("steadying by poses needs a camera with `world_to_camera`; without, steady by keypoints")
    params = _of_people(camera.params, 1, detections)
    rotation = _of_people(camera.world_to_camera, 2, detections)[..., :3]
    rays = unproject(detections.keypoints, camera.model, params[:, None])
    directions = np.einsum("nij,nki->nkj", rotation, ray_directions(rays))
    focal = float(np.median(params[:, 0])) if len(params) else 1.0
    return Steadied(directions, np.zeros(detections.frame_count), detections.image_size[0] / focal)


def by_keypoints(detections: Detections, min_score: float) -> Steadied:
    """Pixels minus the camera's shift since the first frame, estimated from the people in view.

    From frame to frame, every pairing of a person before with a person now proposes a shift; the one under which most
    people of alike shape fall onto each other wins, and is refined by the median of those who follow it. Where nobody
    is in view the camera is taken to rest, and `drift` says how little that means.
    """
    width, time = float(detections.image_size[0]), detections.time
    usable = detections.usable(min_score)
    starts = np.searchsorted(detections.frame_index, np.arange(detections.frame_count + 1))
    shift, drift = np.zeros((detections.frame_count, 2)), np.zeros(detections.frame_count)
    velocity = np.zeros(2)
    for t in range(1, detections.frame_count):
        before, now = slice(starts[t - 1], starts[t]), slice(starts[t], starts[t + 1])
        step = time[t] - time[t - 1]
        change = _shared_shift(detections.keypoints, usable, before, now, velocity * step)
        drift[t] = drift[t - 1] + ((_BLIND_DRIFT if change is None else _SEEN_DRIFT) * width) ** 2 * step
        velocity = velocity * 0 if change is None else change / step
        shift[t] = shift[t - 1] + velocity * step
    return Steadied(detections.keypoints - shift[detections.frame_index][:, None], drift, width)


def _of_people(array: np.ndarray, item_ndim: int, detections: Detections) -> np.ndarray:
    """One item of `array` (item) or (T, item) for each of the N people."""
    if array.ndim == item_ndim:
        return np.broadcast_to(array, (len(detections.frame_index), *array.shape))
    if len(array) != detections.frame_count:
        raise ValueError(f"a camera of {len(array)} frames meets detections of {detections.frame_count} frames")
    return array[detections.frame_index]


def _shared_shift(
    keypoints: np.ndarray, usable: np.ndarray, before: slice, now: slice, expected: np.ndarray
) -> np.ndarray | None:
    """Shift (2,) in pixels that most people share between two frames, None where no two people can be compared."""
    both = usable[before, None] & usable[None, now]
    comparable = both.sum(axis=-1) >= 3
    if not comparable.any():
        return None
    moved = np.where(both[..., None], keypoints[None, now] - keypoints[before, None], np.nan)
    moved = np.where(comparable[..., None, None], moved, 0.0)
    typical = np.nanmedian(moved, axis=2)  # (n, m, 2)
    size = _sizes(keypoints[before], usable[before])[:, None]
    unlike = np.nanmean(((moved - typical[:, :, None]) ** 2).sum(-1), axis=-1) / (_TOLERANCE * size) ** 2
    shape = np.where(comparable, 1 / (1 + unlike), 0.0)
    proposals = np.concatenate([typical[comparable], expected[None]])
    stray = ((typical[None] - proposals[:, None, None]) ** 2).sum(-1) / (_TOLERANCE * size) ** 2
    votes = shape / (1 + stray)
    # Everybody before votes once, and so does everybody now: two people cannot both become the same one.
    agreement = np.minimum(votes.max(axis=2).sum(axis=1), votes.max(axis=1).sum(axis=1))
    surprise = np.linalg.norm(proposals - expected, axis=-1) / (np.median(size) * 20)
    best = votes[np.argmax(agreement - surprise)]
    followers = (best == best.max(axis=1, keepdims=True)) & (best == best.max(axis=0)) & (best > 0.3)
    return np.median(typical[followers], axis=0) if followers.any() else None


def _sizes(keypoints: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Root mean square distance (n,) of usable keypoints from their mean, at least 1 pixel."""
    count = np.maximum(usable.sum(axis=-1), 1)[..., None]
    points = np.where(usable[..., None], keypoints, 0.0)
    centred = np.where(usable[..., None], keypoints - (points.sum(axis=1) / count)[:, None], 0.0)
    return np.maximum(np.sqrt((centred**2).sum(axis=(1, 2)) / count[:, 0]), 1.0)
