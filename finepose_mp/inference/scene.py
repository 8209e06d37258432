"""The people of a sequence in 3D: every track lifted, all cameras of a person fused, everybody placed in the world."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from finepose_mp import schema
from finepose_mp.config import Config
from finepose_mp.datasets.index import Track, sequence_tracks
from finepose_mp.datasets.reader import TrackReader
from finepose_mp.inference.fusion import Fusion, Sighting
from finepose_mp.inference.lifting import encoded_once, window_seed
from finepose_mp.inference.long_tracks import lift_track
from finepose_mp.inference.memory import in_precision
from finepose_mp.inference.views import view_of
from finepose_mp.skeletons import JointSet, joint_set

NONE, SEEN, INFERRED = 0, 1, 2  # predicted_status


@dataclass(frozen=True)
class ScenePrediction:
    """Predicted poses of P people over T frames, in the world of their sequence, metres; NaN where there is none.

    Where nothing says where a camera stands, poses keep their root at the origin, along that camera's axes.

    Attributes:
        joints_3d_world: (T, P, J, 3).
        hypotheses_3d_world: (H, T, P, J, 3). Of people whom several cameras see, the means over the cameras of each
            camera's first, second, ... hypothesis.
        spread: (T, P, J) root mean square distance of the hypotheses from their mean.
        status: (T, P) NONE, SEEN (from keypoints of the frame) or INFERRED (from its neighbours).
        root_relative: names of people who could not be placed in the world.
    """

    joints_3d_world: np.ndarray
    hypotheses_3d_world: np.ndarray
    spread: np.ndarray
    status: np.ndarray
    root_relative: list[str]


def predict_scene(model: nn.Module, config: Config, path: Path, sequence: str) -> ScenePrediction:
    """The prediction for one sequence of a file of the contract. No truth in it is read.

    Args:
        model: a trained network in evaluation mode, on any device.
        config: of the run that trained it; `config.data` says which keypoints are read and in which coordinates,
            `config.evaluation` how poses are sampled, `config.model.prompt.condition` what a prompted model is told.
        path: of the file, in any joint set that has the model's root.
        sequence: its group.
    """
    tracks = sequence_tracks(path, sequence, config.data)
    with schema.open_file(path) as file:
        people = file[sequence]["person"].asstr()[...].tolist()
        world_to_camera = file[sequence]["world_to_camera"][...]
    lifter = _Lifter(model, config, world_to_camera)
    predicted = _nobody(lifter.hypotheses, world_to_camera.shape[1], len(people), len(lifter.joints))
    ordered = sorted(tracks, key=lambda track: (track.person_index, track.camera_index))
    for person, of_person in groupby(ordered, key=lambda track: track.person_index):
        lifted = [each for track in of_person if (each := lifter.lift(track)) is not None]
        if lifted:
            _place(predicted, person, people[person], lifted, lifter)
    return predicted


class _Lifted(NamedTuple):
    """One track: what fusion wants, and the frames (T,) that have keypoints enough."""

    sighting: Sighting
    seen: np.ndarray

    @property
    def is_located(self) -> bool:
        """Whether the pose of the camera is known in some frame."""
        return bool(np.isfinite(self.sighting.view.world_to_camera).all(axis=(-2, -1)).any())


class _Lifter:
    """Lifts tracks of one sequence with one model."""

    def __init__(self, model: nn.Module, config: Config, world_to_camera: np.ndarray) -> None:
        self._model, self._config = in_precision(model, config.evaluation.precision), config
        self._reader, self._world_to_camera = TrackReader(config.data), world_to_camera
        self._prompt_of = encoded_once(model, config.model.prompt.condition)
        self.joints, self.min_keypoints = joint_set(config.data.joint_set), config.data.min_joints_in_view
        self.hypotheses = config.evaluation.hypotheses if model.is_denoiser else 1

    def lift(self, track: Track) -> _Lifted | None:
        """A track with its hypotheses; None where it has too few keypoints throughout."""
        sample = self._reader.read(track)
        seen = sample["input_mask"].sum(axis=-1) >= self.min_keypoints
        if not seen.any():
            return None
        view = view_of(sample, self._world_to_camera[track.camera_index], track.fps, self._config.data.coordinates)
        prompt, seed = self._prompt_of(track), window_seed(self._config.seed, track, 0)
        poses = lift_track(self._model, self._config, sample["input_2d"], sample["input_mask"], seed, prompt)
        return _Lifted(Sighting(view, poses), seen)


def _nobody(hypotheses: int, frames: int, people: int, joints: int) -> ScenePrediction:
    return ScenePrediction(
        joints_3d_world=np.full((frames, people, joints, 3), np.nan),
        hypotheses_3d_world=np.full((hypotheses, frames, people, joints, 3), np.nan),
        spread=np.full((frames, people, joints), np.nan),
        status=np.zeros((frames, people), np.uint8),
        root_relative=[],
    )


def _place(predicted: ScenePrediction, person: int, name: str, lifted: list[_Lifted], lifter: _Lifter) -> None:
    """Fills in one person."""
    located = [each.sighting for each in lifted if each.is_located]
    if located:
        fusion = Fusion(located, lifter.joints, lifter.min_keypoints)
        hypotheses, seen, root = (
            _of_seeing_cameras(fusion, located, lifter.joints),
            fusion.sees.any(axis=0),
            fusion.root,
        )
        pose = hypotheses.mean(axis=0)
        frames = np.flatnonzero(seen)
        pose[frames] = fusion.choose(frames)[1]
    else:
        fullest = max(lifted, key=lambda each: int(each.seen.sum()))
        hypotheses, seen = lifter.joints.root_relative(fullest.sighting.hypotheses.astype(np.float64)), fullest.seen
        pose, root = hypotheses.mean(axis=0), np.zeros((len(seen), 3))
        predicted.root_relative.append(name)
    predicted.joints_3d_world[:, person] = pose + root[:, None]
    predicted.hypotheses_3d_world[:, :, person] = hypotheses + root[:, None]
    deviation = hypotheses - hypotheses.mean(axis=0)
    predicted.spread[:, person] = np.sqrt((deviation**2).sum(axis=-1).mean(axis=0))
    there = np.isfinite(predicted.joints_3d_world[:, person]).all(axis=(-2, -1))
    predicted.status[:, person] = np.where(there, np.where(seen, SEEN, INFERRED), NONE)


def _of_seeing_cameras(fusion: Fusion, sightings: list[Sighting], joints: JointSet) -> np.ndarray:
    """Hypotheses (H, T, J, 3) along the world's axes: of each number, the mean over the cameras that see the person.

    In frames that none sees, over the cameras whose windows reach there; NaN where none does.
    """
    counted = np.where(fusion.sees.any(axis=0), fusion.sees, np.isfinite(fusion.pose).all(axis=(-2, -1)))
    total = np.zeros(sightings[0].hypotheses.shape)
    for each, frames in zip(sightings, counted, strict=True):
        of_camera = each.view.in_world_orientation(joints.root_relative(each.hypotheses.astype(np.float64)))
        total += np.where(frames[:, None, None], of_camera, 0.0)
    count = counted.sum(axis=0)
    return total / np.where(count, count, np.nan)[:, None, None]
