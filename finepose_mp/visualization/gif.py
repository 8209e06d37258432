"""Animated GIF written picture by picture, so that memory does not grow with its length."""

from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image, ImageColor

_UNCHANGED = 255  # index of the transparent colour: what was there before shows through
_COLOURS = 255
_NEAR = 8  # of 255


def write_gif(stream: BinaryIO, pictures: Iterable[np.ndarray], palette: Image.Image, fps: float) -> None:
    """Writes pictures (height, width, 3), all of one size, repeating for ever; only what changes is stored.

    Args:
        stream: open for writing.
        pictures: colours from 0 to 255.
        palette: of `common_palette`.
        fps: pictures a second. GIF counts in hundredths of a second, so single pictures last a little longer or
            shorter; the sum is right.
    """
    previous = None
    for number, picture in enumerate(pictures):
        indices = np.asarray(Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE))
        if previous is None:
            first = _indexed(indices, palette)
            stream.writelines(GifImagePlugin.getheader(first, info={"loop": 0})[0])
        hundredths = round((number + 1) * 100 / fps) - round(number * 100 / fps)
        top, left, changed = _changes(indices, previous)
        part = _indexed(changed, palette)
        timing = {"duration": max(hundredths, 1) * 10, "disposal": 1, "transparency": _UNCHANGED}
        stream.writelines(GifImagePlugin.getdata(part, offset=(left, top), **timing))
        previous = indices
    stream.write(b";")


def common_palette(pictures: Iterable[np.ndarray], certain: list[str]) -> Image.Image:
    """An image whose palette suits the pictures (height, width, 3); the `certain` colours ("#0072B2") are in it.

    A colour of few pixels would otherwise fall to its neighbours, and people could not be told apart.
    """
    pixels = np.concatenate([picture[::2, ::2].reshape(-1, 3) for picture in pictures])
    reduced = Image.fromarray(pixels[None]).quantize(_COLOURS - len(certain), method=Image.Quantize.MEDIANCUT)
    others = np.reshape(reduced.getpalette(), (-1, 3))
    wanted = np.array([ImageColor.getrgb(colour) for colour in certain])
    # Pillow looks colours up coarsely: beside a near neighbour, white would not be white.
    apart = np.abs(others[:, None] - wanted).max(axis=-1).min(axis=-1) > _NEAR
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([wanted, others[apart]]).ravel().tolist())
    return palette


def _changes(indices: np.ndarray, previous: np.ndarray | None) -> tuple[int, int, np.ndarray]:
    """Top, left and indices of the smallest rectangle that holds every change, unchanged pixels marked in it."""
    if previous is None:
        return 0, 0, indices
    changed = indices != previous
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if not len(rows):
        return 0, 0, np.full((1, 1), _UNCHANGED, np.uint8)
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return int(rows[0]), int(columns[0]), np.where(changed[window], indices[window], _UNCHANGED).astype(np.uint8)


def _indexed(indices: np.ndarray, palette: Image.Image) -> Image.Image:
    image = Image.frombytes("P", indices.shape[::-1], np.ascontiguousarray(indices).tobytes())
    image.putpalette(palette.getpalette())
    return image
