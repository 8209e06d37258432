"""One raw EgoHumans take, read and checked, as one sequence of the HDF5 contract."""

import json
import re
from dataclasses import dataclass

import numpy as np

from finepose_mp.preprocessing.egohumans import aria, catalogue, detections, exo, people, rig, transforms
from finepose_mp.preprocessing.egohumans.findings import Findings
from finepose_mp.preprocessing.egohumans.source import TakeError, TakeReader, TakeSource
from finepose_mp.schema import MAX_CAMERA_PARAMS, Sequence

SIMULATED_FILE = "SIMULATED.json"

_ARIA_NAME = re.compile(r"aria\d{2}")


@dataclass(frozen=True)
class _Ground:
    """What every later step needs: frames (T,), people, and the calibrations of every Aria that has any."""

    frames: np.ndarray
    people: list[str]
    calibrations: dict[str, dict[int, aria.Calibration]]


def read_take(source: TakeSource, facts: catalogue.Take) -> Sequence:
    """The whole take in memory, with its findings.

    Frames are those for which there is a fitted pose and a calibration of every Aria; they keep their numbers.

    Raises:
        TakeError: something is absent without which there is nothing to convert.
        DamagedFileError: a file that the whole take depends on is damaged.
        UnsafeFileError: a pickle tried to be more than data.
    """
    reader, findings = TakeReader(source), Findings()
    simulated = _read_simulated(reader)
    _check_required(reader)
    aria_transforms = transforms.read_transforms(reader, findings)
    fit = people.read_poses(reader, people.FIT_FOLDER, findings)
    triangulated = _read_triangulated(reader, findings)
    ground = _lay_ground(reader, facts, fit, findings)
    if simulated is None:
        _compare_with_catalogue(facts, ground, fit, findings)
    joints_3d_world, status = people.assemble(fit, triangulated, ground.frames, ground.people, findings)
    cameras = _read_ego_cameras(reader, ground, aria_transforms, findings)
    cameras += exo.read_exo_cameras(reader, facts, aria_transforms[transforms.ANCHOR], findings)
    if not cameras:
        raise TakeError(f"no camera could be read; {_first_error(findings)}")
    rig.check_images(reader, cameras, len(ground.frames), findings)
    if simulated is None and facts.known:
        _compare_cameras(facts, cameras, findings)
    views = _read_views(reader, cameras, ground, joints_3d_world, findings)
    return Sequence(
        name=facts.name,
        frame=ground.frames,
        person=ground.people,
        joints_3d_world=joints_3d_world,
        joint_status=status,
        fps=catalogue.FPS,
        subjects=list(ground.people),
        source_files=reader.source_files,
        findings=findings.items,
        **_words(facts, simulated),
        **_camera_arrays(cameras, len(ground.frames)),
        **views,
    )


def _read_simulated(reader: TakeReader) -> dict | None:
    """What the simulator says about a take it wrote, None for a recorded one."""
    if not reader.has(SIMULATED_FILE):
        return None
    try:
        content = json.loads(reader.file(SIMULATED_FILE))
    except ValueError as error:
        raise TakeError(f"{SIMULATED_FILE} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise TakeError(f"{SIMULATED_FILE} holds {type(content).__name__}, expected scene, action and seed by name")
    return content


def _words(facts: catalogue.Take, simulated: dict | None) -> dict:
    """Scene, action and splits; a simulated take may have its own scene and action."""
    said = simulated or {}
    return {
        "scene": str(said.get("scene", facts.scene.title)),
        "action": str(said.get("action", facts.scene.action)),
        "split": facts.scene.split,
        "split_within_scene": catalogue.within_scene_split(facts.number),
        "simulated": simulated is not None,
    }


def _check_required(reader: TakeReader) -> None:
    required = [people.FIT_FOLDER, "ego", transforms.TRANSFORMS_FILE]
    required += [f"{exo.WORKPLACE}/cameras.txt", f"{exo.WORKPLACE}/images.txt"]
    missing = [path for path in required if not reader.has(path)]
    if missing:
        raise TakeError(
            f"{', '.join(missing)} missing; a take needs processed_data/fit_poses3d, ego/*/calib and colmap/workplace. "
            "Some released takes lack them (010_basketball, 051_badminton); otherwise unpack its archive again"
        )


def _read_triangulated(reader: TakeReader, findings: Findings) -> dict[int, people.Poses]:
    triangulated = people.read_poses(reader, people.TRIANGULATED_FOLDER, findings)
    if not triangulated:
        message = f"{people.TRIANGULATED_FOLDER} has nothing: all joints count as interpolated, none as observed"
        findings.add("poses", "error", message)
    return triangulated


def _lay_ground(reader: TakeReader, facts: catalogue.Take, fit: dict, findings: Findings) -> _Ground:
    """People, calibrations and the frames that all of them share."""
    folders = [name for name in reader.names("ego") if _ARIA_NAME.fullmatch(name)]
    with_poses = _people_with_poses(fit, findings)
    ignored = sorted((with_poses | set(folders)) & set(facts.invalid_arias))
    if ignored:
        message = f"{', '.join(ignored)} declared invalid by the official configuration: neither people nor cameras"
        findings.add("people", "info", message)
    calibrations = _read_calibrations(reader, [name for name in folders if name not in ignored], findings)
    names = sorted((with_poses | set(folders)) - set(ignored))
    if not names:
        raise TakeError(f"no valid person in ego/ or {people.FIT_FOLDER}; {_first_error(findings)}")
    numbers = {people.FIT_FOLDER: set(fit)} | {f"ego/{name}/calib": set(c) for name, c in calibrations.items()}
    return _Ground(_shared_frames(numbers, findings), names, calibrations)


def _read_calibrations(
    reader: TakeReader, arias: list[str], findings: Findings
) -> dict[str, dict[int, aria.Calibration]]:
    """Aria -> frame number -> calibration, of those Arias that have any."""
    calibrations = {name: aria.read_calibrations(reader, name, findings) for name in arias}
    for name in arias:
        if not calibrations[name]:
            message = f"no readable ego/{name}/calib/*.txt: no cameras of {name}"
            findings.add("ego_camera", "error", message, person=name)
    return {name: by_frame for name, by_frame in calibrations.items() if by_frame}


def _people_with_poses(fit: dict[int, people.Poses], findings: Findings) -> set[str]:
    names = {name for poses in fit.values() for name in poses}
    known = {name for name in names if _ARIA_NAME.fullmatch(name)}
    if names - known:
        message = f"{people.FIT_FOLDER} names {', '.join(sorted(names - known))}, expected aria01, aria02, ...; ignored"
        findings.add("people", "warning", message)
    return known


def _shared_frames(numbers: dict[str, set[int]], findings: Findings) -> np.ndarray:
    """Frame numbers (T,) that every folder has; reports those that only some have, and gaps."""
    shared, known = set.intersection(*numbers.values()), set.union(*numbers.values())
    counts = ", ".join(f"{folder} {len(found)}" for folder, found in numbers.items())
    if not shared:
        raise TakeError(f"no frame that all folders have; readable files: {counts}. {_first_error(findings)}")
    for folder, found in numbers.items():
        if known - found:
            message = f"{folder} lacks {len(known - found)} of {len(known)} frames; they are left out everywhere"
            findings.add("frames", "warning", message, frames=known - found)
    frames = np.array(sorted(shared), np.int32)
    gaps = set(range(1, int(frames[-1]) + 1)) - known
    if gaps:
        message = f"frame numbers do not run from 1 without gaps: {len(gaps)} missing"
        findings.add("frames", "warning", message, frames=gaps)
    findings.add("frames", "info", f"{len(frames)} frames used; files: {counts}")
    return frames


def _compare_with_catalogue(facts: catalogue.Take, ground: _Ground, fit: dict, findings: Findings) -> None:
    if not facts.known:
        message = f"{facts.name} is not in the catalogue: all Arias and cameras count as valid"
        findings.add("catalogue", "warning", message)
        return
    if facts.frames is not None and len(fit) != facts.frames:
        message = f"{len(fit)} fitted frames, the published length is {facts.frames}"
        findings.add("catalogue", "warning", message)
    _compare_names("people", set(ground.people), set(facts.arias), findings)


def _compare_cameras(facts: catalogue.Take, cameras: list[rig.TakeCamera], findings: Findings) -> None:
    expected = set(facts.exo_cameras) | {f"{name}_{lens.name}" for name in facts.arias for lens in aria.LENSES}
    _compare_names("cameras", {camera.name for camera in cameras}, expected, findings)


def _compare_names(what: str, found: set[str], expected: set[str], findings: Findings) -> None:
    for names, verb in ((expected - found, "expected and not found"), (found - expected, "found and not expected")):
        if names:
            findings.add("catalogue", "warning", f"{what} {verb}: {', '.join(sorted(names))}")


def _read_ego_cameras(
    reader: TakeReader, ground: _Ground, aria_transforms: dict[str, np.ndarray], findings: Findings
) -> list[rig.TakeCamera]:
    cameras: list[rig.TakeCamera] = []
    for name, calibrations in ground.calibrations.items():
        used = [calibrations[int(frame)] for frame in ground.frames]
        try:
            found = aria.ego_cameras(name, used, aria_transforms, findings)
        except ValueError as error:
            findings.add("ego_camera", "error", f"cameras of {name} left out: {error}", person=name)
            continue
        aria.check_ego_cameras(found, ground.frames, findings)
        cameras += found
    return cameras


def _read_views(
    reader: TakeReader,
    cameras: list[rig.TakeCamera],
    ground: _Ground,
    joints_3d_world: np.ndarray,
    findings: Findings,
) -> dict[str, np.ndarray]:
    """The people in every camera, truth and detections, as the contract's arrays (K, T, P, 17, ...)."""
    shape = (len(cameras), *joints_3d_world.shape[:-1])
    views = {
        "joints_2d_projected": np.full((*shape, 2), np.nan, np.float32),
        "joints_2d_detected": np.full((*shape, 2), np.nan, np.float32),
        "detection_score": np.zeros(shape, np.float32),
        "in_view": np.zeros(shape, np.uint8),
    }
    detections.check_detections(reader, cameras, ground.frames, findings)
    for k, camera in enumerate(cameras):
        projected, in_view = rig.project_people(camera, joints_3d_world)
        if camera.wearer in ground.people:  # what a head-worn camera sees of its wearer is not a person in view
            wearer = ground.people.index(camera.wearer)
            projected[:, wearer], in_view[:, wearer] = np.nan, False
        views["joints_2d_projected"][k], views["in_view"][k] = projected, in_view
        views["joints_2d_detected"][k], views["detection_score"][k] = detections.read_detections(
            reader, camera, ground.frames, ground.people, findings
        )
    return views


def _camera_arrays(cameras: list[rig.TakeCamera], frame_count: int) -> dict:
    """Names, lenses and poses as the contract's camera variables; what is constant repeats for every frame."""
    params = np.full((len(cameras), frame_count, MAX_CAMERA_PARAMS), np.nan)
    world_to_camera = np.empty((len(cameras), frame_count, 3, 4))
    for k, camera in enumerate(cameras):
        params[k, :, : camera.camera.params.shape[-1]] = camera.camera.params
        world_to_camera[k] = camera.camera.world_to_camera
    return {
        "camera": [camera.name for camera in cameras],
        "camera_kind": [camera.kind for camera in cameras],
        "camera_wearer": [camera.wearer for camera in cameras],
        "camera_model": [camera.camera.model for camera in cameras],
        "camera_is_moving": np.array([camera.is_moving for camera in cameras], np.uint8),
        "camera_params": params,
        "world_to_camera": world_to_camera,
        "image_size": np.array([camera.camera.image_size for camera in cameras], np.int32),
    }


def _first_error(findings: Findings) -> str:
    """The first error found so far, to explain why nothing is left."""
    return next((item["message"] for item in findings.items if item["severity"] == "error"), "no file was damaged")
