"""Hypotheses over tracks of any length, without a seam where windows meet.

Windows overlap, and are blended inside every sampling step: the sampler moves one noisy pose of the whole track, and
what the network says about each frame is the weighted mean over the windows that hold it (MultiDiffusion, Bar-Tal et
al. 2023, with time in place of the image plane). Frames near a window's middle weigh most. All windows therefore agree
on every hypothesis, which windows sampled one by one do not.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from finepose_mp.config import Config
from finepose_mp.datasets.index import Windows, place_windows
from finepose_mp.diffusion import CosineSchedule, ddim_sample, draw_noise, window_generators
from finepose_mp.inference.conditioning import conditioned
from finepose_mp.inference.memory import sequences_within
from finepose_mp.models.finepose import Prompt
from finepose_mp.skeletons import joint_set


class TrackInput(NamedTuple):
    """What a model is given of one track of T frames."""

    input_2d: np.ndarray  # (T, J, 2) normalised keypoints, 0 where missing
    input_mask: np.ndarray  # (T, J), True where usable
    seed: int  # of the track's noise


@torch.inference_mode()
def lift_long_tracks(
    model: nn.Module, config: Config, tracks: Sequence[TrackInput], prompt: Prompt | None = None
) -> list[np.ndarray]:
    """Hypotheses (H, T, J, 3) float32 of every track: root-relative metres, camera frame; NaN where nothing was lifted.

    A frame is lifted when a window with a usable keypoint holds it; so are frames in between that have none. Windows of
    all tracks pass the network together, which does not change the result of any.

    Args:
        model: a trained network in evaluation mode, on any device.
        config: of the run that trained it; `config.evaluation` says how many hypotheses in how many steps.
        tracks: of any lengths.
        prompt: one encoded text for all of them, for models that read prompts; None: no prompt.
    """
    joined = _Joined(model, config, tracks, prompt)
    shapes = [
        (config.evaluation.hypotheses if model.is_denoiser else 1, *track.input_2d.shape[:-1], 3) for track in tracks
    ]
    if not len(joined.windows.start):
        return [np.full(shape, np.nan, np.float32) for shape in shapes]
    generators = window_generators([track.seed for track in tracks])

    def noise(_draw: int) -> Tensor:
        each = [draw_noise([own], shape) for own, shape in zip(generators, shapes, strict=True)]
        return torch.cat(each, dim=2).to(joined.device)

    if model.is_denoiser:
        schedule, diffusion = CosineSchedule(config.diffusion.timesteps), config.diffusion
        poses = ddim_sample(joined.denoise, noise, schedule, config.evaluation.sampling_steps, diffusion.clip_m)[-1]
    else:
        poses = joined.denoise(torch.zeros_like(noise(0)), 0)
    lifted = joint_set(config.data.joint_set).root_relative(poses[0]).cpu().numpy()
    lifted = np.where(joined.covered[:, None, None], lifted, np.float32(np.nan))
    return np.split(lifted, np.cumsum([shape[1] for shape in shapes])[:-1], axis=1)


class _Joined:
    """Tracks one after the other in overlapping windows, none of which holds frames of two, and their denoiser."""

    def __init__(self, model: nn.Module, config: Config, tracks: Sequence[TrackInput], prompt: Prompt | None) -> None:
        self._model, self._joints, self._flip = model, joint_set(config.data.joint_set), config.evaluation.flip
        self.device = next(model.parameters()).device
        input_2d, mask = (np.concatenate([track[part] for track in tracks]) for part in (0, 1))
        windows = _windows_of([len(track.input_2d) for track in tracks], config.data.window)
        self.windows = _with_keypoints(windows, mask)
        self._weights = _blend_weights(self.windows, len(input_2d))
        self._input_2d = torch.from_numpy(input_2d.astype(np.float32, copy=False)).to(self.device)
        self._mask = torch.from_numpy(mask).to(self.device)
        self._prompt = prompt if prompt is not None or not model.reads_prompts else model.encode_prompts([None])
        self._sequences = sequences_within(model, config.evaluation.memory_mb)

    @property
    def covered(self) -> np.ndarray:
        """Frames that some window holds, bool."""
        covered = np.zeros(len(self._input_2d), bool)
        covered[self.windows.frames[self.windows.frame_mask]] = True
        return covered

    def denoise(self, noisy: Tensor, t: int) -> Tensor:
        """Clean poses like `noisy` (1, H, frames of all tracks, J, 3), a few windows at a time; 0 without a window."""
        clean = torch.zeros_like(noisy)
        at_once = max(1, self._sequences // (noisy.shape[1] * (2 if self._flip else 1)))
        for first in range(0, len(self.windows.start), at_once):
            part = Windows(*(array[first : first + at_once] for array in self.windows))
            frames = torch.from_numpy(part.frames).to(self.device)
            weights = torch.from_numpy(self._weights[first : first + at_once]).to(noisy)
            mask = self._mask[frames] & torch.from_numpy(part.frame_mask).to(self.device)[..., None]
            denoise = conditioned(self._model, self._joints, self._flip, self._input_2d[frames], mask, self._prompt)
            poses = denoise(noisy[0, :, frames].transpose(0, 1), t)
            weighted = (poses * weights[:, None, :, None, None]).transpose(0, 1).flatten(1, 2)
            clean[0].index_add_(1, frames.flatten(), weighted)
        return clean


def overlapping_windows(length: int, window: int) -> Windows:
    """Windows of N frames that share a third with the next, the last one ending with the track.

    A track shorter than a window is padded.
    """
    stride = max(1, window - window // 3)
    last = max(0, length - window)
    return place_windows(np.unique(np.append(np.arange(0, last, stride), last)), length, window)


def _windows_of(lengths: list[int], window: int) -> Windows:
    """Windows of tracks that lie one after the other."""
    of_each = [overlapping_windows(length, window) for length in lengths]
    before = np.cumsum([0, *lengths[:-1]])
    moved = [w._replace(start=w.start + n, frames=w.frames + n) for w, n in zip(of_each, before, strict=True)]
    return Windows(*(np.concatenate(arrays) for arrays in zip(*moved, strict=True)))


def _with_keypoints(windows: Windows, mask: np.ndarray) -> Windows:
    wanted = (mask.any(axis=-1)[windows.frames] & windows.frame_mask).any(axis=-1)
    return Windows(*(array[wanted] for array in windows))


def _blend_weights(windows: Windows, length: int) -> np.ndarray:
    """(n, N) weights of every window's slots: most in its middle, adding up to 1 over the windows of a frame."""
    n = windows.frames.shape[1]
    slot = np.arange(n)
    weights = np.minimum(slot + 1, n - slot) * windows.frame_mask.astype(np.float64)
    total = np.zeros(length)
    np.add.at(total, windows.frames, weights)
    return weights / np.maximum(total, 1e-12)[windows.frames]
