"""Weights and inputs that follow from names alone, so that the published network's outputs can be compared anywhere.

The rule: standard normal numbers from NumPy's legacy generator, seeded with the CRC-32 of the parameter's name in the
published network, scaled by the parameter's kind.
"""

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from finepose_mp.released import published_name


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


def fill(network: nn.Module, weight_of: Callable[[str, tuple[int, ...]], Tensor] = weight) -> nn.Module:
    """The network in evaluation mode, with weights that follow from the published names and shapes."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            theirs = published_name(name)
            shape = tuple(parameter.shape)
            if theirs.endswith("pos_embed"):  # published without our axis of length one
                shape = (1, max(shape[1:3]), shape[3])
            parameter.copy_(weight_of(theirs, shape).view(parameter.shape))
    return network.eval()
