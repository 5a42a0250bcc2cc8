import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config

from evaluation.config.reading import read_config
from evaluation.config.run_settings import check_same_experiment
from evaluation.config.text import read_literals
from evaluation.utils.errors import UserError
from tests.commands import ROOT

SWIN = ROOT / 'configs/mask_rcnn_swin_tiny.py'


@pytest.fixture(scope='module')
def swin():
    return read_config(str(SWIN))


def checkpoint_of(config, **training):
    """What mmengine stores of a config in a checkpoint."""
    return {'meta': {'cfg': config.pretty_text, 'training': training}}


@pytest.fixture(scope='module')
def checkpoint(swin):
    return checkpoint_of(swin, batch_size=2)


def changed(config, **changes):
    """A copy with some settings changed; `__` stands for a dot."""
    config = copy.deepcopy(config)
    config.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    return config


class TestSame:
    def test_itself(self, swin, checkpoint, capsys):
        check_same_experiment(swin, checkpoint, 'epoch_1.pth')
        assert capsys.readouterr().err == ''

    @pytest.mark.parametrize(
        'changes',
        [
            {'train_dataloader__dataset__data_root': 'elsewhere'},
            {'val_dataloader__dataset__data_root': 'elsewhere', 'data_root': 'elsewhere'},
            {'train_dataloader__dataset__ann_file': 'elsewhere.json'},
            {'train_dataloader__num_workers': 0, 'train_dataloader__persistent_workers': False},
            {'default_hooks__logger__interval': 1, 'default_hooks__checkpoint__interval': 7},
            {'launcher': 'pytorch', 'resume': True, 'load_from': 'x.pth', 'work_dir': 'w'},
            {'model__backbone__init_cfg': {'type': 'Pretrained', 'checkpoint': 'x.pth'}},
            {'model__backbone__with_cp': True},
            {'optim_wrapper__type': 'AmpOptimWrapper', 'optim_wrapper__loss_scale': 'dynamic'},
            {'train_cfg__val_interval': 3, 'val_dataloader__batch_size': 4},
            {'model__test_cfg__rcnn__score_thr': 0.1},
            {'env_cfg__dist_cfg__backend': 'gloo', 'randomness': {'seed': 3}},
        ],
    )
    def test_differs_in_nothing_that_matters(self, swin, checkpoint, capsys, changes):
        check_same_experiment(changed(swin, **changes), checkpoint, 'epoch_1.pth')
        assert capsys.readouterr().err == ''

    @pytest.mark.parametrize(
        ('changes', 'said'),
        [
            ({'train_cfg__max_epochs': 24}, 'train_cfg.max_epochs is 24 here and 12 there'),
            (
                {'train_dataloader__batch_size': 4},
                'train_dataloader.batch_size is 4 here and 2 there',
            ),
            (
                {'train_dataloader__dataset__pipeline__3__prob': 0.0},
                'train_dataloader.dataset.pipeline.3.prob is 0.0 here and 0.5 there',
            ),
            (
                {'optim_wrapper__clip_grad': {'max_norm': 1}},
                "optim_wrapper.clip_grad is {'max_norm': 1} here and nothing there",
            ),
        ],
    )
    def test_differs_in_what_may_be_wanted(self, swin, checkpoint, capsys, changes, said):
        check_same_experiment(changed(swin, **changes), checkpoint, 'epoch_1.pth')
        assert capsys.readouterr().err == f'warning: going on from epoch_1.pth: {said}\n'

    def test_other_number_of_processes(self, swin, checkpoint, capsys, monkeypatch):
        monkeypatch.setenv('WORLD_SIZE', '4')
        check_same_experiment(swin, checkpoint, 'epoch_1.pth')
        assert 'a step has 8 images here and 2 there' in capsys.readouterr().err

    def test_accumulated_batches_are_images_of_a_step(self, swin, checkpoint, capsys):
        check_same_experiment(
            changed(swin, optim_wrapper__accumulative_counts=3), checkpoint, 'epoch_1.pth'
        )
        assert 'a step has 6 images here and 2 there' in capsys.readouterr().err

    @pytest.mark.parametrize('meta', [{}, {'cfg': None}, {'cfg': '(:'}, {'cfg': 'pass'}])
    def test_file_that_does_not_say(self, swin, capsys, meta):
        check_same_experiment(swin, {'meta': meta}, 'epoch_1.pth')
        assert 'epoch_1.pth does not say which config' in capsys.readouterr().err


class TestOther:
    @pytest.mark.parametrize(
        ('name', 'said'),
        [
            (
                'mask_rcnn_dcn_tiny',
                "model.backbone.mixer.type is 'dcn' here and 'swin' there",
            ),
            ('upernet_swin_tiny', "model.type is 'EncoderDecoder' here and 'MaskRCNN' there"),
            ('mask_rcnn_swin_small', 'model.backbone.depths.2 is 18 here and 6 there'),
            ('mask_rcnn_r50', "model.backbone.type is 'ResNet' here and 'UnifiedBackbone' there"),
        ],
    )
    def test_config(self, checkpoint, name, said):
        cfg = read_config(str(ROOT / f'configs/{name}.py'))
        with pytest.raises(UserError) as refusal:
            check_same_experiment(cfg, checkpoint, 'epoch_1.pth')
        (line,) = str(refusal.value).splitlines()
        assert line.startswith(f'epoch_1.pth is of another experiment: {said}')
        assert line.endswith('give the config that it was trained with, or another --work-dir')

    @pytest.mark.parametrize(
        ('changes', 'said'),
        [
            ({'optim_wrapper__optimizer__lr': 0.1}, 'optimizer.lr is 0.1 here and 0.0001 there'),
            (
                {'param_scheduler__1__milestones': [27, 33]},
                'param_scheduler.1.milestones.0 is 27 here and 8 there, '
                'param_scheduler.1.milestones.1 is 33 here and 11 there',
            ),
            ({'model__backbone__drop_path_rate': 0.3}, 'drop_path_rate is 0.3 here and 0.2 there'),
        ],
    )
    def test_schedule(self, swin, checkpoint, changes, said):
        with pytest.raises(UserError) as refusal:
            check_same_experiment(changed(swin, **changes), checkpoint, 'epoch_1.pth')
        assert said in str(refusal.value)

    def test_many_differences_are_counted(self, swin, checkpoint):
        changes = {'optim_wrapper__optimizer__lr': 0.1, 'model__neck__num_outs': 6}
        cfg = changed(swin, **changes, param_scheduler__0__end=1, param_scheduler__0__begin=9)
        with pytest.raises(UserError, match=r' there, and 2 more; give '):
            check_same_experiment(cfg, checkpoint, 'epoch_1.pth')


SETTINGS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('abc \'"\\_', max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text('abcd', min_size=1, max_size=4), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


class TestText:
    @given(st.dictionaries(st.text('efgh', min_size=1, max_size=4), SETTINGS, max_size=3))
    def test_reads_what_mmengine_prints(self, settings):
        assert read_literals(Config(settings, format_python_code=False).pretty_text) == settings

    def test_tuples_are_as_good_as_lists(self):
        assert read_literals('a = (1, (2, 3))') == {'a': [1, [2, 3]]}

    def test_runs_nothing(self, tmp_path):
        text = f'a = open({str(tmp_path / "touched")!r}, "w")\nb = dict(c=[__import__("os").getpid()])\n'
        content = read_literals(text)
        assert not list(tmp_path.iterdir())
        assert content['b'] == {'c': ["__import__('os').getpid()"]}

    def test_no_python(self):
        assert read_literals('a = (') == {}
