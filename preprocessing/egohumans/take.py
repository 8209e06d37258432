"""One raw EgoHumans take, read and checked, as one sequence of the HDF5 contract."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finepose_mp.preprocessing.egohumans import (
    aria,
    catalogue,
    detections,
    exo,
    outliers,
    people,
    plausibility,
    rig,
    transforms,
    views,
)
from finepose_mp.preprocessing.egohumans.source import TakeError, TakeReader, TakeSource
from finepose_mp.preprocessing.findings import Findings, count_of
from finepose_mp.preprocessing.spilling import camera_array
from finepose_mp.schema import MAX_CAMERA_PARAMS, Sequence

SIMULATED_FILE = "SIMULATED.json"

# Of the fitted frames. All folders share their frames, so an Aria with fewer calibrations loses its cameras instead.
MIN_CALIBRATED = 0.5

_ARIA_NAME = re.compile(r"aria\d{2}")


@dataclass(frozen=True)
class _Ground:
    """What every later step needs: frames (T,), people, and the calibrations of every Aria that has any."""

    frames: np.ndarray
    people: list[str]
    calibrations: dict[str, aria.Calibrations]


def read_take(source: TakeSource, facts: catalogue.Take, scratch: Path | None = None) -> Sequence:
    """The whole take, with its findings; large arrays lie in nameless files in the folder `scratch`.

    Frames are those for which there is a fitted pose and a calibration of every Aria; they keep their numbers.

    Raises:
        TakeError: something is absent without which there is nothing to convert.
        DamagedFileError: a file that the whole take depends on is damaged.
        UnsafeFileError: a pickle tried to be more than data.
    """
    reader, findings = TakeReader(source), Findings()
    simulated = _read_simulated(reader)
    _check_required(reader)
    _report_folders(reader, findings)
    aria_transforms = transforms.read_transforms(reader, findings)
    fit = people.read_poses(reader, people.FIT_FOLDER, findings)
    triangulated = people.read_poses(reader, people.TRIANGULATED_FOLDER, findings)
    ground = _lay_ground(reader, facts, fit, findings)
    if simulated is None:
        _compare_with_catalogue(facts, ground, fit, findings)
    poses = people.assemble(fit, triangulated, ground.frames, ground.people, findings)
    del fit, triangulated  # what grows with the length of a take is kept no longer than needed
    plausibility.check_plausibility(poses.joints_3d_world, ground.frames, ground.people, facts.fps, findings)
    cameras = _read_ego_cameras(ground, aria_transforms, poses.joints_3d_world, findings)
    ground.calibrations.clear()
    cameras += exo.read_exo_cameras(reader, facts, aria_transforms[transforms.ANCHOR], findings)
    if not cameras:
        raise TakeError(f"no camera could be read; {_first_error(findings)}")
    for camera in cameras:
        rig.check_lens(camera, findings)
    outliers.check_poses_and_cameras(poses, cameras, ground.frames, ground.people, findings)
    rig.check_images(reader, cameras, len(ground.frames), findings)
    if simulated is None and facts.known:
        _compare_cameras(facts, cameras, findings)
    seen = views.read_views(reader, cameras, ground.frames, ground.people, poses, findings, scratch)
    return Sequence(
        name=facts.name,
        frame=ground.frames,
        person=ground.people,
        joints_3d_world=poses.joints_3d_world,
        joint_status=poses.joint_status,
        fps=facts.fps,
        subjects=list(ground.people),
        source_files=reader.source_files,
        findings=findings.items,
        **_words(facts, simulated),
        **_camera_arrays(cameras, len(ground.frames), scratch),
        **seen,
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


def _report_folders(reader: TakeReader, findings: Findings) -> None:
    """Counts the numbered files of every folder of poses, detections, calibrations and images."""
    folders = {people.FIT_FOLDER: ".npy", people.TRIANGULATED_FOLDER: ".npy"}
    folders |= {f"{detections.FOLDER}/{name}/rgb": ".npy" for name in reader.names(detections.FOLDER)}
    for name in filter(_ARIA_NAME.fullmatch, reader.names("ego")):
        folders[f"ego/{name}/calib"] = ".txt"
        folders |= {f"ego/{name}/images/{lens.name}": ".jpg" for lens in aria.LENSES}
    exo_folders = filter(exo.CAMERA_FOLDER.fullmatch, reader.names("exo"))
    folders |= {f"exo/{name}/images": ".jpg" for name in exo_folders}
    counts = {folder: len(reader.frame_numbers(folder, ending)) for folder, ending in folders.items()}
    _report_misnumbered(reader, folders, findings)
    counts = {folder: count for folder, count in counts.items() if count}
    message = f"{sum(counts.values())} numbered files in {len(counts)} folders"
    findings.add("frames.folders", "info", message, found=counts)


def _report_misnumbered(reader: TakeReader, folders: dict[str, str], findings: Findings) -> None:
    """Reports numbered files that are left out because they are no frame's, of folders with the endings of their files.

    Pictures are no part of what is converted, so their names do not matter.
    """
    zero, others = [], {}
    for folder, ending in folders.items():
        names = reader.misnumbered(folder, ending) if ending != ".jpg" else []
        zero += [f"{folder}/{name}" for name in names if name == f"00000{ending}"]
        if names := [name for name in names if name != f"00000{ending}"]:
            others[folder] = names
    if zero:
        message = (
            f"frame 0 left out, frames count from 1: {zero[0]}"
            + (f" and {count_of(len(zero) - 1, 'more file')}" if len(zero) > 1 else "")
            + ". Where a whole take counts from 0, add 1 to all its numbers, those of its pictures as well"
        )
        findings.add("frames.zero", "warning", message, found=zero)
    if others:
        listed = [f"{folder} {len(names)} ({names[0]})" for folder, names in others.items()]
        more = f" and {count_of(len(listed) - 3, 'more folder')}" if len(listed) > 3 else ""
        message = "numbered files left out, expected five digits (00001, 00002, ...): "
        message += f"{', '.join(listed[:3])}{more}; rename them"
        found = {folder: len(names) for folder, names in others.items()}
        findings.add("frames.misnumbered", "error", message, found=found)


def _lay_ground(reader: TakeReader, facts: catalogue.Take, fit: people.PoseFolder, findings: Findings) -> _Ground:
    """People, calibrations and the frames that all of them share."""
    folders = [name for name in reader.names("ego") if _ARIA_NAME.fullmatch(name)]
    with_poses = _people_with_poses(fit, findings)
    ignored = sorted((with_poses | set(folders)) & set(facts.invalid_arias))
    if ignored:
        message = f"{', '.join(ignored)} declared invalid by the official configuration: neither people nor cameras"
        findings.add("people.declared_invalid", "info", message, found=ignored)
    calibrations = _read_calibrations(reader, [name for name in folders if name not in ignored], findings)
    calibrations = _with_most_frames(calibrations, fit.frames, findings)
    names = sorted((with_poses | set(folders)) - set(ignored))
    if not names:
        invalid = f", only {', '.join(ignored)}, declared invalid" if ignored else ""
        raise TakeError(
            f"no valid person in ego/ or {people.FIT_FOLDER} ({len(fit.frames)} files), expected aria01, aria02, "
            f"...{invalid}; {_first_error(findings)}. Get the take again"
        )
    numbers = {people.FIT_FOLDER: set(fit.frames.tolist())}
    numbers |= {f"ego/{name}/calib": set(found.frames.tolist()) for name, found in calibrations.items()}
    return _Ground(_shared_frames(numbers, findings), names, calibrations)


def _read_calibrations(reader: TakeReader, arias: list[str], findings: Findings) -> dict[str, aria.Calibrations]:
    """The calibrations of those Arias that have any."""
    found = {name: aria.read_calibrations(reader, name, findings) for name in arias}
    for name in arias:
        if found[name] is None:
            message = f"no readable ego/{name}/calib/*.txt: no cameras of {name}"
            findings.add("ego_camera.no_calibration", "error", message, person=name)
    return {name: calibrations for name, calibrations in found.items() if calibrations is not None}


def _with_most_frames(
    calibrations: dict[str, aria.Calibrations], frames: np.ndarray, findings: Findings
) -> dict[str, aria.Calibrations]:
    """Calibrations without those of Arias that would cost the take more frames than their cameras are worth."""
    kept = {}
    for name, found in calibrations.items():
        count = int(np.isin(frames, found.frames).sum())
        if count >= MIN_CALIBRATED * len(frames):
            kept[name] = found
            continue
        message = f"cameras of {name} left out: ego/{name}/calib covers {count} of {len(frames)} fitted frames"
        findings.add("ego_camera.left_out", "error", message, person=name, expected=len(frames), found=count)
    return kept


def _people_with_poses(fit: people.PoseFolder, findings: Findings) -> set[str]:
    names = set(fit.people)
    known = {name for name in names if _ARIA_NAME.fullmatch(name)}
    if names - known:
        message = f"{people.FIT_FOLDER} names {', '.join(sorted(names - known))}, expected aria01, aria02, ...; ignored"
        findings.add("people.unknown_name", "warning", message, found=sorted(names - known))
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
            findings.add(
                "frames.lacking",
                "warning",
                message,
                frames=known - found,
                expected=len(known),
                found={"folder": folder, "files": len(found)},
            )
    frames = np.array(sorted(shared), np.int32)
    gaps = set(range(1, int(frames[-1]) + 1)) - known
    if gaps:
        message = f"frame numbers do not run from 1 without gaps: {len(gaps)} missing; the others keep their numbers"
        findings.add("frames.gap", "warning", message, frames=gaps, expected=0, found=len(gaps))
    found = {folder: len(numbers) for folder, numbers in numbers.items()}
    findings.add("frames.used", "info", f"{len(frames)} frames used; files: {counts}", found=found)
    return frames


def _compare_with_catalogue(facts: catalogue.Take, ground: _Ground, fit: people.PoseFolder, findings: Findings) -> None:
    if not facts.known:
        message = f"{facts.name} is not in the catalogue: all Arias and cameras count as valid"
        findings.add("catalogue.unknown_take", "warning", message)
        return
    if facts.frames is not None and len(fit.frames) != facts.frames:
        message = f"{len(fit.frames)} fitted frames, the published length is {facts.frames}"
        findings.add("catalogue.length", "warning", message, expected=facts.frames, found=len(fit.frames))
    _compare_names("people", set(ground.people), set(facts.arias), findings)


def _compare_cameras(facts: catalogue.Take, cameras: list[rig.TakeCamera], findings: Findings) -> None:
    expected = set(facts.exo_cameras) | {f"{name}_{lens.name}" for name in facts.arias for lens in aria.LENSES}
    _compare_names("cameras", {camera.name for camera in cameras}, expected, findings)


def _compare_names(what: str, found: set[str], expected: set[str], findings: Findings) -> None:
    missing, unexpected = sorted(expected - found), sorted(found - expected)
    if missing:
        message = f"{what} expected and not found: {', '.join(missing)}"
        findings.add(f"catalogue.{what}_missing", "warning", message, expected=sorted(expected), found=sorted(found))
    if unexpected:
        message = f"{what} found and not expected: {', '.join(unexpected)}"
        findings.add(f"catalogue.{what}_unexpected", "warning", message, expected=sorted(expected), found=sorted(found))


def _read_ego_cameras(
    ground: _Ground, aria_transforms: dict[str, np.ndarray], joints_3d_world: np.ndarray, findings: Findings
) -> list[rig.TakeCamera]:
    cameras: list[rig.TakeCamera] = []
    for name, calibrations in ground.calibrations.items():
        try:
            found = aria.ego_cameras(name, calibrations.at(ground.frames), aria_transforms, findings)
        except ValueError as error:
            findings.add(
                "ego_camera.left_out", "error", f"cameras of {name} left out: {error}", person=name, found=str(error)
            )
            continue
        aria.check_ego_cameras(found, ground.frames, findings)
        aria.check_glasses_on_head(found, joints_3d_world[:, ground.people.index(name)], findings)
        cameras += found
    return cameras


def _camera_arrays(cameras: list[rig.TakeCamera], frame_count: int, scratch: Path | None) -> dict:
    """Names, lenses and poses as the contract's camera variables; what is constant repeats for every frame."""
    params = camera_array((len(cameras), frame_count, MAX_CAMERA_PARAMS), np.float64, scratch)
    world_to_camera = camera_array((len(cameras), frame_count, 3, 4), np.float64, scratch)
    for k, camera in enumerate(cameras):
        known = camera.camera.params
        filling = np.full((*known.shape[:-1], MAX_CAMERA_PARAMS - known.shape[-1]), np.nan)
        params[k] = np.concatenate([known, filling], axis=-1)
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
