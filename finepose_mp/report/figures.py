"""Charts of an evaluation, from the contents of results.json: errors in millimetres, Okabe and Ito's colours."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from finepose_mp.evaluation.scoring import BASELINE
from finepose_mp.evaluation.tables import label
from finepose_mp.report.numbers import KIND_NAMES, interval, joint_errors, mean_of, scenes_of

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8A8A"
_KIND_COLOURS = {"all": "#000000", "ego_rgb": BLUE, "ego_slam": PURPLE, "exo": ORANGE}
_MARKERS = {"all": "s", "ego_rgb": "o", "ego_slam": "v", "exo": "^"}
_WIDTH = 6.4  # inches
_FEW = 100  # joints; a mean of fewer is drawn hollow


class Chart(NamedTuple):
    """A figure under a name (of its file, too), its title, and in words what it shows and how to read it."""

    name: str
    title: str
    text: str
    figure: Figure


def charts(results: dict) -> dict[str, Chart]:
    """What the results have numbers for, by name."""
    made = (scenes(results), joints(results), distance(results), camera_kinds(results), unseen(results))
    return {chart.name: chart for chart in (*made, calibration(results)) if chart is not None}


def scenes(results: dict) -> Chart:
    """The headline's error of each scene with its interval, and the baseline's."""
    names, headline = scenes_of(results), results["headline"]
    errors = [results["scenes"][name]["mpjpe"][headline] for name in names]
    figure, axes = _bars(len(names))
    place = np.arange(len(names))
    axes.barh(place, _numbers(errors), color=BLUE, height=0.6, label=label(results, headline))
    text = "Bars: the headline."
    if BASELINE in results["aggregations"]:
        baseline = _numbers([results["scenes"][name]["mpjpe"][BASELINE] for name in names])
        axes.plot(baseline, place, "|", color="k", markersize=16, markeredgewidth=2, label="Training mean pose")
        text += " Black strokes: the mean pose of the training set, which looks at nothing."
    ranges = [(i, interval(results, name, "mpjpe", headline)) for i, name in enumerate(names)]
    for i, between in ((i, between) for i, between in ranges if between is not None):
        axes.plot(between, [i, i], color="#222222", linewidth=1.4, marker="|", markersize=7)
    axes.set_yticks(place, [name[:1].upper() + name[1:] for name in names])
    _finish_bars(axes, "MPJPE (mm)")
    if any(between for _, between in ranges):
        text += " Thin lines: 95 % interval over takes; a scene with a single test take has none."
    return Chart("error_by_scene", "Error by scene", text, figure)


def joints(results: dict) -> Chart | None:
    """The headline's error of each joint, mean of scenes."""
    errors = {name: value for name, value in joint_errors(results).items() if value is not None}
    if not errors:
        return None
    figure, axes = _bars(len(errors), 0.22)
    place = np.arange(len(errors))
    axes.barh(place, list(errors.values()), color=BLUE, height=0.65)
    for i, value in enumerate(errors.values()):
        axes.text(value, i, f" {value:.0f}", va="center", fontsize=7.5)
    axes.set_yticks(place, [name.replace("_", " ") for name in errors])
    _finish_bars(axes, "MPJPE (mm)", legend=False)
    text = f"{label(results, results['headline'])}; {mean_of(results)}. Positions are relative to the root, so that "
    return Chart("error_by_joint", "Error by joint", text + "joints near it err least.", figure)


def distance(results: dict) -> Chart | None:
    """The headline's error by distance of the person from the camera, for each kind of camera."""
    kinds = results.get("breakdowns", {}).get("distance_to_camera", {}).get("kinds", {})
    kinds = {kind: rows for kind, rows in kinds.items() if rows}
    if not kinds:
        return None
    if len(kinds) == 2:  # one kind of camera, and all of them, which are the same
        del kinds["all"]
    bins = sorted({(row["from"], row["to"] or np.inf) for rows in kinds.values() for row in rows})
    figure, axes, below = _over_bins()
    for kind, rows in kinds.items():
        at = [bins.index((row["from"], row["to"] or np.inf)) for row in rows]
        style = {"color": _KIND_COLOURS.get(kind, GREEN), "marker": _MARKERS.get(kind, "D")}
        _line(axes, at, [row["mpjpe"] for row in rows], rows, KIND_NAMES.get(kind, kind), **style)
    everything = results["breakdowns"]["distance_to_camera"]["kinds"]["all"]
    at = [bins.index((row["from"], row["to"] or np.inf)) for row in everything]
    if BASELINE in results["aggregations"]:
        mean_pose = [row["baseline"] for row in everything]
        _line(axes, at, mean_pose, everything, "Training mean pose", color=GREY, style="--")
    _count_bars(below, at, everything)
    below.set_xticks(range(len(bins)), [_range(*each) for each in bins])
    _finish_lines(axes, below, "distance of the person's root from the camera (m)")
    text = "Pooled over scenes. The true distance sorts the joints; no prediction sees it. Below: how many joints. "
    return Chart("error_by_distance", "Error by distance to the camera", text + _HOLLOW, figure)


def camera_kinds(results: dict) -> Chart | None:
    """The headline's error of head-worn beside fixed cameras, scene by scene; None for one kind of camera."""
    of_kinds = results.get("per_camera_kind", {})
    if len(of_kinds) < 2:
        return None
    names, headline = scenes_of(results), results["headline"]
    figure, axes = _bars(len(names), 0.25 * len(of_kinds))
    height = 0.8 / len(of_kinds)
    for k, (kind, tables) in enumerate(of_kinds.items()):
        values = [tables.get(name, {}).get("mpjpe", {}).get(headline) for name in names]
        place = np.arange(len(names)) + (k - (len(of_kinds) - 1) / 2) * height
        colour = _KIND_COLOURS.get(kind, GREEN)
        axes.barh(place, _numbers(values), height=height, color=colour, label=KIND_NAMES.get(kind, kind))
        for at, value in ((at, value) for at, value in zip(place, values, strict=True) if value is not None):
            axes.text(value, at, f" {value:.0f}", va="center", fontsize=7.5)
    axes.set_yticks(range(len(names)), [name[:1].upper() + name[1:] for name in names])
    _finish_bars(axes, "MPJPE (mm)")
    text = "Each kind on all its own frames: fixed cameras see everybody, head-worn ones those in front of the wearer."
    return Chart("error_by_camera_kind", "Head-worn against fixed cameras", text, figure)


def unseen(results: dict) -> Chart | None:
    """The headline's error by the number of frames since the person was last seen well."""
    part = results.get("breakdowns", {}).get("time_out_of_view")
    if not part or not part["rows"]:
        return None
    rows, labels = list(part["rows"]), [_frames(row["from"], row["to"]) for row in part["rows"]]
    figure, axes, below = _over_bins()
    at = list(range(len(rows)))
    _line(axes, at, [row["mpjpe"] for row in rows], rows, label(results, results["headline"]), BLUE, "o")
    has_baseline = BASELINE in results["aggregations"]
    if has_baseline:
        _line(axes, at, [row["baseline"] for row in rows], rows, "Training mean pose", GREY, "", "--")
    if part["not yet seen"]:
        rows, labels, at = [*rows, part["not yet seen"]], [*labels, "not yet\nseen"], [*at, len(rows)]
        _line(axes, at[-1:], [rows[-1]["mpjpe"]], rows[-1:], "", BLUE, "o")
        if has_baseline:
            _line(axes, at[-1:], [rows[-1]["baseline"]], rows[-1:], "", GREY, "_")
    _count_bars(below, at, rows)
    below.set_xticks(at, labels)
    _finish_lines(axes, below, "frames since the person was last seen well (0: seen well now)")
    least = results["choices"]["person in view"].removesuffix(" in view")
    text = (
        f"Seen well: {least} have a usable keypoint. Frames in which the person is out of view count here, and "
        "nowhere else in this report: poses there are inferred from the rest of the window, before and after. "
    )
    return Chart("error_by_time_out_of_view", "Error against time out of view", text + _HOLLOW, figure)


def calibration(results: dict) -> Chart | None:
    """Error against the spread of the hypotheses."""
    part = results.get("breakdowns", {}).get("calibration")
    if not part:
        return None
    rows, honest = part["rows"], part["honest ratio"]
    spread, error = ([row[name] for row in rows] for name in ("spread", "error"))
    figure, axes, below = _over_bins()
    limits = np.array([min(spread) / 1.3, max(spread) * 1.3])
    axes.plot(limits, honest * limits, color=GREY, linestyle="--", label=f"honest: {honest:.2f} × spread")
    _line(axes, spread, error, rows, "measured", BLUE, "o")
    _count_bars(below, spread, rows, width=[0.25 * each for each in spread])
    for each in (axes, below):
        each.set_xscale("log")
    axes.set_yscale("log")
    for axis in (below.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    below.set_xlim(limits)
    _finish_lines(axes, below, "spread of the hypotheses (mm, root mean square)")
    axes.set_ylabel("error (mm, root mean square)")
    text = (
        f"Every scored joint, sorted by how far its {part['hypotheses']} hypotheses lie apart. Were the truth one more "
        f"draw of the model, the error would be {honest:.2f} times the spread (dashed). Here it is {part['ratio']:.1f} "
        f"times overall ({part['error']:.0f} against {part['spread']:.0f} mm): "
    )
    text += _verdict(part["ratio"] / honest) + " A rising line says that the spread tells hard joints from easy ones. "
    return Chart("uncertainty", "Does the spread of the hypotheses tell the error?", text + _HOLLOW, figure)


_HOLLOW = f"Hollow points: fewer than {_FEW} joints."


def _verdict(factor: float) -> str:
    if factor > 1.15:
        return f"the model is over-confident, its spread should be {factor:.1f} times as wide."
    if factor < 0.87:
        return f"the model is over-cautious, its spread is {1 / factor:.1f} times too wide."
    return "the spread is as wide as it should be."


def _bars(count: int, each: float = 0.38) -> tuple[Figure, Axes]:
    figure = _figure(1.0 + each * count)
    return figure, figure.add_subplot()


def _over_bins() -> tuple[Figure, Axes, Axes]:
    """A figure with room for lines above and for the number of joints below, sharing what is on the x axis."""
    figure = _figure(4.2)
    grid = figure.add_gridspec(2, 1, height_ratios=[4, 1])
    below = figure.add_subplot(grid[1])
    axes = figure.add_subplot(grid[0], sharex=below)
    axes.tick_params(labelbottom=False)
    return figure, axes, below


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(_WIDTH, height), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _line(
    axes: Axes, x: list, y: list, rows: list[dict], label: str, color: str, marker: str = "", style: str = "-"
) -> None:
    axes.plot(x, y, linestyle=style, color=color, linewidth=1.5, zorder=2)
    face = [color if row["joints"] >= _FEW else "white" for row in rows]
    for at, value, colour in zip(x, y, face, strict=True) if marker else ():
        axes.plot(at, value, marker=marker, color=color, markerfacecolor=colour, markersize=6, zorder=3)
    if label:
        axes.plot([], [], linestyle=style, color=color, marker=marker, label=label)


def _count_bars(axes: Axes, x: list, rows: list[dict], width: float | list[float] = 0.6) -> None:
    count = np.array([row["joints"] for row in rows])
    axes.bar(x, 100 * count / count.sum(), width=width, color="#BBBBBB")
    for at, number in zip(x, count, strict=True):
        axes.text(at, 100 * number / count.sum(), _short(number), ha="center", va="bottom", fontsize=6.5)
    axes.set_ylabel("share of\njoints (%)", fontsize=8)
    axes.set_ylim(top=125 * count.max() / count.sum())


def _finish_bars(axes: Axes, label: str, legend: bool = True) -> None:
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.set_xlim(left=0, right=axes.get_xlim()[1] * 1.03)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    _tidy(axes)
    if legend:
        axes.figure.legend(loc="outside upper left", ncols=3, fontsize=8, frameon=False)


def _finish_lines(axes: Axes, below: Axes, label: str) -> None:
    axes.set_ylabel("MPJPE (mm)")
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.figure.legend(loc="outside upper left", ncols=4, fontsize=8, frameon=False)
    below.set_xlabel(label)
    for each in (axes, below):
        each.set_axisbelow(True)
        _tidy(each)


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.0f}k" if count >= 1e4 else f"{count:,}"


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _numbers(values: list[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _range(low: float, high: float) -> str:
    return f"over {low:g}" if np.isinf(high) else f"{low:g}–{high:g}"


def _frames(low: float, high: float | None) -> str:
    """The whole numbers from low to below high."""
    if high is None:
        return f"{low:g} or more"
    return f"{low:g}" if high - low == 1 else f"{low:g}–{high - 1:g}"
