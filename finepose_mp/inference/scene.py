"""The people of a sequence in 3D: every track lifted, all cameras of a person fused, everybody placed in the world."""

from collections.abc import Collection
from dataclasses import dataclass, replace
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
from finepose_mp.inference.long_tracks import TrackInput, lift_long_tracks
from finepose_mp.inference.memory import in_precision
from finepose_mp.inference.views import View, view_of
from finepose_mp.skeletons import convert, joint_set
from finepose_mp.variables import INFERRED, NOT_PREDICTED, SEEN


@dataclass(frozen=True)
class ScenePrediction:
    """Predicted poses of P people over T frames, in the world of their sequence, metres; NaN where there is none.

    Where nothing says where a camera stands, poses keep their root at the origin, along that camera's axes.

    Attributes:
        joints_3d_world: (T, P, J, 3).
        hypotheses_3d_world: (H, T, P, J, 3). Of people whom several cameras see, the first, second, ... of every camera
            fused, joint by joint by the weights of `joints_3d_world`, which therefore lies among them.
        spread: (T, P, J) root mean square distance of the hypotheses of all cameras that see a person from their mean.
        status: (T, P) NOT_PREDICTED, SEEN (from keypoints of the frame) or INFERRED (from its neighbours).
        root_relative: names of people who could not be placed in the world.
    """

    joints_3d_world: np.ndarray
    hypotheses_3d_world: np.ndarray
    spread: np.ndarray
    status: np.ndarray
    root_relative: list[str]


def predict_scene(
    model: nn.Module,
    config: Config,
    path: Path,
    sequence: str,
    cameras: Collection[str] | None = None,
    action: str | None = None,
    joints: str | None = None,
) -> ScenePrediction:
    """The prediction for one sequence of a file of the contract. No truth in it is read.

    Args:
        model: a trained network in evaluation mode, on any device.
        config: of the run that trained it; `config.data` says which keypoints are read and in which coordinates,
            `config.evaluation` how poses are sampled, `config.model.prompt.condition` what a prompted model is told.
        path: of the file, in any joint set that has the model's root.
        sequence: its group.
        cameras: names of those to look through; None: all of them.
        action: what people do, in words; None: what the file says.
        joints: name of the joint set of the result, NaN where the model's does not determine a joint; None: the
            model's. The spread of a joint that is derived from others is its own, not the mean of theirs.
    """
    tracks = sequence_tracks(path, sequence, config.data)
    tracks = [replace(t, action=action or t.action) for t in tracks if cameras is None or t.camera in cameras]
    with schema.open_file(path) as file:
        people = file[sequence]["person"].asstr()[...].tolist()
        world_to_camera = file[sequence]["world_to_camera"][...]
    lifter = _Lifter(model, config, world_to_camera, joints or config.data.joint_set)
    predicted = _nobody(lifter.hypotheses, world_to_camera.shape[1], len(people), len(joint_set(lifter.result)))
    ordered = sorted(tracks, key=lambda track: (track.person_index, track.camera_index))
    for person, of_person in groupby(ordered, key=lambda track: track.person_index):
        lifted = lifter.lift(list(of_person))
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
    """Lifts tracks of one sequence with one model; `result` is the joint set of what is predicted."""

    def __init__(self, model: nn.Module, config: Config, world_to_camera: np.ndarray, result: str) -> None:
        self.result = result
        self._model, self._config = in_precision(model, config.evaluation.precision), config
        self._reader, self._world_to_camera = TrackReader(config.data), world_to_camera
        self._prompt_of = encoded_once(self._model, config.model.prompt.condition)
        self.joints, self.min_keypoints = joint_set(config.data.joint_set), config.data.min_joints_in_view
        self.hypotheses = config.evaluation.hypotheses if model.is_denoiser else 1

    def lift(self, tracks: list[Track]) -> list[_Lifted]:
        """Those tracks of a person that have keypoints enough in some frame, with their hypotheses."""
        samples = {track: self._reader.read(track) for track in tracks}
        seen = {t: sample["input_mask"].sum(axis=-1) >= self.min_keypoints for t, sample in samples.items()}
        wanted = [track for track in tracks if seen[track].any()]
        if not wanted:
            return []
        inputs = [
            TrackInput(*(samples[t][name] for name in ("input_2d", "input_mask")), window_seed(self._config.seed, t, 0))
            for t in wanted
        ]
        # One sequence shows one activity, so all of its tracks have one prompt.
        hypotheses = lift_long_tracks(self._model, self._config, inputs, self._prompt_of(wanted[0]))
        return [
            _Lifted(Sighting(self._view(track, samples[track]), poses), seen[track])
            for track, poses in zip(wanted, hypotheses, strict=True)
        ]

    def in_result(self, points: np.ndarray) -> np.ndarray:
        """Points (..., J, 3) of the model's joints for those of the result."""
        return convert(points, self._config.data.joint_set, self.result)[0]

    def _view(self, track: Track, sample: dict) -> View:
        return view_of(sample, self._world_to_camera[track.camera_index], track.fps, self._config.data.coordinates)


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
        hypotheses, spread = _of_seeing_cameras(fusion, located, lifter)
        seen, root = fusion.sees.any(axis=0), fusion.root
        pose = hypotheses.mean(axis=0)
        frames = np.flatnonzero(seen)
        pose[frames], hypotheses[:, frames] = fusion.choose(frames)[1], fusion.hypotheses(frames)
    else:
        fullest = max(lifted, key=lambda each: int(each.seen.sum()))
        hypotheses, seen = lifter.joints.root_relative(fullest.sighting.hypotheses.astype(np.float64)), fullest.seen
        pose, root = hypotheses.mean(axis=0), np.zeros((len(seen), 3))
        spread = np.sqrt((lifter.in_result(hypotheses - pose) ** 2).sum(axis=-1).mean(axis=0))
        predicted.root_relative.append(name)
    placed = pose + root[:, None]
    predicted.joints_3d_world[:, person] = lifter.in_result(placed)
    predicted.hypotheses_3d_world[:, :, person] = lifter.in_result(hypotheses + root[:, None])
    predicted.spread[:, person] = spread
    there = np.isfinite(placed).all(axis=(-2, -1))
    predicted.status[:, person] = np.where(there, np.where(seen, SEEN, INFERRED), NOT_PREDICTED)


def _of_seeing_cameras(fusion: Fusion, sightings: list[Sighting], lifter: _Lifter) -> tuple[np.ndarray, np.ndarray]:
    """Hypotheses (H, T, J, 3) along the world's axes: of each number, the mean over the cameras that see the person.

    And the spread (T, J of the result) of those of all these cameras: what cameras disagree about is uncertain too. In
    frames that none sees, those cameras count whose windows reach there; NaN where none does.
    """
    counted = np.where(fusion.sees.any(axis=0), fusion.sees, np.isfinite(fusion.pose).all(axis=(-2, -1)))
    total = np.zeros(sightings[0].hypotheses.shape)
    squares = 0.0
    for each, frames in zip(sightings, counted, strict=True):
        of_camera = each.view.in_world_orientation(lifter.joints.root_relative(each.hypotheses.astype(np.float64)))
        of_camera = np.where(frames[:, None, None], of_camera, 0.0)
        total += of_camera
        squares += (lifter.in_result(of_camera) ** 2).sum(axis=-1).mean(axis=0)
    count = counted.sum(axis=0)
    count = np.where(count, count, np.nan)[:, None]
    hypotheses = total / count[..., None]
    variance = squares / count - (lifter.in_result(hypotheses.mean(axis=0)) ** 2).sum(axis=-1)
    return hypotheses, np.sqrt(np.maximum(variance, 0.0))
