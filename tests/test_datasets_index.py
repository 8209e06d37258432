"""Tracks and splits: what is listed, what is left out, and what is refused."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from contract_file import make_sequence, write_contract_file
from hypothesis import given
from hypothesis import strategies as st

from finepose_mp import schema
from finepose_mp.config import DataConfig
from finepose_mp.datasets.index import Track, evaluation_windows, list_tracks, training_windows
from finepose_mp.datasets.splits import DataError, assert_no_leak, sequence_split, takes_of_split
from finepose_mp.skeletons import JOINT_SETS, JointSet

LENGTHS = (60, 242, 243, 244, 300, 486, 487, 1000)


@pytest.fixture(scope="module")
def contract(tmp_path_factory) -> Path:
    return write_contract_file(tmp_path_factory.mktemp("index") / "made_up.h5", frames=20, slam=True)


def _config(*files: Path, **values) -> DataConfig:
    return DataConfig(files=list(files), **values)


# --- tilings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
def test_tilings_equal_the_published_ones(shared, length):
    golden = np.load(shared / "golden/metrics/golden_metrics.npz")
    np.testing.assert_array_equal(training_windows(length, 243).frames, golden[f"window/train_T243_L{length}"])
    np.testing.assert_array_equal(evaluation_windows(length, 243).frames, golden[f"window/eval_T243_L{length}"])


def test_tilings_of_300_frames_in_windows_of_243():
    train, evaluation = training_windows(300, 243), evaluation_windows(300, 243)
    np.testing.assert_array_equal(train.start, [-93, 150])
    np.testing.assert_array_equal(train.frames[:, [0, 93, 94, 242]], [[0, 0, 1, 149], [150, 243, 244, 299]])
    np.testing.assert_array_equal(evaluation.start, [0, 57])
    np.testing.assert_array_equal(evaluation.score_mask.sum(axis=1), [243, 57])


def test_short_take_is_padded_with_its_edges_and_masked():
    train, evaluation = training_windows(3, 6), evaluation_windows(3, 6)
    np.testing.assert_array_equal(train.frames, [[0, 0, 1, 2, 2, 2]])
    np.testing.assert_array_equal(train.frame_mask, [[False, True, True, True, False, False]])
    np.testing.assert_array_equal(evaluation.frames, [[0, 1, 2, 2, 2, 2]])
    np.testing.assert_array_equal(evaluation.score_mask, [[True, True, True, False, False, False]])


@given(length=st.integers(1, 500), window=st.integers(1, 300))
def test_training_windows_cover_every_frame_exactly_once(length, window):
    windows = training_windows(length, window)
    np.testing.assert_array_equal(np.sort(windows.frames[windows.frame_mask]), np.arange(length))


@given(length=st.integers(1, 500), window=st.integers(1, 300))
def test_evaluation_windows_score_every_frame_exactly_once(length, window):
    windows = evaluation_windows(length, window)
    np.testing.assert_array_equal(np.sort(windows.frames[windows.score_mask]), np.arange(length))
    assert (windows.frame_mask | ~windows.score_mask).all()


@given(length=st.integers(1, 500), window=st.integers(1, 100), data=st.data())
def test_overlapping_training_windows_cover_every_frame(length, window, data):
    stride = data.draw(st.integers(1, window))
    windows = training_windows(length, window, stride)
    assert set(windows.frames[windows.frame_mask]) == set(range(length))
    assert (np.diff(windows.start) == stride).all()


@given(length=st.integers(1, 500), window=st.integers(1, 60), further=st.integers(1, 600))
def test_training_windows_further_apart_than_long_lie_inside_the_take(length, window, further):
    windows = training_windows(length, window, window + further)
    assert len(windows.start) == 1 + max(0, length - window) // (window + further)
    assert windows.frame_mask.all(axis=1).all() if length >= window else windows.frame_mask.any(axis=1).all()
    first, last = windows.frames[0, 0], length - 1 - windows.frames[-1, -1]
    assert abs(first - last) <= 1  # centred


def test_legacy_overlap_scores_shared_frames_twice_and_padding_too():
    assert evaluation_windows(300, 243, legacy_overlap=True).score_mask.all()
    assert evaluation_windows(60, 243, legacy_overlap=True).score_mask.all()


@pytest.mark.parametrize("values", [(0, 27), (27, 0), (27, 27, 0)])
def test_tilings_refuse_lengths_below_one(values):
    with pytest.raises(ValueError, match="expected at least 1 frame, found 0"):
        training_windows(*values)


# --- tracks ------------------------------------------------------------------------------------------------------


def test_tracks_are_everybody_but_the_wearer_in_head_worn_rgb_cameras(contract):
    tracks = list_tracks(_config(contract), "test")
    assert len(tracks) == 3 * 3 * 2  # takes, cameras, the two others
    assert {track.camera_kind for track in tracks} == {"ego_rgb"}
    assert all(not track.camera.startswith(track.person) for track in tracks)
    assert {track.scene for track in tracks} == {"Tagging"}
    assert len({track.key for track in tracks}) == len(tracks)


def test_a_track_says_where_the_file_keeps_it(contract):
    track = list_tracks(_config(contract, camera_kinds=["ego_slam"]), "test")[1]
    with schema.open_file(contract) as file:
        group = file[track.sequence]
        assert group["camera"].asstr()[track.camera_index] == track.camera == "aria01/slam_left"
        assert group["person"].asstr()[track.person_index] == track.person == "aria03"
        assert len(group["frame"]) == track.length == 20
    assert (track.camera_model, track.image_size) == ("aria_fisheye624", (480, 640))
    assert (track.action, track.fps, track.simulated) == ("playing tag", 20.0, True)


def test_order_does_not_depend_on_the_order_of_files(tmp_path):
    first = write_contract_file(tmp_path / "a.h5", scenes=("Basketball", "Lego"), frames=5)
    second = write_contract_file(tmp_path / "b.h5", scenes=("Fencing", "Tennis"), frames=5)
    one, two = (list_tracks(_config(*files), "train") for files in ((first, second), (second, first)))
    assert one == two
    assert {track.file for track in one} == {first, second}


def test_scenes_and_camera_kinds_select(contract):
    data = _config(contract, scenes=["Tennis"], camera_kinds=["exo", "ego_slam"], split_scheme="within_scene")
    tracks = list_tracks(data, "val")
    assert {(track.scene, track.camera_kind) for track in tracks} == {("Tennis", "exo"), ("Tennis", "ego_slam")}
    assert len({track.sequence for track in tracks}) == 1


def test_chosen_scenes_hold_out_takes_of_their_own(tmp_path):
    path = write_contract_file(tmp_path / "a.h5", ("Basketball", "Tennis"), (), takes_per_scene=2, frames=5, persons=2)
    for scene in ("Basketball", "Tennis"):
        data = _config(path, scenes=[scene])
        takes = [{track.take for track in list_tracks(data, split)} for split in ("train", "val")]
        assert [len(each) for each in takes] == [1, 1]


def test_unknown_scene_lists_the_known(contract):
    with pytest.raises(DataError, match=r"unknown Chess; .*made_up.h5 has Basketball, Tagging, Tennis"):
        list_tracks(_config(contract, scenes=["Chess", "Tennis"]), "train")


def test_nothing_found_is_an_error_with_counts(tmp_path):
    path = write_contract_file(tmp_path / "a.h5", frames=5, slam=False)
    with pytest.raises(
        DataError, match=r"9 takes .*3 are in split test.*'ego_rgb': 18, 'exo': 9.*wanted kinds ego_slam"
    ):
        list_tracks(_config(path, camera_kinds=["ego_slam"]), "test")


def test_joints_that_do_not_determine_the_models_root_are_refused_and_the_ways_out_named(tmp_path, monkeypatch):
    path = write_contract_file(tmp_path / "a.h5", frames=5)
    with h5py.File(path, "r+") as file:
        file.attrs["joint_set"] = "face"
    with pytest.raises(schema.SchemaError, match="unknown joint set 'face'; known: coco17"):
        list_tracks(_config(path), "train")
    monkeypatch.setitem(JOINT_SETS, "face", JointSet("face", ("nose", "left_eye", "right_eye"), (-1, 0, 0), (0,)))
    with pytest.raises(
        DataError,
        match=r"a.h5: its joints are face, which do not determine pelvis, the root of data.joint_set h36m17; "
        "set data.joint_set to one of face",
    ):
        list_tracks(_config(path, joint_set="h36m17"), "train")


# --- files that cannot be used -----------------------------------------------------------------------------------


def test_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python tools/convert.py egohumans"):
        list_tracks(_config(tmp_path / "egohumans.h5"), "train")


def test_file_of_another_kind(tmp_path):
    path = tmp_path / "page.h5"
    path.write_text("<html>quota exceeded</html>")
    with pytest.raises(schema.SchemaError, match=r"page.h5: not a readable HDF5 file"):
        list_tracks(_config(path), "train")


def test_truncated_file(tmp_path):
    path = write_contract_file(tmp_path / "a.h5", frames=5)
    with open(path, "rb+") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(schema.SchemaError, match="truncated"):
        list_tracks(_config(path), "train")


def test_other_schema_version(tmp_path):
    path = write_contract_file(tmp_path / "a.h5", frames=5)
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = "9.0"
    with pytest.raises(schema.SchemaError, match=r"schema version '9.0', this reader knows 1.0"):
        list_tracks(_config(path), "train")


@pytest.mark.parametrize("attribute, value", [("scene", None), ("split", "holdout")])
def test_sequence_without_a_usable_attribute_is_named(tmp_path, attribute, value):
    path = write_contract_file(tmp_path / "a.h5", frames=5)
    with h5py.File(path, "r+") as file:
        attributes = file["02_tennis/001_tennis"].attrs
        del attributes[attribute]
        if value:
            attributes[attribute] = value
    with pytest.raises(schema.SchemaError, match=rf"a.h5: 02_tennis/001_tennis: .*{attribute}"):
        list_tracks(_config(path), "train")


# --- splits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["official", "within_scene"])
def test_splits_share_no_take(contract, scheme):
    splits = {split: list_tracks(_config(contract, split_scheme=scheme), split) for split in schema.SPLITS}
    assert_no_leak(splits)
    assert len({track.take for tracks in splits.values() for track in tracks}) == 9


def test_official_validation_takes_come_from_training_takes():
    stored = {f"take{i:02d}": "test" if i % 3 == 0 else "train" for i in range(60)}
    validation = takes_of_split(stored, "official", "val")
    assert len(validation) == 4  # a tenth of 40
    assert all(stored[take] == "train" for take in validation)
    assert sorted(validation + takes_of_split(stored, "official", "train")) == sorted(
        t for t in stored if stored[t] != "test"
    )


@given(order=st.permutations([f"take{i}" for i in range(12)]))
def test_validation_takes_do_not_depend_on_the_order_of_takes(order):
    expected = takes_of_split({take: "train" for take in sorted(order)}, "official", "val")
    assert takes_of_split({take: "train" for take in order}, "official", "val") == expected
    assert takes_of_split({**dict.fromkeys(order, "train"), "other": "test"}, "official", "val") == expected


def test_validation_takes_follow_the_seed():
    stored = {f"take{i:02d}": "train" for i in range(40)}
    chosen = [takes_of_split(stored, "official", "val", seed) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_validation_takes_of_the_dataset_itself_are_used():
    stored = {"a": "train", "b": "val", "c": "test", "d": "train"}
    assert takes_of_split(stored, "official", "train") == ["a", "d"]
    assert takes_of_split(stored, "official", "val") == ["b"]


def test_every_file_holds_out_validation_takes_of_its_own():
    file_of = {**{f"large{i:03d}": "large.h5" for i in range(150)}, **{f"small{i}": "small.h5" for i in range(4)}}
    stored = dict.fromkeys(file_of, "train")
    together = takes_of_split(stored, "official", "val", file_of=file_of)
    alone = [
        takes_of_split({take: "train" for take in stored if file_of[take] == file}, "official", "val")
        for file in ("large.h5", "small.h5")
    ]
    assert together == alone[0] + alone[1] and [len(takes) for takes in alone] == [15, 1]


@pytest.mark.parametrize(
    "states_validation, held_out",
    [(False, 1), (True, 0)],
    ids=["one of two files' only takes", "another file has validation takes, the only take of this one trains"],
)
def test_files_of_one_training_take(states_validation, held_out):
    file_of = {"a": "a.h5", "b": "b.h5", "c": "b.h5"}
    stored = {"a": "train", "b": "train", "c": "val" if states_validation else "test"}
    validation = takes_of_split(stored, "official", "val", file_of=file_of)
    assert len(set(validation) - {"c"}) == held_out
    assert len(takes_of_split(stored, "official", "train", file_of=file_of)) == 2 - held_out


def test_a_single_training_take_cannot_be_held_out(tmp_path):
    path = write_contract_file(tmp_path / "a.h5", scenes=("Tennis", "Tagging"), takes_per_scene=1, frames=5)
    for split in ("train", "val"):
        with pytest.raises(DataError, match=r"one training take \(simulated:01_tennis/001_tennis\).*within_scene"):
            list_tracks(_config(path), split)
    assert list_tracks(_config(path), "test")


def test_files_with_test_takes_only_have_nothing_to_train_on(tmp_path):
    path = write_contract_file(tmp_path / "a.h5", scenes=("Tagging",), frames=5)
    with pytest.raises(DataError, match=r"3 takes \(3 test in its official split\).*split_scheme"):
        list_tracks(_config(path), "train")


def _file_with_one_take(path: Path, **values) -> Path:
    with schema.create(path, "made-up", "coco17", "none", "none") as file:
        schema.write_sequence(file, make_sequence(frames=5, **values))
    return path


def test_a_take_in_two_splits_of_two_files_is_named(tmp_path):
    files = [_file_with_one_take(tmp_path / f"{split}.h5", split=split) for split in ("train", "test")]
    with pytest.raises(
        DataError, match=r"take simulated:04_basketball/001_basketball would be in two splits: train .*train.h5"
    ):
        list_tracks(_config(*files), "train")


def test_a_take_in_two_files_is_refused(tmp_path):
    files = [_file_with_one_take(tmp_path / f"{name}.h5") for name in "ab"]
    with pytest.raises(DataError, match=r"in .*a.h5 and in .*b.h5; list only one"):
        list_tracks(_config(*files), "train")


def test_leak_between_lists_of_tracks_is_named(contract):
    tracks: list[Track] = list_tracks(_config(contract), "test")
    with pytest.raises(
        DataError, match=r"take simulated:03_tagging/001_tagging would be in two splits: train .* and val"
    ):
        assert_no_leak({"train": tracks, "val": tracks[:1]})


@pytest.mark.parametrize(
    "call",
    [lambda: sequence_split({"split": "train"}, "random"), lambda: takes_of_split({"a": "train"}, "official", "dev")],
)
def test_unknown_scheme_or_split_lists_the_known(call):
    with pytest.raises(DataError, match=r"unknown split .*known: "):
        call()
