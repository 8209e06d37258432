"""Whether the people of a take move and are built like people: what is not becomes a finding, nothing is changed."""

import numpy as np

from finepose_mp.preprocessing.findings import Findings
from finepose_mp.skeletons import COCO17

# The dataset's own filter of jumps never fires (it compares squared metres with 300), so teleports are in the data.
# 12 m/s is a sprinter's whole body, and what a wrist reaches in a hard stroke.
MAX_SPEED = 12.0
# Mid-hips of two people cannot come closer; two names on one body can.
MIN_DISTANCE_M = 0.1
# Standard deviation over mean of a limb's length. The fit holds lengths constant; 2 cm of noise in a forearm are 8 %.
MAX_LIMB_VARIATION = 0.10
# A limb this much longer or shorter than the person's median has a joint in the wrong place.
MAX_LIMB_DEVIATION = 0.30
# People's own left and right limbs differ by a few percent.
MAX_ASYMMETRY = 1.25
# Nose to mid-shoulder, trunk, thigh and shank end to end, whatever the posture: children to basketball players.
BODY_SIZE_M = (1.0, 2.1)
# The world's origin is where a pair of glasses was switched on; fitted floors lie 1.2 to 1.6 m below it.
FLOOR_M = (-3.0, 0.0)
# All seven scenes are played on one level; ankles of two people may differ while one sits or jumps all the time.
MAX_FLOOR_DIFFERENCE_M = 0.6
BELOW_FLOOR_M = 0.5
ABOVE_FLOOR_M = 4.0  # a jumping volleyball player's hand

# Limb by name: its joints on the left, mirrored for the right.
_LIMBS = {
    "upper_arm": ("left_shoulder", "left_elbow"),
    "forearm": ("left_elbow", "left_wrist"),
    "thigh": ("left_hip", "left_knee"),
    "shank": ("left_knee", "left_ankle"),
}
_ANKLES = [COCO17.index("left_ankle"), COCO17.index("right_ankle")]
_SHOULDERS = [COCO17.index("left_shoulder"), COCO17.index("right_shoulder")]
_HIPS = [COCO17.index("left_hip"), COCO17.index("right_hip")]


def check_plausibility(
    joints_3d_world: np.ndarray, frames: np.ndarray, people: list[str], fps: float, findings: Findings
) -> None:
    """Reports implausible speeds, bodies and places of joints (T, P, 17, 3), metres, z up, NaN where missing."""
    for p, person in enumerate(people):
        joints = joints_3d_world[:, p]
        if not np.isfinite(joints).any():
            continue
        _check_speed(joints, frames, person, fps, findings)
        _check_limbs(joints, frames, person, findings)
        _check_size(joints, person, findings)
        _check_upright(joints, person, findings)
    _check_overlap(joints_3d_world, frames, people, findings)
    _check_floor(joints_3d_world, frames, people, findings)


def _check_speed(joints: np.ndarray, frames: np.ndarray, person: str, fps: float, findings: Findings) -> None:
    step = np.linalg.norm(np.diff(joints, axis=0), axis=-1)
    speed = np.nan_to_num(step * fps / np.diff(frames)[:, None])
    fast = speed > MAX_SPEED
    if fast.any():
        names = [COCO17.joints[j] for j in np.flatnonzero(fast.any(axis=0))]
        findings.add(
            "plausibility.speed",
            "warning",
            f"{person} has joints faster than {MAX_SPEED:.0f} m/s, up to {speed.max():.1f} m/s: {', '.join(names)}",
            person=person,
            frames=frames[1:][fast.any(axis=1)],
            expected={"max_m_per_s": MAX_SPEED},
            found={"max_m_per_s": round(float(speed.max()), 2), "joints": names},
        )


def _limb_lengths(joints: np.ndarray) -> dict[str, np.ndarray]:
    """Lengths (T, 2) of every limb, left and right, of joints (T, 17, 3), metres."""
    lengths = {}
    for limb, ends in _LIMBS.items():
        left = [COCO17.index(end) for end in ends]
        pairs = np.array([left, [COCO17.mirror[j] for j in left]])
        lengths[limb] = np.linalg.norm(joints[:, pairs[:, 0]] - joints[:, pairs[:, 1]], axis=-1)
    return lengths


def _check_limbs(joints: np.ndarray, frames: np.ndarray, person: str, findings: Findings) -> None:
    unsteady, uneven, where = {}, {}, np.zeros(len(frames), bool)
    for limb, lengths in _limb_lengths(joints).items():
        known = [lengths[np.isfinite(lengths[:, side]), side] for side in (0, 1)]
        if not all(map(len, known)):
            continue
        medians = np.array([np.median(side) for side in known])
        variation = max(float(side.std() / max(side.mean(), 1e-9)) for side in known)
        off = np.abs(np.nan_to_num(lengths / np.maximum(medians, 1e-9), nan=1.0) - 1) > MAX_LIMB_DEVIATION
        if variation > MAX_LIMB_VARIATION or off.any():
            unsteady[limb] = round(variation, 4)
            where |= off.any(axis=1)
        ratio = float(medians.max() / max(medians.min(), 1e-9))
        if ratio > MAX_ASYMMETRY:
            uneven[limb] = round(ratio, 3)
    if unsteady:
        listed = ", ".join(f"{limb} {100 * variation:.0f} %" for limb, variation in unsteady.items())
        findings.add(
            "plausibility.limb_length",
            "warning",
            f"{person}'s limbs change their length (standard deviation over mean: {listed}); "
            f"{where.sum()} frames are {100 * MAX_LIMB_DEVIATION:.0f} % or more off the median",
            person=person,
            frames=frames[where],
            expected={"variation": MAX_LIMB_VARIATION, "deviation": MAX_LIMB_DEVIATION},
            found=unsteady,
        )
    if uneven:
        listed = ", ".join(f"{limb} {ratio:.2f}" for limb, ratio in uneven.items())
        findings.add(
            "plausibility.asymmetry",
            "warning",
            f"{person}'s left and right limbs differ by the factors {listed}",
            person=person,
            expected={"ratio": MAX_ASYMMETRY},
            found=uneven,
        )


def _check_size(joints: np.ndarray, person: str, findings: Findings) -> None:
    """The body stretched out, from its segments, so that people who crouch all the time are measured as well."""
    lengths = _limb_lengths(joints)
    shoulders, hips = joints[:, _SHOULDERS].mean(axis=1), joints[:, _HIPS].mean(axis=1)
    neck = np.linalg.norm(joints[:, COCO17.index("nose")] - shoulders, axis=-1)
    trunk = np.linalg.norm(shoulders - hips, axis=-1)
    size = neck + trunk + lengths["thigh"].mean(axis=1) + lengths["shank"].mean(axis=1)
    size = size[np.isfinite(size)]
    if not len(size):
        return
    median = float(np.median(size))
    if not BODY_SIZE_M[0] <= median <= BODY_SIZE_M[1]:
        findings.add(
            "plausibility.body_size",
            "warning",
            f"{person} would be {median:.2f} m from nose to ankles, expected {BODY_SIZE_M[0]} to {BODY_SIZE_M[1]} m: "
            "is the unit metres?",
            person=person,
            expected={"metres": list(BODY_SIZE_M)},
            found=round(median, 4),
        )


def _check_upright(joints: np.ndarray, person: str, findings: Findings) -> None:
    rise = (joints[:, _SHOULDERS, 2] - joints[:, _HIPS, 2]).mean(axis=1)
    rise = rise[np.isfinite(rise)]
    if len(rise) and np.median(rise) <= 0:
        findings.add(
            "plausibility.upright",
            "warning",
            f"{person}'s shoulders are below the hips most of the time ({np.median(rise):.2f} m): does z point up?",
            person=person,
            expected="shoulders above hips",
            found=round(float(np.median(rise)), 4),
        )


def _check_overlap(joints_3d_world: np.ndarray, frames: np.ndarray, people: list[str], findings: Findings) -> None:
    hips = joints_3d_world[:, :, _HIPS].mean(axis=2)
    for i in range(len(people)):
        for j in range(i + 1, len(people)):
            distance = np.nan_to_num(np.linalg.norm(hips[:, i] - hips[:, j], axis=-1), nan=np.inf)
            close = distance < MIN_DISTANCE_M
            if close.any():
                findings.add(
                    "plausibility.overlap",
                    "warning",
                    f"{people[i]} and {people[j]} are at one place, hips {distance.min():.3f} m apart: "
                    "two names for one body?",
                    person=people[i],
                    frames=frames[close],
                    expected={"metres": MIN_DISTANCE_M},
                    found={"metres": round(float(distance.min()), 4), "other": people[j]},
                )


def _check_floor(joints_3d_world: np.ndarray, frames: np.ndarray, people: list[str], findings: Findings) -> None:
    """The floor is where feet are when they are lowest; everybody should stand on the same one."""
    floors = {}
    for p, person in enumerate(people):
        ankles = joints_3d_world[:, p, _ANKLES, 2]
        if np.isfinite(ankles).any():
            floors[person] = float(np.nanpercentile(ankles, 5))
    if not floors:
        return
    floor = float(np.median(list(floors.values())))
    apart = max(floors.values()) - min(floors.values())
    heights = {person: round(height, 3) for person, height in floors.items()}
    agrees = apart <= MAX_FLOOR_DIFFERENCE_M and FLOOR_M[0] <= floor <= FLOOR_M[1]
    listed = ", ".join(f"{person} {height:.2f}" for person, height in heights.items())
    findings.add(
        "plausibility.floor",
        "info" if agrees else "warning",
        f"lowest ankles at z = {listed} m"
        + ("" if agrees else f"; expected one floor between {FLOOR_M[0]} and {FLOOR_M[1]} m of aria01's world"),
        expected={"metres": list(FLOOR_M), "difference": MAX_FLOOR_DIFFERENCE_M},
        found=heights,
    )
    height = joints_3d_world[..., 2] - floor
    strange = (height < -BELOW_FLOOR_M) | (height > ABOVE_FLOOR_M)  # NaN compares false
    for p, person in enumerate(people):
        if strange[:, p].any():
            low, high = float(np.nanmin(height[:, p])), float(np.nanmax(height[:, p]))
            findings.add(
                "plausibility.height",
                "warning",
                f"{person} has joints from {low:.2f} to {high:.2f} m above the floor",
                person=person,
                frames=frames[strange[:, p].any(axis=1)],
                expected={"metres": [-BELOW_FLOOR_M, ABOVE_FLOOR_M]},
                found=[round(low, 3), round(high, 3)],
            )
