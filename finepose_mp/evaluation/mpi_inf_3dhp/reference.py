"""MPI-INF-3DHP's official evaluation step by step, as its description goes: the measure of the fast one.

Loops over sequences, frames, joints and thresholds in the order of the official scripts' algorithm. It is what
`scores` is tested against and timed with; nothing else uses it.
"""

import math
import time
from collections.abc import Callable

import numpy as np

from finepose_mp.evaluation.mpi_inf_3dhp.scores import by_activity, by_sequence, joint_errors_mm

_PELVIS = 14
_JOINTS = 17
_GROUPS = ((0,), (1,), (2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13))

Table = list[list[float]]


def evaluate_with_loops(
    prediction: list, target: list, sequence: list, activity: list
) -> tuple[tuple[Table, Table, Table], tuple[Table, Table, Table]]:
    """Sequence-wise and activity-wise tables (MPJPE, PCK, AUC), each a list of rows with the average last.

    Args:
        prediction, target: N poses of 17 joints of 3 numbers in mm, the prediction relative to the pelvis.
        sequence, activity: N names and numbers.
    """
    errors = [_frame_errors(p, t) for p, t in zip(prediction, target, strict=True)]
    of_sequences = [
        [e for e, name in zip(errors, sequence, strict=True) if name == each] for each in sorted(set(sequence))
    ]
    of_activities = [[e for e, number in zip(errors, activity, strict=True) if number == each] for each in range(1, 8)]
    return _tables(of_sequences), _tables([*of_activities, errors])


def speed_ratio(frames: int = 2875, repeats: int = 5, seed: int = 0) -> dict[str, float]:
    """CPU seconds of both evaluations of as many frames as the test set has, and how many times the fast one is faster.

    Returns:
        {"frames", "loops_seconds", "vectorised_seconds", "ratio"}; each time is the best of several, interleaved.
    """
    random = np.random.default_rng(seed)
    target = random.normal(0, 500, (frames, _JOINTS, 3))
    prediction = target - target[:, _PELVIS, None] + random.normal(0, 40, target.shape)
    sequence = np.array([f"TS{1 + 6 * i // frames}" for i in range(frames)])
    activity, names = random.integers(1, 8, frames), {number: f"activity {number}" for number in range(1, 8)}
    lists = prediction.tolist(), target.tolist(), sequence.tolist(), activity.tolist()

    def fast() -> None:
        errors = joint_errors_mm(prediction, target)
        by_sequence(errors, sequence)
        by_activity(errors, activity, names)

    seconds = [(_cpu_seconds(lambda: evaluate_with_loops(*lists)), _cpu_seconds(fast)) for _ in range(repeats)]
    loops, vectorised = (min(each[i] for each in seconds) for i in range(2))
    return {"frames": frames, "loops_seconds": loops, "vectorised_seconds": vectorised, "ratio": loops / vectorised}


def _frame_errors(prediction: list, target: list) -> list[float]:
    """Error of each joint of one frame."""
    errors = []
    for joint in range(_JOINTS):
        squared = 0.0
        for axis in range(3):
            squared += (prediction[joint][axis] - (target[joint][axis] - target[_PELVIS][axis])) ** 2
        errors.append(math.sqrt(squared))
    return errors


def _tables(sets: list[list[list[float]]]) -> tuple[Table, Table, Table]:
    mpjpe, pck, auc = [], [], []
    for errors in sets:
        means = [_mean([frame[joint] for frame in errors]) for joint in range(_JOINTS)]
        mpjpe.append([*means, _mean(means)])
        pck.append(_with_total([100 * _share_below(errors, group, 150) for group in _GROUPS]))
        auc.append(
            _with_total([100 * _mean([_share_below(errors, group, t) for t in range(0, 151, 5)]) for group in _GROUPS])
        )
    return mpjpe, pck, auc


def _share_below(errors: list[list[float]], group: tuple[int, ...], threshold: float) -> float:
    """Share of a group's joints, in all frames, that are closer than the threshold."""
    hits, count = 0, 0
    for frame in errors:
        for joint in group:
            count += 1
            if frame[joint] < threshold:
                hits += 1
    return hits / count if count else math.nan


def _with_total(of_groups: list[float]) -> list[float]:
    sizes = [len(group) for group in _GROUPS]
    total = sum(size * value for size, value in zip(sizes, of_groups, strict=True))
    return [*of_groups, total / sum(sizes)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start
