"""One self-contained HTML page that shows a scene in 3D: orbit, play, scrub, choose people; no network needed.

The page draws on a plain canvas and carries its data inside: positions as whole millimetres, deflated, so that minutes
of several people stay within a few megabytes.
"""

import base64
import html
import json
import zlib
from importlib.resources import files

import numpy as np

from finepose_mp import cameras
from finepose_mp.geometry import invert_rigid
from finepose_mp.schema import Sequence
from finepose_mp.skeletons import JointSet
from finepose_mp.visualization import (
    PERSON_COLOURS,
    Layer,
    assumptions,
    frame_of_reference,
    frame_rate,
    layers_of,
    origin_of_prediction,
    seconds,
    upright_axes,
)

_KIND_NAMES = {"exo": "fixed", "ego_rgb": "head-worn, RGB", "ego_slam": "head-worn, SLAM"}
_MISSING_MM = np.int16(-32768)
_FRUSTUM_EXTENT = (0.7, 0.7)  # tangents, where a lens has no ray at the corner of its image


def scene_page(
    sequence: Sequence, joints: JointSet, layers: list[Layer] | None = None, frames: range | None = None
) -> str:
    """An HTML page of a sequence's people over time.

    Args:
        sequence: with T frames and P people; its cameras are drawn where their poses are known.
        joints: the joint set of the poses.
        layers: what to draw, by default truth, prediction and hypotheses, those that there are.
        frames: positions 0..T-1 to show, by default all.

    Raises:
        ValueError: a layer of another shape, or nothing to draw in any of them.
    """
    layers = layers_of(sequence) if layers is None else layers
    frames = range(len(sequence.frame)) if frames is None else frames
    _check_shapes(layers, sequence, joints)
    shown = {each.name: each.poses[:, frames].astype(np.float64) for each in layers}
    origin, radius = _middle_of(sequence, shown)
    rate = frame_rate(sequence) / frames.step
    data = {
        "frames": len(frames),
        "frameNumbers": sequence.frame[frames].tolist(),
        "seconds": seconds(sequence)[frames].round(3).tolist(),
        "fps": rate,
        "people": sequence.person,
        "joints": list(joints.joints),
        "bones": joints.bones,
        "colours": PERSON_COLOURS,
        "axes": upright_axes(sequence.world_up),
        "upSign": -1 if sequence.world_up.startswith("-") else 1,
        "radius": radius,
        "simulated": bool(sequence.simulated),
        "about": ", ".join(filter(None, [sequence.action, f"{len(frames)} frames", f"{rate:g} per second"])),
        "prediction": origin_of_prediction(sequence),
        "assumed": assumptions(sequence),
        "frameNote": f"{frame_of_reference(sequence)}; grid 1 m; origin moved to {_text(origin)} m",
        "kindNames": _KIND_NAMES,
        "layers": [_layer(each, shown[each.name] - origin, frames) for each in layers],
        "cameras": [_camera(sequence, k, frames, origin) for k in range(len(sequence.camera))],
    }
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    # "</" would end the script wherever it stands in a name.
    text = json.dumps(data, allow_nan=False).replace("</", "<\\/")
    return template.replace("{{title}}", html.escape(sequence.name)).replace("{{data}}", text)


def _check_shapes(layers: list[Layer], sequence: Sequence, joints: JointSet) -> None:
    expected = (len(sequence.frame), len(sequence.person), len(joints), 3)
    for each in layers:
        if each.poses.shape[1:] != expected:
            raise ValueError(f"layer {each.name}: expected shape (H, *{expected}), found {each.poses.shape}")


def _middle_of(sequence: Sequence, shown: dict[str, np.ndarray]) -> tuple[np.ndarray, float]:
    """The point (3,) on the floor in the middle of the people, and how far they are from it, in metres."""
    visible = np.concatenate([np.empty((0, 3)), *(poses.reshape(-1, 3) for poses in shown.values())])
    visible = visible[np.isfinite(visible).all(axis=1)]
    if not len(visible):
        raise ValueError(f"{sequence.name}: no joint of anybody in {', '.join(shown) or 'any layer'}; nothing to show")
    low, high = np.percentile(visible, [1, 99], axis=0)
    middle, up = (low + high) / 2, "xyz".index(sequence.world_up[-1])
    middle[up] = high[up] if sequence.world_up.startswith("-") else low[up]
    return middle, float(np.clip(np.linalg.norm(high - low) / 2, 1, 30))


def _layer(each: Layer, poses: np.ndarray, frames: range) -> dict:
    """What the page is told of one layer, its poses (H, n, P, J, 3) being relative to the page's origin."""
    spread = None
    if each.spread is not None:
        millimetres = np.clip(np.nan_to_num(each.spread[frames]) * 1000, 0, 65535).round()
        spread = _pack(millimetres.astype("<u2"))
    return {
        "name": each.name,
        "dashed": each.dashed,
        "hypotheses": len(poses),
        "data": _pack_positions(poses),
        "status": _pack(each.status[frames]),
        "spread": spread,
    }


def _pack_positions(poses: np.ndarray) -> str:
    """Positions (H, T, P, J, 3) metres as text: frame first, millimetres, differences over frames, deflated."""
    missing = ~np.isfinite(poses).all(axis=-1, keepdims=True)
    millimetres = np.where(missing, 0, np.clip(np.nan_to_num(poses) * 1000, -32767, 32767)).round().astype(np.int16)
    millimetres = np.where(missing, _MISSING_MM, millimetres).swapaxes(0, 1)
    differences = np.diff(millimetres, axis=0, prepend=np.zeros_like(millimetres[:1]))  # wraps around, as in adding up
    return _pack(differences.astype("<i2"))


def _camera(sequence: Sequence, k: int, frames: range, origin: np.ndarray) -> dict:
    moving = bool(sequence.camera_is_moving[k])
    world_to_camera = sequence.world_to_camera[k, frames if moving else frames[:1]]
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
