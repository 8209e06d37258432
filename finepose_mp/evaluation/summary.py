"""From the sums of all tracks to numbers per scene, their mean over scenes, and intervals over takes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from finepose_mp.evaluation import breakdown
from finepose_mp.evaluation.scoring import BASELINE, METRICS, EvaluationError, TrackScore
from finepose_mp.skeletons import JointSet

MEAN_OF_SCENES = "mean of scenes"
CONFIDENCE = 0.95

_METRIC_INDEX = {name: m for m, name in enumerate(METRICS)}
_MPJPE = _METRIC_INDEX["mpjpe"]

Table = dict[str, dict[str, float | None]]  # metric -> aggregation -> value


@dataclass(frozen=True)
class Scored:
    """Scores of all tracks in track order, and the rows that each of them has."""

    scores: list[TrackScore]
    rows: list[str]

    @property
    def scenes(self) -> list[str]:
        """Scenes in the order of their takes' names: EgoHumans numbers them."""
        return list(dict.fromkeys(s.track.scene for s in sorted(self.scores, key=lambda s: s.track.take)))

    def where(self, keep: Callable[[TrackScore], bool]) -> "Scored":
        """The scores for which `keep` holds."""
        return Scored([score for score in self.scores if keep(score)], self.rows)

    def of_scene(self, scene: str) -> "Scored":
        """The scores of one scene."""
        return self.where(lambda score: score.track.scene == scene)

    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Error sums (M, A, J) and counts (M, A, J) over all tracks, added in track order."""
        return sum(s.sums for s in self.scores), sum(s.counts for s in self.scores)


def check_scored(scored: Scored) -> None:
    """Nothing where a joint was scored. Raises EvaluationError that says what stood in the way otherwise."""
    if any(score.tally["joints scored"] for score in scored.scores):
        return
    file, tally = scored.scores[0].track.file, _summed_tally(scored.scores)
    reasons = {
        name.removeprefix("frames left out: "): count
        for name, count in tally.items()
        if name.startswith("frames left out") and count
    }
    if set(reasons) == {"no 3D position"}:
        raise EvaluationError(f"{file} has no 3D ground truth to compare with, in {len(scored.scores)} tracks")
    raise EvaluationError(
        f"{file}: none of {len(scored.scores)} person-camera tracks has a joint to score; frames left out: "
        f"{', '.join(f'{why} {count:,}' for why, count in reasons.items())}; try other --camera-kinds or "
        "--include-interpolated"
    )


def tables(scored: Scored) -> dict[str, Table]:
    """{scene: {metric: {aggregation: value}}}, every scored joint of a scene weighing the same, and the mean of scenes.

    The mean of scenes is unweighted. A metric that a scene has no joints for is None there and in the mean, which would
    otherwise be a mean of fewer scenes than it says.
    """
    means = {scene: _scene_means(scored.of_scene(scene)) for scene in scored.scenes}
    with_mean = {**means, MEAN_OF_SCENES: np.mean(list(means.values()), axis=0)}
    return {scene: _table(values, scored.rows) for scene, values in with_mean.items()}


def pooled(scored: Scored) -> Table:
    """{metric: {aggregation: value}} over everything scored, whichever scene it is of."""
    return _table(_scene_means(scored), scored.rows)


def per_joint(scored: Scored, joints: JointSet) -> dict[str, dict[str, dict[str, float | None]]]:
    """{scene: {aggregation: {joint: MPJPE in mm}}}, and the unweighted mean of scenes."""
    means = {}
    for scene in scored.scenes:
        sums, counts = scored.of_scene(scene).totals()
        means[scene] = _divide(sums[_MPJPE], counts[_MPJPE])
    means[MEAN_OF_SCENES] = np.mean(list(means.values()), axis=0)
    return {
        scene: {row: dict(zip(joints.joints, _rounded(values[a]), strict=True)) for a, row in enumerate(scored.rows)}
        for scene, values in means.items()
    }


def per_camera_kind(scored: Scored) -> dict[str, dict[str, Table]]:
    """{camera kind: {scene: {metric: {aggregation: value}}}}; each mean of scenes is over those the kind occurs in."""
    kinds = sorted({score.track.camera_kind for score in scored.scores})
    return {kind: tables(scored.where(lambda s, kind=kind: s.track.camera_kind == kind)) for kind in kinds}


def per_take(scored: Scored) -> dict[str, dict]:
    """{take: {scene, joints scored, mpjpe: {aggregation: mm}}}: what the intervals resample."""
    result = {}
    for take, scores in _by_take(scored).items():
        result[take] = {
            "scene": scores.scores[0].track.scene,
            "joints scored": int(scores.totals()[1][_MPJPE, 0].sum()),
            "mpjpe": _table(_scene_means(scores), scored.rows)["mpjpe"],
        }
    return result


def reduction_percent(table: dict[str, Table]) -> dict[str, dict[str, float | None]]:
    """{scene: {aggregation: percent}} by which the MPJPE is below that of the training mean pose; None without one."""
    result = {}
    for scene, metrics in table.items():
        baseline = metrics["mpjpe"].get(BASELINE)
        result[scene] = {
            row: None if value is None or not baseline else round(100 * (1 - value / baseline), 6)
            for row, value in metrics["mpjpe"].items()
            if row != BASELINE
        }
    return result


def intervals(scored: Scored, samples: int, seed: int) -> dict:
    """95 % bootstrap intervals over takes of every table entry and of the reduction in MPJPE.

    Whole takes are resampled with replacement within each scene, the same draw for every metric and row, so that the
    reduction is a paired comparison (Efron and Tibshirani 1993, percentile intervals). A scene with one take has none,
    and then neither has the mean of scenes.

    Returns:
        {"metrics": {scene: {metric: {aggregation: [low, high] or None}}}, "reduction_percent": {scene: {aggregation:
        ...}}, "without_interval": {scene: reason}, "samples", "seed", "confidence"}
    """
    draws, reasons = {}, {}
    for number, scene in enumerate(scored.scenes):
        takes = _by_take(scored.of_scene(scene))
        if len(takes) < 2:
            reasons[scene] = f"one take ({next(iter(takes))}): an interval over takes needs at least two"
        else:
            draws[scene] = _resampled_means(list(takes.values()), samples, np.random.default_rng([seed, number]))
    if reasons:
        reasons[MEAN_OF_SCENES] = f"a scene without an interval: {', '.join(reasons)}"
    else:
        draws[MEAN_OF_SCENES] = np.mean([draws[scene] for scene in scored.scenes], axis=0)
    return {
        "confidence": CONFIDENCE,
        "samples": samples,
        "seed": seed,
        "without_interval": reasons,
        "metrics": {
            scene: _interval_table(draws.get(scene), scored.rows) for scene in (*scored.scenes, MEAN_OF_SCENES)
        },
        "reduction_percent": {
            scene: _reduction_intervals(draws.get(scene), scored.rows) for scene in (*scored.scenes, MEAN_OF_SCENES)
        },
    }


def root_errors(scored: Scored) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """{scene: {camera kind, or "all": {"mm", "along the line of sight, mm", "frames"}}} of roots solved from the 2D.

    Means over the scored frames whose root was solved, and the unweighted mean of scenes.
    """
    kinds = ["all", *sorted({score.track.camera_kind for score in scored.scores})]
    sums = np.array([[_root_sums(scored.of_scene(scene), kind) for kind in kinds] for scene in scored.scenes])
    means = _divide(sums[..., :2], sums[..., 2:])
    frames = sums[..., 2].astype(int)
    rows = {scene: (means[number], frames[number]) for number, scene in enumerate(scored.scenes)}
    rows[MEAN_OF_SCENES] = means.mean(axis=0), frames.sum(axis=0)
    names = ("mm", "along the line of sight, mm")
    return {
        scene: {
            kind: dict(zip(names, _rounded(values[k]), strict=True)) | {"frames": int(number[k])}
            for k, kind in enumerate(kinds)
        }
        for scene, (values, number) in rows.items()
    }


def _root_sums(scored: Scored, kind: str) -> np.ndarray:
    return sum((s.root for s in scored.scores if kind in ("all", s.track.camera_kind)), np.zeros(3))


def multi_view_counts(people: Scored) -> dict[str, dict[str, int]]:
    """{scene: {what: how many}} and the same for all scenes, of people scored over several cameras together."""
    result = {scene: _people_counts(people.of_scene(scene).scores) for scene in people.scenes}
    result["all scenes"] = _people_counts(people.scores)
    return result


def _people_counts(scores: list[TrackScore]) -> dict[str, int]:
    seen_by_several = [score for score in scores if score.tally["frames scored"]]
    return {
        "takes": len({s.track.take for s in seen_by_several}),
        "people (of each take)": len(seen_by_several),
        **_summed_tally(scores),
    }


def _summed_tally(scores: list[TrackScore]) -> dict[str, int]:
    tally = Counter()
    for score in scores:
        tally.update(score.tally)
    return {name: int(count) for name, count in tally.items()}


def counts(scored: Scored) -> dict[str, dict[str, int]]:
    """{scene: {what: how many}} and the same for all scenes: takes, people, tracks, frames and joints."""
    result = {scene: _counts(scored.of_scene(scene).scores) for scene in scored.scenes}
    result["all scenes"] = _counts(scored.scores)
    return result


def _counts(scores: list[TrackScore]) -> dict[str, int]:
    return {
        "takes": len({s.track.take for s in scores}),
        "people (of each take)": len({(s.track.take, s.track.person) for s in scores}),
        "cameras (of each take)": len({(s.track.take, s.track.camera) for s in scores}),
        "person-camera tracks": len(scores),
        "person-camera tracks without a scored joint": sum(not s.tally["joints scored"] for s in scores),
        **_summed_tally(scores),
    }


def breakdowns(scored: Scored) -> dict:
    """Errors of the headline by distance, by time out of view and beside the spread; see `breakdown.tables`."""
    there = [(score.track.camera_kind, score.breakdown) for score in scored.scores if score.breakdown is not None]
    return breakdown.tables(there)


def _by_take(scored: Scored) -> dict[str, Scored]:
    takes = sorted({score.track.take for score in scored.scores})
    return {take: scored.where(lambda s, take=take: s.track.take == take) for take in takes}


def _scene_means(scored: Scored) -> np.ndarray:
    """Means (M, A) over all scored joints, NaN where there are none."""
    sums, count = scored.totals()
    return _divide(sums.sum(axis=-1), count.sum(axis=-1))


def _resampled_means(takes: list[Scored], samples: int, random: np.random.Generator) -> np.ndarray:
    """Scene means (B, M, A) of resampled takes."""
    totals = [take.totals() for take in takes]
    sums = np.stack([s.sum(axis=-1) for s, _ in totals])  # (takes, M, A)
    count = np.stack([c.sum(axis=-1) for _, c in totals])
    drawn = random.multinomial(len(takes), np.full(len(takes), 1 / len(takes)), size=samples)  # how often each take
    return _divide(np.tensordot(drawn, sums, axes=1), np.tensordot(drawn, count, axes=1))


def _interval_table(draws: np.ndarray | None, rows: list[str]) -> dict[str, dict[str, list[float] | None]]:
    return {
        metric: {row: None if draws is None else _interval(draws[:, m, a]) for a, row in enumerate(rows)}
        for m, metric in enumerate(METRICS)
    }


def _reduction_intervals(draws: np.ndarray | None, rows: list[str]) -> dict[str, list[float] | None]:
    if draws is None:
        return {row: None for row in rows if row != BASELINE}
    if BASELINE not in rows:
        return {}
    baseline = draws[:, _MPJPE, rows.index(BASELINE)]
    return {row: _interval(100 * (1 - draws[:, _MPJPE, a] / baseline)) for a, row in enumerate(rows) if row != BASELINE}


def _interval(draws: np.ndarray) -> list[float] | None:
    """Percentile interval; None where some draw has no joint to score (all of them in takes that were not drawn)."""
    if not np.isfinite(draws).all():
        return None
    tail = 50 * (1 - CONFIDENCE)
    return _rounded(np.percentile(draws, [tail, 100 - tail]))


def _divide(sums: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(sums, count, out=np.full(np.shape(sums), np.nan), where=np.broadcast_to(count > 0, np.shape(sums)))


def _table(means: np.ndarray, rows: list[str]) -> Table:
    return {metric: dict(zip(rows, _rounded(means[m]), strict=True)) for m, metric in enumerate(METRICS)}


def _rounded(values: np.ndarray) -> list[float | None]:
    """Plain numbers for JSON, to a nanometre: beyond that lies the order in which floats were added."""
    return [None if np.isnan(value) else round(float(value), 6) for value in values]
