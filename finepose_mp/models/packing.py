"""Linear layers laid out for a processor's matrix kernels: the same products sooner, for inference."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finepose_mp.models.blocks import Attention
from finepose_mp.models.products import has_onednn_kernels, onednn_linear


class PackedLinear(nn.Module):
    """A linear layer with its weights in the order in which oneDNN's kernels read them; they get no gradients."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = nn.Parameter(bias.detach(), requires_grad=False)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Products (..., D') of tokens (..., D)."""
        return onednn_linear(x, self._packed, self.bias)

    def after_gelu(self, x: Tensor) -> Tensor:
        """Products (..., D') of the GELU of tokens (..., D)."""
        return self(F.gelu(x))


def can_pack(device: torch.device) -> bool:
    """Whether layers on a device can be packed, and gain by it."""
    return device.type == "cpu" and has_onednn_kernels()


def pack(module: nn.Module) -> None:
    """Packs every linear layer inside a module, in place."""
    for part in list(module.modules()):
        if isinstance(part, Attention):
            part.qkv, part.is_by_head = PackedLinear(*part.by_head()), True
        for name, child in part.named_children():
            if isinstance(child, nn.Linear):
                setattr(part, name, PackedLinear(child.weight, child.bias))


def is_packed(module: nn.Module) -> bool:
    """Whether a module has packed layers in it."""
    return any(isinstance(part, PackedLinear) for part in module.modules())
