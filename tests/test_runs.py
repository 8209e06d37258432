"""Run directories: what is read back, and what is said about those that cannot be used."""

import json
import os
import resource

import numpy as np
import pytest
import torch
from training_runs import small_config

from finepose_mp import runs
from finepose_mp.config import Config, dump_config
from finepose_mp.models import build_model


@pytest.fixture
def saved(tmp_path) -> Config:
    """A run directory with a checkpoint "best", as training leaves it."""
    config = small_config(tmp_path / "data.h5", tmp_path / "run")
    runs.create_run(config)
    torch.manual_seed(4)
    save(config)
    return config


def save(config: Config) -> torch.nn.Module:
    model = build_model(config.model, 17, config.data.window, config.data.missing)
    with runs.checkpoint(config.run_dir, "best") as folder:
        runs.save_weights(folder, model, config)
    return model


def test_a_model_is_read_back_as_it_was_saved(saved):
    model = save(saved)
    found, config = runs.load_run(saved.run_dir)
    assert config == saved
    assert all(torch.equal(p, model.state_dict()[name]) for name, p in found.state_dict().items())


def test_weights_of_another_window_are_refused(saved):
    other = small_config(saved.data.files[0], saved.run_dir, data={"window": 27, "coordinates": "screen"})
    dump_config(other, saved.run_dir / "config.yaml")
    message = "trained for something else .*window: weights 9, configuration 27; coordinates: weights rays"
    with pytest.raises(runs.RunError, match=message):
        runs.load_run(saved.run_dir)


def test_weights_of_another_joint_set_are_refused(saved):
    other = small_config(saved.data.files[0], saved.run_dir, data={"joint_set": "h36m17"})
    dump_config(other, saved.run_dir / "config.yaml")
    with pytest.raises(runs.RunError, match="joint_set: weights coco17, configuration h36m17"):
        runs.load_run(saved.run_dir)


def test_weights_of_another_size_are_refused(saved):
    other = small_config(saved.data.files[0], saved.run_dir, model={"width": 32})
    dump_config(other, saved.run_dir / "config.yaml")
    with pytest.raises(runs.RunError, match="does not fit model d3dp"):
        runs.load_run(saved.run_dir)


def test_truncated_weights_are_named(saved):
    path = saved.run_dir / "best" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(runs.RunError, match=r"model.safetensors: not a readable weights file .* train again"):
        runs.load_run(saved.run_dir)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("config.yaml", r"config.yaml is missing \(found best, versions.json\)"),
        ("best/model.safetensors", r"best: model.safetensors is missing \(found nothing\)"),
    ],
)
def test_incomplete_runs_are_named_with_what_is_there(saved, lost, message):
    (saved.run_dir / lost).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        runs.load_run(saved.run_dir)


def test_absent_runs_and_checkpoints_are_named(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such directory; train first"):
        runs.load_run(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="last is missing"):
        runs.load_run(saved.run_dir, "last")
    with pytest.raises(runs.RunError, match="unknown checkpoint 'newest'; a run has best and last"):
        runs.load_run(saved.run_dir, "newest")


def test_a_checkpoint_that_fails_leaves_the_one_before(saved):
    before = runs.load_run(saved.run_dir)[0].state_dict()
    with pytest.raises(OSError, match="disk full"), runs.checkpoint(saved.run_dir, "best") as folder:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("disk full")
    after = runs.load_run(saved.run_dir)[0].state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_weights_that_pytorch_cannot_write_are_named_as_such(saved):
    """A limit on the size of files stands in for the full disk: PyTorch then raises a RuntimeError about positions."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match=r"checkpoint best .* could not be written .*; the one before it is still in"):
            with runs.checkpoint(saved.run_dir, "best") as folder:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
                torch.save({"weight": torch.zeros(10_000)}, folder / "optimizer.bin")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(p.name for p in saved.run_dir.iterdir()) == ["best", "config.yaml", "versions.json"]


def test_errors_that_are_not_of_writing_stay_what_they_are(saved):
    with pytest.raises(RuntimeError, match="must match"), runs.checkpoint(saved.run_dir, "best"):
        torch.zeros(2) + torch.zeros(3)
    assert sorted(p.name for p in saved.run_dir.iterdir()) == ["best", "config.yaml", "versions.json"]


def test_a_process_killed_between_two_renames_loses_nothing(saved):
    os.replace(saved.run_dir / "best", saved.run_dir / ".best.previous")
    runs.load_run(saved.run_dir)
    save(saved)
    assert sorted(p.name for p in saved.run_dir.iterdir()) == ["best", "config.yaml", "versions.json"]


def test_the_mean_pose_is_read_back_with_unknown_joints(saved):
    pose = np.arange(51.0).reshape(17, 3)
    pose[4] = np.nan
    runs.write_mean_pose(saved.run_dir, pose, "coco17")
    assert np.array_equal(runs.read_mean_pose(saved.run_dir), pose, equal_nan=True)
    content = json.loads((saved.run_dir / "training_mean_pose.json").read_text())
    assert content["units"] == "m" and content["joints"]["right_ear"] is None


def test_a_directory_with_anything_in_it_is_not_new(tmp_path):
    runs.check_is_new(tmp_path / "absent")
    runs.check_is_new(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another run_dir"):
        runs.check_is_new(tmp_path)
