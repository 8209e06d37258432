"""Averaging with the prediction for the mirrored input (D3DP's flip augmentation at test time)."""

import torch
from torch import Tensor

from finepose_mp.diffusion import Denoiser
from finepose_mp.skeletons import JointSet


def mirrored(points: Tensor, joints: JointSet) -> Tensor:
    """Points (..., J, D) with x negated and left and right joints swapped."""
    swapped = points[..., list(joints.mirror), :]
    return torch.cat([-swapped[..., :1], swapped[..., 1:]], dim=-1)


def with_mirrored(input_2d: Tensor, input_mask: Tensor | None, joints: JointSet) -> tuple[Tensor, Tensor | None]:
    """Keypoints (2B, N, J, 2) and mask (2B, N, J) of B windows: as they are, then mirrored."""
    both_masks = None if input_mask is None else torch.cat([input_mask, input_mask[..., list(joints.mirror)]])
    return torch.cat([input_2d, mirrored(input_2d, joints)]), both_masks


def mirror_averaged(denoise_both: Denoiser, joints: JointSet) -> Denoiser:
    """A denoiser of B windows that averages the prediction with that for the mirrored input, both in one batch.

    `denoise_both` denoises the 2B windows of `with_mirrored`; the noisy poses of the second half are mirrored, and its
    prediction is mirrored back.
    """

    def denoise(noisy: Tensor, t: int) -> Tensor:
        as_is, flipped = denoise_both(torch.cat([noisy, mirrored(noisy, joints)]), t).chunk(2)
        return (as_is + mirrored(flipped, joints)) / 2

    return denoise
