"""Results of the Human3.6M protocols as the literature prints them: one column for each action, Markdown and LaTeX."""

from finepose_mp.evaluation.human36m.protocol import ACTIONS, ALL_FRAMES, MEAN_OF_ACTIONS
from finepose_mp.evaluation.human36m.published import PUBLISHED
from finepose_mp.evaluation.tables import choices_table, label, number, simulation_warning, table

AVERAGE, FRAMES = "Avg", "frames"
_FAIR = ("deployable", "baseline")
_TITLES = {
    "mpjpe": "Protocol 1: MPJPE (mm)",
    "p_mpjpe": "Protocol 2: P-MPJPE (mm)",
    "n_mpjpe": "Protocol 3: N-MPJPE (mm)",
    "mpjve": "MPJVE (mm per frame)",
    "acceleration_error": "Acceleration error (mm per frame²)",
}
_TWO_DECIMALS = ("mpjve", "acceleration_error")


def render(results: dict) -> str:
    """The whole report in Markdown, from the contents of results.json."""
    choices = results["choices"]
    parts = [
        f"# {choices['run']} on {choices['data file']} ({choices['split']} split), protocols of Human3.6M",
        simulation_warning(results),
        f"## {_TITLES['mpjpe']}",
        headline_table(results),
        _reading_help(results),
    ]
    for metric in list(_TITLES)[1:]:
        parts += [f"## {_TITLES[metric]}", action_table(results, metric, _FAIR)]
    parts += [
        "## Beside published numbers",
        comparison_table(results),
        _published_note(),
        *_oracles(results),
        "## For a LaTeX document",
        *(f"```latex\n{latex_table(results, metric)}\n```" for metric in ("mpjpe", "p_mpjpe")),
        "## By joint: MPJPE (mm), mean of actions",
        _by_joint(results),
        "## Counts",
        _counts(results),
        "## Known defects of the data",
        _defects(results),
        "## Every choice that changes a number",
        choices_table(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def headline_table(results: dict) -> str:
    """MPJPE of every row that needs no truth, by action in the literature's order."""
    return action_table(results, "mpjpe", _FAIR)


def action_table(results: dict, metric: str, kinds: tuple[str, ...]) -> str:
    """One metric in Markdown: rows of some kinds, columns Dir. to WalkT., their mean, and the mean of all frames."""
    rows = [row for row, about in results["aggregations"].items() if about["kind"] in kinds]
    lines = [[label(results, row), *_cells(results, metric, row)] for row in rows]
    return table(["", *_headings(results)], lines)


def latex_table(results: dict, metric: str) -> str:
    """The same for all rows as a LaTeX table (booktabs), oracles below a line of their own."""
    rows = results["aggregations"]
    blocks = [[row for row in rows if (rows[row]["kind"] == "oracle") is oracle] for oracle in (False, True)]
    headings = _headings(results)
    lines = [rf"\begin{{tabular}}{{l{'r' * len(headings)}}}", r"\toprule", _latex_row(["", *headings])]
    for block in blocks:
        if block:
            lines.append(r"\midrule")
            lines += [_latex_row([label(results, row), *_cells(results, metric, row)]) for row in block]
    title = _TITLES[metric].replace("²", "$^2$")
    return "\n".join([f"% {title}", *lines, r"\bottomrule", r"\end{tabular}"])


def comparison_table(results: dict) -> str:
    """Ours, then the published rows, each with the kind of its number: mean of actions under protocols 1 and 2."""
    choices = results["choices"]
    means = results["scenes"][MEAN_OF_ACTIONS]
    source = "projected truth" if choices["2D source"] == "projected" else "detected"
    prompt = ", label" if "given label" in str(choices["prompt condition"]) else ""
    lines = [
        [
            f"{choices['run']}: {about['title']}",
            source,
            f"{about['kind']}{prompt}",
            str(choices["window frames"]),
            number(means["mpjpe"][row]),
            number(means["p_mpjpe"][row]),
            "this evaluation",
        ]
        for row, about in results["aggregations"].items()
    ]
    lines += [
        [p.method, p.input_2d, p.kind, str(p.window), number(p.mpjpe), number(p.p_mpjpe), p.source] for p in PUBLISHED
    ]
    return table(["Method", "2D", "Kind of number", "N", "MPJPE", "P-MPJPE", "Source"], lines, text_columns=3)


def _headings(results: dict) -> list[str]:
    return [*(about.heading for action, about in ACTIONS.items() if action in results["scenes"]), AVERAGE, FRAMES]


def _cells(results: dict, metric: str, row: str) -> list[str]:
    """Numbers of the actions, their mean, and that of all frames."""
    scenes = [*(action for action in ACTIONS if action in results["scenes"]), MEAN_OF_ACTIONS, ALL_FRAMES]
    decimals = 2 if metric in _TWO_DECIMALS else 1
    return [number(results["scenes"][scene][metric][row], decimals) for scene in scenes]


def _reading_help(results: dict) -> str:
    choices, headline = results["choices"], results["headline"]
    interval = results["interval"]["metrics"]["mpjpe"][headline]
    actions = len(_headings(results)) - 2
    text = (
        f"{AVERAGE} is the unweighted mean of the {actions} actions, the literature's number; '{FRAMES}' the mean of "
        f"all frames, which is another. Scored: {results['completeness']}. Frames: {choices['frames']}. Poses are "
        f"root-relative in the frame of each camera; joints compared: {choices['joints compared']}, the root with its "
        "error of 0. No truth enters a row called deployable. P-MPJPE: after the best similarity transform of each "
        f"frame, reflections excluded; where J-Agg and the oracles choose, {choices['P-MPJPE and N-MPJPE']}. MPJVE: "
        "over consecutive frames."
    )
    if interval is not None:
        confidence = results["interval"]["confidence"]
        text += (
            f" {confidence:.0%} bootstrap interval of the first row's {AVERAGE} over takes (resampled within each "
            f"action): {interval[0]:.1f} to {interval[1]:.1f}."
        )
    if choices["joints left out"] != "none":
        text += " **Not all 17 joints are scored: nothing here compares with a published number.**"
    return text


def _published_note() -> str:
    return (
        "Single: one pose per frame. Deployable: several hypotheses, one made of them without the truth. True root: "
        "chosen with the person's true position. Oracle: chosen by the true pose; compare it with oracles alone. "
        "Label: the true action is given at test time. CPN, HRNet and SH are not the same detections. "
        "Published rows count the overlap of the last two windows twice where they come from MixSTE, D3DP and FinePOSE."
    )


def _oracles(results: dict) -> list[str]:
    if not any(about["kind"] == "oracle" for about in results["aggregations"].values()):
        return []
    parts = ["## Oracle: what choosing with the truth at hand could give, not comparable with single predictions"]
    for metric in ("mpjpe", "p_mpjpe"):
        parts += [f"{_TITLES[metric]}:", action_table(results, metric, ("oracle",))]
    return [
        *parts,
        "The papers' P-Best chooses one hypothesis for a whole mini-batch of windows and depends on its size; it is "
        "not given here. Their J-Agg is the row with the true root.",
    ]


def _by_joint(results: dict) -> str:
    headline = results["headline"]
    lines = [[joint.replace("_", " "), number(v)] for joint, v in results["per_joint_mpjpe"][headline].items()]
    return table(["Joint", label(results, headline)], lines)


def _counts(results: dict) -> str:
    names = ("takes", "person-camera tracks", "frames scored", "rows", "joints scored")
    lines = [
        [scene, *(f"{count[name]:,}" for name in names), f"{ACTIONS[scene].poses:,}" if scene in ACTIONS else "543,344"]
        for scene, count in results["counts"].items()
    ]
    header = ["Action", "Takes", "Tracks", "Poses", "Rows counted", "Joints", "Poses of the test set"]
    return table(header, lines)


def _defects(results: dict) -> str:
    found = results["known defects"]
    if not found:
        return "None of those that this protocol knows is marked in the file."
    lines = [
        [each["sequence"], "left out" if each["left out"] else "scored", each["message"].rstrip(".")] for each in found
    ]
    return table(["Take", "Here", "What is known"], lines, text_columns=3)


def _latex_row(cells: list[str]) -> str:
    return " & ".join(cell.replace("%", r"\%").replace("_", r"\_") for cell in cells) + r" \\"
