"""The blocks that every network here is built from: attention over joints, attention over time, the two alternated.

Tokens are (B, N, J, D) from end to end: sequences (windows, or windows times hypotheses), frames, joints, channels.
A block attends along axis 1 of (R, L, S, D): R independent rows, the L tokens that see each other, S slots side by
side that do not. Over joints that is (B*N, J, 1, D), over time (B, N, J, D); both are views, so nothing is moved in
memory between the two kinds of block.

Source: MixSTE (Zhang et al., CVPR 2022), as used by D3DP (Shan et al., ICCV 2023) and FinePOSE (Xu et al., CVPR 2024).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-6  # of the norms inside the backbone; the heads use PyTorch's default, as the papers' code does


class Keys(NamedTuple):
    """Which tokens may be attended to, along one axis.

    `usable` (R, S*heads or 1, 1, L) is what scaled_dot_product_attention takes: all True where a row has no usable
    token, because a softmax over nothing is NaN. `exist` (R, 1, S, 1) is False for such rows, whose tokens attend to
    themselves instead.
    """

    usable: Tensor
    exist: Tensor

    @classmethod
    def of(cls, mask: Tensor, heads: int) -> "Keys":
        """Keys from a mask (R, L, S), True where the token is usable."""
        exist = mask.any(dim=1, keepdim=True)
        usable = (mask | ~exist).transpose(1, 2).unsqueeze(2)
        if usable.shape[1] > 1:
            usable = usable.repeat_interleave(heads, dim=1)
        return cls(usable, exist.unsqueeze(-1))


class Attention(nn.Module):
    """Multi-head self-attention along axis 1 of (R, L, S, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, keys: Keys | None = None) -> Tensor:
        """Attended tokens (R, L, S, D). Without `keys` every token is a key."""
        rows, length = x.shape[:2]
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        # Slots fold into the head axis: (R, S*heads, L, d), the four axes that the fused kernels take.
        by_head = [y.reshape(rows, length, -1, self.head_width).transpose(1, 2) for y in (q, k, v)]
        attended = F.scaled_dot_product_attention(*by_head, attn_mask=None if keys is None else keys.usable)
        attended = attended.transpose(1, 2).reshape(x.shape)
        if keys is not None:
            attended = torch.where(keys.exist, attended, v)  # attending to oneself alone yields one's own value
        return self.project(attended)


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
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transformed tokens (..., D)."""
        return self.contract(F.gelu(self.expand(x)))


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
    once, before the first temporal block. A network that acts between the blocks calls `spatial` and `temporal` itself.
    """

    def __init__(
        self, joints: int, window: int, width: int, depth: int, heads: int, mlp_ratio: float, drop_path: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.spatial_position = nn.Parameter(torch.zeros(1, 1, joints, width))
        self.temporal_position = nn.Parameter(torch.zeros(1, window, 1, width))
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.spatial_blocks = nn.ModuleList(Block(width, heads, mlp_ratio, rate) for rate in rates)
        self.temporal_blocks = nn.ModuleList(Block(width, heads, mlp_ratio, rate) for rate in rates)
        self.spatial_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.temporal_norm = nn.LayerNorm(width, eps=NORM_EPS)
        for position in (self.spatial_position, self.temporal_position):
            nn.init.trunc_normal_(position, std=0.02)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens (B, N, J, D) after all blocks; `mask` (B, N, J) is True for the tokens that may be attended to."""
        joint_keys, frame_keys = self.keys(mask)
        tokens = tokens + self.spatial_position
        for depth in range(len(self.spatial_blocks)):
            tokens = self.spatial(depth, tokens, joint_keys)
            tokens = self.temporal(depth, tokens, frame_keys)
        return tokens

    def keys(self, mask: Tensor | None) -> tuple[Keys | None, Keys | None]:
        """The keys of the spatial and of the temporal blocks, from a mask (B, N, J)."""
        if mask is None:
            return None, None
        return Keys.of(mask.flatten(0, 1).unsqueeze(-1), self.heads), Keys.of(mask, self.heads)

    def spatial(self, depth: int, tokens: Tensor, keys: Keys | None = None) -> Tensor:
        """Tokens (B, N, J, D) after the joints of each frame have seen each other."""
        rows = tokens.flatten(0, 1).unsqueeze(2)
        return self.spatial_norm(self.spatial_blocks[depth](rows, keys)).view(tokens.shape)

    def temporal(self, depth: int, tokens: Tensor, keys: Keys | None = None) -> Tensor:
        """Tokens (B, N, J, D) after the frames of each joint have seen each other."""
        if depth == 0:
            tokens = tokens + self.temporal_position
        return self.temporal_norm(self.temporal_blocks[depth](tokens, keys))


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


def regression_head(width: int) -> nn.Sequential:
    """Tokens (..., D) to coordinates (..., 3) in metres."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3))
