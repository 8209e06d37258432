"""How far a run has come, and the names of configuration keys that may differ when it continues."""

import math
from dataclasses import asdict, dataclass

from finepose_mp.config import Config
from finepose_mp.runs import RunError

# A run that continues must be the run that was begun; these say only how long, where, and how it is watched.
_MAY_DIFFER = (
    *("run_dir", "data.files", "data.num_workers", "data.cache_mb", "evaluation"),
    *("training.epochs", "training.max_steps", "training.validate_every", "training.trackers"),
    *("training.checkpoint_every", "training.keep_checkpoints"),
)


@dataclass
class Progress:
    """Position of a run and its running numbers; saved with every checkpoint."""

    windows: int  # in the training set
    epoch: int = 0  # in progress, from 0
    batch: int = 0  # batches of the epoch that are done
    step: int = 0  # optimiser steps that are done
    distance_m: float = 0.0  # summed over the epoch so far
    joints: int = 0  # that the distance was summed over
    best_mpjpe_mm: float = math.inf

    def state_dict(self) -> dict:
        """The position as plain numbers."""
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        """Takes over a saved position. Raises RunError when the training data is no longer the same."""
        if state["windows"] != self.windows:
            raise RunError(
                f"the run was trained on {state['windows']} windows, data.files now have {self.windows}; "
                "continue with the files it was begun with, or start a new run_dir"
            )
        self.__dict__.update(state)

    def end_epoch(self) -> None:
        """Moves on to the next epoch."""
        self.epoch, self.batch, self.distance_m, self.joints = self.epoch + 1, 0, 0.0, 0


def check_continues(begun: Config, asked: Config) -> None:
    """Nothing when a run begun with one configuration can continue with the other. Raises RunError naming each key."""
    old, new = _flat(begun.model_dump(mode="json")), _flat(asked.model_dump(mode="json"))
    differing = [
        f"{key}: begun with {old.get(key)}, asked for {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not any(key == free or key.startswith(f"{free}.") for free in _MAY_DIFFER)
    ]
    if differing:
        raise RunError(
            f"{asked.run_dir} cannot continue with another configuration ({'; '.join(differing)}); "
            "use the one it was begun with, or start a new run_dir"
        )


def flat_config(config: Config) -> dict[str, int | float | str | bool]:
    """The configuration as one level of "section.key" -> scalar, lists and None as text: what trackers take."""
    values = _flat(config.model_dump(mode="json"))
    return {key: v if isinstance(v, (int, float, str, bool)) else str(v) for key, v in values.items()}


def _flat(values: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
