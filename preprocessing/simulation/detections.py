"""What a 2D keypoint detector would find in the images of simulated people, and what can be triangulated from it."""

from dataclasses import dataclass, fields

import numpy as np

from finepose_mp.cameras import Camera
from finepose_mp.preprocessing.simulation.motion import smooth_noise
from finepose_mp.skeletons import COCO17

MIN_JOINTS = 5  # in view for a person to be found at all
RELIABLE_SCORE = 0.5  # what the dataset's authors asked of a joint to triangulate it

# How much harder a joint is than the average one: faces are sharp, hips hide under clothes, wrists move.
_DIFFICULTY = np.array([0.6, 0.6, 0.6, 0.7, 0.7, 0.9, 0.9, 1.0, 1.0, 1.25, 1.25, 1.3, 1.3, 1.05, 1.05, 1.15, 1.15])
_TAIL_FREEDOM = 4.0  # degrees of freedom of Student's t


@dataclass(frozen=True)
class NoiseModel:
    """How detections and calibrations depart from the truth. Sizes are the longer side of a person's box in the image.

    * Position: Student's t with 4 degrees of freedom (heavy tails), half of the variance slow (0.4 s), half from frame
      to frame; scale in pixels `hypot(relative * size, floor_px)` times a factor of the joint (0.6 face ... 1.3 hips).
      Small or far people therefore suffer more, relative to their size.
    * `dropped`: part of joints that are guessed (`dropped_spread` of the size away) with a score below 0.3, in runs of
      about 4 frames; joints out of view are guessed as well, at the image's border.
    * `hidden`: somebody else's trunk in front of a joint multiplies its error by this and lowers its score.
    * `swapped`: part of frames in which left and right are exchanged, for the arms and for the legs, runs of 3 frames.
    * `missed`: part of frames without any detection of a person, plus `exp(-size / missed_size_px)` for small people,
      in runs of 5 frames; a part of them, `dummies`, has an entry of zeros. `rejected`: part of detections that were
      taken for duplicates of another person.
    * Scores fall with the error: 0.97 exp(-8 error / size) plus noise of `score_noise`.
    * Triangulation: `triangulation_m` over the root of the number of views; joints with too few views, and `gaps` of
      all joints (runs of 6 frames), are missing.
    * Registered poses of a fixed camera scatter by `colmap_m` and `colmap_degrees`, hand-made ones by `manual_m` and
      `manual_degrees`.
    """

    relative: float = 0.009
    floor_px: float = 2.0
    dropped: float = 0.015
    dropped_spread: float = 0.08
    hidden: float = 2.5
    swapped: float = 0.006
    missed: float = 0.012
    missed_size_px: float = 45.0
    dummies: float = 0.3
    rejected: float = 0.004
    score_noise: float = 0.04
    triangulation_m: float = 0.012
    gaps: float = 0.012
    colmap_m: float = 0.003
    colmap_degrees: float = 0.03
    manual_m: float = 0.015
    manual_degrees: float = 0.15

    @classmethod
    def none(cls) -> "NoiseModel":
        """Everything exact, everybody in view found."""
        return cls(**({field.name: 0.0 for field in fields(cls)} | {"hidden": 1.0}))


@dataclass(frozen=True)
class Detections:
    """What was found in T images of one camera: pixels (T, P, 17, 2), scores (T, P, 17), boxes (T, P, 4) x1 y1 x2 y2.

    found (T, P) says whether there is a detection. Of those that are not found, rejected (T, P) ones were taken for
    duplicates of another person, and dummy (T, P) ones have an entry without keypoints.
    """

    pixels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    found: np.ndarray
    rejected: np.ndarray
    dummy: np.ndarray


def detect(
    joints_3d_world: np.ndarray,
    camera: Camera,
    wearer: int | None,
    noise: NoiseModel,
    rng: np.random.Generator,
    image_circle: float | None = None,
) -> Detections:
    """The detector's answer for the people (T, P, 17, 3) of a scene in one camera; the wearer is not among them.

    Args:
        joints_3d_world: metres, in the camera's world.
        camera: still, or with one pose and lens a frame.
        wearer: index of the person who wears the camera, or None.
        noise: how far answers are from the truth.
        image_circle: radius in pixels of the visible disc, where the image's corners are black.
    """
    points = camera.to_camera(joints_3d_world)
    true_pixels, in_view = camera.project(points), camera.in_view(points, image_circle)
    visible = in_view.sum(axis=-1) >= MIN_JOINTS
    if wearer is not None:
        visible[:, wearer] = False
    size = _sizes(true_pixels, in_view)
    pixels, error_scale = _displaced(true_pixels, size, _hidden(points), noise, rng)
    pixels, guessed = _guessed(pixels, true_pixels, in_view, size, camera, noise, rng)
    pixels, swapped = _swapped(pixels, noise, rng)
    error = np.linalg.norm(pixels - np.where(np.isfinite(true_pixels), true_pixels, pixels), axis=-1)
    unsure = np.where(swapped, 0.6, 1.0) * np.where(error_scale > 1, 0.75, 1.0)
    scores = 0.97 * np.exp(-8 * np.where(swapped, 0.01, error / size[..., None])) * unsure
    scores = scores + noise.score_noise * rng.standard_normal(scores.shape)
    scores = np.where(guessed, rng.uniform(0.02, 0.29, scores.shape), scores)
    missed = _runs(rng, visible.shape, np.clip(noise.missed + _smallness(size, noise), 0, 1), 5)
    rejected = visible & ~missed & (rng.random(visible.shape) < noise.rejected)
    return Detections(
        pixels=pixels,
        scores=np.clip(scores, 0.01, 0.99),
        boxes=_boxes(pixels, camera.image_size),
        found=visible & ~missed & ~rejected,
        rejected=rejected,
        dummy=visible & missed & (rng.random(visible.shape) < noise.dummies),
    )


def triangulate(
    joints_3d_world: np.ndarray,
    exo: list[Detections],
    ego: list[Detections],
    min_views: int,
    noise: NoiseModel,
    rng: np.random.Generator,
) -> np.ndarray:
    """Raw triangulations (T, P, 17, 4) of x, y, z and flag; rows of joints seen too little are all zero.

    A joint needs `min_views` fixed cameras with a score above 0.5, or three cameras of any kind.
    """

    def views(cameras: list[Detections]) -> np.ndarray:
        none = np.zeros(joints_3d_world.shape[:-1], int)
        return sum((c.found[..., None] & (c.scores > RELIABLE_SCORE) for c in cameras), none)

    exo_views = views(exo)
    all_views = exo_views + views(ego)
    gap = _runs(rng, exo_views.shape, noise.gaps, 6)
    gap |= _runs(rng, exo_views.shape[:2], 0.1 * noise.gaps, 4)[..., None]
    seen = ((exo_views >= min_views) | (all_views >= 3)) & ~gap
    spread = noise.triangulation_m / np.sqrt(np.maximum(all_views, 1))
    points = joints_3d_world + spread[..., None] * rng.standard_normal(joints_3d_world.shape)
    return np.where(seen[..., None], np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1), 0.0)


def _sizes(pixels: np.ndarray, in_view: np.ndarray) -> np.ndarray:
    """Longer side (T, P) in pixels of the box around the joints in view, at least 1."""
    low = np.where(in_view[..., None], pixels, np.inf).min(axis=2)
    high = np.where(in_view[..., None], pixels, -np.inf).max(axis=2)
    return np.maximum(np.where(in_view.any(axis=2), (high - low).max(axis=-1), 1.0), 1.0)


def _smallness(size: np.ndarray, noise: NoiseModel) -> np.ndarray:
    return np.exp(-size / noise.missed_size_px) if noise.missed_size_px else np.zeros_like(size)


def _hidden(points: np.ndarray) -> np.ndarray:
    """Whether joints (T, P, 17) are behind somebody else's trunk: seen along a line within 16 cm of the spine."""
    hidden = np.zeros(points.shape[:-1], bool)
    hips, shoulders = points[:, :, [11, 12]].mean(axis=2), points[:, :, [5, 6]].mean(axis=2)
    for other in range(points.shape[1]):
        for part in np.linspace(0, 1, 5):
            spot = (hips[:, other] + part * (shoulders[:, other] - hips[:, other]))[:, None, None]
            along = (points * spot).sum(-1) / np.maximum((points**2).sum(-1), 1e-9)
            miss = np.linalg.norm(spot - along[..., None] * points, axis=-1)
            blocked = (miss < 0.16) & (along > 0) & (along < 0.9)
            blocked[:, other] = False
            hidden |= blocked
    return hidden


def _displaced(
    pixels: np.ndarray, size: np.ndarray, hidden: np.ndarray, noise: NoiseModel, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (T, P, 17, 2) with position noise, and the factor (T, P, 17) by which hiding enlarged it."""
    factor = np.where(hidden, noise.hidden, 1.0)
    scale = np.hypot(noise.relative * size, noise.floor_px)[..., None] * _DIFFICULTY * factor
    slow, fast = smooth_noise(rng, pixels.shape, 0.4), rng.standard_normal(pixels.shape)
    tails = np.sqrt(_TAIL_FREEDOM / rng.chisquare(_TAIL_FREEDOM, pixels.shape[:-1]))
    return pixels + (scale * tails)[..., None] * (slow + fast) / np.sqrt(2), factor


def _guessed(
    pixels: np.ndarray,
    true_pixels: np.ndarray,
    in_view: np.ndarray,
    size: np.ndarray,
    camera: Camera,
    noise: NoiseModel,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels with dropped joints far off and joints out of view at the border, and which (T, P, 17) they are."""
    dropped = _runs(rng, in_view.shape, noise.dropped, 4)
    astray = noise.dropped_spread * size[..., None, None] * rng.standard_normal(pixels.shape)
    pixels = pixels + np.where(dropped[..., None], astray, 0)
    known = np.where(in_view[..., None], true_pixels, 0).sum(axis=2) / np.maximum(in_view.sum(axis=2), 1)[..., None]
    pixels = np.where(np.isfinite(pixels), pixels, known[:, :, None])
    limits = np.array(camera.image_size) - 1.0
    return np.where(in_view[..., None], pixels, np.clip(pixels, 0, limits)), dropped | ~in_view


def _swapped(pixels: np.ndarray, noise: NoiseModel, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixels with left and right limbs exchanged in some frames, and which joints (T, P, 17) that touched."""
    swapped = np.zeros(pixels.shape[:-1], bool)
    for limbs in (slice(5, 11), slice(11, 17)):
        swapped[..., limbs] = _runs(rng, pixels.shape[:2], noise.swapped, 3)[..., None]
    return np.where(swapped[..., None], pixels[..., list(COCO17.mirror), :], pixels), swapped


def _boxes(pixels: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Boxes (T, P, 4) x1 y1 x2 y2 a little larger than the keypoints, inside the image, whole pixels."""
    low, high = pixels.min(axis=2), pixels.max(axis=2)
    margin = 0.1 * (high - low)
    limits = np.array(image_size) - 1.0
    return np.round(np.concatenate([np.clip(low - margin, 0, limits), np.clip(high + margin, 0, limits)], axis=-1))


def _runs(rng: np.random.Generator, shape: tuple[int, ...], part: float | np.ndarray, length: int) -> np.ndarray:
    """True along axis 0 in runs of `length` frames that together cover `part` of the frames (where that is small)."""
    begun = rng.random((shape[0] + length - 1, *shape[1:]))
    chance = np.broadcast_to(part, shape) / length
    chance = np.concatenate([np.repeat(chance[:1], length - 1, axis=0), chance])
    begun = begun < chance
    return np.any([begun[i : i + shape[0]] for i in range(length)], axis=0)
