"""Every defect of a take's cameras becomes exactly the finding that names it."""

import pickle

import numpy as np
import pytest
from converted_take import concerns, only
from simulated_take import CAMERAS, FIT, IMAGES, TRANSFORMS, TRIANGULATED, SimulatedTake, jpeg

from finepose_mp.preprocessing.simulation.writer import npy
from finepose_mp.preprocessing.unpickling import load_npy

LEGO = "02_legoassemble/001_legoassemble"
FRAMES = 40


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return SimulatedTake.make(tmp_path_factory.mktemp("sound") / "raw", LEGO, FRAMES, seed=5)


@pytest.fixture
def take(sound):
    return sound.copy()


def _transforms(take: SimulatedTake, name: str, matrix: np.ndarray | None) -> None:
    matrices = take.transforms() | {name: matrix}
    take.files[TRANSFORMS] = pickle.dumps({k: m for k, m in matrices.items() if m is not None})


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda m: m * [[1, 1, -1, 1]], "reflection"),
        (lambda m: np.vstack([m[:3], [0.1, 0, 0, 1]]), "last row"),
        (lambda m: m @ (np.eye(4) + 0.01 * np.eye(4, k=1) * [1, 1, 1, 0]), "away from a scaled rotation"),
        (lambda m: m[:3], "(3, 4), expected a 4x4"),
        (lambda m: m * np.nan, "not finite"),
    ],
    ids=["reflection", "last row", "shear", "3x4", "nan"],
)
def test_transform_that_is_no_similarity_costs_its_aria_the_cameras(take, spoil, message):
    _transforms(take, "aria02", spoil(take.transforms()["aria02"]))
    sequence = take.convert()
    assert concerns(sequence.findings) == {"transforms.unusable", "ego_camera.left_out"}
    assert message in only(sequence.findings, "transforms.unusable")["message"]
    assert sequence.person == ["aria01", "aria02", "aria03"]
    assert not [name for name in sequence.camera if name.startswith("aria02")]


def test_aria_without_a_transform(take):
    _transforms(take, "aria03", None)
    findings = take.convert().findings
    assert concerns(findings) == {"ego_camera.left_out"}
    assert only(findings, "ego_camera.left_out")["person"] == "aria03"


def test_arias_that_disagree_on_the_metre(take):
    matrix = take.transforms()["aria02"]
    matrix[:3, :3] *= 1.08
    _transforms(take, "aria02", matrix)
    findings = take.convert().findings
    assert "transforms.scale_disagreement" in concerns(findings)
    assert only(findings, "transforms.scale_disagreement")["found"] == pytest.approx(1 / 1.08, rel=0.02)


def test_wrong_transform_shows_in_the_reprojection(take):
    matrices = take.transforms()
    _transforms(take, "aria02", matrices["aria03"])
    findings = take.convert().findings
    assert "reprojection.residual" in concerns(findings)
    assert only(findings, "reprojection.residual")["camera"] == "aria02_rgb"


def _edit_camera(take: SimulatedTake, name: str, change) -> None:
    """Changes the words of a fixed camera's line in cameras.txt."""
    camera_id = take.colmap_camera(name)

    def lines(all_lines):
        return [" ".join(change(w)) if (w := line.split()) and w[0] == camera_id else line for line in all_lines]

    take.lines(CAMERAS, lines)


def _edit_images(take: SimulatedTake, name: str, change) -> None:
    """Changes the words of a camera's pose lines in images.txt, given the number of the image."""
    seen = []

    def edit(line):
        if f" {name}/" not in line:
            return line
        seen.append(line)
        return " ".join(change(len(seen) - 1, line.split()))

    take.lines(IMAGES, lambda lines: [edit(line) for line in lines])


def _turned(_, words):
    """The pose a few degrees off: the quaternion's x changed."""
    return [*words[:2], f"{float(words[2]) + 0.1:.12f}", *words[3:]]


def _edit_detections(take: SimulatedTake, camera: str, change) -> None:
    """Changes the list of people in every file of a camera's detections."""
    folder = f"processed_data/poses2d/{camera}/rgb"
    for name in take.names(folder):
        entries = load_npy(take.files[f"{folder}/{name}"], name)
        people = change([{key: _plain(value) for key, value in entry.items()} for entry in entries])
        take.files[f"{folder}/{name}"] = npy(people or np.array([]))


def _plain(value: object) -> object:
    return np.array(value) if isinstance(value, np.ndarray) else value


def _without_numbers(entry: dict, column: int | slice = slice(None), number: float = np.nan) -> dict:
    keypoints = entry["keypoints"].copy()
    keypoints[:, column] = number
    return entry | {"keypoints": keypoints}


CAMERA_DEFECTS = {
    "lens of another model": (
        lambda t: _edit_camera(t, "cam03", lambda w: [w[0], "OPENCV", *w[2:]]),
        {"exo_camera.left_out"},
    ),
    "seven lens parameters": (
        lambda t: _edit_camera(t, "cam03", lambda w: w[:-1]),
        {"exo_camera.left_out"},
    ),
    "lens that folds": (
        lambda t: _edit_camera(t, "cam03", lambda w: [*w[:8], "-0.9", "0", "0", "0"]),
        {"exo_camera.unlike_lens", "lens.range", "reprojection.residual"},
    ),
    "no focal length": (
        lambda t: _edit_camera(t, "cam03", lambda w: [*w[:5], "0", *w[6:]]),
        {"exo_camera.left_out"},
    ),
    "distortion beyond all numbers": (
        lambda t: _edit_camera(t, "cam03", lambda w: [*w[:8], "1e30", *w[9:]]),
        {"exo_camera.left_out"},
    ),
    "images of no size": (
        lambda t: _edit_camera(t, "cam03", lambda w: [*w[:2], "0", "-5", *w[4:]]),
        {"exo_camera.left_out"},
    ),
    "images wider than any": (
        lambda t: _edit_camera(t, "cam03", lambda w: [*w[:2], "99999999999", *w[3:]]),
        {"exo_camera.left_out"},
    ),
    "no registered image": (
        lambda t: t.lines(IMAGES, lambda lines: _without_images(lines, "cam03")),
        {"exo_camera.left_out", "exo_camera.unnamed"},
    ),
    "quaternions that are not normalised": (
        lambda t: _edit_images(t, "cam03", lambda _, w: [w[0], *(f"{3 * float(q):.12f}" for q in w[1:5]), *w[5:]]),
        {"exo_camera.quaternion_norm"},
    ),
    "image registered elsewhere": (
        lambda t: _edit_images(t, "cam03", lambda i, w: w if i else [*w[:5], str(float(w[5]) + 5), *w[6:]]),
        {"exo_camera.spread"},
    ),
    "pose that is wrong": (
        lambda t: _edit_images(t, "cam03", _turned),
        {"exo_camera.quaternion_norm", "reprojection.residual"},
    ),
    "image of another size": (
        lambda t: t.files.update({"exo/cam03/images/00001.jpg": jpeg(1920, 1080)}),
        {"images.size"},
    ),
    "page instead of an image": (
        lambda t: t.files.update({"exo/cam03/images/00001.jpg": b"<html>quota exceeded</html>"}),
        {"images.unreadable"},
    ),
    "damaged detections": (
        lambda t: t.files.update({"processed_data/poses2d/cam03/rgb/00004.npy": b"<html>"}),
        {"detections.unreadable"},
    ),
    "detections that are no numbers": (
        lambda t: _edit_detections(t, "cam03", lambda people: [_without_numbers(entry) for entry in people]),
        {"detections.no_position"},
    ),
    "nobody detected": (
        lambda t: _edit_detections(t, "cam03", lambda people: []),
        {"detections.nobody"},
    ),
}


def _without_images(lines: list[str], name: str) -> list[str]:
    """Lines of images.txt without the two of each image of a camera."""
    dropped = {j for i, line in enumerate(lines) if f" {name}/" in line for j in (i, i + 1)}
    return [line for i, line in enumerate(lines) if i not in dropped]


@pytest.mark.parametrize("defect", CAMERA_DEFECTS)
def test_defect_of_a_fixed_camera(take, defect):
    spoil, checks = CAMERA_DEFECTS[defect]
    spoil(take)
    sequence = take.convert()
    assert concerns(sequence.findings) == checks
    named = {f["camera"] for f in sequence.findings if f["severity"] != "info" and "camera" in f}
    assert named == {"cam03"}
    assert ("cam03" in sequence.camera) == ("exo_camera.left_out" not in checks)
    assert "cam02" in sequence.camera


def test_a_camera_that_cannot_be_names_its_line_and_the_number(take):
    _edit_camera(take, "cam03", lambda w: [*w[:2], "0", *w[3:]])
    camera_id = take.colmap_camera("cam03")
    lines = take.files[CAMERAS].decode().split("\n")
    number = 1 + next(i for i, line in enumerate(lines) if line.startswith(f"{camera_id} "))
    message = only(take.convert().findings, "exo_camera.left_out")["message"]
    assert f"cam03 left out: {CAMERAS}, line {number}: images of 0x" in message


def test_keypoints_gone_wrong_as_numbers_are_counted(take):
    numbers = {4: (0, np.nan), 5: (2, np.inf), 6: (1, 2e5)}  # frame -> column and what is in it
    frame = iter(range(1, FRAMES + 1))

    def spoil(people):
        if (k := next(frame)) not in numbers:
            return people
        wrong = _without_numbers(people[0], *numbers[k])
        return [wrong, wrong, *people[1:]]  # two for one person, neither of any use

    _edit_detections(take, "cam03", spoil)
    sequence = take.convert()
    assert concerns(sequence.findings) == {"detections.no_position"}
    finding = only(sequence.findings, "detections.no_position")
    assert finding["camera"] == "cam03" and finding["frames"] == [[4, 6]] and finding["found"] == 3 * 17
    assert "51 keypoints in processed_data/poses2d/cam03/rgb" in finding["message"]
    found = sequence.joints_2d_detected[sequence.camera.index("cam03"), 3:6]
    assert np.isnan(found).all(axis=(2, 3)).any(axis=1).all() and np.isfinite(found).any()


def test_spread_is_measured(take):
    _edit_images(take, "cam03", lambda i, w: w if i else [*w[:5], str(float(w[5]) + 5), *w[6:]])
    sequence = take.convert()
    spread = only(sequence.findings, "exo_camera.spread")
    scale = next(f["found"]["colmap_units_per_metre"] for f in sequence.findings if f["check"] == "transforms.scales")
    assert spread["found"]["metres"] == pytest.approx(5 / scale, rel=0.1)


def test_camera_without_detections(take):
    take.remove("processed_data/poses2d/cam03")
    findings = take.convert().findings
    assert concerns(findings) == {"detections.absent"}
    assert only(findings, "detections.absent")["found"] == ["cam03"]


def test_detections_under_the_wrong_name(take):
    """Two people exchanged in one camera: everything can be read, and only the reprojection tells."""
    folder = "processed_data/poses2d/cam03/rgb"
    for name in take.names(folder):
        data = take.files[f"{folder}/{name}"]
        data = data.replace(b"aria01", b"aria0X").replace(b"aria02", b"aria01").replace(b"aria0X", b"aria02")
        take.files[f"{folder}/{name}"] = data
    findings = take.convert().findings
    assert concerns(findings) == {"reprojection.residual"}
    assert only(findings, "reprojection.residual")["camera"] == "cam03"


def _edit_calibration(take: SimulatedTake, frame: int, line: int, change) -> None:
    """Changes the numbers of a line (from 0) of one frame's calibration of aria01."""

    def edit(lines):
        numbers = change(np.array(lines[line].split(), float))
        return [*lines[:line], " ".join(f"{number:.16f}" for number in numbers), *lines[line + 1 :]]

    take.lines(f"ego/aria01/calib/{frame:05d}.txt", edit)


def test_calibration_of_fourteen_intrinsics(take):
    _edit_calibration(take, 6, 2, lambda numbers: numbers[:14])
    sequence = take.convert()
    assert concerns(sequence.findings) == {"ego_camera.unreadable", "frames.lacking"}
    assert only(sequence.findings, "ego_camera.unreadable")["frames"] == [[6, 6]]
    assert 6 not in sequence.frame


def test_calibration_of_seven_lines(take):
    take.lines("ego/aria01/calib/00006.txt", lambda lines: lines[:7])
    findings = take.convert().findings
    assert concerns(findings) == {"ego_camera.unreadable", "frames.lacking"}
    assert "7 lines, expected 8" in only(findings, "ego_camera.unreadable")["message"]


def test_rotation_of_a_calibration_that_is_sheared(take):
    _edit_calibration(take, 6, 3, lambda numbers: numbers + 0.004 * np.eye(12)[0])
    findings = take.convert().findings
    assert concerns(findings) == {"ego_camera.not_orthonormal"}
    assert only(findings, "ego_camera.not_orthonormal")["person"] == "aria01"


def test_lens_that_drifts(take):
    _edit_calibration(take, 30, 2, lambda numbers: numbers * [1.03, *[1] * 14])
    findings = take.convert().findings
    assert concerns(findings) == {"ego_camera.drift", "outliers.lens"}
    found = only(findings, "ego_camera.drift")
    assert found["camera"] == "aria01_rgb" and found["found"]["relative_to_focal"] == pytest.approx(0.03, abs=0.002)


def test_head_that_jumps(take):
    for line in (3, 5, 7):
        _edit_calibration(take, 30, line, lambda numbers: numbers + 0.9 * np.eye(12)[9])
    findings = take.convert().findings
    assert concerns(findings) == {"ego_camera.head_jump", "outliers.camera_pose"}
    assert only(findings, "ego_camera.head_jump")["frames"] == [[30, 31]]


def test_person_whom_nobody_sees(take):
    def fly(_, people):
        people["aria02"][:, 2] += 60 * people["aria02"][:, 3]

    take.poses(FIT, fly)
    take.poses(TRIANGULATED, fly)
    take.files = {p: data.replace(b"aria02", b"aria09") if "poses2d" in p else data for p, data in take.files.items()}
    findings = take.convert().findings
    expected = {"visibility.person_unseen", "plausibility.floor", "plausibility.height", "ego_camera.off_head"}
    assert concerns(findings) == expected
    off = only(findings, "ego_camera.off_head")
    assert off["person"] == "aria02" and off["found"]["frames"] == FRAMES
    assert off["found"]["median_m"] == pytest.approx(60, abs=0.5)
    unseen = only(findings, "visibility.person_unseen")
    assert (unseen["person"], unseen["found"]) == ("aria02", FRAMES)


def test_visibility_counts_every_pair_once(sound):
    sequence = sound.convert()
    for k, camera in enumerate(sequence.camera):
        found = next(
            f["found"] for f in sequence.findings if f["check"] == "visibility.camera" and f["camera"] == camera
        )
        others = [p for p in range(3) if sequence.person[p] != sequence.camera_wearer[k]]
        assert sum(found.values()) == FRAMES * len(others)
        assert found["in_view"] == (sequence.in_view[k].sum(axis=-1) >= 5).sum()


def test_manual_pose_with_a_scale_and_one_that_is_a_reflection(tmp_path):
    take = SimulatedTake.make(tmp_path / "raw", "01_tagging/008_tagging", 20, seed=3)
    path = "colmap/workplace/cam06.npy"
    matrix = load_npy(take.files[path], path)
    take.files[path] = npy(np.diag([2.5, 2.5, 2.5, 1]) @ matrix)
    findings = take.convert().findings
    assert concerns(findings) == {"exo_camera.manual_scale"}
    assert only(findings, "exo_camera.manual_scale")["found"] == pytest.approx(2.5)
    take.files[path] = npy(np.diag([1.0, 1, -1, 1]) @ matrix)
    sequence = take.convert()
    assert concerns(sequence.findings) == {"exo_camera.left_out"} and "cam06" not in sequence.camera
