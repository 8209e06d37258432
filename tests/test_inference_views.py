"""What a camera saw, read from a track: rays in either input form, unknown camera poses, and roots in a moving head."""

import numpy as np
import pytest
from contract_file import write_contract_file

from finepose_mp import schema
from finepose_mp.config import DataConfig
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.reader import read_track
from finepose_mp.inference.views import view_of


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "people.h5"
    return write_contract_file(path, scenes=("Tagging",), takes_per_scene=1, frames=40)


def read(data_file, **options):
    """Samples and views of all tracks from head-worn fisheye cameras."""
    options = {"input_2d": "projected", "split_scheme": "within_scene"} | options
    data = DataConfig(files=[data_file], **options)
    found = []
    for track in list_tracks(data, "test"):
        sample = read_track(track, data)
        with schema.open_file(track.file) as file:
            world_to_camera = file[track.sequence]["world_to_camera"][track.camera_index]
        found.append((sample, world_to_camera, view_of(sample, world_to_camera, track.fps, data.coordinates)))
    return found


@pytest.mark.parametrize("coordinates", ["rays", "screen"])
def test_the_true_pose_and_its_keypoints_give_the_root_and_no_reprojection_error(data_file, coordinates):
    for sample, _, view in read(data_file, coordinates=coordinates):
        scored = sample["target_mask"].all(axis=-1)
        assert scored.sum() > 10
        pose = np.where(scored[:, None, None], sample["target_3d"].astype(float), np.nan)
        root = view.solve_root(pose)
        np.testing.assert_allclose(root[scored], sample["root_camera"][scored], atol=0.01)
        errors = view.reprojection_errors(pose[None], sample["root_camera"].astype(float))[0]
        known = scored[:, None] & (view.weights > 0)
        assert errors[known].max() < 0.01
        assert np.isnan(errors[~known]).all()
        distances = view.ray_distances(pose[None], sample["root_camera"].astype(float))[0]
        assert distances[known].max() < 1e-4


def test_frames_in_which_the_camera_pose_is_unknown_give_no_keypoints(data_file):
    sample, world_to_camera, view = read(data_file)[0]
    lost = world_to_camera.copy()
    lost[5:8] = np.nan
    without = view_of(sample, lost, 20.0, "rays")
    assert not without.weights[5:8].any()
    np.testing.assert_array_equal(np.delete(without.weights, np.s_[5:8], 0), np.delete(view.weights, np.s_[5:8], 0))
    root = without.solve_root(sample["target_3d"].astype(float))
    assert np.isnan(root[5:8]).all()
    assert np.isfinite(root[:5][sample["target_mask"][:5].all(axis=-1)]).all()
