"""A network with everything known about its windows built in: a function of noisy poses and diffusion time alone."""

import torch
from torch import Tensor, nn

from finepose_mp.diffusion import Denoiser
from finepose_mp.inference.mirroring import mirror_averaged, with_mirrored
from finepose_mp.models.finepose import Prompt
from finepose_mp.skeletons import JointSet


def conditioned(
    model: nn.Module,
    joints: JointSet,
    flip: bool,
    input_2d: Tensor,
    input_mask: Tensor | None,
    prompt: Prompt | None = None,
) -> Denoiser:
    """The denoiser of B windows. That of a deterministic lifter gives its answer whatever the noisy poses are.

    Args:
        model: a trained network in evaluation mode.
        joints: of the run.
        flip: average with the prediction for the mirrored input (D3DP).
        input_2d, input_mask: (B, N, J, 2) and (B, N, J), see `lift_windows`.
        prompt: of the windows; None: no prompt, or a network that reads none.
    """
    if flip:
        input_2d, input_mask = with_mirrored(input_2d, input_mask, joints)
    if model.is_denoiser:
        conditions = model.condition(input_2d, input_mask, *([] if prompt is None else [prompt]))

        def denoise(noisy: Tensor, t: int) -> Tensor:
            return model.denoise(conditions, noisy, torch.full((len(noisy),), t, device=noisy.device))
    else:
        lifted = model(input_2d, input_mask).unsqueeze(1)

        def denoise(_noisy: Tensor, _t: int) -> Tensor:
            return lifted

    return mirror_averaged(denoise, joints) if flip else denoise
