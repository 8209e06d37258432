"""One clip of Human3.6M, read and checked, as one sequence of the HDF5 contract."""

from dataclasses import dataclass, field

import numpy as np

from finepose_mp import schema
from finepose_mp.cameras import Camera, project
from finepose_mp.preprocessing.human36m import checks, detections, facts
from finepose_mp.preprocessing.human36m.calibration import LENS, Calibration
from finepose_mp.preprocessing.human36m.files import RawDataError
from finepose_mp.preprocessing.human36m.findings import finding
from finepose_mp.preprocessing.human36m.poses import PoseSource


@dataclass(frozen=True)
class ClipJob:
    """Everything that reading one clip takes; it can be sent to another process.

    Attributes:
        clip: what is known about the clip.
        poses: where its poses are.
        calibration: cameras of all subjects.
        detected: what the files of --detections have of it; the first one counts.
        correct_shift: take the 200 mm out of the three shifted takes.
        simulated: whether a program made the poses.
        findings: what was found about the archive as a whole.
    """

    clip: facts.Clip
    poses: PoseSource
    calibration: Calibration
    detected: tuple[detections.ClipDetections | detections.TreeDetections, ...] = ()
    correct_shift: bool = False
    simulated: bool = False
    findings: tuple[dict, ...] = field(default=())


def read_clip(job: ClipJob) -> schema.Sequence:
    """The clip in memory, with its findings; frames are numbered from 1 as in the dataset's image names.

    Raises:
        RawDataError: its files cannot be read, or hold another clip or subject.
    """
    clip = job.clip
    poses = job.poses.read()
    joints = poses.joints_3d_world
    findings = [*job.findings, *checks.check_identity(clip, joints)]
    cameras = job.calibration.cameras(clip.subject)
    findings += checks.check_d2(joints, poses.joints_2d_published, cameras)
    findings += checks.known_defects(clip, job.correct_shift)
    if clip.is_shifted and job.correct_shift:
        joints = joints + np.float32(facts.SHIFT_CORRECTION_M)
    status, missing = _status(joints, clip)
    projected, in_view = _project(joints, cameras)
    detected, detection_files, about_detections = _detections(job, len(joints), projected)
    findings += missing + checks.check_visibility(in_view, list(cameras)) + about_detections
    return schema.Sequence(
        name=clip.sequence,
        frame=np.arange(1, len(joints) + 1, dtype=np.int32),
        person=[clip.subject],
        joints_3d_world=joints[:, None],
        joint_status=status[:, None],
        joints_2d_projected=np.where(in_view[..., None], projected, np.nan)[:, :, None],
        joints_2d_detected=detected[:, :, None],
        detection_score=np.isfinite(detected).all(axis=-1).astype(np.float32)[:, :, None],
        in_view=in_view.astype(np.uint8)[:, :, None],
        scene=clip.scene,
        action=clip.words,
        split=clip.split,
        split_within_scene=clip.split_within_scene,
        fps=facts.FPS,
        simulated=job.simulated,
        subjects=[clip.subject],
        source_files=poses.source_files | job.calibration.source_files | detection_files,
        findings=findings,
        **_camera_arrays(cameras, len(joints)),
    )


def _status(joints: np.ndarray, clip: facts.Clip) -> tuple[np.ndarray, list[dict]]:
    """Status (T, 17) of joints (T, 17, 3), and a finding where some are missing."""
    known = np.isfinite(joints).all(axis=-1)
    status = np.where(known, schema.OBSERVED, schema.MISSING).astype(np.uint8)
    if known.all():
        return status, []
    message = f"{clip.sequence}: {np.count_nonzero(~known)} of {known.size} joint positions are not finite"
    return status, [finding("poses.missing", "warning", message, found=int(np.count_nonzero(~known)))]


def _project(joints: np.ndarray, cameras: dict[str, Camera]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (K, T, 17, 2) of joints (T, 17, 3) through every camera, also outside its image, and what is in view."""
    pixels = np.stack([project(c.to_camera(joints), c.model, c.params) for c in cameras.values()])
    sizes = np.array([camera.image_size for camera in cameras.values()])[:, None, None]
    return pixels.astype(np.float32), ((pixels >= 0) & (pixels < sizes)).all(axis=-1)


def _detections(job: ClipJob, frames: int, projected: np.ndarray) -> tuple[np.ndarray, dict[str, dict], list[dict]]:
    """Detections (K, T, 17, 2), the record of their files, and findings."""
    none = np.full(projected.shape, np.nan, np.float32)
    if not job.detected:
        return none, {}, []
    first, *others = job.detected
    try:
        found = first.read() if isinstance(first, detections.TreeDetections) else first
    except RawDataError as error:
        return none, {}, [finding("detections.unreadable", "error", f"no detections: {error}")]
    joints_2d, findings = detections.assemble(found, frames)
    if others:
        message = f"detections from {first.location}; not used: {', '.join(other.location for other in others)}"
        findings.append(finding("detections.several", "info", message))
    return joints_2d, found.source_files, findings + detections.check_residual(joints_2d, projected)


def _camera_arrays(cameras: dict[str, Camera], frames: int) -> dict:
    """Names, lenses and poses as the contract's camera variables; the cameras stand still."""
    params = np.full((len(cameras), frames, schema.MAX_CAMERA_PARAMS), np.nan)
    world_to_camera = np.empty((len(cameras), frames, 3, 4))
    for k, camera in enumerate(cameras.values()):
        params[k, :, : len(camera.params)] = camera.params
        world_to_camera[k] = camera.world_to_camera
    return {
        "camera": list(cameras),
        "camera_kind": ["exo"] * len(cameras),
        "camera_wearer": [""] * len(cameras),
        "camera_model": [LENS] * len(cameras),
        "camera_is_moving": np.zeros(len(cameras), np.uint8),
        "camera_params": params,
        "world_to_camera": world_to_camera,
        "image_size": np.array([camera.image_size for camera in cameras.values()], np.int32),
    }
