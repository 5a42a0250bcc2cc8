"""Names of checkpoints in another form than mmengine's."""

from fnmatch import fnmatch
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from evaluation.config.run_settings import (
    any_checkpoint,
    check_checkpoint_names,
    checkpoint_of_step,
    final_checkpoint,
)
from evaluation.engine.hooks.checkpoint import SafeCheckpointHook
from evaluation.utils.errors import UserError

pytestmark = pytest.mark.habits


def config(template, **length):
    checkpoint = {} if template is None else {'filename_tmpl': template}
    return Config(
        {'default_hooks': {'checkpoint': checkpoint}, 'train_cfg': length or {'max_epochs': 7}}
    )


@pytest.mark.parametrize(
    ('template', 'name'),
    [
        (None, 'epoch_7.pth'),
        ('epoch_{}.pth', 'epoch_7.pth'),
        ('swin_{:04d}.pth', 'swin_0007.pth'),
        ('step-{0}.pth', 'step-7.pth'),
    ],
)
def test_names_with_their_number(template, name, tmp_path):
    cfg = config(template)
    check_checkpoint_names(cfg)
    assert final_checkpoint(cfg) == name
    hook = SafeCheckpointHook(filename_tmpl=template)
    assert checkpoint_of_step(SimpleNamespace(hooks=[hook], epoch=7), by_epoch=True) == name
    assert fnmatch(name, any_checkpoint(hook.filename_tmpl))
    # What a killed training left is found under this name, too.
    hook.out_dir = str(tmp_path)
    (tmp_path / f'{name}.tmp').write_text('')
    hook._remove_unfinished()
    assert not list(tmp_path.iterdir())


def test_iterations():
    assert final_checkpoint(config(None, max_iters=9)) == 'iter_9.pth'
    assert checkpoint_of_step(SimpleNamespace(hooks=[], iter=9), by_epoch=False) == 'iter_9.pth'


@pytest.mark.parametrize(
    'template',
    ['last.pth', '{epoch}.pth', '{}_{}.pth', 'epoch_{', '{}', 'epoch_{:s}.pth', 'a/{}.pth', 7],
)
def test_names_that_no_training_can_be_resumed_by(template):
    with pytest.raises(UserError) as caught:
        check_checkpoint_names(config(template))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(
        f'default_hooks.checkpoint.filename_tmpl={template!r}: give a name that ends in'
    )
