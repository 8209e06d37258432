"""Several results side by side: one checkpoint under several prompts, or several runs on the same takes."""

from collections.abc import Mapping

from finepose_mp.evaluation.scoring import EvaluationError
from finepose_mp.evaluation.tables import number, table, title

# What must agree for rows to stand in one table.
SAME = (
    *("protocol", "data file", "data sha256", "split", "split scheme", "camera kinds", "person in view"),
    *("joint set", "joints left out", "joints scored", "frame rate (Hz)", "frames"),
)
_OF_THE_RUN = {"person in view", "joint set"}  # where a protocol has its own valid frames and scores joints by name
# What identifies a row, or says nothing about how it was measured.
_OF_THE_ROW = {"checkpoint sha256", "options", "versions", "training takes", "bootstrap samples", "seed"}


def compare(results: Mapping[str, dict], metric: str = "mpjpe") -> str:
    """A Markdown table of one metric: a row for each result's headline and its best-of oracle, scenes as columns.

    Below it stands every choice in which the results differ: what a reader has to know before preferring a row.

    Args:
        results: contents of results.json by the name of the row.
        metric: one of the results' metrics.

    Raises:
        EvaluationError: other data, split, joints or frames scored; the message says what is compared with what.
    """
    first_name, first = next(iter(results.items()))
    for name, each in results.items():
        for choice in SAME:
            if choice in _OF_THE_RUN and first["choices"].get("protocol") == "mpi-inf-3dhp":
                continue
            expected, found = _choice(first, choice), _choice(each, choice)
            if found != expected:
                raise EvaluationError(
                    f"{choice} of {name} is {found}, of {first_name} {expected}: their numbers do not compare; "
                    "evaluate both on the same takes, joints and frames"
                )
        if metric not in each["metrics"]:
            raise EvaluationError(f"{name} has no metric {metric!r}; it has {', '.join(each['metrics'])}")
    scenes = list(first["scenes"])
    lines = [
        [name, f"{about['title']}: {about['kind']}", *(number(each["scenes"][s][metric].get(row)) for s in scenes)]
        for name, each in results.items()
        for row, about in each["aggregations"].items()
        if row in (each["headline"], "oracle_j_best")
    ]
    about = first["metrics"][metric]
    heading = f"{about['title']} ({about['unit']})"
    parts = [table([heading, "", *map(title, scenes)], lines, text_columns=2), _differences(results)]
    return "\n\n".join(part for part in parts if part)


def _differences(results: Mapping[str, dict]) -> str:
    names = {name for each in results.values() for name in each["choices"]} - _OF_THE_ROW
    rows = []
    for name in sorted(names):
        values = [str(each["choices"].get(name, "-")) for each in results.values()]
        if len(set(values)) > 1:
            rows.append([name, *values])
    return table(["They differ in", *results], rows, text_columns=1 + len(results)) if rows else ""


def _choice(results: dict, name: str) -> object:
    return results["protocol"] if name == "protocol" else results["choices"].get(name)
