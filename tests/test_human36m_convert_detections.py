"""Human3.6M's detections: the community's joint orders by name, lengths that differ, and files that are not theirs."""

import h5py
import numpy as np
import pytest

from finepose_mp import schema
from finepose_mp.preprocessing.human36m import dataset, detections, synthetic
from finepose_mp.preprocessing.human36m.archive import find_archive
from finepose_mp.preprocessing.human36m.files import RawDataError
from finepose_mp.skeletons import H36M17

LENGTHS = {("S5", "Smoking"): 12, ("S9", "Photo"): 8}
H36M = {"layout_name": "h36m", "num_joints": 17, "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]}
COCO = {"layout_name": "coco", "num_joints": 17, "keypoints_symmetry": [[*range(1, 16, 2)], [*range(2, 17, 2)]]}
MPII = {"layout_name": "mpii", "num_joints": 16, "keypoints_symmetry": [[3, 4, 5, 13, 14, 15], [0, 1, 2, 10, 11, 12]]}

# Our joint names -> joint of the 32, in each archive's order.
POSE_ORDER = dict(zip(H36M17.joints, (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27), strict=True))
COCO_ORDER = {
    **{"nose": 14, "left_eye": 15, "right_eye": 15, "left_ear": 15, "right_ear": 15},
    **{"left_shoulder": 17, "right_shoulder": 25, "left_elbow": 18, "right_elbow": 26, "left_wrist": 19},
    **{"right_wrist": 27, "left_hip": 6, "right_hip": 1, "left_knee": 7, "right_knee": 2, "left_ankle": 8},
    "right_ankle": 3,
}
HOURGLASS_ORDER = {
    **{"right_ankle": 3, "right_knee": 2, "right_hip": 1, "left_hip": 6, "left_knee": 7, "left_ankle": 8},
    **{"pelvis": 0, "spine": 12, "neck": 13, "head_top": 15, "right_wrist": 27, "right_elbow": 26},
    **{"right_shoulder": 25, "left_shoulder": 17, "left_elbow": 18, "left_wrist": 19},
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return synthetic.write_official(tmp_path_factory.mktemp("raw"), LENGTHS)


def convert(raw, tmp_path, *paths):
    """The two sequences by name, and all findings of the first."""
    report = dataset.convert(find_archive(raw), tmp_path / "out.h5", detection_paths=paths)
    assert [outcome.error for outcome in report.outcomes] == [None, None]
    with schema.open_file(tmp_path / "out.h5") as file:
        return {name: schema.read_sequence(file, name) for name in schema.sequence_names(file)}


def findings(sequence, check):
    return [item for item in sequence.findings if item["check"] == check]


def distance(sequence, joint):
    """Median distance in pixels of a joint's detections from its projection."""
    j = H36M17.index(joint)
    off = sequence.joints_2d_detected[..., j, :] - sequence.joints_2d_projected[..., j, :]
    return np.nanmedian(np.linalg.norm(off, axis=-1))


def rewrite(path, change):
    """Applies `change` to the positions of an archive of detections."""
    with np.load(path, allow_pickle=True) as archive:
        positions, metadata = archive["positions_2d"].item(), archive["metadata"].item()
    change(positions, metadata)
    np.savez_compressed(path, positions_2d=np.array(positions, dtype=object), metadata=np.array(metadata, dtype=object))
    return path


def test_detections_of_the_poses_joints_are_taken_over(raw, tmp_path):
    path = synthetic.write_detections(tmp_path / "data_2d_h36m_cpn_ft_h36m_dbb.npz", LENGTHS, POSE_ORDER, H36M)
    sequence = convert(raw, tmp_path, path)["S5/Smoking"]
    assert all(distance(sequence, joint) < 8 for joint in H36M17.joints)
    assert np.all(sequence.detection_score == 1) and np.isfinite(sequence.joints_2d_detected).all()
    assert sequence.source_files[path.name]["sha256"]
    (tail,) = findings(sequence, "detections.tail")
    assert tail["severity"] == "info" and set(tail["found"].values()) == {3}
    assert len(findings(sequence, "detections.residual")) == 4 and not findings(sequence, "detections.converted")


def test_ground_truth_archives_without_a_layout_name_are_recognised(raw, tmp_path):
    metadata = {key: value for key, value in H36M.items() if key != "layout_name"}
    path = synthetic.write_detections(tmp_path / "data_2d_h36m_gt.npz", LENGTHS, POSE_ORDER, metadata)
    assert distance(convert(raw, tmp_path, path)["S9/Photo"], "left_wrist") < 8


def test_coco_detections_are_converted_by_name(raw, tmp_path):
    path = synthetic.write_detections(tmp_path / "data_2d_h36m_detectron_pt_coco.npz", LENGTHS, COCO_ORDER, COCO)
    sequence = convert(raw, tmp_path, path)["S5/Smoking"]
    copied = [joint for joint in H36M17.joints if joint in COCO_ORDER]
    assert len(copied) == 12 and all(distance(sequence, joint) < 8 for joint in copied)
    assert distance(sequence, "pelvis") < 8  # half way between the hips
    missing = np.isnan(sequence.joints_2d_detected).all(axis=(0, 1, 2, 4))
    assert [joint for joint, absent in zip(H36M17.joints, missing, strict=True) if absent] == ["head_top"]
    assert np.all(sequence.detection_score[..., H36M17.index("head_top")] == 0)
    (said,) = findings(sequence, "detections.converted")
    assert said["found"]["missing"] == ["head_top"] and "pelvis" in said["found"]["derived"]


def test_the_stacked_hourglass_has_no_joint_nine(raw, tmp_path):
    path = synthetic.write_detections(tmp_path / "data_2d_h36m_sh_ft_h36m.npz", LENGTHS, HOURGLASS_ORDER, MPII)
    sequence = convert(raw, tmp_path, path)["S5/Smoking"]
    assert all(distance(sequence, joint) < 8 for joint in HOURGLASS_ORDER)
    assert findings(sequence, "detections.converted")[0]["found"] == {"derived": [], "missing": ["head"]}


def test_the_hourglass_trained_on_mpii_keeps_mpiis_meaning_of_its_joints(raw, tmp_path):
    order = HOURGLASS_ORDER.copy()
    names = list(order)
    names[7:9] = ["neck", "upper_neck"]  # MPII's thorax, which lies where our neck is, and a joint we do not have
    order = dict(zip(names, [*list(order.values())[:7], 13, 14, *list(order.values())[9:]], strict=True))
    path = synthetic.write_detections(tmp_path / "data_2d_h36m_sh_pt_mpii.npz", LENGTHS, order, MPII)
    sequence = convert(raw, tmp_path, path)["S5/Smoking"]
    assert distance(sequence, "neck") < 8 and distance(sequence, "left_wrist") < 8
    assert "spine" not in findings(sequence, "detections.converted")[0]["found"]["missing"]


def test_a_tree_of_hourglass_files_whose_one_camera_is_absent(raw, tmp_path):
    tree = synthetic.write_baseline(tmp_path / "h36m", LENGTHS, with_detections=True)
    (tree / "S9" / "StackedHourglass" / "Photo.55011271.h5").unlink()
    sequences = convert(raw, tmp_path, tree)
    assert distance(sequences["S5/Smoking"], "left_wrist") < 0.01
    photo = sequences["S9/Photo"]
    assert np.isnan(photo.joints_2d_detected[1]).all() and np.all(photo.detection_score[1] == 0)
    assert np.isfinite(photo.joints_2d_detected[[0, 2, 3]][..., 0, :]).all()
    assert [item["camera"] for item in findings(photo, "detections.absent")] == ["55011271"]
    assert "StackedHourglass/Photo.54138969.h5" in photo.source_files


def test_a_broken_file_of_the_tree_costs_the_clip_its_detections_only(raw, tmp_path):
    tree = synthetic.write_baseline(tmp_path / "h36m", LENGTHS, with_detections=True)
    with h5py.File(tree / "S9" / "StackedHourglass" / "Photo.55011271.h5", "w") as file:
        file["poses"] = np.zeros((8, 15, 2))
    photo = convert(raw, tmp_path, tree)["S9/Photo"]
    (item,) = findings(photo, "detections.unreadable")
    assert item["severity"] == "error" and "(8, 15, 2)" in item["message"] and "55011271" in item["message"]
    assert np.isnan(photo.joints_2d_detected).all() and np.isfinite(photo.joints_3d_world).all()


def test_detections_shorter_than_the_poses_end_with_nan(raw, tmp_path):
    path = synthetic.write_pose_detections(tmp_path / "data_2d.npz", LENGTHS)

    def shorten(positions, _):
        positions["S5"]["Smoking"][2] = positions["S5"]["Smoking"][2][:7]

    sequence = convert(raw, tmp_path, rewrite(path, shorten))["S5/Smoking"]
    assert np.isnan(sequence.joints_2d_detected[2, 7:]).all() and np.all(sequence.detection_score[2, 7:] == 0)
    assert np.isfinite(sequence.joints_2d_detected[2, :7]).all() and np.isfinite(sequence.joints_2d_detected[1]).all()
    (item,) = findings(sequence, "detections.short")
    assert (item["camera"], item["expected"], item["found"], item["severity"]) == ("58860488", 12, 7, "warning")


def test_subjects_without_published_poses_do_not_matter(raw, tmp_path):
    path = synthetic.write_pose_detections(tmp_path / "data_2d.npz", LENGTHS)

    def add(positions, _):
        positions["S2"] = {"Smoking": positions["S5"]["Smoking"][:3]}

    assert np.isfinite(convert(raw, tmp_path, rewrite(path, add))["S5/Smoking"].joints_2d_detected).all()


def test_a_missing_detection_is_nan_with_score_zero(raw, tmp_path):
    path = synthetic.write_pose_detections(tmp_path / "data_2d.npz", LENGTHS)

    def lose(positions, _):
        positions["S5"]["Smoking"][0][3, 5] = np.nan

    sequence = convert(raw, tmp_path, rewrite(path, lose))["S5/Smoking"]
    assert sequence.detection_score[0, 3, 0, 5] == 0 and sequence.detection_score.sum() == 4 * 12 * 17 - 1


def test_detections_of_another_subject_are_noticed(raw, tmp_path):
    path = synthetic.write_pose_detections(tmp_path / "data_2d.npz", {**LENGTHS, ("S9", "Smoking"): 12})

    def mix_up(positions, _):
        positions["S5"]["Smoking"] = positions["S9"]["Smoking"]

    found = findings(convert(raw, tmp_path, rewrite(path, mix_up))["S5/Smoking"], "detections.residual")
    assert "error" in {item["severity"] for item in found} and "another" in found[0]["message"]


def test_of_several_files_the_first_that_has_a_clip_counts(raw, tmp_path):
    both = synthetic.write_pose_detections(tmp_path / "both.npz", LENGTHS)
    one = synthetic.write_detections(tmp_path / "one.npz", {("S9", "Photo"): 8}, COCO_ORDER, COCO)
    sequences = convert(raw, tmp_path, one, both)
    assert np.isnan(sequences["S9/Photo"].joints_2d_detected[..., H36M17.index("head_top"), :]).all()
    assert np.isfinite(sequences["S5/Smoking"].joints_2d_detected).all()
    assert "both.npz" in findings(sequences["S9/Photo"], "detections.several")[0]["message"]
    absent = convert_alone(raw, tmp_path, one)["S5/Smoking"]
    assert "one.npz" in findings(absent, "detections.absent")[0]["message"]


def convert_alone(raw, tmp_path, path):
    (tmp_path / "alone").mkdir()
    return convert(raw, tmp_path / "alone", path)


def _other_joint_count(positions, _):
    positions["S9"]["Photo"] = [view[:, :15] for view in positions["S9"]["Photo"]]


def _every_joint_count(positions, metadata):
    for by_clip in positions.values():
        for name, views in by_clip.items():
            by_clip[name] = [np.concatenate([view, view[:, :2]], axis=1) for view in views]
    metadata["num_joints"] = 19


def _wrong_number_in_metadata(_, metadata):
    metadata["num_joints"] = 16


def _unknown_order(_, metadata):
    metadata["keypoints_symmetry"] = [[0, 1], [2, 3]]


def _no_order(_, metadata):
    metadata.clear()


def _three_cameras(positions, _):
    positions["S9"]["Photo"] = positions["S9"]["Photo"][:3]


def _no_list(positions, _):
    positions["S9"]["Photo"] = {"a": 1}


def _three_columns(positions, _):
    positions["S5"]["Smoking"] = [np.pad(view, ((0, 0), (0, 0), (0, 1))) for view in positions["S5"]["Smoking"]]


def _flat(positions, _):
    positions["S9"]["Photo"][1] = positions["S9"]["Photo"][1].reshape(-1, 34)


@pytest.mark.parametrize(
    "change, message",
    [
        (_other_joint_count, r"17 \(S5/Smoking\), 15 \(S9/Photo\)"),
        (_every_joint_count, "19 joints .* no known joint order"),
        (_wrong_number_in_metadata, "says 16 joints, its arrays have 17"),
        (_unknown_order, "no known joint order. Known: h36m17"),
        (_no_order, "left joints not said"),
        (_three_cameras, "S9/Photo has detections of 3 cameras, expected 4"),
        (_no_list, "S9/Photo has detections of 0 cameras"),
        (_three_columns, r"S5/Smoking.*\(15, 17, 3\), expected \(frames, joints, 2\)"),
        (_flat, r"S9/Photo.*\(11, 34\)"),
    ],
)
def test_archives_that_do_not_fit_are_refused_before_anything_is_converted(raw, tmp_path, change, message):
    path = rewrite(synthetic.write_pose_detections(tmp_path / "data_2d.npz", LENGTHS), change)
    with pytest.raises(RawDataError, match=message) as caught:
        dataset.convert(find_archive(raw), tmp_path / "out.h5", detection_paths=[path])
    assert "data_2d.npz" in str(caught.value) and not (tmp_path / "out.h5").exists()


def test_poses_given_as_detections_and_folders_without_any_are_refused(tmp_path):
    poses = synthetic.write_community(tmp_path / "data_3d_h36m.npz", LENGTHS)
    with pytest.raises(RawDataError, match="holds positions_3d, expected 'positions_2d'"):
        detections.open_source(poses)
    with pytest.raises(RawDataError, match="StackedHourglass"):
        detections.open_source(tmp_path)
    with pytest.raises(RawDataError, match="no such file"):
        detections.open_source(tmp_path / "absent.npz")
