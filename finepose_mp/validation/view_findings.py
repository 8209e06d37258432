"""Findings about the people in a camera, from what was gathered over all frames."""

import numpy as np

from finepose_mp.validation import views
from finepose_mp.validation.findings import ERROR, INFO, WARNING, some
from finepose_mp.validation.take import Take

# key of the problem -> check, severity, variable, message, expected
_MASKS = {
    "flag": ("masks", ERROR, "in_view", "a value that is no flag", "0 or 1"),
    "in view, no pixel": (
        "masks", ERROR, "joints_2d_projected", "no pixel, though in_view is 1", "pixels where in_view is 1",
    ),
    "pixel, not in view": (
        "masks", ERROR, "joints_2d_projected", "a pixel, though in_view is 0", "NaN where in_view is 0",
    ),
    "in view, no position": (
        "masks", ERROR, "in_view", "in view, though joint_status is 0", "0 where there is no 3D position",
    ),
    "pixel outside": (
        "masks", ERROR, "joints_2d_projected", "pixels outside the image", "0 to width and 0 to height",
    ),
    "wearer": (
        "wearer", ERROR, "in_view", "a head-worn camera that sees its own wearer",
        "in_view 0, no pixel and no detection of the wearer",
    ),
    "score, no pixel": (
        "masks", ERROR, "detection_score", "a score above 0 without a detected pixel",
        "0 where joints_2d_detected is NaN",
    ),
    "half a pixel": (
        "masks", ERROR, "joints_2d_detected", "one coordinate is a number and the other is not", "both or neither",
    ),
    "score": (
        "masks", ERROR, "detection_score", "a value that is no score", f"0 to 1 (at most {views.LARGEST_SCORE:g})",
    ),
    "detected at zero": (
        "masks", WARNING, "joints_2d_detected", "exactly 0 0, which is how some formats write a missing keypoint",
        "NaN and score 0 where there is none",
    ),
    "detected outside": (
        "detections", WARNING, "joints_2d_detected", "detections farther outside the image than it is wide",
        "pixels of the stored image",
    ),
}  # fmt: skip

_GEOMETRY = {
    "in view, cannot be": ("in view, though behind the camera, beyond the lens's range or outside the image", "0"),
    "not in view, must be": ("not in view, though in front of the camera and well inside the image", "1"),
}


def report(take: Take, view: views.View) -> dict:
    """Adds the findings about one camera; returns what was measured of it, for `Report.measured`."""
    camera = take.camera[view.k]
    for key, (check, severity, variable, message, expected) in _MASKS.items():
        _report_people(take, view, key, check, severity, message, expected, variable=variable, camera=camera)
    is_wrong = _report_projected(take, view, camera)
    if not is_wrong:  # otherwise the camera itself is, and every in_view with it
        for key, (message, expected) in _GEOMETRY.items():
            _report_people(take, view, key, "in_view", ERROR, message, expected, variable="in_view", camera=camera)
    if not view.seen:
        take.notes.add("in_view", INFO, "sees nobody in any frame", camera=camera)
    _report_detected(take, view, camera)
    return _measured(take, view, camera)


def _report_people(
    take: Take, view: views.View, key: str, check: str, severity: str, message: str, expected: str, **where: str
) -> None:
    """One finding a person who has a problem of this kind in this camera."""
    for p in np.flatnonzero(view.counts.get(key, ())):
        found = f"{view.counts[key][p]} joints"
        take.notes.add(
            check, severity, message, expected, found, at=view.problems[key][:, p], person=take.person[p], **where
        )


def _report_projected(take: Take, view: views.View, camera: str) -> bool:
    """Adds what reprojection of the stored 3D says; True when the camera does not fit its pixels."""
    here = {"variable": "joints_2d_projected", "camera": camera}
    together, medians = view.projected.merged(), view.projected.quantile(0.5)
    median, highest = together.quantile(0.5)[0], together.highest[0]
    at = view.problems["projected"].any(axis=1) if "projected" in view.problems else None
    if view.lost > together.total()[0]:
        hint = view.suspects.explanation("projected")
        message = f"the stored camera cannot see most of the joints in its view{': ' + hint if hint else ''}"
        found = f"{view.lost} joints behind it or beyond its lens"
        take.notes.add("reprojection", ERROR, message, "joints in front of it", found, at=at, **here)
        return True
    if not highest > views.PROJECTED_PX:
        return False
    found = f"median {median:.3g} px, 95 % {together.quantile(0.95)[0]:.3g} px, largest {highest:.4g} px"
    expected = f"the 3D joints through the stored lens and pose, to {views.PROJECTED_PX} px"
    off = [name for name, m in zip(take.joints.joints, medians, strict=True) if m > views.PROJECTED_PX]
    if median > views.PROJECTED_PX:
        hint = view.suspects.explanation("projected")
        message = f"3D and projected 2D disagree{': ' + hint if hint else ''}"
        severity = ERROR if median > views.ANNOTATED_PX else WARNING
        take.notes.add("reprojection", severity, message, expected, found, at=at, **here)
        return median > views.ANNOTATED_PX
    if at is not None:
        worst = [take.person[p] for p in np.flatnonzero(view.counts["projected"])]
        message = f"3D and projected 2D disagree for some joints of {some(worst)}"
        take.notes.add("reprojection", ERROR, message, expected, found, at=at, **here)
    else:
        joints = f"of {some(off)}" if off else "of single joints"
        message = f"projected 2D {joints} is a little off its 3D, as in annotations made apart"
        take.notes.add("reprojection", INFO, message, expected, found, **here)
    return False


def _report_detected(take: Take, view: views.View, camera: str) -> None:
    """People whose detections are not where they are: always, or in too many frames."""
    totals, medians = view.detected.total(), view.detected.quantile(0.5)
    expected = f"reliable detections within {view.limit:.0f} px of the projected 3D"
    wrong = [p for p in range(len(take.person)) if totals[p] >= views.FEW and medians[p] > view.limit]
    here = {"variable": "joints_2d_detected", "camera": camera}
    everybody = [p for p in range(len(take.person)) if totals[p] >= views.FEW]
    at = view.problems.get("detected", np.zeros_like(view.judged))
    if wrong and len(wrong) == len(everybody):
        hint = view.suspects.explanation("detected") or "a wrong pose, lens, scale, or the images of another camera?"
        median = view.detected.merged().quantile(0.5)[0]
        message = f"nobody is where the detections are: {hint}"
        take.notes.add("detections", WARNING, message, expected, f"median {median:.4g} px", at=at.any(axis=1), **here)
        return
    for p in everybody:
        part = at[:, p].sum() / max(view.judged[:, p].sum(), 1)
        if part > views.MOST_OUTLIERS and at[:, p].sum() >= views.FEW_OUTLIERS:
            message = "detections belong to somebody else, or the 3D does" if p in wrong else "detections go astray"
            found = f"{part:.0%} of {view.judged[:, p].sum()} frames off, median {medians[p]:.4g} px"
            take.notes.add("detections", WARNING, message, expected, found, at=at[:, p], person=take.person[p], **here)


def _measured(take: Take, view: views.View, camera: str) -> dict:
    """Reprojection errors of one camera in pixels, None where there is nothing to compare."""

    def number(value: float) -> float | None:
        return round(float(value), 4) if np.isfinite(value) else None

    projected, detected = view.projected.merged(), view.detected.merged()
    return {
        "group": take.name,
        "camera": camera,
        "projected_joints": int(projected.total()[0]),
        "projected_median_px": number(projected.quantile(0.5)[0]),
        "projected_max_px": number(projected.highest[0]),
        "detected_joints": int(detected.total()[0]),
        "detected_median_px": number(detected.quantile(0.5)[0]),
        "detected_p95_px": number(detected.quantile(0.95)[0]),
    }
