"""A camera of a take, and the people of the take seen through it."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from finepose_mp.cameras import Camera
from finepose_mp.preprocessing.egohumans.findings import Findings
from finepose_mp.preprocessing.egohumans.source import TakeReader

_HEADER_BYTES = 256 * 1024  # enough for the metadata in front of a JPEG's size


@dataclass(frozen=True)
class TakeCamera:
    """One camera of a take; `camera` has a lens and a metric pose frame by frame where it is head-worn."""

    name: str  # "cam01", "aria01_rgb", "aria01_left", "aria01_right"
    kind: str  # "exo", "ego_rgb", "ego_slam"
    wearer: str  # "" when nobody wears it
    camera: Camera
    image_folder: str  # in the take
    image_circle: float | None = None  # radius in pixels of the disc that the lens illuminates, where it is smaller

    @property
    def is_moving(self) -> bool:
        """Whether lens and pose are given frame by frame."""
        return self.camera.world_to_camera.ndim == 3


def project_people(camera: TakeCamera, joints_3d_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (T, P, J, 2) of joints (T, P, J, 3), NaN unless in view, and whether they are in view (T, P, J).

    In view means in front of the camera, inside the lens model's range, the image and the disc that the lens
    illuminates. Computed in double precision.
    """
    joints_3d_camera = camera.camera.to_camera(joints_3d_world)
    in_view = camera.camera.in_view(joints_3d_camera, camera.image_circle)
    return np.where(in_view[..., None], camera.camera.project(joints_3d_camera), np.nan), in_view


def check_images(reader: TakeReader, cameras: list[TakeCamera], frame_count: int, findings: Findings) -> None:
    """Reports cameras without images, with fewer or more than there are frames, or of another size than calibrated.

    Poses need no images. One image a camera is enough to check its size, so a single one is not called incomplete.
    """
    absent, counts = [], []
    for camera in cameras:
        images = list(reader.frame_numbers(camera.image_folder, ".jpg").values())
        if not images:
            absent.append(camera.name)
            continue
        if len(images) not in (1, frame_count):
            counts.append(f"{camera.name} {len(images)}")
        _check_image_size(reader, camera, f"{camera.image_folder}/{images[0]}", findings)
    if absent:
        findings.add("images", "info", f"no image to check the calibrated size with: {', '.join(absent)}")
    if counts:
        findings.add("images", "info", f"images where {frame_count} frames are used: {', '.join(counts)}")


def _check_image_size(reader: TakeReader, camera: TakeCamera, path: str, findings: Findings) -> None:
    try:
        with Image.open(io.BytesIO(reader.head(path, _HEADER_BYTES))) as image:
            found = image.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        findings.add("images", "warning", f"{path}: no readable image ({error})", camera=camera.name)
        return
    expected = tuple(int(length) for length in camera.camera.image_size)
    if found != expected:
        message = (
            f"images of {camera.name} are {found[0]}x{found[1]} ({path}), the calibration is for "
            f"{expected[0]}x{expected[1]}"
        )
        findings.add("images", "error", message, camera=camera.name)
