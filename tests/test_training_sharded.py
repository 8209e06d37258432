"""Training with weights, gradients and optimiser shared among processes (FSDP), on two of the CPU."""

import os
import subprocess
import sys

import pytest
import sharded_processes
import torch
from accelerate.utils.launch import prepare_multi_gpu_env
from conftest import REPOSITORY
from test_accelerate_configs import launched
from test_training import assert_same_weights, fresh_accelerate, metrics_of  # noqa: F401
from training_runs import assert_same_state, run, small_data, state_of

from finepose_mp import runs
from finepose_mp.training import loop


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def sharded(data, tmp_path_factory):
    """Gives the configuration of a run that two processes shared."""
    folder = tmp_path_factory.mktemp("sharded")
    with pytest.MonkeyPatch.context() as monkeypatch:
        told = prepare_multi_gpu_env(launched(REPOSITORY / "configs" / "accelerate" / "fsdp.yaml", monkeypatch))
    environment = {**os.environ, **{k: v for k, v in told.items() if "FSDP" in k}, "OMP_NUM_THREADS": "1"}
    script = [sys.executable, str(REPOSITORY / "tests" / "sharded_processes.py"), str(data), str(folder)]
    result = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    return lambda name: sharded_processes.config_of(name.split()[0], data, folder / name)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """Gives the same run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    return lambda name: run(sharded_processes.config_of(name, data, folder / name))


@pytest.mark.parametrize("name", ["finepose", "d3dp"])
def test_shared_weights_become_those_of_one_process(sharded, alone, name):
    ours, theirs = sharded(name), alone(name)
    assert_same_weights(ours, theirs, atol=1e-5)
    assert metrics_of(ours) == [pytest.approx(record, rel=1e-5) for record in metrics_of(theirs)]


def test_under_bfloat16_coordinates_stay_in_full_precision(sharded, alone):
    """Accelerate's own policy for sharded weights rounds everything that goes in and out, up to 4 mm at a metre."""
    first, expected = (metrics_of(make("bf16"))[0]["loss_mm"] for make in (sharded, alone))
    assert first == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["finepose", "fp16"])
def test_an_interrupted_run_continues_to_the_same_bits(sharded, name):
    whole, rest = sharded(name), sharded(f"{name} interrupted")
    assert_same_state(whole, rest)
    assert metrics_of(rest)[-1] == metrics_of(whole)[-1]


def test_a_checkpoint_of_sharded_weights_is_one_like_any_other(sharded):
    config = sharded("finepose")
    model, config = runs.load_run(config.run_dir, "last")
    mpjpe_mm = loop.validation_mpjpe_mm(model, config, loop.list_tracks(config.data, "val"))
    assert mpjpe_mm == pytest.approx(runs.read_metrics(config.run_dir)[-1]["validation_mpjpe_mm"], rel=1e-6)
    state = state_of(config)
    assert not any(isinstance(tensor, torch.distributed.tensor.DTensor) for tensor in state.values())


def test_weights_that_were_shared_do_not_continue_whole(sharded):
    with pytest.raises(runs.RunError, match=r"weights were shared among processes \(configs/accelerate/fsdp.yaml\)"):
        run(sharded("d3dp"), resume=True)
