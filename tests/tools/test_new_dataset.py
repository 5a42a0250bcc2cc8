"""`tools/new_dataset.py`: from a folder to trainings, a sweep and a report; bad input."""

import re

import pytest

from tests.commands import option_list, read_results
from tests.own_data import coco_folder, edit_json, mask_folder, pages_in, voc_folder

KIND = 'Data'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
IN_PROCESS = {
    f'{loader}.{key}': value
    for loader in LOADERS
    for key, value in (('num_workers', 0), ('persistent_workers', False))
}
OBJECTS = {
    'train_cfg.max_epochs': 1,
    'model.roi_head.bbox_head.fc_out_channels': 32,
    'model.roi_head.mask_head.num_convs': 1,
    'model.train_cfg.rpn_proposal.max_per_img': 50,
    'model.test_cfg.rpn.max_per_img': 50,
}
MASKS = {
    'train_cfg.max_iters': 2,
    'train_dataloader.dataset.pipeline.2.scale': (64, 64),
    'train_dataloader.dataset.pipeline.3.crop_size': (64, 64),
}
# Writer of the set, overrides that make a training short, and a metric of it.
SETS = {'boxes': (voc_folder, OBJECTS, 'box_AP'), 'maps': (mask_folder, MASKS, 'mIoU')}


@pytest.fixture
def pages(tmp_path):
    return pages_in(tmp_path)


def short(trial, options):
    """Return the options of a training of a few steps."""
    return {**trial.options, **IN_PROCESS, **options}


@pytest.mark.parametrize('kind', SETS)
def test_recipe_trains(commands, trials, scenes, pages, tmp_path, kind):
    write, overrides, metric = SETS[kind]
    write(tmp_path / 'fruit', scenes)
    text = commands.succeed('new_dataset', 'fruit', '--pages', pages, folder=tmp_path).stdout
    page = re.search(r'tools/train.py (\S+) --backbone', text)[1]
    options = short(trials['upernet' if kind == 'maps' else 'mask_rcnn'], overrides)
    kept = {key: value for key, value in options.items() if 'mask_head' not in key}
    commands.succeed('train', page, '--backbone', 'swin_micro', *option_list(kept), folder=tmp_path)
    (result,) = read_results(tmp_path / 'work_dirs/fruit_swin_micro')
    assert (result['recipe']['name'], result['dataset']) == ('fruit', 'fruit val')
    assert metric in result['metrics']
    assert 'mask_AP' not in result['metrics']


def test_two_backbones_to_the_report(commands, trials, scenes, pages, tmp_path):
    """The plan of a sweep on three images of one class, its trainings, table, comparison, report."""
    coco_folder(tmp_path / 'fruit', scenes, one_class=True, count=3, rle=True, unicode=True)
    commands.succeed('new_dataset', 'fruit', '--pages', pages, folder=tmp_path)
    page, backbones = pages / 'fruit.py', ['swin_micro', 'convnext_micro']
    options = short(trials['mask_rcnn'], OBJECTS)
    kept = option_list({key: value for key, value in options.items() if 'num_heads' not in key})
    plan = commands.succeed(
        'sweep', page, '--dry-run', '--backbones', *backbones, *kept, folder=tmp_path
    )
    assert all(f'fruit_{name}' in plan.stdout for name in backbones)
    for name in backbones:
        commands.succeed('train', page, '--backbone', name, *kept, folder=tmp_path)
    runs = [f'work_dirs/fruit_{name}' for name in backbones]
    table = commands.succeed('table', *runs, folder=tmp_path).stdout
    assert '### Mask R-CNN on fruit val' in table
    assert all(name in table for name in backbones)
    assert 'box AP' in commands.succeed('compare', *runs, '--resamples', 200, folder=tmp_path).stdout
    commands.succeed('report', *runs, '--output', 'report.html', folder=tmp_path)
    assert 'Mask R-CNN on fruit val' in (tmp_path / 'report.html').read_text()


def no_images(root):
    for image in (root / 'photos').iterdir():
        image.unlink()


def no_annotations(root):
    (root / 'export.json').unlink()


BAD = {
    'a folder that does not exist': (None, ['nowhere'], 'nowhere is not a folder'),
    'a folder without images': (no_images, ['fruit'], 'fruit has no images'),
    'a folder without annotations': (no_annotations, ['fruit'], 'has images but no annotations'),
    'a format that the folder does not have': (
        None,
        ['fruit', '--format', 'voc'],
        'no annotations of the format voc, but of coco; give --format coco',
    ),
    'masks and a COCO file': (
        lambda root: (root / 'photos/shot-1.jpg').rename(
            (root / 'masks').mkdir() or root / 'masks/a.jpg'
        ),
        ['fruit'],
        'several formats: coco (export.json), masks (masks/a.jpg); choose one with --format',
    ),
    'a missing image': (
        lambda root: (root / 'photos/shot-1.jpg').unlink(),
        ['fruit'],
        '1 of the 3 images of fruit/export.json are missing',
    ),
    'one image': (
        lambda root: edit_json(
            root / 'export.json',
            lambda c: c.update(
                images=c['images'][:1],
                annotations=[a for a in c['annotations'] if a['image_id'] == c['images'][0]['id']],
            ),
        ),
        ['fruit'],
        'has 1 images, 1 with annotations; give at least two',
    ),
    'two images with one id': (
        lambda root: edit_json(root / 'export.json', lambda c: c['images'].append(c['images'][0])),
        ['fruit'],
        '2 entries have the id 13',
    ),
    'no categories': (
        lambda root: edit_json(root / 'export.json', lambda c: c.update(categories=[])),
        ['fruit'],
        'list of categories is empty',
    ),
    'a `--name` that a page cannot have': (
        None,
        ['fruit', '--name', 'My fruit'],
        "'My fruit' cannot be the name of a recipe page",
    ),
    'the `--name` of a recipe of the suite': (
        None,
        ['fruit', '--name', 'runtime', '--force'],
        'runtime.py exists and was not written for a data set',
    ),
    '`--val-share` of all images': (
        None,
        ['fruit', '--val-share', '1'],
        "'1' is not a number between 0 and 1",
    ),
    '`--ignore` of a value that masks cannot have': (
        None,
        ['fruit', '--ignore', '256'],
        "'256' is not a whole number from 0 to 255",
    ),
}


@pytest.mark.parametrize('given', BAD)
def test_bad_input(commands, scenes, pages, tmp_path, refused, given):
    damage, arguments, message = BAD[given]
    coco_folder(tmp_path / 'fruit', scenes, count=3)
    if damage:
        damage(tmp_path / 'fruit')
    before = {path: path.stat().st_mtime for path in tmp_path.rglob('*')}
    outcome = commands('new_dataset', *arguments, '--pages', pages, folder=tmp_path)
    refused(KIND, f'new_dataset: {given}', outcome, message)
    assert {path: path.stat().st_mtime for path in tmp_path.rglob('*')} == before


def test_existing_page_is_kept(commands, scenes, pages, tmp_path, refused):
    coco_folder(tmp_path / 'fruit', scenes, count=3)
    commands.succeed('new_dataset', 'fruit', '--pages', pages, folder=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    outcome = commands('new_dataset', 'fruit', '--seed', 1, '--pages', pages, folder=tmp_path)
    refused(KIND, 'new_dataset: a page of this name exists', outcome, 'fruit.py exists;', '--force')
    assert {path: path.read_bytes() for path in before} == before
