"""Means over scenes, and intervals over takes."""

from collections import Counter

import numpy as np
import pytest
from test_evaluation_scoring import make_track

from finepose_mp.evaluation import summary
from finepose_mp.evaluation.scoring import METRICS, TrackScore
from finepose_mp.skeletons import COCO17

ROWS = ["p_agg", "training_mean_pose"]
BASELINE_MM = 200.0


def make_score(scene: str, take: int, error_mm: float, joints: int = 10, **track) -> TrackScore:
    """A track with so many scored joints of each kind, every metric equal to `error_mm`."""
    number = {"Tagging": 1, "Lego": 2, "Fencing": 3}[scene]
    counts = np.full((len(METRICS), len(ROWS), 17), float(joints))
    sums = counts * np.array([error_mm, BASELINE_MM])[:, None]
    name = f"{number:02d}_{scene.lower()}/{take:03d}_{scene.lower()}"
    tally = Counter({"joints scored": joints * 17, "frames scored": joints})
    root = joints * np.array([10 * error_mm, error_mm, 1])
    return TrackScore(make_track(scene=scene, sequence=name, **track), sums, counts, tally, root)


def scored(*scores) -> summary.Scored:
    return summary.Scored(list(scores), ROWS)


def test_joints_weigh_the_same_within_a_scene_and_scenes_the_same_in_the_mean():
    table = summary.tables(
        scored(
            make_score("Tagging", 1, 10, joints=30), make_score("Tagging", 2, 50, joints=10), make_score("Lego", 1, 60)
        )
    )
    assert table["Tagging"]["mpjpe"]["p_agg"] == pytest.approx(20)
    assert table["Lego"]["mpjpe"]["p_agg"] == pytest.approx(60)
    assert table["mean of scenes"]["mpjpe"]["p_agg"] == pytest.approx(40)
    assert list(table) == ["Tagging", "Lego", "mean of scenes"]


def test_a_scene_without_scored_joints_has_no_number_and_leaves_none_for_the_mean():
    table = summary.tables(scored(make_score("Tagging", 1, 10), make_score("Lego", 1, 0, joints=0)))
    assert table["Lego"]["mpjpe"]["p_agg"] is None
    assert table["mean of scenes"]["mpjpe"]["p_agg"] is None
    assert summary.reduction_percent(table)["Lego"]["p_agg"] is None


def test_the_reduction_is_against_the_training_mean_pose():
    table = summary.tables(scored(make_score("Tagging", 1, 50), make_score("Lego", 1, 150)))
    reduction = summary.reduction_percent(table)
    assert reduction["Tagging"]["p_agg"] == pytest.approx(75)
    assert reduction["mean of scenes"] == {"p_agg": pytest.approx(50)}


def test_intervals_resample_whole_takes_within_scenes():
    """Two takes give three possible means, the outer ones with probability 1/4 each."""
    result = summary.intervals(
        scored(
            *[make_score("Tagging", 1, 10, person=f"aria0{p}") for p in range(5)],
            make_score("Tagging", 2, 30, joints=50),
            make_score("Lego", 1, 40),
            make_score("Lego", 2, 40),
        ),
        samples=500,
        seed=0,
    )
    assert result["metrics"]["Tagging"]["mpjpe"]["p_agg"] == [10, 30]
    assert result["metrics"]["Lego"]["mpjpe"]["p_agg"] == [40, 40]
    assert result["metrics"]["mean of scenes"]["mpjpe"]["p_agg"] == [25, 35]
    assert result["reduction_percent"]["Tagging"]["p_agg"] == pytest.approx([85, 95])
    assert result["without_interval"] == {}


def test_intervals_depend_on_the_seed_alone():
    random = np.random.default_rng(0)
    takes = [make_score("Tagging", take, error) for take, error in enumerate(random.uniform(20, 80, size=8))]
    first, again, other = (summary.intervals(scored(*takes), 200, seed)["metrics"] for seed in (0, 0, 1))
    assert first == again
    assert first != other
    low, high = first["Tagging"]["mpjpe"]["p_agg"]
    assert low < summary.tables(scored(*takes))["Tagging"]["mpjpe"]["p_agg"] < high


def test_a_scene_with_one_take_has_no_interval_and_says_why():
    result = summary.intervals(
        scored(make_score("Tagging", 1, 10), make_score("Tagging", 2, 30), make_score("Lego", 7, 40)), 100, 0
    )
    assert result["metrics"]["Tagging"]["mpjpe"]["p_agg"] is not None
    assert result["metrics"]["Lego"]["mpjpe"]["p_agg"] is None
    assert result["metrics"]["mean of scenes"]["mpjpe"]["p_agg"] is None
    assert "one take (02_lego/007_lego)" in result["without_interval"]["Lego"]
    assert "Lego" in result["without_interval"]["mean of scenes"]


def test_camera_kinds_are_tabled_apart_over_the_scenes_they_occur_in():
    kinds = summary.per_camera_kind(
        scored(
            make_score("Tagging", 1, 10, camera_kind="ego_rgb"),
            make_score("Tagging", 1, 30, camera_kind="exo", camera="cam01"),
            make_score("Lego", 1, 50, camera_kind="exo", camera="cam01"),
        )
    )
    assert list(kinds) == ["ego_rgb", "exo"]
    assert list(kinds["ego_rgb"]) == ["Tagging", "mean of scenes"]
    assert kinds["exo"]["mean of scenes"]["mpjpe"]["p_agg"] == pytest.approx(40)


def test_joints_are_named_and_the_mean_over_them_is_the_scene():
    score = make_score("Tagging", 1, 10)
    score.sums[0, 0, COCO17.index("left_wrist")] = 10 * 27.0
    of_joint = summary.per_joint(scored(score), COCO17)["Tagging"]["p_agg"]
    assert of_joint["left_wrist"] == pytest.approx(27)
    assert of_joint["nose"] == pytest.approx(10)
    assert np.mean(list(of_joint.values())) == pytest.approx(
        summary.tables(scored(score))["Tagging"]["mpjpe"]["p_agg"], abs=1e-5
    )


def test_counts_tell_takes_people_and_tracks_apart():
    counts = summary.counts(
        scored(
            make_score("Tagging", 1, 10, person="aria02"),
            make_score("Tagging", 1, 10, person="aria03"),
            make_score("Tagging", 1, 10, person="aria03", camera="aria02/rgb"),
            make_score("Tagging", 2, 10, person="aria03"),
            make_score("Lego", 1, 0, joints=0),
        )
    )
    tagging = counts["Tagging"]
    assert (tagging["takes"], tagging["people (of each take)"], tagging["person-camera tracks"]) == (2, 3, 4)
    assert counts["all scenes"]["takes"] == 3
    assert counts["all scenes"]["person-camera tracks without a scored joint"] == 1
    assert counts["all scenes"]["joints scored"] == 4 * 170


def test_errors_of_the_root_are_means_over_frames_by_camera_kind():
    errors = summary.root_errors(
        scored(
            make_score("Tagging", 1, 10, joints=30),
            make_score("Tagging", 1, 50, joints=10, camera_kind="exo"),
            make_score("Lego", 1, 60),
        )
    )
    assert errors["Tagging"]["all"] == {"mm": 200, "along the line of sight, mm": 20, "frames": 40}
    assert errors["Tagging"]["exo"]["mm"] == 500
    assert errors["mean of scenes"]["all"]["mm"] == pytest.approx(400)
    assert errors["mean of scenes"]["all"]["frames"] == 50
    assert errors["Lego"]["exo"] == {"mm": None, "along the line of sight, mm": None, "frames": 0}
