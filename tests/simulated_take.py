"""A simulated take in memory, to break in one place and read again: the source of files that a converter is given."""

import copy
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from finepose_mp.preprocessing.egohumans import catalogue
from finepose_mp.preprocessing.egohumans.take import read_take
from finepose_mp.preprocessing.simulation import dataset
from finepose_mp.preprocessing.simulation.writer import npy
from finepose_mp.preprocessing.unpickling import load_npy, load_pickle
from finepose_mp.schema import Sequence

FIT, TRIANGULATED = "processed_data/fit_poses3d", "processed_data/poses3d"
CAMERAS, IMAGES = "colmap/workplace/cameras.txt", "colmap/workplace/images.txt"
TRANSFORMS = "colmap/workplace/colmap_from_aria_transforms.pkl"


class SimulatedTake:
    """The files of a take by their paths; has what a converter asks of a source (`names`, `read`, `location`)."""

    location = "memory"

    def __init__(self, files: dict[str, bytes], facts: catalogue.Take) -> None:
        self.files, self.facts = files, facts

    @classmethod
    def make(cls, folder: Path, take: str, frames: int, seed: int) -> "SimulatedTake":
        """A take of the simulator, by its name in the catalogue ("02_legoassemble/001_legoassemble")."""
        facts = catalogue.take(*take.split("/"))
        dataset.simulate(folder, [facts], frames, seed)
        root = folder / take
        files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        return cls(files, facts)

    def copy(self) -> "SimulatedTake":
        return SimulatedTake(dict(self.files), copy.copy(self.facts))

    def convert(self) -> Sequence:
        return read_take(self, self.facts)

    def names(self, folder: str) -> list[str]:
        start = f"{folder}/" if folder else ""
        return sorted({path[len(start) :].split("/")[0] for path in self.files if path.startswith(start)})

    def read(self, path: str, size: int = -1) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path] if size < 0 else self.files[path][:size]

    def read_all(self, folder: str, names: Iterable[str]) -> Iterator[bytes]:
        return (self.read(f"{folder}/{name}") for name in names)

    def remove(self, start: str) -> None:
        """Removes a file, or everything below a folder."""
        self.files = {p: data for p, data in self.files.items() if p != start and not p.startswith(f"{start}/")}

    def poses(self, folder: str, change: Callable[[int, dict[str, np.ndarray]], None]) -> None:
        """Calls `change(frame, people)` on the poses of every frame of a folder, to be changed in place."""
        for name in self.names(folder):
            content = load_npy(self.files[f"{folder}/{name}"], name).item()
            content = {person: np.array(pose) for person, pose in content.items()}
            change(int(name[:5]), content)
            self.files[f"{folder}/{name}"] = npy(content)

    def lines(self, path: str, change: Callable[[list[str]], list[str]]) -> None:
        """Replaces the lines of a text file."""
        self.files[path] = ("\n".join(change(self.files[path].decode().split("\n")))).encode()

    def colmap_camera(self, name: str) -> str:
        """The id of a fixed camera in COLMAP's files."""
        lines = self.files[IMAGES].decode().split("\n")
        return next(line.split()[8] for line in lines if f" {name}/" in line)

    def transforms(self) -> dict[str, np.ndarray]:
        return {name: np.array(matrix) for name, matrix in load_pickle(self.files[TRANSFORMS], "transforms").items()}


def jpeg(width: int, height: int) -> bytes:
    """A grey picture of that size."""
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, "JPEG", quality=1)
    return stream.getvalue()
