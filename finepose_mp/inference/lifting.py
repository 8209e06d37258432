"""From 2D keypoints to hypotheses of root-relative 3D poses: windows of a batch, and whole tracks."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from finepose_mp.config import Config
from finepose_mp.datasets.index import Track, Windows, evaluation_windows
from finepose_mp.datasets.reader import TrackReader
from finepose_mp.diffusion import CosineSchedule, ddim_sample, draw_noise, window_generators
from finepose_mp.inference.conditioning import conditioned
from finepose_mp.inference.memory import in_chunks, in_precision, sequences_within
from finepose_mp.models.finepose import Prompt
from finepose_mp.prompts import condition_text
from finepose_mp.skeletons import JointSet, joint_set


@torch.inference_mode()
def lift_windows(
    model: nn.Module,
    config: Config,
    input_2d: Tensor,
    input_mask: Tensor | None,
    seeds: Tensor,
    hypotheses: int,
    steps: int,
    flip: bool,
    prompt: Prompt | None = None,
) -> Tensor:
    """Root-relative poses (B, H, N, J, 3), metres, camera frame, with the root at the origin.

    A deterministic lifter gives one hypothesis, whatever `hypotheses` and `steps` ask for. A window's result does not
    depend on the other windows of the batch: its noise comes from its own seed. Windows and hypotheses are taken a few
    at a time, as many as `config.evaluation.memory_mb` allows, which does not change the result either. (Except that of
    a model with compatibility `released` for several texts, which mixes them over its whole batch: that is computed in
    one piece, whatever the bound.)

    Args:
        model: a trained network, on the device of the inputs and in evaluation mode.
        config: of the run that trained it.
        input_2d: (B, N, J, 2) normalised keypoints, 0 where missing.
        input_mask: (B, N, J), True where a keypoint is usable (False in padding); None: everywhere.
        seeds: (B,) int64, one for each window.
        hypotheses, steps: H and the number of DDIM steps.
        flip: average with the prediction for the mirrored input, inside every step (D3DP).
        prompt: what a prompted model made of the windows' texts (`FinePOSE.encode_prompts`); None: no prompt for any
            window. Other models read none.
    """
    prompt = _prompt_of(model, prompt)
    at_once = hypotheses * len(input_2d)
    if not _mixes(model, prompt):
        at_once = max(1, sequences_within(model, config.evaluation.memory_mb) // (2 if flip else 1))
    sampling = Sampling(config, hypotheses, steps, flip)
    return torch.cat(
        [
            _lift(model, sampling, at_once, *parts)
            for parts in _split_windows(at_once, input_2d, input_mask, seeds, prompt)
        ]
    )


class Sampling(NamedTuple):
    """How poses are sampled: the run's configuration, H, S, and whether to average with the mirrored input."""

    config: Config
    hypotheses: int
    steps: int
    flip: bool

    @property
    def joints(self) -> JointSet:
        """Of the run."""
        return joint_set(self.config.data.joint_set)


def lift_tracks(
    model: nn.Module,
    config: Config,
    tracks: Iterable[Track],
    *,
    hypotheses: int | None = None,
    steps: int | None = None,
    flip: bool | None = None,
    batch_size: int | None = None,
    legacy_overlap: bool = False,
) -> Iterator[tuple[Track, dict, np.ndarray, np.ndarray]]:
    """Each track with its data, its poses and how often each frame is to be scored.

    Windows in which the person has neither a usable keypoint nor a target are not lifted. Options that are None are
    those of `config.evaluation`. A prompted model gets a text for every track by `config.model.prompt.condition`; each
    distinct one is encoded once.

    Args:
        model: a trained network in evaluation mode, on any device.
        config: of the run that trained it; `config.data` says how the tracks are read.
        tracks: to lift, from `list_tracks`.
        hypotheses, steps, flip: see `lift_windows`.
        batch_size: windows at once.
        legacy_overlap: score overlapping frames and padding again, as the papers' code does.

    Yields:
        track, the dictionary of `TrackReader.read` (T frames), poses (H, T, J, 3) float32 in metres, root-relative,
        camera frame, NaN where not lifted, and times_scored (T,) int: 1, or 0 where not lifted; more only with
        `legacy_overlap`, where the poses of the later window stand for both.
    """
    asked = {"hypotheses": hypotheses, "sampling_steps": steps, "flip": flip, "batch_size": batch_size}
    options = config.evaluation.model_copy(update={name: value for name, value in asked.items() if value is not None})
    config = config.model_copy(update={"evaluation": options})
    model = in_precision(model, options.precision)
    size, prompt_of = options.batch_size, encoded_once(model, config.model.prompt.condition)
    with TrackReader(config.data) as reader:
        for track in tracks:
            sample = reader.read(track)
            windows = _worth_lifting(sample, evaluation_windows(track.length, config.data.window, legacy_overlap))
            seeds = torch.tensor([window_seed(config.seed, track, start) for start in windows.start])
            prompt = prompt_of(track)
            batches = [
                _lift_batch(model, config, sample, windows, seeds, prompt, slice(first, first + size))
                for first in range(0, len(seeds), size)
            ]
            lifted_hypotheses = options.hypotheses if model.is_denoiser else 1
            empty = np.full((lifted_hypotheses, *sample["target_3d"].shape), np.nan, dtype=np.float32)
            yield track, sample, *_assemble(batches, windows, empty)


def _lift(
    model: nn.Module,
    sampling: Sampling,
    sequences: int,
    input_2d: Tensor,
    input_mask: Tensor | None,
    seeds: Tensor,
    prompt: Prompt | None,
) -> Tensor:
    """Poses (B, H, N, J, 3) of windows that are denoised together, `sequences` (mirrored or not) at a time."""
    joints = sampling.joints
    denoise = conditioned(model, joints, sampling.flip, input_2d, input_mask, prompt)
    shape = (sampling.hypotheses, *input_2d.shape[1:-1], 3)
    if not model.is_denoiser:
        return _root_at_origin(denoise(input_2d.new_zeros(len(seeds), 1, *shape[1:]), 0), joints)

    def noise(_draw: int) -> Tensor:
        return draw_noise(generators, shape).to(input_2d.device)

    generators = window_generators(seeds)
    denoise = in_chunks(denoise, max(1, sequences // len(seeds)))
    diffusion = sampling.config.diffusion
    sampled = ddim_sample(denoise, noise, CosineSchedule(diffusion.timesteps), sampling.steps, diffusion.clip_m)
    return _root_at_origin(sampled[-1], joints)


def _prompt_of(model: nn.Module, prompt: Prompt | None) -> Prompt | None:
    return model.encode_prompts([None]) if model.reads_prompts and prompt is None else prompt


def _mixes(model: nn.Module, prompt: Prompt | None) -> bool:
    """Whether the network mixes up the prompts of a batch, as the released one does with several."""
    return prompt is not None and model.communication.mixes_prompts and len(prompt.keys) > 1


def _split_windows(
    size: int, input_2d: Tensor, input_mask: Tensor | None, seeds: Tensor, prompt: Prompt | None
) -> Iterator[tuple[Tensor, Tensor | None, Tensor, Prompt | None]]:
    """The arguments for `size` windows at a time."""
    for first in range(0, len(input_2d), size):
        part = slice(first, first + size)
        of_part = prompt
        if prompt is not None and len(prompt.index) == len(input_2d):
            of_part = prompt._replace(index=prompt.index[part])
        yield input_2d[part], None if input_mask is None else input_mask[part], seeds[part], of_part


def _root_at_origin(poses: Tensor, joints: JointSet) -> Tensor:
    """Poses with the root at 0: overwritten where it is a joint (as the papers do), subtracted where between joints."""
    if len(joints.root_joints) > 1:
        return joints.root_relative(poses)
    poses = poses.clone()
    poses[..., joints.root_joints[0], :] = 0
    return poses


def window_seed(seed: int, track: Track, start: int) -> int:
    digest = hashlib.blake2b(f"{seed}|{track.key}|{start}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def encoded_once(model: nn.Module, condition: str) -> Callable[[Track], Prompt | None]:
    """A function from a track to its encoded prompt under a condition; None for models that read none."""

    @cache
    @torch.inference_mode()
    def encode(text: str | None) -> Prompt:
        return model.encode_prompts([text])

    def prompt_of(track: Track) -> Prompt | None:
        return encode(condition_text(condition, track.action, track.scene)) if model.reads_prompts else None

    return prompt_of


def _worth_lifting(sample: dict, windows: Windows) -> Windows:
    """Windows with a usable keypoint or a target in them.

    Targets count too: a person whose detections are all missing is still lifted, to be scored like any other.
    """
    something = (sample["input_mask"] | sample["target_mask"]).any(axis=-1)
    wanted = something[windows.frames].any(axis=-1)
    return Windows(*(array[wanted] for array in windows))


def _lift_batch(
    model: nn.Module,
    config: Config,
    sample: dict,
    windows: Windows,
    seeds: Tensor,
    prompt: Prompt | None,
    batch: slice,
) -> np.ndarray:
    """Poses (b, H, N, J, 3) of some windows of a track."""
    options, device = config.evaluation, next(model.parameters()).device
    frames, frame_mask = windows.frames[batch], windows.frame_mask[batch]
    input_mask = sample["input_mask"][frames] & frame_mask[..., None]
    poses = lift_windows(
        model,
        config,
        torch.from_numpy(sample["input_2d"][frames]).to(device),
        torch.from_numpy(input_mask).to(device),
        seeds[batch],
        options.hypotheses,
        options.sampling_steps,
        options.flip,
        prompt,
    )
    return poses.float().cpu().numpy()


def _assemble(batches: list[np.ndarray], windows: Windows, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses (H, T, J, 3), filled with those of windows (n, H, N, J, 3) in batches, and times_scored (T,)."""
    lifted = (window for batch in batches for window in batch)
    for window, frames, scored in zip(lifted, windows.frames, windows.score_mask, strict=True):
        poses[:, frames[scored]] = window[:, scored]
    times_scored = np.zeros(poses.shape[1], dtype=np.int64)
    np.add.at(times_scored, windows.frames[windows.score_mask], 1)
    return poses, times_scored
