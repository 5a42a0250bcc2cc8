"""Figures of maps that are known in closed form."""

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from evaluation.analysis.receptive_field.result import (
    THRESHOLDS,
    centred_area_ratios,
    gaussian_fits,
)


def gaussian(size, sigma_y, sigma_x):
    """A Gaussian around the pixel (size // 2, size // 2)."""
    distances = np.arange(size) - size // 2
    down, across = (np.exp(-0.5 * (distances / sigma) ** 2) for sigma in (sigma_y, sigma_x))
    return np.outer(down, across)


class TestAreaRatios:
    def test_gaussian_has_those_of_the_error_function(self):
        size, sigma = 513, 30.0
        for share, ratio in centred_area_ratios(gaussian(size, sigma, sigma)).items():
            inside = (math.erf((k + 0.5) / (sigma * math.sqrt(2))) ** 2 for k in range(size))
            k = next(k for k, held in enumerate(inside) if held >= share)
            assert ratio == (2 * k + 1) ** 2 / size**2

    def test_one_pixel(self):
        whole = np.zeros((8, 10))
        whole[4, 5] = 3
        assert set(centred_area_ratios(whole).values()) == {1 / 80}

    def test_corner_needs_all(self):
        whole = np.zeros((8, 8))
        whole[0, 0] = 3
        assert set(centred_area_ratios(whole).values()) == {1.0}

    def test_rises_with_the_share(self):
        ratios = centred_area_ratios(np.random.default_rng(0).random((33, 48)) ** 8)
        assert [*ratios] == [*THRESHOLDS]
        assert sorted(ratios.values()) == [*ratios.values()]


class TestGaussianFit:
    @pytest.mark.parametrize(('sigma_y', 'sigma_x'), [(2.0, 11.0), (40.0, 20.0), (300.0, 0.5)])
    def test_finds_the_width(self, sigma_y, sigma_x):
        down, across = gaussian_fits(5 * gaussian(96, sigma_y, sigma_x))
        assert down.sigma == pytest.approx(sigma_y, rel=1e-5)
        assert across.sigma == pytest.approx(sigma_x, rel=1e-5)
        assert down.r2 == pytest.approx(1)
        assert across.r2 == pytest.approx(1)

    def test_is_the_least_squares_of_scipy(self):
        noisy = gaussian(65, 6.0, 9.0) + 0.02 * np.random.default_rng(0).random((65, 65))
        distances = np.arange(65) - 32
        for axis, fit in zip((1, 0), gaussian_fits(noisy), strict=True):
            profile = noisy.sum(axis)
            (_, sigma), _ = curve_fit(
                lambda d, a, s: a * np.exp(-0.5 * (d / s) ** 2), distances, profile, p0=(10, 8)
            )
            assert fit.sigma == pytest.approx(abs(sigma), rel=1e-5)
            assert 0.5 < fit.r2 < 1
