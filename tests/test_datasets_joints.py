"""Files of several joint sets read as one, and the frame rates of takes."""

import h5py
import numpy as np
import pytest
from contract_file import Oddities, write_contract_file
from hypothesis import given
from hypothesis import strategies as st
from lab_file import Clip, write_lab_file

from finepose_mp import cameras, schema
from finepose_mp.config import DataConfig
from finepose_mp.datasets import timing
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.joints import conversion
from finepose_mp.datasets.reader import TrackReader, read_track
from finepose_mp.datasets.splits import DataError
from finepose_mp.datasets.windows import WindowDataset, collate
from finepose_mp.skeletons import COCO17, H36M17, MPI17, joint_sources

FRAMES = 40


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """COCO's joints, with gaps, interpolated joints and detections that are missing or too weak."""
    path = tmp_path_factory.mktemp("joints") / "people.h5"
    return write_contract_file(path, scenes=("Tagging", "Lego"), takes_per_scene=3, frames=FRAMES)


def config(*files, **values) -> DataConfig:
    return DataConfig(files=list(files), **({"camera_kinds": ["ego_rgb", "exo"], "window": 9} | values))


def track_of(data, person, camera="cam01"):
    tracks = list_tracks(data, "test")
    return next(track for track in tracks if (track.person, track.camera) == (person, camera))


def both(people, person="aria01", **values):
    """The same track in the file's joints and in Human3.6M's."""
    return [
        read_track(track_of(data, person), data)
        for data in (config(people, **values), config(people, joint_set="h36m17", **values))
    ]


# --- joints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("input_2d", ["detected", "projected"])
def test_joints_are_matched_by_name(people, input_2d):
    native, converted = both(people, input_2d=input_2d)
    for name in ("left_wrist", "right_knee", "left_shoulder"):
        j, n = H36M17.index(name), COCO17.index(name)
        for array in ("input_2d", "input_px", "input_score", "input_mask", "in_view"):
            np.testing.assert_array_equal(converted[array][:, j], native[array][:, n])
        both_usable = converted["target_mask"][:, j] & native["target_mask"][:, n]
        assert both_usable.any()
        # Both roots are the middle of the hips.
        np.testing.assert_allclose(
            converted["target_3d"][both_usable, j], native["target_3d"][both_usable, n], atol=1e-6
        )


def test_a_joint_that_nothing_determines_is_masked_everywhere(people):
    _, converted = both(people)
    j = H36M17.index("head_top")
    assert not joint_sources("coco17", "h36m17")[j]
    for array in ("input_mask", "target_mask", "in_view", "input_score", "input_2d", "input_px", "target_3d"):
        assert not converted[array][:, j].any()
    assert all(np.isfinite(converted[array]).all() for array in ("input_2d", "input_px", "target_3d", "input_score"))


def test_a_derived_joint_is_as_good_as_the_worst_of_its_sources(people):
    native, converted = both(people)
    pelvis, hips = H36M17.index("pelvis"), [COCO17.index("left_hip"), COCO17.index("right_hip")]
    np.testing.assert_array_equal(converted["input_mask"][:, pelvis], native["input_mask"][:, hips].all(axis=-1))
    usable = converted["input_mask"][:, pelvis]
    assert usable.any() and not usable.all()  # some detections are missing or too weak
    middle = native["input_px"][:, hips].mean(axis=1)
    np.testing.assert_allclose(converted["input_px"][usable, pelvis], middle[usable], rtol=1e-6)
    lowest = native["input_score"][:, hips].min(axis=-1)
    np.testing.assert_array_equal(converted["input_score"][usable, pelvis], lowest[usable])
    # The mean is taken in pixels, and its ray found through the true lens.
    params = converted["camera_params"][usable]
    ray = cameras.unproject(converted["input_px"][usable, pelvis].astype(float), converted["camera_model"], params)
    np.testing.assert_allclose(converted["input_2d"][usable, pelvis], ray, atol=1e-5)
    assert not converted["target_3d"][:, pelvis].any()  # it is the root


def test_status_of_derived_joints_says_interpolated_and_missing(people):
    data = config(people, joint_set="h36m17")
    convert_status = conversion("coco17", "h36m17")
    status = np.full((1, 17), schema.OBSERVED, np.uint8)
    spine = H36M17.index("spine")
    for value, expected in ((schema.INTERPOLATED, schema.INTERPOLATED), (schema.MISSING, schema.MISSING)):
        status[0, COCO17.index("left_hip")] = value
        assert convert_status("joint_status", status)[0, spine] == expected
    status[0, COCO17.index("right_hip")] = schema.INTERPOLATED  # the other one is missing: that weighs more
    assert convert_status("joint_status", status)[0, spine] == schema.MISSING
    with TrackReader(data) as reader:
        scene = reader.read_scene(track_of(data, "aria01"))
    wrist = scene["joint_status"][Oddities(FRAMES).interpolated, H36M17.index("left_wrist")]
    assert (wrist == schema.INTERPOLATED).all()
    assert (scene["joint_status"][:, H36M17.index("head_top")] == schema.MISSING).all()


def test_sets_with_the_same_joints_in_another_order_lose_nothing(tmp_path):
    file = write_lab_file(tmp_path / "lab.h5", [Clip("S9/Walking", "Walking")])
    native = config(file, joint_set="h36m17")
    other = config(file, joint_set="mpi17")
    one, two = (read_track(list_tracks(data, "test")[0], data) for data in (native, other))
    order = [MPI17.index(name) for name in H36M17.joints]
    for array in ("input_2d", "input_mask", "target_3d", "target_mask"):
        np.testing.assert_array_equal(two[array][:, order], one[array])


def test_a_set_of_joints_that_no_file_has_most_of_is_refused_for_training(people):
    def windows(joints):
        return WindowDataset(config(people, joint_set=joints, split_scheme="within_scene"), "train", training=True)

    with pytest.raises(DataError, match=r"wholebody133, but files with coco17 determine 17 of its 133 .* to coco17"):
        windows("wholebody133")
    assert len(windows("body25"))  # all but the feet


def test_files_of_several_joint_sets_fill_one_batch(people, tmp_path):
    lab = write_lab_file(
        tmp_path / "lab.h5", [Clip("S1/Walking", "Walking", split="train")], joints="mpi17", dataset="lab", fps=20
    )
    windows = WindowDataset(config(people, lab, joint_set="h36m17", split_scheme="within_scene"), "train", True)
    batch = collate([windows[index] for index in range(len(windows))])
    assert batch["target_3d"].shape[1:] == (9, 17, 3)
    head_top = batch["target_mask"][:, :, H36M17.index("head_top")].any(dim=1).numpy()
    np.testing.assert_array_equal(head_top, windows.files == 1)  # only the laboratory has that joint
    said = windows.summary()["files"]
    assert [said[str(path)]["joint_set"] for path in (people, lab)] == ["coco17", "mpi17"]
    assert [said[str(path)]["windows"] for path in (people, lab)] == np.bincount(windows.files).tolist()


# --- frame rates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recorded, wanted, frames",
    [
        (50, 25, [0, 2, 4, 6]),
        (60, 20, [0, 3, 6, 9]),
        (25, 25, [0, 1, 2, 3]),
        (29.97, 30, [0, 1, 2, 3]),
        (59.94, 30, [0, 2, 4, 6]),
        (30, 25, [0, 1, 2, 4, 5, 6, 7, 8, 10]),
        (50, 20, [0, 3, 5, 8, 10]),
        (50, None, [0, 1, 2]),
    ],
)
def test_read_frames_are_the_recorded_ones_closest_in_time(recorded, wanted, frames):
    step = timing.frames_per_step(recorded, wanted)
    np.testing.assert_array_equal(timing.recorded_frames(0, len(frames), step), frames)


@given(st.integers(1, 400), st.sampled_from([1.0, 2.0, 3.0, 1.2, 2.5, 50 / 30]))
def test_no_frame_is_read_twice_and_none_beyond_the_take(length, step):
    frames = timing.recorded_frames(0, timing.length_at(length, step), step)
    assert (np.diff(frames) >= 1).all()
    assert frames[0] == 0 and frames[-1] < length
    assert timing.recorded_frames(len(frames), len(frames) + 1, step)[0] >= length


def test_a_take_at_twice_the_rate_reads_like_the_slower_recording(tmp_path):
    clip = [Clip("S9/Walking", "Walking", frames=30)]
    fast = write_lab_file(tmp_path / "fast.h5", clip, fps=50, start=7)
    slow = write_lab_file(tmp_path / "slow.h5", [Clip("S9/Walking", "Walking", frames=15)], fps=25, start=3)
    data = [config(path, joint_set="h36m17", frame_rate=25) for path in (fast, slow)]
    tracks = [list_tracks(each, "test")[0] for each in data]
    assert [(track.length, track.fps) for track in tracks] == [(15, 25), (15, 25)]
    one, two = (read_track(track, each) for track, each in zip(tracks, data, strict=True))
    for array in ("input_2d", "target_3d", "target_mask", "in_view"):
        np.testing.assert_allclose(one[array], two[array], atol=1e-6)
    assert (np.diff(one["frame"]) == 1).all()
    part = read_track(tracks[0], data[0], 4, 9)
    np.testing.assert_array_equal(part["target_3d"], one["target_3d"][4:9])


def test_gaps_of_the_source_stay_gaps_at_another_rate(tmp_path):
    file = write_lab_file(tmp_path / "lab.h5", [Clip("S9/Walking", "Walking", frames=12)], fps=50)
    with h5py.File(file, "r+") as opened:
        opened["S9/Walking/frame"][6:] += 10
    data = config(file, joint_set="h36m17", frame_rate=25)
    frame = read_track(list_tracks(data, "test")[0], data)["frame"]
    np.testing.assert_array_equal(np.diff(frame), [1, 1, 6, 1, 1])


def test_a_rate_above_the_recording_is_refused_and_says_both(tmp_path):
    file = write_lab_file(tmp_path / "lab.h5", [Clip("S9/Walking", "Walking")], fps=25)
    with pytest.raises(DataError, match=r"S9/Walking is recorded at 25 Hz, asked for 50 Hz: frames would have to be"):
        list_tracks(config(file, joint_set="h36m17", frame_rate=50), "test")


def test_windows_of_takes_at_several_rates_span_the_same_time(tmp_path):
    clips = [Clip(f"{s}/Walking", "Walking", frames=36, split="train") for s in ("S1", "S5")]
    fast = write_lab_file(tmp_path / "fast.h5", [*clips[:1], Clip("S6/Posing", "Posing", split="train")], fps=50)
    slow = write_lab_file(tmp_path / "slow.h5", clips[1:], fps=25, dataset="other")
    windows = WindowDataset(config(fast, slow, joint_set="h36m17", frame_rate=25), "train", training=True)
    assert windows.summary()["frame_rates_hz"] == [25.0]
    assert {track.fps for track in windows.tracks} == {25.0}
    mixed = WindowDataset(config(fast, slow, joint_set="h36m17"), "train", training=True)
    assert mixed.summary()["frame_rates_hz"] == [25.0, 50.0]
