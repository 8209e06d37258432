"""Pictures of multi-person scenes: everybody in 3D with the cameras around, beside what chosen cameras see.

Positions are metres in the world frame of the file, pixels those of the stored images. Colours (Okabe and Ito) tell
people apart for colour-blind readers too; a prediction is dashed, the truth solid.
"""

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from finepose_mp.geometry import invert_rigid
from finepose_mp.schema import CAMERA_KINDS, Sequence
from finepose_mp.skeletons import JointSet

PERSON_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B61A8", "#8C6D31")
_CAMERA_COLOUR = "#555555"
_UP_AXIS = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Prediction:
    """Predicted poses of the people of one frame, placed in the world.

    `joints_3d_world` (P, J, 3) metres, NaN for people without a prediction; `caption` says how the root was found.
    """

    joints_3d_world: np.ndarray
    caption: str


def scene_figure(
    sequence: Sequence, joints: JointSet, frame: int, cameras: list[str], prediction: Prediction | None = None
) -> Figure:
    """A figure of one moment: the 3D scene on the left, the view of each chosen camera on the right.

    Args:
        sequence: with T frames; nothing of it is changed.
        joints: the joint set of the sequence's arrays.
        frame: position 0..T-1 in the sequence (not the source's frame number).
        cameras: names of cameras whose views are drawn, possibly none.
        prediction: drawn dashed beside the truth.

    Raises:
        ValueError: no such frame or camera; the message lists what there is.
    """
    _check_frame(sequence, frame)
    unknown = [name for name in cameras if name not in sequence.camera]
    if unknown:
        raise ValueError(f"{sequence.name} has cameras {', '.join(sequence.camera)}; not {', '.join(unknown)}")
    rows = max(1, (len(cameras) + 1) // 2)
    columns = min(2, len(cameras))
    figure = Figure(figsize=(8.0 + 2.9 * columns, max(5.2, 2.6 * rows)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, 1 + columns, width_ratios=[2.8] + [1] * columns)
    _draw_world(figure.add_subplot(grid[:, 0], projection="3d"), sequence, joints, frame, prediction)
    for i, name in enumerate(cameras):
        _draw_view(figure.add_subplot(grid[i // 2, 1 + i % 2]), sequence, joints, frame, sequence.camera.index(name))
    figure.suptitle(_title(sequence, frame), fontsize=12)
    return figure


def most_crowded_frame(sequence: Sequence) -> int:
    """Position 0..T-1 of the frame in which most joints are seen by most cameras (the first of several)."""
    return int(np.argmax(sequence.in_view.sum(axis=(0, 2, 3), dtype=np.int64)))


def cameras_with_most_people(sequence: Sequence, frame: int, count: int) -> list[str]:
    """Up to `count` names of cameras that see somebody at that frame: the best of every kind, then by joints seen."""
    _check_frame(sequence, frame)
    seen = sequence.in_view[:, frame].sum(axis=(1, 2), dtype=np.int64)
    order = [int(k) for k in np.argsort(-seen, kind="stable") if seen[k]]
    best_of_kind = {sequence.camera_kind[k]: k for k in reversed(order)}
    chosen = dict.fromkeys([best_of_kind[kind] for kind in CAMERA_KINDS if kind in best_of_kind] + order)
    return [sequence.camera[k] for k in list(chosen)[:count]]


def upright_axes(world_up: str) -> list[int]:
    """World axes to draw along right, ahead and up; one that points down is to be turned over, and nobody mirrored."""
    up = _UP_AXIS[world_up[-1]]
    right, ahead = (up + 1) % 3, (up + 2) % 3
    return [ahead, right, up] if world_up.startswith("-") else [right, ahead, up]


def _check_frame(sequence: Sequence, frame: int) -> None:
    if not 0 <= frame < len(sequence.frame):
        raise ValueError(f"{sequence.name} has frames 0 to {len(sequence.frame) - 1}, asked for {frame}")


def _title(sequence: Sequence, frame: int) -> str:
    simulated = "simulated, " if sequence.simulated else ""
    seconds = (sequence.frame[frame] - sequence.frame[0]) / sequence.fps
    return f"{sequence.name}: {sequence.action} ({simulated}frame {sequence.frame[frame]}, {seconds:.2f} s)"


def _draw_world(axes: Axes, sequence: Sequence, joints: JointSet, frame: int, prediction: Prediction | None) -> None:
    order = upright_axes(sequence.world_up)
    people = sequence.joints_3d_world[frame][..., order]
    for p, person in enumerate(sequence.person):
        colour = PERSON_COLOURS[p % len(PERSON_COLOURS)]
        _draw_skeleton(axes, people[p], joints, colour, "-", label=person)
        if prediction is not None:
            _draw_skeleton(axes, prediction.joints_3d_world[p][..., order], joints, colour, "--")
    # Beside a prediction the fixed cameras are left out, so that people are large enough to compare.
    kinds = ("ego_rgb", "exo") if prediction is None else ("ego_rgb",)
    centres = _draw_cameras(axes, sequence, frame, order, kinds)
    _frame_axes(axes, people, centres, "".join("xyz"[i] for i in order))
    if sequence.world_up.startswith("-"):
        axes.invert_zaxis()
    handles, labels = axes.get_legend_handles_labels()
    if prediction is not None:
        handles += [Line2D([], [], color="k"), Line2D([], [], color="k", linestyle="--")]
        labels += ["ground truth", "\n".join(textwrap.wrap(prediction.caption, 40))]
    axes.legend(handles, labels, loc="upper left", fontsize=8, framealpha=0.6)


def _draw_skeleton(axes: Axes, points: np.ndarray, joints: JointSet, colour: str, style: str, label: str = "") -> None:
    """Bones between finite joints, and joints, of points (J, 2 or 3)."""
    for first, second in joints.bones:
        if np.isfinite(points[[first, second]]).all():
            axes.plot(*points[[first, second]].T, color=colour, linestyle=style, linewidth=1.8)
    axes.plot(*points.T, color=colour, linestyle="none", marker="o", markersize=2.2, label=label or None)


def _draw_cameras(axes: Axes, sequence: Sequence, frame: int, order: list[int], kinds: tuple[str, ...]) -> np.ndarray:
    """Draws a small pyramid for every camera of those kinds and returns the centres (K, 3)."""
    corners = 0.35 * np.array([[-0.7, -0.7, 1], [0.7, -0.7, 1], [0.7, 0.7, 1], [-0.7, 0.7, 1]])
    centres = []
    for k, name in enumerate(sequence.camera):
        transform = sequence.world_to_camera[k, frame]
        if sequence.camera_kind[k] not in kinds or not np.isfinite(transform).all():
            continue
        camera_to_world = invert_rigid(transform)
        scale = 1.0 if sequence.camera_kind[k] == "exo" else 0.5
        rim = (scale * corners @ camera_to_world[:, :3].T + camera_to_world[:, 3])[:, order]
        centre = camera_to_world[order, 3]
        for corner, following in zip(rim, np.roll(rim, -1, axis=0), strict=True):
            axes.plot(*np.stack([centre, corner, following]).T, color=_CAMERA_COLOUR, linewidth=0.6)
        if sequence.camera_kind[k] == "exo":
            axes.text(*centre, f" {name}", fontsize=6, color=_CAMERA_COLOUR)
        centres.append(centre)
    return np.array(centres).reshape(-1, 3)


def _frame_axes(axes: Axes, people: np.ndarray, centres: np.ndarray, names: str) -> None:
    """Equal scale around people and cameras, and what the axes are; `names` in the order drawn, the last one up."""
    points = people.reshape(-1, 3)
    points = np.concatenate([points[np.isfinite(points).all(axis=1)], centres])
    if len(points):
        low, high = points.min(axis=0), points.max(axis=0) + 0.1
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
        axes.set_box_aspect(high - low, zoom=1.3)
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.text2D(0.02, 0.02, f"world frame, metres, {names[2]} vertical", transform=axes.transAxes, fontsize=8)
    axes.tick_params(labelsize=7, pad=0)
    axes.view_init(elev=18, azim=-60)
    for axis in (axes.xaxis, axes.yaxis):
        axis.pane.set_alpha(0.0)


def _draw_view(axes: Axes, sequence: Sequence, joints: JointSet, frame: int, camera: int) -> None:
    """What one camera sees: projected truth as bones, detections as crosses, in pixels of the stored image."""
    for p in range(len(sequence.person)):
        colour = PERSON_COLOURS[p % len(PERSON_COLOURS)]
        _draw_skeleton(axes, sequence.joints_2d_projected[camera, frame, p], joints, colour, "-")
        detected = sequence.joints_2d_detected[camera, frame, p]
        axes.plot(*detected.T, linestyle="none", marker="x", markersize=3, markeredgewidth=0.7, color=colour)
    width, height = sequence.image_size[camera]
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    kind = sequence.camera_kind[camera].replace("_", " ")
    axes.set_title(f"{sequence.camera[camera]} ({kind}), px; × detected", fontsize=8)
    axes.tick_params(labelsize=6)
