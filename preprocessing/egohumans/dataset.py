"""The raw EgoHumans download, or another dataset of its layout, as one HDF5 file."""

import fnmatch
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

from finepose_mp import schema
from finepose_mp.preprocessing import conversion
from finepose_mp.preprocessing.conversion import Outcome, Work
from finepose_mp.preprocessing.egohumans import archives, source
from finepose_mp.preprocessing.egohumans.benchmark_files import Benchmark
from finepose_mp.preprocessing.egohumans.benchmark_import import with_benchmark
from finepose_mp.preprocessing.egohumans.catalogue import Catalogue, Take, released
from finepose_mp.preprocessing.egohumans.discovery import FoundArchive, FoundTake, RawDataError, facts_of, find_takes
from finepose_mp.preprocessing.egohumans.source import TakeError
from finepose_mp.preprocessing.egohumans.take import read_take
from finepose_mp.preprocessing.findings import Findings

__all__ = ["RawDataError", "convert", "find_takes", "read_without_parsing"]


def convert(
    takes: list[FoundTake | FoundArchive],
    out: Path,
    overwrite: bool = False,
    on_take: Callable[[Outcome], None] | None = None,
    *,
    jobs: int | None = 1,
    resume: bool = False,
    catalogue: Catalogue | None = None,
    benchmark: Path | None = None,
) -> list[Outcome]:
    """What became of every take; the good ones are in the file `out`, which appears when all are done.

    Args:
        takes: from `find_takes`, with the same catalogue.
        overwrite, jobs, resume: see `conversion.convert`.
        on_take: called after each take, for a progress bar.
        catalogue: what is known about the takes, the released ones by default.
        benchmark: folder of published benchmark files, or an external detector's of their form, whose keypoints
            replace the takes' own detections.

    Raises:
        BenchmarkError: no benchmark files in that folder.
        Others: see `conversion.convert`.
    """
    catalogue, out = catalogue or released(), Path(os.path.realpath(out))  # scratch beside the file, not a link to it
    works = [_work(take, out.parent, catalogue) for take in takes]
    if benchmark is not None:
        Benchmark(benchmark)  # complains before anything is read
        works = [with_benchmark(work, benchmark) for work in works]
    return conversion.convert(
        works,
        out,
        dataset=catalogue.dataset,
        joint_set="coco17",
        licence=catalogue.licence,
        citation=catalogue.citation,
        jobs=jobs,
        resume=resume,
        overwrite=overwrite,
        on_done=on_take,
    )


def read_without_parsing(take: FoundTake | FoundArchive) -> int:
    """Number of bytes of a take's files, all read with what Python brings along, and nothing else done.

    This is what conversion cannot be much faster than: of a folder every needed file and the head of an image a camera,
    with `open`; of an archive all there is, with `tarfile`. Raises TakeError where that cannot.
    """
    if isinstance(take, FoundArchive):
        try:
            with tarfile.open(take.path) as archive:
                return sum(len(archive.extractfile(member).read()) for member in archive if member.isfile())
        except tarfile.TarError as error:
            raise TakeError(f"{take.path}: {error}; leave it out to measure the others") from error
    return sum(_read(path, size) for path, size in _needed(take.folder))


def forget(take: FoundTake | FoundArchive) -> None:
    """Asks the system to drop a take's files from memory, where it can, so that the next reading is from the disk."""
    paths = [str(take.path)] if isinstance(take, FoundArchive) else [path for path, _ in _needed(take.folder)]
    for path in paths if hasattr(os, "posix_fadvise") else ():
        with open(path, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _needed(folder: Path) -> Iterator[tuple[str, int]]:
    """Paths of what a conversion reads, and of how many bytes at most (-1: all)."""
    for images in source.image_folders(folder):
        for name in fnmatch.filter(sorted(os.listdir(folder / images)), "*.jpg")[:1]:
            yield f"{folder}/{images}/{name}", source.IMAGE_HEAD_BYTES
    for where, names in source.needed_files(folder):
        for name in names:
            yield f"{folder}/{where}/{name}", -1


def _read(path: str, size: int) -> int:
    with open(path, "rb", buffering=0) as file:
        return len(file.read(size))


def _work(take: FoundTake | FoundArchive, scratch: Path, catalogue: Catalogue) -> Work:
    if isinstance(take, FoundArchive):
        read = partial(_read_archive, take, scratch.absolute(), catalogue)
        return Work(take.name, read, str(take.path), partial(_fingerprint_archive, take.path, catalogue))
    files = source.DirectorySource(take.folder)
    fingerprint = partial(_fingerprint_folder, files, take.facts)
    read = partial(read_take, files, take.facts, scratch.absolute())
    return Work(take.name, read, str(take.folder), fingerprint, fingerprint)


def _read_archive(archive: FoundArchive, scratch: Path, catalogue: Catalogue) -> Iterator[schema.Sequence | Outcome]:
    """The takes of an archive one after the other, and outcomes of those that cannot be had."""
    with archives.streamed(archive.path, scratch) as content:
        if not content.takes:
            refused = f"; {content.refusals()}" if content.refused else ""
            message = f"{archive.path}: no take in it, no folder like 001_tagging/processed_data{refused}"
            raise content.cut or TakeError(message)
        for found in content.takes:
            facts = facts_of(found.take_folder, found.scene_folder or archive.path.parent.name, catalogue)
            name = facts.name if facts is not None else f"{archive.name}: {found.take_folder}"
            try:
                if facts is None:
                    raise TakeError(f"{archive.path}: {found.take_folder} lies in no folder named like 01_tagging")
                if content.cut is not None and not found.is_complete:
                    raise content.cut
                sequence = read_take(found.source, facts, scratch)
            except Exception as error:  # whatever one take has, the others in the archive are wanted
                yield conversion.failure(name, str(archive.path), error)
            else:
                sequence.findings += _archive_findings(archive.path, content, found)
                yield sequence


def _archive_findings(path: Path, content: archives.ArchiveContent, found: archives.FoundInArchive) -> list[dict]:
    findings = Findings()
    if content.refused:
        message = (
            f"{path.name}: {content.refusals()}; nothing was written for them. An official archive has none, so get it "
        )
        findings.add("archive.refused", "error", message + "from the authors")
    if found.source.repeated:
        message = f"{path.name} holds {len(found.source.repeated)} files twice, first {found.source.repeated[0]}; "
        findings.add("archive.repeated", "warning", message + "the last copy of each counts")
    if content.cut is not None:
        message = f"{path.name} ends too early, after this take had arrived completely"
        findings.add("archive.cut", "warning", message)
    if content.rest is not None:
        findings.add("archive.rest", "warning", str(content.rest))
    return findings.items


def _fingerprint_archive(path: Path, catalogue: Catalogue) -> str:
    status = path.stat()
    return json.dumps([status.st_size, status.st_mtime_ns, catalogue.model_dump_json()])


def _fingerprint_folder(files: source.DirectorySource, facts: Take) -> str:
    return sha256(f"{facts!r}\n{files.fingerprint()}".encode()).hexdigest()
