"""Area ratios and Gaussian fits of contribution maps, and their table and figure."""

import math
from itertools import combinations

import numpy as np
import pytest
from matplotlib.text import Text
from scipy.optimize import curve_fit

from evaluation.analysis.receptive_field.presentation import area_table, draw_maps, percent_of
from evaluation.analysis.receptive_field.result import (
    THRESHOLDS,
    Maps,
    TargetResult,
    centered_area_ratios,
    gaussian_fits,
)
from evaluation.analysis.results import figure_bytes
from evaluation.utils.text_tables import to_markdown


def gaussian(size, sigma_y, sigma_x):
    """Return a Gaussian around the pixel (size // 2, size // 2)."""
    distances = np.arange(size) - size // 2
    down, across = (np.exp(-0.5 * (distances / sigma) ** 2) for sigma in (sigma_y, sigma_x))
    return np.outer(down, across)


class TestAreaRatios:
    def test_gaussian_agrees_with_the_error_function(self):
        size, sigma = 513, 30.0
        for share, ratio in centered_area_ratios(gaussian(size, sigma, sigma)).items():
            inside = (math.erf((k + 0.5) / (sigma * math.sqrt(2))) ** 2 for k in range(size))
            k = next(k for k, held in enumerate(inside) if held >= share)
            assert ratio == (2 * k + 1) ** 2 / size**2

    def test_one_pixel(self):
        whole = np.zeros((8, 10))
        whole[4, 5] = 3
        assert set(centered_area_ratios(whole).values()) == {1 / 80}

    def test_corner_needs_the_whole_image(self):
        whole = np.zeros((8, 8))
        whole[0, 0] = 3
        assert set(centered_area_ratios(whole).values()) == {1.0}

    def test_increases_with_the_share(self):
        ratios = centered_area_ratios(np.random.default_rng(0).random((33, 48)) ** 8)
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

    def test_agrees_with_scipy(self):
        noisy = gaussian(65, 6.0, 9.0) + 0.02 * np.random.default_rng(0).random((65, 65))
        distances = np.arange(65) - 32
        for axis, fit in zip((1, 0), gaussian_fits(noisy), strict=True):
            profile = noisy.sum(axis)
            (_, sigma), _ = curve_fit(
                lambda d, a, s: a * np.exp(-0.5 * (d / s) ** 2), distances, profile, p0=(10, 8)
            )
            assert fit.sigma == pytest.approx(abs(sigma), rel=1e-5)
            assert 0.5 < fit.r2 < 1


def model(name, targets, size=64):
    """Return maps of a model with Gaussians that get wider from target to target."""
    distances = np.arange(size) - size // 2
    profiles = [np.exp(-0.5 * (distances / (3.0 + 4 * place)) ** 2) for place in range(len(targets))]
    results = [
        TargetResult(t, (4, 4), 9, np.outer(p, p)) for t, p in zip(targets, profiles, strict=True)
    ]
    return Maps(name, size, 'digest', results)


SWIN = model('mask_rcnn_convnext_small (before training)', ['stage1', 'stage4'])
DCN = model('upernet_dcn_base (iter_160000)', ['stage1', 'stage2', 'logits'])


def texts_of(figure):
    figure.canvas.draw()
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent()) for text in found]


class TestFigure:
    @pytest.mark.parametrize('models', [[SWIN], [DCN], [SWIN, DCN], [SWIN, DCN, SWIN, DCN, SWIN]])
    def test_no_text_is_clipped_or_overlaps(self, models):
        figure = draw_maps(models)
        texts = texts_of(figure)
        width, height = figure.bbox.size
        for text, box in texts:
            assert min(box.x0, box.y0) >= 0, text
            assert box.x1 <= width, text
            assert box.y1 <= height, text
        for (one, box), (other, other_box) in combinations(texts, 2):
            assert not box.overlaps(other_box), f'{one!r} over {other!r}'

    def test_rows_are_named_once_and_maps_show_ratios(self):
        words = [text for text, _ in texts_of(draw_maps([SWIN, DCN]))]
        for name in ('stage1', 'stage2', 'stage4', 'logits'):
            assert words.count(name) == 1
        assert sum(text.startswith('20 %: ') for text in words) == 5
        ratio = percent_of(DCN.targets[-1].area_ratios[0.5])
        assert any(f'50 %: {ratio} ' in text for text in words)

    def test_shared_color_scale(self):
        pictures = [image for axes in draw_maps([SWIN, DCN]).axes for image in axes.images]
        scales = {(image.norm.vmin, image.norm.vmax, image.cmap.name) for image in pictures}
        assert scales == {(1e-4, 1.0, 'magma')}
        assert all(image.get_array().max() == 1 for image in pictures)

    def test_same_maps_same_bytes(self):
        for kind in ('png', 'pdf'):
            first, second = (figure_bytes(draw_maps([SWIN]), kind) for _ in range(2))
            assert first == second


@pytest.mark.parametrize(
    ('ratio', 'text'),
    [(1.0, '100'), (0.634, '63'), (0.0996, '10'), (0.0094, '0.94'), (1.4e-4, '0.014'), (1e-6, '<0.001')],
)
def test_percent(ratio, text):
    assert percent_of(ratio) == text


def test_table_has_a_row_for_each_target():
    lines = to_markdown(area_table([SWIN, DCN])).splitlines()
    rows = [line for line in lines if line.startswith(('| mask', '| upernet'))]
    assert [row.split('|')[2].strip() for row in rows] == [
        'stage1', 'stage4', 'stage1', 'stage2', 'logits',
    ]  # fmt: skip
    assert [cell.strip() for cell in rows[0].split('|')[8:11]] == ['3.0', '3.0', '1.000']
