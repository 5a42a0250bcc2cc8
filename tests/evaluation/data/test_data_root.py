"""`--data-root` replaces the paths of every data set and evaluator, or is refused."""

import os

import pytest
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from evaluation.config.config_files import read_config
from evaluation.config.overrides import merge_options
from evaluation.config.settings import LOADERS
from evaluation.data.data_root import config_data_root, set_data_root, unused_data_root
from evaluation.data.dataset_config import plain_datasets
from evaluation.utils.errors import UserError
from tests.variants import ROOT

pytestmark = pytest.mark.habits

NEW = '/new/coco'
TEST = ('test_dataloader',)


def coco(root=None, ann='annotations/val.json', img='val2017/', **more):
    """Return the config of a COCO data set."""
    place = {} if root is None else {'data_root': root}
    return dict(
        type='CocoDataset', ann_file=ann, data_prefix=dict(img=img), pipeline=[], **place, **more
    )


def config(test, evaluator=None, top='data/coco', **more):
    """Return a config with a test data set."""
    cfg = dict(test_dataloader=dict(dataset=test), **more)
    if top is not None:
        cfg['data_root'] = top
    if evaluator is not None:
        cfg['test_evaluator'] = evaluator
    return Config(cfg)


def files_of(cfg, loader='test_dataloader'):
    """Return the annotation file and image folder of each data set, as resolved by mmengine."""
    found = []
    for part in plain_datasets(cfg[loader].dataset):
        settings = {name: part[name] for name in ('data_root', 'ann_file') if name in part}
        built = BaseDataset(**settings, data_prefix={**part.data_prefix}, pipeline=[], lazy_init=True)
        found.append((os.path.normpath(built.ann_file), os.path.normpath(built.data_prefix['img'])))
    return found


VAL = (f'{NEW}/annotations/val.json', f'{NEW}/val2017')


class TestReplacedPaths:
    @pytest.mark.parametrize('top', ['data/coco', 'data/coco/', 'elsewhere', None])
    @pytest.mark.parametrize(
        'dataset',
        [
            coco('data/coco'),
            coco('data/coco/'),
            coco('/old/coco'),
            coco('data/coco', ann=os.path.abspath('data/coco/annotations/val.json')),
            coco('/old/coco', '/old/coco/annotations/val.json', '/old/coco/val2017'),
            coco(None, 'data/coco/annotations/val.json', 'data/coco/val2017/'),
            coco('', 'data/coco/annotations/val.json', 'data/coco/val2017/'),
            coco(None, '/old/coco/annotations/val.json', '/old/coco/val2017/'),
            # The leaf sets paths, and the root is still that of the page.
            coco('data/coco', '/old/coco/annotations/val.json', '/old/coco/val2017/'),
        ],
        ids=str,
    )
    @pytest.mark.parametrize('new', [NEW, f'{NEW}/'])
    def test_data_set(self, top, dataset, new):
        cfg = config(dataset, top=top)
        set_data_root(cfg, new, TEST)
        assert files_of(cfg) == [VAL]
        assert cfg.data_root == NEW

    @pytest.mark.parametrize(
        'wrapped',
        [
            dict(type='RepeatDataset', times=2, dataset=coco('/own/coco')),
            dict(type='ConcatDataset', datasets=[coco('/own/coco')]),
            dict(type='A', dataset=dict(type='ConcatDataset', datasets=[coco('data/coco')])),
            dict(
                type='ClassBalancedDataset',
                dataset=coco(None, 'data/coco/annotations/val.json', 'data/coco/val2017'),
            ),
        ],
        ids=lambda wrapped: wrapped['type'],
    )
    def test_wrapped_data_sets(self, wrapped):
        cfg = config(wrapped)
        set_data_root(cfg, NEW, TEST)
        assert files_of(cfg) == [VAL]

    def test_data_sets_below_one_root_stay_separate(self):
        both = [coco('data/coco/a'), coco('data/coco/b/')]
        cfg = config(dict(type='ConcatDataset', datasets=both))
        set_data_root(cfg, NEW, TEST)
        assert [annotations for annotations, _ in files_of(cfg)] == [
            f'{NEW}/{part}/annotations/val.json' for part in 'ab'
        ]

    @pytest.mark.parametrize('form', [str, os.path.abspath])
    def test_data_set_below_the_root_of_the_config(self, form):
        """The relative path is kept, also in the evaluator."""
        file = form('data/coco/part/annotations/val.json')
        absolute = coco(
            'data/coco/part', os.path.abspath(file), os.path.abspath('data/coco/part/val2017')
        )
        for dataset in (coco('data/coco/part'), absolute):
            cfg = config(dataset, evaluator=dict(ann_file=file))
            set_data_root(cfg, NEW, TEST)
            assert files_of(cfg) == [(f'{NEW}/part/annotations/val.json', f'{NEW}/part/val2017')]
            assert cfg.test_evaluator.ann_file == f'{NEW}/part/annotations/val.json'

    @pytest.mark.parametrize('root', ['data/coco', '/own/coco', '/own/coco/'])
    @pytest.mark.parametrize('of', ['data/coco', 'own'])
    def test_evaluators(self, root, of):
        file = f'{(root if of == "own" else of).rstrip("/")}/annotations/val.json'
        metrics = [
            dict(type='CocoMetric', ann_file=file),
            dict(type='Other', metrics=[dict(ann_file=file)]),
        ]
        cfg = config(coco(root), evaluator=metrics)
        set_data_root(cfg, NEW, TEST)
        assert cfg.test_evaluator[0].ann_file == VAL[0]
        assert cfg.test_evaluator[1].metrics[0].ann_file == VAL[0]

    def test_files_in_pipelines(self):
        step = dict(type='LoadProposals', file='data/coco/proposals.pkl')
        cfg = config({**coco('data/coco/'), 'pipeline': [step]}, tta_pipeline=[step], top='data/coco/')
        set_data_root(cfg, NEW, TEST)
        assert cfg.test_dataloader.dataset.pipeline[0].file == f'{NEW}/proposals.pkl'
        assert cfg.tta_pipeline[0].file == f'{NEW}/proposals.pkl'

    def test_plain_words_are_not_paths(self):
        cfg = config(dict(type='ImageNetDataset', data_root='train', split='train'), top=None)
        set_data_root(cfg, NEW, TEST)
        assert cfg.test_dataloader.dataset.data_root == NEW
        assert cfg.test_dataloader.dataset.split == 'train'

    def test_segmentation_maps(self):
        prefix = dict(img_path='images/validation', seg_map_path='/own/ade/annotations/validation')
        cfg = config(dict(type='ADE20KDataset', data_root='/own/ade', data_prefix=prefix))
        set_data_root(cfg, NEW, TEST)
        assert cfg.test_dataloader.dataset.data_prefix == {
            'img_path': 'images/validation', 'seg_map_path': f'{NEW}/annotations/validation'
        }  # fmt: skip

    def test_home_folder(self, monkeypatch):
        monkeypatch.setenv('HOME', '/home/me')
        cfg = config(
            coco('~/coco'), evaluator=dict(ann_file='/home/me/coco/annotations/val.json'), top='~/coco'
        )
        set_data_root(cfg, '~/other/', TEST)
        assert cfg.test_dataloader.dataset.data_root == cfg.data_root == '/home/me/other'
        assert cfg.test_evaluator.ann_file == '/home/me/other/annotations/val.json'

    def test_symbolic_links(self, tmp_path):
        (tmp_path / 'disk').mkdir()
        (tmp_path / 'link').symlink_to(tmp_path / 'disk')
        file = f'{tmp_path}/disk/annotations/val.json'
        cfg = config(coco(f'{tmp_path}/link', ann=file), evaluator=dict(ann_file=file))
        set_data_root(cfg, NEW, TEST)
        assert files_of(cfg) == [VAL]
        assert cfg.test_evaluator.ann_file == VAL[0]

    def test_new_root_below_the_old_one(self):
        """Validation and test loaders are often the same object, which must not be moved twice."""
        loader = dict(dataset=coco('data'))
        cfg = Config(dict(data_root='data', val_dataloader=loader, test_dataloader=loader))
        set_data_root(cfg, 'data/coco')
        assert (
            cfg.val_dataloader.dataset.data_root == cfg.test_dataloader.dataset.data_root == 'data/coco'
        )

    def test_files_below_the_new_root_stay(self):
        cfg = config(
            coco('data/coco', ann=f'{NEW}/mini.json'), evaluator=dict(ann_file=f'{NEW}/mini.json')
        )
        set_data_root(cfg, NEW, TEST)
        assert files_of(cfg) == [(f'{NEW}/mini.json', f'{NEW}/val2017')]
        assert cfg.test_evaluator.ann_file == f'{NEW}/mini.json'

    @pytest.mark.parametrize('leaf', ['mask_rcnn_swin_micro', 'upernet_dcn_micro', 'imagenet_pvt_micro'])
    def test_leaf_with_its_own_data_root(self, leaf):
        cfg = read_config(str(ROOT / f'configs/{leaf}.py'))
        plain = read_config(str(ROOT / f'configs/{leaf}.py'))
        merge_options(cfg, {f'{loader}.dataset.data_root': '/own/place' for loader in LOADERS})
        assert not set_data_root(plain, NEW)
        warnings = set_data_root(cfg, NEW)
        assert cfg.to_dict() == plain.to_dict()
        assert (
            warnings[0]
            == f'--data-root {NEW} also replaces test_dataloader.dataset.data_root=/own/place'
        )
        assert len(warnings) == len(LOADERS)


class TestRefused:
    @pytest.mark.parametrize(
        ('dataset', 'evaluator', 'message'),
        [
            (coco('data/coco', ann='/other/val.json'), None, 'dataset.ann_file is /other/val.json'),
            (coco('data/coco', img='/other/val'), None, 'dataset.data_prefix.img is /other/val'),
            (coco(None, 'val.json', 'images'), None, 'dataset.ann_file is val.json'),
            (coco(None, '/a/val.json', '/b/images'), None, 'dataset.ann_file is /a/val.json'),
            (
                coco('data/coco'),
                [dict(ann_file='/x/val.json')],
                'test_evaluator.0.ann_file is /x/val.json',
            ),
            (dict(type='Own', folder='/x'), None, 'no effect on test_dataloader.dataset (Own)'),
        ],
        ids=lambda value: value if isinstance(value, str) else '',
    )
    def test_paths_outside_all_roots(self, dataset, evaluator, message):
        cfg = config(dataset, evaluator)
        with pytest.raises(UserError) as caught:
            set_data_root(cfg, NEW, TEST)
        (line,) = str(caught.value).splitlines()
        assert message in line
        assert 'omit --data-root' in line

    def test_unused_loaders_are_not_refused(self):
        train = dict(dataset=coco('data/coco', ann='/other/train.json'))
        cfg = config(coco('data/coco'), train_dataloader=train)
        set_data_root(cfg, NEW, TEST)
        assert files_of(cfg) == [VAL]
        with pytest.raises(UserError, match='train_dataloader'):
            set_data_root(config(coco('data/coco'), train_dataloader=train), NEW, LOADERS)

    def test_two_data_sets_that_become_the_same(self):
        """For example, the folders train and val, each with a file of the same name."""
        cfg = config(dict(type='ConcatDataset', datasets=[coco('/a'), coco('/b')]))
        with pytest.raises(
            UserError, match=r'make two data sets of test_dataloader the same \(/a and /b\)'
        ):
            set_data_root(cfg, NEW, TEST)
        cfg = config(coco('/set/val'), train_dataloader=dict(dataset=coco('/set/train')))
        with pytest.raises(UserError, match='of train_dataloader and test_dataloader the same'):
            set_data_root(cfg, NEW)

    def test_validation_and_test_may_become_the_same(self):
        cfg = config(coco('data/coco'), val_dataloader=dict(dataset=coco('/own/coco')))
        set_data_root(cfg, NEW)
        assert files_of(cfg, 'val_dataloader') == files_of(cfg) == [VAL]


@pytest.mark.parametrize(
    ('top', 'own', 'root'), [('a/', 'b', 'a'), (None, 'b/', 'b'), (None, None, None)]
)
def test_data_root_of_a_config(top, own, root):
    assert config_data_root(config(coco(own), top=top)) == root


@pytest.mark.parametrize(
    ('top', 'dataset', 'unused'),
    [
        ('/my/coco/', coco('data/coco'), '/my/coco'),
        ('data/coco', coco('data/coco/'), None),
        ('data/coco', coco('data/coco/part'), None),
        ('data/coco/', coco(None, 'data/coco/annotations/val.json', 'data/coco/val2017'), None),
        (None, coco('data/coco'), None),
    ],
)
def test_data_root_that_no_data_set_uses(top, dataset, unused):
    """For example, in a leaf that sets only `data_root`."""
    assert unused_data_root(config(dataset, top=top), TEST) == unused
