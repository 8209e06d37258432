"""The blocks that every network here is built from: attention over joints, attention over time, the two alternated.

Tokens are (B, N, J, D) from end to end: sequences (windows, or windows times hypotheses), frames, joints, channels.
A block attends along axis 1 of (R, L, S, D): R independent rows, the L tokens that see each other, S slots side by
side that do not. Over joints that is (B*N, J, 1, D), over time (B, N, J, D); both are views, so nothing is moved in
memory between the two kinds of block.

Source: MixSTE (Zhang et al., CVPR 2022), as used by D3DP (Shan et al., ICCV 2023) and FinePOSE (Xu et al., CVPR 2024).
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from finepose_mp.models.products import Linear, linear
from finepose_mp.models.short_attention import attend, split

NORM_EPS = 1e-6  # of the norms inside the backbone; the heads use PyTorch's default, as the papers' code does


class Keys(NamedTuple):
    """Which tokens may be attended to, along one axis.

    `usable` (R, S*heads or 1, 1, L) is what scaled_dot_product_attention takes: all True where a row has no usable
    token, because a softmax over nothing is NaN. `exist` (R, S*heads or 1, 1, 1) is False for such rows, whose tokens
    attend to themselves instead; None: there are none, as far as is known.
    """

    usable: Tensor
    exist: Tensor | None

    @classmethod
    def of(cls, mask: Tensor, heads: int) -> "Keys":
        """Keys from a mask (R, L, S), True where the token is usable."""
        exist = mask.any(dim=1, keepdim=True)
        usable = (mask | ~exist).transpose(1, 2).unsqueeze(2)
        if usable.shape[1] > 1:
            usable, exist = usable.repeat_interleave(heads, dim=1), exist.repeat_interleave(heads, dim=2)
        return cls(usable, None if _is_known_full(exist) else exist.transpose(1, 2).unsqueeze(2))


class Attention(nn.Module):
    """Multi-head self-attention along axis 1 of (R, L, S, D).

    Attributes:
        qkv: gives queries, keys and values, one after the other; with `is_by_head`, head by head.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.is_by_head = False
        self.qkv = Linear(width, 3 * width)
        self.project = Linear(width, width)

    def forward(self, x: Tensor, keys: Keys | None = None) -> Tensor:
        """Attended tokens (R, L, S, D). Without `keys` every token is a key."""
        parts, axis = self._parts(x)
        q, k, v = split(parts, axis)
        attended = attend(q, k, v, None if keys is None else keys.usable)
        if keys is not None and keys.exist is not None:
            attended = torch.where(keys.exist, attended, v)  # attending to oneself alone yields one's own value
        return self.project(attended.transpose(1, 2).reshape(x.shape))

    def _parts(self, x: Tensor) -> tuple[Tensor, int]:
        """Queries, keys and values of (R, L, S, D), (R, L, S*heads, d) each, and the axis along which they lie.

        Slots fold into the head axis. Where there are several, one slot's heads follow on another's without a gap only
        if a head's three parts lie together, so the (small) weights are reordered instead of the tokens copied.
        """
        rows, length, slots, _ = x.shape
        if slots == 1 and not self.is_by_head:
            return self.qkv(x).view(rows, length, 3, -1, self.head_width), 2
        projected = self.qkv(x) if self.is_by_head else linear(x, *self.by_head())
        return projected.view(rows, length, -1, 3, self.head_width), 3

    def by_head(self) -> tuple[Tensor, Tensor]:
        """Weights and bias of `qkv` in the order head, part, channel."""
        weight, bias = (x.unflatten(0, (3, -1, self.head_width)) for x in (self.qkv.weight, self.qkv.bias))
        return weight.transpose(0, 1).flatten(0, 2), bias.transpose(0, 1).flatten()


class DropPath(nn.Module):
    """Drops a residual branch for whole sequences while training (stochastic depth, Huang et al., ECCV 2016)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """The branch (R, L, S, D), zero for the dropped sequences and scaled up for the kept ones."""
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        kept = x.new_empty(x.shape[0], 1, x.shape[2], 1).bernoulli_(keep)
        return x * (kept / keep)


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = Linear(width, hidden)
        self.contract = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transformed tokens (..., D)."""
        return self.contract.after_gelu(self.expand(x))


class Block(nn.Module):
    """A pre-norm transformer block along axis 1 of (R, L, S, D)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, keys: Keys | None = None) -> Tensor:
        """Tokens (R, L, S, D) after attention and MLP, each added to what came in."""
        x = x + self.drop_path(self.attention(self.attention_norm(x), keys))
        return x + self.drop_path(self.mlp(self.mlp_norm(x)))


class SpatialTemporal(nn.Module):
    """MixSTE's trunk: blocks over the joints of a frame and over the frames of a joint, in turn.

    Two norms serve all depths, one after every spatial and one after every temporal block. Positions in time are added
    once, before the first temporal block.

    Attributes:
        checkpointing: compute blocks again in the backward pass instead of keeping what happened inside them: memory
            for a third more time. For training; the numbers stay the same.
    """

    def __init__(
        self, joints: int, window: int, width: int, depth: int, heads: int, mlp_ratio: float, drop_path: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.checkpointing = False
        self.spatial_position = nn.Parameter(torch.zeros(1, 1, joints, width))
        self.temporal_position = nn.Parameter(torch.zeros(1, window, 1, width))
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.spatial_blocks = nn.ModuleList(Block(width, heads, mlp_ratio, rate) for rate in rates)
        self.temporal_blocks = nn.ModuleList(Block(width, heads, mlp_ratio, rate) for rate in rates)
        self.spatial_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.temporal_norm = nn.LayerNorm(width, eps=NORM_EPS)
        for position in (self.spatial_position, self.temporal_position):
            nn.init.trunc_normal_(position, std=0.02)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, between: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Tokens (B, N, J, D) after all blocks, from tokens that know their joints (`spatial_position` is in them).

        Args:
            tokens: (B, N, J, D).
            mask: (B, N, J), True for the tokens that may be attended to; None: all.
            between: what a network does to the tokens after the first spatial block.
        """
        joint_keys, frame_keys = self.keys(mask)
        for depth in range(len(self.spatial_blocks)):
            tokens = self.spatial(depth, tokens, joint_keys)
            if depth == 0 and between is not None:
                tokens = between(tokens)
            tokens = self.temporal(depth, tokens, frame_keys)
        return tokens

    @property
    def dtype(self) -> torch.dtype:
        """Of the tokens that the blocks take."""
        return self.spatial_position.dtype

    def keys(self, mask: Tensor | None) -> tuple[Keys | None, Keys | None]:
        """The keys of the spatial and of the temporal blocks, from a mask (B, N, J)."""
        if mask is None or _is_known_full(mask):
            return None, None
        return Keys.of(mask.flatten(0, 1).unsqueeze(-1), self.heads), Keys.of(mask, self.heads)

    def spatial(self, depth: int, tokens: Tensor, keys: Keys | None = None) -> Tensor:
        """Tokens (B, N, J, D) after the joints of each frame have seen each other."""
        rows = tokens.flatten(0, 1).unsqueeze(2)
        return self.spatial_norm(self._run(self.spatial_blocks[depth], rows, keys)).view(tokens.shape)

    def temporal(self, depth: int, tokens: Tensor, keys: Keys | None = None) -> Tensor:
        """Tokens (B, N, J, D) after the frames of each joint have seen each other."""
        if depth == 0:
            tokens = tokens + self.temporal_position
        return self.temporal_norm(self._run(self.temporal_blocks[depth], tokens, keys))

    def _run(self, block: Block, tokens: Tensor, keys: Keys | None) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, tokens, keys, use_reentrant=False)
        return block(tokens, keys)


class TimeEmbedding(nn.Module):
    """The diffusion time as a vector: sinusoids (Vaswani et al., 2017) through a small MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = MLP(width, 2 * width)
        frequencies = torch.exp(torch.arange(width // 2) * (-math.log(10_000) / (width // 2 - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """(B, D) for diffusion times (B,)."""
        angles = t.to(self.frequencies.dtype).unsqueeze(-1) * self.frequencies
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=-1))


class RegressionHead(nn.Sequential):
    """Tokens (..., D) to coordinates (..., 3) in metres, in full precision whatever that of the tokens.

    A coordinate near 1 m in bfloat16 is right to 4 mm only.
    """

    def __init__(self, width: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, 3))

    def forward(self, tokens: Tensor) -> Tensor:
        """Coordinates (..., 3)."""
        with _full_precision(tokens):
            return super().forward(tokens.to(self[1].weight.dtype))


class Stem(nn.Linear):
    """Coordinates to tokens, in full precision for the same reason; a linear map, so it splits into a sum over inputs.

    What does not depend on the noisy pose is computed once for all hypotheses and sampling steps.
    """

    def part(self, points: Tensor, first: int = 0) -> Tensor:
        """What input channels (..., C), from number `first` on, add to the tokens (..., D); the bias comes with 0."""
        with _full_precision(points):
            weight = self.weight[:, first : first + points.shape[-1]]
            return F.linear(points.to(weight.dtype), weight, self.bias if first == 0 else None)


def _is_known_full(mask: Tensor) -> bool:
    """Whether a mask is True everywhere, and known to be: another device would be waited for, a compiler cannot say."""
    return mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(mask.all())


def _full_precision(x: Tensor) -> AbstractContextManager:
    """Switches autocast off where the device of `x` has any."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
