"""Whole tracks in memory, up to a limit."""

import numpy as np

from finepose_mp.datasets.index import Track
from finepose_mp.datasets.reader import TrackReader


class TrackCache:
    """Serves reads of a `TrackReader` from memory while there is room, and from the file beyond it.

    Finding the ray of a fisheye pixel takes longer than reading it, and each epoch asks for the same ones. Tracks
    are kept as they are first asked for and never replaced: windows come in random order, where replacing would read
    whole tracks over and over. Pickling leaves the contents behind.
    """

    def __init__(self, reader: TrackReader, limit_bytes: int) -> None:
        self._reader = reader
        self._limit_bytes = limit_bytes
        self._forget()

    def read(self, track: Track, start: int, stop: int) -> dict:
        """Frames start..stop of a track as `TrackReader.read` returns them; the arrays may be views, do not write."""
        whole = self._whole(track)
        if whole is None:
            return self._reader.read(track, start, stop)
        return {name: value[start:stop] if _is_per_frame(name, value) else value for name, value in whole.items()}

    def __getstate__(self) -> dict:
        return {"_reader": self._reader, "_limit_bytes": self._limit_bytes}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget()

    def _whole(self, track: Track) -> dict | None:
        whole = self._tracks.get(track.key)
        if whole is None and not self._is_full:
            whole = self._reader.read(track)
            size = sum(value.nbytes for value in whole.values() if isinstance(value, np.ndarray))
            self._is_full = self._bytes + size > self._limit_bytes
            if self._is_full:
                return None
            self._bytes += size
            self._tracks[track.key] = whole
        return whole

    def _forget(self) -> None:
        self._tracks: dict[str, dict] = {}
        self._bytes = 0
        self._is_full = False


def _is_per_frame(name: str, value: object) -> bool:
    return isinstance(value, np.ndarray) and name != "image_size"
