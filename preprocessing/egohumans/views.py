"""The people of a take in every camera, true and detected, and what that says about the cameras."""

from pathlib import Path

import numpy as np

from finepose_mp.cameras import lens_model
from finepose_mp.preprocessing.egohumans import agreement, detections, outliers, rig
from finepose_mp.preprocessing.egohumans.people import TakePoses
from finepose_mp.preprocessing.egohumans.source import TakeReader
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.preprocessing.spilling import SpilledArray, camera_array

MIN_JOINTS_IN_VIEW = 5  # for a person to count as seen, as in the published annotations

# Detections that the authors trusted for triangulating; the triangulated joint should project back onto them.
RELIABLE_SCORE = 0.5
# A median of 50 px in a 4K image (focal length 1900 px), 1.5 degrees, is far beyond any detector: 10 px are expected of
# cameras placed by COLMAP, a few of Aria's. Wrong rotation, scale or frame of reference is what it takes.
SUSPICIOUS_RESIDUAL = 50 / 1900  # of the focal length
# A median needs no more frames than these, spread over the take.
_SAMPLED_FRAMES = 200


def read_views(
    reader: TakeReader,
    cameras: list[rig.TakeCamera],
    frames: np.ndarray,
    people: list[str],
    poses: TakePoses,
    findings: Findings,
    scratch: Path | None = None,
) -> dict[str, np.ndarray | SpilledArray]:
    """The contract's arrays (K, T, P, 17, ...) of what every camera sees: projected, detected, score and in view.

    Large ones lie in nameless files in the folder `scratch`.
    """
    shape = (len(cameras), *poses.joint_status.shape)
    views = {
        "joints_2d_projected": camera_array((*shape, 2), np.float32, scratch),
        "joints_2d_detected": camera_array((*shape, 2), np.float32, scratch),
        "detection_score": camera_array(shape, np.float32, scratch),
        "in_view": camera_array(shape, np.uint8, scratch),
    }
    detections.check_detections(reader, cameras, frames, findings)
    seen_by_anybody = np.zeros(shape[1:3], bool)
    for k, camera in enumerate(cameras):
        projected, places = rig.project_people(camera, poses.joints_3d_world)
        if camera.wearer in people:  # what a head-worn camera sees of its wearer is not a person in view
            wearer = people.index(camera.wearer)
            projected[:, wearer], places[:, wearer] = np.nan, rig.NOWHERE
        views["joints_2d_projected"][k], views["in_view"][k] = projected, places == rig.IN_VIEW
        seen = _report_visibility(camera, places, findings)
        seen_by_anybody |= seen
        detected, scores = detections.read_detections(reader, camera, frames, people, findings)
        views["joints_2d_detected"][k], views["detection_score"][k] = detected, scores
        detections.check_anybody(reader, camera, scores, seen.any(axis=1), frames, findings)
        _check_reprojection(camera, poses.triangulated, detected, scores, findings)
        outliers.check_detections(camera.name, frames, people, projected, detected, scores, findings)
    has_pose = (poses.joint_status > 0).any(axis=-1)
    _report_unseen(has_pose, seen_by_anybody, frames, people, findings)
    agreement.check_reprojections(findings)
    return views


def _report_visibility(camera: rig.TakeCamera, places: np.ndarray, findings: Findings) -> np.ndarray:
    """Whether each person is seen in each frame (T, P); reports where people with places (T, P, J) are in this view.

    Whoever is not seen counts once, at the place where most of the unseen joints are.
    """
    counts = _counts(places)
    seen = counts[..., rig.IN_VIEW] >= MIN_JOINTS_IN_VIEW
    has_pose = counts[..., rig.NOWHERE] < places.shape[-1]
    others = counts.copy()
    others[..., [rig.NOWHERE, rig.IN_VIEW]] = 0
    main_place = np.where(seen, rig.IN_VIEW, others.argmax(axis=-1))
    found = {
        name: int((has_pose & (main_place == place)).sum())
        for place, name in enumerate(rig.PLACES)
        if place != rig.NOWHERE
    }
    listed = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found.items())
    message = f"{camera.name}: of {int(has_pose.sum())} pairs of frame and person {listed}"
    findings.add("visibility.camera", "info", message, camera=camera.name, found=found)
    return seen


def _counts(places: np.ndarray) -> np.ndarray:
    """How many joints of places (T, P, J) are at each of `PLACES`: (T, P, number of places)."""
    pairs, kinds = places.shape[0] * places.shape[1], len(rig.PLACES)
    cells = np.arange(0, pairs * kinds, kinds)[:, None] + places.reshape(pairs, -1)
    return np.bincount(cells.ravel(), minlength=pairs * kinds).reshape(*places.shape[:2], kinds)


def _report_unseen(
    has_pose: np.ndarray, seen: np.ndarray, frames: np.ndarray, people: list[str], findings: Findings
) -> None:
    """Reports people who are in no camera's view, never or in some frames; both masks are (T, P)."""
    for p, person in enumerate(people):
        unseen = has_pose[:, p] & ~seen[:, p]
        if unseen.any():
            never = not seen[:, p].any()
            findings.add(
                "visibility.person_unseen",
                "warning" if never else "info",
                f"{person} is in no camera's view in {unseen.sum()} of {has_pose[:, p].sum()} frames",
                person=person,
                frames=frames[unseen],
                expected=0,
                found=int(unseen.sum()),
            )


def _check_reprojection(
    camera: rig.TakeCamera, triangulated: np.ndarray, detected: np.ndarray, scores: np.ndarray, findings: Findings
) -> None:
    """Compares triangulated joints (T, P, 17, 3), through the camera, with the detections they were made from.

    A joint that was detected and cannot be projected (it is behind the camera) counts as infinitely far off.
    """
    sample = np.unique(np.linspace(0, len(scores) - 1, min(len(scores), _SAMPLED_FRAMES)).astype(int))
    lens = rig.at_frames(camera.camera, sample)
    reliable = (scores[sample] > RELIABLE_SCORE) & np.isfinite(triangulated[sample, ..., 0])
    if reliable.sum() < triangulated.shape[2]:  # less than a person's joints say nothing
        return
    projected = lens.project(lens.to_camera(triangulated[sample]))[reliable]
    offset = projected - detected[sample][reliable]
    residual = np.sqrt(offset[:, 0] * offset[:, 0] + offset[:, 1] * offset[:, 1])
    residual = np.where(np.isfinite(residual), residual, np.inf)
    median, tail = (float(value) for value in np.quantile(residual, (0.5, 0.9), method="higher"))
    focal = float(np.median(lens_model(lens.model).terms(lens.params).focal[0]))
    limit = SUSPICIOUS_RESIDUAL * focal
    found = {
        "median_px": _number(median),
        "p90_px": _number(tail),
        "systematic_px": agreement.systematic_offset(projected, offset),
        "joints": len(residual),
    }
    findings.add(
        "reprojection.residual",
        "info" if median <= limit else "warning",
        f"{camera.name}: {_in_words(median, tail)}"
        + ("" if median <= limit else f", expected below {limit:.0f} px: is its pose or lens wrong?"),
        camera=camera.name,
        expected={"median_px": round(limit, 1)},
        found=found,
    )


def _in_words(median: float, tail: float) -> str:
    if not np.isfinite(median):
        return "most triangulated joints with a detection are behind it or outside its lens"
    far = f"{tail:.1f} px (90 %)" if np.isfinite(tail) else "more than a tenth behind it"
    return f"triangulated joints project {median:.1f} px (median), {far} from the detections"


def _number(value: float) -> float | None:
    """Rounded for the report; None where infinite, which JSON does not know."""
    return round(value, 2) if np.isfinite(value) else None
