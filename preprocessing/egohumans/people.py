"""3D ground truth of a take: fitted poses, and what of them was really observed.

`fit_poses3d` has every joint of every frame because its authors interpolated the gaps; only `poses3d`, the raw
triangulation, tells which joints were seen. Both are in metres in aria01's world, joints in COCO order.
"""

import numpy as np

from finepose_mp.preprocessing.egohumans.findings import Findings
from finepose_mp.preprocessing.egohumans.source import TakeReader
from finepose_mp.preprocessing.unpickling import DamagedFileError, load_npy
from finepose_mp.schema import INTERPOLATED, MISSING, OBSERVED

FIT_FOLDER = "processed_data/fit_poses3d"
TRIANGULATED_FOLDER = "processed_data/poses3d"
JOINT_COUNT = 17

# No take leaves a sports hall: a coordinate beyond this is a number gone wrong, not a position.
FARTHEST_M = 1000.0

# A frame's poses: person -> (17, 4) x, y, z in metres and a flag that is 1 where there is a position.
Poses = dict[str, np.ndarray]


def parse_poses(data: bytes, name: str) -> Poses:
    """Person -> (17, 4) float64 of one frame's pose file.

    Raises:
        DamagedFileError: not a dictionary of such arrays.
        UnsafeFileError: a pickle that is more than that.
    """
    array = load_npy(data, name)
    content = array.item() if array.shape == () else None
    if not isinstance(content, dict):
        raise DamagedFileError(f"{name}: holds {array.dtype} {array.shape}, expected one dictionary of people")
    poses = {}
    for person, value in content.items():
        pose = np.asarray(value)
        if not isinstance(person, str) or pose.shape != (JOINT_COUNT, 4) or pose.dtype.kind not in "fi":
            raise DamagedFileError(f"{name}: {person!r} holds {pose.dtype} {pose.shape}, expected numbers (17, 4)")
        poses[person] = pose.astype(np.float64)
    return poses


def read_poses(reader: TakeReader, folder: str, findings: Findings) -> dict[int, Poses]:
    """Frame number -> poses of a folder of pose files; unreadable files are left out with a finding."""
    return reader.parse_frames(folder, ".npy", parse_poses, "poses", findings)


def assemble(
    fit: dict[int, Poses], triangulated: dict[int, Poses], frames: np.ndarray, people: list[str], findings: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """Joints (T, P, 17, 3) in metres, NaN where missing, and their status (T, P, 17).

    Status is MISSING without a real position in the fit, OBSERVED where the triangulation has the joint too, and
    INTERPOLATED where only the fit has it. What looks wrong on the way becomes findings.
    """
    fitted, raw = _stack(fit, frames, people), _stack(triangulated, frames, people)
    usable = _has_position(fitted) & (fitted[..., 3] > 0.5)
    observed = usable & _has_position(raw) & (raw[..., 3] > 0.5)
    status = np.where(observed, OBSERVED, np.where(usable, INTERPOLATED, MISSING)).astype(np.uint8)
    for p, person in enumerate(people):
        _check_fit(fitted[:, p], usable[:, p], frames, person, findings)
        _check_triangulated(raw[:, p], status[:, p], frames, person, findings)
        _check_alignment(fitted[:, p], raw[:, p], observed[:, p], frames, person, findings)
    return np.where(usable[..., None], fitted[..., :3], np.nan), status


def _stack(poses: dict[int, Poses], frames: np.ndarray, people: list[str]) -> np.ndarray:
    """Poses as one array (T, P, 17, 4), NaN for a person who is absent from a frame."""
    stacked = np.full((len(frames), len(people), JOINT_COUNT, 4), np.nan)
    for t, frame in enumerate(frames):
        for p, person in enumerate(people):
            pose = poses.get(int(frame), {}).get(person)
            if pose is not None:
                stacked[t, p] = pose
    return stacked


def _has_position(poses: np.ndarray) -> np.ndarray:
    """Where rows (..., 4) hold a real position: finite, within reach, and not the all-zero stand-in for "missing"."""
    positions = poses[..., :3]
    # NaN compares false, so non-finite rows fall out here as well.
    return (np.abs(positions) < FARTHEST_M).all(axis=-1) & (positions != 0).any(axis=-1)


def _check_fit(pose: np.ndarray, usable: np.ndarray, frames: np.ndarray, person: str, findings: Findings) -> None:
    """Reports frames without the person, numbers that are none, and flags that should be 1, in fitted (T, 17, 4)."""
    absent = np.isnan(pose).all(axis=(1, 2))
    if absent.any():
        message = f"{person} is missing from {absent.sum()} of {len(frames)} frames of {FIT_FOLDER}"
        findings.add("poses", "warning", message, person=person, frames=frames[absent])
    broken = ~absent[:, None] & ~_has_position(pose)
    if broken.any():
        message = (
            f"{broken.sum()} joints of {person} in {FIT_FOLDER} are no positions (not finite, beyond "
            f"{FARTHEST_M:.0f} m, or exactly 0 0 0); stored as missing"
        )
        findings.add("poses", "error", message, person=person, frames=frames[broken.any(axis=1)])
    unflagged = ~usable & _has_position(pose)
    if unflagged.any():
        message = f"{unflagged.sum()} joints of {person} in {FIT_FOLDER} have flag 0, expected 1; stored as missing"
        findings.add("poses", "warning", message, person=person, frames=frames[unflagged.any(axis=1)])


def _check_triangulated(
    pose: np.ndarray, status: np.ndarray, frames: np.ndarray, person: str, findings: Findings
) -> None:
    """Reports how much of a person's pose (T, 17, 4) was not seen, and rows that contradict their flag."""
    absent = np.isnan(pose).all(axis=(1, 2))
    if absent.any():
        message = (
            f"{person} is missing from {absent.sum()} of {len(frames)} frames of {TRIANGULATED_FOLDER}; "
            "the fit is known to shift a person's trajectory there, compare the alignment findings"
        )
        findings.add("poses", "warning", message, person=person, frames=frames[absent])
    contradicting = ~absent[:, None] & (pose[..., 3] > 0.5) & ~_has_position(pose)
    if contradicting.any():
        message = f"{contradicting.sum()} joints of {person} in {TRIANGULATED_FOLDER} have flag 1 but no position"
        findings.add("poses", "warning", message, person=person, frames=frames[contradicting.any(axis=1)])
    unseen = status == INTERPOLATED
    message = (
        f"{person}: {unseen.mean():.1%} of joints interpolated ({unseen.sum()}), longest gap "
        f"{_longest_run(unseen)} frames; {np.mean(status == MISSING):.1%} missing"
    )
    findings.add("poses", "info", message, person=person)


def _longest_run(mask: np.ndarray) -> int:
    """Length of the longest run of True along axis 0 of (T, J), over all joints."""
    longest, current = 0, np.zeros(mask.shape[1:], int)
    for row in mask:
        current = np.where(row, current + 1, 0)
        longest = max(longest, int(current.max(initial=0)))
    return longest


def _check_alignment(
    fit: np.ndarray, raw: np.ndarray, observed: np.ndarray, frames: np.ndarray, person: str, findings: Findings
) -> None:
    """Compares the fit with the triangulation (T, 17, 4) where observed (T, 17), and looks for a shift in time.

    The authors' smoothing joins a person's frames without looking at the clock: a frame without the person moves all
    later ones. The search therefore starts at the first such frame, if there is one.
    """
    if not observed.any():
        return
    absent = np.isnan(raw).all(axis=(1, 2))
    fit, raw = fit[..., :3], np.where(observed[..., None], raw[..., :3], np.nan)
    distance = np.linalg.norm(fit - raw, axis=-1)[observed]
    median, high = np.percentile(distance, [50, 95])
    start = int(np.argmax(absent))
    shift, gain = _best_shift(fit[start:], raw[start:])
    message = f"{person}: fit and triangulation differ by {100 * median:.1f} cm (median), {100 * high:.1f} cm (95 %)"
    if shift:
        message += (
            f"; from frame {frames[start]} on, the fit agrees {gain:.1f} times better with the triangulation "
            f"{abs(shift)} frames {'later' if shift > 0 else 'earlier'}: its trajectory is shifted in time"
        )
    findings.add("alignment", "error" if shift else "info", message, person=person)


def _best_shift(fit: np.ndarray, raw: np.ndarray, reach: int = 3) -> tuple[int, float]:
    """Shift k in frames for which fit[t] is clearly closest to raw[t + k], and how much closer than unshifted."""
    medians = {}
    for k in range(-reach, reach + 1):
        shifted = raw[k:] if k >= 0 else raw[:k]
        kept = fit[: len(fit) - k] if k >= 0 else fit[-k:]
        distance = np.linalg.norm(kept - shifted, axis=-1)
        if np.isfinite(distance).sum() >= JOINT_COUNT:
            medians[k] = float(np.nanmedian(distance))
    if 0 not in medians:
        return 0, 1.0
    best = min(medians, key=medians.__getitem__)
    gain = medians[0] / max(medians[best], 1e-6)
    # A person who stands still agrees with himself at any time: only a clear and visible gain counts.
    return (best, gain) if gain > 2 and medians[0] > 0.02 else (0, 1.0)
