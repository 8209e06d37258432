"""People in cameras: masks against values and against geometry, and stored 3D against stored 2D."""

from dataclasses import dataclass, field

import numpy as np

from finepose_mp import cameras
from finepose_mp.geometry import apply_rigid
from finepose_mp.schema import MISSING, OBSERVED
from finepose_mp.validation import diagnosis
from finepose_mp.validation.take import Spread, Take

NEEDS = (
    "joints_3d_world", "joint_status", "world_to_camera", "camera_model", "camera_params", "camera_kind",
    "camera_wearer", "image_size", "joints_2d_projected", "joints_2d_detected", "detection_score", "in_view",
)  # fmt: skip

PROJECTED_PX = 0.1  # rounding to float32 of a joint nearby
ANNOTATED_PX = 3.0  # single joints that a dataset's authors edited in 2D and in 3D separately (MPI-INF-3DHP: 2.1)
DETECTED_PART = 0.013  # of the image's width: 50 px at 3840, more is a wrong camera, not a bad detector
DETECTED_PX = 15.0  # at least, for small images
RELIABLE_SCORE = 0.5
LARGEST_SCORE = 2.0  # some detectors exceed 1 a little; beyond 2 it is a percentage or no score
_BORDER_PX = 0.5  # rounding may move a joint over the border of the image
_DARK_CORNERS = 0.49  # of the longer side: round images are black beyond such a distance from the centre
FEW = 30  # joints to judge a camera by
MOST_OUTLIERS = 0.10  # of a person's frames with detections, and ...
FEW_OUTLIERS = 10  # ... so many of them
_POSE_PART = 0.15  # of a person's size in the image: nearby people may be missed by more pixels


@dataclass
class Block:
    """A camera's frames: everything stored about them, and joints projected anew. Shapes (T, P, J, ...)."""

    joints: np.ndarray  # NaN where joint_status is 0
    observed: np.ndarray
    projected: np.ndarray
    detected: np.ndarray
    score: np.ndarray
    flag: np.ndarray  # in_view as stored
    pose: np.ndarray
    params: np.ndarray
    pixels: np.ndarray = field(init=False)  # NaN beyond the lens's range

    def project(self, model: str) -> None:
        points = apply_rigid(self.joints, self.pose[:, None, None])
        self.pixels = cameras.project(points, model, self.params[:, None, None])


class View:
    """What is gathered about one camera over the blocks of a sequence."""

    def __init__(self, take: Take, k: int, model: str, kind: str, wearer: str, size: np.ndarray) -> None:
        self.take, self.k, self.model, self.kind, self.size = take, k, model, kind, size
        self.wearer = take.person.index(wearer) if wearer in take.person else None
        self.limit = max(DETECTED_PX, DETECTED_PART * float(size[0]))
        people, joints = len(take.person), len(take.joints)
        self.problems: dict[str, np.ndarray] = {}  # key -> (T, P) frames with it
        self.counts: dict[str, np.ndarray] = {}  # key -> (P,) joints with it
        self.projected, self.detected = Spread(joints), Spread(people)
        self.judged = np.zeros((len(take.frame), people), bool)  # frames with detections to compare
        self.seen = self.lost = 0  # joints in view, and those of them that the camera cannot see
        self.suspects = diagnosis.Sample(model)

    def mark(self, key: str, block: slice, wrong: np.ndarray) -> None:
        """Remembers where a problem (T, P, J) is."""
        if wrong.any():
            shape = self.judged.shape
            self.problems.setdefault(key, np.zeros(shape, bool))[block] |= wrong.any(axis=-1)
            self.counts[key] = self.counts.get(key, np.zeros(shape[1], int)) + wrong.sum(axis=(0, 2))

    def check(self, block: slice, data: Block) -> None:
        """Adds a block of frames."""
        data.project(self.model)
        self._check_masks(block, data)
        self._check_geometry(block, data)
        self._check_projected(block, data)
        self._check_detected(block, data)

    def _check_masks(self, block: slice, data: Block) -> None:
        flag, finite = data.flag == 1, _both(np.isfinite(data.projected))
        self.seen += int(flag.sum())
        self.mark("flag", block, (data.flag != 0) & (data.flag != 1))
        self.mark("in view, no pixel", block, flag & ~finite)
        self.mark("pixel, not in view", block, _either(np.isfinite(data.projected)) & ~flag)
        self.mark("in view, no position", block, flag & np.isnan(data.joints[..., 0]))
        detected, score = np.isfinite(data.detected), data.score
        self.mark("score, no pixel", block, (score > 0) & ~_both(detected))
        self.mark("half a pixel", block, _either(detected) & ~_both(detected))
        self.mark("score", block, ~(score >= 0) | (score > LARGEST_SCORE))
        self.mark("detected at zero", block, _both(data.detected == 0) & (score > RELIABLE_SCORE))
        if self.wearer is not None:
            own = np.zeros_like(flag)
            own[:, self.wearer] = flag[:, self.wearer] | finite[:, self.wearer] | (score[:, self.wearer] > 0)
            self.mark("wearer", block, own)

    def _check_geometry(self, block: slice, data: Block) -> None:
        pixels, flag = data.pixels, data.flag == 1
        if self.wearer is not None:
            flag[:, self.wearer] = False
        known = np.isfinite(data.joints[..., 0])
        with np.errstate(invalid="ignore"):
            near = _both((pixels > -_BORDER_PX) & (pixels < self.size + _BORDER_PX))
            well_inside = _both((pixels > _BORDER_PX) & (pixels < self.size - _BORDER_PX))
        unseen = flag & known & ~near
        unseen[unseen] = ~self._at_the_edge(data, unseen)
        self.mark("in view, cannot be", block, unseen)
        if self.kind != "exo":
            centre = np.stack(cameras.lens_model(self.model).terms(data.params[:, None, None]).centre, axis=-1)
            well_inside &= _length(pixels - centre) < _DARK_CORNERS * self.size.max()
        if self.wearer is not None:
            well_inside[:, self.wearer] = False
        self.mark("not in view, must be", block, well_inside & ~flag)

    def _at_the_edge(self, data: Block, unseen: np.ndarray) -> np.ndarray:
        """Whether joints that the lens does not see are only beyond its range by rounding."""
        frame = np.nonzero(unseen)[0]
        points = apply_rigid(data.joints[unseen], data.pose[frame])
        points[:, :2] *= 1 - 1e-4
        pixels = cameras.project(points, self.model, data.params[frame])
        with np.errstate(invalid="ignore"):
            return _both((pixels > -_BORDER_PX) & (pixels < self.size + _BORDER_PX))

    def _check_projected(self, block: slice, data: Block) -> None:
        with np.errstate(invalid="ignore"):
            outside = (data.projected < -_BORDER_PX) | (data.projected > self.size + _BORDER_PX)
        self.mark("pixel outside", block, _either(outside))
        usable = _both(np.isfinite(data.projected)) & _both(np.isfinite(data.pixels))
        error = _length(data.projected - data.pixels)
        joint = np.broadcast_to(np.arange(error.shape[2]), error.shape)
        self.projected.add(error[usable], joint[usable])
        lost = _both(np.isfinite(data.projected)) & np.isfinite(data.joints[..., 0]) & np.isnan(data.pixels[..., 0])
        self.lost += int(lost.sum())
        wrong = usable & (error > ANNOTATED_PX) | lost
        self.mark("projected", block, wrong)
        self.suspects.add("projected", data, wrong, data.projected)

    def _check_detected(self, block: slice, data: Block) -> None:
        with np.errstate(invalid="ignore"):
            far = (data.detected < -self.size) | (data.detected > 2 * self.size)
        self.mark("detected outside", block, _either(far))
        usable = (data.score > RELIABLE_SCORE) & data.observed & _both(np.isfinite(data.detected))
        usable &= _both(np.isfinite(data.pixels))
        error = _length(data.detected - data.pixels)
        person = np.broadcast_to(np.arange(error.shape[1])[:, None], error.shape)
        self.detected.add(error[usable], person[usable])
        # A pose is off when most of its joints are: single ones may be, detectors err.
        judged = usable.sum(axis=-1) >= 3
        limit = np.maximum(self.limit, _POSE_PART * _size(data.pixels, usable))
        off = judged & ((usable & (error > limit[..., None])).sum(axis=-1) * 2 > usable.sum(axis=-1))
        self.judged[block] = judged
        self.mark("detected", block, off[..., None] & usable)
        self.suspects.add("detected", data, off[..., None] & usable, data.detected)


# Written out: reductions along an axis of two are several times slower.


def _both(mask: np.ndarray) -> np.ndarray:
    return mask[..., 0] & mask[..., 1]


def _either(mask: np.ndarray) -> np.ndarray:
    return mask[..., 0] | mask[..., 1]


def _length(pixels: np.ndarray) -> np.ndarray:
    return np.hypot(pixels[..., 0], pixels[..., 1])


def _size(pixels: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Longer side (T, P) of the box around the usable joints of (T, P, J, 2), 0 without any."""
    low = np.where(usable[..., None], pixels, np.inf).min(axis=2)
    high = np.where(usable[..., None], pixels, -np.inf).max(axis=2)
    return np.maximum((high - low).max(axis=-1), 0)


def check_views(take: Take) -> list[View]:
    """Findings about every variable of pixels; what was measured of every camera."""
    models, kinds, wearers = (take.texts(f"camera_{what}") for what in ("model", "kind", "wearer"))
    sizes = take.read("image_size", ...)
    views = [
        View(take, k, models[k], kinds[k], wearers[k], sizes[k])
        for k in range(len(take.camera))
        if models[k] in cameras.MODELS
    ]
    for block in take.blocks():
        joints = take.read("joints_3d_world", block).astype(np.float64)
        status = take.read("joint_status", block)
        joints[(status == MISSING) | ~np.isfinite(joints).all(axis=-1)] = np.nan
        for view in views:
            view.check(block, _read(take, view.k, block, joints, status == OBSERVED))
    return views


def _read(take: Take, k: int, block: slice, joints: np.ndarray, observed: np.ndarray) -> Block:
    return Block(
        joints=joints,
        observed=observed,
        projected=take.read("joints_2d_projected", k, block).astype(np.float64),
        detected=take.read("joints_2d_detected", k, block).astype(np.float64),
        score=take.read("detection_score", k, block),
        flag=take.read("in_view", k, block),
        pose=take.read("world_to_camera", k, block).astype(np.float64),
        params=take.read("camera_params", k, block).astype(np.float64),
    )
