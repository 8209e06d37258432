"""People over time from the detections of single frames."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from finepose_mp.tracking.association import Note, associate_frames, body_sizes, similarity
from finepose_mp.tracking.detections import Detections, repeated_ids
from finepose_mp.tracking.linking import Evidence, link_tracklets
from finepose_mp.tracking.placing import Places
from finepose_mp.tracking.settings import TrackingSettings
from finepose_mp.tracking.steadying import Steadied, at_rest

ABSENT, DETECTED, BRIDGED = 0, 1, 2  # status of a person in a frame


@dataclass(frozen=True, eq=False)
class Tracks:
    """P people over T frames, ordered by when they first appear.

    `detection` (T, P) is the position in the list of detections, -1 where there is none; `status` (T, P) says absent,
    detected or bridged. `keypoints` (T, P, J, 2) in pixels, interpolated where bridged, NaN where there is none;
    `scores` (T, P, J), 0 where bridged or absent. `decisions` lists, in order of time, everything that was decided:
    {"kind", "frame", ...}; kinds: ignored, duplicate, split, linked, left_open, bridged, given.
    """

    person: list[str]
    detection: np.ndarray
    status: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    decisions: list[dict]


def track(
    detections: Detections,
    settings: TrackingSettings | None = None,
    steadied: Steadied | None = None,
    places: Places | None = None,
) -> Tracks:
    """Who is who over time, by assignment of poses from frame to frame and of stretches across gaps.

    Ids of the detections are not looked at; see `tracks_by_id`.

    Args:
        detections: of one camera.
        settings: limits; the defaults are meant for people at 10 to 60 frames a second.
        steadied: the keypoints with the camera's own motion taken out (`steadying`); by default it is at rest.
        places: where on the floor people stand, if that is known (`places_on_floor`); it tells who comes back.
    """
    settings = settings or TrackingSettings()
    steadied = steadied or at_rest(detections)
    decisions: list[dict] = []

    def note(kind: str, frame_index: int, **facts: object) -> None:
        decisions.append({"kind": kind, "frame": int(detections.frame[frame_index]), **facts})

    candidates = _people(detections, settings, note)
    tracklets = associate_frames(detections, steadied, candidates, settings, note)
    people = link_tracklets(tracklets, Evidence(detections, steadied, places), settings, note)
    return _assemble([f"person_{n}" for n in range(1, len(people) + 1)], people, detections, settings, decisions)


def tracks_by_id(detections: Detections, settings: TrackingSettings | None = None) -> Tracks:
    """Tracks by the ids that came with the detections.

    Raises:
        ValueError: there are no ids, or an id names two people of one frame.
    """
    if detections.ids is None:
        raise ValueError(f"detections of {detections.camera} have no ids; associate them with `track`")
    repeated = repeated_ids(detections)
    if repeated:
        frame, identity = repeated[0]
        raise ValueError(
            f"detections of {detections.camera}: id {identity!r} names more than one person in frame {frame} "
            f"({len(repeated)} such cases); ignore the ids and associate the people by motion instead"
        )
    people: dict[str, list[int]] = {}
    for position, identity in enumerate(detections.ids):
        people.setdefault(identity, []).append(position)
    decisions = [
        {"kind": "given", "frame": int(detections.frame[detections.frame_index[found[0]]]), "person": identity}
        for identity, found in people.items()
    ]
    return _assemble(list(people), list(people.values()), detections, settings or TrackingSettings(), decisions)


def _people(detections: Detections, settings: TrackingSettings, note: Note) -> np.ndarray:
    """Which detections (N,) stand for a person: enough joints, and not the same person found twice."""
    usable = detections.usable(settings.min_score)
    enough = usable.sum(axis=-1) >= settings.min_joints
    for position in np.flatnonzero(~enough):
        joints = int(usable[position].sum())
        note("ignored", detections.frame_index[position], detection=int(position), usable_joints=joints)
    candidates = enough.copy()
    points = np.where(usable[..., None], detections.keypoints, 0.0)
    tolerance = settings.joint_noise * np.maximum(body_sizes(points, usable), 1e-9)
    starts = np.searchsorted(detections.frame_index, np.arange(detections.frame_count + 1))
    for t in range(detections.frame_count):
        people = np.arange(starts[t], starts[t + 1])[enough[starts[t] : starts[t + 1]]]
        if len(people) < 2:
            continue
        chosen = (points[people], usable[people])
        alike = similarity(*chosen, *chosen, tolerance[people][:, None])
        for i, j in zip(*np.nonzero(np.triu(alike, 1) >= settings.duplicate_similarity), strict=True):
            weaker = min(people[[i, j]], key=lambda person: detections.scores[person].sum())
            candidates[weaker] = False
            note("duplicate", t, detection=int(weaker), similarity=round(float(alike[i, j]), 3))
    return candidates


def _assemble(
    names: list[str], people: list[list[int]], detections: Detections, settings: TrackingSettings, decisions: list[dict]
) -> Tracks:
    joints = detections.keypoints.shape[1]
    detection = np.full((detections.frame_count, len(people)), -1)
    keypoints = np.full((detections.frame_count, len(people), joints, 2), np.nan)
    scores = np.zeros((detections.frame_count, len(people), joints))
    order = sorted(range(len(people)), key=lambda p: (people[p][0], p))
    for p, found in enumerate(people[o] for o in order):
        rows = detections.frame_index[found]
        detection[rows, p] = found
        keypoints[rows, p] = detections.keypoints[found]
        scores[rows, p] = detections.scores[found]
    status = np.where(detection >= 0, DETECTED, ABSENT).astype(np.uint8)
    names = [names[o] for o in order] if decisions and _all_given(decisions) else names
    for p, name in enumerate(names):
        for first, last in _bridge(keypoints[:, p], status[:, p], detections.time, settings.bridge_seconds):
            decisions.append({
                "kind": "bridged", "frame": int(detections.frame[first]), "person": name, "frames": last - first + 1,
            })  # fmt: skip
    decisions.sort(key=lambda decision: decision["frame"])
    return Tracks(names, detection, status, keypoints, scores, decisions)


def _all_given(decisions: list[dict]) -> bool:
    return Counter(decision["kind"] for decision in decisions).keys() == {"given"}


def _bridge(keypoints: np.ndarray, status: np.ndarray, time: np.ndarray, longest: float) -> list[tuple[int, int]]:
    """First and last frames of the gaps of one person that were filled, in place: (T, J, 2) and status (T,)."""
    seen = np.flatnonzero(status == DETECTED)
    bridged = []
    for before, after in pairwise(seen):
        if after == before + 1 or time[after] - time[before] > longest + 1e-9:
            continue
        gap = slice(before + 1, after)
        part = ((time[gap] - time[before]) / (time[after] - time[before]))[:, None, None]
        keypoints[gap] = keypoints[before] + part * (keypoints[after] - keypoints[before])
        status[gap] = BRIDGED
        bridged.append((int(before) + 1, int(after) - 1))
    return bridged
