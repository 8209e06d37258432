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
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env

from finepose_mp import runs, schema
from finepose_mp.aggregation import p_agg
from finepose_mp.config import CONDITIONS, Config, DataConfig
from finepose_mp.datasets.index import Track, evaluation_windows, list_tracks
from finepose_mp.datasets.splits import DataError
from finepose_mp.evaluation import multi_view, provenance, summary
from finepose_mp.evaluation.examples import Example, find_example, most_crowded_by_scene
from finepose_mp.evaluation.options import Options
from finepose_mp.evaluation.scoring import (
    AGGREGATIONS,
    METRICS,
    Aggregation,
    EvaluationError,
    LiftedTrack,
    TrackScore,
    aggregations_for,
    score_track,
)
from finepose_mp.inference.lifting import lift_tracks
from finepose_mp.inference.views import view_of
from finepose_mp.skeletons import joint_set

PROTOCOL = "egohumans"
SPLITS = ("test", "val")
_AS_THE_RUN_SAYS = Options()

Lifted = tuple[Track, dict, np.ndarray, np.ndarray]  # what lift_tracks yields


@dataclass(frozen=True)
class Evaluation:
    """The contents of results.json, and for each scene the moment with most people scored."""

    results: dict
    examples: dict[str, Example]


def evaluate(run_dir: Path, data_file: Path, options: Options = _AS_THE_RUN_SAYS) -> Evaluation | None:
    """The evaluation of a trained model on one file; None on every process but the main one.

    Under `accelerate launch` or torchrun the cameras of all takes are divided among the processes; every process must
    call this. The numbers do not depend on how many there are.

    Args:
        run_dir: of a training run. Its configuration says how tracks are read and which split scheme applies.
        data_file: of the contract, with the run's joint set.
        options: see `Options`.

    Raises:
        EvaluationError: an option does not fit the run, or a prediction is not finite.
        DataError: another joint set, no track to score, or a take that the model has seen.
        FileNotFoundError, RunError, SchemaError: the run or the file cannot be read.
    """
    run_dir, data_file = Path(run_dir), Path(data_file)
    state = _processes()
    model, config = runs.load_run(run_dir, options.which)
    _check_options(options, model)
    trained_on, config = config.data, _for_evaluation(config, data_file, options)
    tracks = list_tracks(config.data, options.split)
    leak_check = check_takes_are_new(trained_on, tracks, options.split)
    hypotheses = config.evaluation.hypotheses if model.is_denoiser else 1
    rows = aggregations_for(hypotheses)
    mean_pose = runs.read_mean_pose(run_dir)

    mine = _share(tracks, state.process_index, state.num_processes)
    lifted = lift_tracks(model.to(state.device), config, mine, legacy_overlap=options.legacy_overlap)
    mine_scored = score_tracks(lifted, config.data, rows, mean_pose, options.align_then_choose)
    scores, of_people, examples = (gather_object(part) for part in mine_scored)
    if not state.is_main_process:
        return None
    scored = summary.Scored(sorted(scores, key=_place), rows)
    people = summary.Scored(sorted(of_people, key=_place), list(multi_view.MULTI_VIEW_AGGREGATIONS))
    choices = provenance.choices(run_dir, data_file, config, options, model, leak_check)
    return Evaluation(_results(scored, people, config, options, choices), most_crowded_by_scene(examples))


def score_tracks(
    lifted: Iterable[Lifted],
    data: DataConfig,
    rows: list[str],
    training_mean_pose: np.ndarray,
    align_then_choose: bool = False,
) -> tuple[list[TrackScore], list[TrackScore], list[Example]]:
    """Scores of all tracks, of all people over their cameras, and of each camera in each take its fullest moment.

    Args:
        lifted: tracks with data and predictions, as `lift_tracks` yields them; those of one take follow each other, and
            so do those of one person in it.
        data: how the tracks were read.
        rows: names out of `scoring.AGGREGATIONS`.
        training_mean_pose: (J, 3) root-relative metres.
        align_then_choose: see `Options`.
    """
    joints = joint_set(data.joint_set)
    rules = data.min_joints_in_view, data.include_interpolated, align_then_choose
    scores, of_people, examples = [], [], []
    for _, of_take in groupby(lifted, key=lambda item: item[0].take):
        for_examples = []
        for _, of_person in groupby(of_take, key=lambda item: item[0].person):
            views = [_lifted_track(*item, data) for item in of_person]
            scores += [score_track(each, rows, joints, training_mean_pose, *rules) for each in views]
            of_people.append(multi_view.score_person(views, joints, data.min_joints_in_view))
            for_examples += [_without_hypotheses(each) for each in views]
        by_camera = sorted(for_examples, key=lambda each: _place_of(each.track))
        for _, people in groupby(by_camera, key=lambda each: each.track.camera):
            examples.append(find_example(list(people), joints))
    return scores, of_people, [example for example in examples if example is not None]


def check_takes_are_new(trained_on: DataConfig, tracks: list[Track], split: str) -> str:
    """A sentence for the results on how it is known that the model never saw the evaluated takes.

    Raises:
        DataError: a take was seen in training or, when testing, in validation; the message names it.
    """
    absent = [str(path) for path in trained_on.files if not path.is_file()]
    if absent:
        return f"not compared with the training takes: {', '.join(absent)} not found; the split is the evaluated file's"
    for seen in {"train", "val"} - {split}:  # validation takes chose the checkpoint
        common = sorted({track.take for track in tracks} & {track.take for track in list_tracks(trained_on, seen)})
        if common:
            raise DataError(
                f"{tracks[0].file}: {len(common)} takes of split {split} ({', '.join(common[:3])}, ...) were in split "
                f"{seen} when this model was trained, in {', '.join(map(str, trained_on.files))}; evaluate on that "
                "file, or on takes that are new to the model"
            )
    return "no evaluated take is among the takes that trained or, for a test, selected this model"


def _results(scored: summary.Scored, people: summary.Scored, config: Config, options: Options, choices: dict) -> dict:
    if not any(score.tally["joints scored"] for score in scored.scores):
        raise EvaluationError(
            f"nothing to score: none of {len(scored.scores)} tracks has an observed joint of a person in view "
            f"({summary.counts(scored)['all scenes']}); try other camera kinds or include_interpolated"
        )
    table = summary.tables(scored)
    kinds = {score.track.simulated for score in scored.scores}
    simulated = "some" if len(kinds) == 2 else "all" if True in kinds else "none"
    return {
        "protocol": PROTOCOL,
        "simulated": simulated,
        "headline": next(row for row in scored.rows if AGGREGATIONS[row].kind == "deployable"),
        "metrics": {name: {"title": metric.title, "unit": metric.unit} for name, metric in METRICS.items()},
        "aggregations": _titles(AGGREGATIONS, scored.rows),
        "scenes": table,
        "reduction_percent": summary.reduction_percent(table),
        "intervals": summary.intervals(scored, options.bootstrap_samples, config.seed),
        "per_joint_mpjpe": summary.per_joint(scored, joint_set(config.data.joint_set)),
        "per_camera_kind": summary.per_camera_kind(scored),
        "per_take": summary.per_take(scored),
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


def _check_options(options: Options, model: torch.nn.Module) -> None:
    if options.split not in SPLITS:
        raise EvaluationError(f"split {options.split!r}: expected one of {', '.join(SPLITS)}")
    sampling = {"hypotheses": options.hypotheses, "sampling_steps": options.sampling_steps}
    for name, value in sampling.items():
        if value is not None and value < 1:
            raise EvaluationError(f"{name}: expected at least 1, found {value}")
        if value not in (None, 1) and not model.is_denoiser:
            raise EvaluationError(f"{name} {value}: this run's model is deterministic and gives one pose; leave it out")
    condition = options.prompt_condition
    if condition is not None and condition not in CONDITIONS:
        raise EvaluationError(f"prompt_condition {condition!r}: expected one of {', '.join(CONDITIONS)}")
    if condition is not None and not model.reads_prompts:
        raise EvaluationError(f"prompt_condition {condition}: this run's model reads no prompts; leave it out")


def _for_evaluation(config: Config, data_file: Path, options: Options) -> Config:
    """The run's configuration with the options in place of what it says for evaluation and data."""
    data = {"files": [data_file], "scenes": None}  # all scenes: which of them were trained on does not matter here
    data |= {"camera_kinds": options.camera_kinds and list(options.camera_kinds)}
    data |= {"include_interpolated": options.include_interpolated}
    sampling = {name: getattr(options, name) for name in ("hypotheses", "sampling_steps", "flip")}
    values = config.model_dump()
    values["data"] |= {name: value for name, value in data.items() if value is not None or name == "scenes"}
    values["evaluation"] |= {name: value for name, value in sampling.items() if value is not None}
    values["model"]["prompt"]["condition"] = options.prompt_condition or config.model.prompt.condition
    return Config.model_validate(values)


def _processes() -> PartialState:
    # PartialState by itself neither reads accelerate's CPU switch nor notices that there is nothing but CPUs: it would
    # then let every process evaluate everything and write the same files.
    only_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=only_cpu)


def _share(tracks: list[Track], process: int, processes: int) -> list[Track]:
    """The tracks of every n-th take, person by person: one process sees all cameras of a person, and all people."""
    takes = [list(group) for _, group in groupby(tracks, key=lambda track: track.take)]
    return [track for take in takes[process::processes] for track in sorted(take, key=lambda track: track.person)]


def _place(score: TrackScore) -> tuple[str, str, str]:
    return _place_of(score.track)


def _place_of(track: Track) -> tuple[str, str, str]:
    """Sorts tracks as `list_tracks` does."""
    return track.take, track.camera, track.person


def _lifted_track(
    track: Track, sample: dict, hypotheses: np.ndarray, times_scored: np.ndarray, data: DataConfig
) -> LiftedTrack:
    windows = evaluation_windows(track.length, data.window)
    window = np.zeros(track.length, dtype=np.int64)
    for number, (frames, is_new) in enumerate(zip(windows.frames, windows.score_mask, strict=True)):
        window[frames[is_new]] = number
    with schema.open_file(track.file) as file:
        joint_status = file[track.sequence]["joint_status"][:, track.person_index]
        world_to_camera = file[track.sequence]["world_to_camera"][track.camera_index]
    of_sample = {name: sample[name] for name in ("target_3d", "target_mask", "input_mask", "in_view", "frame")}
    return LiftedTrack(
        track,
        hypotheses,
        times_scored,
        window,
        joint_status=joint_status,
        view=view_of(sample, world_to_camera, track.fps, data.coordinates),
        true_root_camera=sample["root_camera"],
        **of_sample,
    )


def _without_hypotheses(lifted: LiftedTrack) -> LiftedTrack:
    """The same with the mean of the hypotheses in their place: a whole take of them need not be kept for a picture."""
    return replace(lifted, hypotheses=p_agg(lifted.hypotheses)[None].astype(np.float32))
