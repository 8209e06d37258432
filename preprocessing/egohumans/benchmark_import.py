"""Benchmark files of EgoHumans, or an external detector's in their form, as the 2D detections of converted takes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from finepose_mp.preprocessing.conversion import Content, Outcome, Work
from finepose_mp.preprocessing.egohumans.benchmark_files import UPRIGHT_BIAS_PX, Benchmark, TakeFiles, score_of
from finepose_mp.preprocessing.findings import Findings
from finepose_mp.schema import Sequence


def with_benchmark(work: Work, folder: Path) -> Work:
    """The same work, its sequences with the benchmark's detections; another benchmark makes another fingerprint."""
    return replace(
        work,
        read=partial(_read_with, work.read, Path(folder)),
        fingerprint=partial(_fingerprint_with, work.fingerprint, Path(folder)),
        fingerprint_read=None,
    )


@lru_cache(maxsize=1)
def _benchmark(folder: Path) -> Benchmark:
    return Benchmark(folder)


def _read_with(read, folder: Path) -> Content:
    content = read()
    return attach(content, _benchmark(folder)) if isinstance(content, Sequence) else _attach_all(content, folder)


def _attach_all(content, folder: Path) -> Iterator[Sequence | Outcome]:
    for item in content:
        yield attach(item, _benchmark(folder)) if isinstance(item, Sequence) else item


def _fingerprint_with(fingerprint, folder: Path) -> str:
    own = fingerprint() if callable(fingerprint) else fingerprint
    status = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in _benchmark(folder).files]
    return sha256(repr((own, status)).encode("utf-8", "surrogateescape")).hexdigest()


def attach(sequence: Sequence, benchmark: Benchmark) -> Sequence:
    """The sequence with the benchmark's keypoints as detections, in the cameras that it has any for.

    Published keypoints of head-worn cameras are moved by `UPRIGHT_BIAS_PX` onto our pixels; invisible ones are none.
    What does not fit the take becomes findings of the sequence.

    Raises: as `Benchmark.take`.
    """
    findings, files = Findings(), benchmark.take(sequence.name)
    if files is None:
        message = f"{benchmark.folder} has nothing about {sequence.name}; it keeps its own detections"
        findings.add("benchmark.absent", "warning", message)
        return replace(sequence, findings=[*sequence.findings, *findings.items])
    pixels, scores = sequence.joints_2d_detected.copy(), sequence.detection_score.copy()
    poses = Counter()
    for k, camera in enumerate(sequence.camera):
        if camera in files.keypoints:
            pixels[k], scores[k], poses[camera] = _detections(sequence, k, files, findings)
    _report(sequence, files, poses, benchmark, findings)
    return replace(
        sequence, joints_2d_detected=pixels, detection_score=scores, findings=[*sequence.findings, *findings.items]
    )


def _detections(sequence: Sequence, k: int, files: TakeFiles, findings: Findings) -> tuple[np.ndarray, np.ndarray, int]:
    """Pixels (T, P, 17, 2), scores (T, P, 17) and the number of poses of one camera."""
    camera = sequence.camera[k]
    pixels = np.full(sequence.joints_2d_detected.shape[1:], np.nan, np.float32)
    scores = np.zeros(pixels.shape[:-1], np.float32)
    place = {int(frame): t for t, frame in enumerate(sequence.frame)}
    bias = UPRIGHT_BIAS_PX if files.is_published and sequence.camera_kind[k] != "exo" else 0.0
    count = 0
    for person, rows in files.keypoints[camera].items():
        if person not in sequence.person or person == sequence.camera_wearer[k]:
            reason = "wears the camera" if person == sequence.camera_wearer[k] else "is no valid person of the take"
            frames = [frame for frame, _ in rows]
            message = f"keypoints of {person} in {camera} ignored: {person} {reason}"
            findings.add("benchmark.ignored", "warning", message, camera=camera, person=person, frames=frames)
            continue
        p = sequence.person.index(person)
        for t, row in ((place[frame], row) for frame, row in rows if frame in place):
            score = score_of(row[:, 2])
            usable = (score > 0) & np.isfinite(row).all(axis=1)
            pixels[t, p] = np.where(usable[:, None], row[:, :2] - [bias, 0], np.nan)
            scores[t, p] = np.where(usable, score, 0)
            count += 1
    return pixels, scores, count


def _report(sequence: Sequence, files: TakeFiles, poses: Counter, benchmark: Benchmark, findings: Findings) -> None:
    what = "published projections" if files.is_published else "detections"
    message = (
        f"{poses.total()} {what} in {len(poses)} cameras from {benchmark.folder} replace the take's own detections"
    )
    findings.add("benchmark.imported", "info", message, found=dict(poses))
    unknown = sorted({key.camera for key in files.images} - set(sequence.camera))
    if unknown:
        message = f"cameras that the take does not have: {', '.join(unknown)}"
        findings.add("benchmark.unknown_camera", "warning", message, found=unknown)
    frames = {key.frame for key in files.images} - set(map(int, sequence.frame))
    if frames:
        message = f"{len(frames)} frames that the take does not have"
        findings.add("benchmark.unknown_frames", "warning", message, frames=frames)
    if files.repeated:
        message = f"{sum(files.repeated.values())} pictures are contained more than once; the first ones are used"
        findings.add("benchmark.repeated", "warning", message, found=dict(files.repeated))
    if files.mismatched:
        message = f"{len(files.mismatched)} identities contradict each other; first: {files.mismatched[0]}"
        findings.add("benchmark.identity", "warning", message)
    if files.damaged:
        findings.add("benchmark.unusable", "warning", f"{files.damaged} annotations name nobody or do not fit")
    empty = len(files.images - files.annotated)
    findings.add("benchmark.empty", "info", f"{empty} of {len(files.images)} pictures have no annotation", found=empty)
