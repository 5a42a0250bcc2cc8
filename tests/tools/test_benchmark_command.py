"""`tools/benchmark.py`: tables, files, and error messages."""

import json

import pytest
import torch
from PIL import Image

from evaluation.utils.devices import has_bfloat16_products
from tests.commands import ROOT
from tests.tools.test_complexity_command import tables_of

KIND = 'Tables and other commands'
CONVNEXT = ROOT / 'configs/demo/mask_rcnn_convnext_micro.py'
PVT = ROOT / 'configs/demo/mask_rcnn_pvt_micro.py'
UPERNET = ROOT / 'configs/demo/upernet_convnext_micro.py'
BRIEF = ['--repeats', 2, '--matrix-side', 64, '--device', 'cpu']
SMALL = ['--shape', 32, 64]


@pytest.fixture
def benchmark(commands, tmp_path):
    """Run `tools/benchmark.py` briefly, in an empty folder."""
    return lambda *arguments: commands('benchmark', *BRIEF, *arguments, folder=tmp_path)


def succeed(outcome):
    assert outcome.status == 0, outcome.stderr[-3000:]
    return outcome


class TestOutput:
    def test_table_and_file_have_the_same_figures(self, benchmark, tmp_path):
        options = ['--backbone', *SMALL, '--batch', 2, '--json', 'times.json']
        outcome = succeed(benchmark(CONVNEXT, PVT, *options, '--peer', 'timm:convnext_atto'))
        (table,) = tables_of(outcome.stdout)['Forward on 2 images of 32x64 (height x width), fp32']
        header, *rows = table
        names = ['mask_rcnn_convnext_micro', 'mask_rcnn_pvt_micro', 'timm:convnext_atto']
        assert [row[0] for row in rows] == names
        figures = json.loads((tmp_path / 'times.json').read_text())
        assert figures['rounds'] == 2
        (found,) = figures['results']
        assert found['size'] == {'batch': 2, 'height': 32, 'width': 64}
        assert len(found['matrix_seconds']) == 2
        for cells, raw in zip(rows, found['rows'], strict=True):
            shown = dict(zip(header, cells, strict=True))
            assert shown['Params (M)'] == f'{raw["cost"]["parameters"] / 1e6:.2f}'
            median = sum(raw['seconds']) / 2
            assert float(shown['Time (ms)']) == pytest.approx(1e3 * median, rel=0.01)
            assert float(shown['Images/s']) == pytest.approx(2 / median, rel=0.01)
            assert float(shown['Memory (MB)']) == pytest.approx(raw['memory_bytes'] / 1e6, rel=0.01)
            assert raw['memory_bytes'] > 0
        assert 'backbones alone' in outcome.stdout
        assert f'PyTorch {torch.__version__}' in outcome.stdout
        assert '64x64 matrices' in outcome.stdout

    def test_whole_models_forward_and_backward(self, benchmark, tmp_path):
        dtype = 'bf16' if has_bfloat16_products() else 'fp32'
        options = ['--backward', '--dtype', dtype, '--batch', 2, '--seed', 3]
        outcome = succeed(benchmark(UPERNET, *SMALL, *options))
        (table,) = tables_of(outcome.stdout)[
            f'Forward and backward on 2 images of 32x64 (height x width), {dtype}'
        ]
        assert table[1][0] == 'upernet_convnext_micro'
        assert 'so that image content does not matter' in outcome.stdout
        assert ('bf16 by autocast' in outcome.stdout) == (dtype == 'bf16')
        assert not list(tmp_path.iterdir())

    def test_growth_when_one_size_does_not_fit(self, benchmark, tmp_path):
        options = ['--backbone', '--side', 1_000_000, 32, 64, '--plot', 'growth.png']
        outcome = succeed(benchmark(CONVNEXT, *options))
        tables = tables_of(outcome.stdout)
        assert len(tables) == 4
        (((*_, header), row),) = [tables['Time (ms) by size'][0]]
        assert header == '1000000x1000000'
        assert row[0] == 'mask_rcnn_convnext_micro'
        assert row[-1] == 'out of memory'
        assert all(float(cell) > 0 for cell in row[1:-1])
        assert Image.open(tmp_path / 'growth.png').size[0] > 1000

    def test_settings_are_overridden(self, benchmark, tmp_path):
        options = ['--backbone', *SMALL, '--json', 'times.json']
        override = ['--cfg-options', 'model.backbone.out_indices=[3]']
        flops = []
        for more in ([], override):
            succeed(benchmark(CONVNEXT, *options, *more))
            figures = json.loads((tmp_path / 'times.json').read_text())
            flops.append(figures['results'][0]['rows'][0]['cost']['parameters'])
        dims = (32, 64, 128)  # Each output norm has a weight and a bias per channel.
        assert flops[0] - flops[1] == 2 * sum(dims)


class TestBadInput:
    @pytest.mark.parametrize(
        ('options', 'given', 'message'),
        [
            (['--dtype', 'fp16'], '`--dtype fp16` on the CPU', '--dtype fp16 needs a GPU'),
            (
                ['--dtype', 'fp8'],
                'an unknown `--dtype`',
                "unknown dtype 'fp8'; choose from fp32, bf16, fp16",
            ),
            (
                ['--device', 'gpu'],
                'an unknown `--device`',
                "unknown device 'gpu'; give cpu, cuda or cuda:N",
            ),
            (
                ['--repeats', 0],
                '`--repeats 0`',
                "--repeats: '0' is not a whole number from 1 to 2147483647",
            ),
            (['--batch', 0], '`--batch 0`', "--batch: '0' is not a whole number from 1 to 2147483647"),
            (
                ['--shape', 31, 64],
                'benchmark: images smaller than the minimum size of the backbone',
                'at least 32',
            ),
            (['--shape', 64], 'benchmark: `--shape` with one value', '--help lists the options'),
            (['--side', 64], '`--shape` with `--side`', 'not allowed with argument --shape'),
            (
                ['--plot', 'growth.png'],
                '`--plot` with only one size',
                'give them with --side or --batch',
            ),
            (['--plot', 'growth.jpg'], '`--plot` that does not end in .png', 'must end in .png'),
            (
                ['--json', 'nowhere/times.json'],
                'benchmark: `--json` in a folder that does not exist',
                'cannot be written',
            ),
            (
                ['--peer', 'resnet50'],
                '`--peer` without `timm:`',
                "peer 'resnet50' must have the form timm:NAME, such as timm:convnext_tiny",
            ),
            (
                ['--peer', 'timm:convnxt_tiny'],
                '`--peer` with a misspelled name',
                'timm has no such model; did you mean convnext_tiny?',
            ),
            (
                ['--peer', 'timm:halonet26t'],
                '`--peer` that does not support the image size',
                'timm:halonet26t does not accept 32x64 (height x width); use 256x256, the next',
            ),
        ],
    )
    def test_option(self, benchmark, refused, nothing_written, options, given, message):
        outcome = benchmark(CONVNEXT, '--backbone', *SMALL, *options)
        refused(KIND, given, outcome, message)
        assert outcome.stdout == ''
        assert nothing_written()

    @pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
    def test_no_gpu(self, benchmark, refused):
        outcome = benchmark(CONVNEXT, *SMALL, '--device', 'cuda')
        refused(KIND, '`--device cuda` without a GPU', outcome, 'finds no GPU; give --device cpu')

    def test_peer_beside_whole_models(self, benchmark, refused):
        outcome = benchmark(CONVNEXT, *SMALL, '--peer', 'timm:convnext_atto')
        refused(KIND, '`--peer` without `--alone`', outcome, '--peer needs --alone')

    def test_standard_sizes_that_differ(self, benchmark, refused):
        outcome = benchmark(CONVNEXT, UPERNET)
        messages = [
            '800x1280 for mask_rcnn_convnext_micro',
            '512x2048 for upernet_',
            'give one size with --shape',
        ]
        refused(KIND, 'benchmark: models with different standard sizes', outcome, *messages)

    def test_two_growing_values(self, benchmark, refused):
        outcome = benchmark(CONVNEXT, '--side', 32, 64, '--batch', 1, 2)
        refused(KIND, 'several values of both `--side` and `--batch`', outcome, 'vary only one of them')

    def test_no_size_fits_in_memory(self, benchmark, refused, nothing_written):
        options = ['--backbone', '--side', 1_000_000, 2_000_000, '--json', 'times.json']
        outcome = benchmark(CONVNEXT, *options)
        message = 'at every size, even the smallest (1 image of 1000000x1000000 (height x width)'
        refused(KIND, 'benchmark: sizes that do not fit in memory', outcome, message)
        assert nothing_written()

    def test_batch_norm_of_one_image(self, benchmark, refused):
        outcome = benchmark(UPERNET, *SMALL, '--backward')
        refused(
            KIND,
            '`--backward` with a batch norm over a single value',
            outcome,
            'give more images with --batch',
        )

    def test_config_without_a_model(self, benchmark, refused, tmp_path):
        (tmp_path / 'empty.py').write_text('train_cfg = dict()\n')
        refused(
            KIND, 'benchmark: a config without a model', benchmark('empty.py'), 'empty.py has no model'
        )

    def test_missing_config(self, benchmark, refused):
        outcome = benchmark(ROOT / 'configs/mask_rcnn_swim_tiny.py')
        refused(KIND, 'benchmark: a misspelled config', outcome, 'mask_rcnn_swim_tiny.py is not a file')

    def test_unsupported_model(self, benchmark, refused, tmp_path):
        text = "default_scope = 'mmdet'\nmodel = dict(type='ResNet', depth=50)\n"
        (tmp_path / 'backbone.py').write_text(text)
        refused(
            KIND,
            'benchmark: a model that is not a detector or segmentor',
            benchmark('backbone.py', *SMALL),
            'config backbone.py: ',
            'supported are two-stage detectors',
        )
