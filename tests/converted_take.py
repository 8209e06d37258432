"""Shortcuts from a raw take in the making to what the converter makes of it."""

from pathlib import Path

import numpy as np
from raw_take import RawTake

from finepose_mp import schema
from finepose_mp.preprocessing.egohumans import catalogue
from finepose_mp.preprocessing.egohumans.source import DirectorySource
from finepose_mp.preprocessing.egohumans.take import read_take

TAGGING = "01_tagging/001_tagging"


def convert_take(take: RawTake, folder: Path, name: str = TAGGING) -> schema.Sequence:
    """The sequence read back from a file converted from the written take."""
    take.write(folder / "raw" / name)
    return convert_raw(folder)


def convert_raw(folder: Path) -> schema.Sequence:
    """The sequence of the only take under `folder`/raw, written to a file of the contract and read back."""
    (take,) = (folder / "raw").glob("*/*")
    sequence = read_take(DirectorySource(take), catalogue.take(take.parent.name, take.name))
    with schema.create(folder / "out.h5", "egohumans", "coco17", "none", "none") as file:
        schema.write_sequence(file, sequence)
    with schema.open_file(folder / "out.h5") as file:
        return schema.read_sequence(file, sequence.name)


def of_camera(sequence: schema.Sequence, variable: str, camera: str) -> np.ndarray:
    return getattr(sequence, variable)[sequence.camera.index(camera)]


def messages(sequence: schema.Sequence, check: str, severity: str) -> str:
    """All messages of the findings of one area ("frames") or check ("frames.gap"), in one text."""
    found = (f for f in sequence.findings if f["severity"] == severity and f"{f['check']}.".startswith(f"{check}."))
    return "\n".join(f["message"] for f in found)


def concerns(findings: list[dict]) -> set[str]:
    """The names of the checks that found something to look at, a warning or an error."""
    return {finding["check"] for finding in findings if finding["severity"] != "info"}


def only(findings: list[dict], check: str) -> dict:
    """The single warning or error of that check."""
    (found,) = (f for f in findings if f["check"] == check and f["severity"] != "info")
    return found
