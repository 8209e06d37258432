"""How fast raw data is converted, and how fast windows are read."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from finepose_mp.config import DataConfig
from finepose_mp.datasets.sampler import EpochSampler
from finepose_mp.datasets.windows import WindowDataset, collate
from finepose_mp.preprocessing.egohumans.dataset import convert, find_takes, read_without_parsing
from finepose_mp.training.batches import GlobalBatches


@dataclass(frozen=True)
class Conversion:
    """Seconds to convert raw takes, beside the seconds to read their files and do nothing else.

    Files are read twice: the first time may come from the disk, the second comes from memory, as in the conversion.
    """

    takes: int
    frames: int
    megabytes: float
    first_reading_seconds: float
    reading_seconds: float
    converting_seconds: float
    ratio: float  # of converting to reading from memory
    jobs: int


@dataclass(frozen=True)
class Loading:
    """Windows per second that the loader gives, in its first epoch and in the next, when tracks may be in memory."""

    windows: int
    workers: int
    batch_size: int
    first_epoch_per_second: float
    next_epoch_per_second: float


def measure_conversion(raw: Path, jobs: int = 1) -> Conversion:
    """The conversion of EgoHumans takes, into a folder that is removed again.

    Raises:
        ConversionError: no take could be converted.
    """
    takes = find_takes(raw)
    read, first_reading = _read(takes)
    _, reading = _read(takes)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        outcomes = convert(takes, Path(folder) / "converted.h5", jobs=jobs)
        converting = time.perf_counter() - started
    good = [outcome for outcome in outcomes if not outcome.error]
    frames, ratio = sum(outcome.frames for outcome in good), converting / reading
    return Conversion(len(good), frames, read / 2**20, first_reading, reading, converting, ratio, jobs)


def _read(takes: list) -> tuple[int, float]:
    """Bytes of all needed files, and the seconds that reading them took."""
    started = time.perf_counter()
    return sum(read_without_parsing(take) for take in takes), time.perf_counter() - started


def measure_loading(data: DataConfig, batch_size: int, workers: int) -> Loading:
    """Two epochs of the training loader, batches thrown away."""
    windows = WindowDataset(data, "train", training=True)
    batches = GlobalBatches(EpochSampler(len(windows), 0), batch_size)
    loader = DataLoader(
        windows,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),
    )
    speeds = []
    for epoch in range(2):
        windows.set_epoch(epoch)
        batches.start_at(epoch)
        started = time.perf_counter()
        seen = sum(len(batch["index"]) for batch in loader)
        speeds.append(seen / (time.perf_counter() - started))
    return Loading(len(windows), workers, batch_size, *speeds)
