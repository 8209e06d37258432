"""Training: what a run leaves behind, exact continuation, and what stops it."""

import json
import os
import resource
import runpy
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import two_processes
from accelerate.state import AcceleratorState
from conftest import REPOSITORY
from training_runs import assert_same_state, run, small_config, small_data, state_of

from finepose_mp import runs
from finepose_mp.config import Config, dump_config
from finepose_mp.datasets.index import list_tracks
from finepose_mp.datasets.windows import WindowDataset
from finepose_mp.training import loop
from finepose_mp.training.averaging import MovingAverage
from finepose_mp.training.loop import TrainingError, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate keeps its settings for the life of a process; every run here has its own."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def assert_same_weights(one: Config, other: Config, atol: float) -> None:
    """Up to rounding. Keys' biases are left out: no output depends on them, so Adam follows their rounding errors."""
    first, second = ({k: v for k, v in state_of(c).items() if not k.startswith("optimizer")} for c in (one, other))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        difference = (tensor - second[name]).abs()
        if name.endswith(("qkv.bias", "in_proj_bias")):
            difference = torch.cat([difference.chunk(3)[0], difference.chunk(3)[2]])
        assert difference.max() < atol, name


def metrics_of(config: Config) -> list[dict]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in runs.read_metrics(config.run_dir)]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run of three epochs of three steps."""
    return run(small_config(data, tmp_path_factory.mktemp("runs") / "whole", training={"epochs": 3}))


def test_a_run_leaves_models_numbers_and_their_origin(whole):
    records = runs.read_metrics(whole.run_dir)
    assert [(r["epoch"], r["step"]) for r in records] == [(1, 3), (2, 6), (3, 9)]
    assert [r["learning_rate"] for r in records] == pytest.approx([1e-3, 1e-3 * 0.993, 1e-3 * 0.993**2])
    assert all(np.isfinite([r["loss_mm"], r["validation_mpjpe_mm"]]).all() for r in records)
    noted = json.loads((whole.run_dir / "versions.json").read_text())
    assert noted["torch"] and noted["accelerate"] and noted["python"] and "git_revision" in noted
    for which in ("best", "last"):
        model, config = runs.load_run(whole.run_dir, which)
        assert config == whole and not model.training
    assert not list(whole.run_dir.glob(".*")), "nothing half-written stays behind"


def test_validation_scores_the_averaged_model_that_is_saved(whole):
    model, config = runs.load_run(whole.run_dir, "last")
    mpjpe_mm = loop.validation_mpjpe_mm(model, config, loop.list_tracks(config.data, "val"))
    assert mpjpe_mm == pytest.approx(runs.read_metrics(whole.run_dir)[-1]["validation_mpjpe_mm"], rel=1e-6)


def test_the_mean_pose_is_that_of_the_training_targets(whole):
    config = whole.model_copy(update={"data": whole.data.model_copy(update={"flip": False})})
    windows = WindowDataset(config.data, "train", training=True)
    targets = np.stack([window["target_3d"].numpy() for window in windows]).astype(float)
    masks = np.stack([window["target_mask"].numpy() for window in windows])
    mean = (targets * masks[..., None]).sum((0, 1)) / masks.sum((0, 1))[:, None]  # every frame is in one window
    assert np.allclose(runs.read_mean_pose(whole.run_dir), mean, atol=1e-6)
    hips = runs.read_mean_pose(whole.run_dir)[[11, 12]]
    assert np.allclose(hips.mean(0), 0, atol=1e-6)


@pytest.mark.parametrize("stop", [3, 5], ids=["between epochs", "in the middle of one"])
def test_an_interrupted_run_continues_to_the_same_bits(whole, data, tmp_path, stop):
    part = small_config(data, tmp_path / "run", training={"epochs": 3, "max_steps": stop})
    run(part)
    rest = run(small_config(data, tmp_path / "run", training={"epochs": 3}), resume=True)
    assert_same_state(whole, rest)
    assert metrics_of(rest)[-1] == metrics_of(whole)[-1]
    assert json.loads((rest.run_dir / "versions.json").read_text())["continued"][0]["step"] == stop


def test_a_killed_run_continues_from_its_last_checkpoint(whole, data, tmp_path, monkeypatch):
    config = small_config(data, tmp_path / "run", training={"epochs": 3})

    def killed(trainer, is_best):
        half = trainer._config.run_dir / ".last.partial"
        half.mkdir()
        (half / "model.safetensors").write_bytes(b"half of it")
        raise KeyboardInterrupt

    save = loop.Trainer._save
    monkeypatch.setattr(loop.Trainer, "_save", lambda t, b: killed(t, b) if t._progress.epoch == 2 else save(t, b))
    with pytest.raises(KeyboardInterrupt):  # after epoch 2 was written to the metrics, in its checkpoint
        run(config)
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.undo()
    assert len(metrics_of(config)) == 2
    assert_same_state(whole, run(config, resume=True))
    assert metrics_of(config) == metrics_of(whole)


def killed_after_step(config: Config, step: int) -> int:
    """Trains in a process of its own that kills itself, as `kill -9` would, once that many steps are done."""
    code = (
        "import os, signal\n"
        "from finepose_mp.config import load_config\n"
        "from finepose_mp.training import loop\n"
        "take = loop.Trainer._step\n"
        "def step(trainer, batches):\n"
        f"    if trainer._progress.step == {step}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    take(trainer, batches)\n"
        "loop.Trainer._step = step\n"
        f"loop.train(load_config({str(config.run_dir.parent / 'config.yaml')!r}))\n"
    )
    dump_config(config, config.run_dir.parent / "config.yaml")
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=120).returncode


def test_twenty_steps_equal_eight_a_kill_and_twelve(data, tmp_path):
    """Killed in the middle of the third epoch of three steps, two steps after the newest checkpoint."""
    training = {"epochs": 7, "max_steps": 20, "checkpoint_every": 4, "keep_checkpoints": 3}
    (tmp_path / "b").mkdir()
    at_once = run(small_config(data, tmp_path / "a", training=training))
    interrupted = small_config(data, tmp_path / "b" / "run", training=training)
    assert killed_after_step(interrupted, 8) == -signal.SIGKILL
    run(interrupted, resume=True)
    assert json.loads((interrupted.run_dir / "versions.json").read_text())["continued"][0]["step"] == 8
    assert_same_state(at_once, interrupted)
    assert metrics_of(interrupted) == metrics_of(at_once)
    assert sorted(path.name for path in interrupted.run_dir.glob("step_*")) == ["step_00000016", "step_00000018"]


def test_a_finished_run_resumes_to_nothing(whole):
    before = metrics_of(whole)
    run(whole, resume=True)
    assert metrics_of(whole) == before


def test_accumulated_batches_equal_one_large_batch(data, tmp_path):
    common = {"epochs": 1, "grad_clip": 0.5}
    model = {"drop_path": 0.0}
    large = small_config(data, tmp_path / "large", model=model, training={**common, "batch_size": 8})
    parts = {**common, "batch_size": 4, "gradient_accumulation": 2}
    small = small_config(data, tmp_path / "small", model=model, training=parts)
    assert_same_weights(run(large), run(small), atol=1e-5)


def test_every_epoch_draws_other_noise(data, tmp_path, monkeypatch):
    seen = []
    call = loop.Objective.__call__
    monkeypatch.setattr(loop.Objective, "__call__", lambda o, m, b: seen.append(b["seed"].tolist()) or call(o, m, b))
    run(small_config(data, tmp_path / "run", training={"epochs": 2}))
    first, second = set().union(*seen[:3]), set().union(*seen[3:])
    assert len(first) == len(second) == 24 and not first & second


def test_workers_change_nothing(data, tmp_path):
    alone = small_config(data, tmp_path / "alone", training={"epochs": 2})
    helped = small_config(data, tmp_path / "helped", training={"epochs": 2}, data={"num_workers": 1})
    assert_same_state(run(alone), run(helped))


def test_without_averaging_the_saved_model_is_the_trained_one(data, tmp_path):
    state = state_of(run(small_config(data, tmp_path / "run", training={"epochs": 1, "ema_decay": 0})))
    raw = {name: tensor for name, tensor in state.items() if name.startswith("raw ")}
    assert raw and all(torch.equal(tensor, state[f"averaged {name[4:]}"]) for name, tensor in raw.items())


def test_the_average_forgets_the_start_and_then_decays_as_configured():
    network = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(network.weight)
    average = MovingAverage(network, 0.9)
    average.update(network)
    torch.nn.init.ones_(network.weight)
    for _ in range(2):
        average.update(network)
    assert average.module.weight.item() == pytest.approx(1 - 2 / 11 * 3 / 12)
    for _ in range(1000):
        average.update(network)
    torch.nn.init.zeros_(network.weight)
    average.update(network)
    assert average.module.weight.item() == pytest.approx(0.9)


def test_the_deterministic_lifter_trains_in_bfloat16(data, tmp_path):
    config = small_config(
        data, tmp_path / "run", model={"name": "mixste"}, training={"epochs": 4, "mixed_precision": "bf16"}
    )
    losses = [record["loss_mm"] for record in metrics_of(run(config))]
    assert losses[-1] < 0.8 * losses[0]
    model, _ = runs.load_run(config.run_dir)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_half_precision_ends_with_the_training_step(data, tmp_path):
    config = run(small_config(data, tmp_path / "run", training={"max_steps": 2, "mixed_precision": "bf16"}))
    assert not torch.is_autocast_enabled("cpu")
    model, config = runs.load_run(config.run_dir, "last")
    mpjpe_mm = loop.validation_mpjpe_mm(model, config, loop.list_tracks(config.data, "val"))
    assert mpjpe_mm == pytest.approx(runs.read_metrics(config.run_dir)[-1]["validation_mpjpe_mm"], rel=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_windows(data, tmp_path):
    config = small_config(data, tmp_path / "run", training={"learning_rate": 1e30, "grad_clip": None})
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) in epoch 1, step \d, from training windows \d+, \d+"):
        run(config)
    assert not (config.run_dir / "last").exists() and not (config.run_dir / "best").exists()
    failed = json.loads((config.run_dir / "failed_step.json").read_text())
    assert failed["epoch"] == 1 and len(failed["windows"]) == 8
    windows = WindowDataset(config.data, "train", training=True, seed=config.seed)
    for window in failed["windows"]:
        sample = windows[window["window"]]
        track = windows.tracks[windows.track_number(window["window"])]
        assert (window["sequence"], window["camera"], window["person"]) == (track.sequence, track.camera, track.person)
        assert (window["seed"], window["mirrored"]) == (sample["seed"], sample["mirrored"])
        assert sample["frame"].tolist()[0] <= window["first_frame"] <= window["last_frame"] <= sample["frame"][-1]
    assert not all(window["is_finite"] for window in failed["windows"])


def test_a_loss_that_fails_later_keeps_the_checkpoint_before(data, tmp_path, monkeypatch):
    config = small_config(data, tmp_path / "run", training={"epochs": 3, "checkpoint_every": 1})
    call, calls = loop.Objective.__call__, []
    monkeypatch.setattr(
        loop.Objective, "__call__", lambda o, m, b: call(o, m, b) * (1 if calls.append(1) or len(calls) < 5 else np.nan)
    )
    with pytest.raises(TrainingError, match="loss is nan in epoch 2, step 5"):
        run(config)
    assert all(torch.isfinite(tensor).all() for tensor in state_of(config).values())
    progress = torch.load(config.run_dir / "last" / "state" / "custom_checkpoint_1.pkl", weights_only=False)
    assert progress["step"] == 4


def test_a_full_disk_keeps_the_checkpoint_before_and_says_so(whole, data, tmp_path, monkeypatch):
    """A limit on the size of files stands in for the full disk: the kernel refuses to write on."""
    config = small_config(data, tmp_path / "run", training={"epochs": 3})
    save, limits = loop.Trainer._save, resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_on_a_small_disk(trainer, is_best):
        if trainer._progress.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            save(trainer, is_best=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(loop.Trainer, "_save", save_on_a_small_disk)
    with pytest.raises(OSError, match=r"checkpoint last of .* could not be written .* is still in .*last"):
        run(config)
    monkeypatch.undo()
    assert sorted(path.name for path in config.run_dir.glob("*last*")) == ["last"]
    assert_same_state(whole, run(config, resume=True))


def test_an_existing_run_is_not_overwritten(whole):
    with pytest.raises(FileExistsError, match="continue it with --resume"):
        train(whole)


def test_there_must_be_something_to_resume(data, tmp_path, whole):
    with pytest.raises(FileNotFoundError, match="no such directory; train first"):
        train(small_config(data, tmp_path / "nowhere"), resume=True)
    begun = small_config(data, tmp_path / "begun")
    runs.create_run(begun)
    with pytest.raises(FileNotFoundError, match=r"last is missing \(found config.yaml, versions.json\)"):
        train(begun, resume=True)


def test_a_run_does_not_continue_as_another(whole, data):
    other = small_config(data, whole.run_dir, data={"window": 11}, training={"epochs": 9, "batch_size": 4})
    with pytest.raises(
        runs.RunError, match=r"data.window: begun with 9, asked for 11; training.batch_size: begun with"
    ):
        train(other, resume=True)


def test_a_run_does_not_continue_on_other_data(whole, data, tmp_path):
    part = run(small_config(data, tmp_path / "run", training={"max_steps": 1}))
    (tmp_path / "other").mkdir()
    more = small_data(tmp_path / "other", frames=60)
    with pytest.raises(runs.RunError, match=r"trained on 24 windows, data.files now have 42"):
        train(small_config(more, part.run_dir), resume=True)


def test_a_run_notes_its_takes_and_does_not_continue_on_others(data, tmp_path):
    part = run(small_config(data, tmp_path / "run", training={"max_steps": 1}))
    takes = {split: sorted({track.take for track in list_tracks(part.data, split)}) for split in ("train", "val")}
    assert runs.read_takes(part.run_dir) == takes and all(takes.values())
    about = runs.read_training_data(part.run_dir)
    runs.write_training_data(part.run_dir, about | {"takes": {"train": takes["val"], "val": takes["train"]}})
    with pytest.raises(runs.RunError, match=r"takes .* that train or validate are not those that this run began with"):
        train(part, resume=True)


def test_unknown_trackers_are_refused_before_anything_is_written(data, tmp_path):
    with pytest.raises(ValueError, match=r"training.trackers: abacus not installed"):
        train(small_config(data, tmp_path / "run", training={"trackers": ["abacus"]}))
    assert not (tmp_path / "run").exists()


def call_script(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    runpy.run_path(str(REPOSITORY / "train.py"), run_name="__main__")


def test_the_command_trains_with_overrides(data, tmp_path, monkeypatch):
    dump_config(small_config(data, tmp_path / "run"), tmp_path / "config.yaml")
    monkeypatch.chdir(tmp_path)
    overrides = ("training.epochs=1", f"run_dir={tmp_path / 'other'}")
    call_script(monkeypatch, "--config", tmp_path / "config.yaml", "--set", *overrides)
    assert runs.load_run(tmp_path / "other")[1].training.epochs == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=1", "unknown key training.epoch; known here: epochs"),
        ("data.files=[absent.h5]", "absent.h5: no such file"),
        ("run_dir=.", "exists; continue it with --resume"),
    ],
)
def test_the_command_says_what_is_wrong(data, tmp_path, monkeypatch, override, message):
    dump_config(small_config(data, tmp_path / "run"), tmp_path / "config.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        call_script(monkeypatch, "--config", "config.yaml", "--set", override)
    assert not (tmp_path / "run").exists()


def test_two_processes_train_the_same_model_as_one(data, tmp_path):
    """In a fresh interpreter: forking one that has run threads of PyTorch may hang."""
    script = [sys.executable, str(REPOSITORY / "tests" / "two_processes.py"), str(data), str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    two = small_config(data, tmp_path / "two", **two_processes.SECTIONS)
    one = run(small_config(data, tmp_path / "one", **two_processes.SECTIONS))
    assert_same_weights(one, two, atol=1e-5)
    ours, theirs = metrics_of(one), [r for r in metrics_of(two) if r["step"] in (3, 6)]
    assert ours == [pytest.approx(record, rel=1e-4) for record in theirs]
    assert not (tmp_path / "broken" / "last").exists()
