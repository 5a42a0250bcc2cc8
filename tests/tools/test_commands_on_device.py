"""Commands on a device other than the CPU: same results, no mixed devices, few waits.

The device is pretended (`tests/pretended_device.py`): an operation on tensors of two devices fails, and
every wait of the CPU for the device is recorded.
"""

import json
import re

import pytest

from tests.commands import ROOT, read_results

PAGE = ROOT / 'docs/performance.md'
SUITE = ('backbones/', 'evaluation/')
# The only file that waits in each step without need: mmengine's log has read the loss just before.
FREE = 'evaluation/engine/hooks/training.py'
TASKS = {'mask_rcnn': 'Mask R-CNN', 'upernet': 'UperNet'}
ANALYSES = {
    'erf': ['--size', 64, '--limit', 2, '--targets', 'stage3', 'stage4'],
    'invariance': ['--limit', 2, '--steps', 2, '--transforms', 'translation'],
    'robustness': ['--limit', 2, '--budgets', 2, '--corruptions', 'fog'],
}


@pytest.fixture(scope='module')
def trained(on_device, trials, tmp_path_factory):
    """Train on the device; return the folder and the transfers by task."""
    found = {}
    for task, trial in trials.items():
        folder = tmp_path_factory.mktemp(f'{task}_on_device')
        found[task] = folder, on_device('train', trial.config, *trial.arguments(), folder=folder)
    return found


def losses(folder):
    (file,) = folder.rglob('scalars.json')
    lines = map(json.loads, file.read_text().splitlines())
    return [line['loss'] for line in lines if 'loss' in line]


def plain_steps(trained):
    """Return the transfers of the steps that do not follow an evaluation."""
    _, transfers = trained
    second, third, fourth = transfers['steps']
    assert len(third) > len(second)
    return second, fourth


def waits(step):
    """Return the number of waits in a step by file."""
    found = {}
    for entry in step:
        if entry['waits']:
            found[entry['file']] = found.get(entry['file'], 0) + entry['count']
    return found


def documented(task):
    """Return the files of the table of waits whose cell for the task has a number."""
    lines = PAGE.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith('| Waits in'))
    column = [cell.strip() for cell in lines[start].split('|')].index(TASKS[task])
    found = set()
    for line in lines[start + 2 :]:
        if not line.startswith('|'):
            return found
        cells = [cell.strip() for cell in line.split('|')]
        if cells[column]:
            assert cells[-2], f'{cells[1]} has no reason'
            found.add(re.fullmatch('`(.+)`', cells[1])[1])
    raise AssertionError('the table does not end')


class TestTraining:
    def test_equals_the_cpu(self, trial, trained, work_dir_of):
        folder, _ = trained[trial.task]
        there, here = losses(folder), losses(work_dir_of(trial.task))
        assert len(there) == 4
        assert there == pytest.approx(here, rel=1e-3)
        for first, second in zip(
            read_results(folder), read_results(work_dir_of(trial.task)), strict=True
        ):
            assert first['metrics'] == pytest.approx(second['metrics'], abs=0.5)

    def test_waits_are_those_of_the_docs(self, trial, trained):
        found = {file for step in plain_steps(trained[trial.task]) for file in waits(step)}
        assert found == documented(trial.task)

    def test_the_suite_waits_only_where_it_must(self, trial, trained):
        """A box filter returns as many boxes as it keeps; a loss is checked after it is logged."""
        for step in plain_steps(trained[trial.task]):
            own = {file: n for file, n in waits(step).items() if file.startswith(SUITE)}
            assert own.pop(FREE) == 1
            images = 4
            assert own == ({'backbones/mmcv_ops.py': images} if trial.task == 'mask_rcnn' else {})


@pytest.mark.parametrize('kind', ANALYSES)
def test_analyses_equal_the_cpu(trial, kind, on_device, commands, checkpoint, tmp_path):
    arguments = [trial.config, checkpoint, *ANALYSES[kind]]
    if kind == 'erf':
        images = next(path for path in trial.data_root.rglob('val*') if any(path.glob('*.jpg')))
        arguments += ['--images', images, *trial.arguments()[2:]]
    else:
        arguments += trial.arguments()
    found = []
    for device in (on_device, commands.succeed):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        device(f'analyze_{kind}', *arguments, '--output', 'found.json', folder=folder)
        found.append(json.loads((folder / 'found.json').read_text()))
    there, here = (list(figures(content)) for content in found)
    assert len(there) > 5
    assert [name for name, _ in there] == [name for name, _ in here]
    assert [value for _, value in there] == pytest.approx([value for _, value in here], abs=0.05)


def figures(content, place=''):
    """Yield the fractions of a result with their places."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from figures(value, f'{place}.{key}')
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from figures(value, f'{place}.{number}')
    elif isinstance(content, float):
        yield place, content


def test_predictions_equal_the_cpu(trial, on_device, commands, checkpoint, tmp_path):
    """Test with test-time augmentation, and predictions of all images in a file."""
    found = []
    for device in (on_device, commands.succeed):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        options = ['--tta', '--out', 'out.pkl']
        device('test', trial.config, checkpoint, *options, *trial.arguments(), folder=folder)
        (result,) = read_results(folder)
        assert (folder / 'out.pkl').stat().st_size > 1000
        found.append(result['metrics'])
    assert found[0] == pytest.approx(found[1], abs=0.5)
