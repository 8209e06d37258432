"""Benchmark files: written as the official toolkit writes them, compared with converted takes, deviations found."""

import json
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from raw_take import CodeInAPickle, RawTake

from finepose_mp import schema
from finepose_mp.preprocessing.egohumans import benchmark_oracles, catalogue, dataset
from finepose_mp.preprocessing.egohumans.benchmark_files import Benchmark, BenchmarkError, _read_files, image_key
from finepose_mp.preprocessing.simulation import toolkit
from finepose_mp.preprocessing.simulation.benchmark_files import ALL, write_benchmark
from finepose_mp.preprocessing.unpickling import DamagedFileError, UnsafeFileError

TAKES = ("01_tagging/001_tagging", "03_fencing/003_fencing", "03_fencing/007_fencing")
TAGGING = TAKES[0]
FRAMES = 6


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Three tiny takes whose pixels are known by hand, and their benchmark files."""
    raw = tmp_path_factory.mktemp("raw")
    for name in TAKES:
        RawTake(FRAMES).write(raw / name)
    write_benchmark(raw, [catalogue.take(*name.split("/")) for name in TAKES])
    return raw


@pytest.fixture(scope="module")
def converted(raw, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "egohumans.h5"
    assert [outcome.error for outcome in dataset.convert(dataset.find_takes(raw), out)] == [None] * len(TAKES)
    return out


@pytest.fixture
def benchmark(raw, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(raw / "benchmark", tmp_path / "benchmark"))


def load(path: Path) -> dict:
    return json.loads(path.read_text())


def change_json(path: Path, change) -> None:
    content = load(path)
    change(content)
    path.write_text(json.dumps(content))


def annotation(content: dict, file_name: str, person: str) -> dict:
    image = next(image for image in content["images"] if image["file_name"] == file_name)
    return next(a for a in content["annotations"] if a["image_id"] == image["id"] and a["human_name"] == person)


# --- the form of the files ---


def test_keypoints_are_those_of_the_official_formulas(raw):
    """Pixels of the description's test vectors: nose of aria02 in the glasses of aria01, both noses in cam01."""
    ego = load(raw / "benchmark" / TAGGING / "coco/person_keypoints_ego_rgb.json")
    found = annotation(ego, f"{TAGGING}/ego/aria01/images/rgb/00001.jpg", "aria02")
    assert found["keypoints"][:3] == [828, 888, 2]  # 827.989 and 887.740, not 827.0 and 887.8
    assert found["keypoints_3d"][:4] == pytest.approx([0.6, -0.4, 2.0, 1.0])
    assert len(found["keypoints"]) == 51 and len(found["keypoints_3d"]) == 68
    exo = load(raw / "benchmark" / TAGGING / "coco/person_keypoints_exo.json")
    for person, pixel in (("aria01", [3196, 1720, 2]), ("aria02", [2471, 711, 2])):
        found = annotation(exo, f"{TAGGING}/exo/cam01/images/00001.jpg", person)
        assert found["keypoints"][:3] == pixel and found["keypoints_3d"] == [] and found["category_id"] == 1
    assert {a["human_name"] for a in ego["annotations"] if a["camera_name"] == "aria01"} == {"aria02"}


def test_what_is_behind_a_fixed_camera_is_mirrored_and_behind_glasses_is_outside():
    lens = np.array([1906.5, 1912.2, 1920, 1080, 0.028, 0.079, -0.103, 0.0495])
    ahead, behind = toolkit.exo_pixels(np.array([[0.3, -0.2, 1], [-0.3, 0.2, -1]]), lens)
    assert ahead == pytest.approx((2471.306502, 711.363478)) and behind == pytest.approx(ahead)
    aria = np.array(
        [610.0, 704.5, 702.25, 0.41, -0.48, 0.17, 1.13, -1.7, 0.65, 9e-4, -3e-4, -8e-4, -3e-4, -14e-4, 1e-4]
    )
    pixels = toolkit.aria_pixels(np.array([[1.0, 0.8, 2], [-0.9, 0.7, 1], [0, 0, 1], [0.3, 0.2, -1]]), aria, 1408)
    expected = [(468.454923, 1001.937976), (332.268428, 223.438839), (705.75, 704.5), (1409, -1)]
    assert np.allclose(pixels, expected, atol=1e-6)


def test_tracking_files_and_detections(raw):
    folder = raw / "benchmark" / TAGGING / "coco_track"
    tracking = load(folder / "tracking_ego_rgb.json")
    assert tracking["videos"][0] == {"id": 1, "name": "tagging_001_tagging_aria01_rgb"}
    assert tracking["image_num"] == len(tracking["images"]) == FRAMES  # aria02 sees nobody: pictures left out
    first = tracking["images"][0]
    assert len(first["extrinsics"]) == 16 and first["frame_id"] == 0 and first["id"] == 0
    found = tracking["annotations"][0]
    assert (found["instance_id"], found["human_name"], found["time_stamp"]) == (2, "aria02", 1)
    assert all(isinstance(number, int) for number in found["bbox"]) and "keypoints" not in found
    assert tracking["video_image_num"] == {"1": FRAMES}
    assert "extrinsics" not in load(folder / "tracking_exo.json")["images"][0]
    content = pickle.loads((folder / "detections_exo.pkl").read_bytes())
    boxes = content["det_bboxes"][f"{TAGGING}/exo/cam01/images/00001.jpg"]
    assert len(boxes) == 1 and boxes[0].shape == (2, 5) and "roots_3d" not in content


def test_boxes_shift_at_the_border_as_published():
    pixels = np.zeros((17, 2))
    pixels[:, 0], pixels[:, 1] = np.linspace(2, 102, 17), np.linspace(500, 600, 17)
    assert toolkit.box(pixels, np.ones(17, bool)) == [1, 480, 140, 140]


def test_the_nearest_of_five_registered_poses_counts():
    registered = [(number, np.full((4, 4), number)) for number in (500, 100, 300, 200, 400, 1)]
    assert toolkit.nearest_pose(registered, 1)[0, 0] == 100  # the sixth is never looked at
    assert toolkit.nearest_pose(registered, 250)[0, 0] == 300  # the first of two as near


def test_all_takes_together_have_the_known_defects(raw):
    content = load(raw / "benchmark" / ALL / "coco/person_keypoints_exo.json")
    takes = [image_key(image["file_name"]).take for image in content["images"]]
    assert takes.count(TAKES[1]) == 2 * takes.count(TAKES[0]) > 0 and TAKES[2] not in takes
    assert [image["id"] for image in content["images"]] == list(range(len(takes)))


# --- the three comparisons ---


def test_a_converted_take_equals_its_benchmark(raw, converted):
    result = benchmark_oracles.compare_file(converted, raw / "benchmark")
    assert result.problems == []
    assert [take.group for take in result.takes] == list(TAKES)
    for take in result.takes:
        assert take.poses == 2 * FRAMES and take.different == take.missing == 0
        cameras = {camera.camera: camera for camera in take.cameras}
        assert cameras["aria01_rgb"].extrinsics < 1e-12 and cameras["aria01_rgb"].joints > 5 * FRAMES
        assert cameras["aria01_rgb"].largest_px <= 0.51 and cameras["cam01"].largest_px <= 0.51
        assert str(cameras["cam01"]).startswith("cam01 passes: 95 % of pixels to 0.")
        assert "extrinsics to" in str(cameras["aria01_rgb"]) and "(allowed 1; median" in str(cameras["aria01_rgb"])
    notes = "\n".join(result.notes)
    assert f"{TAKES[1]} is contained twice" in notes and f"{TAKES[2]} is missing" in notes


def first_image_of(content: dict, camera: str) -> dict:
    return next(image for image in content["images"] if f"/{camera}/" in image["file_name"])


def wrong_extrinsics(folder: Path) -> None:
    def change(content: dict) -> None:
        first_image_of(content, "aria01")["extrinsics"][3] += 1e-4

    change_json(folder / "coco_track/tracking_ego_rgb.json", change)


def wrong_rotation(folder: Path) -> None:
    """Upright instead of sensor orientation."""

    def change(content: dict) -> None:
        for image in content["images"]:
            matrix = np.array(image["extrinsics"]).reshape(4, 4)
            matrix[:2] = np.stack([-matrix[1], matrix[0]])
            image["extrinsics"] = matrix.ravel().tolist()

    change_json(folder / "coco_track/tracking_ego_rgb.json", change)


def wrong_3d(folder: Path) -> None:
    path = folder / "coco_track/detections_exo.pkl"
    content = pickle.loads(path.read_bytes())
    next(iter(content["keypoints_3d"].values()))[0][0, 5, 2] += 1e-4
    path.write_bytes(pickle.dumps(content))


def exact_rotation(folder: Path) -> None:
    """Pixels of the exact rotation: what a repaired toolkit would publish."""

    def change(content: dict) -> None:
        for entry in content["annotations"]:
            entry["keypoints"][::3] = [u - 1 for u in entry["keypoints"][::3]]

    change_json(folder / "coco/person_keypoints_ego_rgb.json", change)


def shifted_exo(folder: Path) -> None:
    def change(content: dict) -> None:
        for entry in content["annotations"]:
            if entry["camera_name"] == "cam01":
                entry["keypoints"][1::3] = [v + 12 for v in entry["keypoints"][1::3]]

    change_json(folder / "coco/person_keypoints_exo.json", change)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (wrong_extrinsics, ["camera aria01_rgb", "extrinsics"]),
        (wrong_rotation, ["camera aria01_rgb", "extrinsics"]),
        (wrong_3d, ["3D joints of 1 of 12 poses", "0.1 mm"]),
        (exact_rotation, ["camera aria01_rgb", "tolerance 1"]),
        (shifted_exo, ["camera cam01", "tolerance 10"]),
    ],
)
def test_deviations_are_found(benchmark, converted, spoil, words):
    spoil(benchmark / TAGGING)
    problems = benchmark_oracles.compare_file(converted, benchmark).problems
    assert len(problems) == 1 and problems[0].startswith(TAGGING)
    assert all(word in problems[0] for word in words), problems


def test_takes_that_lie_only_with_all_the_others(benchmark, converted):
    for name in TAKES:
        shutil.rmtree(benchmark / name)
    result = benchmark_oracles.compare_file(converted, benchmark)
    assert result.problems == [f"{TAKES[2]}: the benchmark has nothing about this take"]
    assert result.takes[1].poses == 2 * FRAMES  # once, though it is there twice
    sequence = with_benchmark(converted, benchmark, TAKES[1])
    repeated = next(f for f in sequence.findings if f["check"] == "benchmark.repeated")
    counts = {Path(path).name: count for path, count in repeated["found"].items()}
    assert counts["person_keypoints_exo.json"] == 2 * FRAMES


# --- as detections ---


def with_benchmark(converted: Path, folder: Path, name: str = TAGGING) -> schema.Sequence:
    from finepose_mp.preprocessing.egohumans.benchmark_import import attach

    with schema.open_file(converted) as file:
        return attach(schema.read_sequence(file, name), Benchmark(folder))


def found_of(sequence: schema.Sequence, camera: str, person: str) -> tuple[np.ndarray, np.ndarray]:
    k, p = sequence.camera.index(camera), sequence.person.index(person)
    return sequence.joints_2d_detected[k, :, p], sequence.detection_score[k, :, p]


def test_published_keypoints_become_detections_on_our_pixels(raw, converted):
    sequence = with_benchmark(converted, raw / "benchmark")
    pixels, scores = found_of(sequence, "aria01_rgb", "aria02")
    assert pixels[0, 0].tolist() == [827, 888] and scores[0, 0] == 1  # one pixel to the left of the published 828
    k, p = sequence.camera.index("aria01_rgb"), sequence.person.index("aria02")
    seen = (sequence.in_view[k, :, p] == 1) & (scores > 0)
    assert seen.sum() > 5 * FRAMES and np.array_equal(np.isfinite(pixels[..., 0]), scores > 0)
    assert np.abs(pixels - sequence.joints_2d_projected[k, :, p])[seen].max() < 1.2
    pixels, _ = found_of(sequence, "cam01", "aria01")
    assert pixels[0, 0].tolist() == [3196, 1720]
    assert not np.isfinite(found_of(sequence, "aria01_rgb", "aria01")[0]).any()
    assert sequence.findings[-1]["check"] == "benchmark.empty"
    imported = next(f for f in sequence.findings if f["check"] == "benchmark.imported")
    assert imported["found"]["aria01_rgb"] == FRAMES


def test_an_external_detectors_keypoints_win_and_keep_their_scores(benchmark, converted):
    tracking = load(benchmark / TAGGING / "coco_track/tracking_exo.json")
    for entry in tracking["annotations"]:
        entry["keypoints"] = [10.5, 20.5, 0.75] * 17
        del entry["human_name"]  # its identity is the number
    (benchmark / TAGGING / "my_detector.json").write_text(json.dumps(tracking))
    sequence = with_benchmark(converted, benchmark)
    pixels, scores = found_of(sequence, "cam01", "aria02")
    assert (pixels == [10.5, 20.5]).all() and (scores == 0.75).all()


def test_what_does_not_fit_is_found(benchmark, converted):
    def change(content: dict) -> None:
        content["annotations"][0]["instance_id"] = 7
        content["annotations"][1]["human_name"] = content["annotations"][1]["camera_name"] = "aria01"
        for image in content["images"][2:4]:
            image["file_name"] = image["file_name"].replace("0000", "0009")

    change_json(benchmark / TAGGING / "coco_track/tracking_ego_rgb.json", change)

    def wearer(content: dict) -> None:
        content["annotations"][0]["human_name"] = "aria01"
        content["images"][-1]["file_name"] = f"{TAGGING}/exo/cam77/images/00001.jpg"

    change_json(benchmark / TAGGING / "coco/person_keypoints_ego_rgb.json", wearer)
    findings = {f["check"]: f for f in with_benchmark(converted, benchmark).findings}
    assert "instance_id 7" in findings["benchmark.identity"]["message"]
    assert findings["benchmark.unknown_frames"]["frames"] == [[93, 94]]
    assert findings["benchmark.unknown_camera"]["found"] == ["cam77"]
    assert "wears the camera" in findings["benchmark.ignored"]["message"]


# --- damaged and hostile ---


def test_a_pickle_that_would_run_code_is_refused(benchmark, converted, tmp_path):
    witness = tmp_path / "witness"
    (benchmark / TAGGING / "coco_track/detections_exo.pkl").write_bytes(pickle.dumps(CodeInAPickle(witness)))
    with pytest.raises(UnsafeFileError, match=r"detections_exo\.pkl"):
        Benchmark(benchmark).take(TAGGING)
    assert any("detections_exo.pkl" in p for p in benchmark_oracles.compare_file(converted, benchmark).problems)
    assert not witness.exists()


@pytest.mark.parametrize(
    "content",
    [
        "<html>",
        '{"images": [{"file_name": "x',
        '{"images": [{"file_name": "01_tagging/001_tagging/exo/cam01/images/00001.jpg", "id": []}]}',
        '{"images": [{"file_name": "01_tagging/001_tagging/exo/cam01/images/00001.jpg", "extrinsics": ["a"]}]}',
        '{"images": [{"file_name": "../../etc/passwd"}]}',
        '{"images": [7]}',
        "[]",
        "",
        "\x00" * 100,
        "[" * 100_000,
    ],
)
def test_damaged_json_names_its_file(benchmark, content):
    (benchmark / TAGGING / "coco/person_keypoints_exo.json").write_text(content)
    with pytest.raises(DamagedFileError, match=r"person_keypoints_exo\.json"):
        Benchmark(benchmark).take(TAGGING)


@pytest.mark.parametrize("name", ["coco/person_keypoints_ego_rgb.json", "coco_track/detections_ego_rgb.pkl"])
def test_mutated_bytes_give_data_or_a_named_error(benchmark, name):
    path, chance = benchmark / TAGGING / name, random.Random(0)
    for other in (benchmark / TAGGING).rglob("*_exo.*"):
        other.unlink()
    original = path.read_bytes()
    refused = 0
    for _ in range(150):
        data = bytearray(original)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            _read_files.cache_clear()
            Benchmark(benchmark).take(TAGGING)
        except (DamagedFileError, UnsafeFileError) as error:
            refused += path.name in str(error)
    assert refused > 20


def test_a_folder_without_benchmark_files(tmp_path, raw):
    with pytest.raises(BenchmarkError, match="no benchmark files"):
        dataset.convert(dataset.find_takes(raw), tmp_path / "out.h5", benchmark=tmp_path)
    assert not (tmp_path / "out.h5").exists()


# --- tools ---


def run(tool: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "tools" / tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_tools_take_a_benchmark(raw, benchmark, tmp_path):
    out = tmp_path / "out.h5"
    done = run("convert.py", "egohumans", "--raw", raw / TAGGING, "--out", out, "--benchmark", benchmark)
    assert done.returncode == 0, done.stderr
    with schema.open_file(out) as file:
        assert any(f["check"] == "benchmark.imported" for f in schema.read_sequence(file, TAGGING).findings)
    assert json.dumps(benchmark_oracles.compare_file(out, benchmark).as_dict())
    wrong_3d(benchmark / TAGGING)
    done = run("validate.py", out, "--benchmark", benchmark)
    assert done.returncode == 1 and "1 beyond tolerance" in done.stdout
    assert "cam01 passes: 95 % of pixels to" in done.stdout
