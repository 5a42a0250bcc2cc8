"""`tools/test.py --format-only`: test sets with and without ground truth."""

import json
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

pytestmark = pytest.mark.habits

KIND = 'Data'


@pytest.fixture
def root(trial, tmp_path):
    """A copy of the data set without annotations."""
    root = shutil.copytree(trial.data_root, tmp_path / 'data')
    if trial.task == 'mask_rcnn':
        file = root / 'annotations/instances_val2017.json'
        content = json.loads(file.read_text())
        del content['annotations']
        file.write_text(json.dumps(content))
    else:
        shutil.rmtree(root / 'annotations/validation')
    return root


def arguments(trial, root):
    """Return the trial's options with a different data root."""
    given = trial.arguments()
    given[given.index('--data-root') + 1] = root
    return given


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_writes_files_for_the_test_server(trial, root, checkpoint, commands, tmp_path):
    common = [trial.config, checkpoint]
    commands.succeed('test', *common, '--format-only', 'blind', *arguments(trial, root), folder=tmp_path)
    commands.succeed(
        'test', *common, '--format-only', 'seen', '--out', 'out.pkl', *trial.arguments(), folder=tmp_path
    )
    assert not [*tmp_path.rglob('result.json')]
    blind = files(tmp_path / 'blind')
    assert blind == files(tmp_path / 'seen')
    samples = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    if trial.task == 'upernet':
        assert sorted(blind) == sorted(f'{p.stem}.png' for p in (root / 'images/validation').iterdir())
        for sample in samples:
            name = sample['img_path'].rpartition('/')[2].replace('.jpg', '.png')
            own = np.asarray(Image.open(tmp_path / 'blind' / name))
            # Classes in the files are counted from 1.
            assert np.array_equal(own, sample['pred_sem_seg']['data'][0].numpy() + 1)
        return
    assert sorted(blind) == ['results.bbox.json', 'results.segm.json']
    content = json.loads((root / 'annotations/instances_val2017.json').read_text())
    ids = [category['id'] for category in content['categories']]
    expected = [
        (sample['img_id'], ids[label], score, mask)
        for sample in samples
        for label, score, mask in zip(
            sample['pred_instances']['labels'].tolist(),
            sample['pred_instances']['scores'].tolist(),
            sample['pred_instances']['masks'],
            strict=True,
        )
    ]
    found = json.loads(blind['results.segm.json'])
    assert [(e['image_id'], e['category_id'], e['score']) for e in found] == [e[:3] for e in expected]
    assert np.array_equal(coco_mask.decode(found[0]['segmentation']), coco_mask.decode(expected[0][3]))
    boxes = json.loads(blind['results.bbox.json'])
    corners = samples[0]['pred_instances']['bboxes'][0].double()
    assert boxes[0]['bbox'] == [*corners[:2].tolist(), *(corners[2:] - corners[:2]).tolist()]


def test_missing_truth_is_refused_without_the_option(trial, root, checkpoint, test, refused):
    outcome = test(trial.config, checkpoint, *arguments(trial, root))
    given = 'a test set without ground truth'
    if trial.task == 'mask_rcnn':
        refused(KIND, given, outcome, 'has no annotations', '--format-only DIR')
    else:
        refused(KIND, f'{given} maps', outcome, 'is missing', '--format-only DIR')
