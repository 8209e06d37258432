"""Which windows each process sees in each step: a function of the seed, the epoch and the number of processes."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from finepose_mp.datasets.sampler import EpochSampler


class GlobalBatches(Sampler[list[int]]):
    """One process's share of every batch, where a batch counts windows over all processes.

    All processes together see the same windows in the same step, however many they are. Every epoch leaves out the
    windows beyond the last full batch, others each time; where there are fewer windows than a batch holds, the batch
    holds them all. `start_at` chooses the epoch, and the batch to begin with when a run continues in the middle of one.

    Args:
        order: of the windows of an epoch, the same in every process.
        batch_size: windows over all processes.
        process, processes: whose share this is, and of how many.

    Raises:
        ValueError: a batch has fewer windows than there are processes.
    """

    def __init__(self, order: EpochSampler, batch_size: int, process: int = 0, processes: int = 1) -> None:
        self._order = order
        self._batch_size = min(batch_size, len(order))
        self._process, self._processes = process, processes
        self._first_batch = 0
        if self._batch_size < processes:
            raise ValueError(
                f"{len(order)} training windows in batches of {batch_size} are too few for {processes} processes; "
                "raise training.batch_size (it counts windows over all processes) or use fewer processes"
            )

    def start_at(self, epoch: int, batch: int = 0) -> None:
        """Chooses what the next iteration gives: an epoch, from one of its batches on."""
        self._order.set_epoch(epoch)
        self._first_batch = batch

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self._order) // self._batch_size

    def passes(self, micro_batch: int | None) -> set[int]:
        """How often processes go through the network for a batch, `micro_batch` windows at once: one number or two."""
        shares = self._batch_size // self._processes, -(-self._batch_size // self._processes)
        return {-(-share // (micro_batch or share)) for share in shares}

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self._order)
        for batch in range(self._first_batch, len(self)):
            first = batch * self._batch_size
            yield order[first : first + self._batch_size][self._process :: self._processes]


def micro_batches(batch: dict, size: int | None) -> Iterator[dict]:
    """A collated batch in parts of `size` windows, the last possibly smaller; whole when `size` is None.

    The loss is a sum over windows, so the gradients of the parts add up to that of the batch.
    """
    windows = len(batch["index"])
    size = size or windows
    for first in range(0, windows, size):
        yield {name: values[first : first + size] for name, values in batch.items()}
