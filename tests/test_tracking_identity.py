"""Identity scores against cases done by hand and against motmetrics."""

import numpy as np
import pytest

from finepose_mp.tracking import FrameIdentities, identity_scores, total_scores


def frames(*rows):
    """Frames from texts like "a1 b2 c. .3": person a in track 1, b in 2, c in none, a track 3 with nobody."""
    result = []
    for row in rows:
        pairs = row.split()
        true, given = [p[0] for p in pairs if p[0] != "."], [p[1] for p in pairs if p[1] != "."]
        distance = np.full((len(true), len(given)), np.nan)
        for person, number in (p for p in pairs if "." not in p):
            distance[true.index(person), given.index(number)] = 0
        result.append(FrameIdentities(true, given, distance))
    return result


def test_perfect():
    scores = identity_scores(frames("a1 b2", "a1 b2"))
    assert (scores.idf1, scores.precision, scores.recall, scores.switches) == (1, 1, 1, 0)


def test_a_swap_half_way_counts_once_for_each():
    scores = identity_scores(frames("a1 b2", "a1 b2", "a2 b1", "a2 b1"))
    assert scores.idf1 == 0.5
    assert scores.switches == 2


def test_a_track_split_in_two_keeps_the_longer_part():
    scores = identity_scores(frames("a1", "a1", "a1", "a2"))
    assert (scores.true_positives, scores.false_positives, scores.false_negatives) == (3, 1, 1)
    assert scores.switches == 1


def test_a_gap_is_a_fragmentation_and_no_switch():
    scores = identity_scores(frames("a1", "a.", "a1", "a.", "a."))
    assert (scores.fragmentations, scores.switches) == (1, 0)
    assert scores.recall == pytest.approx(0.4)


def test_nothing_to_score():
    assert np.isnan(identity_scores([]).idf1)
    assert identity_scores(frames(".1", ".1")).idf1 == 0


def test_scores_add_up():
    one, other = identity_scores(frames("a1", "a2")), identity_scores(frames("a1 b2"))
    assert total_scores([one, other]).true_positives == 3
    assert total_scores([one, other]).switches == 1


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_motmetrics(seed):
    motmetrics = pytest.importorskip("motmetrics")
    random = np.random.default_rng(seed)
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    made = []
    for _ in range(60):
        true = random.permutation(5)[: random.integers(0, 6)].tolist()
        given = random.permutation(6)[: random.integers(0, 7)].tolist()
        near = np.array([[person == track for track in given] for person in true], bool).reshape(len(true), len(given))
        possible = (near & (random.random(near.shape) > 0.2)) | (random.random(near.shape) > 0.85)
        distance = np.where(possible, random.random(near.shape), np.nan)
        accumulator.update(true, given, distance)
        made.append(FrameIdentities(true, given, distance))
    expected = motmetrics.metrics.create().compute(
        accumulator, metrics=["idf1", "idtp", "idfp", "idfn", "num_switches", "num_fragmentations"]
    ).iloc[0]  # fmt: skip
    scores = identity_scores(made)
    assert scores.idf1 == pytest.approx(expected["idf1"])
    assert scores.true_positives == expected["idtp"]
    assert scores.false_positives == expected["idfp"]
    assert scores.false_negatives == expected["idfn"]
    assert scores.switches == expected["num_switches"]
    assert scores.fragmentations == expected["num_fragmentations"]
