"""Measuring an arm in a process of its own, against a yardstick that runs beside it."""

import importlib
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from finepose_mp.benchmark.arms import Arm
from finepose_mp.benchmark.work import build
from finepose_mp.models.products import keep_freed_memory

YARDSTICK = "20 float32 products of 1536-square matrices"
_SIDE, _PRODUCTS = 1536, 20


class BenchmarkError(RuntimeError):
    """An arm that could not be measured; the message says which and why."""


@dataclass(frozen=True)
class Measurement:
    """An arm's cost.

    Attributes:
        arm: what was measured.
        seconds: of each repeat.
        yardsticks: seconds of each yardstick; one more than repeats, each repeat lying between two.
        clock: "process" (CPU time, which other programs cannot inflate: one thread) or "wall".
        peak_mb: largest memory of the process from the first call on, libraries and weights included; of the GPU where
            there is one.
        libraries_mb: of it, what the process had when everything was imported and nothing built; 0 on a GPU.
        warm_up_seconds: of the first call, compilation included.
        bf16_rate: operations per second of large bfloat16 products by PyTorch on this device.
    """

    arm: Arm
    seconds: list[float]
    yardsticks: list[float]
    clock: str
    peak_mb: float
    libraries_mb: float
    warm_up_seconds: float
    bf16_rate: float

    @property
    def ratios(self) -> list[float]:
        """Cost of each repeat in yardsticks: those before and after it, averaged."""
        around = zip(self.yardsticks, self.yardsticks[1:], strict=False)
        return [2 * work / sum(pair) for work, pair in zip(self.seconds, around, strict=True)]

    @property
    def ratio(self) -> float:
        """Median cost in yardsticks."""
        return statistics.median(self.ratios)

    @property
    def windows_per_second(self) -> float:
        """What the median repeat came to."""
        return self.arm.batch / statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Largest minus smallest cost in yardsticks."""
        return max(self.ratios) - min(self.ratios)


def measure(arm: Arm, device: str = "cpu", threads: int = 1, repeats: int = 3) -> Measurement:
    """An arm's cost, measured in a fresh process so that its peak memory is its own.

    Raises:
        BenchmarkError: the arm fails; the message ends in the process's own error.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(theirs, arm, device, threads, repeats))
    process.start()
    theirs.close()
    try:
        outcome = ours.recv()
    except EOFError:
        outcome = None  # killed, for example because the memory ran out
    process.join()
    if isinstance(outcome, Measurement):
        return outcome
    raise BenchmarkError(f"arm {arm.name!r} failed: {outcome or f'its process ended with {process.exitcode}'}")


def yardstick(device: torch.device) -> Callable[[], object]:
    """The work that everything is compared with."""
    left, right = (torch.randn(_SIDE, _SIDE, device=device) for _ in range(2))

    def products() -> None:
        for _ in range(_PRODUCTS):
            left @ right

    return products


def _report(connection: Connection, arm: Arm, device: str, threads: int, repeats: int) -> None:
    try:
        connection.send(_measure_here(arm, torch.device(device), threads, repeats))
    except Exception:  # whatever it is, the parent says it
        connection.send(traceback.format_exc())


def _measure_here(arm: Arm, device: torch.device, threads: int, repeats: int) -> Measurement:
    torch.set_num_threads(threads)
    reads_cpu_time = device.type == "cpu" and threads == 1
    clock = time.process_time if reads_cpu_time else time.perf_counter

    def timed(work: Callable[[], object]) -> float:
        started = clock()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        return clock() - started

    if arm.task == "train":
        keep_freed_memory()  # as train.py does
    importlib.import_module("open_clip")  # otherwise imported with the first text tower
    libraries_mb = _process_mb("VmRSS") if device.type == "cpu" else 0.0
    products, bf16_rate = yardstick(device), _bf16_rate(device, timed)
    timed(products)
    work = build(arm, device)
    _forget_peak(device)
    warm_up = timed(work)
    yardsticks, seconds = [timed(products)], []
    for _ in range(repeats):
        seconds.append(timed(work))
        yardsticks.append(timed(products))
    clock_name = "process" if reads_cpu_time else "wall"
    return Measurement(arm, seconds, yardsticks, clock_name, _peak_mb(device), libraries_mb, warm_up, bf16_rate)


def _bf16_rate(device: torch.device, timed: Callable[[Callable[[], object]], float]) -> float:
    side = _SIDE if device.type == "cpu" else 8192  # a GPU is not busy with less
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / min(timed(lambda: left @ right) for _ in range(4))  # the first also sets things up


def _forget_peak(device: torch.device) -> None:
    """Starts the peak again: building a network takes more memory than having it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return _process_mb("VmHWM")


def _process_mb(entry: str) -> float:
    """Memory of this process in MB: "VmRSS" now, "VmHWM" at most. Where Linux is not, the most that it ever was."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent had when it forked
        [line] = [line for line in status.read_text().splitlines() if line.startswith(entry)]
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def has_compiler() -> bool:
    """Whether torch.compile finds what it needs: a C++ compiler on the CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))
