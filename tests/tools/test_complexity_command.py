"""`tools/complexity.py`: tables, file, and error messages."""

import json
import re

import pytest

from tests.commands import ROOT
from tests.tools.conftest import SIZE

KIND = 'Tables and other commands'
CONVNEXT = 'configs/demo/mask_rcnn_convnext_micro.py'
UPERNET = 'configs/demo/upernet_convnext_micro.py'


@pytest.fixture
def count(commands, tmp_path):
    """Run `tools/complexity.py` in an empty folder."""
    return lambda *arguments: commands('complexity', *arguments, folder=tmp_path)


def tables_of(text):
    """Return the rows of every Markdown table as lists of cells, by heading."""
    tables = {}
    for block in re.split(r'^### ', text, flags=re.M)[1:]:
        heading, *lines = block.splitlines()
        rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if '|' in line]
        tables.setdefault(heading, []).append([row for row in rows if not row[0].startswith('---')])
    return tables


class TestOutput:
    def test_tables_have_the_figures_of_the_file(self, count, tmp_path):
        configs = [str(ROOT / CONVNEXT), str(ROOT / UPERNET)]
        outcome = count(*configs, '--json', 'figures.json')
        assert outcome.status == 0, outcome.stderr[-3000:]
        figures = json.loads((tmp_path / 'figures.json').read_text())
        assert list(figures) == configs
        tables = tables_of(outcome.stdout)
        sizes = {'800x1280': configs[0], '512x2048': configs[1]}
        for size, config in sizes.items():
            ((header, row),) = tables[f'FLOPs (G) at {size} (height x width)']
            parts = figures[config]['parts']
            names = [part['name'] for part in parts]
            assert header == ['Config', 'total', *names, 'norms', 'total with norms']
            assert row[0] == config
            assert row[1] == f'{figures[config]["flops"] / 1e9:.2f}'
            shown = ['–' if part['flops'] is None else f'{part["flops"] / 1e9:.2f}' for part in parts]
            norms = [f'{figures[config][key] / 1e9:.2f}' for key in ('norm_flops', 'flops_with_norms')]
            assert row[2:] == shown + norms
        totals = [table[1][1] for table in tables['Parameters (M)']]
        assert totals == [f'{figures[config]["parameters"] / 1e6:.2f}' for config in configs]

    def test_parameters_that_train(self, count, tmp_path):
        options = ['--protocol', 'linear', '--json', 'figures.json']
        outcome = count(ROOT / UPERNET, *options)
        assert outcome.status == 0, outcome.stderr[-3000:]
        ((name, figures),) = json.loads((tmp_path / 'figures.json').read_text()).items()
        assert name.endswith('upernet_convnext_micro_linear.py')
        head = next(part for part in figures['parts'] if part['name'] == 'decode head')
        assert figures['trainable'] == head['parameters']
        counts = f'{figures["trainable"] / 1e6:.2f} of {figures["parameters"] / 1e6:.2f} M'
        assert f'{name}: {counts} parameters train.' in outcome.stdout

    def test_says_what_was_counted_and_writes_nothing(self, count, tmp_path):
        outcome = count(ROOT / CONVNEXT)
        assert outcome.status == 0, outcome.stderr[-3000:]
        assert outcome.stdout.startswith('### Parameters (M)\n')
        assert 'a multiply-add counts as one' in outcome.stdout
        assert 'box head on 1000 regions, mask head on 100' in outcome.stdout
        assert 'auxiliary head' in outcome.stdout
        assert not list(tmp_path.iterdir())

    def test_shape_is_height_and_width(self, count, tmp_path):
        outcome = count(ROOT / UPERNET, '--shape', 64, 96, '--json', 'figures.json')
        assert 'FLOPs (G) at 64x96 (height x width)' in outcome.stdout
        (figures,) = json.loads((tmp_path / 'figures.json').read_text()).values()
        assert (figures['height'], figures['width']) == (64, 96)

    def test_settings_are_overridden(self, count, tmp_path):
        override = ['--cfg-options', 'model.auxiliary_head.channels=33']
        for name, options in (('as_it_is', []), ('changed', override)):
            outcome = count(ROOT / UPERNET, '--shape', 64, 64, '--json', f'{name}.json', *options)
            assert outcome.status == 0, outcome.stderr[-3000:]
        one, other = (
            next(iter(json.loads((tmp_path / f'{name}.json').read_text()).values()))
            for name in ('as_it_is', 'changed')
        )
        assert one['flops'] == other['flops']
        # One more channel: a 3x3 convolution from 128 channels, a batch norm, and 8 class weights.
        assert other['parameters'] - one['parameters'] == 9 * 128 + 2 + 8

    def test_evaluations_report_the_complexity(self, trial, trained):
        result = json.loads(next(iter(sorted(trained.rglob('result.json')))).read_text())
        figures = result['complexity']
        assert figures['parameters'] == result['parameters']['total']
        assert figures['uncounted_operators'] == []
        expected = {'mask_rcnn': [800, 1280], 'upernet': [512, 2048]}[trial.task]
        assert [figures['height'], figures['width']] == expected != list(SIZE)
        assert figures['flops'] == sum(part['flops'] or 0 for part in figures['parts']) > 1e9


class TestBadInput:
    def test_missing_config(self, count, refused, tmp_path):
        outcome = count(ROOT / 'configs/mask_rcnn_swim_tiny.py')
        refused(KIND, 'complexity: a misspelled config', outcome, 'mask_rcnn_swim_tiny.py is not a file')
        assert not list(tmp_path.iterdir())

    def test_config_without_a_model(self, count, refused, tmp_path):
        (tmp_path / 'empty.py').write_text('train_cfg = dict()\n')
        refused(KIND, 'complexity: a config without a model', count('empty.py'), 'empty.py has no model')

    def test_unsupported_model(self, count, refused, tmp_path):
        text = "default_scope = 'mmdet'\nmodel = dict(type='ResNet', depth=50)\n"
        (tmp_path / 'backbone.py').write_text(text)
        refused(
            KIND,
            'complexity: a model that is not a detector or segmentor',
            count('backbone.py'),
            'config backbone.py: FLOPs of ResNet cannot be counted',
        )

    def test_unknown_mixer(self, count, refused):
        outcome = count(ROOT / CONVNEXT, '--cfg-options', 'model.backbone.mixer.type=swim')
        refused(KIND, 'complexity: an unknown mixer', outcome, "unknown mixer 'swim'", 'choose from')

    def test_channels_that_do_not_fit(self, count, refused):
        outcome = count(ROOT / CONVNEXT, '--cfg-options', 'model.neck.in_channels=[8,16,32,64]')
        refused(KIND, 'complexity: channels that do not match', outcome, 'neck.lateral_convs.0.conv: ')

    @pytest.mark.parametrize(
        ('shape', 'given', 'message'),
        [
            (
                (31, 64),
                'complexity: `--shape` smaller than the minimum size of the backbone',
                'both sides must be at least 32',
            ),
            ((64, 0), 'complexity: `--shape` with a side of 0', 'both must be at least 1 pixel'),
            ((64, 'x'), 'complexity: `--shape` that is not a number', '--help lists the options'),
            ((64,), 'complexity: `--shape` with one value', '--help lists the options'),
        ],
    )
    def test_shape(self, count, refused, shape, given, message):
        refused(KIND, given, count(ROOT / CONVNEXT, '--shape', *shape), message)

    @pytest.mark.parametrize(
        ('file', 'given'),
        [
            ('nowhere/figures.json', 'complexity: `--json` in a folder that does not exist'),
            ('.', 'complexity: `--json` that is a folder'),
        ],
    )
    def test_file(self, count, refused, nothing_written, file, given):
        outcome = count(ROOT / CONVNEXT, '--json', file)
        refused(KIND, given, outcome, f'{file}: cannot be written')
        assert outcome.stdout == ''
        assert nothing_written()

    def test_no_config(self, count, refused):
        refused(KIND, 'complexity: no config', count(), 'required: CONFIG')
