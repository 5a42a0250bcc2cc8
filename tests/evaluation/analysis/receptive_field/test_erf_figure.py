"""Pictures and tables of receptive fields: all text inside, none over another."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.text import Text

from evaluation.analysis.receptive_field.presentation import area_table, draw_maps, percent
from evaluation.analysis.receptive_field.result import Maps, TargetResult
from evaluation.analysis.results import figure_bytes
from evaluation.utils.text_tables import to_markdown


def model(name, targets, size=64):
    """A model with a wider and wider Gaussian for each target."""
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
    def test_no_text_is_cut_off_or_over_another(self, models):
        figure = draw_maps(models)
        texts = texts_of(figure)
        width, height = figure.bbox.size
        for text, box in texts:
            assert min(box.x0, box.y0) >= 0, text
            assert box.x1 <= width, text
            assert box.y1 <= height, text
        for (one, box), (other, other_box) in combinations(texts, 2):
            assert not box.overlaps(other_box), f'{one!r} over {other!r}'

    def test_every_row_is_named_once_and_every_map_has_its_ratios(self):
        words = [text for text, _ in texts_of(draw_maps([SWIN, DCN]))]
        for name in ('stage1', 'stage2', 'stage4', 'logits'):
            assert words.count(name) == 1
        assert sum(text.startswith('20 %: ') for text in words) == 5
        ratio = percent(DCN.targets[-1].area_ratios[0.5])
        assert any(f'50 %: {ratio} ' in text for text in words)

    def test_one_colour_scale(self):
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
    assert percent(ratio) == text


def test_table_has_a_row_for_each_target():
    lines = to_markdown(area_table([SWIN, DCN])).splitlines()
    rows = [line for line in lines if line.startswith(('| mask', '| upernet'))]
    assert [row.split('|')[2].strip() for row in rows] == [
        'stage1', 'stage4', 'stage1', 'stage2', 'logits',
    ]  # fmt: skip
    assert [cell.strip() for cell in rows[0].split('|')[8:11]] == ['3.0', '3.0', '1.000']
