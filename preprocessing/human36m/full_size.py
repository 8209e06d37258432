"""A made-up Human3.6M of the true size, and what converting it costs: time, and memory of all processes together."""

import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
        peak_bytes: most memory that it and its child processes held at one time, memory that they share counted once;
            None where the system does not tell (it is read from /proc of Linux).
    """

    seconds: float
    peak_bytes: int | None


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
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process, peak))
    watcher.start()
    said, _ = process.communicate()
    seconds = time.perf_counter() - started
    watcher.join()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {said[-500:].decode(errors='replace')}")
    return Cost(seconds, peak[0] or None)


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


def _watch(process: subprocess.Popen, peak: list[int]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(_proportional_bytes, _family(process.pid))))
        time.sleep(_SAMPLING_SECONDS)


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
