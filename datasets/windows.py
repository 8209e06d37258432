"""Windows of tracks as a torch dataset: what training and validation loops iterate over."""

import math
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from finepose_mp.config import DataConfig
from finepose_mp.datasets.augmentation import mirror
from finepose_mp.datasets.cache import TrackCache
from finepose_mp.datasets.index import Track, Windows, evaluation_windows, list_tracks, training_windows
from finepose_mp.datasets.reader import TrackReader
from finepose_mp.datasets.splits import DataError
from finepose_mp.skeletons import joint_set, joint_sources

_PER_FRAME = (
    *("input_2d", "input_px", "input_score", "input_mask", "target_3d", "target_mask", "in_view"),
    *("root_camera", "camera_params", "frame"),
)
_MASKS = ("input_mask", "target_mask", "in_view")


class WindowDataset(Dataset):
    """Windows of N frames of one split in which the person is visible at least once.

    Training windows tile a take centred and may be mirrored at random; the others tile it from frame 0 (see
    `training_windows` and `evaluation_windows`). Samples are a function of (data, split, training, seed, epoch, index):
    neither the number of workers nor the order of access changes them. Frames are read when asked for, and tracks are
    kept in memory, shared by forked workers, up to `cache_bytes` (None: `data.cache_mb`).

    Attributes:
        tracks: the tracks that the windows come from.
        files: (len,) int, position in `data.files` of the file that each window comes from.
        windows_without_person: number of windows left out because the person is out of view all the time.
    """

    def __init__(
        self, data: DataConfig, split: str, training: bool, seed: int = 0, cache_bytes: int | None = None
    ) -> None:
        self.tracks = list_tracks(data, split)
        if training:
            _check_window_fits(data, split, self.tracks)
            _check_joints(data, self.tracks)
            without = kinds_without_keypoints(data, self.tracks)
            if without:
                raise DataError(
                    f"{', '.join(map(str, data.files))}: no keypoint in any window of camera kind "
                    f"{', '.join(sorted(without))} (detected, data.min_score={data.min_score:g}); set "
                    "data.input_2d=projected or choose other camera kinds"
                )
        self._data = data
        self._joints = joint_set(data.joint_set)
        self._seed = seed
        self._mirror_half = training and data.flip
        self._tilings = {track.length: _tiling(track.length, data, training) for track in self.tracks}
        with TrackReader(data) as reader:
            self._items, self.windows_without_person = _visible_items(self.tracks, self._tilings, reader)
        if not len(self._items):
            raise DataError(
                f"split {split}: in none of {self.windows_without_person} windows are data.min_joints_in_view = "
                f"{data.min_joints_in_view} joints of the person in view; lower it, or choose other data.camera_kinds"
            )
        order = {Path(path): number for number, path in enumerate(data.files)}
        self.files = np.array([order[track.file] for track in self.tracks])[self._items[:, 0]]
        self._draws = math.ceil(max(data.sampling_weights or [1.0]))
        cache_bytes = data.cache_mb * 2**20 if cache_bytes is None else cache_bytes
        self._cache = TrackCache(TrackReader(data), self.tracks, cache_bytes)
        # In shared memory, because persistent workers keep the copy of the dataset that they started with.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that seeds and mirroring follow, in running workers too."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict:
        """One window: the arrays of `read_track` as tensors with T = N, and what belongs to the window.

        Padding repeats the take's first or last frame; the masks of `read_track` are False there.
            frame_mask (N,) bool: False in padding.
            score_mask (N,) bool: False where another window gives the frame's prediction, and in padding.
            mirrored (bool), text (the action in words), scene (its title), seed (random bits for the sample), index.

        Where `data.sampling_weights` let an epoch draw a window several times, index i + d * len is the d-th further
        draw of window i: the same frames with other random bits.
        """
        if not 0 <= index < len(self) * self._draws:
            raise IndexError(f"window {index} of {len(self)}")
        track_number, row = self._items[index % len(self)]
        track = self.tracks[track_number]
        sample = self._read(track, self._tilings[track.length], row)
        seed, coin = sample_bits(self._seed, int(self._epoch), index)
        mirrored = self._mirror_half and coin
        if mirrored:
            sample = mirror(sample, self._joints)
        tensors = {name: torch.from_numpy(a) if isinstance(a, np.ndarray) else a for name, a in sample.items()}
        about = {"mirrored": mirrored, "text": track.action, "scene": track.scene, "seed": seed, "index": index}
        return {**tensors, **about}

    def summary(self) -> dict:
        """What the windows are made of, as plain numbers: frame rates in Hz, and windows and joint set of each file."""
        sets = {track.file: track.joint_set for track in self.tracks}
        return {
            "frame_rates_hz": sorted({round(track.fps, 3) for track in self.tracks}),
            "files": {
                str(path): {"joint_set": sets.get(Path(path)), "windows": int((self.files == number).sum())}
                for number, path in enumerate(self._data.files)
            },
        }

    def track_number(self, index: int) -> int:
        """Position in `tracks` of the track that a window comes from."""
        return int(self._items[index % len(self), 0])

    def _read(self, track: Track, windows: Windows, row: int) -> dict:
        frames, frame_mask = windows.frames[row], windows.frame_mask[row]
        start = int(frames[0])
        stored = self._cache.read(track, start, int(frames[-1]) + 1)
        sample = {**stored, "image_size": stored["image_size"].copy()}
        for name in _PER_FRAME:
            sample[name] = stored[name][frames - start]  # a copy, as everywhere here: whoever writes to it may
        for name in _MASKS:
            sample[name] &= frame_mask[:, None]
        sample["camera_params"] = sample["camera_params"].astype(np.float32)
        return {**sample, "frame_mask": frame_mask.copy(), "score_mask": windows.score_mask[row].copy()}


class Batch(dict):
    """A batch by name: tensors (B, ...) and lists of B texts.

    Between processes it travels as bytes through a pipe. Torch would pass a file descriptor for every tensor, which
    takes ten times as long as copying windows of keypoints does, and can run out of descriptors.
    """

    def __reduce__(self) -> tuple:
        return _received, ({k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in self.items()},)


def collate(samples: list[dict]) -> Batch:
    """A batch: tensors stacked to (B, ...), numbers as tensors (B,), texts as lists of B."""
    batch = Batch()
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        if isinstance(first, torch.Tensor):
            batch[name] = torch.stack(values)
        else:
            batch[name] = values if isinstance(first, str) else torch.tensor(values)
    return batch


def _received(arrays: dict) -> Batch:
    return Batch({k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in arrays.items()})


def sample_bits(seed: int, epoch: int, index: int) -> tuple[int, bool]:
    """63 random bits and a coin of one sample: a function of (seed, epoch, index), by NumPy's SeedSequence."""
    bits, coin = np.random.SeedSequence((seed, epoch, index)).generate_state(2, np.uint64)
    return int(bits >> np.uint64(1)), bool(coin & np.uint64(1))


def _tiling(length: int, data: DataConfig, training: bool) -> Windows:
    if training:
        return training_windows(length, data.window, data.train_stride)
    return evaluation_windows(length, data.window)


def _visible_items(tracks: list[Track], tilings: dict[int, Windows], reader: TrackReader) -> tuple[np.ndarray, int]:
    """Windows with a visible frame as (n, 2) pairs of track and row, and how many have none."""
    items, left_out = [], 0
    for number, track in enumerate(tracks):
        seen = reader.visible(track)[tilings[track.length].frames].any(axis=1)
        rows = np.flatnonzero(seen)
        items.append(np.stack([np.full_like(rows, number), rows], axis=1))
        left_out += len(seen) - len(rows)
    return np.concatenate(items), left_out


def kinds_without_keypoints(data: DataConfig, tracks: list[Track]) -> set[str]:
    """Kinds of camera none of whose tracks has a usable keypoint; projected ones are as many as there are targets."""
    if data.input_2d != "detected":
        return set()
    kinds = {track.camera_kind for track in tracks}
    with TrackReader(data) as reader:
        has_some = {
            kind: any(reader.read(track)["input_mask"].any() for track in tracks if track.camera_kind == kind)
            for kind in kinds
        }
    return {kind for kind in kinds if not has_some[kind]}


def _check_window_fits(data: DataConfig, split: str, tracks: list[Track]) -> None:
    longest = max(track.length for track in tracks)
    if data.window > longest:
        raise DataError(
            f"data.window is {data.window} frames, but the longest take of split {split} has {longest}: "
            f"every window would be padded; set data.window to {longest} or less"
        )


def _check_joints(data: DataConfig, tracks: list[Track]) -> None:
    """Refuses sets of detectors (hands, faces) for files of body joints: most of a pose would never be trained."""
    sets = sorted({track.joint_set or data.joint_set for track in tracks})
    known = [any(sources) for sources in zip(*(joint_sources(name, data.joint_set) for name in sets), strict=True)]
    if sum(known) < len(known) / 2:
        raise DataError(
            f"data.joint_set is {data.joint_set}, but files with {' and '.join(sets)} determine {sum(known)} of its "
            f"{len(known)} joints, and the others would never be trained; set it to {' or '.join(sets)}"
        )
