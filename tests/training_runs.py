"""A training run small enough for tests: made-up takes, a narrow model."""

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from contract_file import write_contract_file
from safetensors.torch import load_file

from finepose_mp import runs
from finepose_mp.config import Config
from finepose_mp.models import build_model
from finepose_mp.training.loop import train


def small_data(folder: Path, frames: int = 33) -> Path:
    """A file of four training takes, one of which is held out: 24 training windows of 9 frames, padding in some."""
    return write_contract_file(
        folder / "data.h5", scenes=("Basketball", "Tennis"), test_scenes=(), takes_per_scene=2, frames=frames, persons=2
    )


def small_config(file: Path, run_dir: Path, **sections: dict) -> Config:
    """The configuration of a run on that file; keyword arguments update sections, as in training={"epochs": 1}."""
    values = {
        "run_dir": run_dir,
        "data": {"files": [file], "window": 9},
        "model": {"width": 16, "depth": 2, "heads": 2, "drop_path": 0.1},
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "ema_decay": 0.9},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return Config.model_validate(values)


def untrained_run(run_dir: Path, model: str = "finepose") -> Path:
    """The directory of a run whose network has its first weights: what predicting needs, without any training."""
    narrow = {"name": model, "width": 16, "depth": 1, "heads": 2, "prompt": {"text_weights": "random"}}
    evaluation = {"hypotheses": 2, "sampling_steps": 1, "flip": False}
    config = small_config(run_dir / "none.h5", run_dir, model=narrow, evaluation=evaluation)
    torch.manual_seed(0)
    network = build_model(config.model, 17, config.data.window)
    runs.create_run(config)
    runs.write_text_tower(run_dir, network)
    runs.write_mean_pose(run_dir, np.zeros((17, 3)), "coco17")
    with runs.checkpoint(run_dir, "best") as folder:
        runs.save_weights(folder, network, config)
    return run_dir


def run(config: Config, **options) -> Config:
    """Trains, and lets go of Accelerate's settings, which otherwise live as long as the process."""
    try:
        train(config, **options)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    return config


def half_precision(config: Config, scale: float) -> Accelerator:
    """Accelerate as on a GPU under fp16: gradients scaled, by `scale` first, then twice as much every three steps."""
    accelerator = Accelerator(mixed_precision="fp16", project_dir=config.run_dir)
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    return accelerator


def state_of(config: Config) -> dict[str, torch.Tensor]:
    """Everything that a run's last checkpoint holds in numbers: raw and averaged weights, optimiser, fp16's scaler."""
    last = config.run_dir / "last"
    state = last / "state"
    sharded, scaler = state / "pytorch_model_fsdp.bin", state / "scaler.pt"
    raw = torch.load(sharded) if sharded.exists() else load_file(state / "model.safetensors")
    optimizer = torch.load(state / "optimizer.bin")
    moments = {f"{i} {k}": v for i, moments in optimizer["state"].items() for k, v in moments.items()}
    return {
        **{f"averaged {k}": v for k, v in load_file(last / "model.safetensors").items()},
        **{f"raw {k}": v for k, v in raw.items()},
        **{f"optimizer {k}": torch.as_tensor(v) for k, v in moments.items()},
        **{f"scaler {k}": torch.tensor(v) for k, v in (torch.load(scaler) if scaler.exists() else {}).items()},
        "learning rate": torch.tensor(optimizer["param_groups"][0]["lr"], dtype=torch.float64),
    }


def assert_same_state(one: Config, other: Config) -> None:
    first, second = state_of(one), state_of(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
