"""Lay out the text of a config once, although many ask for it."""

import functools


def remember_layout() -> None:
    """Have yapf keep its last results.

    mmengine has it lay out the config for each log, result and checkpoint, 0.1 to 0.5 s each time.
    """
    from yapf.yapflib import yapf_api

    original = yapf_api.FormatCode
    if hasattr(original, 'known'):
        return

    @functools.lru_cache(maxsize=4)
    def lay_out(text: str, style: tuple[tuple[str, object], ...]) -> tuple[str, bool]:
        return original(text, style_config=dict(style))

    def remembered(text: str, style_config: dict[str, object]) -> tuple[str, bool]:
        return lay_out(text, tuple(style_config.items()))

    remembered.known = lay_out
    yapf_api.FormatCode = remembered
