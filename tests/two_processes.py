"""Two processes that train together on the CPU: python two_processes.py DATA RUN_DIR. Called by test_training.py."""

import sys
from contextlib import nullcontext
from pathlib import Path

from accelerate import PartialState, debug_launcher
from training_runs import small_config

from finepose_mp import runs
from finepose_mp.training.loop import TrainingError, train

# Seven windows a batch: one process has four of them, the other three.
SECTIONS = {"model": {"drop_path": 0.0}, "training": {"epochs": 2, "batch_size": 7}}


def train_interrupted(data: Path, run_dir: Path) -> None:
    """Trains to the middle of the second epoch, then continues to its end."""
    part = {**SECTIONS, "training": {**SECTIONS["training"], "max_steps": 5}}
    train(small_config(data, run_dir, **part))
    train(small_config(data, run_dir, **SECTIONS), resume=True)


def train_to_failure(data: Path, run_dir: Path) -> None:
    """Trains with a step size that no model survives: every process must stop, none may wait for another."""
    broken = {"training": {**SECTIONS["training"], "learning_rate": 1e30, "grad_clip": None}}
    try:
        train(small_config(data, run_dir, **broken))
    except TrainingError:
        return
    raise AssertionError("training went on with weights that are not finite")


def start_again(data: Path, run_dir: Path) -> None:
    """Continues a run that somebody else is training: every process must hear of it, none may wait for another."""
    with runs.held(run_dir) if PartialState().is_main_process else nullcontext():
        try:
            train(small_config(data, run_dir, **SECTIONS), resume=True)
        except BlockingIOError:
            return
    raise AssertionError("two trainings share a directory")


def both(data: Path, run_dir: Path) -> None:
    train_interrupted(data, run_dir)
    start_again(data, run_dir)
    train_to_failure(data, run_dir.with_name("broken"))


if __name__ == "__main__":
    debug_launcher(both, (Path(sys.argv[1]), Path(sys.argv[2])), num_processes=2)
