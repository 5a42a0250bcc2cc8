"""Checks before the start: layout, numbers of classes, pairs of images and maps, bad images."""

import os
import re
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

import backbones  # noqa: F401  (before mmdet and mmseg, which need its operators)
from evaluation.data.bad_images import dataset_without, images_skipped, leave_out_bad_images
from evaluation.data.config_checks import class_counts
from evaluation.data.dataset_config import class_names, plain_datasets
from evaluation.data.image_files import files_below, visible_files_below
from evaluation.data.image_loading import build_dataset
from evaluation.data.startup_checks import check_data, unpaired
from evaluation.engine.experiment import read_config, set_data_root
from evaluation.scenes.scene_datasets import write_datasets
from evaluation.scenes.scenes import SceneStyle
from evaluation.utils.errors import UserError
from tests.commands import ROOT

LEAVES = {'mask_rcnn': 'demo/mask_rcnn_swin_micro.py', 'upernet': 'demo/upernet_swin_micro.py'}
LAYOUTS = {'mask_rcnn': 'coco', 'upernet': 'ADEChallengeData2016'}
SHARED = ROOT.parent / 'shared/real'
REAL = {
    'mask_rcnn': Path(os.environ.get('COCO_ROOT', SHARED / 'coco')),
    'upernet': Path(os.environ.get('ADE20K_ROOT', SHARED / 'ADEChallengeData2016')),
}
LOADERS = ('train_dataloader', 'val_dataloader')

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scenes')
    style = SceneStyle(height=64, width=64, empty_probability=0)
    write_datasets(folder, style, {'train': 4, 'val': 3}, seed=0)
    return folder


@pytest.fixture(params=LEAVES)
def task(request):
    return request.param


@pytest.fixture
def data(scenes, task, tmp_path):
    return shutil.copytree(scenes / LAYOUTS[task], tmp_path / 'data')


@pytest.fixture
def cfg(task, data):
    cfg = read_config(str(ROOT / 'configs' / LEAVES[task]))
    set_data_root(cfg, str(data))
    return cfg


def images_of(cfg, loader='train_dataloader'):
    dataset = cfg[loader].dataset
    return Path(dataset.data_root, next(iter(dataset.data_prefix.values())))


def test_valid_data_passes(cfg):
    check_data(cfg, LOADERS)


def test_real_data_passes(task):
    if not REAL[task].is_dir():
        pytest.skip('no real images')
    cfg = read_config(str(ROOT / f'configs/{task}_swin_tiny.py'))
    set_data_root(cfg, str(REAL[task]))
    check_data(cfg, (*LOADERS, 'test_dataloader'))
    leave_out_bad_images(cfg, LOADERS)
    assert [images_skipped(cfg[loader].dataset)['count'] for loader in LOADERS] == [0, 0]


def test_only_the_given_loaders_are_checked(cfg):
    shutil.rmtree(images_of(cfg, 'train_dataloader'))
    check_data(cfg, ['val_dataloader'])
    with pytest.raises(UserError, match='is missing'):
        check_data(cfg, ['train_dataloader'])


class TestLayout:
    def test_file_instead_of_the_image_folder(self, cfg):
        folder = images_of(cfg)
        shutil.rmtree(folder)
        folder.write_text('')
        with pytest.raises(UserError, match=f'{folder} is not a folder; the data root must have'):
            check_data(cfg, LOADERS)

    @pytest.mark.parametrize('task', ['mask_rcnn'], indirect=True)
    def test_folder_instead_of_the_annotation_file(self, cfg, data):
        file = data / 'annotations/instances_val2017.json'
        file.unlink()
        file.mkdir()
        with pytest.raises(UserError, match=f'{file} is not a file; the data root must have'):
            check_data(cfg, LOADERS)

    @pytest.mark.parametrize('wrapper', ['RepeatDataset', 'ConcatDataset'])
    def test_inside_wrappers(self, cfg, wrapper):
        inner = cfg.train_dataloader.dataset
        parts = {'datasets': [inner]} if wrapper == 'ConcatDataset' else {'dataset': inner, 'times': 2}
        cfg.train_dataloader.dataset = ConfigDict(type=wrapper, **parts)
        assert list(plain_datasets(cfg.train_dataloader.dataset)) == [inner]
        check_data(cfg, LOADERS)
        shutil.rmtree(Path(inner.data_root, next(iter(inner.data_prefix.values()))))
        with pytest.raises(UserError, match='is missing'):
            check_data(cfg, LOADERS)


class TestClasses:
    def test_default_classes_of_the_data_set(self):
        names = class_names(ConfigDict(type='CocoDataset'), 'mmdet')
        assert (len(names), names[0], names[-1]) == (80, 'person', 'toothbrush')
        assert len(class_names(ConfigDict(type='ADE20KDataset'), 'mmseg')) == 150

    def test_custom_classes(self):
        dataset = ConfigDict(type='CocoDataset', metainfo=dict(classes=('cat', 'dog')))
        assert class_names(dataset, 'mmdet') == ['cat', 'dog']

    def test_from_a_file(self, tmp_path):
        (tmp_path / 'classes.txt').write_text('cat\ndog\n')
        dataset = ConfigDict(type='CocoDataset', metainfo=dict(classes=str(tmp_path / 'classes.txt')))
        assert class_names(dataset, 'mmdet') == ['cat', 'dog']

    def test_string_instead_of_a_list(self):
        dataset = ConfigDict(type='CocoDataset', metainfo=dict(classes='cat'))
        with pytest.raises(UserError, match=r"the string 'cat'; for a single class write \['cat'\]"):
            class_names(dataset, 'mmdet')

    def test_missing_classes(self):
        with pytest.raises(UserError, match=r'type BaseSegDataset needs metainfo\.classes'):
            class_names(ConfigDict(type='BaseSegDataset'), 'mmseg')

    def test_counts_at_any_depth(self):
        config = {'a': {'num_classes': 3, 'b': [{'num_classes': 4}]}, 'num_classes': 5}
        places = dict(class_counts({'model': config}))
        assert places == {
            'model.a.num_classes': 3,
            'model.a.b.0.num_classes': 4,
            'model.num_classes': 5,
        }

    @pytest.mark.parametrize('task', ['upernet'], indirect=True)
    @pytest.mark.parametrize(
        'place',
        [
            'model.decode_head',
            'model.auxiliary_head',
            'train_dataloader.dataset.pipeline.1',
            'tta_pipeline.1.transforms.2.0',
        ],
    )
    def test_every_count_must_fit(self, cfg, place):
        assert f'{place}.num_classes' in dict(class_counts(cfg.to_dict()))
        cfg.merge_from_dict({f'{place}.num_classes': 9})
        with pytest.raises(UserError, match=rf'{place}\.num_classes is 9, but .* has 8 classes'):
            check_data(cfg, LOADERS)

    @pytest.mark.parametrize('task', ['mask_rcnn'], indirect=True)
    def test_proposals_have_one_class(self, cfg):
        cfg.model.rpn_head.num_classes = 1
        check_data(cfg, LOADERS)


@pytest.mark.parametrize('task', ['upernet'], indirect=True)
class TestPairs:
    def test_no_image_with_the_extension(self, cfg, task):
        cfg.train_dataloader.dataset.img_suffix = '.jpeg'
        with pytest.raises(UserError, match=r'has no image whose name ends in \.jpeg'):
            check_data(cfg, LOADERS)

    def test_unpaired(self, cfg, data, task):
        images, maps = data / 'images/training', data / 'annotations/training'
        (maps / 'ADE_train_00000001.png').unlink()
        (images / 'ADE_train_00000002.jpg').unlink()
        (images / 'notes.txt').touch()
        (maps / 'notes.txt').touch()
        (maps / '._ADE_train_00000001.png').touch()
        dataset = build_dataset(cfg.train_dataloader.dataset, 'mmseg')
        unmapped, unpictured = unpaired(dataset)
        assert unmapped == [str(maps / 'ADE_train_00000001.png')]
        assert unpictured == [str(images / 'ADE_train_00000002.jpg')]

    def test_subset_of_the_images(self, cfg, data, task):
        cfg.train_dataloader.dataset.indices = 2
        check_data(cfg, LOADERS)
        assert len(build_dataset(cfg.train_dataloader.dataset, 'mmseg')) == 2

    def test_subfolders(self, cfg, data, task):
        for kind, suffix in (('images', 'jpg'), ('annotations', 'png')):
            folder = data / kind / 'training'
            (folder / 'indoor').mkdir()
            (folder / f'ADE_train_00000001.{suffix}').rename(folder / f'indoor/x.{suffix}')
        check_data(cfg, LOADERS)
        (data / 'annotations/training/indoor/x.png').unlink()
        with pytest.raises(UserError, match=r'training/indoor/x\.png'):
            check_data(cfg, LOADERS)

    def test_listed_subset_may_have_more_maps(self, cfg, data, task):
        (data / 'part.txt').write_text('ADE_train_00000001\nADE_train_00000002\n')
        (data / 'images/training/ADE_train_00000003.jpg').unlink()
        cfg.train_dataloader.dataset.ann_file = 'part.txt'
        check_data(cfg, LOADERS)


def test_files_below(tmp_path):
    (tmp_path / 'a/b').mkdir(parents=True)
    for name in ('x.jpg', 'a/y.jpg', 'a/b/z.jpg'):
        (tmp_path / name).touch()
    assert files_below(tmp_path) == {'x.jpg', 'a/y.jpg', 'a/b/z.jpg'}
    (tmp_path / 'a/._y.jpg').touch()
    assert files_below(tmp_path) == {'x.jpg', 'a/y.jpg', 'a/b/z.jpg', 'a/._y.jpg'}
    assert visible_files_below(tmp_path) == {'x.jpg', 'a/y.jpg', 'a/b/z.jpg'}


def names_in(dataset_config, scope):
    """Return the names of the images in a data set built from its config."""
    with DefaultScope.overwrite_default_scope(scope):
        dataset = build_dataset(dataset_config, scope)
    return [Path(dataset.get_data_info(i)['img_path']).name for i in range(len(dataset))]


class TestSkipping:
    @pytest.fixture
    def damaged(self, cfg):
        """Damage training images; return the names of the remaining ones."""
        files = sorted(images_of(cfg).iterdir())
        files[0].unlink()
        files[2].write_text('no image')
        return [files[1].name, files[3].name]

    def test_skips_images_that_cannot_be_loaded(self, cfg, data, damaged, capsys):
        leave_out_bad_images(cfg, LOADERS)
        train, val = (cfg[loader].dataset for loader in LOADERS)
        files = sorted(Path(name).name for name in train.left_out)
        assert names_in(train, cfg.default_scope) == damaged
        assert not set(files) & set(damaged)
        assert all((data / name).parent == images_of(cfg) for name in train.left_out)
        assert len(files) == images_skipped(train)['count'] == 2
        assert 'left_out' not in val
        assert images_skipped(val) == {'count': 0, 'names': []}
        printed = capsys.readouterr().out
        assert f'skipped: {data / train.left_out[0]} is missing\n' in printed
        assert f'skipped: {data / train.left_out[1]} cannot be decoded as an image\n' in printed

    def test_dumped_config_has_the_same_images(self, cfg, damaged, tmp_path):
        leave_out_bad_images(cfg, LOADERS)
        cfg.dump(tmp_path / 'dumped.py')
        again = Config.fromfile(tmp_path / 'dumped.py')
        check_data(again, LOADERS)
        assert names_in(again.train_dataloader.dataset, cfg.default_scope) == damaged

    def test_repeated_calls_add_up(self, cfg, damaged, capsys):
        leave_out_bad_images(cfg, LOADERS)
        (images_of(cfg) / damaged[0]).write_text('no image either')
        capsys.readouterr()
        leave_out_bad_images(cfg, LOADERS)
        missing = re.findall(r'skipped: (.*) is missing', capsys.readouterr().out)
        assert not any(map(os.path.exists, missing))
        train = cfg.train_dataloader.dataset
        assert names_in(train, cfg.default_scope) == damaged[1:]
        assert images_skipped(train)['count'] == 3
        assert train.type == dataset_without.__name__ != train.dataset_type

    @pytest.mark.parametrize('task', ['upernet'], indirect=True)
    def test_images_with_bad_maps_are_skipped(self, cfg, data, task):
        (data / 'annotations/validation/ADE_val_00000001.png').unlink()
        (data / 'images/validation/ADE_val_00000003.jpg').unlink()
        check_data(cfg, ['val_dataloader'], skip_bad_images=True)
        leave_out_bad_images(cfg, ['val_dataloader'])
        val = cfg.val_dataloader.dataset
        assert names_in(val, cfg.default_scope) == ['ADE_val_00000002.jpg']
        names = [f'images/validation/ADE_val_0000000{number}.jpg' for number in (1, 3)]
        assert images_skipped(val) == {'count': 2, 'names': names}

    def test_needs_a_checked_loader(self, cfg):
        pipeline = cfg.train_dataloader.dataset.pipeline
        cfg.train_dataloader.dataset.pipeline = [s for s in pipeline if 'Checked' not in s.type]
        with pytest.raises(
            UserError, match='needs LoadCheckedImage in the pipeline of train_dataloader'
        ):
            leave_out_bad_images(cfg, LOADERS)
