"""How many poses a network denoises at once: inference within a bound on memory, with the same results."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from finepose_mp.diffusion import Denoiser
from finepose_mp.models.packing import can_pack, is_packed, pack

# Widths of a token alive at once inside a block: as it came into the network and into the block, normed, projected
# three times, what it attended to, that with the tokens that see nothing, and its projection. Or in the MLP: as it came
# in, before and after the block's attention, normed, and the hidden layer before and after its GELU.
_ATTENTION_WIDTHS = 9
_MLP_WIDTHS, _MLP_HIDDEN = 4, 2
_CPU_MB = 16  # a processor is fastest where activations stay in its cache, and matrix products there are large enough
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def sequence_bytes(model: nn.Module) -> int:
    """Bytes of activations for one pose sequence of one window, at the widest place of the network.

    Counted from the layers' sizes; the attention's own kernels hold little, other kernels may hold more.
    """
    trunk = model.trunk
    _, window, _, width = trunk.temporal_position.shape
    joints = trunk.spatial_position.shape[2]
    hidden = trunk.spatial_blocks[0].mlp.expand.out_features
    channels = max(_ATTENTION_WIDTHS * width, _MLP_WIDTHS * width + _MLP_HIDDEN * hidden)
    return window * joints * channels * trunk.dtype.itemsize


def sequences_within(model: nn.Module, memory_mb: int) -> int:
    """Pose sequences whose activations fit into `memory_mb`, and on a CPU into its cache; at least one."""
    if model.trunk.spatial_position.device.type == "cpu":
        memory_mb = min(memory_mb, _CPU_MB)
    return max(1, memory_mb * 2**20 // sequence_bytes(model))


def in_chunks(denoise: Denoiser, hypotheses: int) -> Denoiser:
    """A denoiser that hands `hypotheses` of them on at a time. They do not see each other, so nothing else changes."""

    def chunked(noisy: Tensor, t: int) -> Tensor:
        if noisy.shape[1] <= hypotheses:
            return denoise(noisy, t)
        return torch.cat([denoise(part, t) for part in noisy.split(hypotheses, dim=1)], dim=1)

    return chunked


def in_precision(model: nn.Module, precision: str) -> nn.Module:
    """The model for inference: its matrix products in `precision`, weights cast and laid out once, not per call.

    A copy, unless it is so already. What reads and writes coordinates stays in float32, as do the prompts' encoder and
    the diffusion time.
    """
    dtype, packs = _PRECISIONS[precision], can_pack(model.trunk.spatial_position.device)
    if model.trunk.dtype == dtype and is_packed(model.trunk) == packs:
        return model
    copied = deepcopy(model, {id(tensor): tensor for tensor in model.parameters()})  # what stays as it is, is shared
    for name in copied.matrix_modules:
        module = getattr(copied, name)
        _cast(module, dtype)
        if packs:
            pack(module)
    return copied


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Gives a module parameters of another type, leaving alone the present ones, which others may share."""
    for part in module.modules():
        for name, tensor in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(tensor.detach().to(dtype), requires_grad=False))
