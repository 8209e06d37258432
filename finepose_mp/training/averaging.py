"""The averaged weights that are validated and saved."""

from copy import deepcopy

import torch
from torch import Tensor, nn


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
        averaged = list(self.module.parameters())
        current = [_whole(parameter.detach()) for parameter in network.parameters()]
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates)) if self._updates else 0.0
        torch._foreach_lerp_(averaged, current, 1 - decay)
        self._updates += 1

    def get_extra_state(self) -> dict[str, int]:
        """The number of updates, for checkpoints."""
        return {"updates": self._updates}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Takes over a number of updates from a checkpoint."""
        self._updates = state["updates"]


def _whole(parameter: Tensor) -> Tensor:
    """A parameter that FSDP has sharded over the processes, put together; any other as it is."""
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
