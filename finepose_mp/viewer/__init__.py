"""One self-contained HTML page that shows a scene in 3D: orbit, play, scrub, choose people; no network needed.

The page draws on a plain canvas and carries its
data inside: positions as whole millimetres, deflated, so that minutes of several people stay within a few megabytes.
"""

import base64
import html
import json
import zlib
from collections.abc import Mapping
from importlib.resources import files

import numpy as np

from finepose_mp import cameras
from finepose_mp.geometry import invert_rigid
from finepose_mp.schema import Sequence
from finepose_mp.skeletons import JointSet
from finepose_mp.visualization import PERSON_COLOURS, upright_axes

_KIND_NAMES = {"exo": "fixed", "ego_rgb": "head-worn, RGB", "ego_slam": "head-worn, SLAM"}
_MISSING_MM = np.int16(-32768)
_FRUSTUM_EXTENT = (0.7, 0.7)  # tangents, where a lens has no ray at the corner of its image


def scene_page(
    sequence: Sequence,
    joints: JointSet,
    layers: Mapping[str, np.ndarray],
    *,
    dashed: tuple[str, ...] = (),
    labels: Mapping[str, str] | None = None,
) -> str:
    """An HTML page of a sequence's people over time.

    Args:
        sequence: with T frames and P people; its cameras are drawn where their poses are known.
        joints: the joint set of the poses.
        layers: what to draw, by name: (T, P, J, 3) metres in the sequence's world, NaN where missing, or
            (H, T, P, J, 3) hypotheses, which are drawn as ghosts.
        dashed: names of layers drawn dashed.
        labels: longer texts for names of layers.

    Raises:
        ValueError: a layer of another shape, or nothing to draw in any of them.
    """
    stacked = {name: _with_hypotheses(name, poses, sequence, joints) for name, poses in layers.items()}
    visible = np.concatenate([poses.reshape(-1, 3) for poses in stacked.values()]) if stacked else np.empty((0, 3))
    visible = visible[np.isfinite(visible).all(axis=1)]
    if not len(visible):
        raise ValueError(f"{sequence.name}: no joint of anybody in {', '.join(layers) or 'no layer'}; nothing to show")
    low, high = np.percentile(visible, [1, 99], axis=0)
    up, sign = "xyz".index(sequence.world_up[-1]), -1 if sequence.world_up.startswith("-") else 1
    origin = (low + high) / 2
    origin[up] = low[up] if sign > 0 else high[up]  # the page's origin lies on the floor
    labels = labels or {}
    data = {
        "frames": len(sequence.frame),
        "frameNumbers": sequence.frame.tolist(),
        "fps": float(sequence.fps),
        "people": sequence.person,
        "joints": list(joints.joints),
        "bones": joints.bones,
        "colours": PERSON_COLOURS,
        "axes": upright_axes(sequence.world_up),
        "upSign": sign,
        "radius": float(np.clip(np.linalg.norm(high - low) / 2, 1, 30)),
        "floor": 0.0,
        "simulated": bool(sequence.simulated),
        "about": f"{sequence.action}, {len(sequence.frame)} frames, {sequence.fps:g} per second",
        "frameNote": f"world frame, {sequence.world_up} up; grid 1 m; origin moved to {_text(origin)} m",
        "kindNames": _KIND_NAMES,
        "layers": [
            {
                "name": name,
                "label": labels.get(name, name),
                "dashed": name in dashed,
                "hypotheses": len(poses),
                "data": _pack_positions(poses - origin),
            }
            for name, poses in stacked.items()
        ],
        "cameras": [_camera(sequence, k, origin) for k in range(len(sequence.camera))],
    }
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    # "</" would end the script wherever it stands in a name.
    text = json.dumps(data, allow_nan=False).replace("</", "<\\/")
    return template.replace("{{title}}", html.escape(sequence.name)).replace("{{data}}", text)


def _with_hypotheses(name: str, poses: np.ndarray, sequence: Sequence, joints: JointSet) -> np.ndarray:
    expected = (len(sequence.frame), len(sequence.person), len(joints), 3)
    poses = np.asarray(poses, dtype=np.float64)
    poses = poses[None] if poses.ndim == 4 else poses
    if poses.ndim != 5 or poses.shape[1:] != expected:
        raise ValueError(f"layer {name}: expected shape {expected} or (H, *{expected}), found {poses.shape}")
    return poses


def _pack_positions(poses: np.ndarray) -> str:
    """Positions (H, T, P, J, 3) metres as text: frame first, millimetres, differences over frames, deflated."""
    missing = ~np.isfinite(poses).all(axis=-1, keepdims=True)
    millimetres = np.where(missing, 0, np.clip(np.nan_to_num(poses) * 1000, -32767, 32767)).round().astype(np.int16)
    millimetres = np.where(missing, _MISSING_MM, millimetres).swapaxes(0, 1)
    differences = np.diff(millimetres, axis=0, prepend=np.zeros_like(millimetres[:1]))  # wraps around, as in adding up
    return _pack(differences.astype("<i2"))


def _camera(sequence: Sequence, k: int, origin: np.ndarray) -> dict:
    moving = bool(sequence.camera_is_moving[k])
    world_to_camera = sequence.world_to_camera[k] if moving else sequence.world_to_camera[k, :1]
    camera_to_world = np.full(world_to_camera.shape, np.nan)
    known = np.isfinite(world_to_camera).all(axis=(1, 2))
    camera_to_world[known] = invert_rigid(world_to_camera[known])
    camera_to_world[..., 3] -= origin
    return {
        "name": sequence.camera[k],
        "kind": sequence.camera_kind[k],
        "moving": moving,
        "extent": _frustum_extent(sequence, k),
        "data": _pack(camera_to_world.astype("<f4")),
    }


def _frustum_extent(sequence: Sequence, k: int) -> list[float]:
    """Tangents of the half angles of a camera's view, at most 1: wider pyramids would hide the scene."""
    model = cameras.MODELS.get(sequence.camera_model[k])
    params = sequence.camera_params[k][np.isfinite(sequence.camera_params[k][:, 0])]
    if model is None or not len(params):
        return list(_FRUSTUM_EXTENT)
    corner = cameras.unproject(np.zeros((1, 2)), sequence.camera_model[k], params[:1])[0]
    return np.minimum(np.abs(corner), 1).tolist() if np.isfinite(corner).all() else list(_FRUSTUM_EXTENT)


def _pack(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode("ascii")


def _text(point: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in point) + ")"
