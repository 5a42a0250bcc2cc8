"""`--protocol` and `--fraction` on the commands: from the training to its test, and what is refused."""

import json
import shutil

import pytest
import torch

from evaluation.data.fractions import FILE
from tests.commands import read_results
from tests.tools.sweeping import NAME, make_project

KIND = 'Configs and options'
OPTIONS = ('--protocol', 'linear', '--fraction', '0.5', '--fraction-seed', '3')
NAMED = f'{NAME}_linear_fraction_0.5_seed_3'


@pytest.fixture
def trial(trials):
    return trials['upernet']


@pytest.fixture
def arguments(trial):
    """Options of the small training, without those of heads that a linear probe does not have."""
    dropped = {'model.auxiliary_head.in_channels': None}
    options = {key: value for key, value in trial.options.items() if key not in dropped}
    given = [f'{key}={value}'.replace(' ', '') for key, value in options.items()]
    return ['--data-root', trial.data_root, '--cfg-options', *given]


@pytest.fixture
def pretrained(trial, weights, tmp_path):
    """Weights of a backbone."""
    found = weights('upernet')
    kept = {name: value for name, value in found.items() if name.startswith('backbone.')}
    torch.save({'state_dict': kept}, tmp_path / 'backbone.pth')
    return ('--pretrained', tmp_path / 'backbone.pth')


def test_from_training_to_test(commands, trial, arguments, pretrained, tmp_path, refused):
    command = [trial.config, *pretrained, *OPTIONS, *arguments]
    outcome = commands.succeed('train', *command, folder=tmp_path)
    work_dir = tmp_path / 'work_dirs' / NAMED
    results = read_results(work_dir)
    first, last = results[0], results[-1]
    images = json.loads((work_dir / FILE).read_text())
    assert (len(images['images']), images['available']) == (4, 8)
    for result in results:
        facts = [result['recipe'][fact] for fact in ('protocol', 'fraction', 'fraction_seed')]
        assert facts == ['linear', 0.5, 3]
        assert result['training_data']['images_sha256'] == images['sha256']
        assert result['training_data']['sha256'] == images['data_sha256']
        assert result['contestant']['name'] == 'dcn_micro'
    # Batch norm, and a 1x1 convolution to 8 classes, on maps of 240 channels.
    trained = 2 * 240 + 8 * (240 + 1)
    assert last['parameters']['trainable'] == trained
    total = last['parameters']['backbone'] + trained
    assert f'{trained:,} of {total:,} parameters train (linear probe)' in outcome.stdout

    checkpoint = work_dir / f'{trial.end}.pth'
    before = torch.load(pretrained[1])['state_dict']
    after = torch.load(checkpoint, weights_only=False)['state_dict']
    assert all(torch.equal(after[name], value) for name, value in before.items())

    # The leaf needs no option: the checkpoint states the protocol.
    commands.succeed('test', trial.config, checkpoint, *arguments, folder=tmp_path)
    tested = next(r for r in read_results(work_dir) if r['epoch'] is None and r not in results)
    for key in ('metrics', 'recipe', 'parameters', 'contestant', 'training_data'):
        assert tested[key] == last[key], key
    assert tested['config']['sha256'] == first['config']['sha256']
    table = commands.succeed('table', work_dir).stdout
    assert '### UperNet on generated scenes, linear probe, 50 % of the training images' in table

    # Resuming.
    resumed = ['--resume', checkpoint, '--work-dir', tmp_path / 'resumed']
    for given, options, said in (
        (
            '`--resume` with another protocol',
            ('--protocol', 'frozen', *OPTIONS[2:]),
            "recipe.protocol is 'frozen' here and 'linear' there",
        ),
        (
            '`--resume` with another fraction',
            (*OPTIONS[:3], '0.25', *OPTIONS[4:]),
            'recipe.fraction is 0.25 here and 0.5 there',
        ),
    ):
        more = ['model.auxiliary_head.in_channels=64'] if 'frozen' in options else []
        outcome = commands('train', trial.config, *options, *resumed, *arguments, *more, folder=tmp_path)
        refused(KIND, given, outcome, f'{checkpoint} belongs to a different experiment: {said}')
    other = shutil.copytree(trial.data_root, tmp_path / 'other')
    for file in (other / 'images/training').glob('*'):
        file.rename(file.with_name(f'x{file.name}'))
    for file in (other / 'annotations/training').glob('*'):
        file.rename(file.with_name(f'x{file.name}'))
    moved = ['--data-root', other, *arguments[2:]]
    outcome = commands('train', trial.config, *OPTIONS, *resumed, *moved, folder=tmp_path)
    refused(KIND, '`--resume` on other data with a fraction', outcome, 'on a different list of images')
    listed = ('--fraction', work_dir / FILE, '--protocol', 'linear')
    outcome = commands('train', trial.config, *listed, *pretrained, *moved, folder=tmp_path)
    refused(KIND, 'a list of images of other data', outcome, f'{FILE} lists 4 of 8 images of other data')
    assert not (tmp_path / 'resumed').exists()


@pytest.mark.parametrize(
    ('given', 'task', 'options', 'said'),
    [
        (
            'a frozen backbone without weights',
            'mask_rcnn',
            ('--protocol', 'frozen'),
            '--protocol frozen freezes the backbone, which has no starting weights; give --pretrained',
        ),
        (
            'a linear probe of a detector',
            'mask_rcnn',
            ('--protocol', 'linear', '--pretrained', 'scratch'),
            '--protocol linear is for semantic_segmentation',
        ),
        ('a fraction above 1', 'upernet', ('--fraction', '10'), '10 is not between 0 and 1'),
        (
            'a fraction that is less than one image',
            'upernet',
            ('--fraction', '0.01'),
            'of 8 training images is less than one',
        ),
        (
            'a seed of a fraction without a fraction',
            'upernet',
            ('--fraction-seed', '1'),
            '--fraction-seed needs --fraction',
        ),
        (
            'a result instead of a list of images',
            'upernet',
            ('--fraction', '{data_root}/scenes.json'),
            'is not a list of training images',
        ),
    ],
)
def test_refused(train, trials, nothing_written, refused, given, task, options, said):
    trial = trials[task]
    options = [option.format(data_root=trial.data_root) for option in options]
    refused(KIND, given, train(trial.config, *options, *trial.arguments()), said)
    assert nothing_written()


def test_random_weights_beside_others(train, trials, tmp_path, refused):
    trial = trials['upernet']
    weights = "{'type':'Pretrained','checkpoint':'a.pth'}"
    more = trial.arguments(model__backbone__init_cfg=weights)
    outcome = train(trial.config, '--pretrained', 'scratch', *more)
    said = '--pretrained scratch, but the config starts from a.pth; remove one of them'
    refused(KIND, '`--pretrained scratch` for a config with weights', outcome, said)


def test_sweep_of_a_frozen_backbone_without_weights(commands, trials, tmp_path, refused):
    project = make_project(tmp_path, trials['upernet'])
    arguments = project.arguments(f'configs/demo/{NAME}.py', more=('--protocol', 'frozen'))
    outcome = commands('sweep', *arguments, folder=project.folder)
    said = f'{NAME}_frozen/seed_0: --protocol frozen freezes the backbone'
    refused('Sweeps', '`--protocol` without starting weights', outcome, said)
    assert not project.root.exists()


@pytest.mark.parametrize('protocol', ['frozen', 'linear'])
def test_sweep_separates_runs(commands, trials, tmp_path, protocol):
    project = make_project(tmp_path, trials['upernet'])
    more = ['--seeds', '0', '1', '--dry-run', '--protocol', protocol, '--fraction', '0.25']
    pattern = f'configs/demo/{NAME}.py'
    start = ('--pretrained', 'scratch')
    options = {} if protocol == 'frozen' else {'model.decode_head.in_channels': [16, 32, 64, 128]}
    arguments = project.arguments(pattern, more=(*more, *start), options=options)
    if protocol == 'linear':
        arguments = [word for word in arguments if 'auxiliary_head' not in word]
    outcome = commands.succeed('sweep', *arguments, folder=project.folder)
    name = f'{NAME}_{protocol}_fraction_0.25_seed_0'
    lines = outcome.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [['new', f'{name}/seed_{n}:'] for n in (0, 1)]
