"""What the steps of an epoch amounted to, read one step late so that no step waits for the device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Entry:
    """A step's sums, on their way to the CPU.

    Attributes:
        step: its number.
        sums: (2,) summed distance in metres and number of joints, of all processes.
        distances: (b,) of this process's windows.
        indices: (b,) which windows they are.
        arrived: None where the sums are on the CPU already.
    """

    step: int
    sums: Tensor
    distances: Tensor
    indices: Tensor
    arrived: torch.Event | None


class Ledger:
    """Books steps; each is read after the next one has been given to the device, which then has work to do meanwhile.

    `settle` is called with each entry once its sums are there, in order.
    """

    def __init__(self, settle: Callable[[Entry], None]) -> None:
        self._settle = settle
        self._open: Entry | None = None

    def book(self, step: int, distance: Tensor, joints: Tensor, distances: Tensor, indices: Tensor) -> None:
        """Enters a step, and settles the one before."""
        previous, arrived = self._open, None
        sums = torch.stack([distance.double(), joints.double()]).to("cpu", non_blocking=True)
        if distance.device.type != "cpu":
            arrived = torch.Event(distance.device)
            arrived.record()
        self._open = Entry(step, sums, distances, indices, arrived)
        self._read(previous)

    def close(self) -> None:
        """Settles what is still open: before anything is validated or saved."""
        last, self._open = self._open, None
        self._read(last)

    def _read(self, entry: Entry | None) -> None:
        if entry is None:
            return
        if entry.arrived is not None:
            entry.arrived.synchronize()
        self._settle(entry)
