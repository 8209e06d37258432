"""A lens or a pose that stands in a file once, for the whole take, is compared with what says the same twice."""

import pickle
import re

import numpy as np
import pytest
from converted_take import concerns, only
from simulated_take import CAMERAS, IMAGES, TRANSFORMS, SimulatedTake

from finepose_mp.cameras import Camera
from finepose_mp.preprocessing.egohumans import agreement, exo
from finepose_mp.preprocessing.egohumans.colmap import RegisteredImage
from finepose_mp.preprocessing.egohumans.rig import TakeCamera
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.preprocessing.simulation.writer import npy
from finepose_mp.preprocessing.unpickling import load_npy

MANUAL = "colmap/workplace/cam05.npy"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return SimulatedTake.make(tmp_path_factory.mktemp("sound") / "raw", "04_basketball/001_basketball", 24, 2)


@pytest.fixture
def take(sound):
    return sound.copy()


def test_a_sound_take_gives_no_reason_to_look(sound):
    assert concerns(sound.convert().findings) == set()


def change_lens(take, camera, number, change):
    """Changes one of the eight parameters of a fixed camera's line in cameras.txt."""
    start = f"{take.colmap_camera(camera)} "

    def changed(line):
        words = line.split()
        return " ".join([*words[: 4 + number], repr(change(float(words[4 + number]))), *words[5 + number :]])

    take.lines(CAMERAS, lambda lines: [changed(line) if line.startswith(start) else line for line in lines])


def change_registration(take, camera, number, change, registrations=None):
    """Changes a number of the pose lines of a fixed camera, of all or some of its registered images."""
    lines = take.files[IMAGES].decode().split("\n")
    places = [i for i, line in enumerate(lines) if f" {camera}/" in line][:registrations]
    for i in places:
        words = lines[i].split()
        lines[i] = " ".join([*words[: 1 + number], repr(change(float(words[1 + number]))), *words[2 + number :]])
    take.files[IMAGES] = "\n".join(lines).encode()


@pytest.mark.parametrize(
    "number, change, checks",
    [
        (0, lambda fx: fx + 60, {"exo_camera.unlike_lens"}),  # stretches what few joints are far from the middle of
        (2, lambda cx: cx + 20, {"outliers.reprojection"}),
        (3, lambda cy: cy + 80, {"reprojection.residual", "exo_camera.unlike_lens"}),
        (7, lambda k4: k4 + 4, {"exo_camera.unlike_lens"}),
    ],
)
def test_a_damaged_number_of_a_fixed_lens(take, number, change, checks):
    change_lens(take, "cam03", number, change)
    findings = take.convert().findings
    assert checks <= concerns(findings) <= checks | {"outliers.reprojection"}
    for check in checks:
        assert only(findings, check)["camera"] == "cam03"


def test_no_digit_of_a_fixed_lens_moves_people_far_unnoticed(sound):
    """Leading digits exchanged at random, as a flipped bit does."""
    expected, rng = sound.convert(), np.random.default_rng(4)
    text = sound.files[CAMERAS]
    starts = [text.index(line) for line in text.split(b"\n") if b" 3840 2160 " in line]
    for _ in range(30):
        line = text[(start := rng.choice(starts)) :].split(b"\n")[0]
        words = list(re.finditer(rb"[1-9.][0-9.]*", line[line.index(b" 2160 ") + 6 :]))
        word = words[rng.integers(len(words))]
        place = start + line.index(b" 2160 ") + 6 + word.start() + rng.integers(3)
        take = sound.copy()
        take.files[CAMERAS] = text[:place] + b"%d" % rng.integers(10) + text[place + 1 :]
        try:
            sequence = take.convert()
        except ValueError as error:
            assert CAMERAS in str(error)
            continue
        if concerns(sequence.findings):
            continue
        moved = np.abs(sequence.joints_2d_projected - expected.joints_2d_projected)
        assert np.nanmax(moved) < 15, text[start:place]


def cameras_with(params: np.ndarray) -> list[TakeCamera]:
    pose = np.eye(3, 4)
    return [
        TakeCamera(f"cam{k:02d}", "exo", "", Camera("opencv_fisheye", lens, (3840, 2160), pose), "")
        for k, lens in enumerate(params, start=1)
    ]


def findings_of_lenses(params: np.ndarray) -> list[dict]:
    findings = Findings()
    agreement.check_lenses(cameras_with(params), findings)
    return findings.items


def test_the_more_alike_lenses_are_the_less_may_one_differ():
    rng = np.random.default_rng(0)
    usual = np.array([1906.5, 1912.2, 1920, 1080, 0.028, 0.079, -0.103, 0.0495])
    alike = usual * (1 + rng.normal(0, [1e-4, 1e-4, 0, 0, 1e-3, 1e-3, 1e-3, 1e-3], (8, 8)))
    apart = usual * (1 + rng.normal(0, [3e-3, 3e-3, 3e-3, 5e-3, 0.05, 0.05, 0.05, 0.05], (8, 8)))
    assert findings_of_lenses(alike) == findings_of_lenses(apart) == []
    off = np.zeros((8, 8))
    off[4, 2] = 10.0  # the image's centre, which COLMAP keeps in the middle unless told otherwise
    (finding,) = findings_of_lenses(alike + off)
    assert (finding["camera"], finding["found"]) == ("cam05", 10.0) and "centre" in finding["message"]
    assert findings_of_lenses(apart + off) == []
    assert findings_of_lenses((alike + off)[:6]) == [], "too few to know what is usual"


def test_lenses_of_images_of_another_size_are_not_compared():
    lens = np.array([1906.5, 1912.2, 1920, 1080, 0.028, 0.079, -0.103, 0.0495])
    cameras = cameras_with(np.tile(lens, (9, 1)))
    halved = Camera("opencv_fisheye", lens * ([0.5] * 4 + [1] * 4), (1920, 1080), np.eye(3, 4))
    cameras[1] = TakeCamera("cam02", "exo", "", halved, "")
    findings = Findings()
    agreement.check_lenses(cameras, findings)
    assert findings.items == []


def test_the_systematic_part_of_offsets_is_found_in_noise_with_outliers():
    rng = np.random.default_rng(1)
    pixels = rng.uniform((600, 400), (3200, 1700), (3000, 2))
    noise = 8 * rng.standard_t(3, (3000, 2))
    noise[:200] += 300
    assert agreement.systematic_offset(pixels, noise) < 2
    shift, stretch = np.array([6.0, -3.0]), np.array([0.01, 0.0])
    added = shift + stretch * (pixels - pixels.mean(axis=0))
    expected = np.sqrt((added**2).sum(axis=1).mean())
    assert agreement.systematic_offset(pixels, noise + added) == pytest.approx(expected, abs=1)
    assert agreement.systematic_offset(np.tile(pixels[:1], (3000, 1)), noise + shift) == pytest.approx(6.7, abs=1)
    assert agreement.systematic_offset(pixels[-150:], noise[-150:]) is None


def test_a_pose_that_is_wrong_in_every_registered_image(take):
    scale = np.cbrt(np.linalg.det(take.transforms()["aria01"][:3, :3]))
    change_registration(take, "cam03", 4, lambda x: x + float(0.06 * scale))
    findings = take.convert().findings
    assert concerns(findings) == {"outliers.reprojection"}
    finding = only(findings, "outliers.reprojection")
    assert finding["camera"] == "cam03" and finding["found"] > finding["expected"]["systematic_px"]


def test_a_transform_that_moves_all_fixed_cameras_alike(take):
    """No camera is farther off than the others then; a large offset is reported all the same."""
    matrices = take.transforms()
    matrices["aria01"][:3, 3] += 0.08 * np.cbrt(np.linalg.det(matrices["aria01"][:3, :3]))
    take.files[TRANSFORMS] = pickle.dumps(matrices)
    findings = take.convert().findings
    named = {f["camera"] for f in findings if f["check"] == "outliers.reprojection"}
    assert len([name for name in named if name.startswith("cam")]) >= 2


def test_a_damaged_digit_of_a_quaternion(take):
    change_registration(take, "cam03", 1, lambda x: x + 1e-5, registrations=1)
    finding = only(take.convert().findings, "exo_camera.quaternion_norm")
    assert finding["camera"] == "cam03" and abs(finding["found"] - 1) < 1e-4


def test_quaternions_of_six_digits_are_as_good_as_their_file():
    rng = np.random.default_rng(3)
    norms = np.linalg.norm(np.round(rng.normal(size=(20, 4)), 6), axis=1) * 0 + 1 + rng.normal(0, 4e-7, 20)
    images = [RegisteredImage(k, "cam01", np.eye(3, 4), norm) for k, norm in enumerate(norms)]
    tolerance = exo._Colmap({}, {"cam01": images}).quaternion_tolerance
    assert 1e-5 < tolerance < 1e-4


def test_a_damaged_number_of_a_pose_made_by_hand(take):
    matrix = np.array(load_npy(take.files[MANUAL], MANUAL))
    matrix[0, 1] += 0.004
    take.files[MANUAL] = npy(matrix)
    finding = only(take.convert().findings, "exo_camera.not_orthonormal")
    assert finding["camera"] == "cam05" and finding["found"] > finding["expected"]["residual"]
