"""A figure that shows one frame of a sequence after the other: everybody in 3D beside what chosen cameras see.

Positions are metres in the frame that the figure names, pixels those of the stored images. Colours (Okabe and Ito) tell
people apart for colour-blind readers too. The truth is solid with filled joints, a prediction dashed with hollow ones,
dotted where it was inferred from neighbouring frames; hypotheses are thin lines. Lines are made once and moved from
frame to frame on a background that is kept.
"""

import textwrap

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d import Axes3D

from finepose_mp.geometry import invert_rigid
from finepose_mp.schema import Sequence
from finepose_mp.skeletons import JointSet
from finepose_mp.variables import INFERRED
from finepose_mp.visualization.choices import check_cameras, check_frames, seconds
from finepose_mp.visualization.images import Images
from finepose_mp.visualization.layers import (
    TRUTH,
    Layer,
    assumptions,
    frame_of_reference,
    project,
    upright_axes,
)

PERSON_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B61A8", "#8C6D31")
_CAMERA_COLOUR = "#555555"
_INFERRED_ALPHA = 0.6
_GHOST = {"linewidth": 0.7, "alpha": 0.45}
_SMALLEST_PART, _LARGEST_PART = 0.3, 0.75  # of an image's width, where its people stay within a part of it
_CORNERS = 0.35 * np.array([[-0.7, -0.7, 1], [0.7, -0.7, 1], [0.7, 0.7, 1], [-0.7, 0.7, 1]])
_NOTE_WIDTH, _NOTE_LINES = 170, 4


class Stage:
    """A figure of a sequence; `show` puts one of its frames into it.

    Args:
        sequence: with T frames; nothing of it is changed.
        joints: the joint set of the sequence's arrays.
        layers: poses to draw.
        cameras: names of cameras whose views are drawn, possibly none.
        frames: positions 0..T-1 that will be shown; the axes are wide enough for all of them.
        images: what is shown behind the views; an empty frame where there is none.

    Raises:
        ValueError: no such frame or camera; the message lists what there is.
    """

    def __init__(
        self,
        sequence: Sequence,
        joints: JointSet,
        layers: list[Layer],
        cameras: list[str],
        frames: list[int],
        images: Images | None = None,
    ) -> None:
        check_frames(sequence, frames)
        check_cameras(sequence, cameras)
        self._sequence, self._frames, self._background = sequence, frames, None
        rows, columns = max(1, (len(cameras) + 1) // 2), min(2, len(cameras))
        self.figure = Figure(figsize=(7.0 + 3.6 * columns, max(5.6, 2.8 * rows)), dpi=110, layout="constrained")
        self._canvas = FigureCanvasAgg(self.figure)
        grid = self.figure.add_gridspec(rows, 1 + columns, width_ratios=[2] + [1] * columns)
        self._title = self.figure.suptitle(" ", fontsize=12)
        self._note()
        world = self.figure.add_subplot(grid[:, 0], projection="3d")
        self._parts = [_World(world, sequence, joints, layers, frames)]
        _add_legend(self.figure, sequence, layers, frames)
        for i, name in enumerate(cameras):
            axes = self.figure.add_subplot(grid[i // 2, 1 + i % 2])
            self._parts.append(_View(axes, sequence, joints, layers, sequence.camera.index(name), frames, images))

    def show(self, frame: int) -> None:
        """Moves everything to one of the frames."""
        for part in self._parts:
            part.show(frame)
        simulated = "simulated, " if self._sequence.simulated else ""
        number, time = self._sequence.frame[frame], seconds(self._sequence)[frame]
        what = f"{self._sequence.name}: {self._sequence.action}" if self._sequence.action else self._sequence.name
        self._title.set_text(f"{what} ({simulated}frame {number}, {time:.2f} s)")

    def picture(self) -> np.ndarray:
        """What is shown, as colours (height, width, 3) from 0 to 255, with an even number of rows and columns."""
        if self._background is None:
            self._title.set_alpha(0)  # a saved figure would leave out a title that is marked as animated
            self._canvas.draw()  # lays out the figure and draws what does not move
            self._title.set_alpha(1)
            self.figure.set_layout_engine("none")
            self._background = self._canvas.copy_from_bbox(self.figure.bbox)
        self._canvas.restore_region(self._background)
        for artist in (artist for part in self._parts for artist in part.moving):
            artist.axes.draw_artist(artist)
        self.figure.draw_artist(self._title)
        colours = np.asarray(self._canvas.buffer_rgba())
        return colours[: colours.shape[0] // 2 * 2, : colours.shape[1] // 2 * 2, :3].copy()

    def _note(self) -> None:
        """What was assumed, below everything."""
        said = "; ".join(sentence.rstrip(".") for sentence in assumptions(self._sequence))
        lines = textwrap.wrap(f"Assumed: {said}" if said else "", _NOTE_WIDTH)
        if len(lines) > _NOTE_LINES:
            lines = [*lines[: _NOTE_LINES - 1], lines[_NOTE_LINES - 1][: _NOTE_WIDTH - 4] + " ..."]
        if lines:
            self.figure.supxlabel("\n".join(lines), fontsize=7, x=0.01, ha="left")


class _Skeletons:
    """The people of one layer in one pair of axes: a line of bones each, and one of joints."""

    def __init__(self, axes: Axes, joints: JointSet, people: int, shown: Layer) -> None:
        self._bones, self._layer = np.array(joints.bones), shown
        in_3d = isinstance(axes, Axes3D)
        nowhere = np.full((3 if in_3d else 2, 1), np.nan)
        colours = [PERSON_COLOURS[p % len(PERSON_COLOURS)] for p in range(people)]
        width = _GHOST if shown.are_ghosts else {"linewidth": 1.8 if in_3d else 1.1}
        self._lines = [axes.plot(*nowhere, color=colour, animated=True, **width)[0] for colour in colours]
        with_dots = not shown.are_ghosts and (in_3d or not shown.dashed)  # in a view they would hide the truth
        size = {"markersize": 3.0 if shown.dashed else 2.4 if in_3d else 1.5, "markeredgewidth": 0.8}
        self._dots = [
            axes.plot(*nowhere, "o", color=c, markerfacecolor="white" if shown.dashed else c, animated=True, **size)[0]
            for c in colours * with_dots
        ]

    @property
    def artists(self) -> list[Artist]:
        return [*self._lines, *self._dots]

    def show(self, points: np.ndarray, frame: int) -> None:
        """Points (H, P, J, 2 or 3) in the order of the axes."""
        for p, line in enumerate(self._lines):
            _move(line, _broken(points[:, p][:, self._bones]))
            if not self._layer.are_ghosts:
                inferred = self._layer.status[frame, p] == INFERRED
                line.set_linestyle(_style(self._layer, inferred))
                line.set_alpha(_INFERRED_ALPHA if inferred else 1.0)
        for p, dots in enumerate(self._dots):
            dots.set_alpha(_INFERRED_ALPHA if self._layer.status[frame, p] == INFERRED else 1.0)
            _move(dots, points[:, p].reshape(-1, points.shape[-1]))


class _World:
    """The 3D side of the figure."""

    def __init__(
        self, axes: Axes3D, sequence: Sequence, joints: JointSet, layers: list[Layer], frames: list[int]
    ) -> None:
        self._sequence, self._layers, self._order = sequence, layers, upright_axes(sequence.world_up)
        ghosts_first = sorted(layers, key=lambda each: not each.are_ghosts)
        self._skeletons = [(each, _Skeletons(axes, joints, len(sequence.person), each)) for each in ghosts_first]
        # Beside a prediction the fixed cameras are left out, so that people are large enough to compare.
        kinds = ("ego_rgb",) if any(each.dashed for each in layers) else ("ego_rgb", "exo")
        self._cameras = [
            (k, axes.plot([], [], [], color=_CAMERA_COLOUR, linewidth=0.6, animated=True)[0])
            for k, kind in enumerate(sequence.camera_kind)
            if kind in kinds
        ]
        centres = self._camera_centres(frames)
        self._label_fixed_cameras(axes, centres)
        _limit(axes, [each.poses[:, frames][..., self._order] for each in layers], list(centres.values()))
        _decorate(axes, sequence, "".join("xyz"[i] for i in self._order))

        for artist in self.moving:
            artist.set_clip_on(False)  # 3D axes are wider than their place in the figure

    @property
    def moving(self) -> list[Artist]:
        """What `show` moves, in the order of drawing."""
        return [*(line for _, line in self._cameras), *(a for _, people in self._skeletons for a in people.artists)]

    def show(self, frame: int) -> None:
        for each, people in self._skeletons:
            people.show(each.poses[:, frame][..., self._order], frame)
        for k, line in self._cameras:
            transform = self._sequence.world_to_camera[k, frame]
            if not np.isfinite(transform).all():
                _move(line, np.full((1, 3), np.nan))
                continue
            to_world = invert_rigid(transform)
            size = 1.0 if self._sequence.camera_kind[k] == "exo" else 0.5
            rim = size * _CORNERS @ to_world[:, :3].T + to_world[:, 3]
            centre = np.broadcast_to(to_world[:, 3], rim.shape)
            _move(line, _broken(np.stack([centre, rim, np.roll(rim, -1, axis=0)], axis=1)[..., self._order]))

    def _camera_centres(self, frames: list[int]) -> dict[int, np.ndarray]:
        """Known centres (n, 3) of the cameras drawn, in the order of the axes."""
        centres = {}
        for k, _ in self._cameras:
            transforms = self._sequence.world_to_camera[k, frames]
            known = transforms[np.isfinite(transforms).all(axis=(1, 2))]
            centres[k] = invert_rigid(known)[:, self._order, 3] if len(known) else np.empty((0, 3))
        return centres

    def _label_fixed_cameras(self, axes: Axes3D, centres: dict[int, np.ndarray]) -> None:
        for k, places in centres.items():
            if self._sequence.camera_kind[k] == "exo" and len(places):
                axes.text(*places[0], f" {self._sequence.camera[k]}", fontsize=6, color=_CAMERA_COLOUR)


class _View:
    """What one camera sees: its image, poses as bones, detections as crosses, in pixels of the stored image."""

    def __init__(
        self,
        axes: Axes,
        sequence: Sequence,
        joints: JointSet,
        layers: list[Layer],
        camera: int,
        frames: list[int],
        images: Images | None,
    ) -> None:
        self._sequence, self._camera, self._images = sequence, camera, images
        width, height = (int(size) for size in sequence.image_size[camera])
        self._picture = None
        if images is not None:
            blank = np.full((1, 1, 3), 255, np.uint8)
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            self._picture = axes.imshow(blank, extent=extent, aspect="equal", alpha=0.75, animated=True)
        people = len(sequence.person)
        self._skeletons = [(each, _Skeletons(axes, joints, people, each)) for each in layers if not each.are_ghosts]
        self._keypoints = [
            axes.plot([], [], "x", markersize=3, markeredgewidth=0.7, color=colour, animated=True)[0]
            for colour in (PERSON_COLOURS[p % len(PERSON_COLOURS)] for p in range(people))
        ]
        # Bones between detections would hide a truth that is there.
        self._bones = np.array(joints.bones)
        has_truth = np.isfinite(sequence.joints_2d_projected[camera, frames]).any()
        self._links = [
            axes.plot([], [], linewidth=0.7, alpha=0.6, color=crosses.get_color(), animated=True)[0]
            for crosses in self._keypoints * (not has_truth)
        ]
        left, top, right, bottom = _region(sequence, camera, frames)
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        part = "" if right - left == width else f" of {width} × {height}"
        kind = sequence.camera_kind[camera].replace("_", " ")
        axes.set_title(f"{sequence.camera[camera]} ({kind}), px{part}; × detected", fontsize=8)
        axes.tick_params(labelsize=6)

    @property
    def moving(self) -> list[Artist]:
        """What `show` moves, in the order of drawing."""
        skeletons = [artist for _, people in self._skeletons for artist in people.artists]
        return [*([] if self._picture is None else [self._picture]), *self._links, *skeletons, *self._keypoints]

    def show(self, frame: int) -> None:
        for each, people in self._skeletons:
            if each.name == TRUTH:  # through the true lens, where the joint is in view
                pixels = self._sequence.joints_2d_projected[self._camera, frame][None]
            else:
                pixels = project(self._sequence, self._camera, frame, each.poses[:, frame])
            people.show(pixels, frame)
        detected = self._sequence.joints_2d_detected[self._camera, frame]
        for crosses, of_person in zip(self._keypoints, detected, strict=True):
            _move(crosses, of_person)
        for link, of_person in zip(self._links, detected, strict=False):  # there may be none
            _move(link, _broken(of_person[self._bones]))
        if self._picture is not None:
            self._picture.set_data(self._images.read(self._sequence.camera[self._camera], self._sequence.frame[frame]))


def _region(sequence: Sequence, camera: int, frames: list[int]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom (px) of the part of the image that is drawn, of the image's own proportions.

    All of it, unless all people stay in a small part of it.
    """
    size = sequence.image_size[camera].astype(float)
    shown = (sequence.joints_2d_projected[camera, frames], sequence.joints_2d_detected[camera, frames])
    points = np.concatenate([pixels.reshape(-1, 2) for pixels in shown])
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return -0.5, -0.5, size[0] - 0.5, size[1] - 0.5
    low, high = np.clip(points.min(axis=0), 0, size), np.clip(points.max(axis=0), 0, size)
    share = max(1.3 * ((high - low) / size).max(), _SMALLEST_PART)
    if share > _LARGEST_PART:
        share = 1.0
    start = np.clip((low + high - share * size) / 2, 0, (1 - share) * size) - 0.5
    return (*start, *(start + share * size))


def _broken(lines: np.ndarray) -> np.ndarray:
    """One line (n, D) of many (..., points, D), interrupted between them."""
    lines = np.asarray(lines, np.float64)
    gap = np.full((*lines.shape[:-2], 1, lines.shape[-1]), np.nan)
    return np.concatenate([lines, gap], axis=-2).reshape(-1, lines.shape[-1])


def _move(line: Line2D, points: np.ndarray) -> None:
    """Gives a line other points (n, 2 or 3)."""
    if points.shape[-1] == 3:
        line.set_data_3d(*points.T)
    else:
        line.set_data(*points.T)


def _limit(axes: Axes3D, poses: list[np.ndarray], centres: list[np.ndarray]) -> None:
    """Equal scale around people and cameras; a few poses far off do not count."""
    people = np.concatenate([np.empty((0, 3)), *(each.reshape(-1, 3) for each in poses)])
    people = people[np.isfinite(people).all(axis=1)]
    if len(people):
        people = np.percentile(people, [0.5, 99.5], axis=0)
    else:
        axes.text2D(0.5, 0.5, "no 3D pose", transform=axes.transAxes, ha="center")
    points = np.concatenate([people, *centres])
    if not len(points):
        points = np.array([[-1.0, -1, -1], [1, 1, 1]])
    low, high = points.min(axis=0) - 0.05, points.max(axis=0) + 0.1
    thin = np.maximum(1.0 - (high - low), 0) / 2  # one person who hardly moves is not stretched over the axes
    low, high = low - thin, high + thin
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(high - low, zoom=1.3)


def _decorate(axes: Axes3D, sequence: Sequence, names: str) -> None:
    """What the axes are; `names` in the order drawn, the last one up."""
    axes.set(xlabel=f"{names[0]} (m)", ylabel=f"{names[1]} (m)")
    axes.set_title(frame_of_reference(sequence), fontsize=8)
    axes.tick_params(labelsize=7, pad=0)
    axes.view_init(elev=18, azim=-60)
    for axis in (axes.xaxis, axes.yaxis):
        axis.pane.set_alpha(0.0)
    if sequence.world_up.startswith("-"):
        axes.invert_zaxis()


def _add_legend(figure: Figure, sequence: Sequence, layers: list[Layer], frames: list[int]) -> None:
    """Colours of people and styles of layers."""
    there = np.zeros(len(sequence.person), bool)
    for each in layers:
        there |= np.isfinite(each.poses[:, frames]).all(axis=-1).any(axis=(0, 1, 3))
    entries = [
        (Line2D([], [], color=PERSON_COLOURS[p % len(PERSON_COLOURS)], marker="s", linestyle="none"), name)
        for p, name in enumerate([n if there[p] else f"{n} (no pose)" for p, n in enumerate(sequence.person)])
    ]
    for each in layers:
        name = "\n".join(textwrap.wrap(each.name, 30))
        if each.are_ghosts:
            entries.append((Line2D([], [], color="k", **_GHOST), name))
            continue
        dots = {"color": "k", "marker": "o", "markersize": 3, "markerfacecolor": "white" if each.dashed else "k"}
        entries.append((Line2D([], [], linestyle=_style(each), **dots), name))
        if (each.status[frames] == INFERRED).any():
            key = Line2D([], [], linestyle=_style(each, inferred=True), **dots)
            entries.append((key, f"{name}, inferred:\nno keypoints in the frame"))
    handles, labels = zip(*entries, strict=True) if entries else ((), ())
    below_title = {"loc": "upper left", "bbox_to_anchor": (0, 0.96)}
    figure.legend(handles, labels, fontsize=8, framealpha=0.6, handlelength=3, **below_title)


def _style(shown: Layer, inferred: bool = False) -> str | tuple:
    """Line style; dashes are short enough to be seen on short bones."""
    if inferred:
        return (0, (0.8, 1.6))
    return (0, (3, 1.3)) if shown.dashed else "-"
