"""How fast raw data is converted, and how fast windows are read."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from finepose_mp.benchmark.projecting import projection_ratio
from finepose_mp.config import DataConfig
from finepose_mp.datasets.sampler import EpochSampler
from finepose_mp.datasets.windows import WindowDataset, collate
from finepose_mp.preprocessing.egohumans.costs import convert_alone
from finepose_mp.preprocessing.egohumans.dataset import find_takes, forget, read_without_parsing
from finepose_mp.training.batches import GlobalBatches


@dataclass(frozen=True)
class Conversion:
    """What it costs to convert raw takes, beside reading their files with Python's `open` and doing nothing else.

    Attributes:
        first_reading_seconds: after the system was asked to forget the files, so from the disk.
        reading_seconds: from memory, as in the conversion that follows.
        ratio: of converting, with so many jobs, to reading from memory.
        speedup: over one job, measured right before; 1 for one job.
        peak_mb: the most memory that any process of the conversion held.
        point_by_point: how many times as long projecting takes point by point in Python as all points at once.
    """

    jobs: int
    takes: int
    frames: int
    megabytes: float
    first_reading_seconds: float
    reading_seconds: float
    converting_seconds: float
    ratio: float
    frames_per_second: float
    speedup: float
    peak_mb: float
    point_by_point: float


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
    for take in takes:
        forget(take)
    _, first_reading = _read(takes)
    read, reading = _read(takes)
    with tempfile.TemporaryDirectory() as folder:
        alone = convert_alone(raw, Path(folder) / "1.h5", 1)
        cost = convert_alone(raw, Path(folder) / f"{jobs}.h5", jobs) if jobs > 1 else alone
        point_by_point = projection_ratio(Path(folder) / "1.h5")
    return Conversion(
        jobs=jobs,
        takes=cost.takes,
        frames=cost.frames,
        megabytes=read / 2**20,
        first_reading_seconds=first_reading,
        reading_seconds=reading,
        converting_seconds=cost.seconds,
        ratio=cost.seconds / reading,
        frames_per_second=cost.frames / cost.seconds,
        speedup=alone.seconds / cost.seconds,
        peak_mb=cost.peak_mb,
        point_by_point=point_by_point,
    )


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
