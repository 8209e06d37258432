"""Human3.6M: every kind of archive gives the same file, with what is known about its clips."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from conftest import REPOSITORY

from finepose_mp import schema
from finepose_mp.preprocessing.conversion import Outcome
from finepose_mp.preprocessing.human36m import dataset, facts, full_size, synthetic
from finepose_mp.preprocessing.human36m.archive import find_archive
from finepose_mp.preprocessing.human36m.poses import CdfPoses

LENGTHS = {
    ("S1", "Directions 1"): 14,
    ("S1", "Photo 1"): 9,
    ("S7", "WalkDog"): 11,
    ("S9", "Greeting"): 12,
    ("S11", "Directions"): 10,
}
# Pelvis, right leg, left leg, spine, neck, head, top of the head, left arm, right arm among the 32.
KEPT = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    root = tmp_path_factory.mktemp("human36m")
    synthetic.write_official(root / "official", LENGTHS, with_d2=True, with_metadata=True)
    synthetic.write_official(root / "double", LENGTHS, dtype="f8")
    synthetic.write_official(root / "fetch" / "extracted", LENGTHS, flat=True)
    synthetic.write_community(root / "community" / "data_3d_h36m.npz", LENGTHS)
    synthetic.write_baseline(root / "baseline" / "h36m", LENGTHS)
    return root


@pytest.fixture(scope="module")
def official(archives):
    """The file converted from the official archive."""
    convert(archives / "official", archives / "official.h5")
    return archives / "official.h5"


def convert(raw, out, **options):
    return dataset.convert(find_archive(raw), out, **options)


def read(path, name):
    with schema.open_file(path) as file:
        return schema.read_sequence(file, name)


def checks(findings, prefix=""):
    return {item["check"] for item in findings if item["check"].startswith(prefix)}


def assert_same_data(one, other):
    """Everything but where it came from and what was noticed on the way."""
    with schema.open_file(one) as first, schema.open_file(other) as second:
        assert schema.sequence_names(first) == schema.sequence_names(second)
        assert dict(first.attrs).keys() == dict(second.attrs).keys()
        for name in schema.sequence_names(first):
            for key, values in first[name].items():
                assert values.dtype == second[name][key].dtype
                np.testing.assert_array_equal(values[...], second[name][key][...], err_msg=f"{name}/{key}")
            for key in first[name].attrs.keys() - {"source_files", "findings", "raw_fingerprint"}:
                np.testing.assert_array_equal(first[name].attrs[key], second[name].attrs[key], err_msg=key)


@pytest.mark.parametrize("kind", ["double", "fetch", "community", "community/data_3d_h36m.npz", "baseline"])
def test_every_kind_of_archive_gives_the_same_file(archives, official, tmp_path, kind):
    report = convert(archives / kind, tmp_path / "other.h5")
    assert [outcome.error for outcome in report.outcomes] == [None] * len(LENGTHS)
    assert_same_data(official, tmp_path / "other.h5")


def test_joints_are_the_seventeen_in_metres_and_in_order(tmp_path):
    frames, joints = np.meshgrid(np.arange(5), np.arange(32), indexing="ij")
    millimetres = np.stack([joints * 10.0, frames * 7.0, joints * 0 - 3.0], axis=-1)
    synthetic.write_cdf(tmp_path / "Posing.cdf", millimetres)
    metres = CdfPoses(tmp_path / "Posing.cdf", tmp_path).read().joints_3d_world
    assert metres.dtype == np.float32
    np.testing.assert_allclose(metres[:, :, 0], np.tile(np.array(KEPT) / 100, (5, 1)), rtol=1e-6)
    np.testing.assert_allclose(metres[:, 4, 1], np.arange(5) * 0.007, rtol=1e-6)
    np.testing.assert_allclose(metres[..., 2], -0.003, rtol=1e-6)


def test_the_file_says_what_is_known_about_a_clip(official):
    walk, photo, test = (read(official, name) for name in ("S7/WalkDog", "S1/Photo 1", "S9/Greeting"))
    assert (walk.scene, walk.action, walk.split, walk.fps) == ("Walking Dog", "walking the dog", "train", 50)
    assert (photo.scene, photo.action) == ("Photo", "taking a photo")
    assert (test.split, test.subjects, test.person, test.world_up) == ("test", ["S9"], ["S9"], "+z")
    assert test.camera == ["54138969", "55011271", "58860488", "60457274"]
    assert set(test.camera_kind) == {"exo"} and set(test.camera_model) == {"human36m"}
    assert test.frame.tolist() == list(range(1, 13))
    assert test.simulated  # these are not the data set's people
    np.testing.assert_array_equal(test.image_size, [[1000, 1002], [1000, 1000], [1000, 1000], [1000, 1002]])
    np.testing.assert_array_equal(walk.image_size, [[1000, 1002]] * 4)  # S7's images are all of one height
    assert "S1/MyPoseFeatures/D3_Positions/TakingPhoto 1.cdf" in photo.source_files
    assert np.all(photo.joint_status == schema.OBSERVED) and np.all(photo.in_view == 1)


def test_clips_are_the_published_ones(shared):
    published = json.loads((shared / "formats" / "human36m_frame_counts.json").read_text())["clips"]
    assert {s: {c["canonical"]: c["T"] for c in clips} for s, clips in published.items()} == {
        subject: {clip.name: clip.frames for clip in clips.values()} for subject, clips in facts.clips().items()
    }
    for subject, clips in published.items():
        for said in clips:
            clip = facts.find_clip(subject, facts.canonical_name(said["file_stem"]))
            assert (clip.number, clip.take) == (said["action_id"], said["subaction"])
            assert clip.action == said["canonical"].split(" ")[0]
            assert clip.is_truncated == said["short_mocap"]


def test_within_a_scene_whole_takes_are_divided():
    for scene in {clip.scene for clips in facts.clips().values() for clip in clips.values()}:
        sides = [c.split_within_scene for clips in facts.clips().values() for c in clips.values() if c.scene == scene]
        assert (len(sides), sides.count("test"), sides.count("val")) == (14, 3, 3), scene


@pytest.mark.parametrize(
    "name, defects",
    [
        ("S9/Greeting", {"defect.shifted_3d", "defect.truncated"}),
        ("S9/SittingDown 1", {"defect.shifted_3d", "defect.truncated"}),
        ("S9/Waiting 1", {"defect.shifted_3d", "defect.truncated"}),
        ("S9/Walking", {"defect.truncated"}),
        ("S9/SittingDown", set()),
        ("S1/SittingDown", {"defect.truncated"}),
        ("S11/Directions", {"defect.unreadable_video"}),
        ("S11/Directions 1", set()),
    ],
)
def test_known_defects_are_marked_and_kept(tmp_path, name, defects):
    synthetic.write_official(tmp_path / "raw", {tuple(name.split("/")): 4})
    convert(tmp_path / "raw", tmp_path / "out.h5")
    sequence = read(tmp_path / "out.h5", name)
    assert checks(sequence.findings, "defect.") == defects
    cameras = [item["camera"] for item in sequence.findings if item["check"] == "defect.unreadable_video"]
    assert cameras == (["54138969"] if "defect.unreadable_video" in defects else [])


def test_the_shift_of_three_takes_is_taken_out_on_request(archives, official, tmp_path):
    convert(archives / "official", tmp_path / "corrected.h5", correct_shift=True)
    for name, metres in (("S9/Greeting", [-0.2, 0, 0]), ("S1/Photo 1", [0, 0, 0])):
        before, after = read(official, name), read(tmp_path / "corrected.h5", name)
        moved = after.joints_3d_world - before.joints_3d_world
        np.testing.assert_allclose(moved, np.broadcast_to(metres, moved.shape), atol=1e-6)
        # D2_Positions belong to the poses as published, corrected or not.
        assert all(item["severity"] == "info" for item in after.findings if item["check"] == "d2.projection")
    corrected = read(tmp_path / "corrected.h5", "S9/Greeting")
    assert np.nanmedian(np.abs(corrected.joints_2d_projected - read(official, "S9/Greeting").joints_2d_projected)) > 5
    assert [f["severity"] for f in corrected.findings if f["check"] == "defect.shifted_3d"] == ["info"]


def test_official_2d_positions_are_reproduced_and_another_cameras_are_noticed(archives, official, tmp_path):
    found = [f for f in read(official, "S7/WalkDog").findings if f["check"] == "d2.projection"]
    assert len(found) == 4 and all(f["severity"] == "info" and f["found"] < 1e-3 for f in found)
    raw = synthetic.write_official(tmp_path / "raw", {("S7", "WalkDog"): 6}, with_d2=True)
    folder = raw / "S7/MyPoseFeatures/D2_Positions"
    (folder / "WalkDog.54138969.cdf").rename(folder / "aside")
    (folder / "WalkDog.60457274.cdf").rename(folder / "WalkDog.54138969.cdf")
    report = convert(raw, tmp_path / "out.h5")
    found = {f["camera"]: f["severity"] for f in report.outcomes[0].findings if f["check"] == "d2.projection"}
    assert found == {"54138969": "error", "55011271": "info", "58860488": "info"}


def test_2d_positions_a_thousandth_of_a_pixel_off_are_noticed(tmp_path):
    raw = synthetic.write_official(tmp_path / "raw", {("S8", "Eating"): 6}, with_d2=True)
    path = raw / "S8/MyPoseFeatures/D2_Positions/Eating.55011271.cdf"
    pixels = CdfPoses(raw / "S8/MyPoseFeatures/D3_Positions/Eating.cdf", raw, (("c", path),)).read()
    shifted = np.zeros((6, 32, 2))
    shifted[:, KEPT] = pixels.joints_2d_published["c"] + 0.02
    path.unlink()
    synthetic.write_cdf(path, shifted)
    report = convert(raw, tmp_path / "out.h5")
    found = {f["camera"]: f["severity"] for f in report.outcomes[0].findings if f["check"] == "d2.projection"}
    assert found["55011271"] == "warning" and set(found.values()) == {"info", "warning"}


def test_totals_are_those_the_field_reports():
    outcomes = [Outcome(f"{subject}/{name}", "", frames) for (subject, name), frames in _all_lengths().items()]
    report = dataset.Report(None, outcomes)
    assert report.poses == {"train": 1_559_752, "test": 543_344} and report.is_complete
    outcomes[0].error = "gone"
    assert not dataset.Report(None, outcomes).is_complete


def _all_lengths():
    return synthetic.official_lengths()


def test_what_is_missing_is_listed_by_subject_and_clip(archives, tmp_path):
    report = convert(archives / "community", tmp_path / "out.h5")
    said = "\n".join(report.summary())
    assert "136 of 1559752 train poses, 48 of 543344 test poses, not complete" in said  # without S11's Directions
    assert "missing of S5: all 30 clips" in said
    missing_of_s1 = next(line for line in report.summary() if line.startswith("missing of S1"))
    assert "28 of 30 clips" in missing_of_s1 and "Directions, " in missing_of_s1 and "Photo 1" not in missing_of_s1
    completeness = [f for f in report.outcomes[0].findings if f["check"] == "completeness"]
    assert completeness[0]["severity"] == "warning" and "Directions" not in completeness[0]["found"]["S11"]
    assert len(completeness[0]["found"]["S9"]) == 29


def test_the_clip_that_community_archives_leave_out_is_no_warning(tmp_path):
    lengths = {key: 2 for key in _all_lengths() if key != ("S11", "Directions")}
    archive = find_archive(synthetic.write_community(tmp_path / "data_3d_h36m.npz", lengths))
    assert archive.missing() == {"S11": ["Directions"]}
    assert dataset.missing_sentences(archive) == [
        "missing of S11: 1 of 30 clips: Directions (left out of the community's archives)"
    ]


def test_data_does_not_depend_on_the_number_of_jobs(archives, official, tmp_path):
    convert(archives / "official", tmp_path / "two.h5", jobs=2)
    assert_same_data(official, tmp_path / "two.h5")
    for name in ("S1/Directions 1", "S9/Greeting"):
        assert read(official, name).findings == read(tmp_path / "two.h5", name).findings


def test_resuming_with_other_options_does_not_use_what_was_made_with_the_old_ones(tmp_path):
    def stop(outcome):
        raise KeyboardInterrupt

    raw, out = synthetic.write_official(tmp_path / "raw", {("S9", "Greeting"): 6}), tmp_path / "out.h5"
    with pytest.raises(KeyboardInterrupt):
        convert(raw, out, on_done=stop)
    convert(raw, out, resume=True, correct_shift=True)
    convert(raw, tmp_path / "fresh.h5", correct_shift=True)
    assert_same_data(out, tmp_path / "fresh.h5")


def test_the_command(archives, tmp_path):
    detections = synthetic.write_pose_detections(tmp_path / "data_2d_h36m_cpn_ft_h36m_dbb.npz", LENGTHS)
    command = [sys.executable, REPOSITORY / "tools" / "convert.py", "human36m", "--raw", archives / "official"]
    command += ["--detections", detections, "--out", tmp_path / "human36m.h5", "--correct-shifted-takes"]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "of 1559752 train poses" in result.stdout and "missing of S6: all 30 clips" in result.stdout
    sequence = read(tmp_path / "human36m.h5", "S9/Greeting")
    assert np.isfinite(sequence.joints_2d_detected).all()
    report = (tmp_path / "human36m.findings.md").read_text()
    assert "| defect.truncated |" in report and "S9/Greeting" in report
    again = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert again.returncode == 2 and "--overwrite" in again.stderr


def test_one_subjects_folder_can_be_converted_alone(archives, tmp_path):
    report = convert(archives / "official" / "S1", tmp_path / "out.h5")
    assert [outcome.name for outcome in report.outcomes] == ["S1/Directions 1", "S1/Photo 1"]


def test_the_benchmark_says_what_a_conversion_costs(tmp_path):
    command = [sys.executable, REPOSITORY / "tools" / "benchmark.py", "human36m", "--folder", tmp_path, "--clips", "1"]
    numbers = tmp_path / "numbers.json"
    result = subprocess.run([*map(str, command), "--jobs", "1", "--json", numbers], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    [row] = json.loads(numbers.read_text())["human36m"]
    assert row["jobs"] == 1 and row["frames"] == facts.find_clip("S1", "Directions 1").frames
    assert 0 < row["cpu_seconds"] and row["peak_mb"] > 10
    digest = full_size.data_digest(tmp_path / "official_1_jobs.h5")
    assert row["data"] == digest[:16] and f"data {digest[:16]}" in result.stdout
    with h5py.File(tmp_path / "official_1_jobs.h5", "r+") as file:
        file["S1/Directions 1/joints_3d_world"][7, 0, 3, 1] += 1e-6
    assert full_size.data_digest(tmp_path / "official_1_jobs.h5") != digest


def test_memory_of_all_processes_is_counted_together():
    child = "import time; block = b'x' * (40 << 20); time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    alone = full_size.run_and_watch([sys.executable, "-c", child]).peak_mb
    together = full_size.run_and_watch([sys.executable, "-c", parent]).peak_mb
    if alone is None:
        pytest.skip("this system does not tell the memory of a process")
    assert together > alone > 40
    with pytest.raises(RuntimeError, match="no such luck"):
        full_size.run_and_watch([sys.executable, "-c", "raise SystemExit('no such luck')"])
