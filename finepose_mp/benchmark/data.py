"""How fast raw data is converted, and how fast windows are read."""

import statistics
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
    """What it costs to convert raw takes, beside reading their files and doing nothing else (`read_without_parsing`).

    Once from the disk, after the system was asked to forget the files; then several times from memory, reading and
    conversions by turns, of which these are the medians.

    Attributes:
        disk_reading_seconds, disk_converting_seconds, disk_ratio: from the disk, as a download is converted.
        reading_seconds, converting_seconds, ratio: from memory.
        cpu_ratio: the same for one job, in seconds of the processor, which others on the machine change little.
        speedup: over one job; 1 for one job.
        peak_mb: the most memory that any process of the conversion held.
        point_by_point: how many times as long projecting takes point by point in Python as all points at once.
    """

    jobs: int
    takes: int
    frames: int
    megabytes: float
    disk_reading_seconds: float
    disk_converting_seconds: float
    disk_ratio: float
    reading_seconds: float
    converting_seconds: float
    ratio: float
    cpu_ratio: float
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


def measure_conversion(raw: Path, jobs: int = 1, repeats: int = 3) -> Conversion:
    """The conversion of EgoHumans takes, into a folder that is removed again.

    Raises:
        ConversionError: no take could be converted.
    """
    takes = find_takes(raw)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.h5"
        _forget(takes)
        from_disk = _read(takes)
        _forget(takes)
        first = convert_alone(raw, out, jobs)
        point_by_point = projection_ratio(out)
        reading, alone, together = [], [], []
        for _ in range(repeats):
            reading.append(_read(takes))
            alone.append(convert_alone(raw, out, 1))
            together.append(convert_alone(raw, out, jobs) if jobs > 1 else alone[-1])
    read_seconds, seconds = _median(reading, "seconds"), _median(together, "seconds")
    return Conversion(
        jobs=jobs,
        takes=first.takes,
        frames=first.frames,
        megabytes=from_disk.megabytes,
        disk_reading_seconds=from_disk.seconds,
        disk_converting_seconds=first.seconds,
        disk_ratio=first.seconds / from_disk.seconds,
        reading_seconds=read_seconds,
        converting_seconds=seconds,
        ratio=seconds / read_seconds,
        cpu_ratio=_median(alone, "cpu_seconds") / _median(reading, "cpu_seconds"),
        frames_per_second=first.frames / seconds,
        speedup=_median(alone, "seconds") / seconds,
        peak_mb=max(cost.peak_mb for cost in (first, *together)),
        point_by_point=point_by_point,
    )


@dataclass(frozen=True)
class _Reading:
    """Of all needed files: how much they hold, and what reading them took."""

    megabytes: float
    seconds: float
    cpu_seconds: float


def _read(takes: list) -> _Reading:
    started, cpu_started = time.perf_counter(), time.process_time()
    read = sum(read_without_parsing(take) for take in takes)
    return _Reading(read / 2**20, time.perf_counter() - started, time.process_time() - cpu_started)


def _forget(takes: list) -> None:
    for take in takes:
        forget(take)


def _median(measured: list, what: str) -> float:
    return statistics.median(getattr(one, what) for one in measured)


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
