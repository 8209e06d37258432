"""Who is who over time: made-up people whose paths are known."""

import json

import numpy as np
import pytest

from finepose_mp.preprocessing.keypoints.simulated import score_tracks, simulated_cameras
from finepose_mp.tracking import (
    ABSENT,
    BRIDGED,
    DETECTED,
    Detections,
    TrackingSettings,
    by_keypoints,
    by_poses,
    places_on_floor,
    total_scores,
    track,
    tracks_by_id,
)

_BODY = np.random.default_rng(3).uniform([-30, -90], [30, 90], (2, 17, 2))  # two people of different pose


def scene(paths, present=None, camera_shift=None, ids=None, bodies=_BODY, seed=0):
    """Detections of people who move along paths (T, P, 2) px, listed in random order; and who they are (N,)."""
    random = np.random.default_rng(seed)
    frames, people, _ = paths.shape
    present = np.ones((frames, people), bool) if present is None else present
    t, p = np.nonzero(present)
    order = np.lexsort((random.random(len(t)), t))
    t, p = t[order], p[order]
    keypoints = paths[t, p][:, None] + bodies[p % 2] + random.normal(0, 1.0, (len(t), 17, 2))
    if camera_shift is not None:
        keypoints += camera_shift[t][:, None]
    detections = Detections(
        keypoints=keypoints,
        scores=np.full(keypoints.shape[:2], 0.9),
        frame_index=t,
        frame=np.arange(10, 10 + frames),
        joint_set="coco17",
        image_size=(1920, 1080),
        fps=20.0,
        ids=None if ids is None else tuple(ids(ti, pi) for ti, pi in zip(t, p, strict=True)),
    )
    return detections, p


def walk(frames, *legs):
    """Paths (T, P, 2) at constant speed from (x, y) to (x, y)."""
    part = np.linspace(0, 1, frames)[:, None, None]
    start, stop = (np.array([leg[i] for leg in legs], float) for i in (0, 1))
    return start + part * (stop - start)


def members(tracks, people):
    """True people of each track."""
    return [set(people[column[column >= 0]].tolist()) for column in tracks.detection.T]


def kinds(tracks):
    return [decision["kind"] for decision in tracks.decisions]


def test_people_who_stay_apart_are_one_track_each():
    detections, people = scene(walk(40, [(300, 500), (500, 500)], [(1300, 500), (1200, 520)]))
    tracks = track(detections)
    assert sorted(members(tracks, people), key=str) == [{0}, {1}]
    assert (tracks.status == DETECTED).all()
    assert tracks.person == ["person_1", "person_2"]
    assert tracks.keypoints[7, 0] == pytest.approx(detections.keypoints[tracks.detection[7, 0]])


def test_people_who_cross_keep_their_identity():
    detections, people = scene(walk(60, [(300, 500), (1300, 500)], [(1300, 520), (300, 520)]))
    assert sorted(members(track(detections), people), key=str) == [{0}, {1}]


def test_who_is_missed_while_crossing_is_found_again():
    present = np.ones((60, 2), bool)
    present[27:34, 1] = False
    detections, people = scene(walk(60, [(300, 500), (1300, 500)], [(1300, 520), (300, 520)]), present)
    tracks = track(detections)
    assert sorted(members(tracks, people), key=str) == [{0}, {1}]


def test_twins_who_meet_and_part_are_split_rather_than_swapped():
    """Two people of one shape stop at one spot, where a detector sees one: hardly anything says who leaves where."""
    together = walk(21, [(600, 500), (900, 500)], [(1200, 500), (900, 500)])
    paths = np.concatenate([together, np.repeat(together[-1:], 30, axis=0), together[::-1]])
    present = np.ones(paths.shape[:2], bool)
    present[19:53, 1] = False
    detections, people = scene(paths, present, bodies=_BODY[[0, 0]])
    cautious = track(detections, TrackingSettings(link_doubt=3.0))
    assert sorted(map(sorted, members(cautious, people))) == [[0], [0], [1], [1]]
    assert sorted(kinds(cautious)) == ["left_open", "left_open", "split"]
    assert sorted(kinds(track(detections))) == ["linked", "linked", "split"]


def test_a_short_gap_is_bridged_and_marked():
    present = np.ones((30, 1), bool)
    present[12:15] = False
    detections, _ = scene(walk(30, [(300, 500), (590, 500)]), present)
    tracks = track(detections)
    assert tracks.status[:, 0].tolist() == [DETECTED] * 12 + [BRIDGED] * 3 + [DETECTED] * 15
    assert tracks.keypoints[13, 0, 0, 0] == pytest.approx(430 + _BODY[0, 0, 0], abs=3)
    assert (tracks.scores[12:15] == 0).all()
    assert {"kind": "bridged", "frame": 22, "person": "person_1", "frames": 3} in tracks.decisions


def test_a_long_gap_is_linked_but_stays_empty():
    present = np.ones((60, 1), bool)
    present[20:40] = False
    detections, _ = scene(walk(60, [(300, 500), (500, 500)]), present)
    tracks = track(detections)
    assert len(tracks.person) == 1
    assert (tracks.status[20:40] == ABSENT).all()
    assert np.isnan(tracks.keypoints[20:40]).all()
    (linked,) = (d for d in tracks.decisions if d["kind"] == "linked")
    assert linked["gap_seconds"] == pytest.approx(1.05)


def test_nobody_comes_back_after_the_gap_limit():
    present = np.ones((60, 1), bool)
    present[20:40] = False
    detections, _ = scene(walk(60, [(300, 500), (500, 500)]), present)
    assert len(track(detections, TrackingSettings(max_gap_seconds=0.5)).person) == 2


def test_somebody_of_another_size_is_not_the_one_who_left():
    paths = walk(60, [(600, 500), (600, 500)], [(600, 500), (600, 500)])
    present = np.zeros((60, 2), bool)
    present[:25, 0], present[30:, 1] = True, True
    detections, people = scene(paths, present, bodies=np.stack([_BODY[0], 0.3 * _BODY[0]]))
    tracks = track(detections)
    assert members(tracks, people) == [{0}, {1}]


def test_a_person_found_twice_is_one_person():
    detections, _ = scene(walk(20, [(600, 500), (620, 500)], [(600, 500), (620, 500)]), bodies=_BODY[[0, 0]])
    tracks = track(detections)
    assert len(tracks.person) == 1
    assert kinds(tracks).count("duplicate") == 20


def test_too_few_joints_are_nobody():
    detections, _ = scene(walk(5, [(600, 500), (620, 500)]))
    detections.scores[2, 3:] = 0.1
    tracks = track(detections)
    assert tracks.detection[2, 0] == -1
    assert {"kind": "ignored", "frame": 12, "detection": 2, "usable_joints": 3} in tracks.decisions


def test_one_person_for_one_frame():
    present = np.zeros((9, 1), bool)
    present[4] = True
    tracks = track(scene(walk(9, [(600, 500), (620, 500)]), present)[0])
    assert tracks.status[:, 0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_nobody_at_all():
    tracks = track(scene(walk(4, [(600, 500), (620, 500)]), np.zeros((4, 1), bool))[0])
    assert tracks.keypoints.shape == (4, 0, 17, 2)
    assert tracks.person == []


def test_decisions_can_be_stored_as_json():
    present = np.random.default_rng(0).random((60, 3)) > 0.2
    detections, _ = scene(
        walk(60, [(300, 500), (900, 500)], [(900, 500), (300, 500)], [(500, 300), (600, 600)]), present
    )
    decisions = track(detections).decisions
    assert json.loads(json.dumps(decisions)) == decisions
    assert [d["frame"] for d in decisions] == sorted(d["frame"] for d in decisions)


class TestGivenIds:
    def test_are_kept_even_where_motion_says_otherwise(self):
        detections, people = scene(
            walk(40, [(300, 500), (500, 500)], [(1300, 500), (1200, 520)]), ids=lambda t, p: "ab"[(p + (t > 20)) % 2]
        )
        tracks = tracks_by_id(detections)
        assert sorted(tracks.person) == ["a", "b"]
        assert members(tracks, people) == [{0, 1}, {0, 1}]
        assert kinds(tracks) == ["given", "given"]

    def test_that_repeat_in_a_frame_are_refused(self):
        detections, _ = scene(
            walk(5, [(300, 500), (500, 500)], [(1300, 500), (1200, 520)]), ids=lambda t, p: "a" if t == 3 else "ab"[p]
        )
        with pytest.raises(ValueError, match=r"id 'a' names more than one person in frame 13 \(1 such cases\)"):
            tracks_by_id(detections)

    def test_that_are_not_there(self):
        with pytest.raises(ValueError, match="have no ids; associate them with `track`"):
            tracks_by_id(scene(walk(5, [(300, 500), (500, 500)]))[0])


class TestMovingCamera:
    def test_a_shaking_camera_is_steadied_by_the_people_it_sees(self):
        shift = np.cumsum(np.random.default_rng(1).normal(0, 90, (60, 2)), axis=0)
        detections, people = scene(
            walk(60, [(300, 500), (900, 500)], [(1300, 520), (800, 520)]), camera_shift=shift - shift[0]
        )
        steadied = by_keypoints(detections, 0.3)
        estimated = (detections.keypoints - steadied.positions)[:, 0]
        wrong = estimated - (shift - shift[0])[detections.frame_index]
        # What people have in common is taken for the camera: here their mean walk, a few pixels a frame.
        assert np.abs(wrong).max() < 400
        assert np.abs(np.diff(wrong[np.r_[True, np.diff(detections.frame_index) > 0]], axis=0)).max() < 25
        assert len(track(detections).person) > 2
        assert sorted(members(track(detections, steadied=steadied), people), key=str) == [{0}, {1}]

    def test_frames_without_people_are_uncertain(self):
        present = np.ones((30, 2), bool)
        present[10:20] = False
        detections, _ = scene(walk(30, [(300, 500), (400, 500)], [(1300, 520), (1200, 520)]), present)
        drift = by_keypoints(detections, 0.3).drift
        assert drift[9] < 0.01 * drift[21]

    def test_poses_of_another_number_of_frames(self):
        (view, *_) = (v for v in simulated_cameras("fencing", 1, 5, seed=0, exo=0))
        camera = type(view.camera)(view.camera.model, view.camera.params[0], view.camera.image_size,
                                   view.camera.world_to_camera[:3])  # fmt: skip
        with pytest.raises(ValueError, match="a camera of 3 frames meets detections of 5 frames"):
            by_poses(view.detections, camera)
        still = type(camera)(camera.model, camera.params, camera.image_size)
        with pytest.raises(ValueError, match="needs a camera with `world_to_camera`"):
            by_poses(view.detections, still)


@pytest.fixture(scope="module")
def fencing():
    return list(simulated_cameras("fencing", 1, 160, seed=4, exo=2))


@pytest.fixture(scope="module")
def tagging():
    return list(simulated_cameras("tagging", 1, 200, seed=5, exo=2))


def known_motion(view):
    steadied = by_poses(view.detections, view.camera)
    places = places_on_floor(view.detections, steadied.positions, view.camera, "+z", 0.3)
    return track(view.detections, steadied=steadied, places=places)


class TestSimulatedTakes:
    def test_fixed_cameras_keep_people_apart(self, fencing, tagging):
        for view in (v for v in fencing + tagging if not v.is_worn):
            assert score_tracks(view, track(view.detections)).idf1 >= 0.95

    def test_worn_cameras_with_known_poses_do(self, fencing, tagging):
        for views in (fencing, tagging):
            worn = [v for v in views if v.is_worn]
            assert total_scores(score_tracks(v, known_motion(v)) for v in worn).idf1 >= 0.85

    def test_worn_cameras_without_poses_do_when_people_stay_in_front(self, fencing):
        worn = [v for v in fencing if v.is_worn]
        scores = [score_tracks(v, track(v.detections, steadied=by_keypoints(v.detections, 0.3))) for v in worn]
        assert total_scores(scores).idf1 >= 0.85

    def test_knowing_the_cameras_motion_helps(self, tagging):
        worn = [v for v in tagging if v.is_worn]
        known = total_scores(score_tracks(v, known_motion(v)) for v in worn)
        ignored = total_scores(score_tracks(v, track(v.detections)) for v in worn)
        assert known.switches < ignored.switches / 3
        assert known.idf1 > ignored.idf1 + 0.2

    def test_stature_is_seen_from_worn_cameras(self, tagging):
        """Everybody's height of the head agrees between glimpses to a few centimetres."""
        view = next(v for v in tagging if v.is_worn)
        steadied = by_poses(view.detections, view.camera)
        places = places_on_floor(view.detections, steadied.positions, view.camera, "+z", 0.3)
        for person in np.unique(view.people):
            stature = places.stature[view.people == person]
            assert np.nanpercentile(stature, 75) - np.nanpercentile(stature, 25) < 0.1
            assert 1.2 < np.nanmedian(stature) < 2.0


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"scores has shape \(2, 16\), expected \(2, 17\)"):
        Detections(np.zeros((2, 17, 2)), np.zeros((2, 16)), np.zeros(2, int), np.arange(1), "coco17", (9, 9), 30.0)
