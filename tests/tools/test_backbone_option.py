"""`--backbone` on the commands: any module trains, loads, resumes and is tested under its own name."""

import json
import shutil

import pytest
import torch

from tests import networks
from tests.commands import ROOT, read_results

KIND = 'Configs and options'
PAGES = {task: ROOT / f'configs/_base_/demo_{task}.py' for task in ('mask_rcnn', 'upernet')}
# Options of a trial that only its own backbone has.
OF_ITS_BACKBONE = ('model.backbone', 'model.neck', 'model.decode_head', 'model.auxiliary_head')
NAME = 'my_net:Pyramid(width=6)'
FILE_NAME = 'my_net.Pyramid_width_6'


@pytest.fixture
def folder(tmp_path):
    """The folder of a user, with a network that is registered nowhere."""
    shutil.copy(networks.__file__, tmp_path / 'my_net.py')
    return tmp_path


@pytest.fixture
def arguments(trial):
    """Options of a training of four steps, with any backbone."""
    kept = {k: v for k, v in trial.options.items() if not k.startswith(OF_ITS_BACKBONE)}
    options = [f'{key}={value}'.replace(' ', '') for key, value in kept.items()]
    return ['--data-root', trial.data_root, '--cfg-options', *options]


def test_module_of_a_user_trains_from_its_weights(commands, trial, arguments, folder):
    torch.manual_seed(3)
    weights = networks.Pyramid(width=6).state_dict()
    torch.save(weights, folder / 'weights.pth')
    page = PAGES[trial.task]
    command = [page, '--backbone', NAME, *arguments]
    outcome = commands.succeed('train', *command, '--pretrained', 'weights.pth', folder=folder)
    count = f'{sum(value.numel() for value in weights.values()):,}'
    assert f'weights.pth: {count} of {count} parameters loaded (100.0%' in outcome.stdout
    work_dir = folder / f'work_dirs/{page.stem}_{FILE_NAME}'
    for result in read_results(work_dir):
        assert result['config']['name'] == work_dir.name
        assert result['initialization'] == 'weights.pth'
        assert result['contestant'] == {
            'name': 'my_net.Pyramid(width=6)', 'family': 'my_net', 'mixer': None, 'scale': None
        }  # fmt: skip

    # The training is complete, so `--resume` only finds its end.
    commands.succeed('train', *command, '--resume', folder=folder)
    checkpoint = work_dir / f'{trial.end}.pth'
    # Results of one second would share a folder.
    first, second = (['--work-dir', name, *arguments] for name in ('tested', 'dumped'))
    commands.succeed('test', page, checkpoint, '--backbone', NAME, *first, folder=folder)
    # The dumped config names the class, which is found in the current folder.
    dumped = work_dir / f'{work_dir.name}.py'
    commands.succeed('test', dumped, checkpoint, *second, folder=folder)
    tested = [read_results(folder / name)[0]['metrics'] for name in ('tested', 'dumped')]
    assert tested == [read_results(work_dir)[-1]['metrics']] * 2


@pytest.mark.parametrize('trial', ['mask_rcnn'], indirect=True)
class TestWeights:
    def train(self, commands, folder, arguments, network, pretrained):
        # A different seed from the training, whose weights would be the same.
        torch.manual_seed(3)
        torch.save(pretrained().state_dict(), folder / 'weights.pth')
        page = PAGES['mask_rcnn']
        options = ['--backbone', f'my_net:{network}', '--pretrained', 'weights.pth', *arguments]
        return commands('train', page, *options, folder=folder)

    def test_own_initialization_does_not_replace_them(self, commands, folder, arguments):
        outcome = self.train(commands, folder, arguments, 'Reinitialized', networks.Pyramid)
        assert outcome.status == 0, outcome.stderr[-2000:]
        (file,) = (folder / 'work_dirs/demo_mask_rcnn_my_net.Reinitialized').glob('epoch_2.pth')
        trained = torch.load(file, weights_only=False)['state_dict']
        # It would have set all weights to zero, which no gradient passes.
        assert trained['backbone.downs.0.weight'].abs().max() > 0.01

    def test_weights_of_another_network(self, commands, refused, folder, arguments):
        outcome = self.train(commands, folder, arguments, 'Pyramid', networks.Logits)
        refused(
            'Checkpoints',
            '`--backbone package.module:Class` with weights of another network',
            outcome,
            'only 0.0% of the parameters fit Pyramid',
        )
        assert not (folder / 'work_dirs').exists()

    def test_module_that_ignores_its_weights(self, commands, refused, folder, arguments):
        outcome = self.train(commands, folder, arguments, 'Forgetful', networks.Pyramid)
        refused(
            'Checkpoints',
            '`--backbone package.module:Class` whose `load_state_dict` does nothing',
            outcome,
            'Forgetful.load_state_dict did not set stem.0.weight',
        )


class TestBadInput:
    @pytest.mark.parametrize(
        ('given', 'name', 'message'),
        [
            ('an unknown scale', 'dcn_tinny', 'did you mean dcn_tiny?'),
            ('an unknown network of timm', 'timm:resnet5', 'timm has no model resnet5; did you mean'),
            ('a module that does not exist', 'my_nets:Net', 'no module my_nets'),
            ('a class that does not exist', 'my_net:Pyramids', 'did you mean Pyramid?'),
            ('a function', 'my_net:make_pyramid', 'make_pyramid is not a class'),
            ('options that are no literals', 'my_net:Pyramid(width=x)', 'its options cannot be read'),
            ('a missing argument', 'my_net:NeedsWidth', 'my_net.NeedsWidth needs width'),
            ('a misspelled argument', 'my_net:Pyramid(widthh=3)', 'did you mean width?'),
            ('a network that returns one map', 'my_net:OneMap', 'one map of shape [1, 32, 6, 10]'),
            ('a network with wrong strides', 'my_net:WrongStrides', 'strides 8, 16, 32, 64'),
            ('a network with the channels last', 'my_net:ChannelsLast', 'channels last'),
        ],
    )
    def test_backbone(self, commands, refused, folder, given, name, message):
        page = PAGES['mask_rcnn']
        outcome = commands('train', page, '--backbone', name, folder=folder)
        refused(KIND, f'`--backbone` with {given}', outcome, message)
        assert not (folder / 'work_dirs').exists()

    def test_recipe_without_a_backbone(self, commands, refused, tmp_path):
        page = ROOT / 'configs/_base_/mask_rcnn_coco_1x.py'
        outcome = commands('train', page, folder=tmp_path)
        refused(
            KIND, 'a recipe without `--backbone`', outcome, 'has no model.backbone', '--backbone NAME'
        )

    def test_sweep_with_an_unknown_name(self, commands, refused, folder):
        names = ['--backbones', 'my_net:Pyramid', 'dcn_tinny']
        outcome = commands('sweep', PAGES['upernet'], *names, folder=folder)
        refused('Sweeps', '`--backbones` with an unknown scale', outcome, 'did you mean dcn_tiny?')
        assert not (folder / 'work_dirs').exists()

    def test_sweep_with_two_leaves_of_a_recipe(self, commands, refused, folder):
        leaves = [ROOT / f'configs/demo/upernet_{mixer}_micro.py' for mixer in ('dcn', 'swin')]
        outcome = commands('sweep', *leaves, '--backbones', 'my_net:Pyramid', folder=folder)
        message = 'are both named upernet_my_net.Pyramid and would share a work dir'
        refused('Sweeps', '`--backbones` with two leaves of one recipe', outcome, message)

    def test_config_after_the_names(self, commands, refused, folder):
        outcome = commands('benchmark', 'a.py', '--backbone', 'dcn_tiny', 'b.py', folder=folder)
        message = 'b.py is a config; give the configs first'
        refused('Tables and other commands', 'a config after `--backbone`', outcome, message)


@pytest.mark.parametrize('trial', ['upernet'], indirect=True)
def test_sweep_of_several_backbones(commands, trial, arguments, folder):
    command = [
        PAGES['upernet'], '--backbones', 'my_net:Pyramid', NAME, *arguments, '--parallel', 1
    ]  # fmt: skip
    commands.succeed('sweep', *command, folder=folder)
    names = {'demo_upernet_my_net.Pyramid', f'demo_upernet_{FILE_NAME}'}
    root = folder / 'work_dirs/sweep'
    assert {path.name for path in root.iterdir() if not path.name.startswith('.')} == names
    assert {r['config']['name'] for r in read_results(root)} == names
    again = commands.succeed('sweep', *command, folder=folder).stdout
    assert [line.split()[0] for line in again.splitlines()[:2]] == ['finished'] * 2


class TestCost:
    def test_each_config_with_each_backbone(self, commands, folder):
        names = ['--backbone', 'my_net:Pyramid', 'convnext_micro', '--json', 'cost.json']
        pages = [*PAGES.values(), '--shape', 64, 64]
        commands.succeed('complexity', *pages, *names, folder=folder)
        found = json.loads((folder / 'cost.json').read_text())
        leaf = ROOT / 'configs/demo/upernet_convnext_micro.py'
        commands.succeed('complexity', leaf, *pages[-3:], '--json', 'leaf.json', folder=folder)
        (expected,) = json.loads((folder / 'leaf.json').read_text()).values()
        names = ('my_net.Pyramid', 'convnext_micro')
        stems = [f'{page.stem}_{name}' for page in PAGES.values() for name in names]
        assert [key.rpartition('/')[2] for key in found] == [f'{stem}.py' for stem in stems]
        assert next(cost for key, cost in found.items() if 'upernet_conv' in key) == expected

    def test_benchmark_of_backbones(self, commands, folder):
        options = ['--alone', '--shape', 64, 64, '--repeats', 1, '--matrix-side', 64, '--json', 't.json']
        names = ['--backbone', 'my_net:Pyramid', 'convnext_micro']
        commands.succeed('benchmark', PAGES['mask_rcnn'], *options, *names, folder=folder)
        text = (folder / 't.json').read_text()
        assert 'demo_mask_rcnn_my_net.Pyramid' in text
        assert 'demo_mask_rcnn_convnext_micro' in text
