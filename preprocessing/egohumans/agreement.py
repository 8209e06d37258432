"""Cameras of a take compared with each other: one whose lens or place is not what the others make likely.

COLMAP's text files carry no checksums, and a lens or a pose stands there once, for all frames. What can be checked is
what says the same twice: the fixed cameras of a take are of one make, and the triangulated joints were made from all of
them, before anything was damaged. Everything is kept as it is.
"""

from itertools import groupby

import numpy as np

from finepose_mp.cameras import lens_model, project
from finepose_mp.preprocessing.egohumans.rig import TakeCamera
from finepose_mp.preprocessing.findings import Findings

# A lens this many times farther from the usual one than the farthest of the others. Of eight lenses that scatter
# normally, one does that in a thousand takes.
LENS_TIMES_FARTHEST = 3.0
LENS_DEVIATION = 0.001  # of the width, 4 px of 3840: below, nothing is reported however alike the others are
_FEWEST_LENSES = 7

# The systematic part of a camera's residuals, against the usual one of its kind. Cameras placed by COLMAP have 1 to 3
# pixels of it at a focal length of 1900, where single detections are off by 5 to 10.
OFFSET_TIMES_USUAL = 4.0
# Both of the limit of the residual's median, 50 px at that focal length: less is never reported, more always.
OFFSET_NOTICEABLE = 0.16
OFFSET_LARGE = 0.5
_FEWEST_OTHERS = 3
# With fewer joints, noise makes a systematic offset of its own; with much fewer, one as large as `OFFSET_LARGE`.
_ENOUGH_JOINTS = 1000
_FEWEST_JOINTS = 200
_MOST_JOINTS = 1000  # more say hardly more: neighbouring frames have the same errors
_OUTLYING = 3.0  # times the median distance


def check_lenses(cameras: list[TakeCamera], findings: Findings) -> None:
    """Reports the fixed camera whose lens is far from the usual one of those with images of the same size."""
    by_size = sorted(cameras, key=lambda camera: (camera.camera.model, camera.camera.image_size))
    for (_, (width, _)), alike in groupby(by_size, key=lambda camera: (camera.camera.model, camera.camera.image_size)):
        alike = list(alike)
        if len(alike) < _FEWEST_LENSES:
            continue
        for what, departure in _lens_departures(alike).items():
            worst, next_worst = np.argsort(departure)[[-1, -2]]
            limit = max(LENS_TIMES_FARTHEST * departure[next_worst], LENS_DEVIATION * width)
            if departure[worst] <= limit:
                continue
            name = alike[worst].name
            findings.add(
                "exo_camera.unlike_lens",
                "warning",
                f"{name}: {what} is {departure[worst]:.1f} px from that of the take's usual lens, no other camera's "
                f"more than {departure[next_worst]:.1f} px: a damaged line in colmap/workplace/cameras.txt?",
                camera=name,
                expected={"px": round(float(limit), 2)},
                found=round(float(departure[worst]), 2),
            )


def _lens_departures(cameras: list[TakeCamera]) -> dict[str, np.ndarray]:
    """How far the image's centre, and the rest of the image with respect to it, are from the median lens's, px (n,)."""
    params = np.stack([camera.camera.params for camera in cameras])
    model = cameras[0].camera.model
    centres = np.stack(lens_model(model).terms(params).centre, axis=-1)
    x, y = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-0.6, 0.6, 3))  # x / z and y / z, 49 degrees to the corners
    rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
    around = project(rays, model, params[:, None]) - centres[:, None]
    moved = np.linalg.norm(around - np.nanmedian(around, axis=0), axis=-1)
    beyond = float(np.nanmax(np.abs(around)))  # a ray that falls out of a lens's range is as far off as images are wide
    return {
        "the image's centre": np.linalg.norm(centres - np.median(centres, axis=0), axis=-1),
        "the scale or distortion": np.nan_to_num(moved, nan=beyond).max(axis=1),
    }


def systematic_offset(pixels: np.ndarray, offsets: np.ndarray) -> float | None:
    """Root mean square, px, of the part of offsets (n, 2) at pixels (n, 2) that is the same shift and stretch for all.

    That is what a wrong pose or lens does, and errors of detections do not; single large ones and those that are not
    finite are left out. None of too few to tell.
    """
    if np.isfinite(offsets[:, 0]).sum() < _FEWEST_JOINTS:
        return None
    step = len(offsets) // _MOST_JOINTS + 1
    finite = np.isfinite(offsets[::step, 0])
    pixels, offsets = pixels[::step][finite].T.copy(), offsets[::step][finite].T.copy()
    fitted = np.median(offsets, axis=1, keepdims=True)
    for _ in range(2):
        distance = np.hypot(*(offsets - fitted))
        kept = distance <= _OUTLYING * np.median(distance)
        x, y = pixels[:, kept], offsets[:, kept]
        middle, shift = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
        variance = np.maximum(x.var(axis=1, keepdims=True), 1.0)  # a square pixel at least
        stretch = ((x - middle) * y).mean(axis=1, keepdims=True) / variance
        fitted = shift + stretch * (pixels - middle)
    return round(float(np.sqrt(2 * np.mean(fitted**2))), 2)


def check_reprojections(findings: Findings) -> None:
    """Reports cameras whose detections are systematically off, by much more than in the others of their kind.

    It reads what `reprojection.residual` found; cameras posed by hand are known to be worse.
    """
    residuals = _unsuspicious_residuals(findings)
    for is_worn in (False, True):
        # Systematic offset as part of the limit, which follows the focal length.
        kind = [item for item in residuals if item["camera"].startswith("aria") == is_worn]
        parts = np.array([item["found"]["systematic_px"] / item["expected"]["median_px"] for item in kind])
        for k, item in enumerate(kind):
            comparable = len(kind) > _FEWEST_OTHERS and item["found"]["joints"] >= _ENOUGH_JOINTS
            usual = np.median(np.delete(parts, k)) if comparable else np.inf
            expected = np.clip(OFFSET_TIMES_USUAL * usual, OFFSET_NOTICEABLE, OFFSET_LARGE)
            if parts[k] > expected:
                _report_offset(item, float(expected * item["expected"]["median_px"]), findings)


def _unsuspicious_residuals(findings: Findings) -> list[dict]:
    """Findings about residuals that are not warnings themselves, of cameras that were not posed by hand."""
    by_hand = {item.get("camera") for item in findings.items if item["check"] == "exo_camera.manual_pose"}
    residuals = [item for item in findings.items if item["check"] == "reprojection.residual"]
    return [
        item
        for item in residuals
        if item["severity"] == "info" and item["camera"] not in by_hand and item["found"]["systematic_px"] is not None
    ]


def _report_offset(item: dict, expected: float, findings: Findings) -> None:
    offset = item["found"]["systematic_px"]
    findings.add(
        "outliers.reprojection",
        "warning",
        f"{item['camera']}: triangulated joints project {offset:.1f} px from the detections, all to the same side or "
        f"growing across the image, expected below {expected:.1f} px: is its pose or lens a little wrong?",
        camera=item["camera"],
        expected={"systematic_px": round(expected, 2)},
        found=offset,
    )
