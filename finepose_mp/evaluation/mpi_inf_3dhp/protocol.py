"""The protocol of MPI-INF-3DHP: PCK, AUC and MPJPE of its six test sequences, as the official scripts compute them.

The valid frames of every test sequence are scored, all of them alike, in millimetres relative to the pelvis, without
any alignment: in tables by sequence, by activity and by group of joints. The literature reports two averages of them,
the unweighted mean of the sequences (D3DP, FinePOSE) and all frames pooled (P-STMO); both are given. It also knows two
truths. The official script and P-STMO's family score against poses scaled to a universal skeleton (univ_annot3), D3DP
and FinePOSE against the poses as recorded (annot3). Models here learn metric poses, which is what projects onto the
2D, so the headline is metric, as theirs; the universal truth stands beside it.

Input is the dataset's own 2D annotation, as in all published numbers. The papers let the last window of a sequence
overwrite what it shares with the one before; here each frame is scored where it is seen first.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finepose_mp import schema
from finepose_mp.aggregation import p_agg
from finepose_mp.datasets.index import Track
from finepose_mp.evaluation.examples import Example, find_example, most_crowded_by_scene
from finepose_mp.evaluation.mpi_inf_3dhp.scores import (
    ALL,
    Scores,
    by_activity,
    by_sequence,
    joint_errors_mm,
    mean_of_rows,
    score_sets,
)
from finepose_mp.evaluation.options import Options
from finepose_mp.evaluation.preparation import Evaluation, Prepared, place, prepare
from finepose_mp.evaluation.scoring import (
    AGGREGATIONS,
    BASELINE,
    MILLIMETRES,
    Candidates,
    EvaluationError,
    LiftedTrack,
    headline,
)
from finepose_mp.geometry import apply_rigid
from finepose_mp.skeletons import MPI17, JointSet, convert

PROTOCOL = "mpi-inf-3dhp"
METRIC, UNIVERSAL = "metric", "universal"
MEAN_OF_SEQUENCES, ALL_FRAMES = "mean of sequences", "all frames"
METRICS = {
    "pck": {"title": "PCK@150 mm", "unit": "%"},
    "auc": {"title": "AUC 0-150 mm", "unit": "%"},
    "mpjpe": {"title": "MPJPE", "unit": "mm"},
}
_AS_THE_RUN_SAYS = Options()
_VARIABLES = {METRIC: "joints_3d_world", UNIVERSAL: "joints_3d_universal_world"}


@dataclass(frozen=True)
class Truth:
    """What one test sequence is compared with, in T frames and mpi17's joints."""

    poses_mm: dict[str, np.ndarray]  # metric, universal or both -> (T, 17, 3) camera frame, NaN where missing
    valid: np.ndarray  # (T,) bool
    activity: np.ndarray | None  # (T,)
    activity_names: dict[int, str]


@dataclass(frozen=True)
class SequenceErrors:
    """Errors of one test sequence in its valid frames N that have a true pose and a prediction, for rows A of
    predictions: what processes send each other."""

    track: Track
    errors_mm: dict[str, np.ndarray]  # truth -> (A, N, 17), NaN where a joint is not scored
    activity: np.ndarray | None  # (N,)
    activity_names: dict[int, str]
    frames: int  # that were read of the sequence
    not_lifted: int  # valid frames without a prediction
    without_truth: int  # other valid frames without a 3D pose


def evaluate(run_dir: Path, data_file: Path, options: Options = _AS_THE_RUN_SAYS) -> Evaluation | None:
    """The evaluation of a trained model on the test sequences of one file; None on every process but the main one.

    Args:
        run_dir: of a training run, of any joint set; joints are matched by name and only shared ones are scored.
        data_file: of the contract, with sequences that say which frames are valid.
        options: see `Options`; frames count once, as in the papers on this dataset, so `legacy_overlap` is refused.

    Raises:
        EvaluationError: an option that does not apply, or nothing that could be scored; and whatever `prepare` raises.
    """
    _check(Path(data_file), options)
    prepared = prepare(run_dir, data_file, options, camera_kinds=["exo"], input_2d="projected", split_scheme="official")
    mine, examples = [], []
    for lifted in prepared.lifted():
        mine.append(
            sequence_errors(
                lifted,
                read_truth(lifted.track),
                prepared.rows,
                prepared.joints,
                prepared.training_mean_pose,
                prepared.comparison.joints,
            )
        )
        examples.append(_example(lifted, prepared.joints))
    gathered, examples = prepared.gather(mine), prepared.gather(examples)
    if not prepared.is_main_process:
        return None
    results = _results(sorted(gathered, key=place), prepared)
    return Evaluation(results, most_crowded_by_scene(example for example in examples if example is not None))


def read_truth(track: Track) -> Truth:
    """The poses, valid frames and activities that a file has of a test sequence, in the frames that are read of it.

    A file converted from univ_annot3 alone has one and the same poses under both names: then there is no metric truth.
    """
    rows = track.recorded_frames(0, track.length)
    with schema.open_file(track.file) as file:
        group, native = file[track.sequence], str(file.attrs["joint_set"])
        transform = group["world_to_camera"][track.camera_index][rows][:, None]
        stored = {
            kind: group[name][:, track.person_index][rows].astype(np.float64)
            for kind, name in _VARIABLES.items()
            if name in group
        }
        valid = group["valid_frame"][...] != 0
        activity = group["activity"][...][rows] if "activity" in group else None
        names = {int(number): name for number, name in json.loads(group.attrs.get("activity_names", "{}")).items()}
    if UNIVERSAL in stored and np.array_equal(stored[METRIC], stored[UNIVERSAL], equal_nan=True):
        del stored[METRIC]
    poses = {kind: MILLIMETRES * _by_name(apply_rigid(each, transform), native) for kind, each in stored.items()}
    return Truth(poses, valid[rows], activity, names)


def sequence_errors(
    lifted: LiftedTrack,
    truth: Truth,
    rows: list[str],
    joints: JointSet,
    training_mean_pose: np.ndarray | None,
    comparable: np.ndarray | None = None,
) -> SequenceErrors:
    """Errors of every row in the valid frames of a sequence, in mpi17's joints by name.

    Args:
        lifted: the sequence with its prediction.
        truth: see `read_truth`.
        rows: names out of `scoring.AGGREGATIONS`.
        joints: joint set of the prediction, whose root truth is moved to the origin as well.
        training_mean_pose: (J, 3) root-relative metres, predicted everywhere in the baseline row; None: no such row.
        comparable: (J,) bool, False for joints that are not to be scored, as those that training never had; None: all
            that mpi17 has too are.

    Raises:
        EvaluationError: a prediction is not finite.
    """
    comparable = np.ones(len(joints), bool) if comparable is None else comparable
    kept = np.flatnonzero(truth.valid & (lifted.times_scored > 0))
    hypotheses = joints.root_relative(lifted.hypotheses.astype(np.float64))
    if not np.isfinite(hypotheses[:, kept][..., comparable, :]).all():
        raise EvaluationError(
            f"{lifted.track.key}: the model predicts positions that are not finite; the training diverged, evaluate an "
            "earlier checkpoint"
        )
    # Frames that are not scored help to solve the root of their neighbours.
    root = lifted.view.solve_root(p_agg(hypotheses))[kept]
    true_root = lifted.true_root_camera[kept].astype(np.float64)
    candidates = Candidates(
        hypotheses[:, kept], lifted.view.at(kept), lifted.window[kept], root, true_root, joints.root_joints
    )
    errors = {
        kind: _row_errors_mm(
            rows, candidates, _root_at_pelvis(poses[kept], joints), joints, comparable, training_mean_pose
        )
        for kind, poses in truth.poses_mm.items()
    }
    known = np.any([np.isfinite(each).any(axis=(0, 2)) for each in errors.values()], axis=0)
    return SequenceErrors(
        lifted.track,
        {kind: each[:, known] for kind, each in errors.items()},
        None if truth.activity is None else truth.activity[kept][known],
        truth.activity_names,
        frames=len(truth.valid),
        not_lifted=int(truth.valid.sum()) - len(kept),
        without_truth=int((~known).sum()),
    )


def tables(parts: list[SequenceErrors], kind: str, row: int) -> dict[str, Scores]:
    """{"sequence", "activity", "all"}: official tables of one row of predictions against one truth.

    Args:
        parts: sequences in order.
        kind: METRIC or UNIVERSAL.
        row: position of the row. Activities are left out where a sequence states none.
    """
    errors = np.concatenate([part.errors_mm[kind][row] for part in parts])
    lengths = [part.errors_mm[kind].shape[1] for part in parts]
    found = {
        "sequence": by_sequence(errors, np.repeat([part.track.sequence for part in parts], lengths)),
        "all": score_sets(errors, {ALL: np.ones(len(errors), bool)}),
    }
    if all(part.activity is not None for part in parts):
        names = {number: name for part in parts for number, name in sorted(part.activity_names.items())}
        found["activity"] = by_activity(errors, np.concatenate([part.activity for part in parts]), names)
    return found


def _check(data_file: Path, options: Options) -> None:
    if options.legacy_overlap:
        raise EvaluationError("legacy_overlap: the papers count every frame of MPI-INF-3DHP once; leave it out")
    if options.split != "test":
        raise EvaluationError(
            f"split {options.split}: only test sequences have valid frames; score others with --protocol egohumans"
        )
    with schema.open_file(data_file) as file:
        names = [name for name in schema.sequence_names(file) if file[name].attrs["split"] == "test"]
        lacking = [name for name in names if "valid_frame" not in file[name]]
    if lacking or not names:
        what = f"{', '.join(lacking[:3])} lacks valid_frame" if lacking else "it has no test sequence"
        raise EvaluationError(
            f"{data_file}: {what}; this protocol scores the valid frames of test sequences. Use --protocol egohumans, "
            "or convert the official test set with tools/convert.py mpi-inf-3dhp"
        )


def _by_name(poses: np.ndarray, source: str, to: str = MPI17.name) -> np.ndarray:
    """Poses in the joints of another set, NaN for those that the source lacks under that name."""
    converted, origin = convert(poses, source, to)
    converted[..., origin != "copied", :] = np.nan
    return converted


def _root_at_pelvis(poses_mm: np.ndarray, joints: JointSet) -> np.ndarray:
    """Poses whose pelvis is replaced by the root that predictions of a joint set are relative to.

    For models without a pelvis that is the middle of the hips, which in this dataset is the pelvis exactly.
    """
    root = poses_mm[..., [MPI17.index(joints.joints[j]) for j in joints.root_joints], :].mean(axis=-2)
    moved = poses_mm.copy()
    moved[..., MPI17.root_joints[0], :] = root
    return moved


def _row_errors_mm(
    rows: list[str],
    candidates: Candidates,
    target_mm: np.ndarray,
    joints: JointSet,
    comparable: np.ndarray,
    mean_pose: np.ndarray | None,
) -> np.ndarray:
    """Errors (A, N, 17) of every row against poses (N, 17, 3); oracles choose by the joints that are scored."""
    relative = (target_mm - target_mm[:, MPI17.root_joints]) / MILLIMETRES
    target = _by_name(relative, MPI17.name, to=joints.name)
    mask = np.isfinite(target).all(axis=-1) & comparable
    errors = []
    for row in rows:
        if row == BASELINE:
            pose = np.broadcast_to(mean_pose, target.shape)
        else:
            pose = candidates.compose(row, candidates.hypotheses, target, mask)
        pose = np.where(comparable[:, None], pose, np.nan)
        errors.append(joint_errors_mm(MILLIMETRES * _by_name(pose, joints.name), target_mm))
    return np.stack(errors)


def _example(lifted: LiftedTrack, joints: JointSet) -> Example | None:
    with schema.open_file(lifted.track.file) as file:
        same = str(file.attrs["joint_set"]) == joints.name  # pictures are drawn in the file's joints
    return find_example([lifted], joints) if same else None


def _results(parts: list[SequenceErrors], prepared: Prepared) -> dict:
    scored = sum(part.errors_mm[kind].shape[1] for part in parts for kind in list(part.errors_mm)[:1])
    if not scored:
        raise EvaluationError(
            f"{prepared.data_file}: none of {len(parts)} test sequences has a valid frame with a 3D pose to score"
        )
    rows = prepared.rows
    kinds = [kind for kind in (METRIC, UNIVERSAL) if all(kind in part.errors_mm for part in parts)]
    if not kinds:
        raise EvaluationError(
            f"{prepared.data_file}: some sequences have metric poses alone and others universal ones alone; convert "
            "both kinds, or evaluate them in files of their own"
        )
    of_kinds = {kind: {row: _numbers(tables(parts, kind, a)) for a, row in enumerate(rows)} for kind in kinds}
    joints = [
        name
        for j, name in enumerate(MPI17.joints)
        if any(np.isfinite(part.errors_mm[kinds[0]][..., j]).any() for part in parts)
    ]
    simulated = {part.track.simulated for part in parts}
    return {
        "protocol": PROTOCOL,
        "simulated": "some" if len(simulated) == 2 else "all" if True in simulated else "none",
        "headline": headline(rows),
        "headline_truth": kinds[0],
        "metrics": METRICS,
        "aggregations": {row: {"title": AGGREGATIONS[row].title, "kind": AGGREGATIONS[row].kind} for row in rows},
        "scenes": _scenes(of_kinds[kinds[0]]),
        "truths": of_kinds,
        "joints scored": joints,
        "counts": _counts(parts),
        "choices": _choices(prepared, kinds, joints),
    }


def _counts(parts: list[SequenceErrors]) -> dict[str, dict[str, int]]:
    """{sequence: {what: how many}}, its cameras added."""
    counts = {}
    for part in parts:
        scored = next(iter(part.errors_mm.values())).shape[1]
        of_sequence = counts.setdefault(part.track.sequence, Counter())
        of_sequence["frames"] += part.frames
        of_sequence["valid frames"] += scored + part.not_lifted + part.without_truth
        of_sequence["frames scored"] += scored
        of_sequence["valid frames not lifted"] += part.not_lifted
        of_sequence["valid frames without a 3D pose"] += part.without_truth
    return {sequence: dict(count) for sequence, count in counts.items()}


def _numbers(found: Mapping[str, Scores]) -> dict:
    """Tables of one row as plain numbers: by sequence, by activity, both averages."""
    numbers = {name: _table(scores) for name, scores in found.items()}
    numbers[MEAN_OF_SEQUENCES] = _rounded(mean_of_rows(found["sequence"]))
    numbers[ALL_FRAMES] = _rounded(found["all"].headline(0))
    return numbers


def _table(scores: Scores) -> dict[str, dict]:
    """{set of frames: {"frames", "pck", "auc", "mpjpe", and of groups and joints}}."""
    return {
        row: {
            "frames": int(scores.frames[i]),
            **_rounded(scores.headline(i)),
            "pck by group": [_plain(value) for value in scores.pck[i]],
            "auc by group": [_plain(value) for value in scores.auc[i]],
            "mpjpe by joint": [_plain(value) for value in scores.mpjpe[i]],
        }
        for i, row in enumerate(scores.rows)
    }


def _scenes(of_rows: dict[str, dict]) -> dict:
    """{sequence or average: {metric: {row: value}}}, the form that all protocols share."""
    first = next(iter(of_rows.values()))
    names = list(first["sequence"])
    place_of = {name: lambda numbers, name=name: numbers["sequence"][name] for name in names}
    place_of |= {name: lambda numbers, name=name: numbers[name] for name in (MEAN_OF_SEQUENCES, ALL_FRAMES)}
    return {
        name: {metric: {row: find(numbers)[metric] for row, numbers in of_rows.items()} for metric in METRICS}
        for name, find in place_of.items()
    }


def _choices(prepared: Prepared, kinds: list[str], joints: list[str]) -> dict[str, object]:
    choices = prepared.choices()
    choices |= {
        "window frames": prepared.config.data.window,
        "truth": f"{kinds[0]} in the headline" + (f", {kinds[1]} beside it" if len(kinds) > 1 else ", no other there"),
        "joints in MPJPE": f"{len(joints)} of 17",
        "joints in PCK and AUC": "those of them among 14: no pelvis, spine and head",
        "frames": "valid ones, each counted once",
        "averages": "unweighted mean of sequences, and all frames pooled",
        "mean within a scene": "over all valid frames",
        "mean of scenes": "unweighted",
    }
    return choices


def _rounded(numbers: dict[str, float]) -> dict[str, float | None]:
    return {name: _plain(value) for name, value in numbers.items()}


def _plain(value: float) -> float | None:
    """A number for JSON, to a nanometre; None where nothing was scored."""
    return None if np.isnan(value) else round(float(value), 6)
