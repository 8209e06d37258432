"""Lifting windows and whole tracks."""

import numpy as np
import pytest
import torch
from contract_file import Oddities
from training_runs import small_config, small_data

from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.reader import read_track
from finepose_mp.inference.lifting import lift_tracks, lift_windows
from finepose_mp.inference.mirroring import mirrored
from finepose_mp.models import build_model
from finepose_mp.skeletons import COCO17

JOINTS, WINDOW, FRAMES = 17, 9, 33
SEEDS = torch.tensor([11, 12, 13])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return small_config(small_data(folder, frames=FRAMES), folder / "run")


def model_of(config):
    torch.manual_seed(0)
    return build_model(config.model, JOINTS, config.data.window, config.data.missing).eval()


@pytest.fixture(scope="module", params=["d3dp", "mixste"])
def model(request, config):
    return model_of(config.model_copy(update={"model": config.model.model_copy(update={"name": request.param})}))


@pytest.fixture(scope="module")
def windows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    mask = torch.rand(3, WINDOW, JOINTS, generator=generator) > 0.1
    return torch.randn(3, WINDOW, JOINTS, 2, generator=generator) * 0.3 * mask.unsqueeze(-1), mask


def test_hypotheses_are_root_relative_poses(model, config, windows):
    poses = lift_windows(model, config, *windows, SEEDS, hypotheses=4, steps=2, flip=True)
    assert poses.shape == (3, 4 if model.is_denoiser else 1, WINDOW, JOINTS, 3)
    assert COCO17.root(poses).abs().max() < 1e-6
    assert torch.isfinite(poses).all()


def test_hypotheses_differ_for_a_denoiser(config, windows):
    poses = lift_windows(model_of(config), config, *windows, SEEDS, hypotheses=2, steps=1, flip=False)
    assert (poses[:, 0] - poses[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("flip", [True, False])
def test_a_windows_poses_do_not_depend_on_its_batch(model, config, windows, flip):
    together = lift_windows(model, config, *windows, SEEDS, hypotheses=2, steps=3, flip=flip)
    x, mask = (t[1:2] for t in windows)
    alone = lift_windows(model, config, x, mask, SEEDS[1:2], hypotheses=2, steps=3, flip=flip)
    assert torch.allclose(together[1:2], alone, atol=2e-6)


def test_averaging_with_the_mirrored_input_makes_lifting_symmetric(config, windows):
    """The deterministic lifter: the mirrored keypoints give the mirrored pose."""
    lifter = model_of(config.model_copy(update={"model": config.model.model_copy(update={"name": "mixste"})}))
    x, mask = windows
    poses = lift_windows(lifter, config, x, mask, SEEDS, 1, 1, flip=True)
    of_mirrored = lift_windows(
        lifter, config, mirrored(x, COCO17), mask[..., list(COCO17.mirror)], SEEDS, 1, 1, flip=True
    )
    assert torch.allclose(mirrored(poses, COCO17), of_mirrored, atol=1e-6)


def test_a_root_that_is_a_joint_is_set_to_zero_and_the_others_stay(config, windows):
    plain = config.model_copy(update={"data": config.data.model_copy(update={"joint_set": "h36m17"})})
    lifter = model_of(config.model_copy(update={"model": config.model.model_copy(update={"name": "mixste"})}))
    poses = lift_windows(lifter, plain, *windows, SEEDS, 1, 1, flip=False)[:, 0]
    with torch.inference_mode():
        raw = lifter(*windows)
    assert (poses[..., 0, :] == 0).all()
    assert torch.equal(poses[..., 1:, :], raw[..., 1:, :])


def test_every_frame_of_a_track_is_scored_once(model, config):
    tracks = list_tracks(config.data, "train")
    lifted = list(lift_tracks(model, config, tracks, hypotheses=2, steps=1))
    assert [track for track, *_ in lifted] == tracks
    for track, sample, poses, times_scored in lifted:
        assert poses.shape == (2 if model.is_denoiser else 1, FRAMES, JOINTS, 3)
        assert np.array_equal(sample["target_3d"], read_track(track, config.data)["target_3d"])
        lifted_frames = np.isfinite(poses).all(axis=(0, 2, 3))
        assert np.array_equal(times_scored, lifted_frames.astype(int))
        assert lifted_frames[sample["target_mask"].any(axis=-1)].all()


def test_windows_without_the_person_are_left_out(config, tmp_path):
    """Long enough that whole windows fall into the frames in which the wearer looks away."""
    longer = small_config(small_data(tmp_path, frames=150), tmp_path / "run")
    track = next(t for t in list_tracks(longer.data, "train") if t.camera == "aria01/rgb")
    [(_, sample, poses, times_scored)] = lift_tracks(model_of(longer), longer, [track], hypotheses=1, steps=1)
    left_out = times_scored == 0
    assert left_out.sum() >= WINDOW and not sample["input_mask"][left_out].any()
    assert np.isnan(poses[:, left_out]).all() and np.isfinite(poses[:, ~left_out]).all()
    away = Oddities(150).turned_away
    assert set(np.flatnonzero(left_out)) <= set(range(away.start, away.stop))


def test_a_person_without_detections_is_still_lifted(config):
    unseen = config.model_copy(update={"data": config.data.model_copy(update={"min_score": 1.0})})
    track = list_tracks(unseen.data, "train")[0]
    [(_, sample, poses, times_scored)] = lift_tracks(model_of(unseen), unseen, [track])
    assert not sample["input_mask"].any()
    assert (times_scored[sample["target_mask"].any(axis=-1)] == 1).all()
    assert np.isfinite(poses[:, times_scored == 1]).all()


def test_tracks_do_not_depend_on_how_windows_are_batched(model, config):
    track = list_tracks(config.data, "val")[:1]
    one, all_at_once = (next(lift_tracks(model, config, track, batch_size=size))[2] for size in (1, 64))
    assert np.allclose(one, all_at_once, atol=2e-6, equal_nan=True)


def test_the_papers_windows_score_the_overlap_and_padding_again(config):
    track = list_tracks(config.data, "train")[:1]
    legacy = next(lift_tracks(model_of(config), config, track, hypotheses=1, steps=1, legacy_overlap=True))
    assert legacy[3].sum() > FRAMES and legacy[3].max() == 2  # 33 frames in windows of 9: three are scored twice


def test_a_track_without_anything_to_lift_gives_no_poses(config):
    nothing = config.data.model_copy(update={"min_score": 1.0, "min_joints_in_view": 18})
    unseen = config.model_copy(update={"data": nothing})
    track = list_tracks(unseen.data, "train")[:1]
    [(_, _, poses, times_scored)] = lift_tracks(model_of(unseen), unseen, track)
    assert np.isnan(poses).all() and times_scored.sum() == 0
