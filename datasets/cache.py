"""Whole tracks in memory that all worker processes share, up to a limit."""

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing import Lock

import numpy as np

from finepose_mp.datasets.index import Track
from finepose_mp.datasets.reader import TrackReader

_ALIGNMENT = 64  # bytes
_FRAMES_AT_ONCE = 512  # read at a time: what is made of them on the way stays in the processor's cache
_NOT_PER_FRAME = ("image_size",)


@dataclass(frozen=True)
class _Field:
    """One array of a track: what a frame of it is, and where its block begins in bytes per frame of the track."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    begins: int

    @property
    def size(self) -> int:
        """Bytes of one frame."""
        return self.dtype.itemsize * int(np.prod(self.shape))


class TrackCache:
    """Serves reads of a `TrackReader` from memory while there is room, and from the file beyond it.

    Decompressing a window and finding the rays of its pixels takes longer than copying it, and each epoch asks for the
    same ones. Tracks are kept as they are first asked for and never replaced: windows come in random order, where
    replacing would read whole tracks over and over. The first tracks that fit into the limit have a place.

    Processes that are forked share the memory, so that each track is read once, however many workers there are; it
    takes up room as it is filled. Two that read the same track at the same time both write the same. Pickling leaves
    the contents behind: a spawned worker begins with memory of its own.
    """

    def __init__(self, reader: TrackReader, tracks: Iterable[Track], limit_bytes: int) -> None:
        self._reader = reader
        self._tracks = list(tracks)
        self._limit_bytes = limit_bytes
        self._place()

    def read(self, track: Track, start: int, stop: int) -> dict:
        """Frames start..stop of a track as `TrackReader.read` returns them; the arrays may be views, do not write."""
        number = self._number.get(track.key)
        if number is None:
            return self._reader.read(track, start, stop)
        arrays = self._whole.get(number) or self._whole_track(number, track)
        sample = {name: array[start:stop] for name, array in arrays.items()}
        sample["camera_model"], sample["image_size"] = track.camera_model, np.array(track.image_size)
        return sample

    def __getstate__(self) -> dict:
        return {name: getattr(self, name) for name in ("_reader", "_tracks", "_limit_bytes")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._place()

    def _place(self) -> None:
        """Gives the first tracks that fit a place in memory that is not yet taken up."""
        self._number: dict[str, int] = {}
        self._whole: dict[int, dict[str, np.ndarray]] = {}  # tracks that this process has found to be there
        if not self._tracks or self._limit_bytes <= 0:
            return
        with TrackReader(self._reader.data) as reader:
            self._fields = _fields(reader.read(self._tracks[0], 0, 1))
        of_frame = sum(field.size for field in self._fields)
        ends = np.cumsum([_aligned(of_frame * track.length) for track in self._tracks])
        kept = int(np.searchsorted(ends, self._limit_bytes, side="right"))
        if not kept:
            return
        self._number = {track.key: number for number, track in enumerate(self._tracks[:kept])}
        self._begins = np.concatenate([[0], ends[: kept - 1]]) + _aligned(kept)
        self._memory = mmap.mmap(-1, int(ends[kept - 1]) + _aligned(kept))
        self._is_there = np.frombuffer(self._memory, bool, kept)
        self._lock = Lock()

    def _whole_track(self, number: int, track: Track) -> dict[str, np.ndarray]:
        """The arrays of a track, read from its file where no process has done so before."""
        arrays = self._arrays(number, track)
        with self._lock:  # also makes sure that what another process wrote before is seen here
            is_there = self._is_there[number]
        if not is_there:
            self._fill(number, track, arrays)
        self._whole[number] = arrays
        return arrays

    def _arrays(self, number: int, track: Track) -> dict[str, np.ndarray]:
        begins = int(self._begins[number])
        return {
            field.name: np.frombuffer(
                self._memory,
                field.dtype,
                track.length * int(np.prod(field.shape)),
                begins + track.length * field.begins,
            ).reshape(track.length, *field.shape)
            for field in self._fields
        }

    def _fill(self, number: int, track: Track, arrays: dict[str, np.ndarray]) -> None:
        for start in range(0, track.length, _FRAMES_AT_ONCE):
            stop = min(start + _FRAMES_AT_ONCE, track.length)
            part = self._reader.read(track, start, stop)
            for name, array in arrays.items():
                array[start:stop] = part[name]
        with self._lock:
            self._is_there[number] = True


def _fields(frame: dict) -> list[_Field]:
    """The arrays of a track, largest numbers first, so that every block begins where its numbers may."""
    arrays = {n: a for n, a in frame.items() if isinstance(a, np.ndarray) and n not in _NOT_PER_FRAME}
    fields, begins = [], 0
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize):
        fields.append(_Field(name, array.dtype, array.shape[1:], begins))
        begins += fields[-1].size
    return fields


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
