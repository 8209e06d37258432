"""Weights and inputs that follow from names alone, so that the published network's outputs can be compared anywhere.

The rule: standard normal numbers from NumPy's legacy generator, seeded with the CRC-32 of the parameter's name in the
published network, scaled by the parameter's kind.
"""

import zlib

import numpy as np
import torch
from torch import nn

_PUBLISHED = (  # our parameter names -> those of the published network, applied in this order
    ("trunk.spatial_position", "Spatial_pos_embed"),
    ("trunk.temporal_position", "Temporal_pos_embed"),
    ("trunk.spatial_blocks", "STEblocks"),
    ("trunk.temporal_blocks", "TTEblocks"),
    ("trunk.spatial_norm", "Spatial_norm"),
    ("trunk.temporal_norm", "Temporal_norm"),
    ("embed_time.mlp.expand", "time_mlp.1"),
    ("embed_time.mlp.contract", "time_mlp.3"),
    ("embed.", "Spatial_patch_to_embedding."),
    ("attention_norm", "norm1"),
    ("mlp_norm", "norm2"),
    ("attention.qkv", "attn.qkv"),
    ("attention.project", "attn.proj"),
    ("mlp.expand", "mlp.fc1"),
    ("mlp.contract", "mlp.fc2"),
)


def published_name(name: str) -> str:
    """The published network's name of one of our parameters."""
    for ours, theirs in _PUBLISHED:
        name = name.replace(ours, theirs)
    return name


def normal(name: str, shape: tuple[int, ...], scale: float = 1.0) -> torch.Tensor:
    """scale * standard normal numbers that follow from a name."""
    draws = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy((scale * draws).astype(np.float32))


def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight of a parameter, by its published name and shape."""
    if name.endswith("pos_embed"):
        return normal(name, shape, 0.2)
    if len(shape) == 2:
        gain = 0.3 if name == "head.1.weight" else 1.0  # keeps predictions within the sampler's bounds
        return normal(name, shape, gain / np.sqrt(shape[1]))
    if name.endswith("weight"):
        return 1 + normal(name, shape, 0.1)
    return normal(name, shape, 0.05)


def fill(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, with weights that follow from the published names."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            theirs = published_name(name)
            shape = tuple(parameter.shape)
            if theirs.endswith("pos_embed"):  # published without our axis of length one
                shape = (1, max(shape[1:3]), shape[3])
            parameter.copy_(weight(theirs, shape).view(parameter.shape))
    return network.eval()
