"""The averaged weights that are validated and saved."""

from copy import deepcopy

import torch
from torch import nn


class MovingAverage(nn.Module):
    """An exponential moving average of a network's parameters that forgets the start of a run.

    The decay grows as (1 + n) / (10 + n) over the updates n until it reaches `decay`, so that short runs do not keep
    the weights of their first steps. With decay 0 the average is the network itself. Unlike PyTorch's AveragedModel it
    counts its updates on the CPU, so that no step waits for the device.

    Attributes:
        module: the network with averaged parameters, in evaluation mode.
    """

    def __init__(self, network: nn.Module, decay: float, device: torch.device | None = None) -> None:
        super().__init__()
        self.module = deepcopy(network).requires_grad_(False).to(device).eval()
        self._decay = decay
        self._updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves the average towards the network's present parameters; collective where these are sharded."""
        averaged, current = list(self.module.parameters()), [parameter.detach() for parameter in network.parameters()]
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates)) if self._updates else 0.0
        self._updates += 1
        if not hasattr(current[0], "full_tensor"):
            torch._foreach_lerp_(averaged, current, 1 - decay)
            return
        for average, sharded in zip(averaged, current, strict=True):  # never all put together at once
            average.lerp_(sharded.full_tensor(), 1 - decay)

    def get_extra_state(self) -> dict[str, int]:
        """The number of updates, for checkpoints."""
        return {"updates": self._updates}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Takes over a number of updates from a checkpoint."""
        self._updates = state["updates"]
