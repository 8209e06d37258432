"""Attention; in bfloat16 on a processor it is written out, for the short sequences that poses are.

PyTorch's fused kernel takes twice as long for them, and seven times as long backward. Autograd would keep the softmax
in float32 and copies of what goes into every product; here queries, keys, values and bfloat16 probabilities are kept.
"""

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx
from torch.nn import functional as F


def attend(q: Tensor, k: Tensor, v: Tensor, usable: Tensor | None = None) -> Tensor:
    """Attention (R, heads, L, d) of queries, keys and values; `usable`, broadcast to (R, heads, L, L'), is a mask."""
    if _is_written_out(q):
        return _Attention.apply(q, k, v, usable)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=usable)


def split(parts: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Queries, keys and values (R, heads, L, d), of which (R, L, heads, d) lie one after the other along an axis."""
    if _is_written_out(parts):
        return _Split.apply(parts, axis)
    return tuple(part.transpose(1, 2) for part in parts.unbind(axis))


def _is_written_out(x: Tensor) -> bool:
    return x.dtype is torch.bfloat16 and x.device.type == "cpu"


class _Split(Function):
    """Parts without gaps, for products would copy them too, transposed ones slowly.

    The gradient of `unbind` is put together five times as slowly.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, parts: Tensor, axis: int) -> tuple[Tensor, ...]:
        ctx.axis = axis
        return tuple(part.transpose(1, 2).contiguous() for part in parts.unbind(axis))

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        rows, heads, length, width = gradients[0].shape
        shape = [rows, length, heads, width]
        shape.insert(ctx.axis, len(gradients))
        joined = gradients[0].new_empty(shape)
        for part, gradient in zip(joined.unbind(ctx.axis), gradients, strict=True):
            part.copy_(gradient.transpose(1, 2))
        return joined, None


class _Attention(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, usable: Tensor | None) -> Tensor:
        q, k, v = (x.contiguous() for x in (q * q.shape[-1] ** -0.5, k, v))
        scores = q @ k.transpose(-2, -1)
        if usable is not None:
            scores = scores.masked_fill_(~usable, -torch.inf)
        probabilities = scores.copy_(scores.softmax(dim=-1, dtype=torch.float32))
        ctx.save_for_backward(q, k, v, probabilities)
        return probabilities @ v

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, probabilities = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_probabilities = gradient @ v.transpose(-2, -1)
        of_scores = torch.ops.aten._softmax_backward_data(
            of_probabilities.float(), probabilities.float(), -1, torch.float32
        ).to(v.dtype)
        of_q = (of_scores @ k) * q.shape[-1] ** -0.5
        return of_q, of_scores.transpose(-2, -1) @ q, probabilities.transpose(-2, -1) @ gradient, None
