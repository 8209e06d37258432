"""Human3.6M's raw data gone wrong: what is refused, what is reported, and that the rest is converted."""

import re

import h5py
import numpy as np
import pytest
from raw_take import CodeInAPickle

from finepose_mp.preprocessing.conversion import ConversionError
from finepose_mp.preprocessing.human36m import dataset, detections, facts, synthetic
from finepose_mp.preprocessing.human36m.archive import find_archive
from finepose_mp.preprocessing.human36m.files import RawDataError
from finepose_mp.preprocessing.unpickling import UnsafeFileError

GOOD = ("S5", "Smoking")
BAD = ("S9", "Photo")
WEB_PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Login</title></head><body>Please log in</body></html>\n" * 20
D3 = "MyPoseFeatures/D3_Positions"


def convert(raw, tmp_path):
    """Outcomes by sequence name."""
    report = dataset.convert(find_archive(raw), tmp_path / "out.h5")
    return {outcome.name: outcome for outcome in report.outcomes}


def converted(tmp_path):
    with h5py.File(tmp_path / "out.h5") as file:
        return sorted(f"{s}/{c}" for s in file if s.startswith("S") for c in file[s])


def overwrite(data):
    return lambda path: path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:700])


def rename_variable(path):
    path.write_bytes(path.read_bytes().replace(b"Pose", b"Nope"))


def write_image_positions(path):
    path.unlink()
    synthetic.write_cdf(path, np.zeros((3, 32, 2)))


@pytest.mark.parametrize(
    "damage, message",
    [
        (overwrite(WEB_PAGE), "web page.*Log in"),
        (overwrite(b""), "not a CDF file"),
        (overwrite(b"\x89HDF\r\n\x1a\n" + bytes(600)), "not a CDF file"),
        (overwrite(bytes.fromhex("cdf30001") + bytes(2000)), "damaged CDF"),
        (truncate, "damaged CDF"),
        (rename_variable, "expected 'Pose'"),
        (write_image_positions, r"\(1, 3, 64\), expected .*\(1, frames, 96\)"),
    ],
)
def test_a_broken_cdf_is_reported_and_the_others_are_converted(tmp_path, damage, message):
    raw = synthetic.write_official(tmp_path / "raw", {GOOD: 5, BAD: 5})
    path = raw / "S9" / D3 / "Photo.cdf"
    damage(path)
    outcomes = convert(raw, tmp_path)
    assert outcomes["S5/Smoking"].error is None and converted(tmp_path) == ["S5/Smoking"]
    assert "Photo.cdf" in outcomes["S9/Photo"].error
    assert re.search(message, outcomes["S9/Photo"].error)


@pytest.mark.parametrize(
    "damage, message",
    [
        (overwrite(WEB_PAGE), "web page"),
        (truncate, "truncated"),
        (overwrite(b"PK\x03\x04" + bytes(600)), "not a readable HDF5 file"),
    ],
)
def test_a_broken_file_of_the_tree_is_reported(tmp_path, damage, message):
    raw = synthetic.write_baseline(tmp_path / "raw", {GOOD: 5, BAD: 5})
    damage(raw / "S9/MyPoses/3D_positions/Photo.h5")
    outcomes = convert(raw, tmp_path)
    assert message in outcomes["S9/Photo"].error and converted(tmp_path) == ["S5/Smoking"]


@pytest.mark.parametrize(
    "name, shape, message",
    [("3D_positions", (5, 96), r"\(5, 96\), expected \(96, frames\)"), ("poses", (96, 5), "expected '3D_positions'")],
)
def test_a_tree_with_other_arrays_is_reported(tmp_path, name, shape, message):
    raw = synthetic.write_baseline(tmp_path / "raw", {GOOD: 5, BAD: 5})
    with h5py.File(raw / "S9/MyPoses/3D_positions/Photo.h5", "w") as file:
        file[name] = np.zeros(shape)
    assert re.search(message, convert(raw, tmp_path)["S9/Photo"].error)


def add_notes_of_macos(raw):
    """A file "._name" beside every file, as macOS leaves them on disks of others and in archives."""
    for path in [path for path in raw.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")


@pytest.mark.parametrize("kind", ["official", "community", "baseline"])
def test_the_notes_that_macos_puts_beside_files_are_no_files(tmp_path, kind):
    raw, lengths = tmp_path / "raw", {GOOD: 5, BAD: 5}
    match kind:
        case "official":
            synthetic.write_official(raw, lengths, with_d2=True)
        case "community":
            synthetic.write_community(raw / "data_3d_h36m.npz", lengths)
        case "baseline":
            synthetic.write_baseline(raw, lengths, with_detections=True)
    add_notes_of_macos(raw)
    assert {name: outcome.error for name, outcome in convert(raw, tmp_path).items()} == dict.fromkeys(
        ["S5/Smoking", "S9/Photo"]
    )
    if kind == "baseline":
        tree = detections.open_source(raw)
        (found,) = (tree.of_clip(facts.find_clip(*clip)) for clip in [BAD])
        assert len(found.files) == 4 and "._" not in tree.fingerprint()


def test_joints_that_are_not_finite_are_missing(tmp_path):
    raw = synthetic.write_official(tmp_path / "raw", {GOOD: 5})
    poses = synthetic.make_poses(*GOOD, 5)
    poses[2, 19] = np.nan  # the left wrist
    path = raw / "S5" / D3 / "Smoking.cdf"
    path.unlink()
    synthetic.write_cdf(path, poses)
    outcome = convert(raw, tmp_path)["S5/Smoking"]
    with h5py.File(tmp_path / "out.h5") as file:
        status = file["S5/Smoking/joint_status"][...]
        assert np.isnan(file["S5/Smoking/joints_3d_world"][2, 0, 13]).all()
        assert np.all(file["S5/Smoking/in_view"][:, 2, 0, 13] == 0)
    assert status[2, 0, 13] == 0 and status.sum() == status.size - 1
    assert "poses.missing" in {item["check"] for item in outcome.findings}


def test_another_subjects_files_are_recognised_by_length(tmp_path):
    clip, other = facts.find_clip("S11", "Eating"), facts.find_clip("S9", "Eating")
    assert clip.frames != other.frames
    raw = synthetic.write_official(tmp_path / "raw", {("S11", "Eating"): other.frames, GOOD: 5})
    error = convert(raw, tmp_path)["S11/Eating"].error
    assert f"{other.frames} poses" in error and "S9/Eating" in error and "mixed up" in error
    assert converted(tmp_path) == ["S5/Smoking"]


def test_swapped_clips_of_one_subject_are_recognised(tmp_path):
    other = facts.find_clip("S6", "Sitting 1")
    raw = synthetic.write_official(tmp_path / "raw", {("S6", "SittingDown 1"): other.frames, GOOD: 5})
    error = convert(raw, tmp_path)["S6/SittingDown 1"].error
    assert "S6/Sitting 1" in error and "two clips" in error


def test_another_subjects_files_are_recognised_by_the_skeleton(tmp_path):
    raw = synthetic.write_official(tmp_path / "raw", {("S8", "Smoking"): 6, GOOD: 5})
    (raw / "S1" / D3).mkdir(parents=True)
    (raw / "S8" / D3 / "Smoking.cdf").rename(raw / "S1" / D3 / "Smoking.cdf")
    error = convert(raw, tmp_path)["S1/Smoking"].error
    assert "skeleton of S8" in error and "S1/Smoking" in error


def test_clips_that_a_subject_does_not_have_are_recognised(tmp_path):
    raw = synthetic.write_official(tmp_path / "raw", {("S9", "Eating 2"): 5, GOOD: 5})
    error = convert(raw, tmp_path)["S9/Eating 2"].error
    assert "S9 has no clip 'Eating 2', S1, S6 have one" in error and "mixed up" in error


@pytest.mark.parametrize("joint, bone", [(19, "left_elbow to left_wrist"), (27, "right_elbow to right_wrist")])
def test_a_bone_that_changes_its_length_is_a_finding(tmp_path, joint, bone):
    poses = synthetic.make_poses(*GOOD, 6)
    poses[3, joint] += 30
    found = _findings_of(tmp_path, poses)
    assert bone in found["bones.rigid"] and "bones.length" not in found


def test_bones_that_are_nobodys_are_a_finding(tmp_path):
    found = _findings_of(tmp_path, 1.05 * synthetic.make_poses(*GOOD, 6))
    assert "skeleton of S5 by up to 22 mm" in found["bones.length"] and "bones.rigid" not in found


def test_poses_in_another_unit_are_refused(tmp_path):
    millimetres = {
        "S9": {"Photo": synthetic.make_poses(*BAD, 5)},
        "S5": {"Smoking": synthetic.make_poses(*GOOD, 5) / 1e3},
    }
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d=np.array(millimetres, dtype=object))
    assert "another unit" in convert(tmp_path, tmp_path)["S9/Photo"].error
    assert converted(tmp_path) == ["S5/Smoking"]


def _findings_of(tmp_path, poses):
    """Check -> message of a clip of S5 with these poses."""
    synthetic.write_cdf(tmp_path / "raw" / "S5" / D3 / "Smoking.cdf", poses)
    return {item["check"]: item["message"] for item in convert(tmp_path / "raw", tmp_path)["S5/Smoking"].findings}


def test_a_person_out_of_sight_is_a_finding(tmp_path):
    synthetic.write_cdf(
        tmp_path / "raw" / "S5" / D3 / "Smoking.cdf", synthetic.make_poses(*GOOD, 6) + np.float32([0, 0, 20_000])
    )
    outcome = convert(tmp_path / "raw", tmp_path)["S5/Smoking"]
    found = [item for item in outcome.findings if item["check"] == "visibility"]
    assert len(found) == 4 and "0%" in found[0]["message"]


@pytest.mark.parametrize("key", ["positions_3d", "positions_2d"])
def test_an_npz_that_would_run_code_is_refused_and_does_not_run(tmp_path, key):
    positions = {"S5": {"Smoking": CodeInAPickle(tmp_path / "ran")}}
    path = tmp_path / "data_3d_h36m.npz"
    np.savez_compressed(path, **{key: np.array(positions, dtype=object)})
    with pytest.raises(UnsafeFileError, match=r"data_3d_h36m\.npz.*nothing was executed"):
        find_archive(tmp_path) if key == "positions_3d" else detections.open_source(path)
    assert not (tmp_path / "ran").exists()
    np.load(path, allow_pickle=True)[key]  # the same file does run it where nothing holds it back
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        ({"positions_3d": {"S5": {"Smoking": np.zeros((4, 31, 3))}}}, r"S5/Smoking has shape \(4, 31, 3\)"),
        ({"positions_3d": {"S5": {"Smoking": [1, 2]}}}, "S5/Smoking is list, expected an array"),
        ({"positions_3d": {"S5": np.zeros(3)}}, r"S5 is an array of shape \(3,\), expected dict"),
        ({"positions_3d": [1, 2]}, "expected one pickled dictionary"),
    ],
)
def test_an_npz_with_other_content_is_refused(tmp_path, content, message):
    np.savez(tmp_path / "data_3d_h36m.npz", **{key: np.array(value, dtype=object) for key, value in content.items()})
    with pytest.raises(RawDataError, match=message):
        find_archive(tmp_path)


def test_an_npz_of_the_seventeen_joints_is_understood(tmp_path):
    kept = synthetic.make_poses(*GOOD, 5)[:, facts.KEPT_JOINTS] / np.float32(1000)
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d=np.array({"S5": {"Smoking": kept}}, dtype=object))
    poses = find_archive(tmp_path).poses[GOOD].read().joints_3d_world
    np.testing.assert_array_equal(poses, kept)


@pytest.mark.parametrize(
    "data, message", [(WEB_PAGE, "web page"), (b"PK\x03\x04 cut", "not a complete npz"), (b"", "not a complete npz")]
)
@pytest.mark.parametrize("point_at", ["folder", "file"])
def test_an_npz_that_did_not_download_is_refused(tmp_path, data, message, point_at):
    (tmp_path / "data_3d_h36m.npz").write_bytes(data)
    with pytest.raises(RawDataError, match=message):
        find_archive(tmp_path if point_at == "folder" else tmp_path / "data_3d_h36m.npz")


def test_detections_given_as_poses_are_refused(tmp_path):
    path = synthetic.write_pose_detections(tmp_path / "data_2d_h36m_gt.npz", {GOOD: 4})
    with pytest.raises(RawDataError, match="expected 'positions_3d'"):
        find_archive(path)


def test_nothing_to_convert_says_what_was_found_and_how_to_get_the_data(tmp_path):
    with pytest.raises(RawDataError, match="no such folder") as caught:
        find_archive(tmp_path / "absent")
    assert "vision.imar.ro" in str(caught.value)
    (tmp_path / "Poses_D3_Positions_S1.tgz").write_bytes(b"")
    with pytest.raises(RawDataError, match=r"it has Poses_D3_Positions_S1\.tgz.*tar -xzf|tar -xzf") as caught:
        find_archive(tmp_path)
    (tmp_path / "S1/MyPoseFeatures/D3_Positions_mono").mkdir(parents=True)
    with pytest.raises(RawDataError, match="D3_Positions_mono are in camera coordinates"):
        find_archive(tmp_path)


def test_several_copies_are_not_chosen_from(tmp_path):
    synthetic.write_official(tmp_path, {GOOD: 4})
    synthetic.write_community(tmp_path / "data_3d_h36m.npz", {GOOD: 4})
    with pytest.raises(RawDataError, match="several copies") as caught:
        find_archive(tmp_path)
    assert "data_3d_h36m.npz" in str(caught.value) and "official CDF files" in str(caught.value)


def test_a_clip_in_both_layouts_is_reported_with_both_paths(tmp_path):
    synthetic.write_official(tmp_path / "raw", {GOOD: 4, BAD: 4})
    synthetic.write_official(tmp_path / "raw", {BAD: 4}, flat=True)
    outcomes = convert(tmp_path / "raw", tmp_path)
    assert D3 in outcomes["S9/Photo"].error and "Poses_D3_Positions" in outcomes["S9/Photo"].error
    assert converted(tmp_path) == ["S5/Smoking"]


def test_subjects_without_published_poses_are_left_aside_and_said(tmp_path):
    raw = synthetic.write_official(tmp_path / "raw", {GOOD: 4})
    (raw / "S2" / D3).mkdir(parents=True)
    synthetic.write_cdf(raw / "S2" / D3 / "Smoking.cdf", synthetic.make_poses(*GOOD, 4))
    synthetic.write_cdf(raw / "S5" / D3 / "_ALL 1.cdf", synthetic.make_poses(*GOOD, 4))
    report = dataset.convert(find_archive(raw), tmp_path / "out.h5")
    assert [outcome.name for outcome in report.outcomes] == ["S5/Smoking"]
    assert any(line.startswith("S2: 1 clips left aside") for line in report.summary())


def test_when_every_clip_is_broken_nothing_is_written(tmp_path):
    raw = synthetic.write_official(tmp_path / "raw", {BAD: 4})
    (raw / "S9" / D3 / "Photo.cdf").write_bytes(WEB_PAGE)
    with pytest.raises(ConversionError, match="web page"):
        convert(raw, tmp_path)
    assert not (tmp_path / "out.h5").exists()
