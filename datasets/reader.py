"""Reads frames of a track from its file: model input, target and the camera, with masks."""

import os
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np

from finepose_mp import cameras, schema
from finepose_mp.config import DataConfig
from finepose_mp.datasets.index import Track
from finepose_mp.datasets.joints import conversion
from finepose_mp.skeletons import joint_set

Arrays = dict[str, np.ndarray]

_OPEN_SEQUENCES = 512  # sequences whose variables stay open; each costs some kilobytes
_INPUT_VARIABLES = {"detected": ("joints_2d_detected", "detection_score"), "projected": ("joints_2d_projected",)}
_COMMON_VARIABLES = ("frame", "joints_3d_world", "joint_status", "world_to_camera", "camera_params", "in_view")


def read_track(track: Track, data: DataConfig, start: int = 0, stop: int | None = None) -> dict[str, np.ndarray | str]:
    """What a model sees of a track in frames start..stop, T = stop - start of them.

    Joints are those of `data.joint_set`, converted where the file has others (see `datasets.joints`), and frames those
    of `data.frame_rate` (see `datasets.timing`).

    Returns a dict of numpy arrays. Masks are True where usable, and values are 0 where their mask is False.
        input_2d (T, J, 2) f4: rays (x/z, y/z) through the true lens, or screen coordinates, by `data.coordinates`.
        input_px (T, J, 2) f4, px; input_score (T, J) f4: as in the file; 1 for projected joints.
        input_mask (T, J) bool: detected with at least `data.min_score` (or projected into view), and within the range
            of the lens model where rays are asked for.
        target_3d (T, J, 3) f4, m: camera frame of the stored upright image, root-relative.
        target_mask (T, J) bool: the joint and every root joint were observed (or interpolated, where
            `data.include_interpolated`), and the person is visible: `data.min_joints_in_view` joints are in view.
        in_view (T, J) bool.
        root_camera (T, 3) f4, m: the root in the camera frame; ground truth, for oracle numbers only. 0 where unknown.
        camera_params (T, 15) f8, NaN beyond the model's parameters; camera_model str; image_size (2,) int, px.
        frame (T,) i4: frame numbers of the source, divided by the recorded frames that one read frame stands for.

    Raises:
        ValueError: frames beyond the take.
        schema.SchemaError: the file is damaged, or another than the one that was indexed.
    """
    with TrackReader(data) as reader:
        return reader.read(track, start, stop)


class TrackReader:
    """Reads tracks under one configuration, and keeps files open between reads.

    Every process opens the files for itself when it first reads, so that a reader may be pickled and forked.
    """

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._joints = joint_set(data.joint_set)
        self._reset()

    @property
    def data(self) -> DataConfig:
        """The configuration that tracks are read under."""
        return self._data

    def __enter__(self) -> "TrackReader":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __getstate__(self) -> dict:
        return {"_data": self._data, "_joints": self._joints}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._reset()

    def close(self) -> None:
        """Closes the files that this process opened; the next read opens them again."""
        if self._process == os.getpid():
            for file in self._files.values():
                file.close()
        self._reset()

    def read(self, track: Track, start: int = 0, stop: int | None = None) -> dict[str, np.ndarray | str]:
        """Frames start..stop of a track; see `read_track`."""
        stop = track.length if stop is None else stop
        if not 0 <= start < stop <= track.length:
            raise ValueError(f"{track.key}: frames {start}..{stop} are not within its {track.length} frames")
        names = (*_COMMON_VARIABLES, *_INPUT_VARIABLES[self._data.input_2d])
        stored = {name: self._read_variable(track, name, start, stop) for name in names}
        return {
            **self._input(track, stored),
            **self._target(stored),
            "in_view": stored["in_view"].astype(bool),
            "camera_params": stored["camera_params"],
            "camera_model": track.camera_model,
            "image_size": np.array(track.image_size),
            "frame": _frame_numbers(track, stored["frame"], start, stop),
        }

    def read_scene(self, track: Track) -> Arrays:
        """What scoring needs beside `read`, for all frames of a track.

        joint_status (T, J) u1 as in the schema, joints_3d_world (T, J, 3) f4, metres, and world_to_camera (T, 3, 4) f8,
        metres, NaN where unknown.
        """
        names = ("joint_status", "joints_3d_world", "world_to_camera")
        return {name: self._read_variable(track, name, 0, track.length) for name in names}

    def visible(self, track: Track) -> np.ndarray:
        """(T,) bool: frames with at least `data.min_joints_in_view` joints of the person in view."""
        return self._visible(self._read_variable(track, "in_view", 0, track.length))

    def _visible(self, in_view: np.ndarray) -> np.ndarray:
        return in_view.sum(axis=-1) >= self._data.min_joints_in_view

    def _input(self, track: Track, stored: Arrays) -> Arrays:
        if self._data.input_2d == "detected":
            pixels, score = stored["joints_2d_detected"], stored["detection_score"]
            usable = (score >= self._data.min_score) & _finite(pixels)
        else:
            pixels = stored["joints_2d_projected"]
            usable = _finite(pixels)
            score = usable.astype(np.float32)
        if self._data.coordinates == "rays":
            points = _rays(pixels, usable, track.camera_model, stored["camera_params"])
            usable = usable & _finite(points)
        else:
            points = cameras.normalize_screen(pixels, track.image_size)
        return {
            "input_2d": _zero_unless(usable[..., None], points),
            "input_px": _zero_unless(usable[..., None], pixels),
            "input_score": _zero_unless(usable, score),
            "input_mask": usable,
        }

    def _target(self, stored: Arrays) -> Arrays:
        observed = stored["joint_status"] == schema.OBSERVED
        if self._data.include_interpolated:
            observed |= stored["joint_status"] == schema.INTERPOLATED
        root_known = observed[:, self._joints.root_joints].all(axis=-1)
        mask = observed & (root_known & self._visible(stored["in_view"]))[:, None]
        world = stored["joints_3d_world"].astype(np.float64)
        root_world = self._joints.root(world)
        rotation, translation = stored["world_to_camera"][..., :3], stored["world_to_camera"][..., 3]
        target = (world - root_world[:, None]) @ rotation.swapaxes(-1, -2)
        root_camera = (rotation @ root_world[..., None])[..., 0] + translation
        return {
            "target_3d": _zero_unless(mask[..., None], target),
            "target_mask": mask,
            "root_camera": _zero_unless(root_known[:, None], root_camera),
        }

    def _read_variable(self, track: Track, name: str, start: int, stop: int) -> np.ndarray:
        """Frames start..stop of a variable, of the track's camera and person alone, in the joints of the model."""
        if track.step == 1:
            values = self._read_stored(track, name, start, stop)
        else:
            frames = track.recorded_frames(start, stop)
            values = self._read_stored(track, name, int(frames[0]), int(frames[-1]) + 1)[frames - frames[0]]
        return conversion(track.joint_set or self._data.joint_set, self._data.joint_set)(name, values)

    def _read_stored(self, track: Track, name: str, start: int, stop: int) -> np.ndarray:
        """Recorded frames start..stop of a variable."""
        variables = self._variables(track)
        place = {"frame": slice(start, stop), "camera": track.camera_index, "person": track.person_index}
        dims = ("frame",) if name == "frame" else schema.VARIABLES[name].dims
        try:
            return variables[name][tuple(place[dim] for dim in dims if dim in place)]
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise schema.SchemaError(
                f"{track.file}: {track.sequence}/{name} cannot be read in frames {start}..{stop} ({error}); "
                "the file is damaged or was replaced meanwhile, convert again"
            ) from error

    def _variables(self, track: Track) -> dict[str, h5py.Dataset]:
        """The track's sequence, opened by this process."""
        if self._process != os.getpid():
            # Handles of the parent of a fork stay untouched: closing them here would release the parent's file lock.
            self._inherited = self._files, self._sequences
            self._reset()
        key = track.file, track.sequence
        variables = self._sequences.get(key)
        if variables is None:
            if track.file not in self._files:
                self._files[track.file] = schema.open_file(track.file)
            variables = self._sequences[key] = _open_variables(self._files[track.file], track.sequence)
            if len(self._sequences) > _OPEN_SEQUENCES:
                self._sequences.popitem(last=False)
        return variables

    def _reset(self) -> None:
        self._process = os.getpid()
        self._files: dict[Path, h5py.File] = {}
        self._sequences: OrderedDict[tuple[Path, str], dict[str, h5py.Dataset]] = OrderedDict()


def _rays(pixels: np.ndarray, usable: np.ndarray, model: str, params: np.ndarray) -> np.ndarray:
    """Rays (T, J, 2) of usable pixels, NaN where the lens model has none; frames without any are not computed."""
    frames = usable.any(axis=-1)
    if not frames.any():
        return np.full(pixels.shape, np.nan)
    if not frames.all():
        rays = np.full(pixels.shape, np.nan)
        rays[frames] = _rays(pixels[frames], usable[frames], model, params[frames])
        return rays
    names = cameras.lens_model(model).parameter_names
    if (params[1:, : len(names)] == params[0, : len(names)]).all():  # a lens that stays as it is
        params = params[:1]
    return cameras.unproject(pixels, model, params[:, None])


def _frame_numbers(track: Track, recorded: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Numbers of the frames start..stop that count what is read: consecutive frames differ by 1, gaps stay gaps."""
    if track.step == 1:
        return recorded
    skipped = recorded - track.recorded_frames(start, stop)  # frames that the source left out before each
    return (np.arange(start, stop) + np.round(skipped / track.step)).astype(recorded.dtype)


def _finite(points: np.ndarray) -> np.ndarray:
    """(...) bool of points (..., 2), several times faster than a reduction over so short an axis."""
    return np.isfinite(points[..., 0]) & np.isfinite(points[..., 1])


def _zero_unless(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    if not mask.all():
        values = np.where(mask, values, 0)
    return values.astype(np.float32)  # a copy


def _open_variables(file: h5py.File, sequence: str) -> dict[str, h5py.Dataset]:
    """Variables of a sequence by name, without HDF5's chunk cache.

    Windows come in random order over all takes, where that cache rarely hits but would grow by up to a megabyte for
    each variable of each take.
    """
    if sequence not in file:
        raise schema.SchemaError(f"{file.filename}: no sequence {sequence}; the file was replaced since it was indexed")
    group = file[sequence]
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(0, 0, 0.0)
    names = ("frame", *schema.VARIABLES)
    # Read-only datasets keep what h5py otherwise asks HDF5 for in every read.
    return {
        name: h5py.Dataset(h5py.h5d.open(group.id, name.encode(), access), readonly=True)
        for name in names
        if name in group
    }
