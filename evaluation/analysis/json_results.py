"""The JSON files of all analyses: how they are recognised, and how their models are called."""

import json
from collections.abc import Mapping
from pathlib import Path

from evaluation.utils.errors import UserError
from evaluation.utils.files import read_text


def read_result(file: Path, analysis: str, topic: str, schema_version: int, tool: str) -> dict:
    """Read the result of an analysis.

    Args:
        file: to read.
        analysis: what the file says that it is of.
        topic: the same in messages.
        schema_version: that is known.
        tool: what writes such files, in messages.

    Raises:
        UserError: the file is missing, or is something else.
    """
    advice = f'give JSON files that {tool} wrote'
    try:
        content = json.loads(read_text(file))
    except FileNotFoundError:
        raise UserError(f'{file} is not there; {advice}') from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{file} is not JSON, or not whole; {advice}') from error
    if not isinstance(content, Mapping) or content.get('analysis') != analysis:
        raise UserError(f'{file} is no analysis of {topic}; {advice}')
    if content.get('schema_version') != schema_version:
        raise UserError(
            f'{file} was written by another version of the suite; repeat the analysis with this one'
        )
    return content


def model_name(content: Mapping) -> str:
    """Name of a config and of its checkpoint: `upernet_swin_tiny (iter_160000)`.

    Args:
        content: of a result, with `config` and `checkpoint`.
    """
    file = content['checkpoint']['file']
    return f'{content["config"]["name"]} ({Path(file).stem if file else "before training"})'
