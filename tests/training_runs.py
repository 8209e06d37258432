"""A training run small enough for tests: made-up takes, a narrow model."""

from pathlib import Path

from contract_file import write_contract_file

from finepose_mp.config import Config


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
