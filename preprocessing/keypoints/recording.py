"""A recording in the form of the contract, from 2D keypoints of one or several cameras: who is who, and no truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from finepose_mp import schema
from finepose_mp.cameras import Camera
from finepose_mp.preprocessing.keypoints.assembly import ReadingOptions
from finepose_mp.preprocessing.keypoints.camera_files import (
    CameraFile,
    CameraFileError,
    RecordedCamera,
    doubts_about_places,
    read_cameras,
)
from finepose_mp.preprocessing.keypoints.found import UNNAMED, KeypointsError
from finepose_mp.preprocessing.keypoints.reading import check_same_rate, read_keypoints
from finepose_mp.preprocessing.keypoints.video import detect_people
from finepose_mp.skeletons import joint_set as find_joint_set
from finepose_mp.tracking import (
    CAUTIOUS,
    DETECTED,
    Detections,
    TrackingSettings,
    Tracks,
    TracksInView,
    by_keypoints,
    by_poses,
    likely_links,
    match_across_views,
    places_on_floor,
    ray_distance,
    track,
    tracks_by_id,
    tracks_in_view,
)

_FOCAL_LENGTH = 1.0  # of the longer side of the image, where nothing is known: 53 degrees across it

People = list[list[tuple[int, int]]]  # of each person the tracks, as (camera, position among its tracks)


@dataclass(frozen=True)
class RecordingOptions:
    """What the user says about a recording, beside what is said about each file of keypoints.

    Attributes:
        cameras: file with the cameras; None: nothing is known about them.
        camera_moves: whether cameras of unknown pose move; their motion is then estimated from the people they see.
        joint_set: that keypoints are converted to, by name of joint; None: that of the first file.
        action: what people do, in words; empty when nobody says.
    """

    cameras: Path | None = None
    camera_moves: bool = False
    joint_set: str | None = None
    action: str = ""


@dataclass(frozen=True)
class Recording:
    """A sequence of the contract; its joint set; what was assumed, in sentences; and every decision on identities."""

    sequence: schema.Sequence
    joint_set: str
    assumed: list[str]
    decisions: list[dict]


@dataclass(frozen=True, eq=False)
class _Filmed:
    """One camera: what was detected, who is who in it, and what is known about the camera itself."""

    detections: Detections
    tracks: Tracks
    recorded: RecordedCamera
    is_known: bool
    likely: tuple[tuple[int, int], ...] = ()  # pairs of tracks that motion alone would take for one person


def read_recording(
    paths: Sequence[Path],
    reading: ReadingOptions | None = None,
    options: RecordingOptions | None = None,
    videos: Sequence[Path] = (),
) -> Recording:
    """One recording from keypoints in files or folders, each one camera of it or several, and from videos.

    Raises:
        FileNotFoundError: there is no such file.
        KeypointsError: keypoints that cannot be used as they are, cameras of different rates, or a sequence chosen
            where no file has sequences.
        CameraFileError: cameras that cannot be used, or do not fit the keypoints.
    """
    reading, options = reading or ReadingOptions(), options or RecordingOptions()
    paths, videos = ([Path(path) for path in given] for given in (paths, videos))
    if reading.sequence is not None and not any(_is_hdf5(path) for path in (*paths, options.cameras) if path):
        raise KeypointsError(
            f"--sequence {reading.sequence} chooses from a file of this toolkit; "
            f"{', '.join(map(str, [*videos, *paths]))}: no HDF5, so there are no sequences: leave the option out"
        )
    cameras = None if options.cameras is None else read_cameras(options.cameras, reading.sequence)
    found = [detect_people(video, reading) for video in videos]
    for path in paths:
        sized = replace(reading, camera_size=_size_of(path, cameras))
        of_file = read_keypoints(path, sized)
        unnamed = len(of_file) == 1 and of_file[0].camera == UNNAMED
        found += [replace(of_file[0], camera=path.stem)] if unnamed else of_file
    sources = [*videos, *paths]
    name = sources[0].stem if len(sources) == 1 else sources[0].resolve().parent.name
    return assemble_recording(found, name, cameras, options, ids_are_shared=len(sources) == 1)


def assemble_recording(
    found: list[Detections], name: str, cameras: CameraFile | None, options: RecordingOptions, ids_are_shared: bool
) -> Recording:
    """One recording from detections of its cameras; see `read_recording`.

    Args:
        found: one for each camera, not converted.
        name: of the recording.
        cameras: of the recording; None: nothing is known about them.
        options: see there.
        ids_are_shared: whether an id means the same person in every camera.
    """
    check_same_rate(found)
    names = [detections.camera for detections in found]
    if len(set(names)) < len(names):
        raise KeypointsError(f"two cameras have one name; found {', '.join(names)}: rename the files")
    clock = _doubts_about_clock(found)
    found, step = _counted(found)
    target = options.joint_set or found[0].joint_set
    assumed = _notes([detections.converted(target) for detections in found])
    if step:
        assumed.append(step)
    if len(found) > 1:
        assumed.append(f"{len(found)} cameras are taken for one scene: frames of one number are one moment")
    assumed += clock
    known = _known_cameras(found, cameras)
    if cameras is not None:
        assumed += [f"WARNING: {cameras.path}: {doubt}" for each in known for doubt in each.doubts]
        assumed += doubts_about_places(known, cameras.path)
    world_up = _world_up(known, cameras, assumed)
    if options.camera_moves and cameras is not None:
        if any(camera.camera.world_to_camera is not None for camera in known):
            raise CameraFileError(
                f"{cameras.path}: says the poses of cameras, so no motion is to be estimated: leave --moving-camera "
                "out; a camera that moves has `frame` and a pose for each of its frames"
            )
        assumed.append("the camera moves and the world with it: people stand where they are as seen from the camera")
    filmed = []
    for detections, recorded in zip(found, known, strict=True):
        detections = detections.converted(target)
        tracks, likely = _tracks(detections, recorded, options.camera_moves, world_up, assumed, alone=len(found) == 1)
        camera = _in_its_own_world(recorded) if recorded else _pinhole(detections, assumed)
        filmed.append(_Filmed(detections, tracks, camera, recorded is not None, likely))
    decisions = [{"camera": each.detections.camera, **entry} for each in filmed for entry in each.tracks.decisions]
    people, names, said = _people(filmed, ids_are_shared, assumed)
    sequence = _sequence(name, filmed, people, names, world_up, options.action)
    return Recording(sequence, target, assumed, decisions + said)


def _notes(found: list[Detections]) -> list[str]:
    """What was assumed of the keypoints, with the name of the camera where it is not said of all."""
    everywhere = set.intersection(*(set(detections.assumptions) for detections in found))
    of_some = [
        f"camera {detections.camera}: {note}"
        for detections in found
        for note in detections.assumptions
        if note not in everywhere
    ]
    return [note for note in found[0].assumptions if note in everywhere] + of_some


def _counted(found: list[Detections]) -> tuple[list[Detections], str]:
    """Detections whose frame numbers count the frames that are there, and what was done to them in words."""
    frame = np.unique(np.concatenate([detections.frame for detections in found]))
    step = int(np.gcd.reduce(np.diff(frame))) if len(frame) > 1 else 1
    if step == 1:
        return found, ""
    counted = [replace(detections, frame=(detections.frame - frame[0]) // step) for detections in found]
    return counted, f"frame numbers are {step} apart: frame n of the scene is frame {frame[0]} + {step}n of the source"


def _doubts_about_clock(found: list[Detections]) -> list[str]:
    """Nothing when cameras share frame numbers, if only by way of others; else a warning that names the ranges."""
    seen, others = found[0].frame, found[1:]
    while others:
        near = [detections for detections in others if np.isin(detections.frame, seen).any()]
        if not near:
            said = ", ".join(f"{each.camera} {each.frame[0]} to {each.frame[-1]}" for each in found)
            return [
                f"WARNING: cameras share no frame number, so nobody can be matched between them: {said}. Unless people "
                "went from one camera's view into another's, number the frames of one moment alike in every camera, "
                "or give each recording alone"
            ]
        seen = np.concatenate([seen, *(detections.frame for detections in near)])
        others = [detections for detections in others if detections not in near]
    return []


def _is_hdf5(path: Path) -> bool:
    return path.is_file() and h5py.is_hdf5(path)


def _size_of(path: Path, cameras: CameraFile | None) -> tuple[int, int] | None:
    """Size of the images of the camera that is named like the file, or that all cameras have."""
    sizes = {} if cameras is None else {camera.name: camera.camera.image_size for camera in cameras.cameras}
    return sizes.get(path.stem) or (next(iter(sizes.values())) if len(set(sizes.values())) == 1 else None)


def _known_cameras(found: list[Detections], cameras: CameraFile | None) -> list[RecordedCamera | None]:
    """The camera of each detections, alone perhaps without a pose; None where no camera is known at all."""
    if cameras is None:
        return [None] * len(found)
    by_name = {camera.name: camera for camera in cameras.cameras}
    if len(found) == len(by_name) == 1:
        by_name = {found[0].camera: replace(cameras.cameras[0], name=found[0].camera)}
    absent = [detections.camera for detections in found if detections.camera not in by_name]
    if absent:
        raise CameraFileError(
            f"{cameras.path}: no camera {', '.join(absent)}; it has {', '.join(by_name)}. Name them as the keypoints' "
            "cameras are named: by the file, or by the names in it"
        )
    known = [by_name[detections.camera] for detections in found]
    for detections, recorded in zip(found, known, strict=True):
        if tuple(detections.image_size) != tuple(recorded.camera.image_size):
            raise CameraFileError(
                f"{cameras.path}: camera {recorded.name} is calibrated for images of "
                f"{' x '.join(map(str, recorded.camera.image_size))}, its keypoints are of images of "
                f"{' x '.join(map(str, detections.image_size))}; give the calibration of that size"
            )
    without = [camera.name for camera in known if camera.camera.world_to_camera is None]
    if without and len(known) > 1:
        raise CameraFileError(
            f"{cameras.path}: no world_to_camera of {', '.join(without)}; several cameras of a scene need their poses"
        )
    return known


def _in_its_own_world(recorded: RecordedCamera) -> RecordedCamera:
    """The camera itself, or at the origin where its pose is not known."""
    if recorded.camera.world_to_camera is not None:
        return recorded
    return replace(recorded, camera=replace(recorded.camera, world_to_camera=np.eye(3, 4)))


def _world_up(known: list[RecordedCamera | None], cameras: CameraFile | None, assumed: list[str]) -> str:
    if cameras is None:
        return "-y"
    assumed.append(f"cameras from {cameras.path}: {', '.join(f'{each.name} ({each.camera.model})' for each in known)}")
    pose = known[0].camera.world_to_camera
    is_frame_of_camera = len(known) == 1 and (pose is None or np.array_equal(pose, np.eye(3, 4)))
    if is_frame_of_camera:
        assumed.append("the world is the frame of the camera: origin in its centre, +x right, +y down, +z forward")
    if cameras.world_up is None:
        up = "-y" if is_frame_of_camera else "+z"
        assumed.append(f"the world's {up} axis points up, ASSUMED: the camera file does not say, give it as world_up")
        return up
    return cameras.world_up


def _pinhole(detections: Detections, assumed: list[str]) -> RecordedCamera:
    """A lens for what a model sees of keypoints; it has no pose, so nobody is placed by it."""
    width, height = detections.image_size
    focal = _FOCAL_LENGTH * max(width, height)
    assumed.append(
        f"camera {detections.camera}: nothing is known about it. Its rays are those of an ASSUMED pinhole with a focal "
        f"length of {focal:.0f} px; people are not placed by it, their poses are relative to their own root, along the "
        "camera's axes"
    )
    params = np.array([focal, focal, width / 2, height / 2])
    return RecordedCamera(detections.camera, Camera("pinhole", params, detections.image_size))


def _tracks(
    detections: Detections,
    recorded: RecordedCamera | None,
    moves: bool,
    world_up: str,
    assumed: list[str],
    alone: bool,
) -> tuple[Tracks, tuple[tuple[int, int], ...]]:
    """Tracks of one camera; of a moving one among others cautious ones, and the links that caution left open."""
    if detections.ids is not None:
        if moves:
            assumed.append(f"camera {detections.camera}: ids tell people apart, so its motion is not estimated")
        return tracks_by_id(detections), ()
    least = TrackingSettings().min_score
    where = f"camera {detections.camera}: people associated over time"
    if recorded is not None and recorded.frame is not None:
        camera = replace(recorded.camera, world_to_camera=recorded.poses(detections.frame))
        steadied = by_poses(detections, camera)
        worn = places_on_floor(detections, steadied.positions, camera, world_up, least) if recorded.wearer else None
        assumed.append(f"{where}, the camera's motion known from its poses")
        bold = track(detections, steadied=steadied, places=worn)
        if alone:
            return bold, ()
        cautious = track(detections, CAUTIOUS, steadied, worn)
        return cautious, likely_links(cautious, bold)
    if moves:
        assumed.append(f"{where}, the camera's motion estimated from the people it sees")
        return track(detections, steadied=by_keypoints(detections, least)), ()
    assumed.append(f"{where}, the camera at rest" + ("" if recorded else " (ASSUMED; if not, pass --moving-camera)"))
    return track(detections), ()


def _people(filmed: list[_Filmed], ids_are_shared: bool, assumed: list[str]) -> tuple[People, list[str], list[dict]]:
    """Who is one person in several cameras, everybody's name, and what was decided."""
    tracks = [(k, p) for k, each in enumerate(filmed) for p in range(len(each.tracks.person))]
    name = {(k, p): filmed[k].tracks.person[p] for k, p in tracks}
    if len(filmed) == 1:
        return [[of] for of in tracks], list(name.values()), []
    if ids_are_shared and all(each.detections.ids is not None for each in filmed):
        assumed.append("an id is the same person in every camera of the file")
        names = sorted(set(name.values()))
        return [[of for of in tracks if name[of] == person] for person in names], names, []
    if not all(each.is_known for each in filmed):
        assumed.append("who is who across cameras is not known without their calibration: nobody is in two of them")
        return [[of] for of in tracks], [f"{filmed[k].detections.camera}: {name[k, p]}" for k, p in tracks], []
    views = []
    for each in filmed:
        frame = each.detections.frame
        camera = replace(each.recorded.camera, world_to_camera=each.recorded.poses(frame))
        least = TrackingSettings().min_score
        views.append(tracks_in_view(each.recorded.name, each.tracks, frame, camera, least, each.likely))
    people, said = match_across_views(views, filmed[0].detections.fps)
    assumed += _about_matches(views, people, filmed[0].detections.fps)
    return people, [f"person_{n}" for n in range(1, len(people) + 1)], said


def _about_matches(views: list[TracksInView], people: People, fps: float) -> Iterator[str]:
    """How many people several cameras see, how well their rays meet, and which cameras share nobody."""
    shared = [of for of in people if len({v for v, _ in of}) > 1]
    tracks = sum(map(len, people))
    said = f"{tracks} tracks of {len(views)} cameras are {len(people)} people by the rays of their joints"
    if shared:
        distance = 1000 * ray_distance(views, shared, fps)
        said += f"; {len(shared)} of them are seen by several cameras, whose rays pass each other at {distance:.0f} mm"
    yield said
    alone = [view for v, view in enumerate(views) if view.person and not any(v == w for of in shared for w, _ in of)]
    watching = [view.name for view in alone if any(_see_at_once(view, other) for other in views if other is not view)]
    if watching:
        yield (
            f"WARNING: nobody in {', '.join(watching)} could be matched with anybody in another camera. Unless they "
            "share no place, or one for a moment only, usual causes are T in millimetres, poses from camera to world "
            "in place of world to camera, rotation vectors in degrees, or frames of one number that are not of one "
            "moment (docs/PREDICT.md, Troubleshooting)"
        )


def _see_at_once(first: TracksInView, second: TracksInView) -> bool:
    """Whether somebody is seen by both cameras' tracks in some frame."""
    busy = (view.frame[view.present.any(axis=1)] for view in (first, second))
    return bool(np.intersect1d(*busy).size)


def _sequence(
    name: str, filmed: list[_Filmed], people: People, names: list[str], world_up: str, action: str
) -> schema.Sequence:
    frame = np.unique(np.concatenate([each.detections.frame for each in filmed]))
    joints = len(find_joint_set(filmed[0].detections.joint_set))
    shape = (len(filmed), len(frame), len(people), joints)
    pixels, scores = np.full((*shape, 2), np.nan), np.zeros(shape)
    for person, tracks in enumerate(people):
        for k, p in tracks:
            of = filmed[k].tracks
            seen = of.status[:, p] == DETECTED
            rows = np.searchsorted(frame, filmed[k].detections.frame[seen])
            pixels[k, rows, person], scores[k, rows, person] = of.keypoints[seen, p], of.scores[seen, p]
    params = np.full((len(filmed), len(frame), schema.MAX_CAMERA_PARAMS), np.nan)
    for k, each in enumerate(filmed):
        params[k, :, : len(each.recorded.camera.params)] = each.recorded.camera.params
    cameras = [each.recorded for each in filmed]
    return schema.Sequence(
        name=name,
        frame=frame,
        person=names,
        camera=[each.detections.camera for each in filmed],
        joints_3d_world=np.full((*shape[1:], 3), np.nan),
        joint_status=np.full(shape[1:], schema.MISSING),
        world_to_camera=np.stack([camera.poses(frame) for camera in cameras]),
        camera_model=[camera.camera.model for camera in cameras],
        camera_params=params,
        camera_kind=[camera.kind for camera in cameras],
        camera_is_moving=np.array([camera.frame is not None for camera in cameras]),
        camera_wearer=[camera.wearer for camera in cameras],
        image_size=np.array([each.detections.image_size for each in filmed]),
        joints_2d_projected=np.full((*shape, 2), np.nan),
        joints_2d_detected=pixels,
        detection_score=scores,
        in_view=np.zeros(shape),  # which joints are in view follows from where they are, which nobody has measured
        scene=name,
        action=action,
        split="test",
        split_within_scene="test",
        fps=filmed[0].detections.fps,
        world_up=world_up,
        subjects=names,
    )
