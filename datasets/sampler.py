"""The order in which samples are visited."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Every index once, in an order that is a function of (seed, epoch) alone; 0, 1, 2, ... without `shuffle`.

    Nothing else that draws random numbers changes the order, and a resumed run repeats it by setting the epoch.
    """

    def __init__(self, length: int, seed: int, shuffle: bool = True) -> None:
        self._length = length
        self._seed = seed
        self._shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        if not self._shuffle:
            return iter(range(self._length))
        return iter(np.random.default_rng((self._seed, self.epoch)).permutation(self._length).tolist())
