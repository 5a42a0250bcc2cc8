import pytest
from mmengine.config import Config

from evaluation.config.text import check_received
from evaluation.engine.experiment import read_config
from evaluation.utils.errors import UserError
from tests.variants import ROOT

LEAVES = sorted((ROOT / 'configs').glob('*.py')) + sorted((ROOT / 'configs/demo').glob('*.py'))
BUILT = ('model', 'test_dataloader')


def received(model=None, dataset=None, scope='mmdet', imports=('backbones',)):
    return Config(
        {
            'model': model or {'type': 'MaskRCNN'},
            'test_dataloader': {'dataset': dataset or {'type': 'CocoDataset'}},
            'default_scope': scope,
            'custom_imports': {'imports': list(imports)},
        }
    )


@pytest.mark.parametrize('leaf', LEAVES, ids=lambda leaf: leaf.stem)
def test_all_configs_of_the_suite_may_come(leaf):
    check_received(read_config(str(leaf)), BUILT)


def test_a_registered_class_may_have_its_scope():
    check_received(received({'type': 'mmengine.BaseDataPreprocessor', '_scope_': 'mmdet'}), BUILT)


@pytest.mark.parametrize(
    ('config', 'named'),
    [
        (received({'type': 'subprocess.Popen', 'args': ['touch', 'ran']}), 'type subprocess.Popen'),
        (received({'type': 'os.system', 'command': 'touch ran'}), 'type os.system'),
        (received({'type': 'mmengine.utils.os.system'}), 'type mmengine.utils.os.system'),
        (received({'type': 'antigravity'}), 'type antigravity'),
        (received({'type': 'mmengine.dump', 'obj': 1, 'file': 'ran.json'}), 'type mmengine.dump'),
        (received({'type': ''}), 'type '),
        (received({'type': 'A', 'neck': [{'b': {'type': 'os.abort'}}]}), 'type os.abort'),
        (received({'type': 'A', '_scope_': 'subprocess'}), '_scope_ subprocess'),
        (received({'type': {'type': 'os.abort'}}), 'type '),
        (received(dataset={'type': 'A', 'pipeline': ({'type': 'os.abort'},)}), 'type os.abort'),
        (received(scope='antigravity'), 'default_scope antigravity'),
        (received(imports=['backbones', 'antigravity']), 'imports antigravity'),
        (received(imports=['.antigravity']), 'imports .antigravity'),
        (received(imports=[7]), 'imports 7'),
    ],
)
def test_what_would_run_something_else_is_refused(config, named):
    with pytest.raises(UserError, match='a result is data, and has nothing else') as caught:
        check_received(config, BUILT)
    assert named in str(caught.value)
