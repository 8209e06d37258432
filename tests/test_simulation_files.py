"""Simulated takes have the raw layout of EgoHumans, repeat byte for byte, and reproject onto their own detections.

The reading here follows the description of the download and shares no code with the simulator or the converter.
"""

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image

from finepose_mp.preprocessing.egohumans import catalogue
from finepose_mp.preprocessing.simulation.dataset import plan_takes, simulate
from finepose_mp.preprocessing.simulation.detections import NoiseModel

FRAMES = 8
# Together they have every oddity: invalid Arias (aria01 among them), manual and invalid cameras, a half-size camera,
# 17 and 133 keypoints, a phone among the registered images.
TAKES = (
    "01_tagging/007_tagging",
    "03_fencing/012_fencing",
    "04_basketball/004_basketball",
    "05_volleyball/002_volleyball",
)


def facts(names: tuple[str, ...]) -> list[catalogue.Take]:
    return [catalogue.take(*name.split("/")) for name in names]


@pytest.fixture(scope="module")
def exact(tmp_path_factory) -> Path:
    """Takes without any noise."""
    out = tmp_path_factory.mktemp("exact")
    simulate(out, facts(TAKES), FRAMES, seed=1, noise=NoiseModel.none())
    return out


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("noisy")
    simulate(out, facts(TAKES[:1]), 60, seed=2)
    return out / TAKES[0]


def load(path: Path):
    return np.load(path, allow_pickle=True)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def colmap(take: Path) -> tuple[dict, dict]:
    """Camera id -> (width, height, parameters), and folder -> [(camera id, 4x4 pose)], read as the format says."""
    cameras, images = {}, {}
    for line in (take / "colmap/workplace/cameras.txt").read_text().splitlines():
        if not line.startswith("#"):
            words = line.split()
            assert words[1] == "OPENCV_FISHEYE" and len(words) == 12
            cameras[int(words[0])] = (int(words[2]), int(words[3]), np.array(words[4:], float))
    lines = [x for x in (take / "colmap/workplace/images.txt").read_text().split("\n") if not x.startswith("#")][:-1]
    assert len(lines) % 2 == 0
    for line in lines[::2]:
        words = line.split()
        w, x, y, z = np.array(words[1:5], float)
        pose = np.eye(4)
        pose[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        pose[:3, 3] = np.array(words[5:8], float)
        images.setdefault(words[9].split("/")[0], []).append((int(words[8]), pose))
    return cameras, images


def opencv_fisheye(points: np.ndarray, lens: np.ndarray) -> np.ndarray:
    fx, fy, cx, cy, *k = lens
    a, b = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
    r = np.hypot(a, b)
    theta = np.arctan(r)
    ratio = theta * (1 + sum(k[i] * theta ** (2 * i + 2) for i in range(4))) / r
    return np.stack([fx * ratio * a + cx, fy * ratio * b + cy], axis=-1)


def fisheye624_upright(points: np.ndarray, lens: np.ndarray, height: int) -> np.ndarray:
    f, cu, cv, *rest = lens
    k, (p0, p1), (s0, s1, s2, s3) = rest[:6], rest[6:8], rest[8:]
    a, b = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
    r = np.hypot(a, b)
    theta = np.arctan(r)
    ratio = theta * (1 + sum(k[i] * theta ** (2 * i + 2) for i in range(6))) / r
    x, y = ratio * a, ratio * b
    rho2 = x**2 + y**2
    d = 2 * (p0 * x + p1 * y)
    u = f * (x + d * x + p0 * rho2 + s0 * rho2 + s1 * rho2**2) + cu
    v = f * (y + d * y + p1 * rho2 + s2 * rho2 + s3 * rho2**2) + cv
    return np.stack([height - 1 - v, u], axis=-1)


def calibration(take: Path, aria: str, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """RGB lens (15,) and pose (4, 4) of one frame, in the Aria's own world."""
    lines = (take / f"ego/{aria}/calib/{frame:05d}.txt").read_text().splitlines()
    assert len(lines) == 8 and [len(line.split()) for line in lines[2:]] == [15, 12] * 3
    pose = np.eye(4)
    pose[:3] = np.array(lines[3].split(), float).reshape(4, 3).T
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    return np.array(lines[2].split(), float), pose


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def compare(take: Path, camera: str, frame: int, pixels_of) -> int:
    """Checks the detections of one image against projected joints; returns how many joints were compared."""
    fit = load(take / f"processed_data/fit_poses3d/{frame:05d}.npy").item()
    compared = 0
    for entry in load(take / f"processed_data/poses2d/{camera}/rgb/{frame:05d}.npy"):
        assert entry["human_name"] != camera
        sure = entry["keypoints"][:17, 2] > 0.5
        expected = pixels_of(fit[entry["human_name"]][:, :3])[sure]
        assert np.allclose(entry["keypoints"][:17, :2][sure], expected, atol=2e-3)
        compared += int(sure.sum())
    return compared


@pytest.mark.parametrize("name", TAKES)
def test_fixed_cameras_reproject_onto_their_detections(exact, name):
    take = exact / name
    known = facts((name,))[0]
    cameras, images = colmap(take)
    anchor = pickle.loads((take / "colmap/workplace/colmap_from_aria_transforms.pkl").read_bytes())["aria01"]
    scale = np.cbrt(np.linalg.det(anchor[:3, :3]))
    assert abs(np.log(scale)) > 0.01
    compared = {}
    for camera in known.exo_cameras:
        poses = [pose for _, pose in images[camera]]
        if camera in known.manual_cameras:
            poses = [load(take / f"colmap/workplace/{camera}.npy")]
        width, height, lens = cameras[images[camera][0][0]]
        with Image.open(take / f"exo/{camera}/images/00001.jpg") as image:
            assert image.size == (width, height)
        for frame in (1, FRAMES):
            compared[camera] = sum(
                compare(
                    take, camera, frame, lambda x, pose=pose, lens=lens: opencv_fisheye(apply(pose @ anchor, x), lens)
                )
                for pose in poses
            )
    assert min(compared.values()) > 0


@pytest.mark.parametrize("name", TAKES)
def test_glasses_reproject_onto_their_detections(exact, name):
    take = exact / name
    known = facts((name,))[0]
    transforms = pickle.loads((take / "colmap/workplace/colmap_from_aria_transforms.pkl").read_bytes())
    assert set(transforms) == {*known.arias, *known.invalid_arias}
    compared, scales = 0, []
    for aria in known.arias:
        own_from_world = np.linalg.solve(transforms[aria], transforms["aria01"])
        scales.append(np.cbrt(np.linalg.det(own_from_world[:3, :3])))
        for frame in range(1, FRAMES + 1):
            lens, pose = calibration(take, aria, frame)
            compared += compare(
                take, aria, frame, lambda x, m=pose @ own_from_world, k=lens: fisheye624_upright(apply(m, x), k, 1408)
            )
    assert compared > 100
    assert np.abs(np.array(scales) - 1).max() < 0.03 and np.ptp(scales) > 1e-4


@pytest.mark.parametrize("name", TAKES)
def test_layout_is_complete(exact, name):
    take, known = exact / name, facts((name,))[0]
    numbered = [f"{frame:05d}" for frame in range(1, FRAMES + 1)]
    arias = {*known.arias, *known.invalid_arias}
    assert {path.name for path in (take / "ego").iterdir()} == arias
    there = {*known.exo_cameras, *known.invalid_cameras} - {*known.absent_cameras}
    assert {path.name for path in (take / "exo").iterdir()} == there
    views = {path.name for path in (take / "processed_data/poses2d").iterdir()}
    assert views == {*known.arias, *known.exo_cameras}
    folders = ["fit_poses3d", "poses3d", *(f"poses2d/{view}/rgb" for view in views)]
    for folder in (*(f"processed_data/{folder}" for folder in folders), *(f"ego/{aria}/calib" for aria in arias)):
        assert sorted(path.stem for path in (take / folder).iterdir()) == numbered, folder
    for aria in arias:
        for sensor, size, mode in (("rgb", (1408, 1408), "RGB"), ("left", (480, 640), "L"), ("right", (480, 640), "L")):
            with Image.open(take / f"ego/{aria}/images/{sensor}/00001.jpg") as image:
                assert (image.size, image.mode) == (size, mode) and b"SIMULATED" in image.info["comment"]
    assert {path.name for path in (take / "colmap/workplace").iterdir()} == {
        "cameras.txt",
        "images.txt",
        "points3D.txt",
        "colmap_from_aria_transforms.pkl",
        "aria_from_colmap_transforms.pkl",
        *(f"{camera}.npy" for camera in known.manual_cameras),
    }
    for file in ("cameras.txt", "images.txt", "points3D.txt"):
        assert "SIMULATED" in (take / f"colmap/workplace/{file}").read_text().split("\n")[0]
    assert "SIMULATED" in (take / "ego/aria02/calib/00001.txt").read_text().split("\n")[0]


@pytest.mark.parametrize("name", TAKES)
def test_poses_are_of_valid_people_above_the_floor(exact, name):
    take, known = exact / name, facts((name,))[0]
    for folder in ("fit_poses3d", "poses3d"):
        poses = load(take / f"processed_data/{folder}/00001.npy")
        assert poses.shape == () and sorted(poses.item()) == list(known.arias)
        assert all(pose.shape == (17, 4) and pose.dtype == np.float64 for pose in poses.item().values())
    fit = load(take / "processed_data/fit_poses3d/00001.npy").item()
    assert all((pose[:, 3] == 1).all() for pose in fit.values())
    ankles = np.concatenate([pose[15:, 2] for pose in fit.values()])
    assert -1.7 < ankles.min() < -1.1


def test_oddities_of_colmap_are_there(exact, noisy):
    cameras, images = colmap(noisy)
    anchor = pickle.loads((noisy / "colmap/workplace/colmap_from_aria_transforms.pkl").read_bytes())["aria01"]
    assert (
        [size[:2] for size in cameras.values()].count((1408, 1408)) == 4 == sum(name[:4] == "aria" for name in images)
    )
    centres = []
    for camera_id, pose in images["cam01"]:
        matrix = pose @ anchor
        centres.append(-np.linalg.solve(matrix[:3, :3], matrix[:3, 3]))
        assert cameras[camera_id][:2] == (3840, 2160)
    spread = np.linalg.norm(np.array(centres) - np.mean(centres, axis=0), axis=1)
    assert len(centres) >= 3 and 1e-4 < spread.max() < 0.02
    lines = (noisy / "colmap/workplace/images.txt").read_text().split("\n")[4:-1]
    empty = [not line for line in lines[1::2]]
    assert any(empty) and not all(empty)
    # The registered pose of the camera that was placed by hand is of no use.
    by_hand = load(noisy / "colmap/workplace/cam06.npy")
    assert np.abs(by_hand - images["cam06"][0][1]).max() > 0.1 and len(images["cam06"]) == 1
    cameras, _ = colmap(exact / TAKES[3])
    assert (1920, 1080) in {size[:2] for size in cameras.values()}
    assert "mobile" in colmap(exact / TAKES[1])[1]


def test_detections_have_the_awkward_forms(exact, noisy):
    entries, empty, missing = [], 0, 0
    for path in sorted(noisy.glob("processed_data/poses2d/*/rgb/*.npy")):
        array = load(path)
        if array.dtype != object:
            assert array.shape == (0,) and array.dtype == float
            empty += 1
            continue
        entries += list(array)
        missing += path.parent.parent.name.startswith("cam") and len(array) < 4
    assert empty and missing
    whole = [entry for entry in entries if "is_valid" in entry]
    assert {entry["keypoints"].shape for entry in entries} == {(133, 3)}
    assert {entry["bbox"].shape for entry in entries} == {(5,)}
    assert all(entry["raw_keypoints_confidence"].shape == (133,) for entry in whole)
    assert any(not e["keypoints"].any() for e in entries if "is_valid" not in e)
    rejected = [entry for entry in whole if not entry["is_valid"]]
    assert rejected and all(not e["keypoints"][:, 2].any() and e["raw_keypoints_confidence"].any() for e in rejected)
    names = {"aria01": 0, "aria02": 1, "aria03": 2, "aria04": 3}
    assert {(entry["human_name"], entry["human_id"]) for entry in entries} == set(names.items())
    fencing = [load(p) for p in (exact / TAKES[1]).glob("processed_data/poses2d/cam01/rgb/*.npy")]
    assert {(e["human_name"], e["human_id"]) for array in fencing for e in array} == {("aria01", 0), ("aria03", 1)}
    volleyball = load(exact / TAKES[3] / "processed_data/poses2d/cam01/rgb/00001.npy")
    assert {entry["keypoints"].shape for entry in volleyball} == {(17, 3)}


def test_triangulations_have_gaps_and_the_fit_has_none(noisy):
    flags, distance = [], []
    for path in sorted((noisy / "processed_data/poses3d").iterdir()):
        raw, fit = load(path).item(), load(noisy / "processed_data/fit_poses3d" / path.name).item()
        for person, pose in raw.items():
            assert not pose[pose[:, 3] == 0].any()
            flags.append(pose[:, 3])
            seen = pose[:, 3] == 1
            distance.append(np.linalg.norm(pose[seen, :3] - fit[person][seen, :3], axis=1))
    assert 0.9 < np.mean(flags) < 1
    assert 0.002 < np.median(np.concatenate(distance)) < 0.03


def test_marks_say_what_is_simulated(noisy):
    top, take = (json.loads((folder / "SIMULATED.json").read_text()) for folder in (noisy.parent.parent, noisy))
    assert top["simulated"] is True and top["takes"] == [TAKES[0]] and top["seed"] == 2
    assert (take["scene"], take["action"]) == ("Tagging", "playing tag")
    assert take["motion"]["source"] == "built-in articulated model" and set(take["people"]) == {
        f"aria0{i}" for i in (1, 2, 3, 4)
    }
    assert take["noise_model"]["relative"] == NoiseModel().relative and take["generator_version"]


def test_same_seed_same_bytes_whatever_else_is_simulated(tmp_path):
    takes = facts(("02_legoassemble/001_legoassemble", "07_tennis/001_tennis"))
    simulate(tmp_path / "a", takes, 5, seed=3)
    simulate(tmp_path / "b", takes[1:], 5, seed=3)
    simulate(tmp_path / "c", takes[1:], 5, seed=4)
    a, b, c = (digests(tmp_path / part / "07_tennis") for part in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a if "fit_poses3d" in name or "calib" in name or "jpg" in name)


def test_frames_are_seen_by_others(exact):
    counts = [len(load(path)) for path in exact.glob("*/*/processed_data/poses2d/aria*/rgb/*.npy")]
    assert np.mean(np.array(counts) > 0) > 0.3


@pytest.mark.parametrize(
    "scenes, takes, message",
    [
        (["chess"], 1, "unknown scene 'chess'; known: tagging"),
        ([], 1, "name each scene to simulate once, found none"),
        (["tennis", "tennis"], 1, "found tennis tennis"),
        (["tennis"], 0, "at least one take"),
    ],
)
def test_impossible_plans_are_refused(scenes, takes, message):
    with pytest.raises(ValueError, match=message):
        plan_takes(scenes, takes)


def test_plan_takes_as_many_as_there_are():
    plan = plan_takes(["fencing", "legoassemble"], 7)
    assert [take.name for take in plan][5:7] == ["02_legoassemble/006_legoassemble", "03_fencing/001_fencing"]
    assert len(plan) == 13


def test_too_short_takes_and_used_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 2 frames, found 1"):
        simulate(tmp_path / "out", facts(TAKES[:1]), 1, seed=0)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        simulate(tmp_path, facts(TAKES[:1]), 5, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def run_tool(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "tools/simulate.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_tool_writes_takes_and_says_what_comes_next(tmp_path):
    result = run_tool("--out", tmp_path / "raw", "--scenes", "legoassemble", "--takes", 1, "--frames", 4, "--seed", 9)
    assert result.returncode == 0, result.stderr
    assert "1 of legoassemble" in result.stdout and "convert.py egohumans --raw" in result.stdout
    assert (tmp_path / "raw/02_legoassemble/001_legoassemble/processed_data/fit_poses3d/00004.npy").is_file()


def test_tool_explains_what_is_wrong(tmp_path):
    for arguments, message in (
        (("--scenes", "chess"), "unknown scene 'chess'"),
        (("--motion", tmp_path / "no.npz"), "no such motion file"),
        (("--frames", "0"), "at least 2 frames"),
    ):
        result = run_tool("--out", tmp_path / "raw", *arguments)
        assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr
