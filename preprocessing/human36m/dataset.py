"""Human3.6M as one HDF5 file: every clip converted on its own, and the counts that the field reports as a check."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from finepose_mp.preprocessing import conversion
from finepose_mp.preprocessing.human36m import detections, facts
from finepose_mp.preprocessing.human36m.archive import Archive, RefusedPoses
from finepose_mp.preprocessing.human36m.calibration import camera_names
from finepose_mp.preprocessing.human36m.clip import ClipJob, read_clip
from finepose_mp.preprocessing.human36m.findings import finding

LICENCE = (
    "Human3.6M, copyright its authors: free of charge for academic use only, to those who accepted its licence at "
    "http://vision.imar.ro/human3.6m; it may not be passed on, and neither may this file"
)
CITATION = (
    "Ionescu, Papava, Olaru, Sminchisescu: Human3.6M: Large Scale Datasets and Predictive Methods for 3D Human Sensing "
    "in Natural Environments. TPAMI 2014. Catalin Ionescu, Fuxin Li, Cristian Sminchisescu: Latent Structured Models "
    "for Human Pose Estimation. ICCV 2011"
)

_LEFT_OUT_BY_COMMUNITY = {"S11": ["Directions"]}


@dataclass(frozen=True)
class Report:
    """What became of a conversion.

    Attributes:
        archive: what was converted.
        outcomes: one for each clip that was there.
    """

    archive: Archive
    outcomes: list[conversion.Outcome]

    @property
    def poses(self) -> dict[str, int]:
        """Split -> poses times four cameras in the file, without S11's Directions, which the field does not count."""
        poses = dict.fromkeys(facts.published_totals(), 0)
        for outcome in self.outcomes:
            subject, _, name = outcome.name.partition("/")
            if outcome.error is None and (subject, name) != facts.UNREADABLE_VIDEO[:2]:
                poses[facts.find_clip(subject, name).split] += outcome.frames * len(camera_names())
        return poses

    @property
    def is_complete(self) -> bool:
        """Whether the file has every pose that the field counts."""
        return self.poses == facts.published_totals()

    def summary(self) -> list[str]:
        """Sentences about what is there and what is missing, for printing."""
        totals = facts.published_totals()
        poses = self.poses
        counts = ", ".join(f"{poses[split]} of {total} {split} poses" for split, total in totals.items())
        verdict = "complete" if self.is_complete else "not complete"
        lines = [f"Human3.6M from {self.archive.kind}, cameras from {self.archive.cameras.source}: {counts}, {verdict}"]
        lines += missing_sentences(self.archive)
        lines += [deviation.message for deviation in self.archive.deviations]
        return lines + self.archive.ignored


def convert(
    archive: Archive,
    out: Path,
    *,
    detection_paths: Iterable[Path] = (),
    correct_shift: bool = False,
    jobs: int | None = 1,
    resume: bool = False,
    overwrite: bool = False,
    on_done: Callable[[conversion.Outcome], None] | None = None,
) -> Report:
    """What became of every clip; the good ones are in the file `out`, which appears when all are done.

    Args:
        archive: from `find_archive`.
        detection_paths: data_2d_h36m_*.npz or a tree with StackedHourglass; the first that has a clip counts.
        correct_shift: take the 200 mm out of the three shifted takes of S9.
        jobs, resume, overwrite: as in `conversion.convert`.
        on_done: called with each outcome, for a progress bar.

    Raises:
        RawDataError: no such detections, or not those of Human3.6M.
        UnsafeFileError: an archive would run code.
        FileExistsError, ConversionError: as `conversion.convert` says.
    """
    sources = [detections.open_source(Path(path)) for path in detection_paths]
    outcomes = conversion.convert(
        _work(archive, sources, correct_shift),
        out,
        dataset="human36m",
        joint_set=facts.JOINT_SET,
        licence=LICENCE,
        citation=CITATION,
        jobs=jobs,
        resume=resume,
        overwrite=overwrite,
        on_done=on_done,
    )
    return Report(archive, outcomes)


def missing_sentences(archive: Archive) -> list[str]:
    """What of the published clips is not in the archive, subject by subject; empty when all is there."""
    sentences = []
    for subject, names in archive.missing().items():
        total = len(facts.clips()[subject])
        which = f"all {total} clips" if len(names) == total else f"{len(names)} of {total} clips: {', '.join(names)}"
        note = " (left out of the community's archives)" if _LEFT_OUT_BY_COMMUNITY.get(subject) == names else ""
        sentences.append(f"missing of {subject}: {which}{note}")
    return sentences


def _work(
    archive: Archive, sources: list[detections.DetectionSource], correct_shift: bool
) -> Iterator[conversion.Work]:
    about_archive = _archive_findings(archive)
    constant = [archive.cameras.source_files, archive.simulated, correct_shift, *(s.fingerprint() for s in sources)]
    for (subject, name), poses in archive.poses.items():
        clip = facts.find_clip(subject, name)
        if clip is None or isinstance(poses, RefusedPoses):
            yield conversion.Work(f"{subject}/{name}", poses.read, poses.location, poses.fingerprint())
            continue
        found = tuple(filter(None, (source.of_clip(clip) for source in sources)))
        findings = [*about_archive, *_camera_findings(archive, subject)]
        if sources and not found:
            message = f"no detections of {clip.sequence} in {', '.join(source.location for source in sources)}"
            findings.append(finding("detections.absent", "warning", message))
        job = ClipJob(clip, poses, archive.cameras, found, correct_shift, archive.simulated, tuple(findings))
        inputs = json.dumps([poses.fingerprint(), findings, *constant])
        yield conversion.Work(clip.sequence, partial(read_clip, job), poses.location, inputs)


def _archive_findings(archive: Archive) -> list[dict]:
    absent = archive.missing()
    if not absent:
        return []
    counts = ", ".join(f"{subject} {len(names)}" for subject, names in absent.items())
    total = sum(len(names) for names in facts.clips().values())
    message = f"{sum(map(len, absent.values()))} of {total} published clips are not in the archive: {counts}"
    severity = "info" if absent == _LEFT_OUT_BY_COMMUNITY else "warning"
    return [finding("completeness", severity, message, found=absent)]


def _camera_findings(archive: Archive, subject: str) -> list[dict]:
    return [
        finding("calibration.table", "warning", deviation.message, camera=deviation.camera)
        for deviation in archive.deviations
        if deviation.subject == subject
    ]
