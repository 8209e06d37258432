"""Lens models: the distortion formula, its range, and its inverse, in image coordinates before focal length and centre.

All models are special cases of one formula. With (x, y) = (X/Z, Y/Z), r = hypot(x, y) and theta = atan(r):

    g(t)       = 1 + k_1 t^2 + k_2 t^4 + ...
    (wx, wy)   = g(r) (x, y)                       perspective models; the shifts below are taken at (x, y)
               = g(theta) theta / r (x, y)         fisheye models;     the shifts below are taken at (wx, wy)
    shift in x = p_x rho^2 + m (p_x x + p_y y) x + s_0 rho^2 + s_1 rho^4
    shift in y = p_y rho^2 + m (p_x x + p_y y) y + s_2 rho^2 + s_3 rho^4      rho^2 = x^2 + y^2
    (u, v)     = (f_x, f_y) (w + shift) + (c_x, c_y)

`MODELS` says which terms a model has. Sources: Brown 1971 as in OpenCV (`brown_conrady`, m = 2), the Human3.6M release
(`human36m`, m = 1), Kannala and Brandt 2006 as in OpenCV and COLMAP (`opencv_fisheye`), Project Aria's
FisheyeRadTanThinPrism with one focal length (`aria_fisheye624`, m = 2). Everything here works on numpy arrays and torch
tensors; `finepose_mp.cameras` is the interface for pixels and points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from finepose_mp.geometry import Array, array_namespace

# No model is used closer than this to 90 degrees from the axis, where x/z leaves the range of float32 polynomials.
WIDEST_ANGLE = np.pi / 2 - 1e-5
_PLAIN_STEPS = 6


class Terms(NamedTuple):
    """The parameters of a lens by their role in the formula, each an array (...)."""

    focal: tuple[Array, Array]
    centre: tuple[Array, Array]
    radial: tuple[Array, ...]
    tangential: tuple[Array, ...]
    prism: tuple[Array, ...]

    def at(self, points: Array) -> Terms:
        """The parameters of the points (...) where that mask is True."""
        xp = array_namespace(points)
        return Terms(*(tuple(xp.broadcast_to(value, points.shape)[points] for value in role) for role in self))


@dataclass(frozen=True)
class LensModel:
    """A lens model as data: the order of its parameters in files, and the term of the formula each belongs to."""

    name: str
    parameter_names: tuple[str, ...]
    fisheye: bool = False
    focal: tuple[str, str] = ("fx", "fy")
    centre: tuple[str, str] = ("cx", "cy")
    radial: tuple[str, ...] = ()
    tangential: tuple[str, ...] = ()  # (p_x, p_y)
    tangential_factor: float = 2.0  # m
    prism: tuple[str, ...] = ()

    def terms(self, params: Array) -> Terms:
        """Parameters (..., n) sorted by role; NaN becomes 1, because `max_angle` is what marks such lenses unusable."""
        xp = array_namespace(params)
        params = params[..., : len(self.parameter_names)]
        # A NaN would reach the gradients of other points through 0 * NaN.
        params = xp.where(xp.isnan(params), 1.0, params)
        roles = (self.focal, self.centre, self.radial, self.tangential, self.prism)
        return Terms(*(tuple(params[..., self.parameter_names.index(name)] for name in role) for role in roles))


def _model(name: str, parameter_names: str, **roles) -> LensModel:
    words = {role: tuple(value.split()) if isinstance(value, str) else value for role, value in roles.items()}
    return LensModel(name, tuple(parameter_names.split()), **words)


MODELS: dict[str, LensModel] = {
    model.name: model
    for model in (
        _model("pinhole", "fx fy cx cy"),
        _model("human36m", "fx fy cx cy k1 k2 k3 p1 p2", radial="k1 k2 k3", tangential="p2 p1", tangential_factor=1.0),
        _model("brown_conrady", "fx fy cx cy k1 k2 p1 p2 k3", radial="k1 k2 k3", tangential="p2 p1"),
        _model("opencv_fisheye", "fx fy cx cy k1 k2 k3 k4", fisheye=True, radial="k1 k2 k3 k4"),
        _model(
            "aria_fisheye624",
            "f cu cv k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3",
            fisheye=True,
            focal="f f",
            centre="cu cv",
            radial="k0 k1 k2 k3 k4 k5",
            tangential="p0 p1",
            prism="s0 s1 s2 s3",
        ),
    )
}


def lens_model(name: str) -> LensModel:
    """The lens model of that name.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in MODELS:
        raise ValueError(f"unknown lens model {name!r}; known models: {', '.join(MODELS)}")
    return MODELS[name]


def max_angle(model: str, params: Array) -> np.ndarray:
    """Largest usable angle (...) from the optical axis in radians, a numpy array; NaN where a parameter is NaN.

    Up to this angle the radial polynomial increases: it is the smallest positive root of the polynomial's derivative,
    or `WIDEST_ANGLE`. (The tangential and prism terms are too small to matter.) Found once per distinct set of radial
    coefficients and remembered.
    """
    lens = lens_model(model)
    params = params.detach().cpu().numpy() if array_namespace(params) is not np else np.asarray(params)
    size = len(lens.parameter_names)
    if params.ndim == 0 or params.shape[-1] < size:
        raise ValueError(
            f"model {model} has {size} parameters ({' '.join(lens.parameter_names)}), found shape {params.shape}"
        )
    params = params[..., :size].astype(np.float64)
    columns = [lens.parameter_names.index(name) for name in lens.radial]
    rows = params[..., columns].reshape(math.prod(params.shape[:-1]), len(columns)).tolist()
    limits = np.array([_increasing_up_to(tuple(row)) for row in rows]).reshape(params.shape[:-1])
    angles = np.minimum(limits if lens.fisheye else np.arctan(limits), WIDEST_ANGLE)
    return np.where(np.isfinite(params).all(axis=-1), angles, np.nan)


@lru_cache(maxsize=65536)
def _increasing_up_to(radial: tuple[float, ...]) -> float:
    """Where t g(t) stops increasing: the smallest t > 0 with d(t g(t))/dt = 0, infinity if there is none."""
    derivative = [1.0, *((2 * i + 3) * k for i, k in enumerate(radial))]  # 1 + 3 k_1 t^2 + 5 k_2 t^4 + ...
    if not np.isfinite(derivative).all():
        return np.nan
    # Read as a polynomial in 1/t^2 its leading coefficient is 1, so that tiny last coefficients do no harm.
    inverse_squares = np.roots(derivative)
    real = np.abs(inverse_squares.imag) < 1e-9 * np.abs(inverse_squares)
    largest = inverse_squares.real[real].max(initial=0.0)
    return 1.0 / math.sqrt(largest) if largest > 0 else np.inf


def _polynomial(coefficients: tuple[Array, ...], t2: Array, constant: Array | float = 1.0) -> Array | float:
    """constant + c_1 t^2 + c_2 t^4 + ... by Horner's rule."""
    value = 0.0
    for coefficient in reversed(coefficients):
        value = (value + coefficient) * t2
    return constant + value


def _angle_over_radius(r2: Array) -> Array:
    """atan(r) / r as a smooth function of r^2, so that it has a value and a gradient at r = 0."""
    xp = array_namespace(r2)
    small = r2 < 1e-8
    radius = xp.sqrt(xp.where(small, 1.0, r2))
    return xp.where(small, 1 - r2 / 3, xp.atan(radius) / radius)


def distort(lens: LensModel, terms: Terms, x: Array, y: Array, toolkit_form: bool = False) -> tuple[Array, Array]:
    """Distorted image coordinates of (x, y) = (X/Z, Y/Z), in units of the focal length."""
    if lens.fisheye:
        r2 = x * x + y * y
        ratio = _angle_over_radius(r2)
        scale = ratio * _polynomial(terms.radial, ratio * ratio * r2)
        x, y = x * scale, y * scale
        shift_x, shift_y = _shift(lens, terms, x, y, toolkit_form)
        return x + shift_x, y + shift_y
    gain = _polynomial(terms.radial, x * x + y * y)
    shift_x, shift_y = _shift(lens, terms, x, y, toolkit_form)
    return x * gain + shift_x, y * gain + shift_y


def undistort(lens: LensModel, terms: Terms, u: Array, v: Array, angle_limit: Array) -> tuple[Array, Array]:
    """(X/Z, Y/Z) of distorted coordinates, the inverse of `distort`; NaN where nothing within `angle_limit` maps there.

    A few plain steps of Newton's method, which nearly all points are content with. The others, close to where the lens
    stops increasing or beyond it, are found inside a bracket.
    """
    xp = array_namespace(u)
    radius_limit = xp.tan(angle_limit)
    # Points without a solution may send Newton's method to infinity; the check that follows finds them.
    with np.errstate(all="ignore"):
        if lens.fisheye:
            return _undistort_fisheye(lens, terms, u, v, angle_limit, radius_limit)
        x, y, solved = _undo_shift(lens, terms, u, v, *_first_guess(lens, terms, u, v), _PLAIN_STEPS)
        solved = solved & (xp.hypot(x, y) < radius_limit)
        x, y = xp.where(solved, x, xp.nan), xp.where(solved, y, xp.nan)
        if not solved.all():
            rest = ~solved
            x[rest], y[rest] = _undistort_carefully(
                lens, terms.at(rest), u[rest], v[rest], xp.broadcast_to(radius_limit, rest.shape)[rest]
            )
    return x, y


def _undistort_fisheye(
    lens: LensModel, terms: Terms, u: Array, v: Array, angle_limit: Array, radius_limit: Array
) -> tuple[Array, Array]:
    x, y, _ = _undo_shift(lens, terms._replace(radial=()), u, v, u, v)
    x, y = _undo_radial(terms, x, y, angle_limit, tangent=True)
    return _where_solved(lens, terms, u, v, x, y, radius_limit)


def _undistort_carefully(lens: LensModel, terms: Terms, u: Array, v: Array, radius_limit: Array) -> tuple[Array, Array]:
    # Where the radial polynomial is nearly flat, Newton's method in two dimensions needs a start this close.
    x, y = _undo_radial(terms, u, v, radius_limit, tangent=False)
    for _ in range(2 if terms.tangential else 0):
        shift_x, shift_y = _shift(lens, terms, x, y)
        x, y = _undo_radial(terms, u - shift_x, v - shift_y, radius_limit, tangent=False)
    x, y, _ = _undo_shift(lens, terms, u, v, x, y)
    return _where_solved(lens, terms, u, v, x, y, radius_limit)


def _where_solved(
    lens: LensModel, terms: Terms, u: Array, v: Array, x: Array, y: Array, radius_limit: Array
) -> tuple[Array, Array]:
    """(x, y), NaN where they do not lead back to (u, v) or lie beyond the limit."""
    xp = array_namespace(u)
    u_again, v_again = distort(lens, terms, x, y)
    error = xp.hypot(u_again - u, v_again - v)
    solved = error < float(xp.finfo(u.dtype).eps) ** 0.5 * (1 + xp.hypot(u, v))
    solved = solved & (xp.hypot(x, y) < radius_limit)
    return xp.where(solved, x, xp.nan), xp.where(solved, y, xp.nan)


def _shift(lens: LensModel, terms: Terms, x: Array, y: Array, toolkit_form: bool = False) -> tuple[Array, Array]:
    """The tangential and thin-prism displacement at (x, y); 0.0 for a model without."""
    shift_x = shift_y = 0.0
    rho2 = x * x + y * y
    if terms.tangential:
        px, py = terms.tangential
        m = lens.tangential_factor
        cross = 0.0 if toolkit_form else m * x * y
        shift_x = px * (rho2 + m * x * x) + py * cross
        shift_y = py * (rho2 + m * y * y) + px * cross
    if terms.prism:
        s0, s1, s2, s3 = terms.prism
        shift_x = shift_x + rho2 * (s0 + s1 * rho2)
        shift_y = shift_y + rho2 * (s2 + s3 * rho2)
    return shift_x, shift_y


def _shifted_with_slopes(lens: LensModel, terms: Terms, x: Array, y: Array) -> tuple[Array, ...]:
    """g(rho) (x, y) plus the shift at (x, y), with its derivatives: u, v, du/dx, du/dy, dv/dx, dv/dy.

    A whole perspective model, or the second half of a fisheye one. As one factor and one offset for both coordinates,
    u = h x + offset_x with h = g(rho) + m (p_x x + p_y y) and offset_x = p_x rho^2 + s_0 rho^2 + s_1 rho^4, because
    this is where reading through a lens spends its time.
    """
    (px, py), m, rho2 = terms.tangential or (0.0, 0.0), lens.tangential_factor, x * x + y * y
    h = _polynomial(terms.radial, rho2, 1 + (m * px * x + m * py * y))
    h_x, h_y = m * px, m * py
    if terms.radial:
        # 2 dg/d(rho^2) = 2 (k_1 + 2 k_2 rho^2 + 3 k_3 rho^4 + ...)
        slope = _polynomial([2 * (i + 2) * k for i, k in enumerate(terms.radial[1:])], rho2, 2 * terms.radial[0])
        h_x, h_y = slope * x + h_x, slope * y + h_y
    offset_x, offset_y, o_x, o_y = (
        px * rho2,
        py * rho2,
        2 * px,
        2 * py,
    )  # the offsets' slopes are o_x (x, y), o_y (x, y)
    if terms.prism:
        s0, s1, s2, s3 = terms.prism
        offset_x, offset_y = offset_x + (s0 + s1 * rho2) * rho2, offset_y + (s2 + s3 * rho2) * rho2
        o_x, o_y = o_x + 2 * s0 + 4 * s1 * rho2, o_y + 2 * s2 + 4 * s3 * rho2
    return (
        *(h * x + offset_x, h * y + offset_y),
        *(h + (h_x + o_x) * x, h_y * x + o_x * y),
        *(h_x * y + o_y * x, h + (h_y + o_y) * y),
    )


def _first_guess(lens: LensModel, terms: Terms, u: Array, v: Array) -> tuple[Array, Array]:
    """About the (x, y) of (u, v), by the radial polynomial's inverse as a series up to the seventh order."""
    k1, k2, k3, *_ = (*terms.radial, 0.0, 0.0, 0.0)
    inverse = (-k1, 3 * k1 * k1 - k2, 8 * k1 * k2 - 12 * k1**3 - k3)
    scale = _polynomial(inverse, u * u + v * v)
    shift_x, shift_y = _shift(lens, terms, u * scale, v * scale)
    u, v = u - shift_x, v - shift_y
    scale = _polynomial(inverse, u * u + v * v)
    return u * scale, v * scale


def _undo_shift(
    lens: LensModel, terms: Terms, u: Array, v: Array, x: Array, y: Array, steps: int = 20
) -> tuple[Array, Array, Array]:
    """(x, y) that `_shifted_with_slopes` maps to (u, v), by Newton's method from the given start; where it arrived."""
    xp = array_namespace(u)
    if not (terms.radial or terms.tangential or terms.prism):
        return u, v, xp.ones_like(u, dtype=bool)
    for _ in range(steps):
        error_x, error_y, xx, xy, yx, yy = _shifted_with_slopes(lens, terms, x, y)
        error_x, error_y = error_x - u, error_y - v
        determinant = xx * yy - xy * yx
        step_x = (yy * error_x - xy * error_y) / determinant
        step_y = (xx * error_y - yx * error_x) / determinant
        x, y = x - step_x, y - step_y
        arrived = xp.abs(step_x) + xp.abs(step_y) <= _last_step(u) * (1 + xp.abs(x) + xp.abs(y))
        if arrived.all():
            break
    return x, y, arrived


def _undo_radial(terms: Terms, u: Array, v: Array, limit: Array, tangent: bool) -> tuple[Array, Array]:
    """(u, v) rescaled from length t g(t) to length t (or tan t), for t up to `limit`; beyond it, anything."""
    xp = array_namespace(u)
    length2 = u * u + v * v
    length = xp.sqrt(xp.where(length2 > 0, length2, 1.0))
    t = _undo_polynomial(terms.radial, xp.where(length2 > 0, length, 0.0), limit)
    scale = xp.where(length2 > 0, (xp.tan(t) if tangent else t) / length, 1.0)
    return u * scale, v * scale


def _undo_polynomial(radial: tuple[Array, ...], target: Array, limit: Array) -> Array:
    """t in [0, limit] with t g(t) = target, by Newton's method with bisection as the fallback; 0 if there is none.

    The polynomial increases up to the limit, so that a solution found there is the only one.
    """
    xp = array_namespace(target)
    if not radial:
        return xp.minimum(target, limit)
    target = xp.where(target < limit * _polynomial(radial, limit * limit), target, 0.0)
    derivative = _derivative(radial)
    t = xp.minimum(target, limit)
    for _ in range(_PLAIN_STEPS):
        step = (t * _polynomial(radial, t * t) - target) / _polynomial(derivative, t * t)
        t = t - step
        arrived = (xp.abs(step) <= _last_step(t) * (1 + t)) & (t >= 0) & (t <= limit)
        if arrived.all():
            return t
    rest = ~arrived
    t = xp.where(arrived, t, 0.0)
    of_rest = tuple(xp.broadcast_to(k, rest.shape)[rest] for k in radial)
    t[rest] = _undo_polynomial_in_bracket(of_rest, target[rest], xp.broadcast_to(limit, rest.shape)[rest])
    return t


def _undo_polynomial_in_bracket(radial: tuple[Array, ...], target: Array, limit: Array) -> Array:
    xp = array_namespace(target)
    derivative = _derivative(radial)
    low, high = xp.zeros_like(target), limit + xp.zeros_like(target)
    t, last_step = xp.minimum(target, high), high
    for _ in range(100):
        error = t * _polynomial(radial, t * t) - target
        low, high = xp.where(error < 0, t, low), xp.where(error < 0, high, t)
        newton = t - error / _polynomial(derivative, t * t)
        newton_step, tolerance = xp.abs(newton - t), 4 * _epsilon(t) * (1 + t)
        trusted = (newton >= low) & (newton <= high) & (2 * newton_step < last_step) | (newton_step <= tolerance)
        new = xp.where(trusted, newton, (low + high) / 2)
        t, last_step = new, xp.abs(new - t)
        if not (last_step > tolerance).any():
            break
    return t


def _derivative(radial: tuple[Array, ...]) -> tuple[Array, ...]:
    """Coefficients of d(t g(t))/dt as those of g."""
    return tuple((2 * i + 3) * k for i, k in enumerate(radial))


def _last_step(array: Array) -> float:
    """A step of Newton's method after which none is needed: the error is about its square."""
    return 0.1 * _epsilon(array) ** 0.5


def _epsilon(array: Array) -> float:
    return float(array_namespace(array).finfo(array.dtype).eps)
