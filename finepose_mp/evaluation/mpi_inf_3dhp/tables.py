"""Results of the MPI-INF-3DHP protocol as tables in the literature's order, for Markdown and LaTeX."""

from typing import NamedTuple

from finepose_mp.evaluation.mpi_inf_3dhp.protocol import ALL_FRAMES, MEAN_OF_SEQUENCES, METRIC, UNIVERSAL
from finepose_mp.evaluation.mpi_inf_3dhp.scores import JOINT_GROUPS
from finepose_mp.evaluation.tables import choices_table, label, number, simulation_warning, table
from finepose_mp.skeletons import MPI17

_TRUTHS = {METRIC: "metric poses (annot3)", UNIVERSAL: "universal skeleton (univ_annot3)"}
_AVERAGES = {MEAN_OF_SEQUENCES: "mean of sequences", ALL_FRAMES: "all frames"}
_FAIR = ("deployable", "baseline")
_SHORT = {"p_agg": "P-Agg", "single": "single", "oracle_j_best": "oracle: J-Best"}
_TEST_SEQUENCES = 6
_ALL_VALID_FRAMES = 2875


class Published(NamedTuple):
    """A row of the literature: what its numbers are, the truth and the average they refer to, and where they stand."""

    method: str
    window: int  # frames
    kind: str
    truth: str
    average: str
    pck: float
    auc: float
    mpjpe: float
    source: str


_FP3 = "FinePOSE, table 3"
_CSV = "computed from D3DP's released result files"
_WEIGHTED = "frames, by the README's counts"
_ORACLE = "oracle: J-Best"
_SEMI = "J-Agg with the true root"

# 2D input is the dataset's annotation in all of them.
PUBLISHED = (
    Published("MixSTE", 27, "single", UNIVERSAL, "not stated", 94.4, 66.5, 54.9, _FP3),
    Published("P-STMO", 81, "single", UNIVERSAL, _WEIGHTED, 97.9, 75.8, 32.2, _FP3),
    Published("DiffPose", 81, "single", UNIVERSAL, "not stated", 98.0, 75.9, 29.1, _FP3),
    Published("PoseFormerV2", 81, "single", UNIVERSAL, "not stated", 97.9, 78.8, 27.8, _FP3),
    Published("GLA-GCN", 81, "single", UNIVERSAL, "not stated", 98.5, 79.1, 27.8, _FP3),
    Published("D3DP, 20 hypotheses", 243, "P-Agg", METRIC, MEAN_OF_SEQUENCES, 97.69, 78.02, 30.05, _CSV),
    Published("D3DP, 20 hypotheses", 243, _SEMI, METRIC, MEAN_OF_SEQUENCES, 97.72, 78.11, 29.77, _CSV),
    Published("D3DP, 20 hypotheses", 243, _SEMI, METRIC, ALL_FRAMES, 98.05, 78.85, 28.68, _CSV),
    Published("D3DP, 20 hypotheses", 243, _ORACLE, METRIC, MEAN_OF_SEQUENCES, 98.07, 79.12, 28.23, _CSV),
    Published("FinePOSE, 20 hypotheses", 243, _ORACLE, METRIC, MEAN_OF_SEQUENCES, 98.9, 80.0, 26.2, _FP3),
)


def render(results: dict) -> str:
    """The whole report in Markdown, from the contents of results.json."""
    choices, headline = results["choices"], results["headline"]
    title = results["aggregations"][headline]["title"]
    parts = [
        f"# {choices['run']} on {choices['data file']} ({choices['split']} split), MPI-INF-3DHP protocol",
        simulation_warning(results),
    ]
    for truth in results["truths"]:
        parts += [f"## PCK, AUC and MPJPE against {_TRUTHS[truth]}", _own_table(results, truth, _FAIR)]
        if truth == results["headline_truth"]:
            parts.append(_reading_help(results))
    parts += ["## Beside published numbers", _comparison(results), _published_note(results), *_oracles(results)]
    for truth in results["truths"]:
        numbers = results["truths"][truth][headline]
        parts += [f"## {title}, {_TRUTHS[truth]}: by sequence", _by_rows(numbers["sequence"])]
        if "activity" in numbers:
            parts += [f"## {title}, {_TRUTHS[truth]}: by activity", _by_rows(numbers["activity"])]
        else:
            parts.append("By activity: the file does not say which activity a frame shows.")
        parts += [f"## {title}, {_TRUTHS[truth]}: by joint", _by_joint(numbers["all"]["All"])]
    parts += [
        "## For a LaTeX document",
        f"```latex\n{latex_table(results)}\n```",
        "## Counts",
        _counts(results),
        "## Every choice that changes a number",
        choices_table(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def headline_table(results: dict) -> str:
    """PCK, AUC and MPJPE of every row that needs no truth, in both averages, against the headline's truth."""
    return _own_table(results, results["headline_truth"], _FAIR)


def latex_table(results: dict) -> str:
    """Published rows and ours below them as a LaTeX table (booktabs) that says what kind each number is."""
    lines = _comparison_rows(results)
    return "\n".join(
        [
            r"\begin{tabular}{llllrrrr}",
            r"\toprule",
            r"Method & Kind & Truth & Average & $N$ & PCK$\uparrow$ & AUC$\uparrow$ & MPJPE$\downarrow$ \\",
            r"\midrule",
            *(_latex_row([*line[:2], *line[3:]]) for line in lines[: len(PUBLISHED)]),
            r"\midrule",
            *(_latex_row([*line[:2], *line[3:]]) for line in lines[len(PUBLISHED) :]),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _own_table(results: dict, truth: str, kinds: tuple[str, ...]) -> str:
    """Rows of some kinds against one truth: PCK, AUC and MPJPE as mean of sequences and over all frames."""
    columns = [f"{name}, {average}" for average in _AVERAGES.values() for name in ("PCK", "AUC", "MPJPE (mm)")]
    lines = [
        [label(results, row), *_three(of_row[MEAN_OF_SEQUENCES]), *_three(of_row[ALL_FRAMES])]
        for row, about in results["aggregations"].items()
        if about["kind"] in kinds
        for of_row in [results["truths"][truth][row]]
    ]
    return table(["", *columns], lines)


def _oracles(results: dict) -> list[str]:
    if not any(about["kind"] == "oracle" for about in results["aggregations"].values()):
        return []
    parts = ["## Oracle: what choosing with the truth at hand could give, not comparable with single predictions"]
    for truth in results["truths"]:
        parts += [f"Against {_TRUTHS[truth]}:", _own_table(results, truth, ("oracle",))]
    return parts


def _comparison(results: dict) -> str:
    header = ["Method", "Kind of number", "Source", "Truth", "Average", "N", "PCK", "AUC", "MPJPE (mm)"]
    return table(header, _comparison_rows(results), text_columns=5)


def _comparison_rows(results: dict) -> list[list[str]]:
    """The published rows, then ours: the headline and, of several hypotheses, the oracle that papers report."""
    lines = [
        [
            p.method,
            p.kind,
            p.source,
            p.truth,
            p.average,
            str(p.window),
            f"{p.pck:.1f}",
            f"{p.auc:.1f}",
            f"{p.mpjpe:.1f}",
        ]
        for p in PUBLISHED
    ]
    run, window = results["choices"]["run"], str(results["choices"]["window frames"])
    for truth, of_rows in results["truths"].items():
        for row in (results["headline"], "oracle_j_best"):
            for average in (MEAN_OF_SEQUENCES, ALL_FRAMES) if row in of_rows else ():
                kind = _SHORT.get(row, row)
                lines.append([run, kind, "this evaluation", truth, average, window, *_three(of_rows[row][average])])
    return lines


def _three(numbers: dict) -> list[str]:
    return [number(numbers[metric]) for metric in ("pck", "auc", "mpjpe")]


def _reading_help(results: dict) -> str:
    joints = results["joints scored"]
    text = (
        f"The headline is the first row: {results['headline_truth']} truth. Root-relative, no alignment; PCK below "
        "150 mm and AUC over 0, 5, ..., 150 mm (at most 96.8) over 14 joints, MPJPE over 17 with the pelvis, whose "
        "error is 0. "
    )
    if len(joints) < len(MPI17):
        text += (
            f"Model and data share {len(joints)} of 17 joints by name ({', '.join(joints)}); only these are scored, so "
            "no number here compares with a published one. "
        )
    if len(results["truths"]) == 1:
        other = METRIC if results["headline_truth"] == UNIVERSAL else UNIVERSAL
        text += f"The file has no {other} poses. "
    for what, name in (("prediction", "not lifted"), ("3D pose", "without a 3D pose")):
        absent = sum(counts[f"valid frames {name}"] for counts in results["counts"].values())
        if absent:
            text += f"**{absent} valid frames have no {what} and are not scored.** "
    unscored = [sequence for sequence, counts in results["counts"].items() if not counts["frames scored"]]
    if unscored:
        text += f"**{', '.join(unscored)}: no frame to score; in no average.** "
    return text.strip()


def _published_note(results: dict) -> str:
    of_sequences = [counts["frames scored"] for counts in results["counts"].values() if counts["frames scored"]]
    frames = sum(of_sequences)
    text = (
        "An oracle row chooses among hypotheses by the truth and compares with oracle rows alone; J-Agg with the true "
        "root is told where the person is. Truths differ by up to 5 % in size, averages by over 1 mm: compare within "
        "one of each. Numbers of the two truths come from models trained on that same truth."
    )
    if len(of_sequences) < _TEST_SEQUENCES or frames != _ALL_VALID_FRAMES:
        text += (
            f" **Here {len(of_sequences)} of {_TEST_SEQUENCES} test sequences with {frames:,} of "
            f"{_ALL_VALID_FRAMES:,} valid frames were scored: nothing here compares with the published rows.**"
        )
    return text


def _by_rows(rows: dict[str, dict]) -> str:
    header = ["", "Frames", *(f"PCK {group}" for group in JOINT_GROUPS), "PCK", "AUC", "MPJPE (mm)"]
    lines = [
        [name, f"{numbers['frames']:,}", *map(number, numbers["pck by group"]), *_three(numbers)]
        for name, numbers in rows.items()
    ]
    return table(header, lines)


def _by_joint(numbers: dict) -> str:
    groups = table(
        ["All frames", *JOINT_GROUPS, "Total"],
        [
            ["PCK", *map(number, numbers["pck by group"]), number(numbers["pck"])],
            ["AUC", *map(number, numbers["auc by group"]), number(numbers["auc"])],
        ],
    )
    joints = [name.replace("_", " ") for name in MPI17.joints]
    errors = [[name, number(value)] for name, value in zip(joints, numbers["mpjpe by joint"], strict=True)]
    return f"{groups}\n\n{table(['Joint', 'MPJPE (mm)'], [*errors, ['Average', number(numbers['mpjpe'])]])}"


def _counts(results: dict) -> str:
    names = list(next(iter(results["counts"].values())))
    lines = [[name, *(f"{counts[name]:,}" for counts in results["counts"].values())] for name in names]
    return table(["", *results["counts"]], lines)


def _latex_row(cells: list[str]) -> str:
    return " & ".join(cell.replace("%", r"\%").replace("_", r"\_") for cell in cells) + r" \\"
