"""Identity across cameras by geometry: which tracks of calibrated cameras are one person.

Where two tracks show one person, the rays of each joint meet in space, in front of both cameras, and the points where
they meet make a body of human size. That is weighed, moment by moment, against two different people, whose rays pass
each other by about half a metre.
"""

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from finepose_mp.cameras import Camera, unproject
from finepose_mp.geometry import invert_rigid, ray_directions
from finepose_mp.tracking.association import body_sizes
from finepose_mp.tracking.settings import AcrossViewsSettings
from finepose_mp.tracking.tracks import DETECTED, Tracks

_SMALLEST_ANGLE = 0.03  # radians between rays; of rays more alike, where they meet is not known
_SMALLEST_BODY, _LARGEST_BODY = 0.12, 0.9  # metres, RMS distance of joints from their mean: crouched child to tall jump
_WRONG = -4.0  # evidence of a moment in which the rays make no body


@dataclass(frozen=True, eq=False)
class TracksInView:
    """Tracks of one camera as rays: P people, J joints, in the T frames numbered `frame`.

    `directions` (T, P, J, 3) unit vectors in the world, NaN where there is no usable keypoint; `origins` (T, 3) metres.
    `likely` lists pairs of tracks that motion alone would take for one person; see `likely_links`.
    """

    name: str
    person: list[str]
    frame: np.ndarray
    directions: np.ndarray
    origins: np.ndarray
    likely: tuple[tuple[int, int], ...] = ()

    @property
    def present(self) -> np.ndarray:
        """(T, P): frames in which a person has a ray."""
        return np.isfinite(self.directions[..., 0]).any(axis=-1)


def likely_links(cautious: Tracks, bold: Tracks) -> tuple[tuple[int, int], ...]:
    """Pairs of `cautious` tracks that follow each other in one of the `bold` ones, made of the same detections."""
    pairs = []
    for detection in bold.detection.T:
        frames = np.flatnonzero(detection >= 0)
        is_held = cautious.detection[frames] == detection[frames, None]
        holders = is_held.argmax(axis=1)[is_held.any(axis=1)].tolist()
        pairs += [pair for pair in pairwise(holders) if pair[0] != pair[1]]
    return tuple(pairs)


def tracks_in_view(
    name: str,
    tracks: Tracks,
    frame: np.ndarray,
    camera: Camera,
    min_score: float,
    likely: tuple[tuple[int, int], ...] = (),
) -> TracksInView:
    """The rays of tracks over T frames.

    Args:
        name: of the camera.
        tracks: of the camera.
        frame: (T,) frame numbers, the same clock for all cameras.
        camera: with `params` (n,) or (T, n) and `world_to_camera` (3, 4) or (T, 3, 4), NaN in frames without a pose.
        min_score: keypoints below take no part.
        likely: pairs of tracks that motion alone would take for one person.
    """
    usable = (tracks.scores >= min_score) & (tracks.status == DETECTED)[..., None]
    pixels = np.where(usable[..., None], tracks.keypoints, np.nan)
    params = camera.params if camera.params.ndim == 1 else camera.params[:, None, None]
    camera_to_world = invert_rigid(np.broadcast_to(camera.world_to_camera, (len(frame), 3, 4)))
    directions = ray_directions(unproject(pixels, camera.model, params))
    directions = np.einsum("tij,tpkj->tpki", camera_to_world[..., :3], directions)
    return TracksInView(name, tracks.person, frame, directions, camera_to_world[..., 3], likely)


def match_across_views(
    views: list[TracksInView], fps: float, settings: AcrossViewsSettings | None = None
) -> tuple[list[list[tuple[int, int]]], list[dict]]:
    """People as lists of (view, track), every track in exactly one; and what was decided, in words that can be stored.

    Groups of tracks are joined best first, while the evidence for it is strong and beats every rival by a margin;
    otherwise they stay apart ("left_open"). Tracks of one camera that are seen at the same time are different people;
    tracks of one camera that follow each other may be joined through what another camera saw.

    Args:
        views: of one recording, frames numbered by one clock.
        fps: frames a second.
        settings: limits.
    """
    settings = settings or AcrossViewsSettings()
    tracks = [(v, p) for v, view in enumerate(views) for p in range(len(view.person))]
    position = {track: n for n, track in enumerate(tracks)}
    evidence, apart = np.zeros((2, len(tracks), len(tracks)))
    for (v, first), (w, second) in combinations(enumerate(views), 2):
        rows, columns = ([position[x, p] for p in range(len(views[x].person))] for x in (v, w))
        found = _evidence(first, second, fps, settings)
        evidence[np.ix_(rows, columns)], evidence[np.ix_(columns, rows)] = found, found.T
    for v, view in enumerate(views):
        rows = [position[v, p] for p in range(len(view.person))]
        for pair in view.likely:
            evidence[rows[pair[0]], rows[pair[1]]] = evidence[rows[pair[1]], rows[pair[0]]] = settings.likely
        present = view.present.astype(float)
        apart[np.ix_(rows, rows)] = present.T @ present
    groups, decisions = _join(evidence, apart > 0, settings)
    said = [
        {"kind": kind, "people": [[f"{views[v].name}: {views[v].person[p]}" for v, p in map(tracks.__getitem__, group)]
                                  for group in pair], "evidence": round(gain, 2)}
        for kind, pair, gain in decisions
    ]  # fmt: skip
    return [[tracks[n] for n in sorted(group)] for group in groups], said


def ray_distance(views: list[TracksInView], people: list[list[tuple[int, int]]], fps: float) -> float:
    """Median distance in metres at which the rays of one person's joints pass each other, NaN where none do.

    Args:
        views, people, fps: as `match_across_views` takes and gives them. About one frame of a moment is looked at.
    """
    distances = [np.empty(0)]
    every = max(int(fps * AcrossViewsSettings().moment_seconds), 1)
    for person in people:
        for (v, p), (w, q) in combinations(person, 2):
            first, second = views[v], views[w]
            _, i, j = np.intersect1d(first.frame, second.frame, return_indices=True)
            both = np.isfinite(first.directions[i, p, :, 0] + second.directions[j, q, :, 0]).any(axis=-1)
            i, j = i[both][::every], j[both][::every]
            if v != w and len(i):
                origins = first.origins[i][:, None], second.origins[j][:, None]
                usable, _, _, near, far = _closest((first.directions[i, p], second.directions[j, q]), origins)
                distances.append(np.linalg.norm(near - far, axis=-1)[usable])
    found = np.concatenate(distances)
    return float(np.median(found)) if len(found) else np.nan


def _join(
    evidence: np.ndarray, apart: np.ndarray, settings: AcrossViewsSettings
) -> tuple[list[list[int]], list[tuple[str, tuple[list[int], list[int]], float]]]:
    """Groups of tracks, and joins made and left open: kind, both groups as they were, evidence for joining them."""
    groups = [[n] for n in range(len(evidence))]
    evidence, apart = evidence.copy(), apart.copy()
    np.fill_diagonal(apart, True)
    doubtful = np.zeros_like(apart)
    decisions = []
    while len(groups) > 1:
        gains = np.where(apart | doubtful, -np.inf, evidence)
        pair = first, second = sorted(np.unravel_index(np.argmax(gains), gains.shape))
        gain = float(gains[first, second])
        if gain < settings.least_evidence:
            break
        joined = (groups[first], groups[second])
        # A rival of the one is a group that could be the other but cannot be the same as it.
        others = np.delete(np.arange(len(groups)), [first, second])
        rivals = [
            np.where(apart[a, others] | ~apart[b, others], -np.inf, evidence[a, others]).max(initial=-np.inf)
            for a, b in (pair, pair[::-1])
        ]
        if gain - max(rivals) < settings.margin:
            decisions.append(("left_open", joined, gain))
            doubtful[first, second] = doubtful[second, first] = True
            continue
        decisions.append(("same_person", joined, gain))
        groups[first] = groups[first] + groups[second]
        evidence[first] += evidence[second]
        evidence[:, first] = evidence[first]
        for pairs in (apart, doubtful):
            pairs[first] |= pairs[second]
            pairs[:, first] = pairs[first]
        del groups[second]
        evidence, apart, doubtful = (
            np.delete(np.delete(array, second, 0), second, 1) for array in (evidence, apart, doubtful)
        )
    return groups, decisions


def _evidence(first: TracksInView, second: TracksInView, fps: float, settings: AcrossViewsSettings) -> np.ndarray:
    """Log-likelihood ratio (P, Q) of one person against two, summed over moments; 0 where two are never seen at once.

    Frames close in time say the same, so one in `settings.moment_seconds` counts.
    """
    total = np.zeros((len(first.person), len(second.person)))
    common, i, j = np.intersect1d(first.frame, second.frame, return_indices=True)
    if not len(common):
        return total
    step = np.gcd.reduce(np.diff(common)) if len(common) > 1 else 1
    moment = np.floor((common - common[0]) / max(step, 1) / fps / settings.moment_seconds).astype(int)
    both = first.present[i][:, :, None] & second.present[j][:, None, :]
    t, p, q = np.nonzero(both)
    if not len(t):
        return total
    # Of each pair the first frame of every moment.
    _, kept = np.unique(np.stack([moment[t], p, q]), axis=1, return_index=True)
    t, p, q = t[kept], p[kept], q[kept]
    directions = first.directions[i[t], p], second.directions[j[t], q]
    origins = first.origins[i[t]][:, None], second.origins[j[t]][:, None]
    np.add.at(total, (p, q), _of_moments(directions, origins, settings))
    return total


def _of_moments(
    directions: tuple[np.ndarray, np.ndarray], origins: tuple[np.ndarray, np.ndarray], settings: AcrossViewsSettings
) -> np.ndarray:
    """Evidence (n,) of moments with rays (n, J, 3) from origins (n, 1, 3) of both cameras."""
    usable, depth_a, depth_b, near_a, near_b = _closest(directions, origins)
    distance = np.linalg.norm(near_a - near_b, axis=-1)
    noise = settings.noise + settings.noise_per_metre * (np.abs(depth_a) + np.abs(depth_b)) / 2
    ratio = np.log(0.9 * _half_normal(distance, noise) + 0.1 * _half_normal(distance, settings.apart))
    ratio -= np.log(_half_normal(distance, settings.apart))
    count = usable.sum(axis=-1)
    mean = np.where(usable, ratio, 0.0).sum(axis=-1) / np.maximum(count, 1)
    points = np.where(usable[..., None], (near_a + near_b) / 2, 0.0)
    size = body_sizes(points, usable)
    in_front = np.where(usable, (depth_a > 0) & (depth_b > 0), True).mean(axis=-1) > 0.9
    is_body = in_front & (size > _SMALLEST_BODY) & (size < _LARGEST_BODY)
    return np.where(count >= settings.min_joints, np.where(is_body, mean, np.minimum(mean, _WRONG)), 0.0)


def _closest(directions: tuple[np.ndarray, np.ndarray], origins: tuple[np.ndarray, np.ndarray]) -> tuple:
    """Where rays (n, J, 3) from origins (n, 1, 3) of two cameras pass each other.

    Whether that is known (n, J), the depths along both (n, J), the nearest points on both (n, J, 3), metres.
    """
    (a, b), (o, r) = directions, origins
    cosine = (a * b).sum(axis=-1)
    sine_squared = 1 - cosine**2
    usable = sine_squared > _SMALLEST_ANGLE**2  # False for NaN
    sine_squared = np.where(usable, sine_squared, 1.0)
    between = r - o
    along_a, along_b = (between * a).sum(axis=-1), (between * b).sum(axis=-1)
    depth_a = (along_a - along_b * cosine) / sine_squared
    depth_b = (along_a * cosine - along_b) / sine_squared
    return usable, depth_a, depth_b, o + depth_a[..., None] * a, r + depth_b[..., None] * b


def _half_normal(distance: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    return np.exp(-0.5 * np.minimum((distance / scale) ** 2, 600)) / scale
