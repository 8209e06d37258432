"""Single frames in which a number departs from its neighbours in time: what a damaged byte does, and people do not.

Neither .npy nor .txt files carry checksums, so a flipped bit inside an unpacked take can only be recognised by what it
says. Thresholds rest on how the data was made: fitted poses are smoothed over five frames, the three cameras of a pair
of glasses sit on one frame, and a lens does not change from one picture to the next. Everything is kept as it is.
"""

import numpy as np

from finepose_mp import geometry
from finepose_mp.cameras import lens_model, project
from finepose_mp.preprocessing.egohumans.people import TakePoses
from finepose_mp.preprocessing.egohumans.rig import TakeCamera
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.skeletons import COCO17

# A Savitzky-Golay filter of 5 frames and order 3 leaves no impulse: the deviation of a joint from the middle of its
# neighbours stays below a third of what their own velocities change by.
JOINT_DEVIATION_M = 0.05
END_DEVIATION_M = 0.10  # of the first and the last frame, which are extrapolated to
_JOINT_RATIO = 3.0

# Of a joint whose triangulation stayed on the neighbours' path when the fit left it: so many times the usual distance
# of the two, and twice that of the frames before and after. Less is noise of the triangulation.
CONTRADICTED_DEVIATION_M = 0.015
_TIMES_USUAL_DISTANCE = 4.0
_TIMES_NEIGHBOURS_DISTANCE = 2.0

# Of what holds still within a pair of glasses, or changes slowly; a neighbour must be three times closer.
RIG_DEVIATION_M = 0.02
RIG_DEVIATION_DEGREES = 1.0
LENS_DEVIATION_PX = 2.0
_RATIO = 3.0

# Of the size at which the person is seen: a quarter of it is an exchanged arm or leg.
DETECTION_DEVIATION = 0.25
_RELIABLE_SCORE = 0.5


def check_poses_and_cameras(
    poses: TakePoses, cameras: list[TakeCamera], frames: np.ndarray, people: list[str], findings: Findings
) -> None:
    """Reports single frames in which a fitted joint, or a head-worn camera's pose or lens, is out of line."""
    for p, person in enumerate(people):
        _check_joints(poses.joints_3d_world[:, p], poses.triangulated[:, p], frames, person, findings)
    for wearer in sorted({camera.wearer for camera in cameras if camera.is_moving}):
        worn = [camera for camera in cameras if camera.wearer == wearer]
        _check_rig(worn, frames, findings)
        for camera in worn:
            _check_lens(camera, frames, findings)


def check_detections(
    camera: str,
    frames: np.ndarray,
    people: list[str],
    projected: np.ndarray,
    detected: np.ndarray,
    scores: np.ndarray,
    findings: Findings,
) -> None:
    """Reports single frames in which a reliable detection leaves the joint that it follows before and after.

    Detectors do that too, so it is no more than a note. Pixels (T, P, 17, 2) and scores (T, P, 17) of one camera.
    """
    reliable = scores > _RELIABLE_SCORE
    if not reliable.any():
        return
    joints_first = np.ascontiguousarray(np.moveaxis(projected, 2, 0))  # along a short axis it takes longer
    extent = np.fmax.reduce(joints_first) - np.fmin.reduce(joints_first)
    size = np.hypot(*np.moveaxis(np.fmax(extent, 0), -1, 0))  # 0 for nobody, whose extent is NaN
    u, v = np.moveaxis(detected - projected, -1, 0)
    residual = np.where(reliable, np.sqrt(u * u + v * v), np.nan)
    out = _stands_out(residual, DETECTION_DEVIATION * size[..., None], frames)
    for p in np.flatnonzero(out.any(axis=(0, 2))):
        worst = float(residual[:, p][out[:, p]].max())
        findings.add(
            "outliers.detection",
            "info",
            f"{camera}: detections of {people[p]} leave the {_joints(out[:, p])} for single frames, "
            f"by up to {worst:.0f} px",
            camera=camera,
            person=people[p],
            frames=frames[out[:, p].any(axis=1)],
            expected={"part_of_person": DETECTION_DEVIATION},
            found={"px": round(worst, 1), "joints": int(out[:, p].sum())},
        )


def _check_joints(
    joints: np.ndarray, triangulated: np.ndarray, frames: np.ndarray, person: str, findings: Findings
) -> None:
    """Fitted and triangulated joints (T, 17, 3) of one person, metres, NaN where missing."""
    deviation, limit = _deviation_from_path(joints)
    # Where the triangulation went the same way, the joint was really there.
    apart = np.linalg.norm(joints - triangulated, axis=-1)
    out = (deviation > limit) & ~(apart < deviation / 2)
    departure, contradicted = _contradicted_by_triangulation(joints, triangulated, apart)
    deviation = np.where(contradicted, departure, deviation)
    out = (out | contradicted) & _in_sequence(frames)[:, None]
    if not out.any():
        return
    worst = float(deviation[out].max())
    findings.add(
        "outliers.joint",
        "warning",
        f"{person}'s fitted {_joints(out)}: off for single frames, by up to {100 * worst:.0f} cm, which the "
        "triangulation does not confirm: a damaged file? Get the take again, or leave these frames out",
        person=person,
        frames=frames[out.any(axis=1)],
        expected={"metres": JOINT_DEVIATION_M, "metres_where_triangulated": CONTRADICTED_DEVIATION_M},
        found={"metres": round(worst, 4), "joints": int(out.sum())},
    )


def _deviation_from_path(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far points (T, J, 3) are from where their neighbours lead, and how far they may be, both (T, J), NaN unknown.

    Leads: half way between the frames before and after; at both ends, straight on.
    """
    deviation, limit = np.full((2, *points.shape[:2]), np.nan)
    if len(points) < 4:
        return deviation, limit
    step = np.diff(points, axis=0)
    deviation[1:-1] = np.linalg.norm(np.diff(step, axis=0), axis=-1) / 2
    across = (points[2:] - points[:-2]) / 2  # velocity per frame of the middle, without the middle itself
    change = np.full((2, *deviation.shape), np.nan)
    change[0, 2:-1] = np.linalg.norm(across[1:] - step[:-2], axis=-1)
    change[1, 1:-2] = np.linalg.norm(across[:-1] - step[2:], axis=-1)
    limit[1:-1] = np.maximum(JOINT_DEVIATION_M, _JOINT_RATIO * np.fmax(*change)[1:-1])
    for end, path in ((0, points[:4]), (-1, points[:-5:-1])):
        deviation[end] = np.linalg.norm(path[0] - 2 * path[1] + path[2], axis=-1)
        curve = np.linalg.norm(path[1] - 2 * path[2] + path[3], axis=-1)
        limit[end] = np.maximum(END_DEVIATION_M, _JOINT_RATIO * curve)
    return deviation, limit


def _contradicted_by_triangulation(
    joints: np.ndarray, triangulated: np.ndarray, apart: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far joints (T, J, 3) are from the cubic through four neighbours, and which left it alone, both (T, J).

    Alone: the triangulation, `apart` (T, J) from the fit, is on the cubic, as it is not where people move like that.
    """
    departure, contradicted = np.full(apart.shape, np.nan), np.zeros(apart.shape, bool)
    if len(joints) < 5 or not np.isfinite(apart).any():
        return departure, contradicted
    path = (4 * (joints[1:-3] + joints[3:-1]) - joints[:-4] - joints[4:]) / 6
    middle = slice(2, -2)
    departure[middle] = np.linalg.norm(joints[middle] - path, axis=-1)
    on_path = np.linalg.norm(triangulated[middle] - path, axis=-1) < departure[middle] / 2  # NaN compares false
    usual = max(CONTRADICTED_DEVIATION_M, _TIMES_USUAL_DISTANCE * float(np.nanmedian(apart)))
    alone = ~(apart[middle] <= _TIMES_NEIGHBOURS_DISTANCE * np.fmax(apart[1:-3], apart[3:-1]))
    contradicted[middle] = on_path & alone & (departure[middle] > usual)
    return departure, contradicted


def _check_rig(worn: list[TakeCamera], frames: np.ndarray, findings: Findings) -> None:
    """Compares every camera of one pair of glasses with the two others; the one that left both is reported."""
    pairs = {(a, b): _departures(worn[a], worn[b]) for a in range(len(worn)) for b in range(a)}
    for a, camera in enumerate(worn):
        metres, degrees = np.min([pair for ends, pair in pairs.items() if a in ends], axis=0)
        out = _stands_out(metres, RIG_DEVIATION_M, frames) | _stands_out(degrees, RIG_DEVIATION_DEGREES, frames)
        if out.any():
            found = {"metres": round(float(metres[out].max()), 4), "degrees": round(float(degrees[out].max()), 3)}
            findings.add(
                "outliers.camera_pose",
                "warning",
                f"{camera.name} leaves its place on {camera.wearer}'s glasses for single frames, by up to "
                f"{100 * found['metres']:.1f} cm and {found['degrees']:.2f} degrees: a damaged file in "
                f"ego/{camera.wearer}/calib? Get the take again, or leave these frames out",
                camera=camera.name,
                person=camera.wearer,
                frames=frames[out],
                expected={"metres": RIG_DEVIATION_M, "degrees": RIG_DEVIATION_DEGREES},
                found=found,
            )


def _departures(camera: TakeCamera, other: TakeCamera) -> tuple[np.ndarray, np.ndarray]:
    """How far one camera is from its usual place in another one's frame: metres (T,) and degrees (T,)."""
    relative = geometry.compose(camera.camera.world_to_camera, geometry.invert_rigid(other.camera.world_to_camera))
    change = relative - np.median(relative, axis=0)
    chord = np.linalg.norm(change[..., :3], axis=(-2, -1)) / np.sqrt(2)
    return np.linalg.norm(change[..., 3], axis=-1), np.degrees(chord)


def _check_lens(camera: TakeCamera, frames: np.ndarray, findings: Findings) -> None:
    """Compares where the lens of each frame sends some rays with where the take's usual lens sends them."""
    params = camera.camera.params
    if not np.ptp(params, axis=0).any():
        return
    directions = np.linspace(-0.6, 0.6, 3)  # x / z and y / z, 40 degrees to the corners
    rays = np.stack([*np.meshgrid(directions, directions), np.ones((3, 3))], axis=-1).reshape(-1, 3)
    usual = project(rays, camera.camera.model, np.median(params, axis=0))
    pixels = project(rays, camera.camera.model, params[:, None])
    # A ray that falls out of the lens's range is as far off as the lens is wide.
    focal = float(np.median(lens_model(camera.camera.model).terms(params).focal[0]))
    moved = np.nan_to_num(np.linalg.norm(pixels - usual, axis=-1), nan=focal).max(axis=1)
    out = _stands_out(moved, LENS_DEVIATION_PX, frames)
    if out.any():
        worst = float(moved[out].max())
        findings.add(
            "outliers.lens",
            "warning",
            f"{camera.name}: the lens differs from its usual one by up to {worst:.1f} px for single frames: a damaged "
            f"file in ego/{camera.wearer}/calib? Get the take again, or leave these frames out",
            camera=camera.name,
            frames=frames[out],
            expected={"px": LENS_DEVIATION_PX},
            found=round(worst, 2),
        )


def _stands_out(departure: np.ndarray, limit: float | np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Mask (T, ...) of departures above a limit while both neighbours in time, one at an end, are far below theirs."""
    if len(departure) < 3:
        return np.zeros(departure.shape, bool)
    before, after = (
        np.concatenate(part) for part in ((departure[1:2], departure[:-1]), (departure[1:], departure[-2:-1]))
    )
    alone = _RATIO * np.maximum(before, after) < departure  # NaN compares false
    in_sequence = _in_sequence(frames).reshape(-1, *[1] * (departure.ndim - 1))
    return (departure > limit) & alone & in_sequence


def _in_sequence(frames: np.ndarray) -> np.ndarray:
    """Mask (T,) of frames whose neighbours, as far as there are any, are numbered right before and after."""
    steps = np.diff(frames, prepend=frames[:1] - 1, append=frames[-1:] + 1)
    return (steps[:-1] == 1) & (steps[1:] == 1)


def _joints(out: np.ndarray) -> str:
    """Names of the joints in a mask (T, 17)."""
    return ", ".join(COCO17.joints[j].replace("_", " ") for j in np.flatnonzero(out.any(axis=0)))
