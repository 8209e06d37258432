"""What converting takes costs, in a process of its own, so that nothing else counts as its memory."""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

from joblib.externals.loky import ProcessPoolExecutor

from finepose_mp.preprocessing.egohumans.dataset import convert, find_takes


@dataclass(frozen=True)
class Cost:
    """Of one conversion: what was converted, the seconds, and the most memory that any of its processes held.

    Seconds of the processor are those of the first process, which does everything where there is one job.
    """

    takes: int
    frames: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


def convert_alone(raw: Path, out: Path, jobs: int) -> Cost:
    """The conversion of EgoHumans takes by a process that is started for it.

    Raises:
        ConversionError: no take could be converted.
    """
    with ProcessPoolExecutor(max_workers=1) as pool:
        return pool.submit(_convert, raw, out, jobs).result()


def _convert(raw: Path, out: Path, jobs: int) -> Cost:
    takes = find_takes(raw)
    started, cpu_started = time.perf_counter(), time.process_time()
    outcomes = convert(takes, out, overwrite=True, jobs=jobs)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    good = [outcome for outcome in outcomes if not outcome.error]
    peak_kb = max(_own_peak_kb(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    return Cost(len(good), sum(outcome.frames for outcome in good), seconds, cpu_seconds, peak_kb / 1024)


def _own_peak_kb() -> int:
    """What this program held; the system's usual answer begins with what the one held that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
