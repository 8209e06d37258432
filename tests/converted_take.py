"""Shortcuts from a raw take in the making to what the converter makes of it."""

from pathlib import Path

import numpy as np
from raw_take import RawTake

from finepose_mp import schema
from finepose_mp.preprocessing.egohumans import dataset

TAGGING = "01_tagging/001_tagging"


def convert_take(take: RawTake, folder: Path, name: str = TAGGING) -> schema.Sequence:
    """The sequence read back from a file converted from the written take."""
    take.write(folder / "raw" / name)
    return convert_raw(folder)


def convert_raw(folder: Path) -> schema.Sequence:
    """The only sequence of the file converted from `folder`/raw, which must convert without a failed take."""
    outcomes = dataset.convert(dataset.find_takes(folder / "raw"), folder / "out.h5")
    assert [outcome.error for outcome in outcomes] == [None]
    with schema.open_file(folder / "out.h5") as file:
        return schema.read_sequence(file, *schema.sequence_names(file))


def of_camera(sequence: schema.Sequence, variable: str, camera: str) -> np.ndarray:
    return getattr(sequence, variable)[sequence.camera.index(camera)]


def messages(sequence: schema.Sequence, check: str, severity: str) -> str:
    """All messages of the findings of one kind, in one text."""
    found = (f for f in sequence.findings if f["check"] == check and f["severity"] == severity)
    return "\n".join(f["message"] for f in found)
