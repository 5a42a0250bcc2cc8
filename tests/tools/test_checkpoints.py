"""Released checkpoints, loaded in every possible way, and resuming without loss of state."""

import re

import pytest
import torch

from tests.commands import ROOT, read_results
from tests.launching import free_port, places, shell
from tests.released import (
    classifier_shapes,
    detector_file,
    filled,
    imagenet_file,
    mask_rcnn_shapes,
)

CONFIG = ROOT / 'configs/demo/mask_rcnn_halo_micro.py'
OF_THE_DEMONSTRATION = {'channels': 64, 'hidden': 256, 'classes': 6, 'mask_convs': 2}
# Report of a backbone or model that is loaded completely.
WHOLE = re.compile(r'parameters loaded \(100\.0%, (\d+) tensors\)')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Folder with an ImageNet checkpoint and a detector checkpoint, both of `halo_micro`."""
    folder = tmp_path_factory.mktemp('released')
    torch.save(imagenet_file(filled(classifier_shapes('halo_micro'))), folder / 'imagenet.pth')
    detector = filled(mask_rcnn_shapes('halo_micro', **OF_THE_DEMONSTRATION))
    torch.save(detector_file(detector), folder / 'detector.pth')
    return folder


@pytest.fixture
def log_of(commands, trials, tmp_path):
    """Run a command on `CONFIG` for two steps with a learning rate of 0; return its log."""
    trial = trials['mask_rcnn']

    def run(command, *wishes, **options):
        kept = ('train', 'default', 'val', 'test')
        small = {key: value for key, value in trial.options.items() if key.startswith(kept)}
        small |= {'optim_wrapper.optimizer.lr': 0.0, 'train_cfg.max_epochs': 1, **options}
        words = [f'{key}={value}'.replace(' ', '') for key, value in small.items()]
        arguments = ['--data-root', trial.data_root, '--cfg-options', *words]
        commands.succeed(command, CONFIG, *wishes, '--work-dir', tmp_path, *arguments)
        (log,) = tmp_path.glob('*/*.log')
        return log.read_text()

    return run


def trained_weights(tmp_path):
    return torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']


def stem_of(file):
    """Return the weights of the first convolution in a released file."""
    content = torch.load(file, weights_only=False)
    weights = content.get('model') or content['state_dict']
    return next(v for name, v in weights.items() if name.endswith('downsample_layers.0.stem.0.weight'))


# Number of parts that are loaded completely: the backbone, or backbone and heads.
PARTS = {'imagenet': 1, 'detector': 2}


class TestReleased:
    @pytest.mark.parametrize('kind', PARTS)
    def test_backbone_of_a_training(self, files, log_of, tmp_path, kind):
        file = files / f'{kind}.pth'
        log = log_of('train', '--pretrained', file)
        assert len(WHOLE.findall(log)) == 1
        assert (read_results(tmp_path)[0]['initialization']) == str(file)
        assert torch.equal(trained_weights(tmp_path)['backbone.stem.conv1.weight'], stem_of(file))
        if kind == 'imagenet':
            assert 'expected, classifier head: ' in log
            assert 'expected, output norms are new in a dense model: ' in log

    @pytest.mark.parametrize('kind', PARTS)
    @pytest.mark.parametrize('way', ['load_from', 'resume'])
    def test_whole_model_of_a_training(self, files, log_of, tmp_path, kind, way):
        file = files / f'{kind}.pth'
        log = log_of('train', '--resume', file) if way == 'resume' else log_of('train', load_from=file)
        assert len(WHOLE.findall(log)) == PARTS[kind]
        assert (read_results(tmp_path)[0]['initialization']) == str(file)
        # Neither file has a training state to resume.
        assert read_results(tmp_path)[0]['iteration'] == 2
        weights = trained_weights(tmp_path)
        assert torch.equal(weights['backbone.stem.conv1.weight'], stem_of(file))
        head = 'roi_head.bbox_head.fc_cls.weight'
        given = filled(mask_rcnn_shapes('halo_micro', **OF_THE_DEMONSTRATION))[head]
        assert torch.equal(weights[head], given) == (kind == 'detector')
        assert ('the file has only a backbone, so the rest is not loaded' in log) == (kind == 'imagenet')

    def test_detector_can_be_tested(self, files, log_of, tmp_path):
        log = log_of('test', files / 'detector.pth')
        assert len(WHOLE.findall(log)) == 2
        (result,) = read_results(tmp_path)
        assert result['checkpoint']['file'] == 'detector.pth'


def test_resuming_from_weights_only_gives_a_warning(commands, trials, files, tmp_path):
    trial = trials['mask_rcnn']
    kept = {k: v for k, v in trial.options.items() if k.startswith(('train', 'default', 'val', 'test'))}
    words = [
        f'{key}={value}'.replace(' ', '') for key, value in {**kept, 'train_cfg.max_epochs': 1}.items()
    ]
    outcome = commands.succeed(
        'train', CONFIG, '--resume', files / 'detector.pth', '--work-dir', tmp_path,
        '--data-root', trial.data_root, '--cfg-options', *words,
    )  # fmt: skip
    assert 'detector.pth has weights but no message_hub, param_schedulers' in outcome.stderr


@pytest.mark.parametrize('entry', ['config', 'cfg'])
def test_resuming_never_runs_the_config_in_a_checkpoint(commands, trials, work_dir_of, tmp_path, entry):
    """mmengine runs that config to compare the number of GPUs."""
    trial = trials['upernet']
    content = torch.load(work_dir_of('upernet') / 'iter_2.pth', weights_only=False)
    text = f'import os\nos.mkdir({str(tmp_path / "proof")!r})\n'
    content['meta'][entry] = text + content['meta']['cfg']
    torch.save(content, tmp_path / 'hostile.pth')
    arguments = ['--work-dir', tmp_path / 'run', *trial.arguments()]
    commands.succeed('train', trial.config, '--resume', tmp_path / 'hostile.pth', *arguments)
    assert not (tmp_path / 'proof').exists()


class TestAveraged:
    def test_key_chooses_the_weights(self, commands, trials, work_dir_of, tmp_path):
        trial = trials['upernet']
        content = torch.load(work_dir_of('upernet') / 'iter_4.pth', weights_only=False)
        averaged = torch.load(work_dir_of('upernet') / 'iter_2.pth', weights_only=False)['state_dict']
        torch.save({'state_dict': content['state_dict'], 'ema': averaged}, tmp_path / 'both.pth')
        digests = [r['checkpoint']['weights_sha256'] for r in read_results(work_dir_of('upernet'))]
        for wish, digest in (((), digests[1]), (('--checkpoint-key', 'ema'), digests[0])):
            folder = tmp_path / f'run{len(wish)}'
            arguments = [*wish, '--work-dir', folder, *trial.arguments()]
            outcome = commands.succeed('test', trial.config, tmp_path / 'both.pth', *arguments)
            (result,) = read_results(folder)
            assert result['checkpoint']['weights_sha256'] == digest
            assert f'using {wish[1] if wish else "state_dict"}' in outcome.stdout


class TestWriting:
    def test_holds_the_random_state_of_every_process(self, trained, trial):
        content = torch.load(trained / f'{trial.halfway}.pth', weights_only=False)
        (state,) = content['meta']['random_states']
        assert set(state) == {'python', 'numpy', 'torch', 'cuda'}

    def test_leaves_no_unfinished_file(self, trained):
        assert not list(trained.rglob('*.tmp'))


@pytest.mark.skipif(places() < 2, reason='this machine has room for one process')
def test_two_processes_resume_as_if_they_had_not_stopped(commands, trials, tmp_path):
    trial = trials['upernet']
    whole, rest = tmp_path / 'whole', tmp_path / 'rest'
    much = {'model__backbone__drop_path_rate': 0.5, 'model__decode_head__dropout_ratio': 0.5}
    arguments = trial.arguments(**much)
    for folder, wishes in ((whole, ()), (rest, ('--resume', whole / 'iter_2.pth'))):
        done = shell(
            'dist_train.sh', trial.config, 2, '--work-dir', folder, *wishes, *arguments,
            PORT=free_port(), **commands.forked,
        )  # fmt: skip
        assert done.status == 0, done.stderr[-4000:]
    assert len(torch.load(whole / 'iter_2.pth', weights_only=False)['meta']['random_states']) == 2
    digests = [read_results(folder)[-1]['checkpoint']['weights_sha256'] for folder in (whole, rest)]
    assert digests[0] == digests[1]
