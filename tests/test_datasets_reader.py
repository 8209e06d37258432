"""What a track's frames contain: coordinates that agree with the file's cameras, and masks."""

import multiprocessing
import os
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from contract_file import Oddities, make_sequence, write_contract_file

from finepose_mp import cameras, schema
from finepose_mp.config import DataConfig
from finepose_mp.datasets.index import Track, list_tracks
from finepose_mp.datasets.reader import TrackReader, read_track
from finepose_mp.skeletons import COCO17

FRAMES = 40
ODD = Oddities(FRAMES)
KINDS = ["ego_rgb", "ego_slam", "exo"]


@pytest.fixture(scope="module")
def contract(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("reader") / "made_up.h5"
    return write_contract_file(path, frames=FRAMES, scenes=("Tennis", "Tagging"), takes_per_scene=2, slam=True)


def _config(path: Path, **values) -> DataConfig:
    return DataConfig(files=[path], **{"camera_kinds": KINDS, **values})


def _track(path: Path, camera: str, person: str, **values) -> Track:
    tracks = list_tracks(_config(path, **values), "test")
    return next(track for track in tracks if (track.camera, track.person) == (camera, person))


def _stored(track: Track) -> schema.Sequence:
    with schema.open_file(track.file) as file:
        return schema.read_sequence(file, track.sequence)


@pytest.mark.parametrize(
    "camera, person", [("aria01/rgb", "aria03"), ("aria01/slam_left", "aria03"), ("cam01", "aria01")]
)
def test_target_and_root_reproject_onto_the_input(contract, camera, person):
    track = _track(contract, camera, person)
    data = _config(contract, input_2d="projected")
    sample = read_track(track, data)
    use = sample["target_mask"] & sample["input_mask"]
    assert use.mean() > 0.5
    points = sample["target_3d"].astype(float) + sample["root_camera"][:, None]
    pixels = cameras.project(points, sample["camera_model"], sample["camera_params"][:, None])
    np.testing.assert_allclose(pixels[use], sample["input_px"][use], atol=2e-3)
    np.testing.assert_allclose((points[..., :2] / points[..., 2:])[use], sample["input_2d"][use], atol=2e-6)


def test_target_is_relative_to_the_middle_of_the_hips(contract):
    sample = read_track(_track(contract, "cam01", "aria03"), _config(contract))
    hips = sample["target_3d"][:, [COCO17.index("left_hip"), COCO17.index("right_hip")]]
    np.testing.assert_allclose(hips.mean(axis=1), 0, atol=1e-6)
    shoulder = COCO17.index("left_shoulder")
    assert (sample["target_3d"][:, shoulder, 1] < -0.3).all()  # +y is down


def test_moving_camera_uses_the_pose_of_each_frame(contract):
    track = _track(contract, "aria02/rgb", "aria03")
    sample, take = read_track(track, _config(contract)), _stored(track)
    for t in (0, FRAMES // 2, FRAMES - 1):
        rotation, translation = np.split(take.world_to_camera[track.camera_index, t], [3], axis=1)
        camera = take.joints_3d_world[t, track.person_index].astype(float) @ rotation.T + translation.T
        np.testing.assert_allclose(sample["root_camera"][t], camera[[11, 12]].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(sample["target_3d"][t], camera - camera[[11, 12]].mean(axis=0), atol=1e-6)


def test_detected_input_keeps_confident_detections_only(contract):
    track = _track(contract, "cam01", "aria01")
    sample, take = read_track(track, _config(contract, min_score=0.3)), _stored(track)
    score = take.detection_score[track.camera_index, :, track.person_index]
    pixels = take.joints_2d_detected[track.camera_index, :, track.person_index]
    assert ((score > 0) & (score < 0.3)).any() and (score == 0).any()
    np.testing.assert_array_equal(sample["input_mask"], score >= 0.3)
    np.testing.assert_array_equal(sample["input_px"], np.where(score[..., None] >= 0.3, pixels, 0))
    np.testing.assert_array_equal(sample["input_score"], np.where(score >= 0.3, score, 0))
    assert (sample["input_2d"][~sample["input_mask"]] == 0).all()
    assert read_track(track, _config(contract, min_score=0))["input_mask"].sum() == np.isfinite(pixels[..., 0]).sum()


def test_projected_input_has_score_one_in_view_and_nothing_outside(contract):
    sample = read_track(_track(contract, "aria01/rgb", "aria03"), _config(contract, input_2d="projected"))
    np.testing.assert_array_equal(sample["input_mask"], sample["in_view"])
    np.testing.assert_array_equal(sample["input_score"], sample["in_view"])
    assert not sample["in_view"][ODD.turned_away].any()


def test_screen_coordinates_divide_both_axes_by_the_width(contract):
    sample = read_track(_track(contract, "cam01", "aria01"), _config(contract, coordinates="screen"))
    use, (width, height) = sample["input_mask"], sample["image_size"]
    pixels = sample["input_px"].astype(float)
    expected = np.stack([2 * pixels[..., 0] / width - 1, 2 * pixels[..., 1] / width - height / width], axis=-1)
    np.testing.assert_allclose(sample["input_2d"][use], expected[use], atol=1e-6)


def test_detection_outside_the_lens_model_is_no_ray_but_has_screen_coordinates(tmp_path):
    take = make_sequence(frames=5, split="test")
    take.joints_2d_detected[0, 2, 1, 3] = (-40000, 0)
    take.detection_score[0, 2, 1, 3] = 1
    path = _write(tmp_path / "a.h5", take)
    rays, screen = (
        read_track(_track(path, "aria01/rgb", "aria02"), _config(path, coordinates=c)) for c in ("rays", "screen")
    )
    assert not rays["input_mask"][2, 3] and screen["input_mask"][2, 3]
    assert (rays["input_2d"][2, 3] == 0).all() and rays["input_score"][2, 3] == 0


def _write(path: Path, *takes: schema.Sequence) -> Path:
    with schema.create(path, "made-up", "coco17", "none", "none") as file:
        for take in takes:
            schema.write_sequence(file, take)
    return path


def test_missing_person_has_no_target_and_no_root(contract):
    sample = read_track(_track(contract, "cam01", "aria02"), _config(contract))
    assert not sample["target_mask"][ODD.gap].any()
    assert (sample["target_3d"][ODD.gap] == 0).all() and (sample["root_camera"][ODD.gap] == 0).all()
    outside = np.delete(np.arange(FRAMES), np.r_[ODD.gap])
    assert sample["target_mask"][outside].all()


def test_nothing_but_lens_padding_is_ever_nan(contract):
    for track in list_tracks(_config(contract), "test"):
        sample = read_track(track, _config(contract))
        assert all(np.isfinite(v).all() for k, v in sample.items() if k not in ("camera_params", "camera_model"))
        used = len(cameras.MODELS[track.camera_model].parameter_names)
        assert np.isfinite(sample["camera_params"][:, :used]).all()


def test_interpolated_joint_is_a_target_only_when_asked_for(contract):
    track, wrist = _track(contract, "cam01", "aria01"), COCO17.index("left_wrist")
    for include in (False, True):
        mask = read_track(track, _config(contract, include_interpolated=include))["target_mask"]
        assert (mask[ODD.interpolated, wrist] == include).all()
        assert mask[ODD.interpolated, COCO17.index("right_wrist")].all()


@pytest.mark.parametrize("include, usable", [(False, False), (True, True)])
def test_interpolated_hip_takes_the_whole_pose_with_it(tmp_path, include, usable):
    take = make_sequence(frames=5, split="test")
    take.joint_status[3, 2, COCO17.index("left_hip")] = schema.INTERPOLATED
    path = _write(tmp_path / "a.h5", take)
    mask = read_track(_track(path, "cam01", "aria03"), _config(path, include_interpolated=include))["target_mask"]
    assert (mask[3] == usable).all() and mask[2].all()


@pytest.mark.parametrize("joints_in_view, visible", [(4, False), (5, True)])
def test_person_is_visible_from_five_joints_on(tmp_path, joints_in_view, visible):
    take = make_sequence(frames=5, split="test")
    take.in_view[-1, 1, 2, joints_in_view:] = 0
    path = _write(tmp_path / "a.h5", take)
    track = _track(path, "cam01", "aria03")
    assert read_track(track, _config(path))["target_mask"][1].all() == visible
    assert not read_track(track, _config(path, min_joints_in_view=6))["target_mask"][1].any()


def test_a_stretch_equals_the_same_frames_of_the_whole(contract):
    track, data = _track(contract, "aria03/rgb", "aria02"), _config(contract)
    whole, part = read_track(track, data), read_track(track, data, 7, 23)
    for name, value in part.items():
        expected = whole[name] if name in ("camera_model", "image_size") else whole[name][7:23]
        np.testing.assert_array_equal(value, expected, err_msg=name)
    np.testing.assert_array_equal(part["frame"], np.arange(8, 24))  # the source counts from 1


@pytest.mark.parametrize("start, stop", [(-1, 5), (5, 5), (0, FRAMES + 1)])
def test_frames_beyond_the_take_are_refused(contract, start, stop):
    with pytest.raises(ValueError, match=rf"frames {start}\.\.{stop} are not within its {FRAMES} frames"):
        read_track(_track(contract, "cam01", "aria01"), _config(contract), start, stop)


# --- processes ---------------------------------------------------------------------------------------------------


def _reads_repeatedly(reader: TrackReader, track: Track, queue) -> None:
    for _ in range(20):
        sample = reader.read(track)
    queue.put((os.getpid(), sample["input_2d"]))


def test_forked_children_and_their_parent_read_at_the_same_time(contract):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    context, track = multiprocessing.get_context("fork"), _track(contract, "cam01", "aria01")
    with TrackReader(_config(contract)) as reader:
        expected = reader.read(track)["input_2d"]  # the parent's file is open when the children start
        queue = context.Queue()
        children = [context.Process(target=_reads_repeatedly, args=(reader, track, queue)) for _ in range(2)]
        for child in children:
            child.start()
        for _ in range(20):
            np.testing.assert_array_equal(reader.read(track)["input_2d"], expected)
        results = [queue.get(timeout=60) for _ in children]
        for child in children:
            child.join()
    assert len({pid for pid, _ in results} | {os.getpid()}) == 3
    for _, found in results:
        np.testing.assert_array_equal(found, expected)


def test_pickled_reader_opens_its_own_file(contract):
    track = _track(contract, "cam01", "aria01")
    with TrackReader(_config(contract)) as reader:
        expected = reader.read(track)["target_3d"]
        copy = pickle.loads(pickle.dumps(reader))
    with copy:
        np.testing.assert_array_equal(copy.read(track)["target_3d"], expected)


def test_closed_reader_reads_again(contract):
    track, reader = _track(contract, "cam01", "aria01"), TrackReader(_config(contract))
    expected = reader.read(track)["target_3d"]
    reader.close()
    np.testing.assert_array_equal(reader.read(track)["target_3d"], expected)
    reader.close()


def test_more_takes_than_may_stay_open(contract, monkeypatch):
    monkeypatch.setattr("finepose_mp.datasets.reader._OPEN_SEQUENCES", 1)
    data = _config(contract)
    tracks = list_tracks(data, "test")
    with TrackReader(data) as reader:
        for track in (tracks[0], tracks[-1], tracks[0]):
            np.testing.assert_array_equal(reader.read(track)["frame"], np.arange(1, FRAMES + 1))


# --- damaged files -----------------------------------------------------------------------------------------------


def test_damaged_block_names_file_sequence_and_variable(tmp_path):
    path = write_contract_file(tmp_path / "a.h5", frames=20, scenes=("Tagging",))
    track = _track(path, "cam01", "aria01")
    with h5py.File(path) as file:
        place = file[track.sequence]["joints_2d_detected"].id.get_chunk_info_by_coord((track.camera_index, 0, 0, 0, 0))
    with open(path, "rb+") as file:
        file.seek(place.byte_offset)
        file.write(bytes(place.size))
    with pytest.raises(
        schema.SchemaError, match=r"a.h5: 01_tagging/001_tagging/joints_2d_detected cannot be read .*convert"
    ):
        read_track(track, _config(path))


def test_file_replaced_since_it_was_indexed(contract, tmp_path):
    path = write_contract_file(tmp_path / "a.h5", frames=20, scenes=("Tagging",))
    track = _track(path, "cam01", "aria01")
    with pytest.raises(schema.SchemaError, match="no sequence 01_other/001_other"):
        read_track(replace(track, sequence="01_other/001_other"), _config(path))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a.h5: no such file"):
        read_track(track, _config(path))
