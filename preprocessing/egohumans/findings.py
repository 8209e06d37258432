"""Findings: what a converter noticed about a take and did not hide, kept as plain dictionaries for the report."""

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
    ) -> None:
        """Adds one finding.

        Args:
            check: what was looked at, one word or two ("frames", "exo_camera").
            severity: "info" (good to know), "warning" (look at it) or "error" (something had to be left out).
            message: a sentence with the numbers in it.
            camera, person: where it applies, if anywhere in particular.
            frames: source frame numbers it applies to; stored as runs [first, last].
        """
        if severity not in SEVERITIES:
            raise ValueError(f"severity {severity!r}, expected one of {', '.join(SEVERITIES)}")
        finding: dict = {"check": check, "severity": severity, "message": message}
        if camera is not None:
            finding["camera"] = camera
        if person is not None:
            finding["person"] = person
        if frames is not None:
            numbers = sorted({int(number) for number in frames})
            finding |= {"frame_count": len(numbers), "frames": runs(numbers)[:_MAX_RUNS]}
        self.items.append(finding)


def runs(numbers: list[int]) -> list[list[int]]:
    """Sorted numbers as runs [first, last] of consecutive ones."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
