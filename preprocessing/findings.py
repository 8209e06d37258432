"""Findings: what a converter noticed about a sequence and did not hide, as plain dictionaries for file and report."""

from collections.abc import Iterable

SEVERITIES = ("info", "warning", "error")

# A finding names at most this many runs of frames; the count of all its frames is always kept.
_MAX_RUNS = 20


class Findings:
    """A growing list of findings, each a dictionary with check, severity, message and where it applies."""

    def __init__(self) -> None:
        self.items: list[dict] = []

    def add(
        self,
        check: str,
        severity: str,
        message: str,
        *,
        camera: str | None = None,
        person: str | None = None,
        frames: Iterable[int] | None = None,
        expected: object = None,
        found: object = None,
    ) -> None:
        """Adds one finding.

        Args:
            check: its stable name, one that the dataset's table of checks (`CHECKS`) explains.
            severity: "info" (good to know), "warning" (look at it) or "error" (something had to be left out).
            message: a sentence with the numbers in it.
            camera, person: where it applies, if anywhere in particular.
            frames: source frame numbers it applies to; stored as runs [first, last].
            expected, found: the same numbers for programs: a number, a text, or a dictionary of them (JSON).
        """
        if severity not in SEVERITIES:
            raise ValueError(f"severity {severity!r}, expected one of {', '.join(SEVERITIES)}")
        text = message.encode(errors="backslashreplace").decode()  # names from a pickle may be no Unicode
        finding: dict = {"check": check, "severity": severity, "message": text}
        where_and_what = {"camera": camera, "person": person, "expected": expected, "found": found}
        finding |= {key: value for key, value in where_and_what.items() if value is not None}
        if frames is not None:
            numbers = sorted({int(number) for number in frames})
            finding |= {"frame_count": len(numbers), "frames": runs(numbers)[:_MAX_RUNS]}
        self.items.append(finding)


def report_unreadable(
    check: str, damaged: dict[int, str], findings: Findings, *, camera: str | None = None, person: str | None = None
) -> None:
    """Adds one finding for all files of a folder that could not be read, given what was wrong by frame number."""
    if damaged:
        message = (
            f"{count_of(len(damaged), 'unreadable file')} left out; first: {damaged[min(damaged)]}. "
            "Unpack or download it again; should it be the same then, it is damaged at its source"
        )
        findings.add(check, "error", message, camera=camera, person=person, frames=damaged, found=len(damaged))


def count_of(number: int, thing: str) -> str:
    """A number with its noun: "1 file", "3 files"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def runs(numbers: list[int]) -> list[list[int]]:
    """Sorted numbers as runs [first, last] of consecutive ones."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
