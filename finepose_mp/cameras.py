"""Cameras: points to pixels, pixels to rays, and what is in view.

Camera coordinates have +x right, +y down, +z forward in the image. Pixels are whatever the intrinsics say; no
half-pixel shift is applied. Every function takes numpy arrays (computed in float64) or torch tensors (computed in their
dtype, on their device). Parameters (..., n) broadcast against the leading axes of the points, the caller inserting
axes; entries behind the n of the model (padding of files) are not read. The formulas are in `finepose_mp.lenses`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finepose_mp.geometry import Array, apply_rigid, array_namespace, as_array_like, invert_rigid
from finepose_mp.lenses import MODELS, LensModel, distort, lens_model, max_angle, undistort

__all__ = [
    "MODELS",
    "UPRIGHT",
    "Camera",
    "LensModel",
    "denormalize_screen",
    "in_image",
    "in_view",
    "lens_model",
    "max_angle",
    "max_radius",
    "normalize_screen",
    "project",
    "rotate_fisheye624_clockwise",
    "unproject",
]

# VRS (sensor) camera coordinates of a Project Aria camera -> those of its image rotated 90 degrees clockwise.
UPRIGHT = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def max_radius(model: str, params: Array) -> np.ndarray:
    """Largest usable hypot(x/z, y/z) (...), the tangent of `max_angle`."""
    return np.tan(max_angle(model, params))


def project(points_camera: Array, model: str, params: Array, toolkit_form: bool = False) -> Array:
    """Pixels (..., 2) of points (..., 3) in camera coordinates; NaN where the lens cannot see the point.

    A point is seen if it is in front of the camera (z > 0) and within `max_angle`; farther out the polynomial may fold
    back into the image. The image border plays no part: see `in_view`. Gradients flow to points and parameters, and
    are zero, not NaN, for points that are not seen.

    Args:
        points_camera: (..., 3), metres or any other unit.
        model: a name in `MODELS`.
        params: (..., n or more), in the order of the model's `parameter_names`.
        toolkit_form: reproduce the official EgoHumans toolkit, whose Fisheye624 lacks the cross terms m p_y x y and
            m p_x x y of the tangential shift. Its published 2D annotations contain this deviation (about half a pixel
            at the border); it is good for comparing with them only.

    Raises:
        ValueError: unknown model, wrong shapes, or `toolkit_form` with a model that has no such form.
    """
    lens = lens_model(model)
    if toolkit_form and model != "aria_fisheye624":
        raise ValueError(f"toolkit_form exists for aria_fisheye624 only, found model {model!r}")
    points = _as_float_array(points_camera, 3, "points")
    xp = array_namespace(points)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    radius_limit = as_array_like(max_radius(model, params), points)
    seen = xp.sqrt(x * x + y * y) < radius_limit * z  # never for z <= 0; hypot takes three times as long
    # Points that are not seen move to the optical axis before the division, so that neither it nor its gradient fails.
    depth = xp.where(seen, z, 1.0)
    terms = lens.terms(as_array_like(params, points))
    x, y = distort(lens, terms, xp.where(seen, x, 0.0) / depth, xp.where(seen, y, 0.0) / depth, toolkit_form)
    u, v = terms.focal[0] * x + terms.centre[0], terms.focal[1] * y + terms.centre[1]
    return xp.stack([xp.where(seen, u, xp.nan), xp.where(seen, v, xp.nan)], axis=-1)


def unproject(pixels: Array, model: str, params: Array) -> Array:
    """Rays (..., 2) = (x/z, y/z) of pixels (..., 2); NaN where no direction within `max_angle` has that pixel.

    The inverse of `project`, to rounding error.

    Raises:
        ValueError: unknown model or wrong shapes.
    """
    lens = lens_model(model)
    pixels = _as_float_array(pixels, 2, "pixels")
    xp = array_namespace(pixels)
    angle_limit = as_array_like(max_angle(model, params), pixels)
    terms = lens.terms(as_array_like(params, pixels))
    known = xp.isfinite(pixels[..., 0]) & xp.isfinite(pixels[..., 1])
    # Missing keypoints arrive as NaN, which would keep the iterations from converging.
    pixels = xp.where(known[..., None], pixels, 0.0)
    x, y = undistort(
        lens,
        terms,
        (pixels[..., 0] - terms.centre[0]) / terms.focal[0],
        (pixels[..., 1] - terms.centre[1]) / terms.focal[1],
        angle_limit,
    )
    return xp.where(known[..., None], xp.stack([x, y], axis=-1), xp.nan)


def in_view(
    points_camera: Array, model: str, params: Array, image_size: Array, image_circle: float | None = None
) -> Array:
    """Whether points (..., 3) are seen by the lens and fall inside the image: bool (...).

    Inside means 0 <= u < width and 0 <= v < height.

    Args:
        points_camera: (..., 3) in camera coordinates.
        model: a name in `MODELS`.
        params: (..., n or more).
        image_size: (2,) or (..., 2), width and height in pixels.
        image_circle: radius in pixels, around the principal point, of the disc the lens illuminates, for sensors whose
            corners are black. Project Aria: 707.5 for the RGB image of 1408 x 1408, 330 for the SLAM images of
            640 x 480 (the constants of projectaria-tools' calibration loader, halved for RGB as its image is).

    Raises:
        ValueError: unknown model or wrong shapes.
    """
    return in_image(project(points_camera, model, params), model, params, image_size, image_circle)


def in_image(pixels: Array, model: str, params: Array, image_size: Array, image_circle: float | None = None) -> Array:
    """Whether pixels (..., 2) lie in the visible image: bool (...), False for NaN. Arguments: see `in_view`."""
    size = as_array_like(image_size, pixels)
    u, v = pixels[..., 0], pixels[..., 1]
    inside = (u >= 0) & (v >= 0) & (u < size[..., 0]) & (v < size[..., 1])
    if image_circle is None:
        return inside
    centre = lens_model(model).terms(as_array_like(params, pixels)).centre
    xp = array_namespace(pixels)
    return inside & (xp.hypot(pixels[..., 0] - centre[0], pixels[..., 1] - centre[1]) < image_circle)


def rotate_fisheye624_clockwise(
    params: np.ndarray, sensor_size: tuple[int, int], toolkit_form: bool = False
) -> np.ndarray:
    """Parameters (..., 15 or more) of `aria_fisheye624` for the image rotated 90 degrees clockwise.

    They project upright camera coordinates (`UPRIGHT` applied to sensor ones) to upright pixels: the formula is closed
    under the rotation x_up = -y, y_up = x.

    Args:
        params: parameters that refer to the unrotated sensor image.
        sensor_size: width and height of the unrotated sensor image in pixels.
        toolkit_form: the EgoHumans toolkit maps u_up = H - v, one pixel to the right of the exact H - 1 - v between
            integer pixel centres; its published 2D annotations contain that.
    """
    params = np.asarray(params, dtype=np.float64)
    rotated = params.copy()
    index = MODELS["aria_fisheye624"].parameter_names.index
    for name, source, sign in (
        ("cu", "cv", -1), ("cv", "cu", 1), ("p0", "p1", -1), ("p1", "p0", 1),
        ("s0", "s2", -1), ("s1", "s3", -1), ("s2", "s0", 1), ("s3", "s1", 1),
    ):  # fmt: skip
        rotated[..., index(name)] = sign * params[..., index(source)]
    rotated[..., index("cu")] += sensor_size[1] if toolkit_form else sensor_size[1] - 1
    return rotated


def normalize_screen(pixels: Array, image_size: Array) -> Array:
    """Screen coordinates (..., 2) of pixels: u' = 2u/w - 1, v' = 2v/w - h/w (both by the width, as the papers do)."""
    size = as_array_like(image_size, pixels)
    return (2 * pixels - size) / size[..., :1]


def denormalize_screen(screen: Array, image_size: Array) -> Array:
    """Pixels (..., 2) of screen coordinates, the inverse of `normalize_screen`."""
    size = as_array_like(image_size, screen)
    return (screen * size[..., :1] + size) / 2


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera, still or moving: lens, image size and pose.

    `params` is (n,) or (T, n), `world_to_camera` (3, 4), (T, 3, 4) or None, `image_size` (width, height). What has a
    frame axis T is matched with axis 0 of the points.
    """

    model: str
    params: np.ndarray
    image_size: tuple[int, int]
    world_to_camera: np.ndarray | None = None

    def to_camera(self, points_world: Array) -> Array:
        """Points (T, ..., 3) in camera coordinates."""
        points_world = _as_float_array(points_world, 3, "points")
        return apply_rigid(points_world, self._pose(points_world))

    def to_world(self, points_camera: Array) -> Array:
        """Points (T, ..., 3) in world coordinates."""
        points_camera = _as_float_array(points_camera, 3, "points")
        return apply_rigid(points_camera, invert_rigid(self._pose(points_camera)))

    def project(self, points_camera: Array, toolkit_form: bool = False) -> Array:
        """Pixels (T, ..., 2) of points (T, ..., 3) in camera coordinates; see `project`."""
        return project(points_camera, self.model, _per_frame(self.params, 1, points_camera), toolkit_form)

    def unproject(self, pixels: Array) -> Array:
        """Rays (T, ..., 2) of pixels; see `unproject`."""
        return unproject(pixels, self.model, _per_frame(self.params, 1, pixels))

    def in_view(self, points_camera: Array, image_circle: float | None = None) -> Array:
        """Whether points (T, ..., 3) in camera coordinates are in view: bool (T, ...); see `in_view`."""
        params = _per_frame(self.params, 1, points_camera)
        return in_view(points_camera, self.model, params, self.image_size, image_circle)

    def in_image(self, pixels: Array, image_circle: float | None = None) -> Array:
        """Whether pixels (T, ..., 2) lie in the visible image: bool (T, ...); see `in_image`."""
        return in_image(pixels, self.model, _per_frame(self.params, 1, pixels), self.image_size, image_circle)

    def _pose(self, points: Array) -> Array:
        if self.world_to_camera is None:
            raise ValueError("this camera has no pose; give `world_to_camera` to convert to or from world coordinates")
        return as_array_like(_per_frame(self.world_to_camera, 2, points), points)


def _per_frame(array: np.ndarray, item_ndim: int, points: Array) -> np.ndarray:
    """`array` (T, item) with singleton axes behind T to broadcast against points (T, ..., D); (item) as it is."""
    if array.ndim == item_ndim:
        return array
    if points.ndim < 2 or len(array) != points.shape[0]:
        raise ValueError(
            f"camera with {len(array)} frames meets points of shape {tuple(points.shape)}; axis 0 must be T"
        )
    return array.reshape(len(array), *(1,) * (points.ndim - 2), *array.shape[1:])


def _as_float_array(array: Array, size: int, what: str) -> Array:
    """`array` with a last axis of `size`: float64 for anything but a tensor, which keeps its floating-point dtype."""
    xp = array_namespace(array)
    if xp is np:
        array = np.asarray(array, dtype=np.float64)
    elif not array.is_floating_point():
        array = array.to(xp.get_default_dtype())
    if array.ndim == 0 or array.shape[-1] != size:
        raise ValueError(f"{what} must have shape (..., {size}), found {tuple(array.shape)}")
    return array
