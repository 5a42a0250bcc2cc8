"""`tools/train.py` and `tools/test.py`, end to end, for both tasks."""

import hashlib
import json
import pickle
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from evaluation.engine.experiment import read_config
from evaluation.engine.pretrained_weights import find_pretrained
from evaluation.utils.errors import UserError
from tests.commands import ROOT, read_results
from tests.data.fill import fill

CLASSES = {
    'mask_rcnn': ['disc', 'square', 'triangle', 'star', 'ring', 'cross'],
    'upernet': ['ground', 'sky', 'disc', 'square', 'triangle', 'star', 'ring', 'cross'],
}
BUFFERS = ('running_mean', 'running_var', 'num_batches_tracked')


def load(file):
    return torch.load(file, map_location='cpu', weights_only=False)


def scalars(work_dir):
    """Return the lines of a run's scalars that have a learning rate, by step."""
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {line['step']: line for line in lines if 'lr' in line}


def equal_tensors(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestTraining:
    def test_writes_the_expected_files(self, trial, trained):
        names = {path.name for path in trained.iterdir() if path.is_file()}
        checkpoints = {f'{trial.halfway}.pth', f'{trial.end}.pth'}
        assert names == {trial.config.name, 'last_checkpoint', *checkpoints}
        assert (trained / 'last_checkpoint').read_text() == str(trained / f'{trial.end}.pth')
        (run,) = (path for path in trained.iterdir() if path.is_dir())
        assert (run / f'{run.name}.log').stat().st_size > 0
        results = sorted(path.parent.name for path in trained.rglob('result.json'))
        assert results == [trial.halfway, trial.end]
        assert sorted(scalars(trained)) == [1, 2, 3, 4]

    def test_says_where_the_backbone_starts(self, trained):
        (log,) = trained.glob('*/*.log')
        assert 'training starts from scratch' in log.read_text()

    def test_dumped_config_is_the_one_that_ran(self, trial, trained):
        dumped = Config.fromfile(trained / trial.config.name)
        assert list(dumped.model.backbone.dims) == trial.options['model.backbone.dims']
        assert dumped.train_dataloader.dataset.data_root == str(trial.data_root)
        for result in read_results(trained):
            stated = Config.fromstring(result['config']['text'], '.py')
            assert stated.to_dict() == dumped.to_dict()

    def test_result_names_the_run(self, trial, trained):
        halfway, end = read_results(trained)
        mixer = {'mask_rcnn': 'swin', 'upernet': 'dcn'}[trial.task]
        by_epoch = trial.task == 'mask_rcnn'
        for step, result in ((1, halfway), (2, end)):
            assert (
                result['recipe']['title']
                == {'mask_rcnn': 'Mask R-CNN', 'upernet': 'UperNet'}[trial.task]
            )
            assert result['config']['name'] == trial.config.stem
            contestant = dict(name=f'{mixer}_micro', family='unified', mixer=mixer, scale='micro')
            assert result['contestant'] == contestant
            assert result['epoch'] == (step if by_epoch else None)
            assert result['iteration'] == 2 * step
            assert result['max_epochs'] == (2 if by_epoch else None)
            assert result['max_iterations'] == 4
            assert (result['seed'], result['batch_size'], result['images']) == (0, 4, 7)
            assert result['test_time_augmentation'] is False
            assert result['versions']['torch'].split('+')[0] == torch.__version__.split('+')[0]
            assert result['hardware']['world_size'] == 1

    def test_result_names_the_code(self, trained):
        command = ['git', '-C', str(ROOT), 'rev-parse', 'HEAD']
        done = subprocess.run(command, capture_output=True, text=True)
        revision = done.stdout.strip() if done.returncode == 0 else None
        assert {result['git']['revision'] for result in read_results(trained)} == {revision}

    def test_result_names_the_checkpoint_by_its_digest(self, trial, trained):
        results = read_results(trained)
        for name, result in zip((trial.halfway, trial.end), results, strict=True):
            file = trained / f'{name}.pth'
            assert result['checkpoint']['file'] == file.name
            assert result['checkpoint']['sha256'] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert len({result['checkpoint']['weights_sha256'] for result in results}) == 2

    def test_result_counts_the_parameters(self, trial, trained):
        weights = load(trained / f'{trial.end}.pth')['state_dict']
        sizes = {n: w.numel() for n, w in weights.items() if not n.endswith(BUFFERS)}
        parameters = read_results(trained)[-1]['parameters']
        assert parameters['total'] == sum(sizes.values())
        assert parameters['backbone'] == sum(
            size for name, size in sizes.items() if name.startswith('backbone.')
        )

    def test_result_has_the_metrics_that_were_logged(self, trial, trained):
        metrics = read_results(trained)[-1]['metrics']
        (file,) = trained.glob('*/vis_data/scalars.json')
        logged = [json.loads(line) for line in file.read_text().splitlines()][-1]
        if trial.task == 'upernet':
            assert set(metrics) == {'mIoU', 'mAcc', 'aAcc'}
            assert metrics['mIoU'] == pytest.approx(logged['mIoU'], abs=1e-9)
        else:
            sizes = ('', '50', '75', 's', 'm', 'l')
            assert set(metrics) == {f'{kind}_AP{size}' for kind in ('box', 'mask') for size in sizes}
            assert metrics['box_AP50'] == pytest.approx(100 * logged['coco/bbox_mAP_50'], abs=1e-9)
            assert metrics['mask_AP'] == pytest.approx(100 * logged['coco/segm_mAP'], abs=1e-9)
        assert max(value for value in metrics.values() if value is not None) > 0

    def test_result_has_every_class(self, trial, trained):
        per_class = read_results(trained)[-1]['per_class']
        kinds = {'mask_rcnn': {'box_AP', 'mask_AP'}, 'upernet': {'IoU', 'Acc'}}[trial.task]
        assert set(per_class) == kinds
        for values in per_class.values():
            assert list(values) == CLASSES[trial.task]


@pytest.fixture(scope='module')
def tested_of(commands, trials, work_dir_of, tmp_path_factory):
    """Return the folder of a run of `tools/test.py` with all its outputs, by task."""
    finished = {}

    def evaluate(task):
        if task not in finished:
            trial, folder = trials[task], tmp_path_factory.mktemp(f'{task}_test')
            checkpoint = work_dir_of(task) / f'{trial.end}.pth'
            wishes = ['--out', 'predictions.pkl', '--show-dir', 'pictures', '--tensorboard']
            arguments = [*wishes, '--work-dir', 'run', *trial.arguments()]
            commands.succeed('test', trial.config, checkpoint, *arguments, folder=folder)
            finished[task] = folder
        return finished[task]

    return evaluate


@pytest.fixture
def tested(trial, tested_of):
    return tested_of(trial.task)


class TestTesting:
    def test_repeats_the_evaluation_of_the_training(self, trained, tested):
        in_training = read_results(trained)[-1]
        (result,) = read_results(tested)
        assert result['metrics'] == pytest.approx(in_training['metrics'], abs=1e-9)
        assert result['per_class'].keys() == in_training['per_class'].keys()
        for kind, values in result['per_class'].items():
            assert values == pytest.approx(in_training['per_class'][kind], abs=1e-9)
        timed = {'created', 'wall_time_seconds', 'evaluation_seconds'}
        different = {key for key in result if result[key] != in_training[key]}
        assert different <= {'metrics', 'per_class', 'config', *timed}

    def test_writes_all_predictions(self, trial, tested):
        predictions = pickle.loads((tested / 'predictions.pkl').read_bytes())
        assert len({prediction['img_path'] for prediction in predictions}) == 7
        for prediction in predictions:
            if trial.task == 'upernet':
                assert prediction['pred_sem_seg']['data'].shape[-2:] == (64, 64)
            else:
                assert len(prediction['pred_instances']['scores']) > 0

    def test_draws_every_image(self, trial, tested):
        pictures = [p for p in (tested / 'pictures').rglob('*') if p.suffix in ('.jpg', '.png')]
        assert len(pictures) == 7
        for picture in pictures:
            height, width = cv2.imread(str(picture)).shape[:2]
            # Ground truth and prediction side by side.
            assert (height, width) == (64, 128)

    def test_writes_tensorboard_scalars(self, tested):
        assert list(tested.rglob('events.out.tfevents.*'))

    def test_augmented(self, commands, trial, trained, tested, tmp_path):
        views = 'tta_pipeline.1.transforms.0'
        if trial.task == 'mask_rcnn':
            smaller = {f'{views}.{i}.scale': (side, side) for i, side in enumerate((48, 64, 80))}
        else:
            smaller = {}
        checkpoint = trained / f'{trial.end}.pth'
        arguments = ['--tta', '--work-dir', tmp_path, *trial.arguments(**smaller)]
        commands.succeed('test', trial.config, checkpoint, *arguments)
        (result,) = read_results(tmp_path)
        (plain,) = read_results(tested)
        assert result['test_time_augmentation'] is True
        assert result['checkpoint'] == plain['checkpoint']
        assert result['parameters'] == plain['parameters']
        assert result['metrics'].keys() == plain['metrics'].keys()
        assert result['metrics'] != plain['metrics']


# Use random numbers of every kind, so that a lost state shows: drop path, dropout, sampled regions.
# Images are flipped in any case.
MUCH_RANDOM = {'model.backbone.drop_path_rate': 0.5}
MUCH_RANDOM_IN = {
    'mask_rcnn': {'model.train_cfg.rpn.sampler.num': 8, 'model.train_cfg.rcnn.sampler.num': 8},
    'upernet': {'model.decode_head.dropout_ratio': 0.5, 'model.auxiliary_head.dropout_ratio': 0.5},
}


@pytest.fixture(scope='module')
def uninterrupted_of(commands, trials, tmp_path_factory):
    """Return the work dir and arguments of a complete training with many random numbers, by task."""
    finished = {}

    def train(task):
        if task not in finished:
            trial, folder = trials[task], tmp_path_factory.mktemp(f'{task}_whole')
            arguments = trial.arguments(**MUCH_RANDOM, **MUCH_RANDOM_IN[task])
            commands.succeed('train', trial.config, '--work-dir', folder, *arguments)
            finished[task] = folder, arguments
        return finished[task]

    return train


def train_halfway(commands, trial, folder, *wishes, **options):
    """Train for two steps; return the result."""
    length = {'train_cfg.max_epochs': 1} if trial.task == 'mask_rcnn' else {'train_cfg.max_iters': 2}
    arguments = trial.arguments(**length, **options)
    commands.succeed('train', trial.config, *wishes, '--work-dir', folder, *arguments)
    (result,) = read_results(folder)
    return result


class TestResuming:
    @pytest.mark.parametrize('named', [True, False], ids=['checkpoint named', 'latest'])
    def test_ends_as_the_uninterrupted_training(
        self, commands, trial, uninterrupted_of, tmp_path, named
    ):
        whole, arguments = uninterrupted_of(trial.task)
        checkpoint = whole / f'{trial.halfway}.pth'
        if not named:
            checkpoint = shutil.copy(checkpoint, tmp_path)
            (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
        wish = ['--resume', checkpoint] if named else ['--resume']
        # The number of data workers must not affect the result.
        workers = ['num_workers=2', 'persistent_workers=True'] if named else ['num_workers=0']
        workers = [f'train_dataloader.{option}' for option in workers]
        commands.succeed('train', trial.config, *wish, '--work-dir', tmp_path, *arguments, *workers)

        assert sorted(scalars(tmp_path)) == [3, 4]
        for step, line in scalars(tmp_path).items():
            assert line['lr'] == scalars(whole)[step]['lr']
        *missed, result = read_results(tmp_path)
        assert result['iteration'] == 4
        # Resuming first evaluates a checkpoint in the work dir that has no result.
        assert [each['iteration'] for each in missed] == ([] if named else [2])
        ends = [load(folder / f'{trial.end}.pth') for folder in (whole, tmp_path)]
        assert equal_tensors(*(end['state_dict'] for end in ends))
        assert not equal_tensors(load(checkpoint)['state_dict'], ends[0]['state_dict'])
        digest = read_results(whole)[-1]['checkpoint']['weights_sha256']
        assert result['checkpoint']['weights_sha256'] == digest

    def test_remembers_seed_and_start(self, commands, trials, work_dir_of, tmp_path):
        """Seed, checkpoint and work dir may also be set in the config."""
        trial, first = trials['upernet'], tmp_path / 'first'
        start = work_dir_of('upernet') / 'iter_2.pth'
        train_halfway(commands, trial, first, '--pretrained', start, randomness__seed=5)
        resume = dict(resume=True, load_from=first / 'iter_2.pth', work_dir=tmp_path / 'rest')
        commands.succeed('train', trial.config, *trial.arguments(**resume))
        (result,) = read_results(tmp_path / 'rest')
        assert (result['seed'], result['initialization']) == (5, str(start))

    @pytest.mark.parametrize('wish', ['--resume', 'resume=True'])
    def test_resume_without_a_checkpoint_starts_from_scratch(self, commands, trials, tmp_path, wish):
        trial = trials['upernet']
        arguments = ['--work-dir', tmp_path, *trial.arguments(train_cfg__max_iters=2), 'resume=True']
        if wish == '--resume':
            arguments = [wish, *arguments[:-1]]
        commands.succeed('train', trial.config, *arguments)
        assert sorted(scalars(tmp_path)) == [1, 2]


class TestAveragedWeights:
    def test_are_trained_resumed_and_tested(self, commands, trial, tmp_path):
        """mmengine's hook stores the averages in a checkpoint in place of the weights."""
        hook = "custom_hooks=[{'type':'EMAHook','momentum':0.5}]"
        arguments = [*trial.arguments(), hook]
        whole, rest, tested = (tmp_path / name for name in ('whole', 'rest', 'tested'))
        commands.succeed('train', trial.config, '--work-dir', whole, *arguments)
        wish = ['--resume', whole / f'{trial.halfway}.pth', '--work-dir', rest]
        commands.succeed('train', trial.config, *wish, *arguments)
        ends = [load(folder / f'{trial.end}.pth') for folder in (whole, rest)]
        for part in ('state_dict', 'ema_state_dict'):
            assert equal_tensors(*(end[part] for end in ends))
        assert not equal_tensors(
            ends[0]['state_dict'],
            {
                name.removeprefix('module.'): value
                for name, value in ends[0]['ema_state_dict'].items()
                if name != 'steps'
            },
        )
        wish = [whole / f'{trial.end}.pth', '--work-dir', tested]
        commands.succeed('test', trial.config, *wish, *arguments)
        assert read_results(tested)[0]['metrics'] == read_results(whole)[-1]['metrics']


class TestOptionsOfTraining:
    def test_same_seed_gives_the_same_weights(self, commands, trial, trained, tmp_path):
        weights = read_results(trained)[0]['checkpoint']['weights_sha256']
        again = train_halfway(commands, trial, tmp_path)
        assert again['checkpoint']['weights_sha256'] == weights

    def test_different_seed_gives_different_weights(self, commands, trials, work_dir_of, tmp_path):
        first = read_results(work_dir_of('upernet'))[0]
        other = train_halfway(commands, trials['upernet'], tmp_path, '--seed', 1)
        assert other['seed'] == 1
        assert other['checkpoint']['weights_sha256'] != first['checkpoint']['weights_sha256']

    def test_deterministic(self, commands, trial, tmp_path):
        train_halfway(commands, trial, tmp_path, '--deterministic')
        dumped = Config.fromfile(tmp_path / trial.config.name)
        assert dumped.randomness == {'seed': 0, 'deterministic': True}

    def test_learning_rate_scales_with_the_batch(self, commands, trials, work_dir_of, tmp_path):
        batch_of_2 = {'train_dataloader.batch_size': 2, 'auto_scale_lr.base_batch_size': 4}
        trial = trials['upernet']
        result = train_halfway(commands, trial, tmp_path, '--auto-scale-lr', **batch_of_2)
        assert result['batch_size'] == 2
        usual, scaled = scalars(work_dir_of('upernet')), scalars(tmp_path)
        for step in (1, 2):
            assert scaled[step]['lr'] == pytest.approx(usual[step]['lr'] * 2 / 4, rel=1e-12)

    def test_learning_rate_is_not_scaled_by_default(self, commands, trials, work_dir_of, tmp_path):
        batch_of_2 = {'train_dataloader.batch_size': 2}
        train_halfway(commands, trials['upernet'], tmp_path, **batch_of_2)
        usual = scalars(work_dir_of('upernet'))
        assert scalars(tmp_path)[2]['lr'] == usual[2]['lr']

    def test_tensorboard(self, commands, trials, tmp_path):
        train_halfway(commands, trials['upernet'], tmp_path, '--tensorboard')
        assert list(tmp_path.rglob('events.out.tfevents.*'))


def released_classifier(variant):
    """Return the weights of a released ImageNet checkpoint, under the released names."""
    known = json.loads((ROOT / 'tests/data/released_names.json').read_text())
    shapes = known[variant]['parameters']
    return {name: torch.from_numpy(np.asarray(fill(name, tuple(s)))) for name, s in shapes.items()}


def fingerprint(tensor):
    return tensor.numel(), hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


class TestPretrained:
    @pytest.mark.parametrize('variant', ['mask_rcnn_halo_micro', 'upernet_convnext_micro'])
    def test_backbone_starts_from_the_file(self, commands, trials, tmp_path, variant):
        task = 'upernet' if variant.startswith('upernet') else 'mask_rcnn'
        released = released_classifier(variant.removeprefix(f'{task}_'))
        file = tmp_path / 'imagenet.pth'
        torch.save({'model': released}, file)
        still = {'optim_wrapper.optimizer.lr': 0.0, 'model.backbone.layer_scale_init_value': 1.0}
        length = {'mask_rcnn': {'train_cfg.max_epochs': 1}, 'upernet': {'train_cfg.max_iters': 2}}
        small = {k: v for k, v in trials[task].options.items() if k.startswith(('train', 'default'))}
        options = {**still, **small, **length[task]}
        config = ROOT / f'configs/demo/{variant}.py'
        commands.succeed(
            'train',
            config,
            *('--pretrained', file, '--work-dir', tmp_path / 'run'),
            *('--data-root', trials[task].data_root),
            *('--cfg-options', *(f'{k}={v}'.replace(' ', '') for k, v in options.items())),
        )
        backbone = {
            name.removeprefix('backbone.'): weight
            for name, weight in load(tmp_path / f'run/{trials[task].halfway}.pth')['state_dict'].items()
            if name.startswith('backbone.') and not name.startswith('backbone.out_norms')
        }
        held = {
            fingerprint(weight)
            for name, weight in released.items()
            if not name.startswith(('stage_norms.', 'conv_head.', 'head.'))
        }
        strangers = [name for name, weight in backbone.items() if fingerprint(weight) not in held]
        assert not strangers
        stem = released['downsample_layers.0.stem.0.weight']
        assert torch.equal(backbone['stem.conv1.weight'], stem)
        (result,) = read_results(tmp_path)
        assert result['initialization'] == str(file)
        (log,) = (tmp_path / 'run').glob('*/*.log')
        assert f'training starts from {file}' in log.read_text()
        assert re.search(r'parameters loaded \(100\.0%, \d+ tensors\)', log.read_text())

    @pytest.mark.parametrize('task', ['mask_rcnn', 'upernet'])
    @pytest.mark.parametrize('mixer', ['halo', 'pvt', 'swin', 'convnext', 'dcn'])
    def test_released_weights_are_looked_up(self, task, mixer):
        published = json.loads((ROOT / 'configs/published.json').read_text())
        for scale in ('micro', 'tiny', 'small', 'base'):
            (address,) = (
                entry['checkpoint']
                for entry in published
                if (entry['model'], entry['recipe']) == (f'{mixer}_{scale}', 'imagenet')
            )
            cfg = read_config(str(ROOT / f'configs/{task}_{mixer}_{scale}.py'))
            assert find_pretrained('released', cfg) == address

    def test_url_is_unchanged(self):
        cfg = read_config(str(ROOT / 'configs/upernet_swin_tiny.py'))
        address = 'https://example.org/weights.pth'
        assert find_pretrained(address, cfg) == address

    def test_unknown_backbone_has_no_released_weights(self, tmp_path):
        text = read_config(str(ROOT / 'configs/upernet_swin_tiny.py')).pretty_text
        file = tmp_path / 'upernet_swin_tiny.py'
        file.write_text(text.replace("'swin_tiny'", "'swin_huge'"))
        with pytest.raises(UserError, match='swin_huge'):
            find_pretrained('released', read_config(str(file)))
