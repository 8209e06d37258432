"""The index of what can be read: tracks of people in cameras, and windows over their frames. Nothing is copied."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from finepose_mp import schema
from finepose_mp.config import DataConfig
from finepose_mp.datasets import timing
from finepose_mp.datasets.joints import conversion
from finepose_mp.datasets.splits import DataError, assert_no_leak, sequence_split, takes_of_split
from finepose_mp.skeletons import JOINT_SETS


@dataclass(frozen=True)
class Track:
    """One person seen by one camera in one take: what a model lifts, and where the file keeps it."""

    file: Path
    sequence: str
    camera: str
    person: str
    camera_index: int
    person_index: int
    length: int  # frames that are read of the take
    scene: str
    camera_kind: str
    camera_model: str
    image_size: tuple[int, int]  # width, height, px
    action: str
    fps: float  # of the frames that are read
    simulated: bool
    joint_set: str | None = None  # of the file; None: that of the model
    step: float = 1.0  # recorded frames for each one that is read; see `datasets.timing`

    def recorded_frames(self, start: int, stop: int) -> np.ndarray:
        """Positions (stop - start,) in the file of the frames start..stop."""
        return timing.recorded_frames(start, stop, self.step)

    @property
    def take(self) -> str:
        """Name of the recording, the same in every file that holds it."""
        return take_name(self.sequence, self.simulated)

    @property
    def key(self) -> str:
        """Identifier that stays the same between runs and files, "take|camera|person"."""
        return f"{self.take}|{self.camera}|{self.person}"


def list_tracks(data: DataConfig, split: str) -> list[Track]:
    """Every person in every wanted camera of one split, sorted by take, camera and person.

    Cameras of other kinds than `data.camera_kinds` and scenes beside `data.scenes` are left out, and so is the wearer
    in their own cameras. Takes are read at `data.frame_rate` where it is given.

    Raises:
        FileNotFoundError, schema.SchemaError: a file is missing or does not keep the contract.
        DataError: a take in two files, an unknown scene, a joint set without the root of the model's, a take recorded
            at a lower rate than asked for, or no track at all; with counts.
    """
    takes = list_takes(data)
    _check_scenes(data, takes)
    in_split = takes_in_split(takes, data, split)
    tracks = tracks_of(in_split, data.camera_kinds)
    if not tracks:
        raise DataError(_nothing_found(data, split, takes, in_split))
    return tracks


@dataclass(frozen=True)
class Take:
    """One recording in one file, with the split that the file states and every track in it."""

    take: str
    file: Path
    scene: str
    split: str
    tracks: tuple[Track, ...]


def list_takes(data: DataConfig) -> list[Take]:
    """Every take of the files, of whichever scene and split, sorted by name. Raises as `list_tracks`."""
    takes: dict[str, Take] = {}
    for path in data.files:
        for take in _takes_of_file(path, data):
            other = takes.setdefault(take.take, take)
            assert_no_leak({other.split: [other], take.split: [take]})
            if other is not take:
                raise DataError(
                    f"take {take.take} is in {other.file} and in {take.file}; list only one of them in data.files"
                )
    return sorted(takes.values(), key=lambda take: take.take)


def takes_of_scenes(takes: list[Take], data: DataConfig) -> list[Take]:
    """Those of `data.scenes`."""
    return [take for take in takes if data.scenes is None or take.scene in data.scenes]


def takes_in_split(takes: list[Take], data: DataConfig, split: str) -> list[Take]:
    """Those of one split among the takes of `data.scenes`, of which alone the official split holds out some.

    Raises DataError: see `splits.takes_of_split`.
    """
    wanted = takes_of_scenes(takes, data)
    stored, file_of = {take.take: take.split for take in wanted}, {take.take: take.file for take in wanted}
    in_split = set(takes_of_split(stored, data.split_scheme, split, file_of=file_of))
    return [take for take in wanted if take.take in in_split]


def tracks_of(takes: list[Take], camera_kinds: Collection[str]) -> list[Track]:
    """Everybody in the cameras of some kinds, in the order of the takes, then by camera and person."""
    return [track for take in takes for track in take.tracks if track.camera_kind in camera_kinds]


def sequence_tracks(path: Path, sequence: str, data: DataConfig) -> list[Track]:
    """Every person in every camera of one sequence, whatever its split, at its own frame rate; by camera and person.

    Raises:
        FileNotFoundError, schema.SchemaError: the file is missing or does not keep the contract.
        DataError: its joints do not have the model's root.
    """
    with schema.open_file(path) as file:
        joints = _joint_set_of(file, path, data)
        return list(_read_take(Path(path), file[sequence], data.split_scheme, joints).tracks)


class Windows(NamedTuple):
    """Windows of N frames over one take; positions count the take's frames from 0."""

    start: np.ndarray  # (n,) int64, position of the first slot; negative where padding comes first
    frames: np.ndarray  # (n, N) int64, position read in every slot; the take's first or last one where padded
    frame_mask: np.ndarray  # (n, N) bool, False in padding
    score_mask: np.ndarray  # (n, N) bool, False where a prediction is not to be counted


def training_windows(length: int, window: int, stride: int | None = None) -> Windows:
    """Windows centred on the take, `stride` frames apart, so that padding is shared between both ends.

    Without a stride they follow each other without overlap and cover every frame once: n = ceil(T / N) windows, the
    first (nN - T) // 2 frames before the take, as in the lifting literature (Pavllo et al. 2019, and FinePOSE). With a
    stride above N there are as many as fit inside the take, and at least one.

    Args:
        length: frames T of the take. window: frames N of a window. stride: frames between windows' starts, default N.
    """
    stride = window if stride is None else stride
    _check_positive(length=length, window=window, stride=stride)
    rest = max(0, length - window)
    count = 1 + (rest // stride if stride > window else -(-rest // stride))
    before = ((count - 1) * stride + window - length) // 2
    return place_windows(np.arange(count) * stride - before, length, window)


def evaluation_windows(length: int, window: int, legacy_overlap: bool = False) -> Windows:
    """Windows from frame 0 without overlap, the last one moved back to end with the take (D3DP, FinePOSE).

    A take shorter than a window is padded at its end.

    Args:
        length: frames T of the take. window: frames N of a window.
        legacy_overlap: count the frames that the last window shares with the one before twice, and padding as if it
            were frames, as the papers' code does. Otherwise `score_mask` marks every frame of the take exactly once.
    """
    _check_positive(length=length, window=window)
    first_new = np.arange(0, length, window)
    windows = place_windows(np.minimum(first_new, max(0, length - window)), length, window)
    if legacy_overlap:
        return windows._replace(score_mask=np.ones_like(windows.score_mask))
    return windows._replace(score_mask=windows.frame_mask & (windows.frames >= first_new[:, None]))


def place_windows(start: np.ndarray, length: int, window: int) -> Windows:
    """Windows of N frames at given positions, edge frames repeated outside the take and masked there."""
    start = np.asarray(start, dtype=np.int64)
    slots = start[:, None] + np.arange(window)
    frames = slots.clip(0, length - 1)
    inside = frames == slots
    return Windows(start, frames, inside, inside)


def _takes_of_file(path: Path, data: DataConfig) -> Iterator[Take]:
    with schema.open_file(path) as file:
        joints = _joint_set_of(file, path, data)
        for name in schema.sequence_names(file):
            try:
                take = _read_take(Path(path), file[name], data.split_scheme, joints)
            except (KeyError, DataError) as error:
                raise schema.SchemaError(f"{path}: {name}: {error.args[0]}; check it with tools/validate.py") from error
            yield replace(take, tracks=tuple(_at_rate(track, data.frame_rate) for track in take.tracks))


def _joint_set_of(file: h5py.File, path: Path, data: DataConfig) -> str:
    found = str(file.attrs.get("joint_set"))
    if found not in JOINT_SETS:
        raise schema.SchemaError(f"{path}: unknown joint set {found!r}; known: {', '.join(JOINT_SETS)}")
    try:
        conversion(found, data.joint_set).check_root()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return found


def _at_rate(track: Track, rate: float | None) -> Track:
    """A track of a whole recording, read at a rate in Hz."""
    try:
        step = timing.frames_per_step(track.fps, rate)
    except ValueError as error:
        raise DataError(f"{track.file}: {track.sequence} is {error}") from error
    if step == 1:
        return track
    return replace(track, length=timing.length_at(track.length, step), fps=track.fps / step, step=step)


def _read_take(path: Path, group: h5py.Group, scheme: str, joints: str) -> Take:
    attributes = dict(group.attrs)
    name, simulated = group.name.strip("/"), bool(attributes["simulated"])
    tracks = []
    cameras = zip(
        *(group[variable].asstr()[...].tolist() for variable in ("camera", "camera_kind", "camera_wearer")),
        group["camera_model"].asstr()[...].tolist(),
        group["image_size"][...].tolist(),
        strict=True,
    )
    for k, (camera, kind, wearer, model, image_size) in enumerate(cameras):
        for p, person in enumerate(group["person"].asstr()[...].tolist()):
            if person == wearer:
                continue
            tracks.append(
                Track(
                    file=path,
                    sequence=name,
                    camera=camera,
                    person=person,
                    camera_index=k,
                    person_index=p,
                    length=len(group["frame"]),
                    scene=attributes["scene"],
                    camera_kind=kind,
                    camera_model=model,
                    image_size=tuple(image_size),
                    action=attributes["action"],
                    fps=float(schema.single(attributes["fps"])),
                    simulated=simulated,
                    joint_set=joints,
                )
            )
    tracks.sort(key=lambda track: (track.camera, track.person))
    split = sequence_split(attributes, scheme)
    return Take(take_name(name, simulated), path, attributes["scene"], split, tuple(tracks))


def take_name(sequence: str, simulated: bool) -> str:
    """The take that a sequence is of; a simulated one may bear the name of the real one that it imitates."""
    return f"simulated:{sequence}" if simulated else sequence


def _check_scenes(data: DataConfig, takes: list[Take]) -> None:
    known = sorted({take.scene for take in takes})
    unknown = sorted(set(data.scenes or ()) - set(known))
    if unknown:
        raise DataError(f"data.scenes: unknown {', '.join(unknown)}; {_names(data)} has {', '.join(known)}")


def _nothing_found(data: DataConfig, split: str, takes: list[Take], in_split: list[Take]) -> str:
    kinds = Counter(track.camera_kind for take in in_split for track in take.tracks)
    splits = Counter(take.split for take in takes)
    return (
        f"no tracks: {_names(data)} has {len(takes)} takes "
        f"({', '.join(f'{count} {name}' for name, count in sorted(splits.items())) or 'none'} in its "
        f"{data.split_scheme} split); {len(in_split)} are in split {split}, with tracks by camera kind "
        f"{dict(sorted(kinds.items()))}; wanted kinds {', '.join(data.camera_kinds)} and "
        f"{'every scene' if data.scenes is None else 'scenes ' + ', '.join(data.scenes)}. "
        "Change data.split_scheme, data.camera_kinds or data.scenes, or add files to data.files"
    )


def _names(data: DataConfig) -> str:
    return ", ".join(str(path) for path in data.files)


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1 frame, found {value}")
