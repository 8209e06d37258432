"""What a detector would find in simulated takes, with everybody's true identity: to measure association with."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from finepose_mp.cameras import Camera
from finepose_mp.preprocessing.simulation.dataset import plan_takes
from finepose_mp.preprocessing.simulation.detections import Detections as Found
from finepose_mp.preprocessing.simulation.detections import NoiseModel, detect
from finepose_mp.preprocessing.simulation.glasses import RGB_CIRCLE
from finepose_mp.preprocessing.simulation.motion import FPS
from finepose_mp.preprocessing.simulation.scene import film, people_of
from finepose_mp.preprocessing.simulation.stages import built_in_motion
from finepose_mp.tracking import (
    Detections,
    FrameIdentities,
    IdentityScores,
    TrackingSettings,
    Tracks,
    identity_scores,
    likely_links,
    match_across_views,
    tracks_in_view,
)


@dataclass(frozen=True, eq=False)
class SimulatedCamera:
    """One camera of a simulated take: its detections in arbitrary order within a frame, and who they are (N,)."""

    take: str
    camera: Camera
    is_worn: bool
    detections: Detections
    people: np.ndarray


def simulated_cameras(scene: str, takes: int, frames: int, seed: int, exo: int = 4) -> Iterator[SimulatedCamera]:
    """The first `exo` fixed cameras and the RGB cameras of all glasses of the first takes of a scene ("tagging")."""
    for take in plan_takes([scene], takes):
        random = np.random.default_rng([seed, take.number])
        filmed = film(take, built_in_motion(scene, len(people_of(take)), frames, random), random)
        joints = filmed.joints_3d_world
        for fixed in filmed.exo[:exo]:
            found = detect(joints, fixed.camera, None, NoiseModel(), random)
            yield _camera(f"{take.name} {fixed.name}", fixed.camera, False, found, random)
        for wearer, worn in enumerate(filmed.glasses):
            camera = worn.camera(0)
            found = detect(joints, camera, wearer, NoiseModel(), random, RGB_CIRCLE)
            yield _camera(f"{take.name} {worn.name}", camera, True, found, random)


def crowd(scene: str, people: int, frames: int, seed: int) -> Detections:
    """What one fixed camera would find of `people` people: those of several takes, laid over each other."""
    found: list[SimulatedCamera] = []
    for number in count():
        if sum(len(np.unique(camera.people)) for camera in found) >= people:
            break
        found += [c for c in simulated_cameras(scene, 1, frames, seed + number, exo=1) if not c.is_worn]
    keypoints, scores, frame_index = (
        np.concatenate([getattr(camera.detections, name) for camera in found])
        for name in ("keypoints", "scores", "frame_index")
    )
    order = np.argsort(frame_index, kind="stable")
    return replace(
        found[0].detections, keypoints=keypoints[order], scores=scores[order], frame_index=frame_index[order]
    )


def score_tracks(
    simulated: SimulatedCamera, tracks: Tracks, identity: Sequence[Hashable] | None = None
) -> IdentityScores:
    """How well tracks keep the simulated people apart, counted on what was detected.

    Args:
        simulated: a camera. tracks: made of its detections.
        identity: of each track, where several may be one person; None: every track is somebody else.
    """
    identity = range(len(tracks.person)) if identity is None else identity
    frames = []
    for t in range(simulated.detections.frame_count):
        held = np.flatnonzero(tracks.detection[t] >= 0)
        true = np.flatnonzero(simulated.detections.frame_index == t)
        same = true[:, None] == tracks.detection[t, held][None]
        given = [identity[track] for track in held]
        frames.append(FrameIdentities(simulated.people[true].tolist(), given, np.where(same, 0.0, np.nan)))
    return identity_scores(frames)


def score_across_views(
    simulated: list[SimulatedCamera], cautious: list[Tracks], bold: list[Tracks]
) -> list[IdentityScores]:
    """The same for all cameras of one take, people matched across them by geometry first.

    Args:
        simulated: cameras of one take.
        cautious: tracks of each, to be matched.
        bold: tracks of each that motion alone would make.
    """
    tracks, least = cautious, TrackingSettings().min_score
    views = [
        tracks_in_view(view.take, some, view.detections.frame, view.camera, least, likely_links(some, other))
        for view, some, other in zip(simulated, cautious, bold, strict=True)
    ]
    people, _ = match_across_views(views, float(FPS))
    identity = {track: person for person, of_person in enumerate(people) for track in of_person}
    return [
        score_tracks(view, of_view, [identity[v, p] for p in range(len(of_view.person))])
        for v, (view, of_view) in enumerate(zip(simulated, tracks, strict=True))
    ]


def _camera(take: str, camera: Camera, is_worn: bool, found: Found, random: np.random.Generator) -> SimulatedCamera:
    frame, person = np.nonzero(found.found)
    order = np.lexsort((random.random(len(frame)), frame))  # a detector does not list people in one order
    frame, person = frame[order], person[order]
    detections = Detections(
        keypoints=found.pixels[frame, person],
        scores=found.scores[frame, person],
        frame_index=frame,
        frame=np.arange(1, len(found.found) + 1),
        joint_set="coco17",
        image_size=(int(camera.image_size[0]), int(camera.image_size[1])),
        fps=float(FPS),
        camera=take,
    )
    return SimulatedCamera(take, camera, is_worn, detections, person)
