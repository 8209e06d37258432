"""Where the takes of a raw EgoHumans download are: folders, archives, or a mixture of both."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finepose_mp.preprocessing.egohumans.archives import TAKE_PARTS, stem
from finepose_mp.preprocessing.egohumans.catalogue import SCENE_FOLDER, TAKE_FOLDER, Catalogue, Take, released
from finepose_mp.preprocessing.tar_stream import is_archive_name

DOWNLOAD_PAGE = "https://github.com/rawalkhirodkar/egohumans/blob/main/assets/DOWNLOAD.md"
SIMULATE_COMMAND = "python tools/simulate.py --out data/raw/egohumans"

# Archives keep eight folders above a take, and lie in a folder of their scene; deeper nothing is looked for.
_SEARCH_DEPTH = 10
_SEARCH_FOLDERS = 2000


class RawDataError(ValueError):
    """No take where the raw data should be; the message says what was found and how to get or point to the data."""


@dataclass(frozen=True)
class FoundTake:
    """A take in a folder, and what the catalogue knows about it."""

    folder: Path
    facts: Take

    @property
    def name(self) -> str:
        """The take's name in the converted file."""
        return self.facts.name


@dataclass(frozen=True)
class FoundArchive:
    """An archive, or what is named like one; what is in it shows when it is read.

    `name` is that of the take it is named after, or else its path in the raw folder.
    """

    path: Path
    name: str


def find_takes(raw: Path, catalogue: Catalogue | None = None) -> list[FoundTake | FoundArchive]:
    """The takes and archives under `raw`, in order of their names.

    `raw` is the folder that holds the big sequences (01_tagging, ...), or a single big sequence, take or archive.

    Args:
        catalogue: what is known about the takes, the released ones by default.

    Raises:
        RawDataError: `raw` is absent, or has no take at one of these levels; the message names a better path if there
            is one nearby.
    """
    raw, catalogue = Path(raw).absolute(), catalogue or released()
    if raw.is_file() and is_archive_name(raw.name):
        return [_archive(raw, raw.parent, catalogue)]
    if not raw.is_dir():
        raise RawDataError(f"no raw EgoHumans data at {raw}: there is no such folder.\n{how_to_get_data()}")
    for level in (_content_of_root, _take_itself):
        found = sorted(level(raw, catalogue), key=lambda item: (item.name, str(item)))
        if any(isinstance(item, FoundArchive) or _is_take(item.folder) for item in found):
            return found  # with the empty ones, which are reported as failed
    raise RawDataError(_explain_nothing_found(raw))


def find_misplaced(raw: Path, found: list[FoundTake | FoundArchive]) -> dict[str, str]:
    """What looks like a take or an archive below `raw`, and is not in `found`: path in `raw` -> what to do about it.

    Within limits of depth and number of folders. Nothing is looked for in takes, nor twice where links lead.
    """
    raw = Path(raw).absolute()
    used = {os.path.realpath(item.path if isinstance(item, FoundArchive) else item.folder) for item in found}
    if os.path.realpath(raw) in used:
        return {}
    return {
        str(path.relative_to(raw)): f"{path} was not used, for its place or its name is not a take's; move or rename "
        f"it, so that it is like {raw}/01_tagging/001_tagging or {raw}/01_tagging/001_tagging.tar.gz"
        for folder in _tree(raw)
        for path in (*filter(_is_like_take, _folders(folder)), *_archives(folder))
        if os.path.realpath(path) not in used
    }


def facts_of(take_folder: str, folder_around: str, catalogue: Catalogue) -> Take | None:
    """What is known about a take by the names of its folder and of the one around; None where that is no big sequence.

    A take's own name says its scene ("001_legoassemble"), wherever it lies; only unknown ones need the folder around.
    """
    suffix = take_folder.split("_", 1)[-1]
    fitting = [scene for scene in catalogue.all_scenes() if scene.suffix == suffix]
    around = [scene for scene in fitting if folder_around in (scene.folder, scene.download_folder)]
    scene_folder = (around or fitting)[0].folder if fitting else folder_around
    return catalogue.take(scene_folder, take_folder) if SCENE_FOLDER.fullmatch(scene_folder) else None


def how_to_get_data() -> str:
    """Two ways to raw data, and the files that are expected, for messages."""
    return (
        f"Get the data: the EgoHumans download page, {DOWNLOAD_PAGE}, leads to one archive a take. Keep the archives\n"
        "as they are, or unpack them, or mix both:\n"
        "  data/raw/egohumans/01_tagging/001_tagging.tar.gz\n"
        "  data/raw/egohumans/02_lego/001_legoassemble/{colmap,ego,exo,processed_data}\n"
        f"or simulate some: {SIMULATE_COMMAND}"
    )


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir())


def _archives(path: Path) -> list[Path]:
    """Files that are named like archives, or like takes: some downloads come without an ending."""
    named_so = (entry for entry in path.iterdir() if is_archive_name(entry.name) or TAKE_FOLDER.fullmatch(entry.name))
    return sorted(entry for entry in named_so if entry.is_file())


def _is_take(folder: Path) -> bool:
    """Whether a folder is named like a take and holds at least one of its parts."""
    is_named_so = TAKE_FOLDER.fullmatch(folder.name) is not None
    return is_named_so and any((folder / part).is_dir() for part in TAKE_PARTS)


def _is_like_take(folder: Path) -> bool:
    """Whether a folder is a take, or could be one under another name."""
    return _is_take(folder) or (folder / "processed_data").is_dir()


def _content_of_root(root: Path, catalogue: Catalogue) -> Iterator[FoundTake | FoundArchive]:
    """What lies in `root` itself, should it be a big sequence or a heap of archives, and in its big sequences."""
    for folder in (root, *(child for child in _folders(root) if SCENE_FOLDER.fullmatch(child.name))):
        for child in _folders(folder):
            yield from _take_itself(child, catalogue)
        for path in _archives(folder):
            yield _archive(path, root, catalogue)


def _take_itself(folder: Path, catalogue: Catalogue) -> Iterator[FoundTake]:
    if TAKE_FOLDER.fullmatch(folder.name):
        facts = facts_of(folder.name, folder.parent.name, catalogue)
        if facts is not None:
            yield FoundTake(folder, facts)


def _archive(path: Path, root: Path, catalogue: Catalogue) -> FoundArchive:
    name = stem(path)
    facts = facts_of(name, path.parent.name, catalogue) if TAKE_FOLDER.fullmatch(name) else None
    return FoundArchive(path, facts.name if facts is not None else str(path.relative_to(root)))


def _explain_nothing_found(raw: Path) -> str:
    below, above = _root_below(raw), _root_above(raw)
    if below or above:
        return f"no EgoHumans take directly in {raw}, but there are takes further {'down' if below else 'up'}: " + (
            f"pass --raw {below or above}"
        )
    names = [path.name for path in sorted(raw.iterdir())][:8]
    return f"no EgoHumans take in {raw}, which holds {', '.join(names) or 'nothing'}.\n{how_to_get_data()}"


def _root_below(raw: Path) -> Path | None:
    """The folder of big sequences in the tree below `raw`, found from a take in it; breadth first, within limits."""
    for folder in _tree(raw):
        if any(_is_take(child) for child in _folders(folder)) or _archives(folder):
            return folder.parent if SCENE_FOLDER.fullmatch(folder.name) else folder
    return None


def _tree(top: Path) -> Iterator[Path]:
    """`top` and the folders below it that can be read, but no takes; breadth first, within limits, each once."""
    level, seen = [top], set()
    for _ in range(_SEARCH_DEPTH):
        following: list[Path] = []
        for folder in level:
            identity = os.path.realpath(folder)
            if identity in seen or not os.access(folder, os.R_OK | os.X_OK):
                continue
            seen.add(identity)
            yield folder
            following += [child for child in _folders(folder) if not _is_like_take(child)]
        if len(seen) > _SEARCH_FOLDERS:
            return
        level = following


def _root_above(raw: Path) -> Path | None:
    """The take that `raw` lies in, when somebody points at a part of one."""
    return next((folder for folder in raw.parents if _is_take(folder)), None)
