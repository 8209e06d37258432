"""FinePOSE the way its released code goes about it, for comparison only: the same numbers, at its price.

The text tower runs in every pass; the mirrored input is a pass of its own; tokens are copied to another order between
the blocks over joints and those over time; attention is two products with a softmax between them; text keys and values
are copied for every joint and hypothesis; the style is computed for every token though it is one per window.
Written from the method's description. Equal to `FinePOSE` wherever prompts are not mixed: with one text per batch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finepose_mp.diffusion import Denoiser
from finepose_mp.inference.mirroring import mirrored
from finepose_mp.models.blocks import Attention, Block
from finepose_mp.models.finepose import FinePOSE
from finepose_mp.skeletons import JointSet


class ReferenceStyle(nn.Module):
    """A FinePOSE whose weights are those of `network`, called with one text for all windows."""

    def __init__(self, network: FinePOSE) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_2d: Tensor, noisy_3d: Tensor, t: Tensor, text: str) -> Tensor:
        """Clean poses, shaped like `noisy_3d` (B, H, N, J, 3), from keypoints (B, N, J, 2) and times (B,)."""
        network, trunk = self.network, self.network.trunk
        windows, hypotheses, frames, joints, _ = noisy_3d.shape
        matrix, summary = network.prompts([text] * windows)
        v = network.embed_time(t) + summary

        keypoints = input_2d.unsqueeze(1).repeat(1, hypotheses, 1, 1, 1)
        tokens = network.embed(torch.cat([keypoints, noisy_3d], dim=-1)).reshape(-1, joints, v.shape[-1])
        tokens = tokens + trunk.spatial_position[0] + v.repeat_interleave(hypotheses * frames, 0).unsqueeze(1)
        tokens = trunk.spatial_norm(_block(trunk.spatial_blocks[0], tokens))
        tokens = _by_joint(tokens, frames)
        tokens = tokens + self._told(tokens, matrix, v)
        tokens = tokens + trunk.temporal_position[:, :, 0]
        tokens = trunk.temporal_norm(_block(trunk.temporal_blocks[0], tokens))
        for spatial, temporal in zip(trunk.spatial_blocks[1:], trunk.temporal_blocks[1:], strict=True):
            tokens = trunk.spatial_norm(_block(spatial, _by_frame(tokens, joints)))
            tokens = trunk.temporal_norm(_block(temporal, _by_joint(tokens, frames)))
        return network.head(_by_frame(tokens, joints)).view(noisy_3d.shape)

    def _told(self, tokens: Tensor, matrix: Tensor, v: Tensor) -> Tensor:
        """What prompts add to tokens (B*H*J, N, D)."""
        told, style = self.network.communication, self.network.stylization
        copies = len(tokens) // len(matrix)
        heads = self.network.trunk.heads
        text = told.text_norm(matrix)
        keys, values = (
            _split(project(text), heads).repeat_interleave(copies, dim=0) for project in (told.key, told.value)
        )
        attended = _attend(_split(told.query(told.norm(tokens)), heads), keys, values)
        per_token = v.repeat_interleave(copies * tokens.shape[1], 0).view(*tokens.shape)
        scale, shift = style.style(F.silu(per_token)).chunk(2, dim=-1)
        return style.project(F.silu(style.norm(attended) * (1 + scale) + shift))


def separately_mirrored(network: ReferenceStyle, input_2d: Tensor, text: str, joints: JointSet, flip: bool) -> Denoiser:
    """A denoiser that averages with the mirrored input, in a second pass."""

    def denoise(noisy: Tensor, t: int) -> Tensor:
        times = torch.full((len(noisy),), t, device=noisy.device)
        clean = network(input_2d, noisy, times, text)
        if not flip:
            return clean
        other = network(mirrored(input_2d, joints), mirrored(noisy, joints), times, text)
        return (clean + mirrored(other, joints)) / 2

    return denoise


def _block(block: Block, tokens: Tensor) -> Tensor:
    tokens = tokens + _drop(block, _attention(block.attention, block.attention_norm(tokens)))
    hidden = F.gelu(_project(block.mlp.expand, block.mlp_norm(tokens)))
    return tokens + _drop(block, _project(block.mlp.contract, hidden))


def _drop(block: Block, branch: Tensor) -> Tensor:
    return block.drop_path(branch.unsqueeze(2)).squeeze(2)


def _attention(attention: Attention, tokens: Tensor) -> Tensor:
    heads = tokens.shape[-1] // attention.head_width
    q, k, v = (_split(part, heads) for part in _project(attention.qkv, tokens).chunk(3, dim=-1))
    return _project(attention.project, _attend(q, k, v))


def _project(layer: nn.Linear, x: Tensor) -> Tensor:
    """Products as PyTorch does them by default."""
    return F.linear(x, layer.weight, layer.bias)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Explicit attention of (rows, heads, L, d); returns (rows, L, D)."""
    scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
    return (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _by_joint(tokens: Tensor, frames: int) -> Tensor:
    """Rows of frames (b*N, J, D) as rows of joints (b*J, N, D), in new memory."""
    return tokens.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1).contiguous()


def _by_frame(tokens: Tensor, joints: int) -> Tensor:
    return tokens.unflatten(0, (-1, joints)).transpose(1, 2).flatten(0, 1).contiguous()
