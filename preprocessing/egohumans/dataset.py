"""The raw EgoHumans download as one HDF5 file: finding its takes, converting each, reporting the bad ones."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py

from finepose_mp import schema
from finepose_mp.preprocessing.egohumans import catalogue
from finepose_mp.preprocessing.egohumans.source import DirectorySource
from finepose_mp.preprocessing.egohumans.take import read_take

DOWNLOAD_PAGE = "https://github.com/rawalkhirodkar/egohumans/blob/main/assets/DOWNLOAD.md"
SIMULATE_COMMAND = "python tools/simulate.py --out data/raw/egohumans"
LICENCE = (
    "EgoHumans, copyright 2018-2023 CMU and Meta. The official toolkit is under Apache-2.0; the recordings come "
    "without terms of their own: ask the authors before passing them on"
)
CITATION = (
    "Khirodkar, Bansal, Ma, Newcombe, Vo, Kitani: EgoHumans: An Egocentric 3D Multi-Human Benchmark. ICCV 2023, "
    "arXiv:2305.16487"
)

# Archives keep eight folders above a take, and lie in a folder of their scene; deeper nothing is looked for.
_SEARCH_DEPTH = 10
_SEARCH_FOLDERS = 2000
_TAKE_PARTS = ("processed_data", "colmap", "ego", "exo")


class RawDataError(ValueError):
    """No take where the raw data should be; the message says what was found and how to get or point to the data."""


@dataclass(frozen=True)
class FoundTake:
    """A take on disk: its folder and what the catalogue knows about it."""

    folder: Path
    facts: catalogue.Take


@dataclass(frozen=True)
class Outcome:
    """What became of one take: numbers and findings, or the `error` that it failed with."""

    take: FoundTake
    seconds: float
    frames: int = 0
    people: int = 0
    cameras: int = 0
    findings: list[dict] = field(default_factory=list)
    error: str | None = None


def find_takes(raw: Path) -> list[FoundTake]:
    """The takes under `raw`, in order of their names.

    `raw` is the folder that holds the big sequences (01_tagging, ...), or a single big sequence, or a single take.

    Raises:
        RawDataError: `raw` is absent, or has no take at one of these levels; the message names a better path if there
            is one nearby.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise RawDataError(f"no raw EgoHumans data at {raw.absolute()}: there is no such folder.\n{how_to_get_data()}")
    for level in (_takes_of_root, _takes_of_scene, _take_itself):
        takes = sorted(level(raw.absolute()), key=lambda take: (take.facts.name, take.folder))
        if any(_is_take(take.folder) for take in takes):
            return takes  # with the empty ones, which are reported as failed
    raise RawDataError(_explain_nothing_found(raw.absolute()))


def convert(
    takes: list[FoundTake], out: Path, overwrite: bool = False, on_take: Callable[[Outcome], None] | None = None
) -> list[Outcome]:
    """What became of every take; the good ones are in the file `out`, which appears when all are done.

    Args:
        takes: from `find_takes`.
        on_take: called after each take, for a progress bar.

    Raises:
        FileExistsError: `out` exists and `overwrite` is false.
        RawDataError: no take could be converted; nothing is written.
    """
    outcomes: list[Outcome] = []
    with schema.create(out, "egohumans", "coco17", LICENCE, CITATION, overwrite) as file:
        for take in takes:
            outcomes.append(_convert_take(take, file))
            if on_take is not None:
                on_take(outcomes[-1])
        if all(outcome.error for outcome in outcomes):
            errors = "\n".join(f"  {outcome.take.facts.name}: {outcome.error}" for outcome in outcomes)
            raise RawDataError(f"none of {len(outcomes)} takes could be converted, {out} was not written:\n{errors}")
    return outcomes


def _convert_take(take: FoundTake, file: h5py.File) -> Outcome:
    start = time.perf_counter()
    name = take.facts.name
    try:
        if name in file:
            raise ValueError(f"{take.folder} is a second copy of {name}; remove one of them")
        sequence = read_take(DirectorySource(take.folder), take.facts)
    except Exception as error:  # whatever one of 133 downloads has, the others are converted and this one is reported
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        return Outcome(take, time.perf_counter() - start, error=reason)
    schema.write_sequence(file, sequence)
    return Outcome(
        take,
        time.perf_counter() - start,
        frames=len(sequence.frame),
        people=len(sequence.person),
        cameras=len(sequence.camera),
        findings=sequence.findings,
    )


def how_to_get_data() -> str:
    """Two ways to raw data, and the folders that are expected, for messages."""
    return (
        f"Get the data: the EgoHumans download page, {DOWNLOAD_PAGE}, leads to one archive a take; unpack as\n"
        "  data/raw/egohumans/01_tagging/001_tagging/{colmap,ego,exo,processed_data}\n"
        "  data/raw/egohumans/02_lego/001_legoassemble/...\n"
        "  (inside 01_tagging: tar -xzf 001_tagging.tar.gz --strip-components=8)\n"
        f"or simulate some: {SIMULATE_COMMAND}"
    )


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir())


def _is_take(folder: Path) -> bool:
    """Whether a folder is named like a take and holds at least one of its parts."""
    is_named_so = catalogue.TAKE_FOLDER.fullmatch(folder.name) is not None
    return is_named_so and any((folder / part).is_dir() for part in _TAKE_PARTS)


def _takes_of_root(root: Path) -> Iterator[FoundTake]:
    for folder in _folders(root):
        if catalogue.SCENE_FOLDER.fullmatch(folder.name):
            yield from _takes_of_scene(folder)


def _takes_of_scene(folder: Path) -> Iterator[FoundTake]:
    for take in _folders(folder):
        yield from _take_itself(take)


def _take_itself(folder: Path) -> Iterator[FoundTake]:
    """The take in this very folder; its scene is known by its name's ending, otherwise by the folder around it."""
    if not catalogue.TAKE_FOLDER.fullmatch(folder.name):
        return
    known = catalogue.scene_of_take(folder.name)
    scene_folder = known.folder if known else folder.parent.name
    if catalogue.SCENE_FOLDER.fullmatch(scene_folder):
        yield FoundTake(folder, catalogue.take(scene_folder, folder.name))


def _explain_nothing_found(raw: Path) -> str:
    below, above = _root_below(raw), _root_above(raw)
    if below or above:
        return f"no EgoHumans take directly in {raw}, but there are takes further {'down' if below else 'up'}: " + (
            f"pass --raw {below or above}"
        )
    archives = [path.name for path in sorted(raw.glob("*.tar.gz")) + sorted(raw.glob("*/*.tar.gz"))]
    if archives:
        return (
            f"{raw} holds {len(archives)} archives ({', '.join(archives[:3])}, ...) and no unpacked take; "
            f"unpack them.\n{how_to_get_data()}"
        )
    names = [path.name for path in sorted(raw.iterdir())][:8]
    return f"no EgoHumans take in {raw}, which holds {', '.join(names) or 'nothing'}.\n{how_to_get_data()}"


def _root_below(raw: Path) -> Path | None:
    """The folder of big sequences in the tree below `raw`, found from a take in it; breadth first, within limits."""
    level, visited = [raw], 0
    for _ in range(_SEARCH_DEPTH):
        following: list[Path] = []
        for folder in level:
            if any(_is_take(child) for child in _folders(folder)):
                return folder.parent if catalogue.SCENE_FOLDER.fullmatch(folder.name) else folder
            following += _folders(folder)
        visited += len(level)
        if visited > _SEARCH_FOLDERS:
            return None
        level = following
    return None


def _root_above(raw: Path) -> Path | None:
    """The take that `raw` lies in, when somebody points at a part of one."""
    return next((folder for folder in raw.parents if _is_take(folder)), None)
