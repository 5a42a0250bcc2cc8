"""`tools/memory.py`: tables, files, and error messages."""

import json

import pytest

from evaluation.memory.report import END, START
from tests.commands import ROOT
from tests.tools.test_complexity_command import tables_of
from tests.variants import MIXERS

KIND = 'Tables and other commands'
UPERNET = ROOT / 'configs/demo/upernet_convnext_micro.py'
DETECTOR = ROOT / 'configs/demo/mask_rcnn_swin_micro.py'


@pytest.fixture
def predict(commands, tmp_path):
    """Run `tools/memory.py` in an empty folder."""
    return lambda *arguments: commands('memory', *arguments, folder=tmp_path)


class TestOutput:
    def test_table_has_the_figures_of_the_file(self, predict, tmp_path):
        options = ['--shape', 64, 96, '--batch', 3, '--gpus', 1, '--json', 'bytes.json']
        outcome = predict(UPERNET, DETECTOR, *options, '--objects', 5)
        assert outcome.status == 0, outcome.stderr[-3000:]
        title = 'Memory of a training step in GB: 3 images of 64x96 (height x width) on each of 1 GPU'
        ((header, *rows),) = tables_of(outcome.stdout)[title]
        figures = json.loads((tmp_path / 'bytes.json').read_text())
        assert [row[0] for row in rows] == list(figures) == [UPERNET.stem, DETECTOR.stem]
        for row, found in zip(rows, figures.values(), strict=True):
            assert found['size'] == {'batch': 3, 'height': 64, 'width': 96}
            shown = dict(zip(header, row, strict=True))
            for name, each in found['variants'].items():
                assert each['buckets'] == 0
                lasting = each['weights'] + each['moments']
                total = lasting + max(each['step'], each['optimizer_step'])
                assert shown[name] == f'{total / 1e9:.1f}'
            assert shown['16 GB'] == 'fp32'
        assert 'Detectors have 5 objects' in outcome.stdout
        assert 'Warning' not in outcome.stderr

    def test_other_backbones_and_the_size_of_the_training(self, predict, tmp_path):
        names = ['dcn_micro', 'timm:resnet18']
        outcome = predict(UPERNET, '--backbone', *names, '--json', 'bytes.json')
        assert outcome.status == 0, outcome.stderr[-3000:]
        figures = json.loads((tmp_path / 'bytes.json').read_text())
        assert list(figures) == ['upernet_dcn_micro', 'upernet_resnet18']
        assert {tuple(each['size'].values()) for each in figures.values()} == {(2, 128, 128)}


class TestPage:
    def test_it_has_a_row_for_each_mixer(self):
        page = (ROOT / 'docs/training.md').read_text()
        tables = page.partition(START)[2].partition(END)[0]
        for task in ('mask_rcnn', 'upernet'):
            for mixer in MIXERS:
                assert f'| {task}_{mixer}_tiny ' in tables, (task, mixer)


class TestBadInput:
    def test_no_config(self, predict, refused):
        refused(KIND, 'memory: no config', predict(), 'required: CONFIG')

    def test_missing_config(self, predict, refused):
        outcome = predict(ROOT / 'configs/mask_rcnn_swim_tiny.py')
        refused(KIND, 'memory: a misspelled config', outcome, 'mask_rcnn_swim_tiny.py is not a file')

    def test_config_without_a_model(self, predict, refused, tmp_path):
        (tmp_path / 'empty.py').write_text('train_cfg = dict()\n')
        refused(KIND, 'memory: a config without a model', predict('empty.py'), 'empty.py has no model')

    def test_small_images(self, predict, refused):
        outcome = predict(UPERNET, '--shape', 16, 16)
        refused(KIND, 'memory: images smaller than the backbone takes', outcome, 'at least 32')

    def test_config_as_backbone(self, predict, refused):
        outcome = predict(UPERNET, '--backbone', DETECTOR.name)
        refused(KIND, 'memory: a config as `--backbone`', outcome, 'give the configs first')

    def test_no_size(self, predict, refused):
        outcome = predict(DETECTOR, '--cfg-options', 'train_dataloader.dataset.pipeline=[]')
        refused(KIND, 'memory: a training that states no size of images', outcome, 'give --shape')

    @pytest.mark.parametrize('batch', [0, 'two'])
    def test_batch(self, predict, refused, batch):
        outcome = predict(UPERNET, '--batch', batch)
        refused(KIND, f'memory: `--batch {batch}`', outcome, 'is not a whole number')
