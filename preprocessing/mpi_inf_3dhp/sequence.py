"""One sequence of MPI-INF-3DHP as a sequence of the HDF5 contract, out of annotations and cameras."""

import numpy as np

from finepose_mp import cameras, schema
from finepose_mp.geometry import apply_rigid, invert_rigid
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.preprocessing.mpi_inf_3dhp import checks, facts
from finepose_mp.preprocessing.mpi_inf_3dhp.annotations import Annotations
from finepose_mp.preprocessing.mpi_inf_3dhp.calibration import Pinhole

_MODEL = "pinhole"


def build_training(
    name: str, found: Annotations, rig: dict[int, Pinhole], source_files: dict, findings: Findings
) -> schema.Sequence:
    """A training sequence, in the world of its calibration.

    Args:
        name: "S1/Seq1".
        found: its annotations, of the cameras of `rig` in that order.
        rig: camera number -> camera.
        source_files: for the file's attribute of that name.
        findings: grows by what does not agree.
    """
    if found.metric is None:
        fits = np.ones(len(rig), bool)  # shown when the file was read, in the pelvis, which is not scaled
    else:
        fits = checks.check_training_cameras(found.metric, found.pixels, rig, findings)
    poses = {"metric": found.metric, "universal": found.universal}
    worlds = {
        kind: None if arrays is None else checks.check_agreement(_to_world(arrays, rig), found.camera, findings)
        for kind, arrays in poses.items()
    }
    for number, frames in facts.SHORT_VIDEOS.get(name, {}).items():
        if number in rig:
            message = f"the video of camera {number} ends after {frames} frames; its annotations go on"
            findings.add("video.short", "info", message, camera=str(number))
    subject = name.split("/")[0]
    return _assemble(
        name,
        found,
        list(rig.values()),
        fits,
        worlds,
        findings,
        person=subject,
        scene=name.replace("/", " "),
        split="train",
        split_within_scene="val" if subject == facts.VALIDATION_SUBJECT else "train",
        fps=facts.TRAINING[name].fps,
        world_up="+y",
        source_files=source_files,
    )


def build_test(name: str, found: Annotations, source_files: dict, findings: Findings) -> schema.Sequence:
    """A test sequence; where its camera's pose is not known, the world is the camera's frame.

    Args: as `build_training`. Raises DamagedFileError when the annotations are another sequence's.
    """
    if found.metric is None:
        camera, fits = checks.builtin_test(name), True
    else:
        camera, fits = checks.test_camera(name, found.metric[0], found.pixels[0], findings)
    worlds = {
        kind: None if arrays is None else _to_world(arrays, {0: camera})[0]
        for kind, arrays in (("metric", found.metric), ("universal", found.universal))
    }
    findings.add(
        "fps.undocumented",
        "info",
        f"the frame rate is not documented, taken as {facts.TEST_FPS:g} like the training set's",
    )
    return _assemble(
        name,
        found,
        [camera],
        np.array([fits]),
        worlds,
        findings,
        person=name,
        scene=name,
        split="test",
        split_within_scene="test",
        fps=facts.TEST_FPS,
        world_up="-y" if camera.world_to_camera is None else "+y",
        source_files=source_files,
    )


def _assemble(
    name: str,
    found: Annotations,
    rig: list[Pinhole],
    fits: np.ndarray,
    worlds: dict[str, np.ndarray | None],
    findings: Findings,
    *,
    person: str,
    **said: object,
) -> schema.Sequence:
    world, universal = worlds["metric"], worlds["universal"]
    if world is None:
        world = universal
        findings.add(
            "universal.only",
            "warning",
            "the source has univ_annot3 alone, limbs scaled differently: joints_3d_world is the universal skeleton and "
            "does not project onto the 2D; add the 'ori' file of D3DP or the official files for metric poses",
        )
    else:
        checks.check_bones(world, found.frame, found.valid_frame, findings)
    frames, count = len(found.frame), len(rig)
    pixels, in_view = _views(found, rig, fits)
    nothing = np.full((count, frames, 1, len(facts.JOINTS_OF_28), 2), np.nan, np.float32)
    activity = {}
    if found.activity is not None:
        names = {str(number): title for number, title in facts.ACTIVITIES.items()}
        activity = {"activity": found.activity, "activity_names": names}
    return schema.Sequence(
        name=name,
        frame=found.frame,
        person=[person],
        camera=[str(number) for number in found.camera],
        joints_3d_world=world[:, None].astype(np.float32),
        joint_status=np.where(np.isfinite(world).all(-1), schema.OBSERVED, schema.MISSING)[:, None].astype(np.uint8),
        world_to_camera=np.stack([np.tile(_pose(camera), (frames, 1, 1)) for camera in rig]),
        camera_model=[_MODEL] * count,
        camera_params=np.stack([np.tile(_padded(camera.intrinsics), (frames, 1)) for camera in rig]),
        camera_kind=["exo"] * count,
        camera_is_moving=np.zeros(count, np.uint8),
        camera_wearer=[""] * count,
        image_size=np.array([camera.image_size for camera in rig], np.int32),
        joints_2d_projected=pixels[:, :, None].astype(np.float32),
        joints_2d_detected=nothing,
        detection_score=np.zeros(nothing.shape[:-1], np.float32),
        in_view=in_view[:, :, None].astype(np.uint8),
        action="",
        subjects=[person],
        findings=findings.items,
        valid_frame=None if found.valid_frame is None else found.valid_frame.astype(np.uint8),
        joints_3d_universal_world=None if universal is None else universal[:, None].astype(np.float32),
        **activity,
        **said,
    )


def _views(found: Annotations, rig: list[Pinhole], fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2D (K, T, J, 2) in px, NaN unless in view, and what is in view (K, T, J).

    The dataset's own 2D where the camera explains it (it is then the better one at hips and spine, which were edited in
    the image), the projection of the 3D where not.
    """
    pixels = np.full_like(found.pixels, np.nan)
    seen = np.zeros(pixels.shape[:-1], bool)
    for k, camera in enumerate(rig):
        projected = cameras.project(found.poses[k], _MODEL, camera.intrinsics)
        used = found.pixels[k] if fits[k] else projected
        inside = [((each >= 0) & (each < camera.image_size)).all(axis=-1) for each in (used, projected)]
        seen[k] = inside[0] & inside[1]
        pixels[k][seen[k]] = used[seen[k]]
    return pixels, seen


def _to_world(poses: np.ndarray, rig: dict[int, Pinhole]) -> np.ndarray:
    """Poses (K, T, J, 3) of every camera's frame in the world."""
    return np.stack([apply_rigid(poses[k], invert_rigid(_pose(camera))) for k, camera in enumerate(rig.values())])


def _pose(camera: Pinhole) -> np.ndarray:
    return np.eye(3, 4) if camera.world_to_camera is None else camera.world_to_camera


def _padded(intrinsics: np.ndarray) -> np.ndarray:
    return np.concatenate([intrinsics, np.full(schema.MAX_CAMERA_PARAMS - len(intrinsics), np.nan)])
