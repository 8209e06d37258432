"""Lens models: how far from the axis each can be trusted, and precision beside the axis."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finepose_mp import cameras, lenses
from finepose_mp.cameras import in_view, max_angle, project, unproject

pytestmark = pytest.mark.filterwarnings("error")

EXO = np.array([1906.5, 1912.2, 1920, 1080, 0.028, 0.079, -0.103, 0.0495])
# theta (1 - 0.3 theta^2) turns at theta = 1/sqrt(0.9); r (1 - r^2 / 3) turns at r = 1
FISHEYE = np.array([100.0, 100.0, 50.0, 50.0, -0.3, 0, 0, 0])
BROWN = np.array([100.0, 100.0, 50.0, 50.0, -1 / 3, 0, 0, 0, 0])


def test_angle_is_where_the_polynomial_turns():
    np.testing.assert_allclose(max_angle("opencv_fisheye", FISHEYE), 1 / np.sqrt(0.9), rtol=1e-12)
    np.testing.assert_allclose(max_angle("brown_conrady", BROWN), np.pi / 4, rtol=1e-12)
    np.testing.assert_allclose(cameras.max_radius("brown_conrady", BROWN), 1, rtol=1e-12)
    assert max_angle("pinhole", [500, 500, 320, 240]) == lenses.WIDEST_ANGLE


@pytest.mark.parametrize("k", [1e-320, -1e-320, 1e-45, 0.0])
def test_vanishing_coefficients_set_no_limit(k):
    assert max_angle("opencv_fisheye", [1, 1, 0, 0, 0.1, k, 0, k]) == lenses.WIDEST_ANGLE


@settings(max_examples=50, deadline=None)
@given(radial=st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_polynomial_increases_up_to_the_angle_and_not_beyond(radial):
    limit = float(max_angle("opencv_fisheye", [1, 1, 0, 0, *radial]))
    derivative = np.polynomial.Polynomial([1, 0, 3 * radial[0], 0, 5 * radial[1], 0, 7 * radial[2], 0, 9 * radial[3]])
    assert (derivative(np.linspace(0, limit, 200)) > -1e-6).all()
    assert limit == lenses.WIDEST_ANGLE or abs(derivative(limit)) < 1e-6


@pytest.mark.parametrize("model, params", [("opencv_fisheye", FISHEYE), ("brown_conrady", BROWN)])
def test_points_beyond_do_not_fold_back_into_the_image(model, params):
    angle = max_angle(model, params) + np.array([-0.01, 0.01, 0.3])
    points = np.stack([np.sin(angle), np.zeros(3), np.cos(angle)], axis=-1)
    assert np.isfinite(project(points, model, params)).all(axis=-1).tolist() == [True, False, False]
    assert in_view(points, model, params, (1000, 1000)).tolist() == [True, False, False]


@pytest.mark.parametrize("model, params", [("opencv_fisheye", FISHEYE), ("brown_conrady", BROWN)])
def test_pixels_that_no_direction_reaches_have_no_ray(model, params):
    edge = project(np.array([np.tan(max_angle(model, params) - 1e-9), 0, 1]), model, params)[0] - 50
    rays = unproject(50 + edge * np.array([[0.99, 0], [1.01, 0], [30, 4]]), model, params)
    assert np.isfinite(rays).all(axis=-1).tolist() == [True, False, False]


@pytest.mark.parametrize("model, params", [("opencv_fisheye", FISHEYE), ("brown_conrady", BROWN)])
def test_rays_up_to_the_edge_whatever_else_is_asked_for(model, params):
    """Most pixels are inverted in a few steps, those at the edge with care; neither disturbs the other."""
    shares = np.array([0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999])
    angles = shares * max_angle(model, params)
    turn = np.arange(len(angles))
    points = np.stack([np.tan(angles) * np.cos(turn), np.tan(angles) * np.sin(turn), np.ones_like(angles)], axis=-1)
    pixels = np.concatenate([project(points, model, params), [[1e4, 1e4], [np.nan, 0]]])
    rays = unproject(pixels, model, params)
    np.testing.assert_allclose(rays[:-2], points[:, :2], rtol=0, atol=1e-9)
    assert np.isnan(rays[-2:]).all()
    np.testing.assert_allclose(np.stack([unproject(p, model, params) for p in pixels]), rays, rtol=0, atol=1e-12)


def test_angle_is_found_once_per_distinct_coefficients(monkeypatch):
    calls = []
    roots = np.roots
    monkeypatch.setattr(np, "roots", lambda coefficients: calls.append(1) or roots(coefficients))
    params = np.tile(EXO, (100, 1))
    params[50:, 4] = 0.0123456
    params[:, 2] += np.arange(100)  # the centre has no say
    for _ in range(3):
        max_angle("opencv_fisheye", params)
    assert 1 <= len(calls) <= 2


def test_unknown_parameters_make_everything_unusable():
    params = np.stack([EXO, np.full(8, np.nan)])[:, None]
    assert np.isnan(max_angle("opencv_fisheye", params)[1]).all()
    points = np.array([[0.1, 0.2, 1.0], [0.0, 0.0, 1.0]])
    assert np.isfinite(project(points, "opencv_fisheye", params)).all(axis=(1, 2)).tolist() == [True, False]
    assert np.isfinite(unproject(points[:, :2], "opencv_fisheye", params)).all(axis=(1, 2)).tolist() == [
        True,
        False,
    ]
    assert in_view(points, "opencv_fisheye", params, (3840, 2160)).any(axis=1).tolist() == [True, False]


@pytest.mark.parametrize("radius", [0.0, 1e-300, 1e-160, 1e-9, 9.9e-5, 1.01e-4, 1e-2])
def test_full_precision_beside_the_axis(radius):
    pixels = project(np.array([radius, 0.0, 1.0]), "opencv_fisheye", [1.0, 1, 0, 0, 0.5, 0, 0, 0])
    angle = np.arctan(radius)
    np.testing.assert_allclose(pixels, [angle * (1 + 0.5 * angle**2), 0], rtol=4e-16)
