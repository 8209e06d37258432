"""Plain pictures of simulated scenes: the word SIMULATED, the floor, and everybody's skeleton, as small JPEG files."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from finepose_mp.cameras import Camera
from finepose_mp.skeletons import COCO17

COMMENT = b"SIMULATED picture, not a recording"

_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
_BACKGROUND, _GRID, _TEXT = (225, 225, 222), (170, 170, 168), (120, 30, 30)
_GRID_REACH = 6.0  # metres from the middle of the people
_JPEG_QUALITY = 15


def picture(
    camera: Camera, people: list[tuple[int, np.ndarray]], floor: float, label: str, grayscale: bool = False
) -> bytes:
    """The JPEG file of what a camera sees: skeletons on a floor of one-metre squares.

    Args:
        camera: still, in the people's world; only what is in view is drawn.
        people: (colour number, joints (17, 3)) of everybody but the wearer of the camera, metres.
        floor: height of the floor in that world.
        label: written below the word SIMULATED.
    """
    image = Image.new("RGB", camera.image_size, _BACKGROUND)
    draw = ImageDraw.Draw(image)
    width = max(1, camera.image_size[0] // 700)
    middle = np.mean([joints[:, :2].mean(axis=0) for _, joints in people], axis=0) if people else np.zeros(2)
    _draw_lines(draw, camera, _floor_lines(middle, floor), _GRID, width)
    for colour, joints in people:
        start, end = (joints[list(ends), None] for ends in zip(*COCO17.bones, strict=True))
        bones = start + np.linspace(0, 1, 8)[:, None] * (end - start)
        _draw_lines(draw, camera, bones, _COLOURS[colour % len(_COLOURS)], 3 * width)
    size = camera.image_size[0] // 18
    draw.text((size, size), "SIMULATED", fill=_TEXT, font=ImageFont.load_default(size))
    draw.text((size, 2.3 * size), label, fill=_TEXT, font=ImageFont.load_default(size // 2))
    stream = io.BytesIO()
    image = image.convert("L") if grayscale else image
    image.save(stream, "JPEG", quality=_JPEG_QUALITY, comment=COMMENT)
    return stream.getvalue()


def _floor_lines(middle: np.ndarray, floor: float) -> np.ndarray:
    """Lines (L, 50, 3) a metre apart, finely sampled because fisheye lenses bend them."""
    along = np.linspace(-_GRID_REACH, _GRID_REACH, 50)
    lines = []
    for across in np.arange(-_GRID_REACH, _GRID_REACH + 1):
        for axis in (0, 1):
            points = np.full((len(along), 3), floor)
            points[:, axis], points[:, 1 - axis] = middle[axis] + along, middle[1 - axis] + across
            lines.append(points)
    return np.stack(lines)


def _draw_lines(draw: ImageDraw.ImageDraw, camera: Camera, lines: np.ndarray, colour: tuple, width: int) -> None:
    """Draws the stretches of lines (L, n, 3) whose points are in view."""
    points_camera = camera.to_camera(lines)
    pixels, in_view = camera.project(points_camera), camera.in_view(points_camera)
    for line, i in np.argwhere(in_view[:, :-1] & in_view[:, 1:]):
        draw.line([*map(tuple, pixels[line, i : i + 2].tolist())], fill=colour, width=width)
