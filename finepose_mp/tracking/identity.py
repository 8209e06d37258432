"""How well tracks keep people apart: IDF1, identity switches and fragmentation against known identities.

Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking" (ECCV workshops 2016) for
IDF1; Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics" (2008) for
the matching of frame by frame, in which a match of the frame before is kept while it is possible.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

_IMPOSSIBLE = 1e9


@dataclass(frozen=True)
class FrameIdentities:
    """True and given identities of one frame, and which could be the same person.

    `distance` (n true, m given) in any unit, NaN where a pair is too far apart to be the same person.
    """

    true: Sequence[Hashable]
    given: Sequence[Hashable]
    distance: np.ndarray


@dataclass(frozen=True)
class IdentityScores:
    """Counts over all frames, and the scores that follow from them. NaN where there is nothing to score."""

    true_positives: int
    false_positives: int
    false_negatives: int
    switches: int
    fragmentations: int

    @property
    def idf1(self) -> float:
        """F1 of identities under the best one-to-one matching of true people and tracks: 2 IDTP / (2 IDTP + ...)."""
        total = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / total if total else float("nan")

    @property
    def precision(self) -> float:
        """Part of what tracks hold that belongs to the true person of the track."""
        held = self.true_positives + self.false_positives
        return self.true_positives / held if held else float("nan")

    @property
    def recall(self) -> float:
        """Part of what was to be found that is in the track of its person."""
        wanted = self.true_positives + self.false_negatives
        return self.true_positives / wanted if wanted else float("nan")


def identity_scores(frames: Iterable[FrameIdentities]) -> IdentityScores:
    """IDF1's counts, identity switches and fragmentations of tracks against known identities.

    A switch is counted when a true person is matched with another track than at the previous match, a fragmentation
    when a person who was matched is not, and is again later.
    """
    frames = list(frames)
    positives, wanted, held = _global_matches(frames)
    switches, fragmentations = _switches_and_fragmentations(frames)
    return IdentityScores(positives, held - positives, wanted - positives, switches, fragmentations)


def _global_matches(frames: list[FrameIdentities]) -> tuple[int, int, int]:
    """Frames in which the best one-to-one matching of people and tracks holds, of all people, of all tracks."""
    true = {identity: i for i, identity in enumerate(dict.fromkeys(i for f in frames for i in f.true))}
    given = {identity: i for i, identity in enumerate(dict.fromkeys(i for f in frames for i in f.given))}
    together = np.zeros((len(true), len(given)), int)
    for frame in frames:
        rows, columns = np.nonzero(np.isfinite(np.reshape(frame.distance, (len(frame.true), len(frame.given)))))
        for row, column in zip(rows, columns, strict=True):
            together[true[frame.true[row]], given[frame.given[column]]] += 1
    best = together[linear_sum_assignment(together, maximize=True)].sum()
    return int(best), sum(len(f.true) for f in frames), sum(len(f.given) for f in frames)


def _switches_and_fragmentations(frames: list[FrameIdentities]) -> tuple[int, int]:
    last_match: dict[Hashable, Hashable] = {}
    lost: set[Hashable] = set()
    switches = fragmentations = 0
    for frame in frames:
        matched = _match(frame, last_match)
        for person in frame.true:
            if person not in matched:
                lost |= {person} & last_match.keys()
                continue
            switches += person in last_match and last_match[person] != matched[person]
            fragmentations += person in lost
            lost.discard(person)
            last_match[person] = matched[person]
    return switches, fragmentations


def _match(frame: FrameIdentities, last_match: dict) -> dict:
    """True person -> track of one frame: earlier matches that are still possible, then the nearest."""
    distance = np.reshape(np.array(frame.distance, float), (len(frame.true), len(frame.given)))
    matched = {}
    columns = {identity: column for column, identity in enumerate(frame.given)}
    for row, person in enumerate(frame.true):
        column = columns.get(last_match.get(person))
        if column is not None and np.isfinite(distance[row, column]):
            matched[person] = frame.given[column]
            distance[row], distance[:, column] = np.nan, np.nan
    cost = np.where(np.isfinite(distance), distance, _IMPOSSIBLE)
    for row, column in zip(*linear_sum_assignment(cost), strict=True):
        if np.isfinite(distance[row, column]):
            matched[frame.true[row]] = frame.given[column]
    return matched


def total_scores(scores: Iterable[IdentityScores]) -> IdentityScores:
    """Scores of several cameras or takes together: their counts added up."""
    counts = [tuple(vars(score).values()) for score in scores]
    return IdentityScores(*(sum(column) for column in zip(*counts, strict=True)))
