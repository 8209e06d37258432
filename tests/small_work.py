"""Pieces of work for conversions under test: sequences of a few numbers, and readers that fail in every way."""

import os
import signal
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from finepose_mp import schema
from finepose_mp.preprocessing import conversion
from finepose_mp.preprocessing.conversion import Outcome, Work

ROOT = {"dataset": "small", "joint_set": "h36m17", "licence": "none", "citation": "none"}


def sequence(name: str, frames: int = 4) -> schema.Sequence:
    """A sequence whose numbers are a function of its name."""
    rng = np.random.default_rng(list(name.encode()))
    t, p, k, j = frames, 1, 2, 17
    return schema.Sequence(
        name=name,
        frame=np.arange(t),
        person=["anna"],
        camera=["left", "right"],
        joints_3d_world=rng.normal(size=(t, p, j, 3)),
        joint_status=np.ones((t, p, j)),
        world_to_camera=np.tile(np.eye(3, 4), (k, t, 1, 1)),
        camera_model=["pinhole"] * k,
        camera_params=np.tile([1000.0, 1000.0, 500.0, 500.0] + [np.nan] * 11, (k, t, 1)),
        camera_kind=["exo"] * k,
        camera_is_moving=np.zeros(k),
        camera_wearer=[""] * k,
        image_size=np.full((k, 2), 1000),
        joints_2d_projected=rng.normal(size=(k, t, p, j, 2)),
        joints_2d_detected=rng.normal(size=(k, t, p, j, 2)),
        detection_score=rng.random((k, t, p, j)),
        in_view=np.ones((k, t, p, j)),
        scene="Room",
        action="standing",
        split="train",
        split_within_scene="train",
        fps=50.0,
        findings=[{"check": "x", "severity": "info", "message": name}],
    )


def read(name: str, log: Path | None) -> schema.Sequence:
    """The sequence; notes in a file that it was read."""
    if log is not None:
        with open(log, "a") as file:
            file.write(f"{name}\n")
    return sequence(name)


def fail(error: Exception) -> schema.Sequence:
    raise error


def read_unless(flag: Path, name: str, error: Exception) -> schema.Sequence:
    """The sequence once the file `flag` is there, an error before."""
    if not flag.exists():
        raise error
    return sequence(name)


def die(flag: Path, name: str) -> schema.Sequence:
    """The sequence once the file `flag` is there; before, the end of the process that reads it."""
    if not flag.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return sequence(name)


def work(name: str, log: Path | None = None, fingerprint: str = "1") -> Work:
    return Work(name, partial(read, name, log), f"{name}.mat", fingerprint)


def convert(works: list[Work], out: Path, **how) -> list[Outcome]:
    return conversion.convert(works, out, **ROOT, **how)


def contents(path: Path) -> dict:
    """Every array, compressed chunk and attribute of a file by name, in order; but what is only true of one file.

    That are references, and the times of raw files.
    """
    found = {}
    own = ("_LIST", "raw_fingerprint")

    def note(name: str, item: h5py.Group | h5py.Dataset) -> None:
        found.update({f"{name}@{key}": value for key, value in item.attrs.items() if not key.endswith(own)})
        if not isinstance(item, h5py.Dataset):
            return
        found[name] = item[...]
        if item.chunks:
            offsets = (tuple(side.start for side in chunk) for chunk in item.iter_chunks())
            found[f"{name}#"] = np.array([item.id.read_direct_chunk(offset)[1] for offset in offsets], dtype=object)

    with h5py.File(path) as file:
        note("/", file)
        file.visititems(note)
    return found


def assert_same(path: Path, other: Path) -> None:
    first, second = contents(path), contents(other)
    assert list(first) == list(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
