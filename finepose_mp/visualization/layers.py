"""What a sequence has to show: poses from the truth and from a prediction, and what is known about them."""

from dataclasses import dataclass

import numpy as np

from finepose_mp import cameras
from finepose_mp.geometry import apply_rigid
from finepose_mp.schema import Sequence
from finepose_mp.variables import NOT_PREDICTED, SEEN

TRUTH, PREDICTION, HYPOTHESES = "ground truth", "prediction", "hypotheses"

_ORIGIN = ("model", "checkpoint", "preset", "hypotheses", "sampling_steps")
_UP_AXIS = {"x": 0, "y": 1, "z": 2}
_APART = 1.2  # metres between people of whom nothing says where they stand


@dataclass(frozen=True, eq=False)
class Layer:
    """Poses of P people over T frames that have one origin, in the world of their sequence.

    Attributes:
        name: `TRUTH`, `PREDICTION`, `HYPOTHESES` or any other; it stands in legends.
        poses: (H, T, P, J, 3) metres, NaN where missing; several hypotheses are drawn as ghosts.
        dashed: drawn so, which tells a prediction from the truth without colour.
        status: (T, P) `NOT_PREDICTED`, `SEEN`, or `INFERRED` from neighbouring frames.
        spread: (T, P, J) metres, root mean square distance of the hypotheses from their mean; or None.
    """

    name: str
    poses: np.ndarray
    dashed: bool
    status: np.ndarray
    spread: np.ndarray | None = None

    @property
    def are_ghosts(self) -> bool:
        """Whether these are several hypotheses of the same poses."""
        return len(self.poses) > 1


def layer(
    name: str,
    poses: np.ndarray,
    dashed: bool = False,
    status: np.ndarray | None = None,
    spread: np.ndarray | None = None,
) -> Layer:
    """A layer of poses (T, P, J, 3) or (H, T, P, J, 3), metres; `status` (T, P) is a `predicted_status`."""
    poses = poses if poses.ndim == 5 else poses[None]
    there = np.isfinite(poses).all(axis=-1).any(axis=(0, 3))
    status = np.where(there, SEEN if status is None else status, NOT_PREDICTED).astype(np.uint8)
    return Layer(name, poses, dashed, status, spread)


def layers_of(sequence: Sequence) -> list[Layer]:
    """The truth, the prediction and its hypotheses, of those that hold at least one joint.

    People without a place in the world (`prediction["root_relative"]`) stand in a row, so that they can be told apart.
    """
    aside = _row(sequence)
    layers = [layer(TRUTH, sequence.joints_3d_world)]
    if sequence.predicted_3d_world is not None:
        known = (sequence.predicted_status, sequence.predicted_spread)
        layers.append(layer(PREDICTION, sequence.predicted_3d_world + aside, True, *known))
    if sequence.hypotheses > 1:
        ghosts = sequence.predicted_hypotheses_3d_world + aside
        layers.append(layer(HYPOTHESES, ghosts, True, sequence.predicted_status))
    return [each for each in layers if np.isfinite(each.poses).any()]


def root_relative(sequence: Sequence) -> list[str]:
    """Names of people of whom the prediction says no place in the world."""
    return list((sequence.prediction or {}).get("root_relative", []))


def frame_of_reference(sequence: Sequence) -> str:
    """The frame and unit of what is drawn, in words."""
    frame = str((sequence.prediction or {}).get("frame", "world"))
    text = f"{frame} frame, metres" if frame == "world" else f"{frame}; metres"
    return f"{text}, {sequence.world_up} up"


def origin_of_prediction(sequence: Sequence) -> str:
    """Model and sampling of the prediction, in words; empty for a sequence without one."""
    known = sequence.prediction or {}
    said = [f"{name.replace('_', ' ')} {known[name]}" for name in _ORIGIN if known.get(name) is not None]
    return ", ".join(said)


def assumptions(sequence: Sequence) -> list[str]:
    """Sentences that whoever sees the prediction should know; none for a sequence without one."""
    said = [str(sentence) for sentence in (sequence.prediction or {}).get("assumed", [])]
    nowhere = root_relative(sequence)
    if len(nowhere) > 1:
        said.append(f"{', '.join(nowhere)} are drawn {_APART:g} m apart: nothing says where they stood")
    return said


def project(sequence: Sequence, camera: int, frame: int, poses: np.ndarray) -> np.ndarray:
    """Pixels (..., P, J, 2) of poses (..., P, J, 3) in one camera; NaN where it does not see them.

    It sees neither its wearer, nor people whose place is unknown, nor anybody while its own pose or lens is unknown.
    """
    hidden = np.full((*poses.shape[:-1], 2), np.nan)
    model, params = sequence.camera_model[camera], sequence.camera_params[camera, frame]
    transform = sequence.world_to_camera[camera, frame]
    if model not in cameras.MODELS or not np.isfinite(transform).all():
        return hidden
    if not np.isfinite(params[: len(cameras.MODELS[model].parameter_names)]).all():
        return hidden
    points = apply_rigid(poses.astype(np.float64), transform)
    seen = cameras.in_view(points, model, params, sequence.image_size[camera])
    unseen = {sequence.camera_wearer[camera], *root_relative(sequence)}
    seen[..., [p for p, name in enumerate(sequence.person) if name in unseen], :] = False
    return np.where(seen[..., None], cameras.project(points, model, params), np.nan)


def upright_axes(world_up: str) -> list[int]:
    """World axes to draw along right, ahead and up; one that points down is to be turned over, and nobody mirrored."""
    up = _UP_AXIS[world_up[-1]]
    right, ahead = (up + 1) % 3, (up + 2) % 3
    return [ahead, right, up] if world_up.startswith("-") else [right, ahead, up]


def _row(sequence: Sequence) -> np.ndarray:
    """Where the root of every person is drawn, (P, 1, 3) metres: 0, and in a row for those who stand nowhere."""
    places = np.zeros((len(sequence.person), 1, 3))
    nowhere = [p for p, name in enumerate(sequence.person) if name in root_relative(sequence)]
    across = upright_axes(sequence.world_up)[0]
    places[nowhere, 0, across] = _APART * np.arange(len(nowhere))
    return places
