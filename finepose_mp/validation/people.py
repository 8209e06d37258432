"""The 3D poses of a sequence: masks, units, limbs, speeds, and people who are one and the same.

Two passes over the frames: the first collects what is usual for each person, the second finds the frames that are not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from finepose_mp.schema import INTERPOLATED, MISSING, OBSERVED
from finepose_mp.skeletons import JointSet
from finepose_mp.validation.findings import ERROR, INFO, WARNING
from finepose_mp.validation.take import PREDICTION, TRUTH, Spread, Take

# Bones that do not bend, by name, so that they are the same in every joint set.
_LIMBS = (
    *(f"{side}_{a} {side}_{b}" for side in ("left", "right") for a, b in (("shoulder", "elbow"), ("elbow", "wrist"))),
    *(f"{side}_{a} {side}_{b}" for side in ("left", "right") for a, b in (("hip", "knee"), ("knee", "ankle"))),
)
LIMB_LENGTHS_M = (0.10, 0.75)  # of a small child's forearm, and of a very tall man's thigh
LIMB_TOLERANCE = 0.30  # of its usual length, and ...
LIMB_TOLERANCE_M = 0.10  # ... in metres: a frame's limb is wrong where it departs by both
ASYMMETRY = 0.30  # of left and right

BODY_EXTENT_M = (0.4, 3.0)  # largest distance of two joints of one person, crouching or reaching up
ROOT_SPEED_MPS = 12.0  # faster than the fastest sprinter
JOINT_SPEED_MPS = 30.0  # faster than a tennis serve's wrist
SAME_PLACE_M = 0.05
_SAME_PLACE_FRAMES = 5
_UNITS = (("millimetres", 1000.0), ("centimetres", 100.0), ("inches", 39.37))


@dataclass
class _Usual:
    """What the first pass collects, by person."""

    extent: Spread
    limbs: dict[str, Spread]
    at_origin: np.ndarray  # (J,) poses of which a joint is exactly at the origin
    up: np.ndarray = field(default_factory=lambda: np.zeros(3))  # sum of unit vectors from feet to shoulders
    with_pose: int = 0  # poses, over all frames and people


def limb_pairs(joints: JointSet) -> dict[str, tuple[int, int]]:
    """Name -> (joint, joint) of the limbs that a joint set has."""
    pairs = {name: tuple(name.split()) for name in _LIMBS}
    return {
        f"{a} to {b}".replace("_", " "): (joints.index(a), joints.index(b))
        for a, b in pairs.values()
        if a in joints.joints and b in joints.joints
    }


def check_people(take: Take) -> None:
    """Findings about `joints_3d_world` and `joint_status`; about the prediction where nobody has a true pose."""
    masks = _Masks(take)
    usual = _first_pass(take, masks.check)
    masks.report()
    if not usual.with_pose:
        take.notes.add("poses", INFO, "nobody has a 3D pose in any frame", variable=TRUTH)
        if take.has(PREDICTION):
            take.poses = PREDICTION
            usual = _first_pass(take, take.positions)
    metric = [_check_units(take, usual, p, person) for p, person in enumerate(take.person)]
    take.is_metric = any(metric) or not usual.with_pose
    _check_origin(take, usual)
    if not usual.with_pose:
        return
    _check_up(take, usual)
    for p, person in enumerate(take.person):
        if metric[p]:
            _check_usual_limbs(take, usual, p, person)
    _second_pass(take, usual, np.array(metric, bool))


def _first_pass(take: Take, read: Callable[[slice], np.ndarray]) -> _Usual:
    """What is usual among the joints (T, P, J, 3), NaN where missing, that `read` gives of every block."""
    pairs, persons = limb_pairs(take.joints), len(take.person)
    at_origin = np.zeros(len(take.joints), np.int64)
    usual = _Usual(Spread(persons), {name: Spread(persons) for name in pairs}, at_origin)
    for block in take.blocks():
        joints = read(block)
        known = np.isfinite(joints[..., 0])
        usual.with_pose += int(known.any(axis=-1).sum())
        usual.at_origin += ((joints == 0).all(axis=-1) & known).sum(axis=(0, 1))
        extent = _extent(joints, known)
        _add(usual.extent, extent)
        for name, (a, b) in pairs.items():
            _add(usual.limbs[name], _distance(joints, a, b))
        usual.up += _upward(take.joints, joints)
    return usual


class _Masks:
    """Whether `joint_status` and the positions agree, gathered block by block."""

    _PROBLEMS = (
        ("is no number, though joint_status calls it usable", "finite where joint_status is 1 or 2"),
        ("has a position, though joint_status calls it missing", "NaN where joint_status is 0"),
        ("has a status that does not exist", f"{MISSING}, {OBSERVED} or {INTERPOLATED}"),
        ("is exactly 0 0 0, which is how some formats write a missing joint", "NaN and joint_status 0 where missing"),
    )

    def __init__(self, take: Take) -> None:
        self.take = take
        self.at = np.zeros((len(self._PROBLEMS), len(take.frame), len(take.person)), bool)
        self.counts = np.zeros((len(self._PROBLEMS), len(take.person)), np.int64)
        self.positions = np.zeros(len(take.person), np.int64)

    def check(self, block: slice) -> np.ndarray:
        """Joints (T, P, J, 3), NaN where not usable."""
        joints = self.take.read(TRUTH, block).astype(np.float64)
        status = self.take.read("joint_status", block)
        finite = np.isfinite(joints)
        known, some = finite.all(axis=-1), finite.any(axis=-1)
        usable = status != MISSING
        zero = known & usable & (joints == 0).all(axis=-1)
        self.positions += (known & usable).sum(axis=(0, 2))
        for i, wrong in enumerate((usable & ~known, some & ~usable, status > INTERPOLATED, zero)):
            self.at[i, block] = wrong.any(axis=-1)
            self.counts[i] += wrong.sum(axis=(0, 2))
        return np.where((known & usable)[..., None], joints, np.nan)

    def report(self) -> None:
        for i, (problem, expected) in enumerate(self._PROBLEMS):
            variable = "joint_status" if i in (1, 2) else TRUTH
            for p in np.flatnonzero(self.counts[i]):
                if i == 3 and self.counts[i, p] > 0.9 * self.positions[p] / len(self.take.joints):
                    continue  # a joint that is always there: root-relative poses, see _check_origin
                self.take.notes.add(
                    "masks",
                    WARNING if i == 3 else ERROR,
                    f"a joint {problem}",
                    expected,
                    f"{self.counts[i, p]} joints",
                    variable=variable,
                    person=self.take.person[p],
                    at=self.at[i, :, p],
                )


def _check_origin(take: Take, usual: _Usual) -> None:
    """Poses relative to their root are no positions in a world, and no camera can see them."""
    fixed = usual.at_origin > 0.9 * max(usual.with_pose, 1)
    if usual.with_pose > 10 and fixed.any():
        name = take.joints.joints[int(np.argmax(fixed))]
        take.notes.add(
            "coordinate_frame",
            ERROR,
            f"{name} is at the origin in nearly all frames: these look like root-relative poses",
            "positions in the world of the cameras",
            "positions relative to a joint",
            variable=take.poses,
        )


def _check_units(take: Take, usual: _Usual, p: int, person: str) -> bool:
    """Whether a person has the size of a person in metres."""
    extent = usual.extent.quantile(0.5)[p]
    low, high = BODY_EXTENT_M
    if np.isnan(extent) or low <= extent <= high:
        return bool(np.isfinite(extent))
    unit = next((f": these look like {name}" for name, k in _UNITS if 0.8 <= extent / k <= 2.2), "")
    take.notes.add(
        "units",
        ERROR if unit or take.poses == TRUTH else take.doubt,
        f"people are not that large{unit}",
        f"metres, a body that extends over {low} to {high} m",
        f"{extent:.4g}",
        variable=take.poses,
        person=person,
    )
    return False


def _check_up(take: Take, usual: _Usual) -> None:
    """Heads are above feet along `world_up` most of the time; otherwise another axis points up."""
    stated = take.attributes.get("world_up")
    length = np.linalg.norm(usual.up)
    if stated is None or not length:
        return
    direction = usual.up / length
    axis = int(np.argmax(np.abs(direction)))
    best = "+-"[int(direction[axis] < 0)] + "xyz"[axis]
    along = direction["xyz".index(stated[1])] * (-1 if stated[0] == "-" else 1)
    if along < 0.5 and abs(direction[axis]) > 0.8:
        take.notes.add(
            "world_up",
            WARNING,
            f"heads are above feet along {best}, on average",
            f"along world_up {stated}",
            f"along {direction.round(2).tolist()}",
            variable=take.poses,
        )


def _check_usual_limbs(take: Take, usual: _Usual, p: int, person: str) -> None:
    here = {"variable": take.poses, "person": person}
    lengths = {name: float(spread.quantile(0.5)[p]) for name, spread in usual.limbs.items()}
    for name, length in lengths.items():
        low, high = LIMB_LENGTHS_M
        if not np.isnan(length) and not low <= length <= high:
            expected = f"{low} to {high} m"
            take.notes.add("limbs", take.doubt, f"{name} has no human length", expected, f"{length:.3f} m", **here)
    for name, length in lengths.items():
        if name.startswith("left"):
            other = lengths.get(name.replace("left", "right"), np.nan)
            if abs(length - other) > max(ASYMMETRY * max(length, other), 0.05):
                limb, found = name.replace("left ", ""), f"left {length:.3f} m, right {other:.3f} m"
                expected = f"lengths within {ASYMMETRY:.0%}"
                take.notes.add("limbs", take.doubt, f"{limb}: the two sides differ", expected, found, **here)


def _second_pass(take: Take, usual: _Usual, metric: np.ndarray) -> None:
    """Frames whose limbs or speeds are impossible, and people in the same place."""
    shape = (len(take.frame), len(take.person))
    limbs, fast, same = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros((*shape, shape[1]), bool)
    worst_limb, worst_speed = np.zeros(shape[1]), np.zeros(shape[1])
    medians = {name: spread.quantile(0.5) for name, spread in usual.limbs.items()}
    pairs, before = limb_pairs(take.joints), None
    for block in take.blocks():
        joints = take.positions(block)
        joints[:, ~metric] = np.nan
        for name, (a, b) in pairs.items():
            off = np.abs(_distance(joints, a, b) - medians[name])
            wrong = (off > LIMB_TOLERANCE * medians[name]) & (off > LIMB_TOLERANCE_M)
            limbs[block] |= wrong
            worst_limb = np.fmax(worst_limb, _highest(off, wrong))
        speed, too_fast = _speeds(take, joints, before, block)
        fast[block] = too_fast
        worst_speed = np.fmax(worst_speed, _highest(speed, too_fast))
        root = take.joints.root(joints)
        same[block] = np.linalg.norm(root[:, :, None] - root[:, None], axis=-1) < SAME_PLACE_M
        before = joints[-1]
    for p, person in enumerate(take.person):
        here = {"variable": take.poses, "person": person}
        if limbs[:, p].any():
            expected = f"limbs within {LIMB_TOLERANCE:.0%} of their median over the sequence"
            found = f"up to {100 * worst_limb[p]:.0f} cm off"
            message = "limbs change their length"
            take.notes.add("limbs", take.doubt, message, expected, found, at=limbs[:, p], **here)
        if fast[:, p].any():
            expected = f"below {ROOT_SPEED_MPS:g} m/s for a body, {JOINT_SPEED_MPS:g} m/s for a joint"
            message, found = "jumps from the frame before", f"up to {worst_speed[p]:.1f} m/s"
            take.notes.add("speed", take.doubt, message, expected, found, at=fast[:, p], **here)
        for q in range(p):
            if same[:, p, q].sum() >= _SAME_PLACE_FRAMES:
                message = f"stands in the same place as {take.person[q]}: one person twice?"
                expected = f"roots at least {100 * SAME_PLACE_M:.0f} cm apart"
                take.notes.add("identity", take.doubt, message, expected, at=same[:, p, q], **here)


def _speeds(take: Take, joints: np.ndarray, before: np.ndarray | None, block: slice) -> tuple[np.ndarray, np.ndarray]:
    """Fastest joint's speed (T, P) since the frame before, and whether the body or a joint is too fast."""
    first = block.start if before is None else block.start - 1
    path = joints if before is None else np.concatenate([before[None], joints])
    seconds = np.diff(take.frame[first : block.stop]) / take.attributes.get("fps", np.nan)
    seconds = np.where(seconds > 0, seconds, np.nan)[:, None]
    speed = np.linalg.norm(np.diff(path, axis=0), axis=-1) / seconds[..., None]
    highest = np.fmax.reduce(speed, axis=-1)
    body = np.linalg.norm(np.diff(take.joints.root(path), axis=0), axis=-1) / seconds
    too_fast = (highest > JOINT_SPEED_MPS) | (body > ROOT_SPEED_MPS)
    if before is None:
        none = np.zeros((1, joints.shape[1]))
        highest, too_fast = np.concatenate([none, highest]), np.concatenate([none > 0, too_fast])
    return highest, too_fast


def _upward(joint_set: JointSet, joints: np.ndarray) -> np.ndarray:
    """Sum (3,) over people and frames of the unit vectors from the ankles to the shoulders."""
    low = joints[:, :, [joint_set.index("left_ankle"), joint_set.index("right_ankle")]].mean(axis=2)
    high = joints[:, :, [joint_set.index("left_shoulder"), joint_set.index("right_shoulder")]].mean(axis=2)
    up = high - low
    length = np.linalg.norm(up, axis=-1, keepdims=True)
    return np.nansum(np.where(length > 0, up / np.where(length > 0, length, 1), 0), axis=(0, 1))


def _distance(joints: np.ndarray, a: int, b: int) -> np.ndarray:
    return np.linalg.norm(joints[:, :, a] - joints[:, :, b], axis=-1)


def _extent(joints: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Diagonal (T, P) of the box around a person's joints, NaN where fewer than half of them are known."""
    low = np.where(known[..., None], joints, np.inf).min(axis=2)
    high = np.where(known[..., None], joints, -np.inf).max(axis=2)
    enough = known.sum(axis=-1) > known.shape[-1] / 2
    return np.linalg.norm(np.where(enough[..., None], high, np.nan) - np.where(enough[..., None], low, np.nan), axis=-1)


def _add(spread: Spread, values: np.ndarray) -> None:
    """Adds the finite values (T, P), one kind a person."""
    person = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    finite = np.isfinite(values)
    spread.add(values[finite], person[finite])


def _highest(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Largest value (P,) among those of (T, P) where a mask holds; 0 where it never does."""
    return np.where(where & np.isfinite(values), values, 0.0).max(axis=0, initial=0.0)
