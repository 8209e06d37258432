"""The whole validation of one file."""

from collections.abc import Callable
from pathlib import Path

import h5py

from finepose_mp import schema
from finepose_mp.skeletons import JointSet
from finepose_mp.validation import attributes, people, rig, root, structure, view_findings, views
from finepose_mp.validation.findings import ERROR, Finding, Findings, Report
from finepose_mp.validation.sequences import Sequences
from finepose_mp.validation.take import DamagedDataError, Take


def validate(path: Path, on_sequence: Callable[[str], None] | None = None) -> Report:
    """What is wrong with a file of the contract, or why it cannot be used at all.

    Memory does not grow with the length of sequences but for a few bytes a frame, person and camera.

    Args:
        path: any file; what is not HDF5, truncated, or of another schema is reported as unusable.
        on_sequence: called with the name of each sequence before it is read, for a progress bar.
    """
    report = Report(Path(path))
    try:
        file = schema.open_file(report.path)
    except (schema.SchemaError, OSError) as error:
        report.unusable = str(error)
        return report
    with file:
        try:
            _check_file(file, report, on_sequence or (lambda name: None))
        except schema.DAMAGE as error:
            report.unusable = (
                f"{path}: damaged, its contents cannot be listed or read ({type(error).__name__}: {error})"
            )
    return report


def _check_file(file: h5py.File, report: Report, on_sequence: Callable[[str], None]) -> None:
    notes = Findings("/")
    joints = root.check_root(file, notes)
    report.findings += notes.items
    names = root.find_sequences(file)
    report.checked["sequences"] = len(names)
    if not names:
        report.unusable = f"{report.path}: no sequence in it; docs/FORMAT.md says how to write one"
    elif joints is None:
        report.unusable = f"{report.path}: no known joint set, so no joint has a meaning; see docs/FORMAT.md"
    if report.unusable:
        return
    together, readable = Sequences(), 0
    for name in names:
        on_sequence(name)
        readable += _check_sequence(file, name, joints, report, together)
    report.findings += together.findings()
    if not readable:
        report.unusable = report.unusable or f"{report.path}: not one of {len(names)} sequences can be read"


def _check_sequence(file: h5py.File, name: str, joints: JointSet, report: Report, together: Sequences) -> bool:
    """Whether the toolkit can read the sequence. Nothing that is odd about it stops the checks of others."""
    notes = Findings(name)
    try:
        take, notes = structure.open_take(file, name, joints)
        if take is not None:
            _check_take(take, report, together)
        return take is not None and structure.is_readable(take)
    except schema.DAMAGE as error:
        _note_damage(report, notes, error)
        return False
    finally:
        report.findings += notes.items


def _check_take(take: Take, report: Report, together: Sequences) -> None:
    report.checked.update(frames=len(take.frame), people=len(take.person), cameras=len(take.camera))
    attributes.check_attributes(take)
    for needs, check in _checks(report, together):
        if not take.has(*needs):
            continue  # what is missing has been named already
        try:
            check(take)
        except schema.DAMAGE as error:
            _note_damage(report, take.notes, error)


def _note_damage(report: Report, notes: Findings, error: Exception) -> None:
    said = str(error)
    if not isinstance(error, DamagedDataError):
        said = f"{notes.group}: cannot be checked ({type(error).__name__}: {error})"
    finding = Finding("damage", ERROR, notes.group, said, "data that can be read")
    if finding not in notes.items:
        notes.items.append(finding)
    report.unusable = report.unusable or f"{report.path}: {said}; convert again, or copy the file again"


def _checks(report: Report, together: Sequences) -> list[tuple[tuple[str, ...], Callable[[Take], None]]]:
    """The checks of a sequence, each with the variables without which it is left out."""

    def check_views(take: Take) -> None:
        report.measured += [view_findings.report(take, view) for view in views.check_views(take)]

    return [
        ((), attributes.check_camera_words),
        (("joints_3d_world", "joint_status"), people.check_people),
        (("world_to_camera",), rig.check_poses),
        (("camera_params", "camera_model", "image_size"), rig.check_lenses),
        (views.NEEDS, check_views),
        ((), together.add),
    ]
