"""Two processes that share the weights of a network on the CPU: python sharded_processes.py DATA FOLDER.

Accelerate shards on GPUs alone and takes CPU processes for plain data-parallel ones; PyTorch's sharding itself works on
both. So this tells Accelerate, once it has started, what it would have found on GPUs with configs/accelerate/fsdp.yaml.
The environment is what `accelerate launch` makes of that file. Called by test_training_sharded.py.
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState, debug_launcher
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from training_runs import half_precision, small_config

from finepose_mp.config import Config
from finepose_mp.training import loop

PROMPT = {"text_weights": "random", "text_width": 16, "text_depth": 1, "text_heads": 2}
# Seven windows a batch, two batches a step, in parts: processes have unequal shares, parts unequal sizes.
TRAINING = {"batch_size": 7, "gradient_accumulation": 2, "micro_batch": 2, "grad_clip": 0.5}
RUNS = {
    "finepose": {"model": {"name": "finepose", "prompt": PROMPT, "drop_path": 0.0}},
    "d3dp": {"model": {"drop_path": 0.0}, "training": {"activation_checkpointing": True}},
    "bf16": {
        "model": {"name": "finepose", "prompt": PROMPT, "drop_path": 0.0},
        "training": {"mixed_precision": "bf16", "epochs": 1},
    },
    "fp16": {"training": {"mixed_precision": "fp16"}},
}


_make_accelerator = loop.make_accelerator


def config_of(name: str, data: Path, run_dir: Path, **training) -> Config:
    """The configuration of one of RUNS: two steps an epoch."""
    sections = RUNS[name]
    return small_config(data, run_dir, **{**sections, "training": TRAINING | sections.get("training", {}) | training})


def sharding(config: Config) -> Accelerator:
    """Accelerate as it would be on GPUs that share weights."""
    precision = config.training.mixed_precision
    accelerator = half_precision(config, scale=2.0**18) if precision == "fp16" else _make_accelerator(config)
    PartialState().distributed_type = accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
    if precision != "no":
        accelerator.state.fsdp_plugin.set_mixed_precision(precision)
    return accelerator


def train(config: Config, resume: bool = False) -> None:
    """Trains, and lets go of what Accelerate was told."""
    try:
        loop.train(config, resume)
    finally:
        AcceleratorState._reset_state()
        PartialState().distributed_type = DistributedType.MULTI_CPU


def train_unevenly(data: Path, run_dir: Path) -> None:
    """A batch of three in parts of one: one process would wait for the other for ever."""
    try:
        train(config_of("d3dp", data, run_dir, batch_size=3, micro_batch=1))
    except ValueError as error:
        assert "divides by the number of processes" in str(error)
        return
    raise AssertionError("shares of weights need every process in every pass")


def train_all(data: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    loop.make_accelerator = sharding
    train_unevenly(data, folder / "uneven")
    for name in RUNS:
        train(config_of(name, data, folder / name))
    for name in ("finepose", "fp16"):
        train(config_of(name, data, folder / f"{name} interrupted", max_steps=3))
        train(config_of(name, data, folder / f"{name} interrupted"), resume=True)


if __name__ == "__main__":
    debug_launcher(train_all, (Path(sys.argv[1]), Path(sys.argv[2])), num_processes=2)
