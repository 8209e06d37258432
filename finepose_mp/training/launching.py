"""What Accelerate started, and whether a run can be trained that way: processes, precision, sharing of weights."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import SCALER_NAME, DistributedType, broadcast_object_list
from accelerate.utils.constants import FSDP_MODEL_NAME

from finepose_mp import runs
from finepose_mp.config import Config

_SHARING = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)  # of weights


def make_accelerator(config: Config) -> Accelerator:
    """Accelerate as the launcher and the environment say.

    Raises:
        ValueError: it is not what the run needs.
    """
    missing = set(config.training.trackers) - {str(name) for name in get_available_trackers()}
    if missing:
        raise ValueError(
            f"training.trackers: {', '.join(sorted(missing))} not installed or not known to Accelerate; available: "
            f"{', '.join(map(str, get_available_trackers())) or 'none'} (metrics.jsonl is always written)"
        )
    accelerator = Accelerator(
        mixed_precision=config.training.mixed_precision,
        log_with=config.training.trackers or None,
        project_dir=config.run_dir,
    )
    _check_processes(accelerator)
    if config.training.mixed_precision == "fp16" and accelerator.device.type == "cpu":  # Accelerate would ignore it
        raise ValueError("training.mixed_precision=fp16 is for GPUs; on a CPU choose bf16 or no")
    return accelerator


def _check_processes(accelerator: Accelerator) -> None:
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > accelerator.num_processes == 1:
        raise ValueError(
            f"WORLD_SIZE says that {started} processes were started, but Accelerate trains each of them alone. On GPUs "
            "check that PyTorch sees them (torch.cuda.is_available()); several processes on CPUs are started with "
            "`ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -- train.py`; for a single one unset WORLD_SIZE"
        )
    if accelerator.distributed_type in _SHARING and not accelerator.is_fsdp2:
        raise ValueError(
            f"weights cannot be shared among processes by {accelerator.distributed_type.value} in this form; take "
            "configs/accelerate/fsdp.yaml (fsdp_version: 2), or a file beside it for whole weights in every process"
        )


@contextmanager
def held(run_dir: Path, accelerator: Accelerator) -> Iterator[None]:
    """Keeps the run directory from other trainings, see `runs.held`; where that fails, it fails in every process."""
    with ExitStack() as stack:
        refused = None
        if accelerator.is_main_process:
            try:
                stack.enter_context(runs.held(run_dir))
            except OSError as error:
                refused = error
        refused = broadcast_object_list([refused])[0]
        if refused is not None:
            raise refused
        yield


def load_state(accelerator: Accelerator, folder: Path) -> None:
    """Takes over what Accelerate saved in a folder.

    Raises:
        runs.RunError: weights were sharded then and are not now, or the other way round.
    """
    was_sharded = any(folder.glob(f"{FSDP_MODEL_NAME}*"))
    if was_sharded != accelerator.is_fsdp2:
        how = "shared among processes (configs/accelerate/fsdp.yaml)" if was_sharded else "whole in every process"
        raise runs.RunError(f"{folder}: saved by a training whose weights were {how}; continue it that way")
    accelerator.load_state(folder)
    if accelerator.is_fsdp2 and accelerator.scaler is not None:
        # Accelerate makes room for the optimiser's sharded state by a step, which the scaler counted.
        accelerator.scaler.load_state_dict(torch.load(folder / SCALER_NAME))
