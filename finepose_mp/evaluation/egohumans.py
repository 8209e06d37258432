"""The protocol for EgoHumans and any other file of the contract: numbers per scene and their mean.

A model is scored on root-relative poses in the frame of each camera, one person-camera track at a time. Only joints
that the dataset observed count, each once. Within a scene every scored joint weighs the same; the mean of scenes is
unweighted, as in FinePOSE's table. Choosing among hypotheses never looks at the truth, except in rows called oracle.
People whom several cameras see at once are also scored once for all of them together, in a table of its own.

The headline is P-Agg. J-Agg with a solved root is deployable too, but on simulated validation takes it was not reliably
better than the mean (mostly within 1 %, on either side) and its poses jump from frame to frame; soft J-Agg was a little
better throughout. Until recorded data says more, the plain mean, which needs no camera, stands first.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from finepose_mp import schema
from finepose_mp.aggregation import p_agg
from finepose_mp.config import Config, DataConfig
from finepose_mp.datasets.reader import TrackReader
from finepose_mp.evaluation import multi_view, summary
from finepose_mp.evaluation.breakdown import by_time_unseen, frames_unseen
from finepose_mp.evaluation.examples import Example, find_example, most_crowded_by_scene
from finepose_mp.evaluation.moments import Moment, worst_moment, worst_of_takes
from finepose_mp.evaluation.options import Options
from finepose_mp.evaluation.preparation import Evaluation, Lifted, lifted_track, place, prepare
from finepose_mp.evaluation.scoring import (
    AGGREGATIONS,
    METRICS,
    MILLIMETRES,
    Aggregation,
    LiftedTrack,
    TrackScore,
    headline,
    score_track,
)
from finepose_mp.skeletons import JointSet, joint_set

PROTOCOL = "egohumans"
_AS_THE_RUN_SAYS = Options()


def evaluate(run_dir: Path, data_file: Path, options: Options = _AS_THE_RUN_SAYS) -> Evaluation | None:
    """The evaluation of a trained model on one file; None on every process but the main one.

    Under `accelerate launch` or torchrun the cameras of all takes are divided among the processes; every process must
    call this. The numbers do not depend on how many there are.

    Args:
        run_dir: of a training run. Its configuration says how tracks are read and which split scheme applies.
        data_file: of the contract.
        options: see `Options`.

    Raises:
        EvaluationError: a prediction is not finite, or there is nothing to score; and whatever `prepare` raises.
    """
    prepared = prepare(run_dir, data_file, options)
    config, options = prepared.config, prepared.options
    mine_scored = score_tracks(
        prepared.lift(),
        config.data,
        prepared.rows,
        prepared.training_mean_pose,
        bool(options.align_then_choose),
        prepared.comparison.joints,
    )
    scores, of_people, examples, moments = (prepared.gather(part) for part in mine_scored)
    if not prepared.is_main_process:
        return None
    scored = summary.Scored(sorted(scores, key=place), prepared.rows)
    people = summary.Scored(sorted(of_people, key=place), list(multi_view.MULTI_VIEW_AGGREGATIONS))
    worst = worst_of_takes(moments)
    results = _results(scored, people, worst, config, options, prepared.choices())
    return Evaluation(results, most_crowded_by_scene(examples), worst)


def score_tracks(
    lifted: Iterable[Lifted],
    data: DataConfig,
    rows: list[str],
    training_mean_pose: np.ndarray | None,
    align_then_choose: bool = False,
    comparable: np.ndarray | None = None,
) -> tuple[list[TrackScore], list[TrackScore], list[Example], list[Moment]]:
    """Scores of all tracks and of all people over their cameras, and for pictures of each camera in each take its
    fullest moment and of each take its worst.

    Args:
        lifted: tracks with data and predictions, as `lift_tracks` yields them; those of one take follow each other, and
            so do those of one person in it.
        data: how the tracks were read.
        rows: names out of `scoring.AGGREGATIONS`.
        training_mean_pose: (J, 3) root-relative metres; None where the rows have no baseline.
        align_then_choose: see `Options`.
        comparable: (J,) bool, joints to score; None: all.
    """
    joints = joint_set(data.joint_set)
    rules = data.min_joints_in_view, data.include_interpolated, align_then_choose
    scores, of_people, examples, moments = [], [], [], []
    with TrackReader(data) as reader:
        for _, of_take in groupby(lifted, key=lambda item: item[0].take):
            for_examples = []
            for _, of_person in groupby(of_take, key=lambda item: item[0].person):
                views = [lifted_track(*item, data, reader, comparable) for item in of_person]
                for each in views:
                    score = score_track(each, rows, joints, training_mean_pose, *rules)
                    scores.append(_with_time_unseen(score, each, reader, joints, training_mean_pose))
                    moments.append(worst_moment(each, joints))
                of_people.append(multi_view.score_person(views, joints, data.min_joints_in_view))
                for_examples += [_without_hypotheses(each) for each in views]
            by_camera = sorted(for_examples, key=place)
            for _, people in groupby(by_camera, key=lambda each: each.track.camera):
                examples.append(find_example(list(people), joints))
    worst = worst_of_takes(moments)
    return scores, of_people, [example for example in examples if example is not None], list(worst.values())


def _with_time_unseen(
    score: TrackScore, lifted: LiftedTrack, reader: TrackReader, joints: JointSet, training_mean_pose: np.ndarray | None
) -> TrackScore:
    """The score with its errors by time out of view: there, frames count in which the person is not in view too."""
    data, scene = reader.data, reader.read_scene(lifted.track)
    usable = scene["joint_status"] == schema.OBSERVED
    if data.include_interpolated:
        usable |= scene["joint_status"] == schema.INTERPOLATED
    usable &= usable[:, list(joints.root_joints)].all(axis=-1, keepdims=True) & (lifted.times_scored > 0)[:, None]
    if lifted.comparable is not None:
        usable &= lifted.comparable
    truth = joints.root_relative(scene["joints_3d_world"].astype(np.float64))
    truth = np.where(usable[..., None], truth @ scene["world_to_camera"][..., :3].swapaxes(-1, -2), np.nan)
    predicted = joints.root_relative(p_agg(lifted.hypotheses))
    errors = (
        None if pose is None else MILLIMETRES * np.linalg.norm(pose - truth, axis=-1)
        for pose in (predicted, training_mean_pose)
    )
    seen = lifted.input_mask.sum(axis=-1) >= data.min_joints_in_view
    unseen = by_time_unseen(*errors, frames_unseen(seen, lifted.frame))
    return replace(score, breakdown=replace(score.breakdown, unseen=unseen))


def _results(
    scored: summary.Scored,
    people: summary.Scored,
    worst: dict[str, Moment],
    config: Config,
    options: Options,
    choices: dict,
) -> dict:
    summary.check_scored(scored)
    table = summary.tables(scored)
    kinds = {score.track.simulated for score in scored.scores}
    simulated = "some" if len(kinds) == 2 else "all" if True in kinds else "none"
    return {
        "protocol": PROTOCOL,
        "simulated": simulated,
        "headline": headline(scored.rows),
        "metrics": {name: {"title": metric.title, "unit": metric.unit} for name, metric in METRICS.items()},
        "aggregations": _titles(AGGREGATIONS, scored.rows),
        "scenes": table,
        "reduction_percent": summary.reduction_percent(table),
        "intervals": summary.intervals(scored, options.bootstrap_samples, config.seed),
        "per_joint_mpjpe": summary.per_joint(scored, joint_set(config.data.joint_set)),
        "per_camera_kind": summary.per_camera_kind(scored),
        "per_take": {
            take: about | ({"worst moment": worst[take].summary()} if take in worst else {})
            for take, about in summary.per_take(scored).items()
        },
        "breakdowns": summary.breakdowns(scored),
        "root_error": summary.root_errors(scored),
        "multi_view": _multi_view_results(people, config, options),
        "counts": summary.counts(scored),
        "choices": {"simulated takes": simulated, **choices},
    }


def _multi_view_results(people: summary.Scored, config: Config, options: Options) -> dict | None:
    """The table over people seen by several cameras at once; None where nobody is."""
    if not any(score.tally["joints scored"] for score in people.scores):
        return None
    return {
        "aggregations": _titles(multi_view.MULTI_VIEW_AGGREGATIONS, people.rows),
        "scenes": summary.tables(people),
        "intervals": summary.intervals(people, options.bootstrap_samples, config.seed),
        "root_error": summary.root_errors(people),
        "counts": summary.multi_view_counts(people),
    }


def _titles(aggregations: dict[str, Aggregation], rows: list[str]) -> dict[str, dict[str, str]]:
    return {row: {"title": aggregations[row].title, "kind": aggregations[row].kind} for row in rows}


def _without_hypotheses(lifted: LiftedTrack) -> LiftedTrack:
    """The same with the mean of the hypotheses in their place: a whole take of them need not be kept for a picture."""
    return replace(lifted, hypotheses=p_agg(lifted.hypotheses)[None].astype(np.float32))
