"""The cameras of a sequence: poses that are rigid, lenses that make sense, and places near the people they film."""

from dataclasses import dataclass

import numpy as np

from finepose_mp.cameras import MODELS
from finepose_mp.geometry import invert_rigid
from finepose_mp.lenses import max_angle
from finepose_mp.validation.findings import ERROR, INFO, WARNING
from finepose_mp.validation.take import TRUTH, Spread, Take

ORTHONORMAL_TOLERANCE = 1e-6  # beyond it R^T is not its inverse to the precision of a pixel
HEAD_SPEED_MPS = 12.0  # a camera on a head is no faster than its wearer
HEAD_DISTANCE_M = 0.5  # from the wearer's face to the camera on it
FARTHEST_M = 200.0  # from a camera to the people it films
SMALLEST_ANGLE = np.radians(5)  # half the field of view of a long telephoto lens
FOCAL_LENGTHS = (0.1, 20.0)  # of the image's longer side
_STILL = 1e-9  # metres or radians: rounding


@dataclass
class _Track:
    """What is gathered about one camera over the blocks; masks (T,)."""

    broken: np.ndarray  # pose not finite
    skewed: np.ndarray  # rotation block not a rotation
    jumps: np.ndarray
    mirrored: int = 0
    worst: float = 0.0
    scale: float = 1.0
    fastest: float = 0.0
    moved: float = 0.0
    first: np.ndarray | None = None
    last_centre: np.ndarray | None = None


def check_poses(take: Take) -> None:
    """Findings about `world_to_camera` and `camera_is_moving`, camera by camera."""
    moving = take.read("camera_is_moving", ...) if take.has("camera_is_moving") else np.ones(len(take.camera))
    centres, alone = np.full((len(take.camera), 3), np.nan), []
    for k, camera in enumerate(take.camera):
        track = _Track(*np.zeros((3, len(take.frame)), bool))
        distance, head = Spread(1), Spread(1)
        nose = _wearer_nose(take, k)
        for block in take.blocks():
            pose = take.read("world_to_camera", k, block)
            _look_at(track, pose, take, block)
            if take.has(take.poses, "joint_status"):
                _measure(take, block, pose, nose, distance, head)
        _report_poses(take, camera, track, bool(moving[k]))
        if track.first is not None:
            centres[k] = invert_rigid(track.first)[:, 3]
        if not distance.total()[0]:
            alone.append(k)
        elif take.is_metric:
            _report_places(take, camera, distance, head)
    _report_apart(take, centres, alone)
    if not np.isin(moving, (0, 1)).all():
        take.notes.add("camera_is_moving", ERROR, "a flag that is neither 0 nor 1", variable="camera_is_moving")


def _look_at(track: _Track, pose: np.ndarray, take: Take, block: slice) -> None:
    finite = np.isfinite(pose).all(axis=(1, 2))
    track.broken[block] = ~finite
    rotation = np.where(finite[:, None, None], pose[:, :, :3], np.eye(3))
    error = np.abs(rotation @ rotation.swapaxes(-1, -2) - np.eye(3)).max(axis=(1, 2))
    determinant = np.linalg.det(rotation)
    wrong = (error > ORTHONORMAL_TOLERANCE) | (determinant < 0)
    track.skewed[block] = wrong
    track.mirrored += int((determinant < 0).sum())
    if error.max() > track.worst:
        track.worst, track.scale = float(error.max()), float(np.cbrt(np.abs(determinant[error.argmax()])))
    if track.first is None and finite.any():
        track.first = pose[finite.argmax()]
    if track.first is not None and finite.any():
        track.moved = max(track.moved, float(np.abs(pose[finite] - track.first).max()))
    centre = np.where(finite[:, None], invert_rigid(pose)[..., 3], np.nan)
    before = centre[:1] if track.last_centre is None else track.last_centre[None]
    numbers = take.frame[max(block.start - 1, 0) : block.stop]
    numbers = numbers if block.start else np.concatenate([numbers[:1] - 1, numbers])
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.linalg.norm(np.diff(np.concatenate([before, centre]), axis=0), axis=-1)
        speed = step * take.attributes.get("fps", np.nan) / np.diff(numbers)
    fast = speed > HEAD_SPEED_MPS
    track.jumps[block] = fast
    track.fastest = max(track.fastest, float(speed[fast].max(initial=0)))
    track.last_centre = centre[-1]


def _wearer_nose(take: Take, k: int) -> tuple[int, int] | None:
    """Person and joint that are where the camera is worn, None for a fixed camera."""
    wearer = take.texts("camera_wearer")[k] if take.has("camera_wearer") else ""
    joint = next((name for name in ("nose", "head") if name in take.joints.joints), None)
    return (take.person.index(wearer), take.joints.index(joint)) if joint and wearer in take.person else None


def _measure(
    take: Take, block: slice, pose: np.ndarray, nose: tuple[int, int] | None, distance: Spread, head: Spread
) -> None:
    """Adds distances from the camera to everybody's root, and to its wearer's face."""
    joints = take.positions(block)
    centre = invert_rigid(pose)[:, None, :, 3]
    to_root = np.linalg.norm(take.joints.root(joints) - centre, axis=-1)
    distance.add(to_root[np.isfinite(to_root)], 0)
    if nose is not None and take.poses == TRUTH:
        to_face = np.linalg.norm(joints[:, nose[0], nose[1]] - centre[:, 0], axis=-1)
        head.add(to_face[np.isfinite(to_face)], 0)


def _report_poses(take: Take, camera: str, track: _Track, is_moving: bool) -> None:
    here, add = {"variable": "world_to_camera", "camera": camera}, take.notes.add
    if track.broken.all() and "prediction" in take.group.attrs:
        add("cameras", INFO, "its pose is not known: the prediction places nobody by it", **here)
    elif track.broken.any():
        found = f"{track.broken.sum()} frames with NaN or infinity"
        add("cameras", ERROR, "no pose", "finite numbers in every frame", found, at=track.broken, **here)
    if track.skewed.any():
        severity, message = ERROR, "the 3x3 block is no rotation"
        found = f"up to {track.worst:.2g} from orthonormal"
        if track.mirrored:
            message += ": a reflection, an axis points the wrong way"
            found = f"determinant -1 in {track.mirrored} frames"
        elif abs(track.scale - 1) > 1e-3:
            message += f": a scale of {track.scale:.4g} was not divided out of it"
        expected = f"orthonormal to {ORTHONORMAL_TOLERANCE:g}, determinant +1"
        add("rotation", severity, message, expected, found, at=track.skewed, **here)
        return
    if not is_moving and track.moved > _STILL:
        found = f"numbers that change by up to {track.moved:.3g}"
        add("cameras", ERROR, "moves, though camera_is_moving is 0", "one pose in all frames", found, **here)
    if is_moving and track.moved <= _STILL and len(take.frame) > 20:
        add("cameras", INFO, "never moves, though camera_is_moving is 1", **here)
    if is_moving and take.is_metric and track.jumps.any():
        expected, found = f"below {HEAD_SPEED_MPS:g} m/s", f"up to {track.fastest:.1f} m/s"
        add("speed", WARNING, "the camera jumps from the frame before", expected, found, at=track.jumps, **here)


def _report_places(take: Take, camera: str, distance: Spread, head: Spread) -> None:
    here = {"variable": "world_to_camera", "camera": camera}
    median, face = distance.quantile(0.5)[0], head.quantile(0.5)[0]
    if median > FARTHEST_M:
        message, expected = "far from everybody: a translation in millimetres?", f"metres, within {FARTHEST_M:g} m"
        is_certain = take.poses == TRUTH or median > 10 * FARTHEST_M  # keypoints of tiny people are predicted far away
        take.notes.add("units", ERROR if is_certain else take.doubt, message, expected, f"median {median:.4g}", **here)
    elif face > HEAD_DISTANCE_M:
        message = "worn by somebody whose face is elsewhere: another world, another person, or another unit"
        expected = f"within {HEAD_DISTANCE_M:g} m of its wearer's face"
        take.notes.add("wearer", ERROR, message, expected, f"median {face:.3g} m", **here)


def _report_apart(take: Take, centres: np.ndarray, alone: list[int]) -> None:
    """Cameras that film nobody whose place is known are at least near the other cameras; centres (K, 3)."""
    for k in alone:
        others = np.linalg.norm(np.delete(centres, k, axis=0) - centres[k], axis=-1)
        others = others[np.isfinite(others)]
        if len(others) and np.median(others) > 2 * FARTHEST_M:
            message, expected = (
                "far from the other cameras: a translation in millimetres?",
                f"metres, within {2 * FARTHEST_M:g} m",
            )
            here = {"variable": "world_to_camera", "camera": take.camera[k]}
            take.notes.add("units", ERROR, message, expected, f"median {np.median(others):.4g}", **here)


def check_lenses(take: Take) -> None:
    """Findings about `camera_params`, camera by camera."""
    models, sizes = take.texts("camera_model"), take.read("image_size", ...)
    for k, camera in enumerate(take.camera):
        if models[k] not in MODELS:
            continue
        count = len(MODELS[models[k]].parameter_names)
        broken, beyond, odd = np.zeros((3, len(take.frame)), bool)
        example = ""
        for block in take.blocks():
            params = take.read("camera_params", k, block)
            broken[block] = ~np.isfinite(params[:, :count]).all(axis=1)
            beyond[block] = np.isfinite(params[:, count:]).any(axis=1)
            problem = _lens_problem(models[k], params, sizes[k])
            odd[block] = problem != ""
            example = example or next(filter(None, problem.tolist()), "")
        here = {"variable": "camera_params", "camera": camera}
        names = " ".join(MODELS[models[k]].parameter_names)
        if broken.any():
            expected = f"{names}, all finite"
            take.notes.add("lens", ERROR, f"no lens of model {models[k]}", expected, "NaN", at=broken, **here)
        if beyond.any():
            expected = f"{count} numbers ({names}), NaN behind them"
            take.notes.add("lens", WARNING, f"more numbers than {models[k]} has", expected, at=beyond, **here)
        if (odd & ~broken).any():
            expected = "focal length and centre in pixels of the stored image"
            take.notes.add("lens", WARNING, "implausible lens", expected, example, at=odd & ~broken, **here)


def _lens_problem(model: str, params: np.ndarray, size: np.ndarray) -> np.ndarray:
    """What is odd about lenses (T, 15), in words (T,); empty where nothing is."""
    terms = MODELS[model].terms(params)
    problem = np.full(len(params), "", dtype=object)
    side = float(size.max())
    for focal in terms.focal:
        wrong = (focal < FOCAL_LENGTHS[0] * side) | (focal > FOCAL_LENGTHS[1] * side)
        problem[wrong] = [f"focal length {f:.4g} where the image is {int(side)} px" for f in focal[wrong]]
    for centre, length in zip(terms.centre, size, strict=True):
        wrong = (centre < -0.5 * length) | (centre > 1.5 * length)
        problem[wrong] = [f"centre at {c:.4g} of {length} px" for c in centre[wrong]]
    angle = max_angle(model, params)
    narrow = angle < SMALLEST_ANGLE
    problem[narrow] = [f"a lens that folds back at {np.degrees(a):.2g} degrees" for a in angle[narrow]]
    return problem
