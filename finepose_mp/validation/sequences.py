"""Between sequences: leaks across splits, the same poses or the same source twice, frame rates."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from finepose_mp.validation.findings import ERROR, INFO, WARNING, Finding, Findings, some
from finepose_mp.validation.take import Take

# Such names number the glasses of every recording anew: the same name is no sign of the same person.
_DEVICE_NAME = re.compile(r"aria\d+")

_FEWEST_SHARED = 5  # poses; fewer could be a person at rest
_FEWEST_FILES = 4  # digests of raw files and folders of frames
_SPLITS = ("split", "split_within_scene")
_MIXER = np.random.default_rng(0).integers(1, 2**63, 3 * 1024, dtype=np.uint64) | np.uint64(1)


@dataclass
class _Summary:
    """What is remembered about a sequence: some 16 bytes a pose, and words."""

    name: str
    frame: np.ndarray
    poses: np.ndarray  # fingerprints (N,) of 3D poses
    when: np.ndarray  # (N,) index of each one's frame
    attributes: dict
    sources: frozenset[str]  # digests of the raw files


class Sequences:
    """All sequences of a file, one after the other, and then what they have in common."""

    def __init__(self) -> None:
        self.seen: list[_Summary] = []

    def add(self, take: Take) -> None:
        """Remembers a sequence. Raises DamagedDataError."""
        poses, when = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for block in take.blocks() if take.has("joints_3d_world") else ():
            prints, frames = _fingerprints(take.read("joints_3d_world", block))
            poses.append(prints)
            when.append(frames + block.start)
        files = take.attributes.get("source_files", {}).values()
        sources = frozenset(str(file.get("sha256")) for file in files if isinstance(file, dict) and file.get("sha256"))
        words = {key: take.attributes.get(key) for key in (*_SPLITS, "subjects", "fps")}
        self.seen.append(_Summary(take.name, take.frame, np.concatenate(poses), np.concatenate(when), words, sources))

    def findings(self) -> list[Finding]:
        """Findings about pairs of sequences and about the whole file."""
        pairs = _sharing_poses(self.seen)
        found = [_copy(self.seen[a], self.seen[b]) for a, b in pairs]
        found += [
            _same_source(self.seen[a], self.seen[b]) for a, b in _sharing_sources(self.seen) if (a, b) not in pairs
        ]
        return found + _shared_subjects(self.seen) + _frame_rates(self.seen)


def _fingerprints(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints (N,) of the poses (T, P, J, 3) of which most joints are known, and their frames (N,)."""
    known = np.isfinite(joints).all(axis=-1)
    frame, person = np.nonzero(known.sum(axis=-1) * 2 > known.shape[-1])
    poses = np.where(known[..., None], joints, 0).astype("<f4")[frame, person]
    bits = np.ascontiguousarray(poses.reshape(len(poses), 3 * known.shape[-1])).view("<u4").astype(np.uint64)
    mixed = bits * _MIXER[: bits.shape[1]]  # wraps around
    return (mixed ^ (mixed >> np.uint64(31))).sum(axis=1, dtype=np.uint64), frame


def _sharing_poses(seen: list[_Summary]) -> list[tuple[int, int]]:
    """Pairs of sequences that have poses in common, to the last bit."""
    own = [np.unique(summary.poses) for summary in seen]
    prints = np.concatenate([np.zeros(0, np.uint64), *own])
    owner = np.repeat(np.arange(len(seen)), [len(poses) for poses in own])
    order = np.lexsort((owner, prints))
    prints, owner = prints[order], owner[order]
    is_first = np.concatenate([np.ones(min(len(prints), 1), bool), prints[1:] != prints[:-1]])
    first_owner = owner[np.maximum.accumulate(np.where(is_first, np.arange(len(prints)), 0))]
    pairs = np.stack([first_owner, owner], axis=1)[~is_first]
    pairs, counts = np.unique(pairs, axis=0, return_counts=True)
    return [(int(a), int(b)) for (a, b), count in zip(pairs, counts, strict=True) if count >= _FEWEST_SHARED]


def _copy(one: _Summary, other: _Summary) -> Finding:
    shared = np.isin(other.poses, one.poses)
    at = np.zeros(len(other.frame), bool)
    at[other.when[shared]] = True
    leak = _splits_apart(one, other)
    message = f"the same poses as in {one.name}" + (f", which is on another side of {leak}" if leak else "")
    expected = "no frame on two sides of a split" if leak else "every recording once"
    notes = Findings(other.name, other.frame)
    found = f"{shared.sum()} poses in common"
    notes.add("leak" if leak else "duplicate", ERROR if leak else WARNING, message, expected, found,
              variable="joints_3d_world", at=at)  # fmt: skip
    return notes.items[0]


def _splits_apart(one: _Summary, other: _Summary) -> str:
    """The splits that put two sequences on different sides, in words."""
    apart = [name for name in _SPLITS if one.attributes[name] != other.attributes[name]]
    return " and ".join(f"{name} ({one.attributes[name]}, {other.attributes[name]})" for name in apart)


def _sharing_sources(seen: list[_Summary]) -> list[tuple[int, int]]:
    """Pairs of sequences made from the very same files; few files could be an archive of several sequences."""
    first: dict[frozenset[str], int] = {}
    pairs = []
    for i, summary in enumerate(seen):
        if len(summary.sources) >= _FEWEST_FILES and first.setdefault(summary.sources, i) != i:
            pairs.append((first[summary.sources], i))
    return pairs


def _same_source(one: _Summary, other: _Summary) -> Finding:
    leak = _splits_apart(one, other)
    message = f"made from the very same raw files as {one.name}" + (f", on another side of {leak}" if leak else "")
    expected = "no take on two sides of a split" if leak else "every take once"
    check, severity = ("leak", ERROR) if leak else ("duplicate", WARNING)
    return Finding(check, severity, other.name, message, expected, variable="source_files")


def _shared_subjects(seen: list[_Summary]) -> list[Finding]:
    """People whom the official split has on both sides: a test that knows them measures too well."""
    sides: dict[str, dict[bool, list[str]]] = defaultdict(lambda: {False: [], True: []})
    for summary in seen:
        subjects, split = summary.attributes["subjects"], summary.attributes["split"]
        for subject in subjects if isinstance(subjects, list) and split else ():
            sides[str(subject)][split == "test"].append(summary.name)
    found = []
    for subject, names in sorted(sides.items()):
        if names[False] and names[True] and not _DEVICE_NAME.fullmatch(subject):
            where = f"{some(names[False], 3)} (train or val); {some(names[True], 3)} (test)"
            message = f"subject {subject} is on both sides of the official split"
            found.append(Finding("leak", WARNING, "/", message, "test subjects that training never sees", where))
    return found


def _frame_rates(seen: list[_Summary]) -> list[Finding]:
    rates = Counter(summary.attributes["fps"] for summary in seen)
    if len(rates) < 2:
        return []
    text = ", ".join(f"{rate} ({count} sequences)" for rate, count in rates.most_common(5))
    return [Finding("fps", INFO, "/", "sequences of several frame rates", "", text)]
