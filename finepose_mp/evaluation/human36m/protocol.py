"""The protocols of Human3.6M: MPJPE, P-MPJPE and N-MPJPE (protocols 1 to 3) and MPJVE, as the literature counts them.

Train S1, S5, S6, S7, S8, test S9 and S11, each of four cameras by itself. Poses are root-relative in the frame of the
camera; all 17 joints count, the root among them with its error of 0 (the predicted root is moved to the origin, as in
D3DP, FinePOSE and P-STMO). Within an action every frame weighs the same; the headline is the unweighted mean of the 15
actions. The mean of all frames stands beside it: it is what training curves of that lineage show, and not the same.

Each frame counts once, which gives 543 344 poses. The papers' code scores the frames that the last two windows of a
clip share twice, once with each window's prediction: 574 452 rows with windows of 243 frames. `legacy_overlap` repeats
that. `align_then_choose` is on unless asked otherwise: protocol 2 of J-Agg and the oracles aligns every hypothesis
before the choice, as published.

Known defects come from the file's findings. S11's Directions, whose video from one camera most could not read, is left
out as in the lineage of VideoPose3D; S9's three takes whose poses lie off the images are scored unless asked otherwise.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from finepose_mp import schema
from finepose_mp.datasets.index import Track
from finepose_mp.evaluation import summary
from finepose_mp.evaluation.options import Options
from finepose_mp.evaluation.preparation import Evaluation, Prepared, place, prepare
from finepose_mp.evaluation.scoring import (
    AGGREGATIONS,
    METRICS,
    EvaluationError,
    LiftedTrack,
    TrackScore,
    headline,
    score_track,
)

PROTOCOL = "human36m"
MEAN_OF_ACTIONS, ALL_FRAMES = "mean of actions", "all frames"
SCORED_METRICS = ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve", "acceleration_error")
_AS_THE_RUN_SAYS = Options()


@dataclass(frozen=True)
class Action:
    """A column of the literature's tables: its heading, and poses of four cameras in the test set without S11's
    unreadable clip (from the data set's metadata; they add up to the 543 344 that the field reports)."""

    heading: str
    poses: int


# In the literature's order, by title of the scene in the file.
ACTIONS: dict[str, Action] = {
    "Directions": Action("Dir.", 26428),
    "Discussion": Action("Disc.", 64244),
    "Eating": Action("Eat", 39308),
    "Greeting": Action("Greet", 30644),
    "Phoning": Action("Phone", 56088),
    "Photo": Action("Photo", 29320),
    "Posing": Action("Pose", 27280),
    "Purchases": Action("Purch.", 19284),
    "Sitting": Action("Sit", 40276),
    "Sitting Down": Action("SitD.", 33324),
    "Smoking": Action("Smoke", 55552),
    "Waiting": Action("Wait", 37864),
    "Walking Dog": Action("WalkD.", 28304),
    "Walking": Action("Walk", 29264),
    "Walking Together": Action("WalkT.", 26164),
}
UNREADABLE, SHIFTED = "defect.unreadable_video", "defect.shifted_3d"  # checks of the converter's findings


def evaluate(run_dir: Path, data_file: Path, options: Options = _AS_THE_RUN_SAYS) -> Evaluation | None:
    """The evaluation of a trained model on Human3.6M; None on every process but the main one.

    Args:
        run_dir: of a training run, of any joint set; joints are matched by name and only shared ones are scored.
        data_file: of the contract, with the 15 actions as scenes.
        options: see `Options`.

    Raises:
        EvaluationError: scenes that are no actions of Human3.6M, or nothing to score; and whatever `prepare` raises.
    """
    options = replace(options, align_then_choose=options.align_then_choose is not False)
    defects = known_defects(Path(data_file), options)
    left_out = {defect["sequence"] for defect in defects if defect["left out"]}
    prepared = prepare(
        run_dir,
        data_file,
        options,
        keep=lambda track: track.sequence not in left_out,
        camera_kinds=["exo"],
        split_scheme="official",
    )
    _check_actions(prepared.tracks)
    scores = prepared.gather(_score_mine(prepared))
    if not prepared.is_main_process:
        return None
    scored = summary.Scored(sorted(scores, key=place), prepared.rows)
    evaluated = {track.sequence for track in prepared.tracks} | left_out
    defects = [defect for defect in defects if defect["sequence"] in evaluated]
    return Evaluation(_results(scored, prepared, defects), {})


def known_defects(data_file: Path, options: Options) -> list[dict]:
    """What the converter marked as known to be wrong: {"sequence", "defect", "message", "left out"} of each take."""
    leave_out = {UNREADABLE: not options.keep_unreadable, SHIFTED: options.drop_shifted}
    defects = []
    with schema.open_file(data_file) as file:
        for name in schema.sequence_names(file):
            for finding in json.loads(file[name].attrs.get("findings", "[]")):
                check = finding.get("check")
                if check in leave_out:
                    about = {"sequence": name, "defect": check, "message": str(finding.get("message", ""))}
                    defects.append(about | {"left out": leave_out[check]})
    return defects


def tables(scored: summary.Scored) -> dict[str, summary.Table]:
    """{action: {metric: {aggregation: value}}} in the literature's order, the mean of actions and the mean of frames.

    The mean of actions is unweighted; within an action, and in the mean of frames, every scored joint of every frame
    weighs the same, so that takes, subjects and cameras weigh by their frames.
    """
    found = summary.tables(scored)
    ordered = {action: found[action] for action in ACTIONS if action in found}
    ordered[MEAN_OF_ACTIONS] = found[summary.MEAN_OF_SCENES]
    return ordered | {ALL_FRAMES: summary.pooled(scored)}


def _score_mine(prepared: Prepared) -> list[TrackScore]:
    """Scores of this process's share of the tracks."""
    once = [_score(lifted, prepared) for lifted in prepared.lifted(legacy_overlap=False)]
    if not prepared.options.legacy_overlap:
        return once
    # The same windows again (their noise is a function of their place), now with the later one's predictions where two
    # overlap: these rows come on top of every frame's first. (P-Best of a window chooses for them by themselves.)
    again = [
        _score(replace(lifted, times_scored=np.maximum(lifted.times_scored - 1, 0)), prepared)
        for lifted in prepared.lifted(legacy_overlap=True)
    ]
    return [_with_overlap(first, second) for first, second in zip(once, again, strict=True)]


def _score(lifted: LiftedTrack, prepared: Prepared) -> TrackScore:
    data = prepared.config.data
    rules = data.min_joints_in_view, data.include_interpolated, prepared.options.align_then_choose
    return score_track(lifted, prepared.rows, prepared.joints, prepared.training_mean_pose, *rules)


def _with_overlap(first: TrackScore, again: TrackScore) -> TrackScore:
    tally = first.tally.copy()
    name = "frames counted again by the papers' overlap"
    tally[name] = again.tally["frames scored"] + again.tally[name]
    return replace(first, sums=first.sums + again.sums, counts=first.counts + again.counts, tally=tally)


def _check_actions(tracks: list[Track]) -> None:
    unknown = sorted({track.scene for track in tracks} - set(ACTIONS))
    if unknown:
        raise EvaluationError(
            f"{tracks[0].file}: scene {', '.join(unknown[:3])} is no action of Human3.6M ({', '.join(ACTIONS)}); use "
            "--protocol egohumans, which reports the scenes that a file has"
        )


def _results(scored: summary.Scored, prepared: Prepared, defects: list[dict]) -> dict:
    summary.check_scored(scored)
    rows, simulated = prepared.rows, {score.track.simulated for score in scored.scores}
    counts = _counts(scored)
    return {
        "protocol": PROTOCOL,
        "simulated": "some" if len(simulated) == 2 else "all" if True in simulated else "none",
        "headline": headline(rows),
        "metrics": {name: {"title": METRICS[name].title, "unit": METRICS[name].unit} for name in SCORED_METRICS},
        "aggregations": {row: {"title": AGGREGATIONS[row].title, "kind": AGGREGATIONS[row].kind} for row in rows},
        "scenes": {
            name: {metric: of_metric for metric, of_metric in table.items() if metric in SCORED_METRICS}
            for name, table in tables(scored).items()
        },
        "interval": _interval(scored, prepared),
        "per_joint_mpjpe": summary.per_joint(scored, prepared.joints)[summary.MEAN_OF_SCENES],
        "breakdowns": summary.breakdowns(scored),
        "counts": counts,
        "completeness": _completeness(counts, defects, prepared),
        "known defects": defects,
        "choices": _choices(prepared),
    }


def _interval(scored: summary.Scored, prepared: Prepared) -> dict:
    """95 % bootstrap intervals over takes of the mean of actions, {metric: {aggregation: [low, high] or None}}."""
    found = summary.intervals(scored, prepared.options.bootstrap_samples, prepared.config.seed)
    of_mean = found["metrics"][summary.MEAN_OF_SCENES]
    about = {name: found[name] for name in ("confidence", "samples", "seed")}
    return about | {"metrics": {metric: of_mean[metric] for metric in SCORED_METRICS}}


def _counts(scored: summary.Scored) -> dict[str, dict[str, int]]:
    found = summary.counts(scored)
    ordered = {action: found[action] for action in ACTIONS if action in found} | {ALL_FRAMES: found["all scenes"]}
    for count in ordered.values():
        count["rows"] = count["frames scored"] + count.get("frames counted again by the papers' overlap", 0)
    return ordered


def _completeness(counts: dict, defects: list[dict], prepared: Prepared) -> str:
    """A sentence on whether the numbers are of the whole test set."""
    total = counts[ALL_FRAMES]["frames scored"]
    if prepared.options.split != "test":
        return f"{total:,} poses of held-out training takes: not the test set"
    kept = [defect["sequence"] for defect in defects if defect["defect"] == UNREADABLE and not defect["left out"]]
    dropped = [defect["sequence"] for defect in defects if defect["defect"] == SHIFTED and defect["left out"]]
    if kept or dropped:
        changes = [*(f"with {name}" for name in kept), *(f"without {name}" for name in dropped)]
        return f"{total:,} poses, {', '.join(changes)}: not the set that most papers score"
    differing = [
        f"{action} {counts.get(action, {}).get('frames scored', 0):,} of {about.poses:,}"
        for action, about in ACTIONS.items()
        if counts.get(action, {}).get("frames scored", 0) != about.poses
    ]
    if differing:
        published = sum(action.poses for action in ACTIONS.values())
        return f"{total:,} of the {published:,} poses of the test set; incomplete: {', '.join(differing)}"
    return f"all {total:,} poses of the test set (S9 and S11, four cameras, without S11's Directions)"


def _choices(prepared: Prepared) -> dict[str, object]:
    options = prepared.options
    again = "frames that the last two windows share counted again, with both predictions, as in the papers' code"
    return prepared.choices() | {
        "frames": again if options.legacy_overlap else "each counted once",
        "window frames": prepared.config.data.window,
        "root joint": "counts with its error of 0, as in D3DP and FinePOSE",
        "unreadable clip of S11": "scored" if options.keep_unreadable else "left out, as in most papers",
        "shifted takes of S9": "left out" if options.drop_shifted else "scored, as in most papers",
        "mean within a scene": "over all frames of all subjects, takes and cameras of an action",
        "mean of scenes": "unweighted mean of actions; mean of all frames beside it",
    }
