"""What of a file can be compared with a model: joints that both know by name, at a frame rate that the model knows."""

from dataclasses import dataclass, field

import numpy as np

from finepose_mp.config import DataConfig
from finepose_mp.datasets.index import Track
from finepose_mp.datasets.joints import conversion
from finepose_mp.datasets.timing import is_same_rate
from finepose_mp.evaluation.scoring import EvaluationError
from finepose_mp.skeletons import joint_set


@dataclass(frozen=True)
class Comparison:
    """Which joints are scored, and how frames were timed in training and are here.

    Attributes:
        joints: (J,) bool, joints of the model that are scored.
        file_joint_set: name of the file's own joint set.
        left_out: joint -> why it is not scored.
        evaluated_hz: rates of the tracks as they are read.
        recorded_hz: rates of the tracks as they were recorded.
        trained_hz: rates of the training windows; None where the run does not say.
    """

    joints: np.ndarray
    file_joint_set: str
    evaluated_hz: list[float]
    recorded_hz: list[float]
    trained_hz: list[float] | None
    left_out: dict[str, str] = field(default_factory=dict)

    def choices(self) -> dict[str, object]:
        """The part of the results' choices that says this."""
        count, total = int(self.joints.sum()), len(self.joints)
        compared = f"{count} of {total}, which file and model share by name" if self.left_out else f"all {total}"
        return {
            "joint set of the file": self.file_joint_set,
            "joints compared": compared,
            "joints left out": self.left_out or "none",
            "frame rate (Hz)": _rates(self.evaluated_hz),
            "frame rate of the recording (Hz)": _rates(self.recorded_hz),
            "frame rate trained at (Hz)": _rates(self.trained_hz) if self.trained_hz else "not noted in the run",
        }


def compare(
    tracks: list[Track],
    data: DataConfig,
    training_mean_pose: np.ndarray | None,
    training_data: dict | None,
    asked_rate: float | None = None,
) -> Comparison:
    """What can be compared when a model is scored on some tracks of one file.

    A joint counts when the file has it under its own name (one that is made of others, as a pelvis of the hips, does
    not) and the model was trained on it.

    Args:
        tracks: of one file.
        data: how they are read.
        training_mean_pose: (J, 3), NaN for joints that training never had; None where nobody knows which it had.
        training_data: of `runs.read_training_data`.
        asked_rate: the rate that was asked for explicitly.

    Raises:
        EvaluationError: no joint is left, or the model knows another frame rate; the message says both and ways out.
    """
    file_set = tracks[0].joint_set or data.joint_set
    shared = conversion(file_set, data.joint_set).shared
    trained = np.ones_like(shared) if training_mean_pose is None else np.isfinite(training_mean_pose).all(axis=-1)
    left_out = {}
    for joint, is_shared, is_trained in zip(joint_set(data.joint_set).joints, shared, trained, strict=True):
        if not is_shared:
            left_out[joint] = f"{file_set} has no joint of this name"
        elif not is_trained:
            left_out[joint] = "no training target had it"
    if len(left_out) == len(shared):
        raise EvaluationError(
            f"{tracks[0].file}: no joint can be compared; its joints are {file_set}, the model's {data.joint_set} "
            f"({'; '.join(f'{joint}: {why}' for joint, why in left_out.items())})"
        )
    trained_hz = None if training_data is None else training_data["frame_rates_hz"]
    comparison = Comparison(
        joints=shared & trained,
        file_joint_set=file_set,
        evaluated_hz=sorted({round(track.fps, 3) for track in tracks}),
        recorded_hz=sorted({round(track.fps * track.step, 3) for track in tracks}),
        trained_hz=trained_hz,
        left_out=left_out,
    )
    if asked_rate is None and trained_hz is not None:
        _check_rate(tracks[0], comparison)
    return comparison


def _check_rate(track: Track, comparison: Comparison) -> None:
    trained = comparison.trained_hz
    strange = [hz for hz in comparison.evaluated_hz if not any(is_same_rate(hz, known) for known in trained)]
    if not strange:
        return
    lower = [known for known in trained if known < strange[0]]
    way_out = (
        f"pass --frame-rate {max(lower):g} to read it as the model knows it"
        if lower
        else f"train with data.frame_rate {strange[0]:g}, or pass --frame-rate {strange[0]:g} to score it as it is"
    )
    raise EvaluationError(
        f"{track.file} is at {_rates(strange)} Hz, the model was trained at {_rates(trained)} Hz: to it, people would "
        f"move too {'slowly' if strange[0] > max(trained) else 'fast'}; {way_out}"
    )


def _rates(rates: list[float]) -> str:
    return ", ".join(f"{hz:g}" for hz in rates)
