"""The community's npz files of MPI-INF-3DHP: P-STMO's, and the "ori" ones of D3DP and FinePOSE.

`data_train_3dhp*.npz` and `data_test_3dhp*.npz` hold one pickled dictionary. P-STMO's 3D is univ_annot3, that of the
"ori" files annot3; which of them it is shows in whether it projects onto its own 2D, not in the name.
"""

import re
import zipfile
from pathlib import Path

import numpy as np

from finepose_mp.preprocessing.findings import Findings
from finepose_mp.preprocessing.mpi_inf_3dhp import annotations as official
from finepose_mp.preprocessing.mpi_inf_3dhp import checks, facts
from finepose_mp.preprocessing.mpi_inf_3dhp.annotations import Annotations
from finepose_mp.preprocessing.mpi_inf_3dhp.calibration import Pinhole, builtin_training
from finepose_mp.preprocessing.unpickling import DamagedFileError, load_npy

_MEMBER = "data.npy"
_LARGEST = 8 * 2**30  # bytes; the training file has less than one tenth of that
_TRAINING_KEY = re.compile(r"(S[1-8]) (Seq[12])")
_METRES = 1e-3  # in a millimetre


def read_entries(path: Path) -> dict[str, object]:
    """Sequence ("S1/Seq1", "TS1") -> what a file holds of it.

    Raises:
        DamagedFileError: not such a file. UnsafeFileError: a pickle that would run code.
    """
    content = load_npy(_member(path), f"{path}: {_MEMBER}")
    content = content.item() if content.shape == () else None
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path}: expected one dictionary of sequences, as P-STMO's scripts write")
    entries = {}
    for key, entry in content.items():
        match = _TRAINING_KEY.fullmatch(str(key))
        name = "/".join(match.groups()) if match else str(key)
        if name not in facts.TRAINING and name not in facts.TEST:
            raise DamagedFileError(f"{path}: sequence {key!r}, expected 'S1 Seq1' to 'S8 Seq2' or TS1 to TS6")
        entries[name] = entry
    return entries


def read_sequence(
    entries: dict[Path, object], sequence: str, wanted: tuple[int, ...], findings: Findings
) -> Annotations:
    """One sequence out of one file, or out of the metric and the universal one together.

    Args:
        entries: file -> what it holds of the sequence.
        sequence: "S1/Seq1" or "TS1".
        wanted: camera numbers of a training sequence.
        findings: grows by what is odd.

    Raises:
        DamagedFileError: a file is damaged, its 3D fits its 2D neither as annot3 nor as univ_annot3, or two files
            have the same kind of poses or different lengths.
    """
    parts = {}
    for path, entry in entries.items():
        part = _read_one(path, entry, sequence, wanted, findings)
        kind = "metric" if part.universal is None else "universal"
        if kind in parts:
            raise DamagedFileError(
                f"{path}: {sequence} has {kind} poses, and so has {parts[kind][0]}; keep one of the two files"
            )
        parts[kind] = path, part
    if len(parts) == 1:
        [(_, part)] = parts.values()
        if part.metric is not None and part.universal is not None:
            findings.add(
                "universal.only",
                "info",
                "the source has univ_annot3 alone; joints_3d_world is it with the scaling undone, which projects onto "
                "the 2D of every joint",
            )
        return part
    (first, metric), (second, universal) = parts["metric"], parts["universal"]
    if metric.pixels.shape != universal.pixels.shape:
        raise DamagedFileError(
            f"{sequence}: {first} has {metric.pixels.shape[:2]} cameras and frames, {second} "
            f"{universal.pixels.shape[:2]}; take both from one source"
        )
    return Annotations(
        metric.camera, metric.frame, metric.pixels, metric.metric, universal.universal, metric.valid_frame
    )


def _read_one(path: Path, entry: object, sequence: str, wanted: tuple[int, ...], findings: Findings) -> Annotations:
    where = f"{path}: {sequence}"
    if sequence in facts.TEST:
        return _read_test(entry, sequence, where, findings)
    views, rate = _training_entry(entry, where)
    if rate != facts.TRAINING[sequence].fps:
        message = f"{path.name} says {rate:g} frames a second, the recording has {facts.TRAINING[sequence].fps:g}"
        findings.add("fps.disagreement", "warning", message)
    camera = [number for number in wanted if str(number) in views and number in builtin_training()]
    if not camera:
        raise DamagedFileError(f"{where}: has cameras {', '.join(views)}, none of the wanted {list(wanted)}")
    arrays = [_arrays(views[str(number)], f"{where}: camera {number}") for number in camera]
    if len({len(poses) for _, poses in arrays}) > 1:
        raise DamagedFileError(f"{where}: cameras have {sorted({len(poses) for _, poses in arrays})} frames, not alike")
    length = official.training_length(sequence, len(arrays[0][0]), findings)
    pixels, poses = (np.stack([array[i][:length] for array in arrays]) for i in range(2))
    rig = [builtin_training()[number] for number in camera]
    metric, universal = _sort_kinds(poses, pixels, rig, where, findings)
    return Annotations(camera, np.arange(length), pixels, metric, universal)


def _read_test(entry: object, sequence: str, where: str, findings: Findings) -> Annotations:
    pixels, poses = _arrays(entry, where)
    valid = np.asarray(entry.get("valid")).ravel()
    if valid.dtype.kind not in "biuf" or len(valid) != len(poses):
        raise DamagedFileError(f"{where}: valid is not one number for each of {len(poses)} frames")
    valid = valid != 0
    official.check_test_length(where, sequence, len(valid), int(valid.sum()), findings)
    metric, universal = _sort_kinds(
        poses[None], pixels[None], [checks.known_camera(sequence, poses, pixels)], where, findings
    )
    return Annotations([0], np.arange(1, len(valid) + 1), pixels[None], metric, universal, valid)


def _sort_kinds(
    poses: np.ndarray, pixels: np.ndarray, rig: list[Pinhole], where: str, findings: Findings
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Poses (K, T, J, 3) as (metric, None), (metric, universal) or (None, universal), by what projects onto the pixels.

    The pelvis is where it was recorded in both; the other joints of universal poses are not. Where one factor about the
    pelvis brings all of them onto their pixels, that is the recorded pose; legs of TS6 have factors of their own.
    """
    if all(checks.median_residual(poses[k], pixels[k], camera) < checks.FITS for k, camera in enumerate(rig)):
        return poses, None
    pelvis = [checks.pelvis_residual(poses[k], pixels[k], camera) for k, camera in enumerate(rig)]
    if max(pelvis) > checks.FITS:
        raise DamagedFileError(
            f"{where}: its 3D projects onto its 2D neither as it is (annot3) nor in its pelvis alone (univ_annot3) "
            f"through the known cameras, {max(pelvis):.1f} px off; the sequences or cameras are mixed up"
        )
    scales = [checks.universal_scale(poses[k], pixels[k], camera) for k, camera in enumerate(rig)]
    if None in scales:
        findings.add("universal.scale", "warning", "univ_annot3 is not the recorded body scaled as a whole")
        return None, poses
    scale = np.mean(scales)
    findings.add("universal.scale", "info", f"univ_annot3 is {scale:.6f} times the recorded body, about the pelvis")
    recorded = checks.without_scale(poses, scale)
    if all(checks.fits_everywhere(recorded[k], pixels[k], camera) for k, camera in enumerate(rig)):
        return recorded, poses
    return None, poses


def _training_entry(entry: object, where: str) -> tuple[dict, float]:
    is_pair = isinstance(entry, (list, tuple, np.ndarray)) and len(entry) == 2
    if not is_pair or not isinstance(entry[0], dict):
        raise DamagedFileError(f"{where}: expected a list of cameras and frame rate, found {type(entry).__name__}")
    return {str(number): view for number, view in entry[0].items()}, float(entry[1])


def _arrays(view: object, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (T, 17, 2) and poses (T, 17, 3) in metres."""
    found = []
    for name, size in (("data_2d", 2), ("data_3d", 3)):
        array = np.asarray(view.get(name) if isinstance(view, dict) else None)
        if array.dtype.kind not in "iuf" or array.ndim != 3 or array.shape[1:] != (len(facts.JOINTS_OF_28), size):
            raise DamagedFileError(f"{where}: {name} is {array.dtype} {array.shape}, expected (frames, 17, {size})")
        found.append(array.astype(np.float64))
    if len(found[0]) != len(found[1]):
        raise DamagedFileError(f"{where}: {len(found[0])} frames of 2D, {len(found[1])} of 3D")
    return found[0], found[1] * _METRES


def _member(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if _MEMBER not in names:
                raise DamagedFileError(f"{path}: no array 'data'; it has {', '.join(names[:8]) or 'nothing'}")
            size = archive.getinfo(_MEMBER).file_size
            if size > _LARGEST:
                raise DamagedFileError(
                    f"{path}: claims {size} bytes, more than any file of this dataset; do not use it"
                )
            return archive.read(_MEMBER)
    except zipfile.BadZipFile as error:
        start = Path(path).open("rb").read(16)
        raise DamagedFileError(
            f"{path}: not a complete npz ({error}); it starts with {start!r}. A web page or half a download: "
            "download it again"
        ) from error
