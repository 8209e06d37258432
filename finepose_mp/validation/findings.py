"""Findings of the validator: what was expected and what was found, and exactly where."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

INFO, WARNING, ERROR = "info", "warning", "error"

# A finding names at most this many runs of frames; `frame_count` always counts all of them.
_MAX_RUNS = 20


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    `check` is a word or two; `severity` "info" (good to know), "warning" (look at it) or "error" (the contract is
    broken, or the numbers contradict each other). `group`, `variable`, `camera` and `person` are empty where the
    finding is about no one in particular; `frames` are runs (first, last) of source frame numbers.
    """

    check: str
    severity: str
    group: str
    message: str
    expected: str = ""
    found: str = ""
    variable: str = ""
    camera: str = ""
    person: str = ""
    frames: tuple[tuple[int, int], ...] = ()
    frame_count: int = 0

    @property
    def where(self) -> str:
        """The place in words: "01_tagging/001_tagging/in_view, camera cam01, person aria02, frames 3-7 (5)"."""
        parts = ["/".join(filter(None, (self.group.strip("/"), self.variable))) or "/"]
        parts += [f"camera {self.camera}"] * bool(self.camera) + [f"person {self.person}"] * bool(self.person)
        if self.frames:
            shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in self.frames[:4])
            more = ", ..." if len(self.frames) > 4 else ""
            parts.append(f"frames {shown}{more} ({self.frame_count})")
        return ", ".join(parts)

    def __str__(self) -> str:
        text = f"{self.severity}: {self.where}: {self.message}"
        if self.expected:
            text += f"; expected {self.expected}"
        return text + (f", found {self.found}" if self.found else "")


class Findings:
    """A growing list of findings about one group; `frame` (T,) holds the source's numbers of its frames."""

    def __init__(self, group: str, frame: np.ndarray | None = None) -> None:
        self.group, self.frame = group, frame
        self.items: list[Finding] = []

    def add(
        self,
        check: str,
        severity: str,
        message: str,
        expected: str = "",
        found: str = "",
        *,
        at: np.ndarray | None = None,
        **where: str,
    ) -> None:
        """Adds one finding; `at` is a mask (T,) of the frames it is about, `where` has variable, camera, person."""
        frames, count = (), 0
        if at is not None and self.frame is not None:
            frames, count = _runs(at, self.frame), int(np.count_nonzero(at))
        self.items.append(
            Finding(check, severity, self.group, message, expected, found, frames=frames, frame_count=count, **where)
        )


def _runs(at: np.ndarray, frame: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Source numbers (first, last) of the first runs of True in a mask (T,)."""
    padded = np.concatenate([[False], np.asarray(at, bool), [False]])
    starts = np.flatnonzero(~padded[:-1] & padded[1:])[:_MAX_RUNS]
    ends = np.flatnonzero(padded[:-1] & ~padded[1:])[:_MAX_RUNS] - 1
    return tuple((int(frame[a]), int(frame[b])) for a, b in zip(starts, ends, strict=True))


@dataclass
class Report:
    """What validating a file gave.

    `unusable` says why nothing, or not everything, can be read; empty otherwise. `checked` counts sequences, frames,
    people and cameras; `measured` has one entry a camera with its reprojection errors in pixels.
    """

    path: Path
    findings: list[Finding] = field(default_factory=list)
    unusable: str = ""
    checked: Counter = field(default_factory=Counter)
    measured: list[dict] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings by severity."""
        counted = Counter(finding.severity for finding in self.findings)
        return {severity: counted[severity] for severity in (ERROR, WARNING, INFO)}

    @property
    def verdict(self) -> str:
        """ "sound", "findings" (at least a warning) or "unusable"."""
        if self.unusable:
            return "unusable"
        return "findings" if self.counts[ERROR] or self.counts[WARNING] else "sound"

    def as_dict(self) -> dict:
        """Everything, for JSON."""
        return {
            "file": str(self.path),
            "verdict": self.verdict,
            "unusable": self.unusable,
            "checked": dict(self.checked),
            "counts": self.counts,
            "findings": [{k: v for k, v in asdict(f).items() if v not in ("", (), 0)} for f in self.findings],
            "measured": self.measured,
        }


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, and how many more there are, for messages."""
    shown = ", ".join(map(str, names[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
