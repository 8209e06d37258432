"""Where the takes of a raw EgoHumans download are: folders, archives, or a mixture of both."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from finepose_mp.preprocessing.egohumans.archives import TAKE_PARTS, stem
from finepose_mp.preprocessing.egohumans.catalogue import SCENE_FOLDER, TAKE_FOLDER, Catalogue, Take, released
from finepose_mp.preprocessing.tar_stream import compressed_stem, is_archive_name

DOWNLOAD_PAGE = "https://github.com/rawalkhirodkar/egohumans/blob/main/assets/DOWNLOAD.md"
SIMULATE_COMMAND = "python tools/simulate.py --out data/raw/egohumans"

# Archives keep eight folders above a take, and lie in a folder of their scene; deeper nothing is looked for.
_SEARCH_DEPTH = 10
_SEARCH_FOLDERS = 2000

# "001_tagging", "001_tagging (1)", and what Google Drive makes of a folder: "01_tagging-20240131T120000Z-002".
_AFTER_TAKE = re.compile(rf"(?P<take>{TAKE_FOLDER.pattern})([ _-]?\(\d+\)|[ -]\d[^.]*)?")
_AFTER_SCENE = re.compile(rf"{SCENE_FOLDER.pattern}([ _-]?\(\d+\)|[ -]\d[^.]*)?")


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
    """A file named like an archive, or like a take; what is in it shows when it is read.

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
    if raw.is_file():
        return [_archive(raw, raw.parent, catalogue)]
    if not raw.is_dir():
        raise RawDataError(f"no raw EgoHumans data at {raw}: there is no such folder.\n{how_to_get_data()}")
    for level in (_content_of_root, _take_itself):
        found = sorted(level(raw, catalogue), key=lambda item: (item.name, str(item)))
        if any(isinstance(item, FoundArchive) or _is_take(item.folder) for item in found):
            return found  # with the empty ones, which are reported as failed
    raise RawDataError(_explain_nothing_found(raw))


def find_misplaced(
    raw: Path, found: list[FoundTake | FoundArchive], converted: Collection[str], catalogue: Catalogue | None = None
) -> dict[str, str]:
    """What looks like a take below `raw`, and was not used: path in `raw` -> what to do about it.

    These are archives named like takes, and folders named so or with processed_data; none of takes that are `converted`
    already. Looked for within limits of depth and number of folders, neither in takes nor in hidden folders; what
    cannot be read is passed over.

    Args:
        found: from `find_takes`, with the same catalogue.
        converted: names of takes.
    """
    raw, catalogue = Path(raw).absolute(), catalogue or released()
    used = {os.path.realpath(item.path if isinstance(item, FoundArchive) else item.folder) for item in found}
    if os.path.realpath(raw) in used:
        return {}
    misplaced = {}
    for visited in _tree(raw):
        for path in [visited.path] if visited.is_like_take else filter(_take_named_by, visited.archives):
            named = _take_named_by(path)
            facts = facts_of(named, path.parent.name, catalogue) if named else None
            if os.path.realpath(path) not in used and (facts is None or facts.name not in converted):
                misplaced[str(path.relative_to(raw))] = (
                    f"{path} was not used, for its place or its name is not a take's; move or rename it, so that it is "
                    f"like {raw}/01_tagging/001_tagging or {raw}/01_tagging/001_tagging.tar.gz"
                )
    return misplaced


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


def _content(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders in a folder, and the files named like archives or takes; links count as what they lead to."""
    folders, archives = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            is_link = entry.is_symlink()
            if entry.is_dir(follow_symlinks=False) or (is_link and os.path.isdir(entry)):
                folders.append(folder / entry.name)
            elif _is_named_like_data(entry.name) and os.path.isfile(entry):
                archives.append(folder / entry.name)
    return sorted(folders), sorted(archives)


def _is_named_like_data(name: str) -> bool:
    """Whether a file may hold takes by its name: a tar, or anything compressed that is named after a take or scene.

    A file named like a take needs no ending: some downloads come without.
    """
    before = compressed_stem(name)
    is_named_after = before is not None and (_AFTER_TAKE.fullmatch(before) or _AFTER_SCENE.fullmatch(before))
    return bool(is_archive_name(name) or is_named_after or TAKE_FOLDER.fullmatch(name))


def _take_named_by(path: Path) -> str | None:
    """The folder name of the take that a folder or archive is named after."""
    match = _AFTER_TAKE.fullmatch(path.name.split(".")[0])
    return match and match["take"]


def _is_take(folder: Path) -> bool:
    """Whether a folder is named like a take and holds at least one of its parts."""
    is_named_so = TAKE_FOLDER.fullmatch(folder.name) is not None
    return is_named_so and any(os.path.isdir(folder / part) for part in TAKE_PARTS)


def _content_of_root(root: Path, catalogue: Catalogue) -> Iterator[FoundTake | FoundArchive]:
    """What lies in `root` itself, should it be a big sequence or a heap of archives, and in its big sequences."""
    for folder in (root, *(child for child in _content(root)[0] if SCENE_FOLDER.fullmatch(child.name))):
        folders, archives = _content(folder)
        for child in folders:
            yield from _take_itself(child, catalogue)
        for path in archives:
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
    for visited in _tree(raw):
        if visited.archives or _is_take(visited.path):
            folder = visited.path if visited.archives else visited.path.parent
            return folder.parent if SCENE_FOLDER.fullmatch(folder.name) else folder
    return None


@dataclass(frozen=True)
class _Visited:
    """A folder with the archives in it, and whether it is a take, or could be one under another name."""

    path: Path
    archives: list[Path]
    is_like_take: bool


def _tree(top: Path) -> Iterator[_Visited]:
    """`top` and the folders below it, breadth first, within limits, each once; none in takes, and no hidden ones.

    Folders that cannot be read are passed over.
    """
    level, seen = [top], set()
    for _ in range(_SEARCH_DEPTH + 1):
        following: list[Path] = []
        for folder in level:
            if len(seen) == _SEARCH_FOLDERS:
                return
            try:
                status = folder.stat()
                identity = status.st_dev, status.st_ino
                if identity in seen:
                    continue
                seen.add(identity)
                folders, archives = _content(folder)
            except OSError:
                continue
            parts = {child.name for child in folders} & set(TAKE_PARTS)
            is_like_take = "processed_data" in parts or bool(parts and TAKE_FOLDER.fullmatch(folder.name))
            yield _Visited(folder, archives, is_like_take)
            if not is_like_take:
                following += [child for child in folders if not child.name.startswith(".")]
        level = following


def _root_above(raw: Path) -> Path | None:
    """The take that `raw` lies in, when somebody points at a part of one."""
    return next((folder for folder in raw.parents if _is_take(folder)), None)
