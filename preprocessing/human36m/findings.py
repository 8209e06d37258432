"""Findings of the Human3.6M converter: what was noticed about a clip and not hidden, as plain dictionaries."""

from finepose_mp.preprocessing.findings import SEVERITIES

# Every check by its stable name and what it expects.
CHECKS: dict[str, str] = {
    "bones.length": "a subject's bones are as long as that subject's published skeleton",
    "bones.rigid": "bones keep their lengths throughout a clip",
    "calibration.table": "cameras of the archive are those of the published table",
    "clip.length": "a clip has as many poses as were published",
    "completeness": "all 210 clips of the seven subjects are there",
    "d2.length": "2D and 3D positions of a clip have equally many frames",
    "d2.projection": "D2_Positions are the poses through the camera",
    "defect.shifted_3d": "poses lie where the images show the person",
    "defect.truncated": "motion capture lasts as long as the videos",
    "defect.unreadable_video": "all four videos can be read",
    "detections.absent": "detections cover every clip and camera",
    "detections.converted": "detections have the joints of the poses",
    "detections.residual": "detections lie near the projected poses",
    "detections.short": "detections last as long as the poses",
    "detections.several": "one file has the detections of a clip",
    "detections.tail": "detections end with the poses",
    "detections.unreadable": "every file of detections can be read",
    "poses.missing": "all joints have finite positions",
    "visibility": "the person is in view of all cameras",
}


def finding(check: str, severity: str, message: str, **where: object) -> dict:
    """One finding as the file keeps it.

    Args:
        check: one of `CHECKS`.
        severity: "info" (good to know), "warning" (look at it) or "error" (do not trust it).
        message: a sentence with the numbers in it.
        where: camera, expected, found and the like; what is None is left out.
    """
    if check not in CHECKS or severity not in SEVERITIES:
        raise ValueError(f"finding {check!r} of severity {severity!r} is not among the known ones")
    return {"check": check, "severity": severity, "message": message} | {
        key: value for key, value in where.items() if value is not None
    }
