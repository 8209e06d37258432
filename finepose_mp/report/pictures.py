"""Pictures of single moments: prediction against truth from two sides, and what the camera saw of the person."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from finepose_mp.evaluation.moments import Moment
from finepose_mp.skeletons import JointSet, joint_set

_TRUE, _PREDICTED, _HYPOTHESIS = "#000000", "#D55E00", "#F2B48A"


def moment_figure(moment: Moment) -> Figure:
    """A figure of one person in one frame: from the camera, from the side, and in the camera's image.

    Poses are drawn in the camera frame with their roots together, in metres, as they are compared; in the image they
    are placed at the true root.
    """
    joints = joint_set(moment.joint_set)
    figure = Figure(figsize=(9.6, 3.9), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    front, side, image = figure.subplots(1, 3)
    _draw_pose(front, moment, joints, (0, 1), "From the camera", "to its right (m)")
    _draw_pose(side, moment, joints, (2, 1), "From the camera's right", "away from the camera (m)")
    _draw_image(image, moment, joints)
    handles = _legend(len(moment.hypotheses))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    return figure


def _draw_pose(
    axes: Axes, moment: Moment, joints: JointSet, coordinates: tuple[int, int], title: str, across: str
) -> None:
    def drawn(pose: np.ndarray) -> np.ndarray:
        return pose[:, coordinates] * np.where(np.array(coordinates) == 1, -1, 1)  # the camera's y points down

    for hypothesis in moment.hypotheses if len(moment.hypotheses) > 1 else ():
        _draw_bones(axes, drawn(hypothesis), joints, _HYPOTHESIS, linewidth=0.7)
    true, predicted = drawn(moment.true_3d), drawn(moment.predicted_3d)
    _draw_skeleton(axes, true, joints, _TRUE, "-")
    _draw_skeleton(axes, predicted, joints, _PREDICTED, "--")
    for pair in np.stack([true, predicted], axis=1):
        axes.plot(*pair.T, color="#999999", linewidth=0.6, zorder=1)
    points = np.concatenate([true[np.isfinite(true).all(axis=1)], predicted])
    _square(axes, points, 0.5)
    axes.set(xlabel=across, ylabel="up (m)")
    _finish(axes, title)


def _draw_image(axes: Axes, moment: Moment, joints: JointSet) -> None:
    """The part of the image around the person: keypoints that the model had, and both poses through the lens."""
    true, predicted = (_near_image(moment.seen_px(pose), moment) for pose in (moment.true_3d, moment.predicted_3d))
    axes.plot(*moment.keypoints.T, linestyle="none", marker="x", color="#0072B2", markersize=6, zorder=4)
    _draw_skeleton(axes, true, joints, _TRUE, "-")
    _draw_skeleton(axes, predicted, joints, _PREDICTED, "--")
    width, height = moment.image_size
    axes.plot([0, width, width, 0, 0], [0, 0, height, height, 0], color="#BBBBBB", linewidth=1)
    points = np.concatenate([true, predicted, moment.keypoints])
    _square(axes, points[np.isfinite(points).all(axis=1)], 20)
    axes.invert_yaxis()
    axes.set(xlabel="u (px)", ylabel="v (px)")
    _finish(axes, f"In the image ({width} × {height} px)")


def _near_image(points: np.ndarray, moment: Moment) -> np.ndarray:
    """Points (J, 2) px, NaN for those further outside the image than half its size: lenses are not measured there."""
    size = np.array(moment.image_size)
    near = ((points > -0.5 * size) & (points < 1.5 * size)).all(axis=-1)
    return np.where(near[:, None], points, np.nan)


def _square(axes: Axes, points: np.ndarray, least: float) -> None:
    """Limits of equal length around points (n, 2), at least `least` long."""
    low, high = (points.min(axis=0), points.max(axis=0)) if len(points) else (np.zeros(2), np.zeros(2))
    middle, half = (low + high) / 2, 0.58 * max(float(np.max(high - low)), least)
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    axes.set_aspect("equal", adjustable="box")


def _draw_skeleton(axes: Axes, points: np.ndarray, joints: JointSet, colour: str, style: str) -> None:
    """Bones and joints of points (J, 2); joints of the left side are filled, others hollow."""
    _draw_bones(axes, points, joints, colour, linestyle=style, linewidth=1.6)
    left = np.array([name.startswith("left") for name in joints.joints])
    for chosen, face in ((left, colour), (~left, "white")):
        axes.plot(
            *points[chosen].T, "o", markersize=3.6, color=colour, markerfacecolor=face, markeredgewidth=0.8, zorder=3
        )


def _draw_bones(axes: Axes, points: np.ndarray, joints: JointSet, colour: str, **style: object) -> None:
    for first, second in joints.bones:
        if np.isfinite(points[[first, second]]).all():
            axes.plot(*points[[first, second]].T, color=colour, zorder=2, **style)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9.5)
    axes.tick_params(labelsize=7.5)
    axes.xaxis.label.set_size(8.5)
    axes.yaxis.label.set_size(8.5)
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)


def _legend(hypotheses: int) -> list[Line2D]:
    handles = [
        Line2D([], [], color=_TRUE, label="truth"),
        Line2D([], [], color=_PREDICTED, linestyle="--", label="prediction"),
        Line2D([], [], color=_HYPOTHESIS, linewidth=1, label=f"its {hypotheses} hypotheses"),
        Line2D([], [], color="#BBBBBB", label="edge of the image"),
        Line2D([], [], color="#0072B2", marker="x", linestyle="", label="keypoints given to the model"),
        Line2D([], [], color="#555555", marker="o", markersize=4, linestyle="", label="left joints filled"),
    ]
    return handles if hypotheses > 1 else [*handles[:2], *handles[3:]]
