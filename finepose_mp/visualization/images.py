"""The images that a sequence's cameras took, found in a folder by camera and frame number."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from finepose_mp.schema import Sequence

_SUFFIXES = (".jpg", ".jpeg", ".png")
_WIDTH = 640  # px: as many as a view in a figure has, so that large images are not decoded in full


class Images:
    """Images of chosen cameras of a sequence.

    The first of these folders that is there holds the images of camera cam01 or aria01_rgb: `cam01/`, `aria01_rgb/`,
    EgoHumans' own `exo/cam01/images/` or `ego/aria01/images/rgb/`; and `folder` itself if it holds images and the
    sequence has one camera. A file belongs to the frame whose number ends its name: 00012.jpg, clip_12.png.

    `missing` names the cameras whose images are not there.

    Raises:
        ValueError: no image of any of the cameras; the message says where they were sought.
    """

    def __init__(self, folder: Path, sequence: Sequence, cameras: list[str]) -> None:
        self._files: dict[str, dict[int, Path]] = {}
        sought = []
        for name in cameras:
            wearer, *stream = re.split("[_/]", name, maxsplit=1)
            places = [
                folder / name,
                folder / "exo" / name / "images",
                folder.joinpath("ego", wearer, "images", *stream),
            ]
            places += [folder] if len(sequence.camera) == 1 else []
            found = next((files for place in places if (files := _numbered(place))), None)
            if found is None:
                sought += places
            else:
                self._files[name] = found
        if cameras and not self._files:
            raise ValueError(f"no images (NUMBER.jpg or .png) in any of {', '.join(map(str, sought))}")
        self.missing = [name for name in cameras if name not in self._files]

    def read(self, camera: str, number: int) -> np.ndarray:
        """The image of a frame by its number in the source, (height, width, 3) colours; white where there is none."""
        path = self._files.get(camera, {}).get(int(number))
        if path is None:
            return np.full((1, 1, 3), 255, np.uint8)
        with Image.open(path) as image:
            image.draft("RGB", (_WIDTH, _WIDTH))  # decodes JPEG at a fraction of its size
            reduced = image.convert("RGB")
            reduced.thumbnail((_WIDTH, _WIDTH))
            return np.asarray(reduced)


def _numbered(folder: Path) -> dict[int, Path]:
    """Image files by the number at the end of their name."""
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    numbers = ((re.search(r"(\d+)$", path.stem), path) for path in files)
    return {int(match[1]): path for match, path in numbers if match}
