"""Writes poses in the chosen formats into a folder, with a file that says what is in them."""

import json
import re
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path

import numpy as np

from finepose_mp.export.bvh import write_bvh
from finepose_mp.export.gltf import write_glb
from finepose_mp.export.poses import ExportError, Poses
from finepose_mp.export.rig import fit_rig
from finepose_mp.export.tables import write_csv, write_npz, write_trc
from finepose_mp.files import appearing, check_free

FORMATS = ("csv", "npz", "glb", "bvh", "trc")
_OF_ONE_PERSON = ("bvh", "trc")


def export_poses(poses: Poses, folder: Path, formats: list[str], overwrite: bool = False) -> list[Path]:
    """Paths of the files written: <sequence>.csv, .npz and .glb, and <sequence>_<person>.bvh and .trc.

    People whose names would give the same file are numbered. <sequence>_export.json beside them says units, axes, rate
    and, for BVH, what had to be filled in and how far its bones of constant length are from the joints.

    Raises:
        ExportError: an unknown format, or BVH of people whose hips are never there.
        FileExistsError: a file is there already and `overwrite` is false; then nothing is written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ExportError(f"unknown format {', '.join(unknown) or 'none'}; known: {', '.join(FORMATS)}")
    folder = Path(folder)
    stem, people = _safe(poses.sequence), _file_names(poses.person)
    jobs: dict[Path, Callable[[Path], object]] = {}
    about = _describe(poses, people)
    for name in formats:
        if name in _OF_ONE_PERSON:
            for person in _with_root(poses, about) if name == "bvh" else poses.present:
                path = folder / f"{stem}_{people[person]}.{name}"
                jobs[path] = _job(path, poses, person, about)
        else:
            path = folder / f"{stem}.{name}"
            jobs[path] = _job(path, poses, None, about)
    described = folder / f"{stem}_export.json"
    check_free(*jobs, described, overwrite=overwrite)
    for path, write in jobs.items():
        with appearing(path, overwrite) as partial:
            write(partial)
    if set(_OF_ONE_PERSON) & set(formats):  # at regular times, whatever frames the source has
        rows, rate = poses.at_regular_times(poses.frame.astype(float))
        about["bvh, trc"] = {"fps": rate, "frames": len(rows)}
    about["files"] = [path.name for path in jobs]
    with appearing(described, overwrite) as partial:
        partial.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return [*jobs, described]


def _job(final: Path, poses: Poses, person: int | None, about: dict) -> Callable[[Path], object]:
    """What writes the file `final` to the path that it has for the time being."""
    if final.suffix == ".csv":
        return lambda path: write_csv(poses, path)
    if final.suffix == ".npz":
        return lambda path: write_npz(poses, path)
    if final.suffix == ".glb":
        return lambda path: write_glb(poses, path)
    if final.suffix == ".trc":
        return lambda path: write_trc(poses, person, path, final.name)
    return lambda path: _write_person_bvh(poses, person, about, path)


def _write_person_bvh(poses: Poses, person: int, about: dict, path: Path) -> None:
    points, frames_per_second = poses.at_regular_times(poses.points_y_up[:, person])
    filled, gaps = fill_gaps(points)
    rig = fit_rig(filled, poses.joints)
    write_bvh(rig, frames_per_second, path)
    reached = rig.joint_positions()
    error = np.linalg.norm(np.stack([reached[n] for n in poses.joints.joints], axis=1) - points, axis=-1)
    about.setdefault("bvh", {})[poses.person[person]] = {
        "joints_filled_in": gaps,
        "distance_from_joints_mm": {
            "mean": round(float(np.nanmean(error)) * 1000, 3),
            "largest": round(float(np.nanmax(error)) * 1000, 3),
        },
    }


def _with_root(poses: Poses, about: dict) -> list[int]:
    """People whose hips are seen at least once; the others cannot be BVH, and `about` says so."""
    roots = np.array(poses.joints.root_joints)
    known = np.isfinite(poses.points[:, :, roots]).all(axis=-1).any(axis=0).all(axis=-1)
    people = [person for person in poses.present if known[person]]
    if not people:
        raise ExportError(f"{poses.sequence}: nobody's hips are in any frame, so there is no root for BVH; export glb")
    about["bvh_left_out_for_want_of_hips"] = [poses.person[p] for p in poses.present if not known[p]]
    return people


def fill_gaps(points: np.ndarray) -> tuple[np.ndarray, int]:
    """Points (T, J, 3) with gaps in time filled, and how many joints that were.

    Linearly between the frames around a gap, and by the nearest frame at the ends. Joints never there stay NaN.
    """
    filled, gaps = points.copy(), 0
    frames = np.arange(len(points))
    for j in range(points.shape[1]):
        known = np.isfinite(points[:, j]).all(axis=-1)
        if not known.any() or known.all():
            continue
        gaps += int((~known).sum())
        for axis in range(3):
            filled[:, j, axis] = np.interp(frames, frames[known], points[known, j, axis])
    return filled, gaps


def _describe(poses: Poses, file_names: list[str]) -> dict:
    return {
        "sequence": poses.sequence,
        "variable": poses.variable,
        "people": [poses.person[person] for person in poses.present],
        "people_in_file_names": [file_names[person] for person in poses.present],
        "people_without_any_pose": [name for p, name in enumerate(poses.person) if p not in poses.present],
        "frames": len(poses.frame),
        "first_frame": int(poses.frame[0]),
        "fps": poses.fps,
        "units": "metres",
        "axes": {
            "csv, npz": f"{poses.up} up, as in the file: {poses.coordinate_frame}",
            "glb, bvh, trc": "+y up, right-handed, turned from the above about the x axis for +z and -y up",
        },
        "bvh_rotations": "R = Rz Rx Ry in degrees; each bone by the shortest turn from its parent, twist 0",
        "joint_set": poses.joints.name,
        **({"prediction": poses.prediction} if poses.prediction else {}),
    }


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("_")


def _file_names(people: list[str]) -> list[str]:
    """Each person's name as part of a file name, numbered from 2 where somebody before has it.

    Capitals make no difference: on some disks they are none between file names either.
    """
    names, taken = [], set()
    for person in people:
        plain = _safe(person)
        numbered = (f"{plain}_{number}" for number in count(2))
        name = next(name for name in chain([plain], numbered) if name.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names
