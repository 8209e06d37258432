"""Trains a model: accelerate launch train.py [--config FILE.yaml] [--set key=value ...] [--resume]."""

import argparse
import logging
from pathlib import Path

from finepose_mp.config import load_config
from finepose_mp.models.products import keep_freed_memory
from finepose_mp.training.loop import TrainingError, train

CONFIG = Path(__file__).parent / "configs" / "egohumans.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a model; everything about the run is in its configuration.")
    parser.add_argument("--config", type=Path, default=CONFIG, help="YAML file (default: configs/egohumans.yaml)")
    parser.add_argument(
        *("--set", "-s"),
        dest="overrides",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="configuration values to replace, such as training.epochs=5",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in run_dir from its last checkpoint")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # it would list the files of every checkpoint
    keep_freed_memory()
    try:
        train(load_config(arguments.config, arguments.overrides), resume=arguments.resume, progress_bar=True)
    except (ValueError, OSError, TrainingError) as error:
        raise SystemExit(f"train.py: {error}") from error


if __name__ == "__main__":
    main()
