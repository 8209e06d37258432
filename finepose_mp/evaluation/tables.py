"""results.md: the numbers of results.json as a report for people."""

from finepose_mp.evaluation.summary import BASELINE, MEAN_OF_SCENES

_UNITS_WITH_TWO_DECIMALS = ("mm per frame", "mm per frame²")


def render(results: dict) -> str:
    """The whole report in Markdown, from the contents of results.json."""
    choices = results["choices"]
    parts = [
        f"# {choices['run']} on {choices['data file']} ({choices['split']} split)",
        simulation_warning(results),
        "## MPJPE (mm)",
        headline_table(results),
        _reading_help(results),
        "## What was scored",
        what_was_scored(results),
        *_multi_view_section(results),
        *_oracle_section(results),
        "## All metrics",
        _all_metrics(results),
        "## By camera kind: MPJPE (mm)",
        _by_camera_kind(results),
        "## Where the root is: error (mm) of the root solved from the 2D, deployable",
        _root_errors(results),
        "## By joint: MPJPE (mm)",
        _by_joint(results),
        "## By take: MPJPE (mm)",
        _by_take(results),
        "## Counts",
        _counts(results),
        "## Every choice that changes a number",
        choices_table(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def headline_table(results: dict) -> str:
    """MPJPE of every row that needs no truth, scenes as columns, and the reduction against the training mean pose."""
    rows = [row for row, about in results["aggregations"].items() if about["kind"] != "oracle"]
    scenes = list(results["scenes"])
    lines = [[label(results, row), *_with_intervals(results, row)] for row in rows]
    headline = results["headline"]
    if BASELINE in results["aggregations"]:
        reduction, ranges = results["reduction_percent"], results["intervals"]["reduction_percent"]
        cells = [_cell(reduction[scene][headline], ranges[scene][headline], " %") for scene in scenes]
        lines.append(["First row against the baseline: reduction", *cells])
    return table(["", *map(title, scenes)], lines)


def simulation_warning(results: dict) -> str:
    if results["simulated"] == "none":
        return ""
    which = "All evaluated takes are" if results["simulated"] == "all" else "Some evaluated takes are"
    return (
        f"> **SIMULATED DATA.** {which} simulated, not recorded. These numbers show that the pipeline works; they say "
        "nothing about accuracy on real recordings and cannot be compared with published results."
    )


def _reading_help(results: dict) -> str:
    intervals = results["intervals"]
    text = (
        f"In brackets: {intervals['confidence']:.0%} bootstrap interval over takes (whole takes resampled within each "
        f"scene, {intervals['samples']} times)."
    )
    reasons = [f"{title(scene)}: {why}" for scene, why in intervals["without_interval"].items()]
    return text + (f" No interval for {'; '.join(reasons)}." if reasons else "")


def what_was_scored(results: dict) -> str:
    """What the numbers are of, in a paragraph."""
    choices, count = results["choices"], results["counts"]["all scenes"]
    sampling = "one pose from a deterministic lifter"
    if choices["sampling steps"] is not None:
        sampling = f"{choices['hypotheses']} hypotheses in {choices['sampling steps']} sampling steps"
    mirrored = "averaged with the mirrored input" if choices["mirrored input averaged"] else "without mirrored input"
    return (
        f"{count['person-camera tracks']:,} person-camera tracks: {count['people (of each take)']:,} people (counted "
        f"in each of {count['takes']:,} takes), seen by cameras of kind {', '.join(choices['camera kinds'])}; "
        f"{count['frames scored']:,} frames with {count['joints scored']:,} {choices['joints scored']} joints. "
        f"Poses are root-relative, in the frame of each camera: prediction and truth both have their root "
        f"({choices['root'].partition(';')[0]}) at the origin, and no truth enters a prediction called deployable. "
        f"Input: {choices['2D source']} keypoints as {choices['2D coordinates']}; {sampling}, {mirrored}; "
        f"prompt condition: {choices['prompt condition']}. Within a scene every scored joint weighs the same; the mean "
        f"of scenes is unweighted. {_baseline(results)}" + _which_joints(choices) + _how_j_agg_chooses(choices)
    )


def _baseline(results: dict) -> str:
    if BASELINE in results["aggregations"]:
        return "The baseline predicts the mean pose of the training set everywhere and is scored on the same joints. "
    return "There is no baseline: the mean pose of the training set is not known. "


def _headline_and_baseline(results: dict) -> list[str]:
    return [row for row in (results["headline"], BASELINE) if row in results["aggregations"]]


def _which_joints(choices: dict) -> str:
    if choices["joints left out"] == "none":
        return ""
    return (
        f"**Of the model's joints {choices['joints compared']}; only these are scored, and not "
        f"{', '.join(choices['joints left out'])}.** "
    )


def _how_j_agg_chooses(choices: dict) -> str:
    if choices["hypotheses"] == 1:
        return ""
    text = (
        "J-Agg takes for every joint the hypothesis whose reprojection is closest to the keypoint, soft J-Agg weights "
        f"them; both through the true lens, with the root {choices['root source']}."
    )
    if choices["2D source"] == "projected":
        text += " The keypoints here are the truth seen through the lens, so that J-Agg is told where joints appear."
    return text


def _multi_view_section(results: dict) -> list[str]:
    several = results["multi_view"]
    if several is None:
        return []
    scenes, count = list(several["scenes"]), several["counts"]["all scenes"]
    lines = [[label(several, row), *_with_intervals(several, row)] for row in several["aggregations"]]
    frames = count["frames scored"]
    of_scenes = [f"{several['counts'][scene]['frames scored']:,}" for scene in scenes if scene != MEAN_OF_SCENES]
    lines.append(["Frames of a person", *of_scenes, f"{frames:,} in all"])
    return [
        "## People seen by several cameras at once: MPJPE (mm)",
        table(["", *map(title, scenes)], lines),
        f"{count['people (of each take)']:,} people in {frames:,} frames in which at least two cameras "
        f"({count['views of the scored frames'] / frames:.1f} on average) have keypoints of them, "
        f"{count['joints scored']:,} joints. Each person and frame counts once, so that these numbers compare with one "
        "another and not with the tables of single cameras. Hypotheses of all cameras are compared in the orientation "
        "of the world, with the root solved from the keypoints of all cameras; camera poses are inputs.",
    ]


def _oracle_section(results: dict) -> list[str]:
    rows = [row for row, about in results["aggregations"].items() if about["kind"] == "oracle"]
    if not rows:
        return []
    scenes = list(results["scenes"])
    lines = [[label(results, row), *_with_intervals(results, row)] for row in rows]
    return [
        "## Oracle: MPJPE (mm) with the choice made by the truth",
        table(["", *map(title, scenes)], lines),
        "Upper bounds on what choosing among the hypotheses could give: each row picks with the true pose at hand, or "
        "with the true position of the root (J-Agg as in the papers). They fall with the spread and number of "
        "hypotheses alone and are not comparable with single predictions. "
        "The papers' code takes P-Best over a whole mini-batch, which depends on the batch size; it is not given here. "
        "Other metrics of these rows are in the JSON file.",
    ]


def _all_metrics(results: dict) -> str:
    sections = []
    scenes = list(results["scenes"])
    for row, about in results["aggregations"].items():
        if about["kind"] == "oracle":
            continue
        lines = [
            [f"{metric['title']} ({metric['unit']})"]
            + [number(results["scenes"][scene][name][row], _decimals(metric["unit"])) for scene in scenes]
            for name, metric in results["metrics"].items()
        ]
        sections.append(table([label(results, row), *map(title, scenes)], lines))
    note = (
        "P-MPJPE: after the best similarity transform of each frame, reflections excluded; N-MPJPE: after the best "
        f"scale; where J-Agg and the oracles choose, {results['choices']['P-MPJPE and N-MPJPE']}. MPJVE and "
        "acceleration error: over consecutive scored frames only, per frame and, times the frame rate (squared), per "
        "second. PCK and AUC: strictly below the threshold, AUC over 0, 5, ..., 150 mm."
    )
    return "\n\n".join([note, *sections])


def _by_camera_kind(results: dict) -> str:
    rows = _headline_and_baseline(results)
    scenes = list(results["scenes"])
    lines = [
        [kind, label(results, row)] + [number(tables.get(scene, {}).get("mpjpe", {}).get(row)) for scene in scenes]
        for kind, tables in results["per_camera_kind"].items()
        for row in rows
    ]
    return table(["Camera kind", "", *map(title, scenes)], lines, text_columns=2)


def _root_errors(results: dict) -> str:
    of_scenes, scenes = results["root_error"], list(results["root_error"])
    parts = {"mm": "distance from the true root", "along the line of sight, mm": "of it along the line of sight"}
    lines = [
        [kind, name, *(number(of_scenes[scene][kind][part]) for scene in scenes)]
        for kind in of_scenes[MEAN_OF_SCENES]
        for part, name in parts.items()
    ]
    if results["multi_view"] is not None:
        several = results["multi_view"]["root_error"]
        cells = [number(several[scene]["all"]["mm"]) if scene in several else "-" for scene in scenes]
        lines.append(["all cameras together", "people seen by several cameras at once", *cells])
    return table(["Camera kind", "", *map(title, scenes)], lines, text_columns=2) + (
        "\n\nOf the root in space, from the predicted pose and the 2D alone. Means over scored frames whose keypoints "
        "determine it; how many do not is among the counts."
    )


def _by_joint(results: dict) -> str:
    headline, scenes = results["headline"], list(results["scenes"])
    of_scene = {scene: results["per_joint_mpjpe"][scene][headline] for scene in scenes}
    lines = [
        [joint.replace("_", " "), *(number(of_scene[scene][joint]) for scene in scenes)]
        for joint in of_scene[MEAN_OF_SCENES]
    ]
    return table([label(results, headline), *map(title, scenes)], lines)


def _by_take(results: dict) -> str:
    rows = _headline_and_baseline(results)
    lines = [
        [take, about["scene"], *(number(about["mpjpe"][row]) for row in rows), f"{about['joints scored']:,}"]
        for take, about in results["per_take"].items()
    ]
    titles = [label(results, row) for row in rows]
    return table(["Take", "Scene", *titles, "Joints scored"], lines, text_columns=2)


def _counts(results: dict) -> str:
    scenes = list(results["counts"])
    names = [name for name in results["counts"]["all scenes"] if any(results["counts"][s].get(name) for s in scenes)]
    lines = [[name, *(f"{results['counts'][scene].get(name, 0):,}" for scene in scenes)] for name in names]
    return table(["", *map(title, scenes)], lines) + (
        "\n\nA frame is one frame of one person-camera track; a joint one joint of such a frame. What was left out is "
        "counted under the first reason that applies; lines that would be all zero are not shown."
    )


def choices_table(results: dict) -> str:
    def text(value: object) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{key} {text(item)}" for key, item in value.items()) or "none given"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, (list, tuple)):
            return ", ".join(map(str, value))
        return "-" if value is None else str(value)

    lines = [[name, text(value)] for name, value in results["choices"].items()]
    return table(["Choice", "Value"], lines, text_columns=2)


def label(results: dict, row: str) -> str:
    """Title of a row, which says whether it is deployable or an oracle."""
    about = results["aggregations"][row]
    return about["title"] if about["kind"] == "baseline" else f"{about['title']}: {about['kind']}"


def _with_intervals(results: dict, row: str) -> list[str]:
    ranges = results["intervals"]["metrics"]
    return [_cell(table["mpjpe"][row], ranges[scene]["mpjpe"][row]) for scene, table in results["scenes"].items()]


def _cell(value: float | None, interval: list[float] | None, unit: str = "") -> str:
    text = number(value) + (unit if value is not None else "")
    return text if interval is None else f"{text} [{interval[0]:.1f}, {interval[1]:.1f}]"


def number(value: float | None, decimals: int = 1) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def _decimals(unit: str) -> int:
    return 2 if unit in _UNITS_WITH_TWO_DECIMALS else 1


def title(scene: str) -> str:
    return scene[:1].upper() + scene[1:]


def table(header: list[str], lines: list[list[str]], text_columns: int = 1) -> str:
    """A Markdown table with its columns padded, so that it also reads well on a terminal."""
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in (header, *lines)]
    widths = [max(3, *(len(line[c]) for line in cells)) for c in range(len(header))]
    right = [c >= text_columns for c in range(len(header))]
    rule = ["-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)]
    padded = [
        [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right, strict=True)]
        for line in (cells[0], rule, *cells[1:])
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)
