"""Findings: what a converter noticed about a take and did not hide, kept as plain dictionaries for file and report."""

from collections.abc import Iterable

SEVERITIES = ("info", "warning", "error")

# A finding names at most this many runs of frames; the count of all its frames is always kept.
_MAX_RUNS = 20

# Every check by its stable name (what it looks at, a full stop, what it is about), and what it expects.
CHECKS: dict[str, str] = {
    "alignment.distance": "fitted and triangulated joints lie within centimetres of each other",
    "alignment.shifted": "the fit shows every person at the frame's own moment",
    "archive.cut": "an archive is complete",
    "archive.refused": "an archive holds no links, and no paths that lead out of it",
    "archive.repeated": "an archive holds every file once",
    "benchmark.absent": "the benchmark files know the take",
    "benchmark.empty": "how many of the benchmark's pictures have no annotation",
    "benchmark.identity": "names and numbers of people in the benchmark files agree",
    "benchmark.ignored": "keypoints of the benchmark are of valid people, never of the camera's wearer",
    "benchmark.imported": "how many poses of the benchmark replace the take's own detections",
    "benchmark.repeated": "the benchmark files contain every picture once",
    "benchmark.unknown_camera": "the take has the cameras of the benchmark files",
    "benchmark.unknown_frames": "the take has the frames of the benchmark files",
    "benchmark.unusable": "annotations of the benchmark name a person and have the right form",
    "catalogue.cameras_missing": "all cameras of the published take are there",
    "catalogue.cameras_unexpected": "there is no camera that the published take lacks",
    "catalogue.length": "there are as many fitted frames as were published",
    "catalogue.people_missing": "all people of the published take are there",
    "catalogue.people_unexpected": "there is nobody whom the published take lacks",
    "catalogue.unknown_take": "the take is one of the 133 released ones",
    "detections.absent": "every RGB and fixed camera has 2D detections",
    "detections.ignored": "detections are of valid people, never of the camera's wearer",
    "detections.partial": "every frame has a file of 2D detections",
    "detections.unreadable": "every file of 2D detections can be read",
    "ego_camera.drift": "online calibration moves a lens by little",
    "ego_camera.head_jump": "a head moves less than 0.5 m between two frames",
    "ego_camera.left_out": "every Aria's cameras can be placed in the shared world",
    "ego_camera.no_calibration": "every Aria has calibration files",
    "ego_camera.not_orthonormal": "rotations of head-worn cameras are orthonormal",
    "ego_camera.unreadable": "a calibration file has eight lines with 15 and 12 finite numbers, and rotations",
    "exo_camera.declared_invalid": "cameras that the official configuration excludes are left out",
    "exo_camera.left_out": "every fixed camera has a known lens and a pose",
    "exo_camera.manual_ignored": "only cameras listed as placed by hand have a file of their own pose",
    "exo_camera.manual_pose": "poses made by hand are named, because they are less exact",
    "exo_camera.manual_scale": "a pose made by hand is rigid, without a scale",
    "exo_camera.not_orthonormal": "rotations of fixed cameras are orthonormal",
    "exo_camera.quaternion_norm": "quaternions of registered images have norm 1",
    "exo_camera.several_lenses": "COLMAP has one lens for each camera",
    "exo_camera.spread": "registered poses of a fixed camera agree within 2 cm and 1 degree",
    "exo_camera.unnamed": "every COLMAP camera has a registered image, which names it",
    "frames.folders": "how many numbered files each folder has",
    "frames.gap": "frame numbers run from 1 without gaps",
    "frames.lacking": "all folders have the same frames",
    "frames.used": "the frames that all folders share are used",
    "images.absent": "every camera has an image to check the calibrated size with",
    "images.count": "cameras have one image, or one for every frame",
    "images.size": "images are as large as the calibration says",
    "images.unreadable": "images can be opened",
    "lens.range": "the lens model increases up to the border of the image",
    "people.declared_invalid": "Arias that the official configuration excludes are left out",
    "people.unknown_name": "people are called aria01, aria02, ...",
    "plausibility.asymmetry": "left and right limbs are equally long",
    "plausibility.body_size": "people are 1.0 to 2.1 m from nose to ankles when stretched",
    "plausibility.floor": "everybody stands on one floor, a little below the origin",
    "plausibility.height": "nobody is far below the floor or high above it",
    "plausibility.limb_length": "a person's limbs keep their lengths",
    "plausibility.overlap": "two people are never at one place",
    "plausibility.speed": "no joint is faster than 12 m/s",
    "plausibility.upright": "shoulders are above hips: z points up",
    "poses.coverage": "how much of a person was observed, interpolated or missing",
    "poses.flag_without_position": "triangulated joints with flag 1 have a position",
    "poses.flag_zero": "fitted joints have flag 1",
    "poses.no_position": "fitted joints are finite positions within reach",
    "poses.no_triangulation": "there is a raw triangulation, which alone tells what was observed",
    "poses.person_missing": "every valid person is in every fitted frame",
    "poses.triangulation_person_missing": "every valid person is in every triangulated frame",
    "poses.unreadable": "every pose file can be read",
    "reprojection.residual": "triangulated joints project onto the detections they were made from",
    "transforms.scale_disagreement": "two Arias agree on the metre within 5 %",
    "transforms.scales": "the scales that converted poses no longer contain",
    "transforms.unusable": "an Aria's transform is a similarity: 4x4, finite, orthonormal after scale, no reflection",
    "visibility.camera": "where the people are with respect to each camera's view",
    "visibility.person_unseen": "every person is in some camera's view at some time",
}


class Findings:
    """A growing list of findings, each a dictionary with check, severity, message and where it applies."""

    def __init__(self) -> None:
        self.items: list[dict] = []

    def add(
        self,
        check: str,
        severity: str,
        message: str,
        *,
        camera: str | None = None,
        person: str | None = None,
        frames: Iterable[int] | None = None,
        expected: object = None,
        found: object = None,
    ) -> None:
        """Adds one finding.

        Args:
            check: its stable name, one of `CHECKS`.
            severity: "info" (good to know), "warning" (look at it) or "error" (something had to be left out).
            message: a sentence with the numbers in it.
            camera, person: where it applies, if anywhere in particular.
            frames: source frame numbers it applies to; stored as runs [first, last].
            expected, found: the same numbers for programs: a number, a text, or a dictionary of them (JSON).
        """
        if severity not in SEVERITIES:
            raise ValueError(f"severity {severity!r}, expected one of {', '.join(SEVERITIES)}")
        finding: dict = {"check": check, "severity": severity, "message": message}
        where_and_what = {"camera": camera, "person": person, "expected": expected, "found": found}
        finding |= {key: value for key, value in where_and_what.items() if value is not None}
        if frames is not None:
            numbers = sorted({int(number) for number in frames})
            finding |= {"frame_count": len(numbers), "frames": runs(numbers)[:_MAX_RUNS]}
        self.items.append(finding)


def report_unreadable(
    check: str, damaged: dict[int, str], findings: Findings, *, camera: str | None = None, person: str | None = None
) -> None:
    """Adds one finding for all files of a folder that could not be read, given what was wrong by frame number."""
    if damaged:
        message = f"{len(damaged)} unreadable files left out; first: {damaged[min(damaged)]}"
        findings.add(check, "error", message, camera=camera, person=person, frames=damaged, found=len(damaged))


def runs(numbers: list[int]) -> list[list[int]]:
    """Sorted numbers as runs [first, last] of consecutive ones."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
