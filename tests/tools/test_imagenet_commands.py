"""Training, resuming and testing a classifier on the command line, and error messages."""

import shutil

import pytest
import torch

from tests.commands import ROOT, option_list, read_results
from tests.evaluation.data.class_folders import CLASSES, write_folders
from tests.launching import free_port, places, shell
from tests.released import classifier_shapes, filled, imagenet_file

CONFIG = ROOT / 'configs/imagenet_swin_micro.py'
KIND = 'Classification'
LOADERS = {
    f'{split}_dataloader.{key}': value
    for split in ('train', 'val', 'test')
    for key, value in (('num_workers', 0), ('persistent_workers', False), ('batch_size', 8))
}
OPTIONS = {
    **LOADERS,
    'model.backbone.num_classes': len(CLASSES),
    'model.backbone.dims': [16, 32, 64, 128],
    'model.backbone.depths': [1, 1, 1, 1],
    'model.backbone.mixer.num_heads': [1, 2, 4, 8],
    'model.backbone.drop_path_rate': 0.1,
    'train_dataloader.dataset.pipeline.1.input_size': 32,
    'val_dataloader.dataset.pipeline.1.input_size': 32,
    'test_dataloader.dataset.pipeline.1.input_size': 32,
    'train_cfg.max_epochs': 2,
    'train_cfg.val_interval': 1,
    'default_hooks.checkpoint.interval': 1,
    'default_hooks.logger.interval': 1,
}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Class folders with an odd number of validation images."""
    folder = write_folders(tmp_path_factory.mktemp('imagenet') / 'data')
    (folder / 'val/fox/2.jpg').unlink()
    return folder


@pytest.fixture(scope='module')
def trained(commands, root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    commands.succeed('train', CONFIG, '--work-dir', folder, *arguments(root))
    return folder


def arguments(root, **more):
    more = {key.replace('__', '.'): value for key, value in more.items()}
    return ['--data-root', root, *option_list({**OPTIONS, **more})]


def weights(file):
    return torch.load(file, weights_only=False)['state_dict']


def test_training_writes_results(trained):
    first, second = read_results(trained)
    assert (first['epoch'], second['epoch']) == (1, 2)
    assert (second['task'], second['recipe']['name']) == ('classification', 'imagenet')
    contestant = {'name': 'swin_micro', 'family': 'unified', 'mixer': 'swin', 'scale': 'micro'}
    assert second['contestant'] == contestant
    assert second['images'] == 11
    assert second['metrics'].keys() == {'top1', 'top5'}
    assert second['per_class']['top1'].keys() == set(CLASSES)
    assert second['complexity']['flops'] > 0
    assert (second['complexity']['height'], second['complexity']['width']) == (224, 224)


def test_testing_gives_the_metrics_of_training(commands, trained, root, tmp_path):
    commands.succeed('test', CONFIG, trained / 'epoch_2.pth', '--work-dir', tmp_path, *arguments(root))
    (found,), (_, expected) = read_results(tmp_path), read_results(trained)
    assert found['metrics'] == expected['metrics']
    assert found['checkpoint']['weights_sha256'] == expected['checkpoint']['weights_sha256']


def test_resuming_ends_with_the_same_weights(commands, trained, root, tmp_path):
    """Drop path, mixing and erasing are on, so their random numbers are resumed as well."""
    shutil.copy(trained / 'epoch_1.pth', tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    commands.succeed('train', CONFIG, '--work-dir', tmp_path, '--resume', *arguments(root))
    found, expected = weights(tmp_path / 'epoch_2.pth'), weights(trained / 'epoch_2.pth')
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.skipif(places() < 2, reason='this machine has room for one process')
def test_two_processes_give_the_metrics_of_one(commands, trained, root, tmp_path):
    done = shell(
        'dist_test.sh', CONFIG, trained / 'epoch_2.pth', 2, '--work-dir', tmp_path,
        *arguments(root), PORT=free_port(), **commands.forked,
    )  # fmt: skip
    assert done.status == 0, done.stderr[-4000:]
    (found,), (_, expected) = read_results(tmp_path), read_results(trained)
    assert found['images'] == 11
    assert found['metrics'] == expected['metrics']


def test_released_file_loads_completely(commands, root, tmp_path):
    file = tmp_path / 'unified_halonet_tiny.pth'
    torch.save(imagenet_file(filled(classifier_shapes('halo_tiny'))), file)
    config = ROOT / 'configs/imagenet_halo_tiny.py'
    options = ['--data-root', root, *option_list({**LOADERS, 'test_dataloader.batch_size': 4})]
    commands.succeed('test', config, file, '--work-dir', tmp_path / 'run', *options)
    (log,) = tmp_path.glob('run/*/*.log')
    assert 'parameters loaded (100.0%' in log.read_text()
    (result,) = read_results(tmp_path)
    assert result['images'] == 11
    assert result['checkpoint']['file'] == file.name


def test_trained_classifier_initializes_a_detector(commands, trained, trials, tmp_path):
    trial = trials['mask_rcnn']
    commands.succeed(
        'train', trial.config, '--pretrained', trained / 'epoch_2.pth', '--work-dir', tmp_path,
        *trial.arguments(optim_wrapper__optimizer__lr=0.0, train_cfg__max_epochs=1),
    )  # fmt: skip
    name = 'backbone.stages.2.0.mixer.qkv.weight'
    found, expected = weights(tmp_path / 'epoch_1.pth'), weights(trained / 'epoch_2.pth')
    assert torch.equal(found[name], expected[name])


def test_layer_decay(commands, root, tmp_path):
    commands.succeed(
        'train', CONFIG, '--work-dir', tmp_path,
        *arguments(
            root,
            train_cfg__max_epochs=1,
            optim_wrapper__constructor='LayerDecayConstructor',
            optim_wrapper__paramwise_cfg__layer_decay_rate=0.5,
        ),
    )  # fmt: skip
    groups = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['optimizer']['param_groups']
    rates = {round(group['initial_lr'] / 1e-3, 6) for group in groups}
    assert rates == {0.5**power for power in range(6)}


class TestBadInput:
    def test_different_number_of_classes(self, train, root, refused, nothing_written):
        given = 'a data set with fewer classes than the model'
        outcome = train(CONFIG, '--data-root', root)
        refused(KIND, given, outcome, 'model.backbone.num_classes is 1000', 'has 4 classes')
        assert nothing_written()

    def test_unknown_layout(self, train, tmp_path, refused, nothing_written):
        (tmp_path / 'data/images').mkdir(parents=True)
        outcome = train(CONFIG, '--data-root', tmp_path / 'data')
        given = 'a data root without train/ and val/'
        refused(KIND, given, outcome, 'has no train images with labels', 'meta/train.txt')
        assert nothing_written()

    def test_class_missing_from_training(self, test, trained, root, tmp_path, refused):
        shutil.copytree(root, tmp_path / 'data')
        (tmp_path / 'data/val/fox').rename(tmp_path / 'data/val/fix')
        outcome = test(
            CONFIG,
            trained / 'epoch_2.pth',
            '--work-dir',
            tmp_path / 'run',
            *arguments(tmp_path / 'data'),
        )
        refused(KIND, 'a class in val/ that is missing from train/', outcome, 'has the class fix, which')

    def test_an_empty_class(self, train, root, tmp_path, refused):
        shutil.copytree(root, tmp_path / 'data')
        for file in (tmp_path / 'data/train/eel').iterdir():
            file.unlink()
        outcome = train(CONFIG, '--work-dir', tmp_path / 'run', *arguments(tmp_path / 'data'))
        refused(KIND, 'an empty class folder', outcome, 'train/eel has no image')

    def test_a_malformed_list(self, train, root, tmp_path, refused):
        shutil.copytree(root, tmp_path / 'data')
        (tmp_path / 'data/meta').mkdir()
        (tmp_path / 'data/meta/train.txt').write_text('cat/0.jpg 0\ncat/1.jpg\n')
        outcome = train(CONFIG, '--work-dir', tmp_path / 'run', *arguments(tmp_path / 'data'))
        refused(KIND, 'a malformed line in meta/train.txt', outcome, 'train.txt, line 2: ')

    def test_listed_path_outside_the_folder(self, train, root, tmp_path, refused):
        shutil.copytree(root, tmp_path / 'data')
        (tmp_path / 'data/meta').mkdir()
        (tmp_path / 'data/meta/train.txt').write_text('cat/0.jpg 0\n../../../etc/passwd 1\n')
        outcome = train(CONFIG, '--work-dir', tmp_path / 'run', *arguments(tmp_path / 'data'))
        given = 'a path in meta/train.txt that points outside the image folder'
        refused(KIND, given, outcome, "train.txt, line 2: '../../../etc/passwd 1' points outside")

    def test_a_listed_image_that_is_missing(self, train, root, tmp_path, refused):
        shutil.copytree(root, tmp_path / 'data')
        (tmp_path / 'data/meta').mkdir()
        lines = [
            f'{name}/{number}.jpg {label}' for label, name in enumerate(CLASSES) for number in (0, 8)
        ]
        (tmp_path / 'data/meta/train.txt').write_text('\n'.join(lines))
        outcome = train(CONFIG, '--work-dir', tmp_path / 'run', *arguments(tmp_path / 'data'))
        given = 'a listed image that is missing'
        refused(KIND, given, outcome, '4 of the 8 images', 'train/cat/8.jpg')

    def test_a_truncated_image(self, train, root, tmp_path, refused):
        shutil.copytree(root, tmp_path / 'data')
        file = tmp_path / 'data/train/cat/3.jpg'
        file.write_bytes(file.read_bytes()[:-200])
        outcome = train(CONFIG, '--work-dir', tmp_path / 'run', *arguments(tmp_path / 'data'))
        refused(KIND, 'a truncated image', outcome, 'cat/3.jpg is truncated')

    def test_an_odd_batch(self, train, root, tmp_path, refused):
        options = arguments(root, train_dataloader__batch_size=5)
        outcome = train(CONFIG, '--work-dir', tmp_path / 'run', *options)
        refused(KIND, 'an odd batch size with mixup or CutMix', outcome, 'train_dataloader.batch_size=5')

    def test_weights_of_a_different_mixer(self, test, root, tmp_path, refused):
        file = tmp_path / 'dcn.pth'
        torch.save(imagenet_file(filled(classifier_shapes('dcn_micro'))), file)
        options = ['--data-root', root, *option_list(LOADERS)]
        outcome = test(CONFIG, file, '--work-dir', tmp_path / 'run', *options)
        refused(KIND, 'weights for a different mixer', outcome, 'use a config of dcn_micro')

    def test_tta_is_unsupported(self, test, trained, root, tmp_path, refused):
        outcome = test(
            CONFIG, trained / 'epoch_2.pth', '--tta', '--work-dir', tmp_path / 'run', *arguments(root)
        )
        refused(KIND, '`--tta` with a classifier', outcome, 'has no tta_pipeline')

    def test_show_dir_is_unsupported(self, test, trained, root, tmp_path, refused):
        outcome = test(
            CONFIG, trained / 'epoch_2.pth', '--show-dir', tmp_path / 'show',
            '--work-dir', tmp_path / 'run', *arguments(root),
        )  # fmt: skip
        refused(KIND, '`--show-dir` with a classifier', outcome, 'has no default_hooks.visualization')

    def test_layer_decay_above_1(self, train, root, tmp_path, refused):
        outcome = train(
            CONFIG, '--work-dir', tmp_path / 'run',
            *arguments(
                root,
                optim_wrapper__constructor='LayerDecayConstructor',
                optim_wrapper__paramwise_cfg__layer_decay_rate=1.5,
            ),
        )  # fmt: skip
        refused(KIND, 'a layer decay above 1', outcome, 'layer_decay_rate=1.5')
