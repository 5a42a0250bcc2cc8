"""Bad input to `tools/train.py` and `tools/test.py`: status 2, one line why, nothing written."""

import shutil

import pytest
import torch

from tests.commands import ROOT
from tests.data.fill import fill

HALF_WRITTEN = ('.pth', '.pkl', '.json', '.jpg', '.png')


def refused(outcome, *messages):
    """The command ended with status 2 and one `error:` line, which has all of `messages`."""
    assert outcome.status == 2, outcome.stderr[-3000:]
    assert 'Traceback' not in outcome.stdout + outcome.stderr
    lines = [line for line in outcome.stderr.splitlines() if line.startswith('error:')]
    assert len(lines) == 1
    assert outcome.stderr.splitlines()[-1] == lines[0]
    for message in messages:
        assert message in lines[0]


def nothing_written(folder):
    return not [path for path in folder.rglob('*') if path.suffix in HALF_WRITTEN]


@pytest.fixture
def train(commands, tmp_path):
    """Run `tools/train.py` in an empty folder."""
    return lambda *arguments: commands('train', *arguments, folder=tmp_path)


@pytest.fixture
def test(commands, tmp_path):
    """Run `tools/test.py` in an empty folder."""
    return lambda *arguments: commands('test', *arguments, folder=tmp_path)


class TestConfig:
    def test_missing(self, train, tmp_path):
        wrong = ROOT / 'configs/demo/mask_rcnn_swim_micro.py'
        near = f'did you mean {ROOT}/configs/demo/mask_rcnn_swin_micro.py'
        refused(train(wrong), 'mask_rcnn_swim_micro.py is not a file', near)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ('option', 'messages'),
        [
            ('type=swim', ("unknown mixer 'swim'", 'known are', 'swin')),
            ('num_head=[1,2,4,8]', ("no option 'num_head'", "did you mean 'num_heads'?")),
            ('num_heads=[3,3,3,3]', ('3', 'heads')),
            ('num_heads=[1,2]', ('2 entries', '4 stages')),
        ],
    )
    def test_mixer(self, train, trials, tmp_path, option, messages):
        trial = trials['mask_rcnn']
        outcome = train(trial.config, *trial.arguments(), f'model.backbone.mixer.{option}')
        refused(outcome, *messages)
        assert nothing_written(tmp_path)


class TestData:
    def test_missing_root(self, train, trial, tmp_path):
        refused(train(trial.config, '--data-root', 'nowhere'), 'data root nowhere is not a folder')
        assert not list(tmp_path.iterdir())

    def test_missing_root_of_the_config(self, train, trial):
        refused(train(trial.config), 'work_dirs/demo/data/', 'give --data-root')

    @pytest.mark.parametrize('split', ['train', 'val'])
    def test_missing_annotations(self, train, trial, tmp_path, split):
        missing = {
            'mask_rcnn': f'annotations/instances_{split}2017.json',
            'upernet': f'annotations/{"training" if split == "train" else "validation"}',
        }[trial.task]
        data = tmp_path / 'data'
        shutil.copytree(trial.data_root, data)
        (data / missing).rename(data / 'elsewhere')
        refused(train(trial.config, '--data-root', data), f'{data / missing} is missing')
        assert not (tmp_path / 'work_dirs').exists()

    def test_testing_needs_no_training_data(self, commands, trials, work_dir_of, tmp_path):
        trial = trials['upernet']
        data = tmp_path / 'data'
        for kind in ('images', 'annotations'):
            shutil.copytree(trial.data_root / kind / 'validation', data / kind / 'validation')
        arguments = ['--work-dir', tmp_path / 'run', *trial.arguments()]
        arguments[arguments.index(trial.data_root)] = data
        commands.succeed('test', trial.config, work_dir_of('upernet') / 'iter_4.pth', *arguments)


class TestCheckpoint:
    def test_missing(self, test, trial, tmp_path):
        outcome = test(trial.config, 'nowhere.pth', *trial.arguments())
        refused(outcome, 'nowhere.pth is not a file')
        assert nothing_written(tmp_path)

    def test_truncated(self, test, trials, work_dir_of, tmp_path):
        trial = trials['upernet']
        whole = (work_dir_of('upernet') / 'iter_4.pth').read_bytes()
        file = tmp_path / 'truncated.pth'
        file.write_bytes(whole[: len(whole) // 2])
        refused(test(trial.config, file, *trial.arguments()), str(file))

    def test_not_one_at_all(self, test, trials, tmp_path):
        file = tmp_path / 'notes.pth'
        file.write_text('buy milk')
        trial = trials['upernet']
        refused(test(trial.config, file, *trial.arguments()), str(file))

    def test_without_weights(self, test, trials, tmp_path):
        file = tmp_path / 'empty.pth'
        torch.save({'meta': {'epoch': 1}, 'state_dict': {}}, file)
        trial = trials['upernet']
        refused(test(trial.config, file, *trial.arguments()), str(file), 'holds no weights')

    def test_of_another_backbone(self, test, trials, work_dir_of, tmp_path):
        file = work_dir_of('upernet') / 'iter_4.pth'
        options = {
            key: value
            for key, value in trials['upernet'].options.items()
            if key != 'model.backbone.mixer.num_heads'
        }
        config = ROOT / 'configs/demo/upernet_convnext_micro.py'
        words = [f'{key}={value}'.replace(' ', '') for key, value in options.items()]
        root = trials['upernet'].data_root
        outcome = test(config, file, '--data-root', root, '--cfg-options', *words)
        refused(outcome, f'{file} does not fit', 'upernet_convnext_micro.py')
        assert nothing_written(tmp_path)

    def test_of_another_width(self, test, trials, work_dir_of, tmp_path):
        file = work_dir_of('upernet') / 'iter_4.pth'
        trial = trials['upernet']
        outcome = test(trial.config, file, *trial.arguments(model__decode_head__channels=32))
        refused(outcome, f'{file} does not fit', 'size mismatch')
        assert nothing_written(tmp_path)

    @pytest.mark.parametrize('word', ['missing', 'left over'])
    def test_of_other_weights(self, test, trials, work_dir_of, tmp_path, word):
        trial = trials['upernet']
        content = torch.load(work_dir_of('upernet') / 'iter_4.pth', weights_only=False)
        weights = content['state_dict']
        name = 'backbone.stages.2.0.norm1.weight'
        if word == 'missing':
            del weights[name]
        else:
            name = 'backbone.stages.2.1.norm1.weight'
            weights[name] = torch.ones(64)
        file = tmp_path / 'other'
        torch.save(content, file)
        outcome = test(trial.config, file, *trial.arguments())
        refused(outcome, f'{file} does not fit', f'1 weights are {word}, such as {name}')
        assert nothing_written(tmp_path)

    def test_to_resume_from_is_missing(self, train, trials, tmp_path):
        trial = trials['upernet']
        outcome = train(trial.config, '--resume', 'nowhere.pth', *trial.arguments())
        refused(outcome, 'nowhere.pth', 'resume')
        assert nothing_written(tmp_path)

    def test_to_resume_from_is_truncated(self, train, trials, work_dir_of, tmp_path):
        trial = trials['upernet']
        file = tmp_path / 'truncated.pth'
        file.write_bytes((work_dir_of('upernet') / 'iter_2.pth').read_bytes()[:5000])
        refused(train(trial.config, '--resume', file, *trial.arguments()), str(file))

    def test_latest_to_resume_from_is_gone(self, train, trials, tmp_path):
        (tmp_path / 'last_checkpoint').write_text('elsewhere/iter_2.pth')
        trial = trials['upernet']
        outcome = train(trial.config, '--resume', '--work-dir', '.', *trial.arguments())
        refused(outcome, 'elsewhere/iter_2.pth to resume from is not a file')

    def test_to_resume_from_never_runs_code(self, train, trials, work_dir_of, tmp_path):
        trial = trials['upernet']
        content = torch.load(work_dir_of('upernet') / 'iter_2.pth', weights_only=False)
        file = tmp_path / 'hostile.pth'
        torch.save({**content, 'extra': Touch(str(tmp_path / 'touched'))}, file)
        outcome = train(trial.config, '--resume', file, *trial.arguments())
        assert not (tmp_path / 'touched').exists()
        refused(outcome, str(file))

    def test_pretrained_is_missing(self, train, trials, tmp_path):
        trial = trials['upernet']
        outcome = train(trial.config, '--pretrained', 'nowhere.pth', *trial.arguments())
        refused(outcome, 'nowhere.pth is not a file')
        assert nothing_written(tmp_path)

    def test_pretrained_is_of_another_backbone(self, train, trials, tmp_path):
        trial = trials['upernet']
        file = tmp_path / 'other'
        name = 'stages.0.0.norm1.weight'
        torch.save({'model': {name: torch.from_numpy(fill(name, (16,)))}}, file)
        outcome = train(trial.config, '--pretrained', file, *trial.arguments())
        refused(outcome, f'{file}: only')
        assert nothing_written(tmp_path)


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


class TestOutput:
    def test_work_dir_below_a_file(self, train, trial, tmp_path):
        (tmp_path / 'file').write_text('')
        outcome = train(trial.config, '--work-dir', 'file/run', *trial.arguments())
        refused(outcome, 'work dir file/run')

    def test_work_dir_is_a_file(self, train, trial, tmp_path):
        (tmp_path / 'file').write_text('kept')
        refused(train(trial.config, '--work-dir', 'file', *trial.arguments()), 'work dir file')
        assert (tmp_path / 'file').read_text() == 'kept'

    @pytest.mark.parametrize(
        ('name', 'message'),
        [('predictions.json', 'must end in .pkl'), ('nowhere/predictions.pkl', 'folder')],
    )
    def test_predictions(self, test, trials, work_dir_of, tmp_path, name, message):
        trial = trials['upernet']
        checkpoint = work_dir_of('upernet') / 'iter_4.pth'
        outcome = test(trial.config, checkpoint, '--out', name, *trial.arguments())
        refused(outcome, f'--out {name}', message)
        assert nothing_written(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason='on a GPU it is no mistake')
def test_mixed_precision_without_a_gpu(train, trial, tmp_path):
    refused(train(trial.config, '--amp', *trial.arguments()), '--amp needs a GPU')
    assert nothing_written(tmp_path)
