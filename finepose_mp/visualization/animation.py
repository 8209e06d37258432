"""Frames of a sequence as a GIF or MP4, drawn and written one by one."""

from collections.abc import Iterator
from itertools import groupby, repeat
from pathlib import Path

import numpy as np

from finepose_mp.visualization.gif import common_palette, write_gif
from finepose_mp.visualization.stage import PERSON_COLOURS, Stage

ANIMATIONS = (".gif", ".mp4")
PICTURES_A_SECOND = {".gif": 12.5, ".mp4": 30.0}  # at most, unless a step is asked for


class MissingLibraryError(ImportError):
    """What was asked for needs a library that is not installed; the message says how to get it."""


def write_animation(stage: Stage, frames: list[int], fps: float, path: Path) -> None:
    """Writes the frames, `fps` of them a second, in the format of the path's suffix. Memory does not grow with them.

    A frame that comes several times in a row is held, and drawn once.

    Raises:
        MissingLibraryError: MP4 without imageio-ffmpeg.
    """
    if path.suffix == ".mp4":
        _write_mp4(stage, frames, fps, path)
        return
    samples = [frames[i] for i in sorted({0, len(frames) // 3, 2 * len(frames) // 3, len(frames) - 1})]
    palette = common_palette(_pictures(stage, samples), ["#FFFFFF", "#000000", *PERSON_COLOURS])
    with open(path, "wb") as stream:
        write_gif(stream, _pictures(stage, frames), palette, fps)


def _pictures(stage: Stage, frames: list[int]) -> Iterator[np.ndarray]:
    for frame, held in groupby(frames):
        stage.show(frame)
        yield from repeat(stage.picture(), len(list(held)))


def _write_mp4(stage: Stage, frames: list[int], fps: float, path: Path) -> None:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingLibraryError(
            'MP4 needs imageio-ffmpeg: `pip install "finepose_mp[video]"` or `pip install imageio-ffmpeg`; '
            "GIF needs nothing more"
        ) from error
    writer = None
    try:
        for picture in _pictures(stage, frames):
            if writer is None:
                size = (picture.shape[1], picture.shape[0])
                writer = imageio_ffmpeg.write_frames(str(path), size, fps=fps, macro_block_size=2, quality=7)
                writer.send(None)
            writer.send(np.ascontiguousarray(picture))
    finally:
        if writer is not None:
            writer.close()
