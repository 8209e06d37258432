"""A camera of a take, and the people of the take seen through it."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from finepose_mp.cameras import Camera, lens_model, max_angle, project
from finepose_mp.preprocessing.egohumans.source import TakeReader
from finepose_mp.preprocessing.findings import Findings

# Where a joint is with respect to a camera: nowhere (its position is missing), or one of the others.
PLACES = ("nowhere", "in_view", "behind", "beyond_lens", "outside_image", "outside_circle")
NOWHERE, IN_VIEW, BEHIND, BEYOND_LENS, OUTSIDE_IMAGE, OUTSIDE_CIRCLE = np.arange(len(PLACES), dtype=np.uint8)

# Of a lens or pose in pixels, metres or distortion: beyond, a number has gone wrong.
LARGEST_NUMBER = 1e5
SHORTEST_FOCAL_PX = 1.0

_BLOCK_FRAMES = 512
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
    """Pixels (T, P, J, 2) of joints (T, P, J, 3), NaN unless in view, and where each joint is, of `PLACES` (T, P, J).

    In view means in front of the camera, inside the lens model's range, the image and the disc that the lens
    illuminates. Computed in double precision.
    """
    all_pixels, all_places = np.empty((*joints_3d_world.shape[:-1], 2)), np.empty(joints_3d_world.shape[:-1], np.uint8)
    for block in frame_blocks(len(joints_3d_world)):
        lens = at_frames(camera.camera, block)
        joints_3d_camera = lens.to_camera(joints_3d_world[block])
        pixels = lens.project(joints_3d_camera)
        seen = lens.in_image(pixels, camera.image_circle)
        unseen = _place_of_unseen(joints_3d_camera[..., 2], pixels, lens.image_size)
        all_places[block] = np.where(seen, IN_VIEW, unseen)
        for i in range(2):  # a mask that is repeated along so short an axis costs more
            all_pixels[block][..., i] = np.where(seen, pixels[..., i], np.nan)
    return all_pixels, all_places


def frame_blocks(count: int) -> Iterator[slice]:
    """Slices of so many frames each, so that what is computed of them stays small whatever the length of a take."""
    return (slice(start, start + _BLOCK_FRAMES) for start in range(0, count, _BLOCK_FRAMES))


def at_frames(camera: Camera, t: slice | np.ndarray) -> Camera:
    """The same camera for some frames only."""
    if camera.world_to_camera.ndim == 2:
        return camera
    return Camera(camera.model, camera.params[t], camera.image_size, camera.world_to_camera[t])


def _place_of_unseen(depth: np.ndarray, pixels: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Why joints with a depth (T, P, J) and pixels are not seen, their `PLACES`; of those that are, anything."""
    (u, v), (width, height) = (pixels[..., 0], pixels[..., 1]), image_size
    inside = (u >= 0) & (v >= 0) & (u < width) & (v < height)
    place = np.where(depth > 0, BEYOND_LENS, np.where(np.isfinite(depth), BEHIND, NOWHERE))
    return np.where(inside, OUTSIDE_CIRCLE, np.where(np.isfinite(u), OUTSIDE_IMAGE, place))


def check_lens(camera: TakeCamera, findings: Findings) -> None:
    """Reports the angle up to which the lens model increases, and a warning where that is short of the image's border.

    Beyond that angle the model folds points back into the image, so what is there counts as not in view.
    """
    model, params = camera.camera.model, np.atleast_2d(camera.camera.params)
    angles = max_angle(model, params)
    narrowest = int(np.argmin(angles))
    angle, params = float(angles[narrowest]), params[narrowest]
    rim = 0.9999 * angle
    terms = lens_model(model).terms(params)
    centre = np.array(terms.centre)
    reach = float(np.linalg.norm(project(np.array([np.sin(rim), 0, np.cos(rim)]), model, params) - centre))
    needed = _distance_to_border(camera, centre)
    findings.add(
        "lens.range",
        "info" if reach >= needed else "warning",
        f"{camera.name}: lens model increases up to {np.degrees(angle):.1f} degrees, {reach:.0f} px from the centre, "
        f"the image's border is {needed:.0f} px away" + ("" if reach >= needed else "; beyond, nothing is in view"),
        camera=camera.name,
        expected={"reach_px": round(needed, 1)},
        found={"theta_max_degrees": round(float(np.degrees(angle)), 3), "reach_px": round(reach, 1)},
    )


def _distance_to_border(camera: TakeCamera, centre: np.ndarray) -> float:
    """Pixels from the principal point to the nearer border along the longer side, or to the rim of the round image."""
    size = np.array(camera.camera.image_size)
    longer = int(np.argmax(size))
    border = float(min(centre[longer], size[longer] - centre[longer]))
    return border if camera.image_circle is None else min(border, camera.image_circle)


def check_images(reader: TakeReader, cameras: list[TakeCamera], frame_count: int, findings: Findings) -> None:
    """Reports cameras without images, with fewer or more than there are frames, or of another size than calibrated.

    Poses need no images. One image a camera is enough to check its size, so a single one is not called incomplete.
    """
    absent, counts = [], {}
    for camera in cameras:
        images = reader.frame_numbers(camera.image_folder, ".jpg")
        if not len(images):
            absent.append(camera.name)
            continue
        if len(images) not in (1, frame_count):
            counts[camera.name] = len(images)
        _check_image_size(reader, camera, f"{camera.image_folder}/{images[0]:05d}.jpg", findings)
    if absent:
        message = f"no image to check the calibrated size with: {', '.join(absent)}"
        findings.add("images.absent", "info", message, found=absent)
    if counts:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        message = f"images where {frame_count} frames are used: {listed}"
        findings.add("images.count", "info", message, expected=frame_count, found=counts)


def _check_image_size(reader: TakeReader, camera: TakeCamera, path: str, findings: Findings) -> None:
    try:
        with Image.open(io.BytesIO(reader.head(path, _HEADER_BYTES))) as image:
            found = image.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        findings.add("images.unreadable", "warning", f"{path}: no readable image ({error})", camera=camera.name)
        return
    expected = tuple(int(length) for length in camera.camera.image_size)
    if found != expected:
        message = (
            f"images of {camera.name} are {found[0]}x{found[1]} ({path}), the calibration is for "
            f"{expected[0]}x{expected[1]}"
        )
        findings.add("images.size", "warning", message, camera=camera.name, expected=list(expected), found=list(found))
