"""What a training is started as: alone in its run directory, in fp16, in processes that know of each other."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from test_training import fresh_accelerate  # noqa: F401
from training_runs import assert_same_state, half_precision, run, small_config, small_data

from finepose_mp import files, runs
from finepose_mp.training import loop
from finepose_mp.training.loop import Trainer, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data(tmp_path_factory.mktemp("data"))


def test_two_trainings_do_not_share_a_directory(data, tmp_path):
    config = small_config(data, tmp_path / "run", training={"max_steps": 1})
    with (
        runs.held(config.run_dir),
        pytest.raises(BlockingIOError, match=r"training into .*run; wait .* choose another"),
    ):
        train(config)
    assert not config.run_dir.exists()
    run(config)
    with runs.held(config.run_dir), pytest.raises(BlockingIOError, match="another process is training into"):
        train(config, resume=True)
    run(config, resume=True)
    assert not list(config.run_dir.glob(".*")), "the lock leaves nothing behind"


def test_a_training_holds_its_directory_to_the_end(data, tmp_path, monkeypatch):
    refused, step = [], Trainer._step

    def try_again(trainer, batches):
        with pytest.raises(BlockingIOError), runs.held(trainer._config.run_dir):
            pass
        refused.append(step(trainer, batches))

    monkeypatch.setattr(Trainer, "_step", try_again)
    run(small_config(data, tmp_path / "run", training={"epochs": 1}))
    assert len(refused) == 3


def test_a_directory_made_in_vain_is_removed_again(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.h5"):
        train(small_config(tmp_path / "absent.h5", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_killed_process_lets_go_though_its_children_live_on(tmp_path):
    """As workers that read windows do for some seconds."""
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from finepose_mp import files\n"
        "with files.held(Path(sys.argv[1]), 'taken'):\n"
        "    child = os.fork()\n"
        "    if child: print(child, flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(BlockingIOError, match="taken"), files.held(tmp_path, "taken"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        os.kill(child, 0)
        with files.held(tmp_path, "taken"):
            assert not list(tmp_path.iterdir())
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_locks_is_used_unprotected(tmp_path, monkeypatch, number):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with files.held(tmp_path / "run", "taken"), files.held(tmp_path / "run", "taken"):
        pass


def test_processes_that_do_not_know_of_each_other_are_told_so(data, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ValueError, match=r"2 processes were started, but Accelerate trains each of them alone.*torchrun"
    ):
        train(small_config(data, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_other_ways_of_sharing_weights_are_refused(data, tmp_path):
    PartialState().distributed_type = DistributedType.MEGATRON_LM
    with pytest.raises(ValueError, match=r"by MEGATRON_LM in this form; take configs/accelerate/fsdp.yaml"):
        train(small_config(data, tmp_path / "run"))


def test_fp16_is_refused_where_it_would_be_ignored(data, tmp_path):
    with pytest.raises(ValueError, match="fp16 is for GPUs; on a CPU choose bf16"):
        train(small_config(data, tmp_path / "run", training={"mixed_precision": "fp16"}))
    assert not (tmp_path / "run").exists()


HALF = {"mixed_precision": "fp16", "epochs": 3, "micro_batch": 3}


@pytest.fixture
def half(monkeypatch):
    """Training in fp16 whose first steps overflow, as on a GPU; gives what each step did."""
    seen, step = [], Trainer._step

    def watched(trainer, batches):
        def weights():
            networks = trainer._model, trainer._averaged
            return [p.detach().clone() for network in networks for p in network.parameters()]

        scaler, before = trainer._accelerator.scaler, weights()
        scale, updates = scaler.get_scale(), trainer._averaged.get_extra_state()
        step(trainer, batches)
        unchanged = [torch.equal(a, b) for a, b in zip(before, weights(), strict=True)]
        assert all(unchanged) == (updates == trainer._averaged.get_extra_state())
        seen.append((all(unchanged), scaler.get_scale() / scale))

    monkeypatch.setattr(loop, "make_accelerator", lambda config: half_precision(config, scale=2.0**19))
    monkeypatch.setattr(Trainer, "_step", watched)
    return seen


def test_a_step_that_overflows_changes_nothing_but_the_scale(data, tmp_path, half):
    config = run(small_config(data, tmp_path / "run", training=HALF))
    skipped = [is_unchanged for is_unchanged, _ in half]
    assert skipped[0] and not all(skipped)
    assert all(ratio == 0.5 if is_unchanged else ratio in (1, 2) for is_unchanged, ratio in half)
    assert len(half) == 9 and not (config.run_dir / "failed_step.json").exists()


def test_a_run_in_half_precision_continues_to_the_same_bits(data, tmp_path, half):
    whole = run(small_config(data, tmp_path / "whole", training=HALF))
    run(small_config(data, tmp_path / "part", training={**HALF, "max_steps": 5}))
    rest = run(small_config(data, tmp_path / "part", training=HALF), resume=True)
    assert_same_state(whole, rest)
    assert half[:9] == half[9:]
