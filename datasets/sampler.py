"""Which samples an epoch visits, how often, and in which order."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Every index once, in an order that is a function of (seed, epoch) alone; 0, 1, 2, ... without `shuffle`.

    Nothing else that draws random numbers changes the order, and a resumed run repeats it by setting the epoch.

    With weights, an epoch draws round(w * n), at least one, of the n indices of a group with weight w: each of them as
    often as the whole part of w says, and as many as are left over once more, chosen anew in each epoch. The d-th
    further draw of index i is given as i + d * length, so that whoever reads it can tell it from the first.

    Args:
        length: number of indices.
        groups: (length,) number of each index's group, for weights.
        weights: of each group, above 0; None: every index is drawn once.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        shuffle: bool = True,
        groups: np.ndarray | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        self._length = length
        self._seed = seed
        self._shuffle = shuffle
        self._members = [] if weights is None else [np.flatnonzero(groups == g) for g in range(len(weights))]
        self._draws = [_draws(w, len(m)) for w, m in zip(weights or [], self._members, strict=True)]
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(self._draws) if self._members else self._length

    def __iter__(self) -> Iterator[int]:
        indices = self._drawn()
        if self._shuffle:
            indices = indices[np.random.default_rng((self._seed, self.epoch)).permutation(len(indices))]
        return iter(indices.tolist())

    def _drawn(self) -> np.ndarray:
        if not self._members:
            return np.arange(self._length)
        drawn = []
        for group, (members, draws) in enumerate(zip(self._members, self._draws, strict=True)):
            # A stream of its own for each group: another weight of one leaves what is drawn of the others.
            chosen = np.random.default_rng((self._seed, self.epoch, group, *b"draw")).permutation(members)
            number = np.arange(draws)
            times, rest = np.divmod(number, max(1, len(members)))
            drawn.append(chosen[rest] + times * self._length)
        return np.sort(np.concatenate(drawn))


def _draws(weight: float, members: int) -> int:
    return max(1, round(weight * members)) if members else 0
