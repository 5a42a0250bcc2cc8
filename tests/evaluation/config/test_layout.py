"""The layout of a config is remembered, and stays the one of mmengine."""

from mmengine.config import Config
from yapf.yapflib import yapf_api

from evaluation.config.text import remember_layout


def test_text_is_the_same_and_follows_changes(monkeypatch):
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
