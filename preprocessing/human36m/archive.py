"""Finding Human3.6M's poses in a folder: which kind of archive it is, told by its content, and which clips it has."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from finepose_mp.preprocessing.human36m import calibration, community, facts
from finepose_mp.preprocessing.human36m.calibration import Calibration, Deviation
from finepose_mp.preprocessing.human36m.files import RawDataError, files_like
from finepose_mp.preprocessing.human36m.poses import CdfPoses, ClipPoses, PoseSource, TreePoses

OFFICIAL, COMMUNITY, BASELINE = "official CDF files", "community npz", "tree of 3d-pose-baseline"

# Folders of positions below a subject's folder: as the official archives unpack, and as h36m-fetch puts them.
_D3_FOLDERS = ("MyPoseFeatures/D3_Positions", "Poses_D3_Positions")
_D2_FOLDERS = ("MyPoseFeatures/D2_Positions", "Poses_D2_Positions")
_CAMERA_FRAME_FOLDERS = ("S*/MyPoseFeatures/D3_Positions_mono*", "S*/Poses_D3_Positions_mono*", "*/S*/*/D3_*_mono*")
_TREE_FOLDER = "MyPoses/3D_positions"
_TREE_CAMERAS = "cameras.h5"
SIMULATED_FILE = "SIMULATED.json"  # beside archives that were made by a program

_SUBJECT = re.compile(r"S\d{1,2}")
_SEARCH_LEVELS = 3

HOW_TO_GET_DATA = (
    "Get the data: register at http://vision.imar.ro/human3.6m, then for S1, S5, S6, S7, S8, S9 and S11 download "
    "'Poses: D3 Positions' (and 'D2 Positions' if you want them checked) and unpack each archive into one folder, so "
    "that it has S1/MyPoseFeatures/D3_Positions/Directions 1.cdf and so on; put metadata.xml of the official code "
    "beside S1 if you have it. Or give data_3d_h36m.npz, or the h36m folder of 3d-pose-baseline"
)


@dataclass(frozen=True)
class Archive:
    """What was found: poses by clip, cameras, and what is odd about the archive as a whole.

    Attributes:
        kind: `OFFICIAL`, `COMMUNITY` or `BASELINE`.
        location: folder or file.
        poses: (subject, canonical clip name) -> where its poses are.
        cameras: calibration of all subjects.
        simulated: whether a program made it.
        deviations: cameras that are not the published ones.
        ignored: sentences about what was left aside.
    """

    kind: str
    location: Path
    poses: dict[tuple[str, str], PoseSource]
    cameras: Calibration
    simulated: bool = False
    deviations: list[Deviation] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def missing(self) -> dict[str, list[str]]:
        """Subject -> names of its published clips that are not there, without subjects that are complete."""
        absent = {
            subject: [name for name in names if (subject, name) not in self.poses]
            for subject, names in facts.clips().items()
        }
        return {subject: names for subject, names in absent.items() if names}


@dataclass(frozen=True)
class RefusedPoses:
    """Poses that are not used; reading them says why."""

    location: str
    reason: str

    def read(self) -> ClipPoses:
        raise RawDataError(self.reason)

    def fingerprint(self) -> str:
        return self.reason


def find_archive(raw: Path) -> Archive:
    """The archive at `raw`: a folder of one of the three kinds or above it, one subject's folder, or an npz.

    Raises:
        RawDataError: nothing of that kind is there, or several kinds are; calibration that is not Human3.6M's.
        UnsafeFileError: an npz would run code.
    """
    raw = Path(raw).absolute()
    if not raw.exists():
        raise RawDataError(f"no raw Human3.6M data at {raw}: there is no such folder or file.\n{HOW_TO_GET_DATA}")
    places = _find_places(raw)
    if not places:
        raise RawDataError(_explain_nothing_found(raw))
    if len(places) > 1:
        listed = "\n".join(f"  {kind}: {path}" for kind, path in places)
        raise RawDataError(f"{raw} has several copies of the data:\n{listed}\nPoint --raw at one of them")
    kind, path = places[0]
    only = raw.name if path == raw.parent else None
    root = path if path.is_dir() else path.parent
    cameras = _read_cameras(root)
    deviations = calibration.compare_with_table(cameras)
    if kind == BASELINE and (path / _TREE_CAMERAS).is_file():
        deviations += calibration.compare_tree_cameras(path / _TREE_CAMERAS)
    poses, ignored = _judge(_list_poses(kind, path, only))
    return Archive(kind, path, poses, cameras, (root / SIMULATED_FILE).is_file(), deviations, ignored)


def _find_places(raw: Path) -> list[tuple[str, Path]]:
    """(Kind, root) of every archive at the first level of `raw` and below that has any."""
    if raw.is_file():
        if community.POSES_KEY in community.members(raw):
            return [(COMMUNITY, raw)]
        raise RawDataError(f"{raw}: holds {', '.join(community.members(raw))}, expected {community.POSES_KEY!r}")
    if _SUBJECT.fullmatch(raw.name) and _kinds_of_subject(raw):
        return [(kind, raw.parent) for kind in _kinds_of_subject(raw)]
    level = [raw]
    for _ in range(_SEARCH_LEVELS):
        places = [place for folder in level for place in _places_in(folder)]
        if places:
            return places
        level = [entry for folder in level for entry in _folders(folder)]
    return []


def _places_in(folder: Path) -> Iterator[tuple[str, Path]]:
    subjects = [entry for entry in _folders(folder) if _SUBJECT.fullmatch(entry.name)]
    for kind in sorted({kind for subject in subjects for kind in _kinds_of_subject(subject)}):
        yield kind, folder
    for path in files_like(folder, "*.npz"):
        if _has_poses(path):
            yield COMMUNITY, path


def _has_poses(path: Path) -> bool:
    """Whether an npz holds poses; one that cannot be opened counts when it is named so, and reading it says why."""
    try:
        return community.POSES_KEY in community.members(path)
    except RawDataError:
        return path.name.startswith("data_3d")


def _kinds_of_subject(folder: Path) -> list[str]:
    kinds = []
    if any(files_like(folder / name, "*.cdf") for name in _D3_FOLDERS):
        kinds.append(OFFICIAL)
    if files_like(folder / _TREE_FOLDER, "*.h5"):
        kinds.append(BASELINE)
    return kinds


def _list_poses(kind: str, path: Path, only: str | None) -> Iterator[tuple[str, str, PoseSource]]:
    """(Subject, canonical clip name, poses) of everything there, in the order of names."""
    if kind == COMMUNITY:
        for (subject, name), poses in community.read_poses(path).items():
            yield subject, name, poses
        return
    for folder in _folders(path):
        if not _SUBJECT.fullmatch(folder.name) or only not in (None, folder.name):
            continue
        clips = _official_clips if kind == OFFICIAL else _tree_clips
        for name, poses in clips(folder, path):
            yield folder.name, name, poses


def _official_clips(folder: Path, root: Path) -> Iterator[tuple[str, PoseSource]]:
    d2: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for path in _files(folder, _D2_FOLDERS, "*.cdf"):
        stem, _, camera = path.stem.rpartition(".")
        if camera in calibration.camera_names():
            d2[facts.canonical_name(stem)].append((camera, path))
    for path in _files(folder, _D3_FOLDERS, "*.cdf"):
        name = facts.canonical_name(path.stem)
        if not path.stem.startswith("_ALL"):  # range of motion before the clips; nobody uses it
            yield name, CdfPoses(path, root, tuple(d2[name]))


def _tree_clips(folder: Path, root: Path) -> Iterator[tuple[str, PoseSource]]:
    for path in _files(folder, (_TREE_FOLDER,), "*.h5"):
        yield facts.canonical_name(path.stem), TreePoses(path, root)


def _judge(listed: Iterator[tuple[str, str, PoseSource]]) -> tuple[dict[tuple[str, str], PoseSource], list[str]]:
    """Poses by clip, those that cannot be what their name says refused; and sentences about what is left aside."""
    poses: dict[tuple[str, str], PoseSource] = {}
    unknown: dict[str, int] = defaultdict(int)
    for subject, name, source in listed:
        key = subject, name
        if subject not in facts.clips():
            unknown[subject] += 1
        elif key in poses:
            reason = f"{poses[key].location} and {source.location} are both {subject}/{name}; remove one of them"
            poses[key] = RefusedPoses(source.location, reason)
        elif facts.find_clip(*key) is None:
            poses[key] = RefusedPoses(source.location, _explain_unknown_clip(subject, name, source))
        else:
            poses[key] = source
    return poses, [
        f"{subject}: {count} clips left aside, no poses of this subject were published"
        for subject, count in unknown.items()
    ]


def _explain_unknown_clip(subject: str, name: str, source: PoseSource) -> str:
    owners = [owner for owner, names in facts.clips().items() if name in names]
    whose = f"{', '.join(owners)} have one" if owners else "nor has anybody else"
    return (
        f"{source.location}: {subject} has no clip {name!r}, {whose}. Are files of two subjects mixed up? "
        f"Unpack the archive of {subject} again"
    )


def _read_cameras(root: Path) -> Calibration:
    """From a metadata.xml in or above the archive's root, else from the built-in table."""
    for folder in (root, root.parent, *(f for f in _folders(root) if not _SUBJECT.fullmatch(f.name))):
        path = folder / calibration.METADATA_FILE
        if path.is_file():
            return calibration.read_metadata(path)
    return calibration.built_in()


def _explain_nothing_found(raw: Path) -> str:
    entries = sorted(entry.name for entry in raw.iterdir())
    shown = ", ".join(entries[:12]) + (", ..." if len(entries) > 12 else "") if entries else "nothing"
    hints = []
    if any(name.endswith((".tgz", ".tar.gz")) for name in entries):
        hints.append("Archives are not unpacked yet: for f in Poses_D3_Positions_*.tgz; do tar -xzf $f; done")
    if any(any(raw.glob(pattern)) for pattern in _CAMERA_FRAME_FOLDERS):
        hints.append("D3_Positions_mono are in camera coordinates; the poses in the world, D3_Positions, are needed")
    return "\n".join([f"no poses of Human3.6M in {raw}; it has {shown}.", *hints, HOW_TO_GET_DATA])


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path, names: tuple[str, ...], pattern: str) -> list[Path]:
    return [path for name in names for path in files_like(folder / name, pattern)]
