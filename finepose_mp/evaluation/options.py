"""What a caller may choose about an evaluation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What to evaluate and how; None takes what the run's own configuration says."""

    split: str = "test"
    which: str = "best"  # checkpoint
    hypotheses: int | None = None
    sampling_steps: int | None = None
    flip: bool | None = None
    camera_kinds: tuple[str, ...] | None = None
    include_interpolated: bool | None = None
    prompt_condition: str | None = None  # one of config.CONDITIONS, for a model that reads prompts
    legacy_overlap: bool = False  # frames shared by the last two windows, and padding, count again (the papers' code)
    # The papers' P-MPJPE and N-MPJPE: every hypothesis is aligned to the truth, then J-Agg and the oracles choose. By
    # default these are the errors of the pose that was composed.
    align_then_choose: bool = False
    bootstrap_samples: int = 2000
