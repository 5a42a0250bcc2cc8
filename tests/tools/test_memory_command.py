"""`tools/memory.py`: tables, files, and error messages."""

import json
import shutil

import pytest

from evaluation.memory.report import END, START
from tests.commands import ROOT
from tests.tools.test_complexity_command import tables_of
from tests.variants import MIXERS

KIND = 'Tables and other commands'
UPERNET = ROOT / 'configs/demo/upernet_convnext_micro.py'
DETECTOR = ROOT / 'configs/demo/mask_rcnn_swin_micro.py'

BROKEN = """
from torch import nn

class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        strides = (4, 2, 2, 2)
        self.stages = nn.ModuleList(
            nn.Conv2d(8 if n else 3, 8, stride, stride) for n, stride in enumerate(strides)
        )

    def forward(self, x):
        maps = []
        for stage in self.stages:
            maps.append(x := stage(x))
        return {}['x'] if self.training else maps
"""


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

    def test_configs_of_one_name_and_blocks_that_a_config_recomputes(self, predict, tmp_path):
        shutil.copytree(ROOT / 'configs/_base_', tmp_path / 'configs/_base_')
        (tmp_path / 'configs/demo').mkdir()
        copied = shutil.copy(UPERNET, tmp_path / 'configs/demo')
        options = ['--shape', 64, 64, '--batch', 2, '--json', 'bytes.json']
        recomputed = ['--cfg-options', 'model.backbone.with_cp=True']
        outcome = predict(UPERNET, copied, *options, *recomputed)
        assert outcome.status == 0, outcome.stderr[-3000:]
        first, second = json.loads((tmp_path / 'bytes.json').read_text()).values()
        assert first == second
        variants = first['variants']
        assert variants['cp']['step'] < variants['fp32']['step']

    def test_moving_average_and_accumulation(self, predict, tmp_path):
        options = ['--shape', 64, 64, '--batch', 2, '--json', 'bytes.json']
        more = ['optim_wrapper.accumulative_counts=2', "custom_hooks=[{'type':'EMAHook'}]"]
        found = []
        for overrides in ([], ['--cfg-options', *more]):
            outcome = predict(UPERNET, *options, *overrides)
            assert outcome.status == 0, outcome.stderr[-3000:]
            (memory,) = json.loads((tmp_path / 'bytes.json').read_text()).values()
            found.append(memory['variants']['fp32'])
        plain, longer = found
        assert (plain['average'], longer['average']) == (0, plain['weights'])
        assert longer['step'] - plain['step'] == plain['moments'] / 2


class TestPage:
    def test_it_has_a_row_for_each_mixer(self):
        page = (ROOT / 'docs/training.md').read_text()
        tables = page.partition(START)[2].partition(END)[0]
        for task in ('mask_rcnn', 'upernet'):
            for mixer in MIXERS:
                assert f'| {task}_{mixer}_tiny ' in tables, (task, mixer)

    @pytest.mark.parametrize('name', ['upernet_swin_tiny', 'mask_rcnn_pool_tiny'])
    def test_its_figures_are_those_of_the_command(self, predict, name):
        outcome = predict(ROOT / f'configs/{name}.py')
        page = (ROOT / 'docs/training.md').read_text().partition(START)[2].partition(END)[0]
        ((_, found),) = (rows for (rows,) in tables_of(outcome.stdout).values())
        written = [row for tables in tables_of(page).values() for rows in tables for row in rows]
        assert found in written


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

    def test_a_pipeline_that_cannot_be_read(self, predict, refused):
        outcome = predict(DETECTOR, '--cfg-options', 'train_dataloader.dataset.pipeline=[{}]')
        refused(KIND, 'memory: a step without a type', outcome, 'cannot be read', 'give --shape')

    def test_too_many_objects(self, predict, refused):
        outcome = predict(DETECTOR, '--objects', 1001)
        refused(KIND, 'memory: `--objects 1001`', outcome, 'from 1 to 1000')

    def test_missing_folder(self, predict, refused, tmp_path):
        outcome = predict(UPERNET, '--json', 'missing/bytes.json')
        refused(KIND, 'memory: `--json` in a missing folder', outcome, 'existing folder')

    def test_other_tables_for_the_page(self, predict, refused):
        outcome = predict(UPERNET, '--write-docs')
        refused(KIND, 'memory: `--write-docs` with a config', outcome, 'omit configs')

    def test_a_model_that_fails_in_training(self, predict, refused, tmp_path):
        (tmp_path / 'mine.py').write_text(BROKEN)
        outcome = predict(UPERNET, '--backbone', 'mine:Broken', '--shape', 64, 64)
        refused(KIND, 'memory: a backbone that fails in training', outcome, "KeyError: 'x'", 'mine.py')

    @pytest.mark.parametrize('batch', [0, 'two'])
    def test_batch(self, predict, refused, batch):
        outcome = predict(UPERNET, '--batch', batch)
        refused(KIND, f'memory: `--batch {batch}`', outcome, 'is not a whole number')
