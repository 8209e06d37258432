"""Checks of one clip's poses: is it the clip and the subject that its name says, and what is known to be wrong with it.

What would silently give wrong data (another subject's or another clip's poses, which would be seen through the wrong
cameras) is refused; everything else becomes a finding.
"""

import numpy as np

from finepose_mp.cameras import Camera, project
from finepose_mp.preprocessing.human36m import facts
from finepose_mp.preprocessing.human36m.files import RawDataError
from finepose_mp.preprocessing.human36m.findings import finding
from finepose_mp.skeletons import H36M17

# Joints at both ends of the bones whose lengths are known, of the right side.
BONES: dict[str, tuple[str, str]] = {
    "hip": ("pelvis", "right_hip"),
    "thigh": ("right_hip", "right_knee"),
    "shank": ("right_knee", "right_ankle"),
    "spine": ("pelvis", "spine"),
    "thorax": ("spine", "neck"),
    "neck": ("neck", "head"),
    "head": ("head", "head_top"),
    "clavicle": ("neck", "right_shoulder"),
    "upper_arm": ("right_shoulder", "right_elbow"),
    "forearm": ("right_elbow", "right_wrist"),
}

_PLAUSIBLE_THIGH_M = (0.2, 0.7)
_SAME_BONE_M = 0.002  # the published lengths are rounded to 0.1 mm
_RIGID_BONE_M = 0.001
_D2_LIMIT_PX, _D2_OTHER_VIEW_PX = 1e-3, 5.0
_MIN_IN_VIEW = 0.5


def check_identity(clip: facts.Clip, joints_3d_world: np.ndarray) -> list[dict]:
    """Findings about length and bones of a clip's poses (T, 17, 3) in metres.

    Raises:
        RawDataError: these are another clip's or another subject's poses.
    """
    return _check_length(clip, len(joints_3d_world)) + _check_bones(clip, joints_3d_world)


def known_defects(clip: facts.Clip, corrected: bool) -> list[dict]:
    """Findings about what is known to be wrong with a published clip.

    Args:
        corrected: whether the shift of the three shifted takes has been taken out.
    """
    findings = []
    if clip.is_shifted:
        done = "taken out" if corrected else "kept, pass --correct-shifted-takes to take it out"
        message = (
            f"the poses of {clip.sequence} lie 200 mm off the images along world x (a defect of the release): {done}; "
            "root-relative errors with 2D from the same poses are not affected, detections and reprojection are"
        )
        findings.append(finding("defect.shifted_3d", "info" if corrected else "warning", message, found=corrected))
    if clip.is_truncated:
        message = (
            f"motion capture of {clip.sequence} ended early: {clip.frames} poses for {min(clip.video)} frames of video"
        )
        findings.append(finding("defect.truncated", "warning", message, expected=min(clip.video), found=clip.frames))
    subject, name, camera = facts.UNREADABLE_VIDEO
    if (clip.subject, clip.name) == (subject, name):
        message = (
            f"the released video of {clip.sequence} from camera {camera} cannot be read; much of the literature drops "
            "the clip with all four cameras, and the published 543 344 test poses are without it"
        )
        findings.append(finding("defect.unreadable_video", "warning", message, camera=camera))
    return findings


def check_d2(joints_3d_world: np.ndarray, published: dict[str, np.ndarray], cameras: dict[str, Camera]) -> list[dict]:
    """Findings about the official 2D positions: do the cameras reproduce them from the poses, which they were made of.

    Args:
        joints_3d_world: (T, 17, 3) in metres, as published.
        published: camera -> (T', 17, 2) in pixels.
    """
    findings = []
    for name, pixels in published.items():
        frames = min(len(pixels), len(joints_3d_world))
        if len(pixels) != len(joints_3d_world):
            message = f"D2_Positions of camera {name} have {len(pixels)} frames, the poses {len(joints_3d_world)}"
            findings.append(
                finding("d2.length", "warning", message, camera=name, expected=len(joints_3d_world), found=len(pixels))
            )
        camera = cameras[name]
        projected = project(camera.to_camera(joints_3d_world[:frames]), camera.model, camera.params)
        findings.append(_compare_d2(name, np.abs(projected - pixels[:frames]).max(axis=-1)))
    return findings


def check_visibility(in_view: np.ndarray, cameras: list[str]) -> list[dict]:
    """A finding for each camera (K, T, J) that sees less than half of the person's joints."""
    shares = in_view.mean(axis=(1, 2))
    return [
        finding(
            "visibility",
            "warning",
            f"camera {name} sees {share:.0%} of the joints; people of Human3.6M stay in view of all cameras",
            camera=name,
            found=round(float(share), 3),
        )
        for name, share in zip(cameras, shares, strict=True)
        if share < _MIN_IN_VIEW
    ]


def _check_length(clip: facts.Clip, frames: int) -> list[dict]:
    if frames == clip.frames:
        return []
    same_name = [facts.find_clip(subject, clip.name) for subject in facts.clips()]
    others = [other for other in (*same_name, *facts.clips()[clip.subject].values()) if other is not None]
    twin = next((other for other in others if other.frames == frames), None)
    if twin is not None:
        raise RawDataError(
            f"{clip.sequence} has {frames} poses, which is the length of {twin.sequence}; {clip.frames} were "
            f"published for {clip.sequence}. Files of two {'subjects' if twin.subject != clip.subject else 'clips'} "
            f"are mixed up; unpack the archives of {' and '.join(sorted({clip.subject, twin.subject}))} again"
        )
    message = f"{clip.sequence} has {frames} poses, {clip.frames} were published"
    return [finding("clip.length", "warning", message, expected=clip.frames, found=frames)]


def _check_bones(clip: facts.Clip, joints_3d_world: np.ndarray) -> list[dict]:
    joints_3d_world = joints_3d_world[np.isfinite(joints_3d_world).all(axis=(1, 2))]
    if not len(joints_3d_world):
        return []
    findings = []
    spread = np.ptp(_lengths(joints_3d_world, H36M17.bones), axis=0)
    if spread.max() > _RIGID_BONE_M:
        bone = " to ".join(H36M17.joints[joint] for joint in H36M17.bones[spread.argmax()])
        message = f"the bone from {bone} changes its length by {1000 * spread.max():.1f} mm within the clip"
        findings.append(finding("bones.rigid", "warning", message, found=round(float(spread.max()), 5)))
    named = [tuple(map(H36M17.index, bone)) for bone in BONES.values()]
    return findings + _compare_bones(clip, np.median(_lengths(joints_3d_world, named), axis=0))


def _lengths(joints_3d_world: np.ndarray, bones: list[tuple[int, int]]) -> np.ndarray:
    """Lengths (T, bones) in metres."""
    ends = np.array(bones)
    return np.linalg.norm(joints_3d_world[:, ends[:, 1]] - joints_3d_world[:, ends[:, 0]], axis=-1)


def _compare_bones(clip: facts.Clip, lengths: np.ndarray) -> list[dict]:
    """Compares with the skeletons that are known, of four subjects."""
    thigh = lengths[list(BONES).index("thigh")]
    if not _PLAUSIBLE_THIGH_M[0] < thigh < _PLAUSIBLE_THIGH_M[1]:
        raise RawDataError(
            f"{clip.sequence}: the thigh is {thigh:.3g} m long; are the poses in another unit? CDF files and the tree "
            "of 3d-pose-baseline have millimetres, data_3d_h36m.npz has metres"
        )
    difference = {
        subject: np.abs(lengths - np.array([bones[name] for name in BONES])).max()
        for subject, bones in facts.bone_lengths().items()
    }
    nearest = min(difference, key=difference.get)
    if nearest != clip.subject and difference[nearest] < _SAME_BONE_M:
        raise RawDataError(
            f"{clip.sequence} has the skeleton of {nearest} (all bones within {1000 * difference[nearest]:.1f} mm): "
            f"files of subjects are mixed up; unpack the archives of {clip.subject} and {nearest} again"
        )
    own = difference.get(clip.subject, 0.0)
    if own < _SAME_BONE_M:
        return []
    message = f"bones differ from the published skeleton of {clip.subject} by up to {1000 * own:.0f} mm"
    return [finding("bones.length", "warning", message, found=round(float(own), 4))]


def _compare_d2(camera: str, difference: np.ndarray) -> dict:
    """The finding on differences (T, 17) in pixels; a difference that is NaN is one."""
    largest = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    if largest <= _D2_LIMIT_PX:
        message = f"D2_Positions of camera {camera} are the poses through its lens, to {largest:.1e} px"
        return finding("d2.projection", "info", message, camera=camera, found=largest)
    typical = float(np.median(difference))
    other = typical > _D2_OTHER_VIEW_PX or not np.isfinite(typical)
    hint = ": they belong to another camera, clip or subject" if other else ""
    message = f"D2_Positions of camera {camera} lie {typical:.2g} px (median) from the poses through its lens{hint}"
    found = round(typical, 4) if np.isfinite(typical) else None
    return finding("d2.projection", "error" if other else "warning", message, camera=camera, found=found)
