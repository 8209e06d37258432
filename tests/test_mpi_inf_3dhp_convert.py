"""MPI-INF-3DHP to the contract: official files of both kinds, community files, and the real TS6 where it is there."""

import numpy as np
import pytest
import xarray
from mpi_inf_3dhp_raw import (
    UNIVERSAL_SCALE,
    body_28,
    calibration_text,
    training,
    write_community,
    write_test,
    write_training,
)
from mpi_inf_3dhp_raw import official_test as make_test

from finepose_mp import cameras, schema
from finepose_mp.geometry import apply_rigid
from finepose_mp.preprocessing.mpi_inf_3dhp import calibration, checks, dataset, facts
from finepose_mp.skeletons import MPI17

EDITED = [MPI17.index(name) for name in facts.EDITED_JOINTS]
CONSISTENT = checks.CONSISTENT


def convert(raw, out, camera_set="vnect", **options):
    """Sequences by name, none of them failed."""
    outcomes = dataset.convert(dataset.find_work(raw, camera_set), out, **options)
    assert not [outcome.error for outcome in outcomes if outcome.error]
    assert {finding["check"] for outcome in outcomes for finding in outcome.findings} <= set(facts.CHECKS)
    return read(out)


def read(path):
    with schema.open_file(path) as file:
        return {name: schema.read_sequence(file, name) for name in schema.sequence_names(file)}


def found_checks(sequence):
    return {finding["check"]: finding for finding in sequence.findings}


def reprojection(sequence, poses=None):
    """Distances (K, T, J) in px of the stored 2D from the stored 3D through the stored cameras."""
    poses = sequence.joints_3d_world if poses is None else poses
    projected = [
        cameras.project(
            apply_rigid(poses[:, 0].astype(float), sequence.world_to_camera[k][:, None]),
            sequence.camera_model[k],
            sequence.camera_params[k][:, None],
        )
        for k in range(len(sequence.camera))
    ]
    return np.linalg.norm(np.stack(projected) - sequence.joints_2d_projected[:, :, 0], axis=-1)


@pytest.mark.parametrize("v73", [False, True])
def test_training_sequence_has_both_skeletons_in_the_world_and_reprojects(tmp_path, v73):
    write_training(tmp_path / "raw" / "S3" / "Seq1", training(), v73=v73)
    sequence = convert(tmp_path / "raw", tmp_path / "out.h5")["S3/Seq1"]
    world = body_28(40)[:, facts.JOINTS_OF_28]
    np.testing.assert_allclose(sequence.joints_3d_world[:, 0], world, atol=2e-5)
    pelvis = world[:, 14, None]
    universal = pelvis + UNIVERSAL_SCALE * (world - pelvis)
    np.testing.assert_allclose(sequence.joints_3d_universal_world[:, 0], universal, atol=2e-5)
    error = reprojection(sequence)
    assert np.nanmedian(error[..., CONSISTENT]) < 0.005
    np.testing.assert_allclose(np.nanmedian(error[..., EDITED]), 1.0, atol=0.05)  # the dataset's own 2D is kept
    assert (sequence.fps, sequence.split, sequence.split_within_scene) == (50.0, "train", "train")
    assert (sequence.scene, sequence.person, sequence.world_up) == ("S3 Seq1", ["S3"], "+y")
    assert sequence.camera == ["0", "1", "2", "4", "5", "6", "7", "8"]
    assert sequence.valid_frame is None and sequence.activity is None
    assert set(found_checks(sequence)) == {"reprojection.residual", "frames.short"}


def test_fourteen_cameras_are_read_by_their_numbers_whatever_their_order(tmp_path):
    order = (13, *range(13))
    raw = training(frames=12, cameras=order)
    write_training(tmp_path / "raw" / "S1" / "Seq2", raw, calibration_text(tuple(range(14))))
    everything = convert(tmp_path / "raw", tmp_path / "all.h5", "all")["S1/Seq2"]
    assert everything.camera == [str(number) for number in range(14)]
    usual = convert(tmp_path / "raw", tmp_path / "out.h5")["S1/Seq2"]
    assert len(usual.camera) == 8
    for name, camera in zip(usual.camera, usual.world_to_camera, strict=True):
        np.testing.assert_array_equal(camera, everything.world_to_camera[everything.camera.index(name)])
    assert np.nanmedian(reprojection(everything)[..., CONSISTENT]) < 0.005


def test_calibration_is_parsed_by_key_word(tmp_path):
    plain = calibration.parse_calibration(calibration_text((0, 4)), "plain")
    spoiled = calibration_text((0, 4), line_end="\r\n", blanks="  \t ")
    spoiled = (
        spoiled.replace("  animated    0  \t \r\n", "").replace("name          4", "name:4").replace("  size", "\tsize")
    )
    other = calibration.parse_calibration(spoiled, "spoiled")
    assert list(plain) == list(other) == [0, 4]
    for number in plain:
        np.testing.assert_array_equal(plain[number].intrinsics, other[number].intrinsics)
        np.testing.assert_array_equal(plain[number].world_to_camera, other[number].world_to_camera)
        known = calibration.builtin_training()[number]
        np.testing.assert_allclose(plain[number].intrinsics, known.intrinsics, rtol=1e-6)
        np.testing.assert_allclose(plain[number].world_to_camera, known.world_to_camera, atol=2e-6)


def test_rows_beyond_the_video_are_cut(tmp_path, monkeypatch):
    monkeypatch.setitem(facts.TRAINING, "S1/Seq1", facts.Training(30, 25.0))
    write_training(tmp_path / "raw" / "S1" / "Seq1", training(frames=40))
    sequence = convert(tmp_path / "raw", tmp_path / "out.h5")["S1/Seq1"]
    assert sequence.frame.tolist() == list(range(30))
    finding = found_checks(sequence)["frames.long"]
    assert "40 annotated frames, the videos have 30" in finding["message"]


@pytest.mark.parametrize("v73", [True, False])
@pytest.mark.parametrize("name", ["TS1", "TS2", "TS5"])
def test_test_sequences_keep_valid_frames_activities_and_both_truths(tmp_path, name, v73):
    raw = make_test(name)
    write_test(tmp_path / "raw" / "test_set" / name / "annot_data.mat", raw, v73)
    sequence = convert(tmp_path / "raw", tmp_path / "out.h5")[name]
    np.testing.assert_array_equal(sequence.valid_frame, raw.valid)
    np.testing.assert_array_equal(sequence.activity, raw.activity)
    assert sequence.activity_names["7"] == "Miscellaneous"
    assert sequence.frame[0] == 1
    camera = apply_rigid(sequence.joints_3d_world[:, 0].astype(float), sequence.world_to_camera[0][:, None])
    np.testing.assert_allclose(1000 * camera, raw.metric[0], atol=2e-3)
    camera = apply_rigid(sequence.joints_3d_universal_world[:, 0].astype(float), sequence.world_to_camera[0][:, None])
    np.testing.assert_allclose(1000 * camera, raw.universal[0], atol=2e-3)
    assert np.nanmedian(reprojection(sequence)[..., CONSISTENT]) < 0.005
    size = [1920, 1080] if name == "TS5" else [2048, 2048]
    assert sequence.image_size.tolist() == [size]
    assert sequence.split == sequence.split_within_scene == "test"
    up = sequence.joints_3d_world[:, 0, MPI17.index("head_top")] - sequence.joints_3d_world[:, 0, 10]
    sign = {"+y": 1, "-y": -1}[sequence.world_up]
    assert sequence.world_up == ("-y" if name == "TS2" else "+y")
    assert (sign * up[:, 1] > 1).all()


def test_focal_lengths_differ_by_the_pixel_aspect_and_ts2_has_its_own_camera(tmp_path):
    outdoors, second, first = (calibration.builtin_test(name).intrinsics for name in ("TS5", "TS2", "TS1"))
    assert outdoors[1] / outdoors[0] == pytest.approx(0.993236423)
    assert abs(second[0] - first[0]) > 3
    np.testing.assert_allclose(first, calibration.builtin_training()[8].intrinsics, atol=6e-3)


def test_ts2_gets_the_camera_that_its_annotations_were_made_with(tmp_path):
    raw = make_test("TS2", frames=30)
    true = calibration.builtin_test("TS2").intrinsics + np.array([0.3, -0.3, 0.2, 0.1])
    raw.pixels[0] = true[:2] * raw.metric[0][..., :2] / raw.metric[0][..., 2:] + true[2:]
    raw.pixels[0][:, EDITED] += 2.0
    write_test(tmp_path / "raw" / "TS2" / "annot_data.mat", raw)
    sequence = convert(tmp_path / "raw", tmp_path / "out.h5")["TS2"]
    np.testing.assert_allclose(sequence.camera_params[0, 0, :4], true, atol=1e-3)
    assert "fitted to the annotations" in found_checks(sequence)["camera.fitted"]["message"]
    write_community(tmp_path / "npz" / "data_test_3dhp_ori.npz", {"TS2": raw}, "metric")
    community = convert(tmp_path / "npz", tmp_path / "npz.h5")["TS2"]
    np.testing.assert_array_equal(community.camera_params, sequence.camera_params)


def test_joints_outside_the_image_are_not_in_view(tmp_path):
    raw = make_test("TS5")
    write_test(tmp_path / "raw" / "TS5" / "annot_data.mat", raw)
    shifted = make_test("TS5")
    fx, fy, cx, cy = calibration.builtin_test("TS5").intrinsics
    pelvis = shifted.metric[0][0, 14]
    shifted.metric[0] += ((1920 - cx) / fx * pelvis[2] - pelvis[0], 0, 0)  # half of the body beyond the right border
    shifted.pixels[0] = (fx, fy) * shifted.metric[0][..., :2] / shifted.metric[0][..., 2:] + (cx, cy)
    write_test(tmp_path / "other" / "TS5" / "annot_data.mat", shifted)
    assert convert(tmp_path / "raw", tmp_path / "a.h5")["TS5"].in_view.all()
    sequence = convert(tmp_path / "other", tmp_path / "b.h5")["TS5"]
    outside = shifted.pixels[0][..., 0] >= 1920
    assert 0.05 < outside.mean() < 0.95
    np.testing.assert_array_equal(sequence.in_view[0, :, 0] == 0, outside)
    np.testing.assert_array_equal(np.isnan(sequence.joints_2d_projected[0, :, 0, :, 0]), outside)


def test_community_files_say_themselves_which_skeleton_they_hold(tmp_path):
    made = {"S1/Seq1": training(frames=20), "S2/Seq1": training(frames=15, seed=1)}
    tests = {"TS1": make_test("TS1"), "TS6": make_test("TS6", seed=2)}
    # Misleading names: what the files hold decides.
    write_community(tmp_path / "ori" / "data_train_3dhp.npz", made, "metric")
    write_community(tmp_path / "ori" / "data_test_3dhp.npz", tests, "metric")
    write_community(tmp_path / "univ" / "data_train_3dhp.npz", made, "universal")
    write_community(tmp_path / "univ" / "data_test_3dhp.npz", tests, "universal")
    metric = convert(tmp_path / "ori", tmp_path / "ori.h5")
    assert sorted(metric) == ["S1/Seq1", "S2/Seq1", "TS1", "TS6"]
    for sequence in metric.values():
        assert sequence.joints_3d_universal_world is None
        assert np.nanmedian(reprojection(sequence)[..., CONSISTENT]) < 0.005
    universal = convert(tmp_path / "univ", tmp_path / "univ.h5")
    for name, sequence in universal.items():
        found = found_checks(sequence)
        assert not [check for check, finding in found.items() if finding["severity"] == "error"]
        assert "univ_annot3 alone" in found["universal.only"]["message"]
        assert f"{UNIVERSAL_SCALE:.3f}" in found["universal.scale"]["message"]
        pelvis = metric[name].joints_3d_world[:, :, 14, None]
        scaled = pelvis + UNIVERSAL_SCALE * (metric[name].joints_3d_world - pelvis)
        np.testing.assert_allclose(sequence.joints_3d_universal_world, scaled, atol=3e-5)
        np.testing.assert_allclose(sequence.joints_3d_world, metric[name].joints_3d_world, atol=3e-5)
        np.testing.assert_array_equal(sequence.joints_2d_projected, metric[name].joints_2d_projected)
    np.testing.assert_array_equal(metric["TS6"].valid_frame, tests["TS6"].valid)
    assert metric["TS6"].activity is None


@pytest.mark.parametrize(
    "joints, scale_known", [([3, 4, 6, 7], False), ([10, 13], True)], ids=["arms", "ankles, as in some frames of TS6"]
)
def test_universal_poses_with_limbs_of_their_own_scale_stay_universal(tmp_path, joints, scale_known):
    raw, train = make_test("TS6"), training(frames=20)
    raw.universal[0][:, joints] += 30.0
    train.universal[:, :, np.array(facts.JOINTS_OF_28)[joints]] += 30.0
    write_community(tmp_path / "raw" / "data_test_3dhp.npz", {"TS6": raw}, "universal")
    write_community(tmp_path / "raw" / "data_train_3dhp.npz", {"S1/Seq1": train}, "universal")
    for name, sequence in convert(tmp_path / "raw", tmp_path / "out.h5").items():
        found = found_checks(sequence)
        assert found["universal.scale"]["severity"] == ("info" if scale_known else "warning"), name
        assert found["universal.only"]["severity"] == "warning"
        assert "reprojection.residual" not in found, "the 2D is that of the recorded pose, and right"
        np.testing.assert_array_equal(sequence.joints_3d_world, sequence.joints_3d_universal_world)
        raw_pixels = {"TS6": raw.pixels[0], "S1/Seq1": train.pixels[0][:, np.array(facts.JOINTS_OF_28)]}[name]
        np.testing.assert_allclose(sequence.joints_2d_projected[0, :, 0], raw_pixels, rtol=1e-6)


def test_metric_and_universal_community_files_together_equal_the_official_ones(tmp_path):
    raw, test_raw = training(frames=20), make_test("TS3")
    write_training(tmp_path / "official" / "S1" / "Seq1", raw)
    write_test(tmp_path / "official" / "TS3" / "annot_data.mat", test_raw)
    for kind, ending in (("metric", "_ori"), ("universal", "")):
        write_community(tmp_path / "npz" / f"data_train_3dhp{ending}.npz", {"S1/Seq1": raw}, kind)
        write_community(tmp_path / "npz" / f"data_test_3dhp{ending}.npz", {"TS3": test_raw}, kind)
    official = convert(tmp_path / "official", tmp_path / "a.h5")
    community = convert(tmp_path / "npz", tmp_path / "b.h5")
    for name in ("S1/Seq1", "TS3"):
        for variable in ("joints_3d_world", "joints_3d_universal_world", "joints_2d_projected", "in_view", "frame"):
            expected, found = getattr(official[name], variable), getattr(community[name], variable)
            np.testing.assert_allclose(found, expected, atol=2e-6 if "3d" in variable else 0, err_msg=variable)
        assert community[name].fps == official[name].fps
    assert set(community["TS3"].source_files) == {"data_test_3dhp_ori.npz", "data_test_3dhp.npz"}


def test_official_files_win_over_community_files(tmp_path):
    write_training(tmp_path / "raw" / "S1" / "Seq1", training(frames=20))
    both = {"S1/Seq1": training(frames=10, seed=5), "S1/Seq2": training(frames=10, seed=6)}
    write_community(tmp_path / "raw" / "data_train_3dhp_ori.npz", both, "metric")
    found = convert(tmp_path / "raw", tmp_path / "out.h5")
    assert {name: len(sequence.frame) for name, sequence in found.items()} == {"S1/Seq1": 20, "S1/Seq2": 10}


def test_the_file_does_not_depend_on_the_number_of_jobs(tmp_path):
    for number, seed in (("S1/Seq1", 0), ("S4/Seq2", 1)):
        write_training(tmp_path / "raw" / number, training(frames=12, seed=seed))
    write_test(tmp_path / "raw" / "TS6" / "annot_data.mat", make_test("TS6"))
    one = convert(tmp_path / "raw", tmp_path / "one.h5")
    two = convert(tmp_path / "raw", tmp_path / "two.h5", jobs=2)
    assert list(one) == list(two) == ["S1/Seq1", "S4/Seq2", "TS6"]
    for name, sequence in one.items():
        for variable, value in vars(sequence).items():
            np.testing.assert_array_equal(getattr(two[name], variable), value, err_msg=variable)


def test_a_sequence_without_calibration_file_uses_the_known_one_and_says_so(tmp_path):
    write_training(tmp_path / "raw" / "S6" / "Seq2", training(frames=12), None)
    sequence = convert(tmp_path / "raw", tmp_path / "out.h5")["S6/Seq2"]
    assert set(found_checks(sequence)) == {"calibration.absent", "frames.short", "reprojection.residual", "video.short"}
    assert set(found_checks(sequence)) <= set(facts.CHECKS)


@pytest.fixture(scope="module")
def ts6(shared, tmp_path_factory):
    path = tmp_path_factory.mktemp("ts6") / "ts6.h5"
    return convert(shared / "data" / "mpi_inf_3dhp", path)["TS6"], path


def test_the_real_ts6_reprojects_within_the_documented_residuals(ts6):
    sequence, _ = ts6
    error = reprojection(sequence)[0][sequence.valid_frame == 1]
    assert np.median(error[:, CONSISTENT]) < 0.001
    assert error[:, CONSISTENT].max() < 0.01
    assert np.median(error) == pytest.approx(0.0010, abs=1e-4)
    assert error.mean() == pytest.approx(0.107, abs=1e-3)
    assert error.max() == pytest.approx(1.79, abs=0.01)


def test_the_real_ts6_has_its_documented_frames_and_legs(ts6):
    sequence, path = ts6
    assert (len(sequence.frame), int(sequence.valid_frame.sum())) == (492, 392)
    assert (sequence.activity == 1).sum() == 122 and (sequence.activity == 7).sum() == 370
    bones = found_checks(sequence)["bones.length"]
    assert bones["frame_count"] == 199
    assert "187 of them valid" in bones["message"] and "usually 408.3 mm" in bones["message"]
    assert bones["frames"][0] == [111, 130]  # rows 110 to 129
    legs = [MPI17.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("knee", "ankle")]
    difference = np.linalg.norm(sequence.joints_3d_world - sequence.joints_3d_universal_world, axis=-1)[:, 0]
    assert difference[:, legs].max() > 0.06
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        assert tree["TS6"]["valid_frame"].dims == ("frame",)


def test_people_in_the_real_ts6_stand_upright_in_the_world(ts6):
    sequence, _ = ts6
    body = sequence.joints_3d_world[:, 0]
    height = body[:, MPI17.index("head_top"), 1] - body[:, [10, 13], 1].min(axis=-1)
    assert sequence.world_up == "+y"
    assert 1.3 < np.median(height) < 2.0
