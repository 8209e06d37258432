"""Who is one person in several cameras, by the rays of their joints."""

import json

import numpy as np
import pytest
from contract_file import make_sequence

from finepose_mp.cameras import MODELS, Camera
from finepose_mp.preprocessing.keypoints.simulated import simulated_cameras
from finepose_mp.tracking import (
    DETECTED,
    AcrossViewsSettings,
    Tracks,
    by_poses,
    likely_links,
    match_across_views,
    places_on_floor,
    ray_distance,
    track,
    tracks_in_view,
)


def views_of(sequence, people_of_camera, frames=None):
    """Tracks of the fixed cameras in which everybody listed is seen, in the frames given by camera and person."""
    views = []
    for name, people in people_of_camera.items():
        k = sequence.camera.index(name)
        pixels = sequence.joints_2d_detected[k][:, people].astype(float)
        seen = np.isfinite(pixels[..., 0]).any(axis=-1)
        for column, person in enumerate(people):
            seen[:, column] &= np.isin(np.arange(len(seen)), (frames or {}).get((name, person), np.arange(len(seen))))
        tracks = Tracks(
            [f"track_{p}" for p in people],
            np.where(seen, 0, -1),
            np.where(seen, DETECTED, 0),
            pixels,
            sequence.detection_score[k][:, people],
            [],
        )
        count = len(MODELS[sequence.camera_model[k]].parameter_names)
        camera = Camera(
            sequence.camera_model[k],
            sequence.camera_params[k, 0, :count],
            tuple(sequence.image_size[k]),
            sequence.world_to_camera[k],
        )
        views.append(tracks_in_view(name, tracks, sequence.frame, camera, 0.3))
    return views


@pytest.fixture(scope="module")
def take():
    return make_sequence(frames=60, persons=3, exo=3)


def test_people_are_matched_whatever_their_order(take):
    order = {"cam01": [0, 1, 2], "cam02": [2, 0, 1], "cam03": [1, 2, 0]}
    people, decisions = match_across_views(views_of(take, order), take.fps)
    expected = [{(v, list(order.values())[v].index(person)) for v in range(3)} for person in range(3)]
    assert sorted(map(sorted, people)) == sorted(map(sorted, expected))
    assert {decision["kind"] for decision in decisions} == {"same_person"}
    assert json.loads(json.dumps(decisions)) == decisions


def test_rays_of_one_person_pass_near_each_other_and_those_of_two_do_not(take):
    views = views_of(take, {"cam01": [0, 1], "cam02": [0, 1]})
    same, other = [[(0, 0), (1, 0)], [(0, 1), (1, 1)]], [[(0, 0), (1, 1)]]
    assert ray_distance(views, same, take.fps) < 0.02 < 0.1 < ray_distance(views, other, take.fps)
    assert np.isnan(ray_distance(views, [[(0, 0)]], take.fps))


def test_people_whom_only_one_camera_sees_stay_alone(take):
    people, _ = match_across_views(views_of(take, {"cam01": [0, 1], "cam02": [2]}), take.fps)
    assert sorted(map(len, people)) == [1, 1, 1]


def test_two_tracks_of_one_camera_are_joined_through_another(take):
    """One camera lost somebody for a moment and took them for somebody new; the other did not."""
    halves = {("cam01", 0): np.arange(28)}
    views = views_of(take, {"cam01": [0], "cam02": [0]}, halves)
    second = views_of(take, {"cam01": [0]}, {("cam01", 0): np.arange(32, 60)})[0]
    both = type(views[0])(
        "cam01", ["a", "b"], take.frame,
        np.concatenate([views[0].directions, second.directions], axis=1), views[0].origins,
    )  # fmt: skip
    people, _ = match_across_views([both, views[1]], take.fps)
    assert people == [[(0, 0), (0, 1), (1, 0)]]


def test_tracks_of_one_camera_that_are_seen_at_once_are_never_one_person(take):
    """A detector that finds somebody twice: both fit the other camera's track, so neither is taken."""
    once, other = views_of(take, {"cam01": [0], "cam02": [0]})
    twice = type(once)("cam01", ["a", "b"], once.frame, np.repeat(once.directions, 2, axis=1), once.origins)
    people, decisions = match_across_views([twice, other], take.fps)
    assert sorted(map(len, people)) == [1, 1, 1]
    assert [decision["kind"] for decision in decisions] == ["left_open", "left_open"]


def test_little_evidence_is_not_enough(take):
    moment = {("cam01", 0): np.arange(1), ("cam02", 0): np.arange(1)}
    views = views_of(take, {"cam01": [0], "cam02": [0]}, moment)
    assert len(match_across_views(views, take.fps)[0]) == 2
    assert len(match_across_views(views, take.fps, AcrossViewsSettings(least_evidence=0.5))[0]) == 1


def test_cameras_that_share_no_frame_say_nothing(take):
    first, second = views_of(take, {"cam01": [0], "cam02": [0]})
    later = type(second)(second.name, second.person, second.frame + 1000, second.directions, second.origins)
    assert len(match_across_views([first, later], take.fps)[0]) == 2


@pytest.mark.parametrize("scene", ["fencing", "tagging"])
def test_simulated_people_are_the_same_in_fixed_and_worn_cameras(scene):
    """Detections in arbitrary order, associated over time in every camera: groups hold one person each."""
    cameras = list(simulated_cameras(scene, 1, 120, seed=2, exo=2))
    views, members = [], []
    for view in cameras:
        steadied = by_poses(view.detections, view.camera) if view.is_worn else None
        places = places_on_floor(view.detections, steadied.positions, view.camera, "+z", 0.3) if view.is_worn else None
        tracks = track(view.detections, steadied=steadied, places=places)
        views.append(tracks_in_view(view.take, tracks, view.detections.frame, view.camera, 0.3))
        members.append([view.people[column[column >= 0]] for column in tracks.detection.T])
    people, _ = match_across_views(views, 20.0)
    counts = np.array([np.bincount(np.concatenate([members[v][p] for v, p in of]), minlength=4) for of in people])
    assert counts.max(axis=1).sum() / counts.sum() > 0.97  # hardly anybody in somebody else's group
    assert counts.max(axis=0).sum() / counts.sum() > 0.9  # and hardly anybody in two


class TestLikelyLinks:
    def halves(self, take, second, **cameras):
        """cam01 sees person 0, then `second`, as two tracks that are likely one; and what other cameras see."""
        pieces = [
            views_of(take, {"cam01": [person]}, {("cam01", person): frames})[0]
            for person, frames in ((0, np.arange(28)), (second, np.arange(32, 60)))
        ]
        directions = np.concatenate([piece.directions for piece in pieces], axis=1)
        first = type(pieces[0])("cam01", ["a", "b"], take.frame, directions, pieces[0].origins, likely=((0, 1),))
        return [first, *views_of(take, cameras)]

    def test_are_followed_where_nothing_is_against_them(self, take):
        people, decisions = match_across_views(self.halves(take, 0), take.fps)
        assert people == [[(0, 0), (0, 1)]] and decisions[0]["evidence"] == AcrossViewsSettings().likely

    def test_are_not_followed_against_what_another_camera_sees(self, take):
        people, _ = match_across_views(self.halves(take, 1, cam02=[0, 1]), take.fps)
        assert sorted(people) == [[(0, 0), (1, 0)], [(0, 1), (1, 1)]]

    def test_are_pieces_of_one_bolder_track(self):
        def tracks(*columns):
            shape = (4, len(columns))
            detection = np.array(columns).T
            return Tracks([str(n) for n in range(len(columns))], detection, detection >= 0, np.zeros((*shape, 17, 2)),
                          np.zeros((*shape, 17)), [])  # fmt: skip

        cautious = tracks([0, -1, -1, -1], [1, 3, -1, -1], [-1, -1, 4, 6], [-1, -1, 5, -1])
        bold = tracks([0, 3, 5, -1], [1, -1, 4, 6])
        assert sorted(likely_links(cautious, bold)) == [(0, 1), (1, 2), (1, 3)]
