"""People of a converted take: positions, status, detections, splits and the words for a take."""

import copy
import hashlib

import numpy as np
import pytest
from converted_take import TAGGING, convert_raw, convert_take, messages, of_camera, only
from raw_take import NOSE_PIXELS_IN_CAM01, RawTake, detection

from finepose_mp.schema import INTERPOLATED, MISSING, OBSERVED


@pytest.fixture(scope="module")
def take():
    return RawTake()


@pytest.fixture(scope="module")
def sequence(take, tmp_path_factory):
    return convert_take(take, tmp_path_factory.mktemp("take"))


def test_positions_are_those_of_the_fit(take, sequence):
    assert sequence.person == ["aria01", "aria02"]
    np.testing.assert_array_equal(sequence.frame, [1, 2, 3, 4, 5, 6])
    expected = np.stack([[poses[p][:, :3] for p in sequence.person] for poses in take.fit.values()])
    np.testing.assert_allclose(sequence.joints_3d_world, expected, atol=1e-6)
    assert (sequence.joint_status == OBSERVED).all()


def test_words_rate_and_splits(sequence):
    assert (sequence.name, sequence.scene, sequence.action) == (TAGGING, "Tagging", "playing tag")
    assert (sequence.fps, sequence.world_up, sequence.simulated) == (20.0, "+z", False)
    assert (sequence.split, sequence.split_within_scene) == ("test", "train")
    assert sequence.subjects == ["aria01", "aria02"]


@pytest.mark.parametrize(
    "folder, name, scene, split, within",
    [
        ("02_lego/002_legoassemble", "02_legoassemble/002_legoassemble", "Lego", "test", "test"),
        ("02_legoassemble/004_legoassemble", "02_legoassemble/004_legoassemble", "Lego", "test", "val"),
        ("07_tennis/001_tennis", "07_tennis/001_tennis", "Tennis", "train", "train"),
    ],
)
def test_scene_and_splits_follow_from_the_folders(tmp_path, folder, name, scene, split, within):
    sequence = convert_take(RawTake(), tmp_path, folder)
    found = (sequence.name, sequence.scene, sequence.split, sequence.split_within_scene)
    assert found == (name, scene, split, within)


def test_unknown_take_is_converted_with_a_finding(tmp_path):
    sequence = convert_take(RawTake(), tmp_path, "01_tagging/055_tagging")
    assert sequence.scene == "Tagging"
    assert "01_tagging/055_tagging is not in the catalogue" in messages(sequence, "catalogue", "warning")


def test_simulated_take_says_so_and_is_not_compared_with_the_recording(tmp_path):
    take = RawTake()
    take.simulated = '{"scene": "Tagging", "action": "chasing each other", "seed": 7}'
    sequence = convert_take(take, tmp_path)
    assert sequence.simulated and sequence.action == "chasing each other"
    assert not messages(sequence, "catalogue", "warning")


def test_difference_from_the_published_take_is_reported(sequence):
    text = messages(sequence, "catalogue", "warning")
    assert "6 fitted frames, the published length is 601" in text
    assert "people expected and not found: aria03, aria04" in text
    assert "cam03" in text


def test_joint_that_only_the_fit_has_is_interpolated(tmp_path):
    take = RawTake()
    take.triangulated[2]["aria02"][9] = 0  # the stand-in for "missing": 0 0 0 with flag 0
    take.triangulated[3]["aria02"][9] = 0
    sequence = convert_take(take, tmp_path)
    expected = np.full((6, 2, 17), OBSERVED)
    expected[1:3, 1, 9] = INTERPOLATED
    np.testing.assert_array_equal(sequence.joint_status, expected)
    assert np.isfinite(sequence.joints_3d_world).all()
    assert "(2), longest gap 2 frames" in messages(sequence, "poses", "info")


def test_joint_without_a_number_is_missing_and_reported(tmp_path):
    take = RawTake()
    take.fit[2]["aria01"][5, 1] = np.nan
    take.fit[3]["aria01"][6, 0] = np.inf
    take.fit[4]["aria01"][7, :3] = 0
    take.fit[5]["aria01"][8, 2] = 1e38
    take.fit[6]["aria01"][9, 3] = 0
    sequence = convert_take(take, tmp_path)
    expected = np.full((6, 17), OBSERVED)
    expected[[1, 2, 3, 4, 5], [5, 6, 7, 8, 9]] = MISSING
    np.testing.assert_array_equal(sequence.joint_status[:, 0], expected)
    is_missing = np.isnan(sequence.joints_3d_world[:, 0]).all(axis=-1)
    np.testing.assert_array_equal(is_missing, expected == MISSING)
    assert np.isfinite(sequence.joints_3d_world[:, 0][~is_missing]).all()
    assert not sequence.in_view[:, :, 0][:, expected == MISSING].any()
    assert "4 joints of aria01" in messages(sequence, "poses", "error")
    assert "1 joints of aria01 in processed_data/fit_poses3d have flag 0" in messages(sequence, "poses", "warning")


def test_missing_person_keeps_the_place_and_gets_no_numbers(tmp_path):
    take = RawTake()
    del take.fit[2]["aria01"], take.triangulated[2]["aria01"]
    sequence = convert_take(take, tmp_path)
    assert sequence.person == ["aria01", "aria02"]
    assert (sequence.joint_status[1] == [[MISSING] * 17, [OBSERVED] * 17]).all()
    assert np.isnan(sequence.joints_3d_world[1, 0]).all()
    assert not sequence.in_view[:, 1, 0].any()
    assert "aria01 is missing from 1 of 6 frames" in messages(sequence, "poses", "warning")


def test_invalid_aria_is_neither_person_nor_camera(tmp_path):
    take = RawTake()
    sequence = convert_take(take, tmp_path, "01_tagging/008_tagging")  # aria02 is invalid in that take
    assert sequence.person == ["aria01"]
    assert not [name for name in sequence.camera if name.startswith("aria02")]
    assert "aria02 declared invalid" in messages(sequence, "people", "info")


def test_names_that_are_no_people_are_ignored_and_reported(tmp_path):
    take = RawTake()
    take.fit[3]["drone"] = take.fit[3]["aria01"]
    sequence = convert_take(take, tmp_path)
    assert sequence.person == ["aria01", "aria02"]
    assert "names drone" in messages(sequence, "people", "warning")


def test_invalid_anchor_still_defines_the_world(tmp_path, sequence):
    take = RawTake()
    for camera in ("cam01", "cam05"):
        take.manual[camera] = np.array([[1, 0, 0, 0.2], [0, 0, -1, 0.1], [0, 1, 0, 0.4], [0, 0, 0, 1]])
    other = convert_take(take, tmp_path, "04_basketball/004_basketball")  # aria01 is invalid in that take
    assert other.person == ["aria02"]
    for camera in ("aria02_rgb", "cam01", "cam02"):
        expected = of_camera(sequence, "world_to_camera", camera)
        np.testing.assert_allclose(of_camera(other, "world_to_camera", camera), expected, atol=1e-12)


@pytest.mark.parametrize("keypoints", [17, 133])
def test_detections_are_assigned_by_name(tmp_path, keypoints):
    take = RawTake()
    take.detections["cam01", 3] = [detection("aria02", (100, 200), keypoints), detection("aria09", (9, 9), keypoints)]
    sequence = convert_take(take, tmp_path)
    found, scores = (of_camera(sequence, name, "cam01") for name in ("joints_2d_detected", "detection_score"))
    np.testing.assert_allclose(found[0, :, 0], [NOSE_PIXELS_IN_CAM01[p] for p in sequence.person], atol=1e-3)
    np.testing.assert_allclose(found[2, 1], [(100, 200 + 3 * j) for j in range(17)])
    np.testing.assert_allclose(scores[2], [[0] * 17, [0.9] * 17], atol=1e-6)
    assert np.isnan(found[2, 0]).all()
    assert "detections of aria09 in cam01 ignored" in messages(sequence, "detections", "info")


def test_duplicates_dummies_and_unseen_keypoints_are_no_detections(tmp_path):
    take = RawTake()
    duplicate = {**detection("aria01", (50, 60), score=0.0), "is_valid": False}
    dummy = {key: value for key, value in detection("aria02", (0, 0)).items() if key != "is_valid"}
    dummy["keypoints"] = np.zeros((17, 3))
    take.detections["cam01", 1] = [duplicate, dummy]
    partial = detection("aria01", (50, 60))
    partial["keypoints"][4] = 0
    partial["keypoints"][5] = (70, 80, 0.0)  # a position that the detector does not believe in is kept with its score
    partial["keypoints"][6, 0] = np.nan
    take.detections["cam01", 2] = [partial, detection("aria01", (1, 2), score=0.3)]
    sequence = convert_take(take, tmp_path)
    found, scores = (of_camera(sequence, name, "cam01") for name in ("joints_2d_detected", "detection_score"))
    assert np.isnan(found[0]).all() and not scores[0].any()
    assert np.isnan(found[1, 0, [4, 6]]).all() and not scores[1, 0, [4, 5, 6]].any()
    np.testing.assert_allclose(found[1, 0, [0, 5]], [(50, 60), (70, 80)])


def test_wearer_has_no_detection_in_the_own_camera(tmp_path):
    take = RawTake()
    take.detections["aria01", 1].append(detection("aria01", (700, 1300)))
    sequence = convert_take(take, tmp_path)
    found = of_camera(sequence, "joints_2d_detected", "aria01_rgb")[0]
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()
    assert "aria01 wears the camera" in messages(sequence, "detections", "info")


def test_only_some_cameras_have_detections(sequence):
    for camera in ("aria01_left", "aria02_right", "cam02"):
        assert np.isnan(of_camera(sequence, "joints_2d_detected", camera)).all()
    assert "no 2D detections under processed_data/poses2d for cam02" in messages(sequence, "detections", "warning")


def test_frames_are_those_that_all_folders_share(tmp_path):
    take = RawTake()
    del take.fit[6], take.calibrations["aria02", 3]
    sequence = convert_take(take, tmp_path)
    np.testing.assert_array_equal(sequence.frame, [1, 2, 4, 5])
    noses = np.stack([take.fit[k]["aria02"][0, :3] for k in (1, 2, 4, 5)])
    np.testing.assert_allclose(sequence.joints_3d_world[:, 1, 0], noses, atol=1e-6)
    text = messages(sequence, "frames", "warning")
    assert "processed_data/fit_poses3d lacks 1 of 6" in text and "ego/aria02/calib lacks 1 of 6" in text
    lacking = [f["frames"] for f in sequence.findings if "ego/aria02/calib lacks" in f["message"]]
    assert lacking == [[[3, 3]]]


def test_frames_keep_their_numbers_and_gaps_are_reported(tmp_path):
    take = RawTake(8)
    for k in (1, 2, 5):
        del take.fit[k], take.calibrations["aria01", k], take.calibrations["aria02", k]
    sequence = convert_take(take, tmp_path)
    np.testing.assert_array_equal(sequence.frame, [3, 4, 6, 7, 8])
    assert "do not run from 1 without gaps: 3 missing" in messages(sequence, "frames", "warning")


def test_missing_triangulation_leaves_nothing_observed(tmp_path):
    take = RawTake()
    take.triangulated = {}
    sequence = convert_take(take, tmp_path)
    assert (sequence.joint_status == INTERPOLATED).all()
    assert "processed_data/poses3d has nothing" in messages(sequence, "poses", "error")


def test_trajectory_shifted_by_a_missing_frame_is_detected(tmp_path):
    take = RawTake(30)
    walk = np.cumsum(np.random.default_rng(3).normal(0, 0.1, (31, 3)), axis=0)  # nobody walks like clockwork
    for k in take.frames:
        for poses in (take.fit[k], take.triangulated[k]):
            poses["aria01"][:, :3] += walk[k]
    fit = copy.deepcopy(take.fit)
    del take.triangulated[10]["aria01"]
    for k in range(10, 30):  # what the authors' smoothing does: the rest of the trajectory moves up by one
        take.fit[k]["aria01"] = fit[k + 1]["aria01"]
    del take.fit[30]["aria01"]
    sequence = convert_take(take, tmp_path)
    shifted = only(sequence.findings, "alignment.shifted")
    assert (shifted["person"], shifted["frames"], shifted["found"]["shift_frames"]) == ("aria01", [[10, 30]], 1)
    assert (sequence.joint_status[9:, 0] == MISSING).all() and np.isnan(sequence.joints_3d_world[9:, 0]).all()
    assert (sequence.joint_status[:9, 0] == OBSERVED).all() and (sequence.joint_status[:, 1] == OBSERVED).all()
    assert "aria02" in messages(sequence, "alignment.distance", "info")


def test_digests_are_of_the_files_in_the_order_of_their_names(take, tmp_path):
    folder = take.write(tmp_path / "raw" / TAGGING)
    fit = b"".join(path.read_bytes() for path in sorted((folder / "processed_data/fit_poses3d").iterdir()))
    cameras = (folder / "colmap/workplace/cameras.txt").read_bytes()
    files = convert_raw(tmp_path).source_files
    assert files["processed_data/fit_poses3d"] == {"files": 6, "sha256": hashlib.sha256(fit).hexdigest()}
    assert files["colmap/workplace/cameras.txt"] == {"sha256": hashlib.sha256(cameras).hexdigest()}
    assert files["ego/aria02/calib"]["files"] == files["processed_data/poses2d/cam01/rgb"]["files"] == 6


def test_everything_else_on_disk_is_ignored(tmp_path, take, sequence):
    folder = take.write(tmp_path / "raw" / TAGGING)
    for extra in (
        "exo/mobile/images/00001.jpg",
        "ego/notes.txt",
        "processed_data/fit_poses3d/readme.txt",
        "processed_data/fit_poses3d/00001.npy.tmp",
        "processed_data/smpl/00001.npy",
        "colmap/workplace/aria_from_colmap_transforms.pkl",
    ):
        (folder / extra).parent.mkdir(parents=True, exist_ok=True)
        (folder / extra).write_bytes(b"something else")
    other = convert_raw(tmp_path)
    assert other.source_files == sequence.source_files and other.findings == sequence.findings
    assert other.camera == sequence.camera
