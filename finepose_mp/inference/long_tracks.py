"""Hypotheses over tracks of any length, without a seam where windows meet.

Windows overlap, and are blended inside every sampling step: the sampler moves one noisy pose of the whole track, and
what the network says about each frame is the weighted mean over the windows that hold it (MultiDiffusion, Bar-Tal et
al. 2023, with time in place of the image plane). Frames near a window's middle weigh most. All windows therefore agree
on every hypothesis, which windows sampled one by one do not.
"""

import numpy as np
import torch
from torch import Tensor, nn

from finepose_mp.config import Config
from finepose_mp.datasets.index import Windows, place_windows
from finepose_mp.diffusion import CosineSchedule, ddim_sample, draw_noise, window_generators
from finepose_mp.inference.memory import sequences_within
from finepose_mp.inference.mirroring import mirror_averaged, with_mirrored
from finepose_mp.models.finepose import Prompt
from finepose_mp.skeletons import joint_set


@torch.inference_mode()
def lift_track(
    model: nn.Module,
    config: Config,
    input_2d: np.ndarray,
    input_mask: np.ndarray,
    seed: int,
    prompt: Prompt | None = None,
) -> np.ndarray:
    """Hypotheses (H, T, J, 3) float32 of one track: root-relative metres, camera frame; NaN where nothing was lifted.

    A frame is lifted when a window with a usable keypoint holds it; so are frames in between that have none.

    Args:
        model: a trained network in evaluation mode, on any device.
        config: of the run that trained it; `config.evaluation` says how many hypotheses in how many steps.
        input_2d: (T, J, 2) normalised keypoints, 0 where missing.
        input_mask: (T, J), True where usable.
        seed: of the track's noise.
        prompt: one encoded text, for models that read prompts; None: no prompt.
    """
    track = _Track(model, config, input_2d, input_mask, prompt)
    hypotheses = config.evaluation.hypotheses if model.is_denoiser else 1
    shape = (hypotheses, *input_2d.shape[:-1], 3)
    if not len(track.windows.start):
        return np.full(shape, np.nan, np.float32)
    if model.is_denoiser:
        generators = window_generators([seed])
        schedule = CosineSchedule(config.diffusion.timesteps)
        poses = ddim_sample(
            track.denoise,
            lambda _draw: draw_noise(generators, shape).to(track.device),
            schedule,
            config.evaluation.sampling_steps,
            config.diffusion.clip_m,
        )[-1]
    else:
        poses = track.denoise(torch.zeros(1, *shape, device=track.device), 0)
    lifted = joint_set(config.data.joint_set).root_relative(poses[0]).cpu().numpy()
    return np.where(track.covered[:, None, None], lifted, np.float32(np.nan))


class _Track:
    """One track in overlapping windows, and a denoiser of its whole length."""

    def __init__(
        self, model: nn.Module, config: Config, input_2d: np.ndarray, mask: np.ndarray, prompt: Prompt | None
    ) -> None:
        self._model, self._joints, self._flip = model, joint_set(config.data.joint_set), config.evaluation.flip
        self.device = next(model.parameters()).device
        self.windows = _with_keypoints(overlapping_windows(len(input_2d), config.data.window), mask)
        self._weights = _blend_weights(self.windows, len(input_2d))
        self._input_2d = torch.from_numpy(np.ascontiguousarray(input_2d, np.float32)).to(self.device)
        self._mask = torch.from_numpy(np.ascontiguousarray(mask)).to(self.device)
        self._prompt = prompt if prompt is not None or not model.reads_prompts else model.encode_prompts([None])
        self._sequences = sequences_within(model, config.evaluation.memory_mb)

    @property
    def covered(self) -> np.ndarray:
        """(T,) bool: frames that some window holds."""
        covered = np.zeros(len(self._input_2d), bool)
        covered[self.windows.frames[self.windows.frame_mask]] = True
        return covered

    def denoise(self, noisy: Tensor, t: int) -> Tensor:
        """Clean poses (1, H, T, J, 3), as many windows at a time as memory allows; 0 where there is no window."""
        clean = torch.zeros_like(noisy)
        at_once = max(1, self._sequences // (noisy.shape[1] * (2 if self._flip else 1)))
        for first in range(0, len(self.windows.start), at_once):
            frames = torch.from_numpy(self.windows.frames[first : first + at_once]).to(self.device)
            weights = torch.from_numpy(self._weights[first : first + at_once]).to(noisy)
            poses = self._denoise_windows(first, frames, noisy[0, :, frames].transpose(0, 1), t)
            weighted = (poses * weights[:, None, :, None, None]).transpose(0, 1).flatten(1, 2)
            clean[0].index_add_(1, frames.flatten(), weighted)
        return clean

    def _denoise_windows(self, first: int, frames: Tensor, noisy: Tensor, t: int) -> Tensor:
        """Clean poses (B, H, N, J, 3) of some windows."""
        inside = torch.from_numpy(self.windows.frame_mask[first : first + len(frames)]).to(self.device)
        input_2d, mask = self._input_2d[frames], self._mask[frames] & inside[..., None]
        if self._flip:
            input_2d, mask = with_mirrored(input_2d, mask, self._joints)
        if not self._model.is_denoiser:
            both = self._model(input_2d, mask).unsqueeze(1)
            return mirror_averaged(lambda _noisy, _t: both, self._joints)(noisy, t) if self._flip else both
        conditions = self._model.condition(input_2d, mask, *([] if self._prompt is None else [self._prompt]))

        def denoise(poses: Tensor, time: int) -> Tensor:
            return self._model.denoise(conditions, poses, torch.full((len(poses),), time, device=self.device))

        return (mirror_averaged(denoise, self._joints) if self._flip else denoise)(noisy, t)


def overlapping_windows(length: int, window: int) -> Windows:
    """Windows of N frames that share a third with the next, the last one ending with the track.

    A track shorter than a window is padded.
    """
    stride = max(1, window - window // 3)
    last = max(0, length - window)
    return place_windows(np.unique(np.append(np.arange(0, last, stride), last)), length, window)


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
