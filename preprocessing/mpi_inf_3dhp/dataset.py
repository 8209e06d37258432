"""Raw MPI-INF-3DHP data as one HDF5 file: finding its sequences, and reading each for `preprocessing.conversion`."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from finepose_mp import schema
from finepose_mp.files import file_sha256
from finepose_mp.preprocessing import conversion
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.preprocessing.mpi_inf_3dhp import annotations, community, facts
from finepose_mp.preprocessing.mpi_inf_3dhp.calibration import Pinhole, builtin_training, parse_calibration
from finepose_mp.preprocessing.mpi_inf_3dhp.sequence import build_test, build_training
from finepose_mp.preprocessing.unpickling import DamagedFileError

DATASET = "mpi-inf-3dhp"
JOINT_SET = "mpi17"
PAGE = "https://vcai.mpi-inf.mpg.de/3dhp-dataset/"
LICENCE = "MPI-INF-3DHP: for academic research only; register at the dataset's page, do not pass the data on"
CITATION = (
    "Mehta, Rhodin, Casas, Fua, Sotnychenko, Xu, Theobalt: Monocular 3D Human Pose Estimation In The Wild Using "
    "Improved CNN Supervision. 3DV 2017, arXiv:1611.09813"
)

_SEARCH_DEPTH = 3  # folders above S1/Seq1/annot.mat or TS1/annot_data.mat
_TEST_NAME = re.compile(r"(TS[1-6])_annot_data\.mat")
_COMPARED_BYTES = 1 << 20
_IMAGE_FOLDERS = {"imageSequence", "imageFrames", "images", "ChairMasks", "FGmasks"}


class RawDataError(ValueError):
    """No sequence where the raw data should be, or one file under two names; the message says what to do."""


def find_work(raw: Path, camera_set: str = "vnect") -> list[conversion.Work]:
    """What there is to convert under a folder, for `conversion.convert`.

    Official files are found as S1/Seq1/annot.mat (with camera.calibration beside it) and TS1/annot_data.mat or
    TS1_annot_data.mat, up to three folders deep; community files as *3dhp*.npz. Of a sequence that is in both, the
    official files are read.

    Args:
        raw: folder.
        camera_set: training cameras, a name in `facts.CAMERA_SETS`.

    Raises:
        RawDataError: nothing there, or two sequences with the same file.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise RawDataError(f"no MPI-INF-3DHP data at {raw.absolute()}: there is no such folder.\n{how_to_get_data()}")
    wanted = facts.CAMERA_SETS[camera_set]
    official = _find_official(raw)
    work = [_official_work(name, path, wanted) for name, path in sorted(official.items())]
    archives = sorted(path for path in _walk(raw) if path.suffix == ".npz" and "3dhp" in path.name.lower())
    for kind, is_kind in (("test", True), ("train", False)):
        of_kind = [path for path in archives if ("test" in path.name.lower()) == is_kind]
        if of_kind:
            work.append(_community_work(f"community {kind}", of_kind, frozenset(official), wanted))
    if not work:
        names = ", ".join(path.name for path in sorted(raw.iterdir())[:8]) or "nothing"
        raise RawDataError(f"no MPI-INF-3DHP sequence in {raw.absolute()}, which holds {names}.\n{how_to_get_data()}")
    return work


def convert(
    work: list[conversion.Work],
    out: Path,
    *,
    jobs: int | None = 1,
    resume: bool = False,
    overwrite: bool = False,
    on_done: Callable[[conversion.Outcome], None] | None = None,
) -> list[conversion.Outcome]:
    """What became of every sequence; the good ones are in the file `out`.

    Args:
        work: from `find_work`.
        out, jobs, resume, overwrite, on_done: as `conversion.convert`, whose errors these are.
    """
    return conversion.convert(
        work,
        out,
        dataset=DATASET,
        joint_set=JOINT_SET,
        licence=LICENCE,
        citation=CITATION,
        jobs=jobs,
        resume=resume,
        overwrite=overwrite,
        on_done=on_done,
    )


def how_to_get_data() -> str:
    """Where the data comes from and the folders that are expected, for messages."""
    return (
        f"Get the data: {PAGE} gives a download script after registration. Expected, in any folder up to three deep:\n"
        "  S1/Seq1/annot.mat and S1/Seq1/camera.calibration, ... S8/Seq2   (training)\n"
        "  TS1/annot_data.mat, ... TS6                                     (test)\n"
        "or the community's data_train_3dhp.npz, data_test_3dhp.npz, data_train_3dhp_ori.npz, data_test_3dhp_ori.npz"
    )


def read_training(path: Path, name: str, wanted: tuple[int, ...]) -> schema.Sequence:
    """A training sequence from its annot.mat and the camera.calibration beside it.

    Raises:
        DamagedFileError: a file is not what its name says, or they share no camera.
    """
    findings = Findings()
    calibration = path.with_name(annotations.CALIBRATION_FILE)
    rig, wanted = _read_rig(calibration, wanted, findings)
    found = annotations.read_training(path, name, wanted, findings)
    source_files = _digests([path, calibration])
    return build_training(name, found, {number: rig[number] for number in found.camera}, source_files, findings)


def read_test(path: Path, name: str) -> schema.Sequence:
    """A test sequence from its annot_data.mat. Raises DamagedFileError when it is another file, or another sequence."""
    findings = Findings()
    found = annotations.read_test(path, name, findings)
    return build_test(name, found, _digests([path]), findings)


def read_community(
    paths: list[Path], skip: frozenset[str], wanted: tuple[int, ...]
) -> Iterator[schema.Sequence | conversion.Outcome]:
    """The sequences of community files, metric and universal ones of the same sequence together.

    Args:
        paths: files that are read whole.
        skip: sequences to leave out.
        wanted: camera numbers.
    """
    contents = {path: community.read_entries(path) for path in paths}
    digests = _digests(paths)
    for name in sorted({name for entries in contents.values() for name in entries} - skip):
        entries = {path: entries[name] for path, entries in contents.items() if name in entries}
        findings = Findings()
        try:
            found = community.read_sequence(entries, name, wanted, findings)
            sources = {path.name: digests[path.name] for path in entries}
            if name in facts.TEST:
                yield build_test(name, found, sources, findings)
            else:
                rig = {number: builtin_training()[number] for number in found.camera}
                yield build_training(name, found, rig, sources, findings)
        except DamagedFileError as error:
            yield conversion.Outcome(name, ", ".join(str(path) for path in entries), error=str(error))


def _read_rig(path: Path, wanted: tuple[int, ...], findings: Findings) -> tuple[dict[int, Pinhole], tuple[int, ...]]:
    """Cameras by number, and those of the wanted ones that are calibrated."""
    if path.is_file():
        rig = parse_calibration(path.read_text(encoding="utf-8", errors="replace"), str(path))
        where = str(path)
        if len(rig) not in (8, 14):
            message = f"{path.name} has {len(rig)} cameras, expected 14 (or 8): {', '.join(map(str, sorted(rig)))}"
            findings.add("calibration.count", "warning", message)
    else:
        rig, where = builtin_training(), "the built-in calibration"
        message = f"no {path.name}; the known calibration of eight cameras, the same for all sequences, is used"
        findings.add("calibration.absent", "warning", message)
    usable = tuple(number for number in wanted if number in rig)
    if not usable:
        raise DamagedFileError(f"{where}: has cameras {sorted(rig)}, none of the wanted {list(wanted)}")
    if len(usable) < len(wanted):
        absent = ", ".join(str(number) for number in wanted if number not in rig)
        findings.add("calibration.camera_absent", "warning", f"camera {absent} left out: no calibration in {where}")
    return rig, usable


def _official_work(name: str, path: Path, wanted: tuple[int, ...]) -> conversion.Work:
    if name in facts.TEST:
        return conversion.Work(name, partial(read_test, path, name), str(path), _fingerprint([path]))
    inputs = [path, path.with_name(annotations.CALIBRATION_FILE)]
    return conversion.Work(
        name, partial(read_training, path, name, wanted), str(path), _fingerprint(inputs, cameras=wanted)
    )


def _community_work(name: str, paths: list[Path], skip: frozenset[str], wanted: tuple[int, ...]) -> conversion.Work:
    source = ", ".join(str(path) for path in paths)
    fingerprint = _fingerprint(paths, cameras=wanted, skip=sorted(skip))
    return conversion.Work(name, partial(read_community, paths, skip, wanted), source, fingerprint)


def _find_official(raw: Path) -> dict[str, Path]:
    """Sequence -> its annotation file."""
    found: dict[str, Path] = {}
    for path in _walk(raw):
        name = _sequence_of(path)
        if name is None:
            continue
        if name in found:
            raise RawDataError(f"{name} is there twice, {found[name]} and {path}; remove one of them")
        found[name] = path
    _check_different(found)
    return found


def _sequence_of(path: Path) -> str | None:
    prefixed = _TEST_NAME.fullmatch(path.name)
    if prefixed:
        return prefixed[1]
    if path.name == annotations.TEST_FILE and path.parent.name in facts.TEST:
        return path.parent.name
    if path.name == annotations.TRAINING_FILE:
        name = f"{path.parent.parent.name}/{path.parent.name}"
        return name if name in facts.TRAINING else None
    return None


def _check_different(found: dict[str, Path]) -> None:
    """Raises RawDataError when two sequences have the same annotations, by size and beginning."""
    seen: dict[tuple[int, bytes], str] = {}
    for name, path in sorted(found.items()):
        with open(path, "rb") as file:
            key = path.stat().st_size, hashlib.sha256(file.read(_COMPARED_BYTES)).digest()
        other = seen.setdefault(key, name)
        if other != name:
            raise RawDataError(
                f"{path} and {found[other]} are the same file: the sequences are mixed up; download {name} again"
            )


def _walk(raw: Path) -> Iterator[Path]:
    """Files under a folder, as deep as sequences may lie, without the folders of their images and macOS's notes."""
    for folder, folders, names in os.walk(raw, followlinks=True):
        deep = len(Path(folder).relative_to(raw).parts) >= _SEARCH_DEPTH + 2
        folders[:] = [] if deep else sorted(set(folders) - _IMAGE_FOLDERS)
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("._"))


def _digests(paths: list[Path]) -> dict[str, dict]:
    """File name -> its SHA-256, of those that exist."""
    return {path.name: {"sha256": file_sha256(path)} for path in paths if path.is_file()}


def _fingerprint(paths: list[Path], **options: object) -> str:
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()]
    return repr((stats, sorted(options.items())))
