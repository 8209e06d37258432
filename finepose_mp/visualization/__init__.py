"""Scenes of several people to look at: pictures, animations and recordings of a sequence, truth beside prediction."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from finepose_mp.schema import Sequence
from finepose_mp.skeletons import JointSet
from finepose_mp.visualization.animation import ANIMATIONS, PICTURES_A_SECOND, MissingLibraryError, write_animation
from finepose_mp.visualization.choices import (
    cameras_with_most_people,
    check_cameras,
    check_frames,
    frame_rate,
    most_crowded_frame,
    pictures,
    seconds,
)
from finepose_mp.visualization.images import Images
from finepose_mp.visualization.layers import (
    HYPOTHESES,
    PREDICTION,
    TRUTH,
    Layer,
    assumptions,
    frame_of_reference,
    layer,
    layers_of,
    origin_of_prediction,
    upright_axes,
)
from finepose_mp.visualization.recording import write_recording
from finepose_mp.visualization.stage import PERSON_COLOURS, Stage

__all__ = [
    "ANIMATIONS",
    "HYPOTHESES",
    "PERSON_COLOURS",
    "PICTURES_A_SECOND",
    "PREDICTION",
    "TRUTH",
    "Images",
    "Layer",
    "MissingLibraryError",
    "Prediction",
    "Stage",
    "assumptions",
    "cameras_with_most_people",
    "check_cameras",
    "check_frames",
    "frame_of_reference",
    "frame_rate",
    "layer",
    "layers_of",
    "most_crowded_frame",
    "origin_of_prediction",
    "pictures",
    "scene_figure",
    "seconds",
    "upright_axes",
    "write_animation",
    "write_recording",
]


@dataclass(frozen=True)
class Prediction:
    """Predicted poses of the people of one frame, placed in the world.

    `joints_3d_world` (P, J, 3) metres, NaN for people without a prediction; `caption` says how the root was found.
    """

    joints_3d_world: np.ndarray
    caption: str


def scene_figure(
    sequence: Sequence,
    joints: JointSet,
    frame: int,
    cameras: list[str],
    prediction: Prediction | None = None,
    images: Images | None = None,
) -> Figure:
    """A figure of one moment: the 3D scene on the left, the view of each chosen camera on the right.

    Args:
        sequence: with T frames; nothing of it is changed.
        joints: the joint set of the sequence's arrays.
        frame: position 0..T-1 in the sequence (not the source's frame number).
        cameras: names of cameras whose views are drawn, possibly none.
        prediction: drawn dashed beside the truth, instead of a prediction that the sequence holds.
        images: what is shown behind the views.

    Raises:
        ValueError: no such frame or camera; the message lists what there is.
    """
    check_frames(sequence, [frame])
    if prediction is None:
        layers = layers_of(sequence)
    else:
        poses = np.full(sequence.joints_3d_world.shape, np.nan)
        poses[frame] = prediction.joints_3d_world
        layers = [layer(TRUTH, sequence.joints_3d_world), layer(prediction.caption, poses, dashed=True)]
    stage = Stage(sequence, joints, layers, cameras, [frame], images)
    stage.show(frame)
    return stage.figure
