"""The findings of a conversion as a text for people: what was not converted, what to look at, and how often."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from finepose_mp.files import appearing

SEVERITIES = ("error", "warning", "info")
_TITLES = {"error": "errors", "warning": "warnings", "info": "notes"}
_MAX_RUNS = 6  # of frames in a line


class Converted(Protocol):
    """What became of one sequence: its findings, or the error that it was left out for."""

    name: str
    source: str
    frames: int
    findings: list[dict]
    error: str | None


def report_path(out: Path) -> Path:
    """Where the report of an output lies: data/egohumans.findings.md beside data/egohumans.h5."""
    return out.with_suffix(".findings.md")


def write_report(out: Path, outcomes: Iterable[Converted], checks: Mapping[str, str] | None = None) -> Path:
    """The path of the report that it writes beside `out`, replacing the one of an earlier conversion."""
    path = report_path(out)
    with appearing(path, overwrite=True) as partial:
        # Names of files and people may be no Unicode.
        partial.write_text(findings_report(outcomes, checks), encoding="utf-8", errors="backslashreplace")
    return path


def findings_report(outcomes: Iterable[Converted], checks: Mapping[str, str] | None = None) -> str:
    """Markdown: one line a sequence, sequences that failed, every error and warning, and the checks by name.

    Notes (severity info) are counted only; they are in the converted file, attribute `findings` of every sequence.

    Args:
        outcomes: of all sequences, the failed ones included.
        checks: name of a check -> what it expects, where known.
    """
    outcomes = sorted(outcomes, key=lambda outcome: outcome.name)
    failed = [outcome for outcome in outcomes if outcome.error]
    good = [outcome for outcome in outcomes if not outcome.error]
    parts = [
        "# What the conversion found",
        f"{len(good)} sequences converted, {len(failed)} left out. An error says that something was left out because "
        "it could not be used, a warning that something looks wrong, a note what was measured. Notes are counted here; "
        "with all their numbers they are in the converted file, attribute `findings` of every sequence.",
        _overview(good),
    ]
    if failed:
        lines = [
            f"* **{_plain(outcome.name)}** ({_plain(outcome.source)}): {_plain(outcome.error)}" for outcome in failed
        ]
        parts += ["## Left out", "\n".join(lines)]
    parts += [text for outcome in good for text in _of_sequence(outcome)]
    parts += ["## Checks", _of_checks(good, checks or {})]
    return "\n\n".join(parts) + "\n"


def _overview(outcomes: list[Converted]) -> str:
    rows = []
    for outcome in outcomes:
        counts = Counter(finding["severity"] for finding in outcome.findings)
        rows.append([_plain(outcome.name), outcome.frames, *(counts[severity] for severity in SEVERITIES)])
    return _table(["sequence", "frames", *_TITLES.values()], rows)


def _of_sequence(outcome: Converted) -> list[str]:
    """Heading and table of one sequence's errors and warnings; nothing where there are none."""
    rows = [
        [severity, finding["check"], _where(finding), _plain(finding["message"])]
        for severity in SEVERITIES[:2]
        for finding in outcome.findings
        if finding["severity"] == severity
    ]
    return [f"## {_plain(outcome.name)}", _table(["", "check", "where", "found"], rows)] if rows else []


def _where(finding: dict) -> str:
    """Camera, person and frames of a finding in words."""
    parts = [str(finding[key]) for key in ("camera", "person") if key in finding]
    if finding.get("frames"):
        runs = [str(first) if first == last else f"{first}-{last}" for first, last in finding["frames"]]
        shown = ", ".join(runs[:_MAX_RUNS]) + (", ..." if len(runs) > _MAX_RUNS else "")
        parts.append(f"frames {shown} ({finding['frame_count']})")
    return "; ".join(parts)


def _of_checks(outcomes: list[Converted], checks: Mapping[str, str]) -> str:
    """How many sequences each check had something to say about, those that were silent included."""
    said = {severity: Counter() for severity in SEVERITIES}
    for outcome in outcomes:
        for severity, check in {(finding["severity"], finding["check"]) for finding in outcome.findings}:
            said[severity][check] += 1
    names = sorted({*checks, *(name for counter in said.values() for name in counter)})
    rows = [[name, checks.get(name, ""), *(said[severity][name] for severity in SEVERITIES)] for name in names]
    titles = [f"sequences with {_TITLES[severity]}" for severity in SEVERITIES]
    return _table(["check", "what it expects", *titles], rows)


def _table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text that stays in one cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")
