"""Linear layers for training on a processor: products by oneDNN, and activations computed twice instead of kept.

PyTorch gives float32 products to MKL. On the AMD processor that this was measured on, oneDNN's kernels take a tenth
less time, and with weights reordered once a sixth less. The gradients of weights stay with MKL, as fast for them.
"""

import ctypes
import platform

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx
from torch.nn import functional as F

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, from glibc's malloc.h


def onednn_dtype(x: Tensor) -> torch.dtype | None:
    """In which precision products of a tensor go through oneDNN here; None: they do not.

    On a processor with AVX-512, without a compiler: float32 as it is, and bfloat16 where autocast asks for it in
    training. Without gradients, autocast does better: it keeps its copies of weights from one call to the next.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not has_onednn_kernels():
        return None
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32 if x.dtype is torch.float32 else None
    is_lowered = torch.get_autocast_dtype("cpu") is torch.bfloat16 and x.dtype in (torch.float32, torch.bfloat16)
    return torch.bfloat16 if is_lowered and torch.is_grad_enabled() else None


def has_onednn_kernels() -> bool:
    """Whether this processor has AVX-512 and this PyTorch oneDNN."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def keep_freed_memory() -> None:
    """Makes a C library that can (glibc) keep what tensors gave back, for those of the next training step.

    Otherwise the system takes much of it and hands it out again page by page, emptied: up to a fifth of a bf16 step.
    """
    if platform.libc_ver()[0] == "glibc":
        set_option = ctypes.CDLL(None).mallopt
        set_option(_TRIM_THRESHOLD, 2**31 - 1)
        set_option(_MMAP_THRESHOLD, 2**28)  # larger tensors than this are still given back


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
        dtype = onednn_dtype(x)
        return self(F.gelu(x)) if dtype is None else _Linear.apply(x, self.weight, self.bias, True, dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What F.linear gives."""
    dtype = onednn_dtype(x)
    return F.linear(x, weight, bias) if dtype is None else _Linear.apply(x, weight, bias, False, dtype)


class _Linear(Function):
    """Gradients come in the precision of the products; autograd turns them into that of what they belong to."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, gelu: bool, dtype: torch.dtype) -> Tensor:
        x = x.to(dtype)
        ctx.save_for_backward(x, weight)
        ctx.gelu = gelu
        return onednn_linear(F.gelu(x) if gelu else x, weight.to(dtype), bias.to(dtype))

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_input = onednn_linear(gradient, weight.t().to(gradient.dtype), None)
        if ctx.gelu:
            of_input = torch.ops.aten.gelu_backward(of_input, x)
            x = F.gelu(x)
        return of_input, rows.t() @ x.flatten(0, -2), rows.sum(0), None, None
