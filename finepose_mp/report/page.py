"""The report of an evaluation as one HTML page that needs nothing beside it: pictures are inside."""

import base64
import html
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import NamedTuple

from finepose_mp.evaluation.scoring import BASELINE
from finepose_mp.evaluation.tables import number, simulation_warning, title, what_was_scored
from finepose_mp.report.numbers import KIND_NAMES, interval, mean_of, scenes_of

_MANY_SCENES = 8  # more stand below each other instead of side by side
_SHOWN_TAKES = 12
_KINDS = ("deployable", "baseline", "oracle")


class Picture(NamedTuple):
    """A picture with its title and text, as PNG."""

    title: str
    text: str
    png: bytes


def report_page(results: dict, charts: Mapping[str, Picture], worst: Mapping[str, Picture], beside: str) -> str:
    """The page as HTML.

    Args:
        results: contents of results.json, of any protocol.
        charts: by the names of `figures.charts`.
        worst: take -> picture of its worst moment, the worst take first.
        beside: name of the results file without its suffix, in the folder above the page's.
    """
    choices = results["choices"]
    heading = f"{choices['model']} on {choices['data file']}, {choices['split']} split"
    sections = [
        ("Scenes", "scenes", _scenes(results, charts)),
        ("By joint", "joints", _chart(charts, "error_by_joint")),
        ("By distance to the camera", "distance", _chart(charts, "error_by_distance")),
        ("Head-worn against fixed cameras", "cameras", _camera_kinds(results, charts)),
        ("Out of view", "unseen", _chart(charts, "error_by_time_out_of_view")),
        ("Worst takes", "worst", _worst_takes(results, worst)),
        ("Uncertainty", "uncertainty", _uncertainty(results, charts)),
        ("What was assumed", "assumed", _assumed(results)),
    ]
    sections = [section for section in sections if section[2]]
    links = " ".join(f'<a href="#{anchor}">{_text(name)}</a>' for name, anchor, _ in sections)
    body = [
        f"<h1>{_text(heading)}</h1>",
        _below_heading(results, _text(beside)),
        _warning(results),
        f"<nav>{links}</nav>",
        _facts(results),
        *(f'<h2 id="{anchor}">{_text(name)}</h2>\n{content}' for name, anchor, content in sections),
    ]
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("{{title}}", _text(heading)).replace("{{body}}", "\n".join(part for part in body if part))


def _below_heading(results: dict, beside: str) -> str:
    run, checkpoint = (_text(results["choices"][name]) for name in ("run", "checkpoint"))
    return (
        f'<p class="sub">Run {run}, checkpoint {checkpoint}, {_text(results["protocol"])} protocol; errors in '
        f'millimetres. Beside this page: <a href="../{beside}.md">{beside}.md</a> (more tables), '
        f'<a href="../{beside}.json">.json</a> (every number), <a href="figures/">figures/</a> (its pictures).</p>'
    )


def _warning(results: dict) -> str:
    text = simulation_warning(results).removeprefix("> ")
    return f'<p class="warning">{_markdown(text)}</p>' if text else ""


def _facts(results: dict) -> str:
    """The numbers that answer first."""
    mean, headline = mean_of(results), results["headline"]
    errors = results["scenes"][mean]["mpjpe"]
    between = interval(results, mean, "mpjpe", headline)
    about = results["aggregations"][headline]
    facts = [(f"{number(errors[headline])} mm", f"MPJPE, {mean}: {about['title']}, {about['kind']}")]
    if between is not None:
        facts[0] = (facts[0][0], f"{facts[0][1]}; 95 % interval {between[0]:.1f} to {between[1]:.1f}")
    if errors.get(BASELINE):
        facts.append((f"{number(errors[BASELINE])} mm", "the same of the training mean pose, which looks at nothing"))
        if errors[headline] is not None:
            facts.append((f"{100 * (1 - errors[headline] / errors[BASELINE]):.0f} %", "less error than the mean pose"))
    facts.append((f"{_frames_scored(results):,}", f"frames scored, of {_takes_scored(results)}"))
    return (
        '<div class="facts">'
        + "".join(f'<div class="fact"><b>{_text(value)}</b><span>{_text(what)}</span></div>' for value, what in facts)
        + "</div>"
    )


def _frames_scored(results: dict) -> int:
    counts = results["counts"]
    total = counts.get("all scenes") or counts.get("all frames")
    return total["frames scored"] if total else sum(each["frames scored"] for each in counts.values())


def _takes_scored(results: dict) -> str:
    total = results["counts"].get("all scenes") or results["counts"].get("all frames")
    if total is None:
        return f"{len(results['counts'])} sequences"
    return f"{total['people (of each take)']:,} people in {total['takes']:,} takes"


def _scenes(results: dict, charts: Mapping[str, Picture]) -> str:
    parts = [_scene_table(results), _reading_help(results), _chart(charts, "error_by_scene")]
    parts += ["<h3>Other metrics</h3>", _metrics_table(results)]
    if "root" in results["choices"] and "intervals" in results:
        parts += ["<h3>What was scored</h3>", f"<p>{_markdown(what_was_scored(results))}</p>"]
    if "completeness" in results:
        parts.append(f"<p>{_text(results['completeness'][:1].upper() + results['completeness'][1:])}.</p>")
    return "\n".join(part for part in parts if part)


def _scene_table(results: dict) -> str:
    """MPJPE of every row in every scene: rows as rows, or as columns where there are many scenes."""
    scenes, rows = scenes_of(results), _ordered_rows(results)
    cells = {(scene, row): _cell(results, scene, row) for scene in scenes for row in rows}
    mean = mean_of(results)
    if len(scenes) <= _MANY_SCENES:
        header = [("MPJPE (mm)", "text"), *((_text(title(scene)), "mean" if scene == mean else "") for scene in scenes)]
        lines = [
            (
                "headline" if row == results["headline"] else "",
                [(_row_name(results, row), "text")]
                + [(cells[scene, row], "mean" if scene == mean else "") for scene in scenes],
            )
            for row in rows
        ]
    else:
        header = [("MPJPE (mm)", "text"), *((_row_name(results, row), "") for row in rows)]
        lines = [
            (
                "headline" if scene == mean else "",
                [(_text(title(scene)), "text"), *((cells[scene, row], "") for row in rows)],
            )
            for scene in scenes
        ]
    return _table(header, lines)


def _reading_help(results: dict) -> str:
    text = "<span class='kind deployable'>deployable</span> rows use no ground truth: a user gets these numbers. "
    if BASELINE in results["aggregations"]:
        text += "<span class='kind baseline'>baseline</span> predicts the mean pose of the training set everywhere. "
    if any(about["kind"] == "oracle" for about in results["aggregations"].values()):
        text += (
            "<span class='kind oracle'>oracle</span> rows choose among the hypotheses with the truth at hand: upper "
            "bounds, which nobody gets and which compare with oracle rows alone. "
        )
    if "intervals" in results:
        reasons = [f"{title(scene)}: {why}" for scene, why in results["intervals"]["without_interval"].items()]
        text += "Below a number: its 95 % bootstrap interval over takes. "
        text += _text(f"None for {'; '.join(reasons)}.") if reasons else ""
    return f'<p class="dim">{text}</p>'


def _ordered_rows(results: dict) -> list[str]:
    """Deployable rows, then the baseline, then oracles."""
    return sorted(results["aggregations"], key=lambda row: _KINDS.index(results["aggregations"][row]["kind"]))


def _row_name(results: dict, row: str) -> str:
    about = results["aggregations"][row]
    name = about["title"].removesuffix(" (baseline)")
    return f'{_text(name)} <span class="kind {about["kind"]}">{about["kind"]}</span>'


def _cell(results: dict, scene: str, row: str) -> str:
    between = interval(results, scene, "mpjpe", row)
    small = f"<small>{between[0]:,.1f} to {between[1]:,.1f}</small>" if between is not None else ""
    return number(results["scenes"][scene]["mpjpe"].get(row)) + small


def _metrics_table(results: dict) -> str:
    """All metrics of the mean of scenes."""
    mean, metrics = mean_of(results), results["metrics"]
    rows = [row for row in _ordered_rows(results) if results["aggregations"][row]["kind"] != "oracle"]
    header = [(title(mean), "text"), *((_row_name(results, row), "") for row in rows)]
    lines = []
    for name, about in metrics.items():
        values, decimals = results["scenes"][mean][name], 2 if "per frame" in about["unit"] else 1
        cells = [(number(values.get(row), decimals), "") for row in rows]
        lines.append(("", [(_text(f"{about['title']} ({about['unit']})"), "text"), *cells]))
    return _table(header, lines)


def _camera_kinds(results: dict, charts: Mapping[str, Picture]) -> str:
    of_kinds = results.get("per_camera_kind")
    if not of_kinds:
        return ""
    if len(of_kinds) < 2:
        kind = next(iter(of_kinds))
        return (
            f"<p>Only cameras of one kind were scored: {_text(KIND_NAMES.get(kind, kind))}. "
            "<code>--camera-kinds ego_rgb exo</code> scores head-worn and fixed ones and compares them here.</p>"
        )
    return _chart(charts, "error_by_camera_kind") + _kinds_table(results)


def _kinds_table(results: dict) -> str:
    scenes, headline = scenes_of(results), results["headline"]
    header = [("MPJPE (mm)", "text"), ("", "text"), *((_text(title(scene)), "") for scene in scenes)]
    lines = [
        (
            "",
            [(_text(KIND_NAMES.get(kind, kind)), "text"), (_row_name(results, row), "text")]
            + [(number(tables.get(scene, {}).get("mpjpe", {}).get(row)), "") for scene in scenes],
        )
        for kind, tables in results["per_camera_kind"].items()
        for row in (headline, BASELINE)
        if row in results["aggregations"]
    ]
    return _table(header, lines)


def _worst_takes(results: dict, worst: Mapping[str, Picture]) -> str:
    takes = results.get("per_take")
    if not takes:
        return ""
    row = results["headline"]
    ranked = sorted(takes.items(), key=lambda item: -(item[1]["mpjpe"][row] or 0))
    rows = {"MPJPE (mm)": row, "Mean pose (mm)": BASELINE}
    rows = {heading: name for heading, name in rows.items() if name in results["aggregations"]}
    header = [
        ("Take", "text"),
        ("Scene", "text"),
        *((heading, "") for heading in rows),
        ("Joints", ""),
        ("Worst moment: camera, person, frame index", "text"),
        ("its error (mm)", ""),
    ]
    lines = []
    for take, about in ranked[:_SHOWN_TAKES]:
        moment = about.get("worst moment")
        where = f"{moment['camera']}, {moment['person']}, {moment['frame index']}" if moment else "-"
        cells = [
            (_text(take), "text"),
            (_text(about["scene"]), "text"),
            *((number(about["mpjpe"][name]), "") for name in rows.values()),
            (f"{about['joints scored']:,}", ""),
            (_text(where), "text"),
            (number(moment["mpjpe"]) if moment else "-", ""),
        ]
        lines.append(("", cells))
    shown = (
        f"The {_SHOWN_TAKES} takes with the largest error, of {len(takes)}."
        if len(takes) > _SHOWN_TAKES
        else ("All takes, the largest error first.")
    )
    pictures = "\n".join(_figure(picture, "") for picture in worst.values())
    return (
        f"<p>{shown} The worst moment is the largest error of one person in one frame of one camera.</p>"
        + _table(header, lines)
        + pictures
    )


def _uncertainty(results: dict, charts: Mapping[str, Picture]) -> str:
    chart = _chart(charts, "uncertainty")
    if not chart and results["choices"].get("hypotheses") == 1:
        return "<p>One hypothesis has no spread; ask for several with <code>--hypotheses</code> to see it here.</p>"
    held_out = results["choices"]["training takes"]
    if results["choices"]["split"] == "val":
        held_out = "validation takes, which chose the checkpoint but did not train it"
    return f"<p>Measured on the evaluated takes: {_text(held_out)}.</p>{chart}" if chart else ""


def _assumed(results: dict) -> str:
    lines = [("", [(_text(name), ""), (_value(value), "")]) for name, value in results["choices"].items()]
    rows = "\n".join(_line(style, cells) for style, cells in lines)
    intro = "<p>Everything that changes a number. Files are identified by the SHA-256 of their content.</p>"
    return f'{intro}<div class="wide"><table class="choices"><tbody>{rows}</tbody></table></div>'


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "<br>".join(f"{_text(key)}: {_value(item)}" for key, item in value.items()) or "none given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value)
    return "-" if value is None else _text(str(value))


def _chart(charts: Mapping[str, Picture], name: str) -> str:
    return _figure(charts[name], "chart") if name in charts else ""


def _figure(picture: Picture, style: str) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    stop = "" if picture.title.endswith("?") else "."
    return (
        f'<figure class="{style}"><img alt="{_text(picture.title)}" src="data:image/png;base64,{data}">'
        f"<figcaption><b>{_text(picture.title)}{stop}</b> {_text(picture.text)}</figcaption></figure>"
    )


def _table(header: list[tuple[str, str]], lines: Iterable[tuple[str, list[tuple[str, str]]]]) -> str:
    """A table of cells (HTML, class); lines have a class too."""
    head = "".join(f'<th class="{style}">{cell}</th>' for cell, style in header)
    body = "\n".join(_line(style, cells) for style, cells in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _line(style: str, cells: list[tuple[str, str]]) -> str:
    return f'<tr class="{style}">' + "".join(f'<td class="{kind}">{cell}</td>' for cell, kind in cells) + "</tr>"


def _markdown(text: str) -> str:
    """HTML of a paragraph whose only mark is **bold**."""
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", _text(text))


def _text(text: str) -> str:
    return html.escape(str(text))
