"""`tools/convert_checkpoint.py`: extract a backbone, with both kinds of names and files."""

import pytest
import torch
from mmengine.registry import MODELS
from safetensors.torch import load_file

import backbones  # noqa: F401
from tests.hostile import write_hostile
from tests.released import (
    classifier_shapes,
    dense_shapes,
    detector_file,
    filled,
    imagenet_file,
    mask_rcnn_shapes,
)
from tests.variants import VARIANTS

MICRO = [f'{mixer}_micro' for mixer in ('halo', 'pvt', 'swin', 'convnext', 'dcn')]
KIND = 'Tables and other commands'


@pytest.fixture
def convert(commands, tmp_path):
    return lambda *arguments: commands('convert_checkpoint', *arguments, folder=tmp_path)


@pytest.fixture
def imagenet(tmp_path):
    """Write a released ImageNet checkpoint of a variant."""

    def write(variant):
        file = tmp_path / 'imagenet.pth'
        torch.save(imagenet_file(filled(classifier_shapes(variant))), file)
        return file

    return write


@pytest.mark.parametrize('variant', MICRO)
def test_released_names_survive_a_round_trip(convert, imagenet, tmp_path, variant):
    """Convert to the suite's names and shapes, and back."""
    source = imagenet(variant)
    assert convert(source, 'own.pth').status == 0
    outcome = convert('own.pth', 'released.safetensors', '--names', 'released')
    assert outcome.status == 0
    given = filled(classifier_shapes(variant))
    derived = ('relative_position_index', 'attn_mask')
    expected = {n: v for n, v in given.items() if not n.startswith(('conv_head.', 'head.', *derived))}
    expected = {n: v for n, v in expected.items() if not n.endswith(derived)}
    found = load_file(tmp_path / 'released.safetensors')
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize('variant', MICRO)
def test_a_detector_gives_its_backbone(convert, tmp_path, variant):
    weights = filled(mask_rcnn_shapes(variant, channels=8, hidden=8))
    torch.save(detector_file(weights), tmp_path / 'detector.pth')
    outcome = convert('detector.pth', 'backbone.pth', '--names', 'released')
    assert outcome.status == 0, outcome.stderr
    found = torch.load(tmp_path / 'backbone.pth', weights_only=True)
    assert list(found) == ['model']
    expected = {n for n in dense_shapes(variant) if not n.endswith(('attn_mask', 'position_index'))}
    assert found['model'].keys() == expected
    assert all(torch.equal(v, weights[f'backbone.{n}']) for n, v in found['model'].items())
    for line in (
        'meta: not part of the weights',
        'optimizer: not part of the weights',
        'neck: 16 tensors',
    ):
        assert line in outcome.stdout
    assert 'roi_head: 20 tensors' in outcome.stdout


def test_parts_omitted_from_an_imagenet_checkpoint_are_reported(convert, imagenet, tmp_path):
    outcome = convert(imagenet('swin_micro'), 'backbone.safetensors')
    for line in ('optimizer: not', 'args: not', 'epoch: not', 'conv_head: 6 tensors', 'head: 2 tensors'):
        assert line in outcome.stdout
    assert 'attn_mask' in outcome.stdout
    assert '(100.0%' in outcome.stdout


def test_written_file_works_as_pretrained_weights(convert, imagenet, tmp_path):
    given = filled(classifier_shapes('dcn_micro'))
    convert(imagenet('dcn_micro'), 'own.safetensors')
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'own.safetensors')}
    model = MODELS.build({**VARIANTS['dcn_micro'], 'init_cfg': init_cfg})
    model.init_weights()
    assert torch.equal(model.stem.conv1.weight, given['downsample_layers.0.stem.0.weight'])
    assert torch.equal(model.stages[2][3].layer_scale1.gamma, given['stages.2.3.gamma1'].flatten())


class TestRefused:
    def test_unknown_scale(self, convert, work_dir_of, tmp_path, refused, nothing_written):
        outcome = convert(work_dir_of('upernet') / 'iter_4.pth', 'a.pth')
        given = 'convert_checkpoint: a checkpoint of an unknown scale'
        refused(
            KIND, given, outcome, 'matches no published mixer and scale; give its config with --config'
        )
        assert nothing_written()

    def test_code(self, convert, tmp_path, refused):
        write_hostile(tmp_path / 'hostile.pth', {}, tmp_path / 'proof', zipped=True)
        outcome = convert('hostile.pth', 'a.pth')
        given = 'convert_checkpoint: a checkpoint whose pickle would run a command'
        refused(KIND, given, outcome, 'tries to run posix.mkdir')
        assert not (tmp_path / 'proof').exists()
        assert not (tmp_path / 'a.pth').exists()

    @pytest.mark.parametrize(
        ('target', 'message'),
        [
            ('a.json', 'must end in .pth or .safetensors'),
            ('nowhere/a.pth', 'does not exist; create it'),
            ('there.pth', 'already exists; give another name, or use --overwrite'),
        ],
    )
    def test_target(self, convert, tmp_path, refused, target, message):
        (tmp_path / 'there.pth').write_text('kept')
        outcome = convert('source.pth', target)
        refused(KIND, f'convert_checkpoint: output file {target}', outcome, target, message)
        assert (tmp_path / 'there.pth').read_text() == 'kept'
