"""Projections as the official EgoHumans toolkit computes them, deviations included: what its published files contain.

Written from the description of the toolkit, apart from `finepose_mp.cameras`, so that each can witness against the
other. Deviations, with the numbers of the description's sections:

* 4.3: the tangential shift of Aria's lens has element-wise products, 2 p0 x^2 and 2 p1 y^2, without cross terms.
* 4.4: upright images are one pixel to the right, x_up = H - y instead of H - 1 - y.
* 3.7: fixed cameras do not check the sign of the depth, so what is behind them is mirrored into the image.
* 3.4: of a fixed camera's registered poses the first five count, and the one nearest in time is used.
* 3.4, 4.2: the scale between COLMAP's or an Aria's metre and aria01's stays in the extrinsics.
"""

import numpy as np

_MOST_POSES = 5
BEHIND = -1.0  # both pixel coordinates of a point behind a head-worn camera


def transformed(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (..., 3) through a matrix (4, 4)."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def aria_pixels(points: np.ndarray, params: np.ndarray, sensor_height: int) -> np.ndarray:
    """Pixels (..., 2) in the upright image of points (..., 3) in sensor coordinates, of one frame's lens (15,)."""
    f, cu, cv, *rest = params
    k, (p0, p1), (s0, s1, s2, s3) = rest[:6], rest[6:8], rest[8:]
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
        r = np.hypot(a, b)
        theta = np.arctan(r)
        ratio = np.where(r < 1e-9, 1.0, theta / r) * (1 + sum(k[i] * theta ** (2 * i + 2) for i in range(6)))
    x, y = ratio * a, ratio * b
    rho2 = x**2 + y**2
    u = f * (x + 2 * p0 * x**2 + p0 * rho2 + s0 * rho2 + s1 * rho2**2) + cu
    v = f * (y + 2 * p1 * y**2 + p1 * rho2 + s2 * rho2 + s3 * rho2**2) + cv
    behind = points[..., 2] < 0
    u, v = np.where(behind, BEHIND, u), np.where(behind, BEHIND, v)
    return np.stack([sensor_height - v, u], axis=-1)


def exo_pixels(points: np.ndarray, params: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) of points (..., 3) in a fixed camera's coordinates; lens (8,) of COLMAP's OPENCV_FISHEYE."""
    fx, fy, cx, cy, *k = params
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
        r = np.hypot(a, b)
        theta = np.arctan(r)
        ratio = theta / r * (1 + sum(k[i] * theta ** (2 * i + 2) for i in range(4)))
    return np.stack([fx * ratio * a + cx, fy * ratio * b + cy], axis=-1)


def nearest_pose(registered: list[tuple[int, np.ndarray]], frame: int) -> np.ndarray:
    """The pose used at a frame, of (frame, pose) pairs in the order of COLMAP's file."""
    kept: dict[int, np.ndarray] = {}
    for number, pose in registered:
        kept[number] = pose
        if len(kept) >= _MOST_POSES:
            break
    return kept[min(kept, key=lambda number: abs(number - frame))]


def visible(pixels: np.ndarray, flags: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Whether keypoints (..., 2) count as visible: flag above 0.5 and 0 < x <= W and 0 < y <= H."""
    with np.errstate(invalid="ignore"):
        return (flags > 0.5) & (pixels > 0).all(axis=-1) & (pixels <= image_size).all(axis=-1)


def box(pixels: np.ndarray, inside: np.ndarray) -> list[int]:
    """The published box x, y, w, h around visible keypoints (17, 2).

    1.4 times the tight one; x and y are then clamped to 1 or more while w and h stay, which shifts it.
    """
    low, high = pixels[inside].min(axis=0), pixels[inside].max(axis=0)
    centre, size = (low + high) / 2, 1.4 * (high - low)
    x, y = np.maximum(centre - size / 2, 1)
    return [int(x), int(y), int(size[0]), int(size[1])]
