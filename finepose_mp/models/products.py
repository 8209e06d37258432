"""Linear layers for training on a processor: products by oneDNN, and activations computed twice instead of kept.

PyTorch gives float32 products to MKL. On the AMD processor that this was measured on, oneDNN's kernels take a tenth
less time, and with weights reordered once a sixth less. The gradients of weights stay with MKL, as fast for them.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx
from torch.nn import functional as F


def uses_onednn(x: Tensor) -> bool:
    """Whether products of a tensor go through oneDNN here: float32 as it is, on a processor with AVX-512."""
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and has_onednn_kernels()
    )


def has_onednn_kernels() -> bool:
    """Whether this processor has AVX-512 and this PyTorch oneDNN."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What F.linear gives, without gradients; the weight may be one that was reordered for oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class Linear(nn.Linear):
    """A linear layer; `after_gelu` gives what it makes of activated tokens, for which it keeps them as they came."""

    def forward(self, x: Tensor) -> Tensor:
        """Products (..., D') of tokens (..., D)."""
        return linear(x, self.weight, self.bias)

    def after_gelu(self, x: Tensor) -> Tensor:
        """Products (..., D') of the GELU of tokens (..., D)."""
        return _Linear.apply(x, self.weight, self.bias, True) if uses_onednn(x) else self(F.gelu(x))


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What F.linear gives."""
    return _Linear.apply(x, weight, bias, False) if uses_onednn(x) else F.linear(x, weight, bias)


class _Linear(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, gelu: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.gelu = gelu
        return onednn_linear(F.gelu(x) if gelu else x, weight, bias)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_input = onednn_linear(gradient, weight.t(), None)
        if ctx.gelu:
            of_input = torch.ops.aten.gelu_backward(of_input, x)
            x = F.gelu(x)
        return of_input, rows.t() @ x.flatten(0, -2), rows.sum(0), None
