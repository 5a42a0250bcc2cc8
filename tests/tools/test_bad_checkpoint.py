"""Bad checkpoints, given in every possible way: status 2, one error line, nothing written or run."""

import pytest
import torch

from tests.commands import ROOT, option_list
from tests.data.fill import fill
from tests.hostile import is_as_dangerous_as_meant, write_hostile
from tests.oversized import write_claim, write_compressed

KIND = 'Checkpoints'
WAYS = ('tools/test.py', '--resume', '--pretrained', 'load_from')


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def give(train, test, trials):
    """Run a command that loads a checkpoint into UperNet in one of the ways."""
    trial = trials['upernet']

    def run(way, source, **options):
        arguments = trial.arguments(**options)
        if way == 'tools/test.py':
            return test(trial.config, source, *arguments)
        if way == 'load_from':
            return train(trial.config, *arguments, f'load_from={source}')
        return train(trial.config, way, source, *arguments)

    return run


@pytest.fixture
def content(work_dir_of):
    """Content of a valid checkpoint of the suite, to be damaged."""
    return torch.load(work_dir_of('upernet') / 'iter_2.pth', weights_only=False)


def truncated(file, content):
    torch.save(content, file)
    file.write_bytes(file.read_bytes()[:5000])


def of_nothing(file, content):
    torch.save({'meta': {'epoch': 1}, 'state_dict': {}}, file)


FILES = {
    'a file that does not exist': (lambda file, content: None, 'is not a file'),
    'a folder': (lambda file, content: file.mkdir(), 'is a folder; give a file in it'),
    'an empty file': (lambda file, content: file.touch(), 'is empty'),
    'a truncated file': (truncated, 'is truncated or not a checkpoint'),
    'a file that is not a checkpoint': (
        lambda file, content: file.write_text('buy milk'),
        'not a checkpoint',
    ),
    'a checkpoint without weights': (of_nothing, 'contains no weights'),
}


@pytest.mark.parametrize('given', FILES)
def test_files(give, way, given, content, tmp_path, refused, nothing_written):
    spoil, message = FILES[given]
    file = tmp_path / 'input/weights.pth'
    file.parent.mkdir()
    spoil(file, content)
    outcome = give(way, file)
    refused(KIND, given, outcome, f'checkpoint {file}', message)
    file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
    assert nothing_written()


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
def test_never_run_code(give, way, zipped, content, tmp_path, refused, nothing_written):
    file, proof = tmp_path / 'input/weights.pth', tmp_path / 'proof'
    file.parent.mkdir()
    write_hostile(file, content, proof, zipped)
    outcome = give(way, file)
    assert not proof.exists()
    refused(KIND, 'a checkpoint whose pickle would run a command', outcome, 'tries to run posix.mkdir')
    assert is_as_dangerous_as_meant(file, proof)
    file.unlink()
    assert nothing_written()


@pytest.mark.parametrize(
    ('given', 'write', 'message'),
    [
        (
            'a checkpoint with compressed members',
            lambda file: write_compressed(file, 10_000_000),
            'compressed members such as weights/data/1',
        ),
        (
            'a checkpoint whose members claim to be larger than the file',
            write_claim,
            'members that claim 4,29',
        ),
    ],
)
def test_sizes(give, given, write, message, tmp_path, refused, nothing_written):
    file = tmp_path / 'input/weights.pth'
    file.parent.mkdir()
    write(file)
    refused(KIND, given, give('tools/test.py', file), f'checkpoint {file} contains', message)
    file.unlink()
    assert nothing_written()


@pytest.mark.parametrize('part', ['meta', 'message_hub', 'optimizer', 'param_schedulers'])
def test_damaged_state_of_a_training(give, part, content, tmp_path, refused, nothing_written):
    file = tmp_path / 'input/weights.pth'
    file.parent.mkdir()
    torch.save({**content, part: []}, file)
    given = f'`--resume` from a checkpoint with an invalid {part} (an empty list)'
    refused(KIND, given, give('--resume', file), f'cannot be resumed: invalid {part}')
    file.unlink()
    assert nothing_written()


def test_weights_with_nan(give, way, content, tmp_path, refused, nothing_written):
    file = tmp_path / 'input/weights.pth'
    file.parent.mkdir()
    content['state_dict']['backbone.stem.conv1.weight'][0] = float('nan')
    torch.save(content, file)
    refused(KIND, 'weights that contain NaN', give(way, file), 'non-finite values in 1 tensors')
    file.unlink()
    assert nothing_written()


def test_unreachable_address(give, way, refused, nothing_written):
    outcome = give(way, 'http://127.0.0.1:9/weights.pth')
    refused(KIND, 'a URL that cannot be reached', outcome, 'cannot be downloaded', '127.0.0.1:9')
    assert nothing_written()


class TestDifferentModel:
    """Valid weights of a different model."""

    def test_mixer(self, commands, trials, work_dir_of, tmp_path, way, refused, nothing_written):
        file = work_dir_of('upernet') / 'iter_4.pth'
        options = {
            key: value
            for key, value in trials['upernet'].options.items()
            if key != 'model.backbone.mixer.num_heads'
        }
        config = ROOT / 'configs/demo/upernet_convnext_micro.py'
        arguments = ['--data-root', trials['upernet'].data_root, *option_list(options)]
        command, *wish = {
            'tools/test.py': ('test', file),
            '--resume': ('train', '--resume', file),
            '--pretrained': ('train', '--pretrained', file),
            'load_from': ('train', *arguments, f'load_from={file}'),
        }[way]
        outcome = commands(command, config, *wish, *arguments, folder=tmp_path)
        if way == '--resume':
            given = '`--resume` from a checkpoint of a different config'
            message = "model.backbone.mixer.type is 'convnext' here and 'dcn' there"
            refused(KIND, given, outcome, f'{file} belongs to a different experiment', message)
        else:
            given = 'a checkpoint of a different mixer'
            refused(KIND, given, outcome, f'{file}: only', 'are for dcn with 16')
        assert nothing_written()

    def test_scale(self, train, trials, tmp_path, refused, nothing_written):
        file = tmp_path / 'input/weights.pth'
        file.parent.mkdir()
        depths, dims = (2, 2, 9, 2), (32, 64, 128, 256)
        weights = {
            f'stages.{i}.{j}.norm1.weight': (dims[i],) for i in range(4) for j in range(depths[i])
        }
        weights |= {'stages.0.0.attn.pos_embed.height_rel': (25, 32)}
        weights = {name: torch.from_numpy(fill(name, shape)) for name, shape in weights.items()}
        torch.save({'model': weights}, file)
        config = ROOT / 'configs/mask_rcnn_halo_tiny.py'
        arguments = ['--data-root', trials['mask_rcnn'].data_root, '--pretrained', file]
        classes = "('disc','square','triangle','star','ring','cross')"
        options = {
            f'{loader}.dataset.metainfo.classes': classes
            for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader')
        } | {f'model.roi_head.{head}.num_classes': 6 for head in ('bbox_head', 'mask_head')}
        outcome = train(config, *arguments, *option_list(options))
        given = 'a checkpoint of a different scale'
        refused(
            KIND, given, outcome, 'this backbone (halo_tiny); the weights are for halo_micro, so use'
        )
        file.unlink()
        assert nothing_written()

    def test_width_of_a_head(self, test, trials, work_dir_of, refused, nothing_written):
        file = work_dir_of('upernet') / 'iter_4.pth'
        trial = trials['upernet']
        outcome = test(trial.config, file, *trial.arguments(model__decode_head__channels=32))
        given = 'test: a checkpoint whose heads have different shapes'
        refused(
            KIND,
            given,
            outcome,
            f'{file} does not fit',
            'weights of a different shape, such as decode_head',
        )
        assert nothing_written()

    def test_backbone_alone(self, test, trials, content, tmp_path, refused, nothing_written):
        file = tmp_path / 'input/weights.pth'
        file.parent.mkdir()
        weights = content['state_dict'].items()
        backbone = {name[9:]: value for name, value in weights if name.startswith('backbone.')}
        torch.save({'model': backbone}, file)
        trial = trials['upernet']
        outcome = test(trial.config, file, *trial.arguments())
        given = 'test: a checkpoint with only a backbone'
        refused(KIND, given, outcome, 'only a backbone, of which 100.0% fits', '69 weights missing')
        file.unlink()
        assert nothing_written()

    @pytest.mark.parametrize(
        ('word', 'given', 'name'),
        [
            ('missing', 'with a missing weight', 'decode_head.conv_seg.weight'),
            ('left over', 'with an extra weight', 'decode_head.more.weight'),
        ],
    )
    def test_one_weight(
        self, test, trials, content, tmp_path, word, given, name, refused, nothing_written
    ):
        trial = trials['upernet']
        if word == 'missing':
            del content['state_dict'][name]
        else:
            content['state_dict'][name] = torch.ones(64)
        file = tmp_path / 'input/weights.pth'
        file.parent.mkdir()
        torch.save(content, file)
        outcome = test(trial.config, file, *trial.arguments())
        given = f'test: a checkpoint {given}'
        refused(KIND, given, outcome, f'{file} does not fit', f'1 weight {word}, such as {name}')
        file.unlink()
        assert nothing_written()


def test_missing_key(test, trials, work_dir_of, refused, nothing_written):
    trial = trials['upernet']
    file = work_dir_of('upernet') / 'iter_4.pth'
    outcome = test(trial.config, file, '--checkpoint-key', 'ema', *trial.arguments())
    given = '`--checkpoint-key ema` with a checkpoint without averaged weights'
    refused(KIND, given, outcome, "has no weights under 'ema'; it has state_dict")
    assert nothing_written()


def test_latest_checkpoint_is_missing(train, trials, tmp_path, refused):
    (tmp_path / 'last_checkpoint').write_text('elsewhere/iter_2.pth')
    trial = trials['upernet']
    outcome = train(trial.config, '--resume', '--work-dir', '.', *trial.arguments())
    given = '`--resume` when the last checkpoint of the work dir is missing'
    refused(KIND, given, outcome, 'names elsewhere/iter_2.pth, which is missing')
