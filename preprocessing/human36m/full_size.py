"""A made-up Human3.6M of the true size, and what converting it costs: time, and memory of all processes together."""

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path

import h5py

from finepose_mp.preprocessing.human36m import synthetic

_SAMPLING_SECONDS = 0.1


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        seconds: from its start to its end.
        cpu_seconds: of it and its child processes together, to a tenth of a second each; None where the system does
            not tell (it is read from /proc of Linux).
        peak_mb: most memory that they held at one time in MiB, memory that they share counted once; None likewise.
    """

    seconds: float
    cpu_seconds: float | None
    peak_mb: float | None


def write_full_size(folder: Path, kind: str = "official", clips: int | None = None) -> tuple[Path, Path, int]:
    """Raw data of the true 210 clips and lengths with made-up people: path of the poses, of detections, and frames.

    What is there from an earlier call is used again. About 0.7 GB.

    Args:
        kind: "official" (CDF files) or "community" (npz).
        clips: only so many clips.
    """
    lengths = dict(islice(synthetic.official_lengths().items(), clips))
    folder = Path(folder) / f"{len(lengths)}_clips"
    raw = folder / kind if kind == "official" else folder / kind / "data_3d_h36m.npz"
    detections = folder / "data_2d_h36m_cpn_ft_h36m_dbb.npz"
    done = folder / f"{kind}.done"
    if not done.exists():
        if kind == "official":
            synthetic.write_official(raw, lengths)
        else:
            synthetic.write_community(raw, lengths)
        synthetic.write_pose_detections(detections, lengths)
        done.touch()
    return raw, detections, sum(lengths.values())


def run_and_watch(command: Sequence[str]) -> Cost:
    """What a command costs in time and memory.

    Raises:
        RuntimeError: it failed; the message has the end of what it said.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    usage = _Usage()
    watcher = threading.Thread(target=_watch, args=(process, usage))
    watcher.start()
    said, _ = process.communicate()
    seconds = time.perf_counter() - started
    watcher.join()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {said[-500:].decode(errors='replace')}")
    if not usage.peak_bytes:
        return Cost(seconds, None, None)
    return Cost(seconds, sum(usage.cpu_seconds.values()), usage.peak_bytes / 2**20)


def data_digest(path: Path) -> str:
    """SHA-256 of all arrays of an HDF5 file with their names, however it is compressed or laid out."""
    digest = sha256()
    with h5py.File(path) as file:
        arrays: list[str] = []
        file.visititems(lambda name, item: arrays.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in sorted(arrays):
            values = file[name][...]
            digest.update(name.encode())
            digest.update(b"\n".join(values.ravel().tolist()) if values.dtype == object else values.tobytes())
    return digest.hexdigest()


@dataclass
class _Usage:
    """What was seen of processes while they ran; each counts with what it had used when it was last seen."""

    peak_bytes: int = 0
    cpu_seconds: dict[int, float] = field(default_factory=dict)  # by process


def _watch(process: subprocess.Popen, usage: _Usage) -> None:
    while process.poll() is None:
        family = _family(process.pid)
        usage.peak_bytes = max(usage.peak_bytes, sum(map(_proportional_bytes, family)))
        usage.cpu_seconds |= {pid: seconds for pid in family if (seconds := _cpu_seconds(pid)) is not None}
        time.sleep(_SAMPLING_SECONDS)


def _cpu_seconds(pid: int) -> float | None:
    """What a process has used by itself; None when it has ended."""
    try:
        after_the_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return sum(map(int, after_the_name[11:13])) / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    members, position = [pid], 0
    while position < len(members):
        try:
            for children in Path(f"/proc/{members[position]}/task").glob("*/children"):
                members += map(int, children.read_text().split())
        except OSError:
            pass  # it ended while being asked
        position += 1
    return members


def _proportional_bytes(pid: int) -> int:
    """Memory of a process, of what it shares its part; 0 when it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
