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
    frame_rate: float | None = None  # Hz that the file is read at, whatever the run was trained at
    include_interpolated: bool | None = None
    prompt_condition: str | None = None  # one of config.CONDITIONS, for a model that reads prompts
    legacy_overlap: bool = False  # frames shared by the last two windows, and padding, count again (the papers' code)
    # The papers' P-MPJPE and N-MPJPE: every hypothesis is aligned to the truth, then J-Agg and the oracles choose. With
    # False these are the errors of the pose that was composed; None leaves it to the protocol.
    align_then_choose: bool | None = None
    keep_unreadable: bool = False  # Human3.6M: score S11's Directions, whose video most of the literature cannot read
    drop_shifted: bool = False  # Human3.6M: leave out S9's three takes whose poses lie off the images
    bootstrap_samples: int = 2000
