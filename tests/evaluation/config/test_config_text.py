"""The text of configs in logs, checkpoints and results."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from yapf.yapflib import yapf_api

from evaluation.config.config_files import read_config
from evaluation.config.config_text import check_received, read_literals, remember_layout
from evaluation.utils.errors import UserError
from tests.commands import ROOT

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
def test_all_configs_of_the_suite_are_allowed(leaf):
    check_received(read_config(str(leaf)), BUILT)


def test_registered_class_with_its_scope():
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
def test_foreign_code_is_refused(config, named):
    with pytest.raises(UserError, match='configs stored in results must not import') as caught:
        check_received(config, BUILT)
    assert named in str(caught.value)


def test_cached_text_is_the_same_and_follows_changes(monkeypatch):
    config = Config(
        {'model': {'depths': [3, 3, 27, 3], 'type': 'Backbone', 'window_size': 7}, 'a': 'b' * 99}
    )
    expected = config.pretty_text
    monkeypatch.setattr(yapf_api, 'FormatCode', yapf_api.FormatCode)
    remember_layout()
    remember_layout()
    assert [config.pretty_text for _ in range(3)] == [expected] * 3
    assert yapf_api.FormatCode.known.cache_info().misses == 1
    config.model.window_size = 9
    assert config.pretty_text == expected.replace('window_size=7', 'window_size=9')


SETTINGS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('abc \'"\\_', max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text('abcd', min_size=1, max_size=4), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


class TestText:
    @given(st.dictionaries(st.text('efgh', min_size=1, max_size=4), SETTINGS, max_size=3))
    def test_reads_text_that_mmengine_printed(self, settings):
        assert read_literals(Config(settings, format_python_code=False).pretty_text) == settings

    def test_tuples_become_lists(self):
        assert read_literals('a = (1, (2, 3))') == {'a': [1, [2, 3]]}

    def test_nothing_is_executed(self, tmp_path):
        text = f'a = open({str(tmp_path / "touched")!r}, "w")\nb = dict(c=[__import__("os").getpid()])\n'
        content = read_literals(text)
        assert not list(tmp_path.iterdir())
        assert content['b'] == {'c': ["__import__('os').getpid()"]}

    @pytest.mark.parametrize(
        'text',
        ['a = {[1]}', 'a = dict(b={[1]})', 'a = (', 'a = "\0"', 'b = 1\na = {{1}}',
         f'a = {"-" * 5000}1', f'a = 1{"+1" * 5000}', f'a = b{".c" * 5000}',
         'a = ' + 'dict(b=' * 5000 + '1' + ')' * 5000],
        ids=lambda text: text[:20],
    )  # fmt: skip
    def test_invalid_python(self, text):
        assert read_literals(text) == {}
