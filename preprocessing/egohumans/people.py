"""3D ground truth of a take: fitted poses, and what of them was really observed.

`fit_poses3d` has every joint of every frame because its authors interpolated the gaps; only `poses3d`, the raw
triangulation, tells which joints were seen. Both are in metres in aria01's world, joints in COCO order.
"""

from dataclasses import dataclass

import numpy as np

from finepose_mp.preprocessing.egohumans import alignment
from finepose_mp.preprocessing.egohumans.layouts import LayoutReader, Parts, batches_of_files
from finepose_mp.preprocessing.egohumans.source import TakeReader
from finepose_mp.preprocessing.findings import Findings, report_unreadable
from finepose_mp.preprocessing.unpickling import DamagedFileError, load_npy
from finepose_mp.schema import INTERPOLATED, MISSING, OBSERVED
from finepose_mp.skeletons import COCO17

FIT_FOLDER = "processed_data/fit_poses3d"
TRIANGULATED_FOLDER = "processed_data/poses3d"
JOINT_COUNT = len(COCO17)

# No take leaves a sports hall: a coordinate beyond this is a number gone wrong, not a position.
FARTHEST_M = 1000.0


@dataclass(frozen=True)
class PoseFolder:
    """The readable files of a folder of poses.

    frames (n,) are their numbers, ascending; people has for every name (n, 17, 4): x, y, z in metres and a flag that is
    1 where there is a position, NaN where the file does not have the person.
    """

    frames: np.ndarray
    people: dict[str, np.ndarray]

    def of(self, person: str, frames: np.ndarray) -> np.ndarray:
        """Poses (T, 17, 4) of a person, NaN where absent."""
        if person in self.people and np.array_equal(frames, self.frames):
            return self.people[person]
        poses = np.full((len(frames), JOINT_COUNT, 4), np.nan)
        has_file = np.isin(frames, self.frames)
        if person in self.people:
            poses[has_file] = self.people[person][np.searchsorted(self.frames, frames[has_file])]
        return poses


@dataclass(frozen=True)
class TakePoses:
    """The people of a take, metres in aria01's world, NaN where missing.

    joints_3d_world (T, P, 17, 3) are the fitted joints, joint_status (T, P, 17) says what they rest on, and
    triangulated (T, P, 17, 3) are the raw positions of the joints that were observed.
    """

    joints_3d_world: np.ndarray
    joint_status: np.ndarray
    triangulated: np.ndarray


def parse_poses(data: bytes, name: str) -> Parts:
    """Person and pose (17, 4) of everybody in one frame's file.

    Raises:
        DamagedFileError: not a dictionary of such arrays.
        UnsafeFileError: a pickle that is more than that.
    """
    array = load_npy(data, name)
    content = array.item() if array.shape == () else None
    if not isinstance(content, dict):
        raise DamagedFileError(f"{name}: holds {array.dtype} {array.shape}, expected one dictionary of people")
    for person, value in content.items():
        if not isinstance(value, np.ndarray):
            raise DamagedFileError(f"{name}: {person!r} holds {type(value).__name__}, expected numbers (17, 4)")
        if not isinstance(person, str) or value.shape != (JOINT_COUNT, 4) or value.dtype.kind not in "fi":
            raise DamagedFileError(f"{name}: {person!r} holds {value.dtype} {value.shape}, expected numbers (17, 4)")
    return [(person, np.asarray(value)) for person, value in content.items()]


_LAYOUTS = LayoutReader(parse_poses)  # of all takes


def read_poses(reader: TakeReader, folder: str, findings: Findings) -> PoseFolder:
    """The poses of a folder; unreadable files are left out with a finding."""
    numbers = reader.frame_numbers(folder, ".npy")
    people: dict[str, np.ndarray] = {}
    damaged: dict[int, str] = {}
    for files in batches_of_files(reader.frames(folder, ".npy", damaged)):
        batches, damage = _LAYOUTS.read(files)
        damaged |= damage
        for batch in batches:
            rows = np.searchsorted(numbers, batch.frames)
            for person, poses in batch.parts:
                if person not in people:
                    people[person] = np.full((len(numbers), JOINT_COUNT, 4), np.nan)
                people[person][rows] = poses
    report_unreadable("poses.unreadable", damaged, findings)
    if not damaged:
        return PoseFolder(numbers, people)
    readable = ~np.isin(numbers, list(damaged))
    return PoseFolder(numbers[readable], {person: poses[readable] for person, poses in people.items()})


def assemble(
    fit: PoseFolder, triangulated: PoseFolder, frames: np.ndarray, people: list[str], findings: Findings
) -> TakePoses:
    """The poses of a take; what looks wrong on the way becomes findings.

    Status is MISSING without a real position in the fit or where the fit shows another moment, OBSERVED where the
    triangulation has the joint too, and INTERPOLATED where only the fit has it.
    """
    shape = (len(frames), len(people), JOINT_COUNT)
    joints, observed, status = np.empty((*shape, 3)), np.empty((*shape, 3)), np.empty(shape, np.uint8)
    has_file = _check_triangulated_files(triangulated, frames, findings)
    for p, person in enumerate(people):
        fitted, raw = fit.of(person, frames), triangulated.of(person, frames)
        usable = _has_position(fitted) & (fitted[..., 3] > 0.5)
        triangulated_there = _has_position(raw) & (raw[..., 3] > 0.5)
        joints[:, p] = np.where(usable[..., None], fitted[..., :3], np.nan)
        observed[:, p] = np.where(triangulated_there[..., None], raw[..., :3], np.nan)
        _check_fit(fitted, usable, frames, person, findings)
        absent = np.isnan(raw).all(axis=(1, 2)) & has_file
        _check_triangulated(raw, absent, frames, person, findings)
        shifted = alignment.check_alignment(joints[:, p], observed[:, p], absent, frames, person, findings)
        usable[shifted], joints[shifted, p] = False, np.nan
        status[:, p] = np.where(usable, np.where(triangulated_there, OBSERVED, INTERPOLATED), MISSING)
    for p, person in enumerate(people):
        _report_coverage(status[:, p], person, findings)
    return TakePoses(joints, status, observed)


def _has_position(poses: np.ndarray) -> np.ndarray:
    """Where rows (..., 4) hold a real position: finite, within reach, and not the all-zero stand-in for "missing"."""
    positions = poses[..., :3]
    # NaN compares false, so non-finite rows fall out here as well.
    return (np.abs(positions) < FARTHEST_M).all(axis=-1) & (positions != 0).any(axis=-1)


def _check_fit(pose: np.ndarray, usable: np.ndarray, frames: np.ndarray, person: str, findings: Findings) -> None:
    """Reports frames without the person, numbers that are none, and flags that should be 1, in fitted (T, 17, 4)."""
    absent = np.isnan(pose).all(axis=(1, 2))
    if absent.any():
        message = f"{person} is missing from {absent.sum()} of {len(frames)} frames of {FIT_FOLDER}, and stored as such"
        findings.add(
            "poses.person_missing",
            "warning",
            message,
            person=person,
            frames=frames[absent],
            expected=0,
            found=int(absent.sum()),
        )
    broken = ~absent[:, None] & ~_has_position(pose)
    if broken.any():
        message = (
            f"{broken.sum()} joints of {person} in {FIT_FOLDER} are no positions (not finite, beyond "
            f"{FARTHEST_M:.0f} m, or exactly 0 0 0); stored as missing"
        )
        where = frames[broken.any(axis=1)]
        findings.add(
            "poses.no_position", "error", message, person=person, frames=where, expected=0, found=int(broken.sum())
        )
    unflagged = ~usable & _has_position(pose)
    if unflagged.any():
        message = f"{unflagged.sum()} joints of {person} in {FIT_FOLDER} have flag 0, expected 1; stored as missing"
        where = frames[unflagged.any(axis=1)]
        findings.add(
            "poses.flag_zero", "warning", message, person=person, frames=where, expected=0, found=int(unflagged.sum())
        )


def _check_triangulated_files(triangulated: PoseFolder, frames: np.ndarray, findings: Findings) -> np.ndarray:
    """Mask (T,) of frames that have a triangulation; reports those that have none, or that there is none at all."""
    has_file = np.isin(frames, triangulated.frames)
    if not has_file.any():
        message = f"{TRIANGULATED_FOLDER} has nothing: all joints count as interpolated, none as observed"
        findings.add("poses.no_triangulation", "error", message)
    elif not has_file.all():
        lacking = frames[~has_file]
        message = f"{TRIANGULATED_FOLDER} lacks {len(lacking)} of {len(frames)} frames; nobody counts as observed there"
        found = {"folder": TRIANGULATED_FOLDER, "files": len(triangulated.frames)}
        findings.add("frames.lacking", "warning", message, frames=lacking, expected=len(frames), found=found)
    return has_file


def _check_triangulated(
    pose: np.ndarray, absent: np.ndarray, frames: np.ndarray, person: str, findings: Findings
) -> None:
    """Reports the frames (T,) from which the person is absent, and rows of (T, 17, 4) that contradict their flag."""
    if absent.any():
        message = (
            f"{person} is missing from {absent.sum()} of {len(frames)} frames of {TRIANGULATED_FOLDER}; "
            "fits of such takes may be shifted in time; where movement shows it, alignment.shifted names the frames"
        )
        findings.add(
            "poses.triangulation_person_missing",
            "warning",
            message,
            person=person,
            frames=frames[absent],
            expected=0,
            found=int(absent.sum()),
        )
    strange = np.isfinite(pose[..., 3]) & (pose[..., 3] != 0) & (pose[..., 3] != 1)
    if strange.any():
        message = f"{strange.sum()} joints of {person} in {TRIANGULATED_FOLDER} have another flag than 0 or 1, "
        message += f"such as {pose[strange][0, 3]:g}; above a half counts as 1"
        where = frames[strange.any(axis=1)]
        findings.add("poses.flag_value", "warning", message, person=person, frames=where, found=int(strange.sum()))
    contradicting = ~absent[:, None] & (pose[..., 3] > 0.5) & ~_has_position(pose)
    if contradicting.any():
        message = f"{contradicting.sum()} joints of {person} in {TRIANGULATED_FOLDER} have flag 1 but no position"
        where = frames[contradicting.any(axis=1)]
        findings.add(
            "poses.flag_without_position",
            "warning",
            message,
            person=person,
            frames=where,
            expected=0,
            found=int(contradicting.sum()),
        )


def _report_coverage(status: np.ndarray, person: str, findings: Findings) -> None:
    """How many of a person's joints (T, 17) were observed, interpolated or missing, in all and joint by joint."""
    unseen = status == INTERPOLATED
    gap = _longest_run(unseen)
    message = (
        f"{person}: {unseen.mean():.1%} of joints interpolated ({unseen.sum()}), longest gap "
        f"{gap} frames; {np.mean(status == MISSING):.1%} missing"
    )
    found = {
        "observed": int((status == OBSERVED).sum()),
        "interpolated": int(unseen.sum()),
        "missing": int((status == MISSING).sum()),
        "longest_gap_frames": gap,
        "not_observed_by_joint": dict(
            zip(COCO17.joints, (status != OBSERVED).mean(axis=0).round(4).tolist(), strict=True)
        ),
    }
    findings.add("poses.coverage", "info", message, person=person, found=found)


def _longest_run(mask: np.ndarray) -> int:
    """Length of the longest run of True along axis 0 of (T, J), over all joints."""
    edges = np.diff(np.pad(mask.T.astype(np.int8), ((0, 0), (1, 1))), axis=1).ravel()
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return int((stops - starts).max(initial=0))
