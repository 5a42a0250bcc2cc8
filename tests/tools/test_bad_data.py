"""Bad data sets: status 2, one error line, nothing written."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest

from tests.commands import option_list, read_results
from tests.faults.image_mutations import png

LAYOUT = {'mask_rcnn': 'COCO', 'upernet': 'ADE20K'}
IMAGES = {
    ('mask_rcnn', 'train'): 'train2017/000000000002.jpg',
    ('mask_rcnn', 'val'): 'val2017/000000000002.jpg',
    ('upernet', 'train'): 'images/training/ADE_train_00000002.jpg',
    ('upernet', 'val'): 'images/validation/ADE_val_00000002.jpg',
}
MAPS = {
    'train': 'annotations/training/ADE_train_00000002.png',
    'test': 'annotations/validation/ADE_val_00000002.png',
}
INSTANCES = 'annotations/instances_train2017.json'


@pytest.fixture
def copy_of(tmp_path):
    """Copy a trial's data set, to be damaged."""

    def copy(trial):
        return shutil.copytree(trial.data_root, tmp_path / 'data')

    return copy


def on(data, trial, **more):
    """Return arguments of a trial with a copy of its data; `more` are overrides, with `__` for a dot."""
    more = {key.replace('__', '.'): value for key, value in more.items()}
    return ['--data-root', data, *option_list({**trial.options, **more})]


def edit(file, change):
    """Apply `change` to the content of a JSON file."""
    content = json.loads(file.read_text())
    file.write_text(json.dumps(change(content)))


LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


class TestLayout:
    def test_missing_root(self, train, trial, tmp_path, refused):
        refused(
            'Data',
            f'a data root that does not exist ({LAYOUT[trial.task]})',
            train(trial.config, '--data-root', 'nowhere'),
            'data root nowhere is not a folder',
        )
        assert not list(tmp_path.iterdir())

    def test_missing_root_of_the_config(self, train, trial, refused):
        refused(
            'Data',
            f'no `--data-root`, and the data root in the config is missing ({LAYOUT[trial.task]})',
            train(trial.config),
            'work_dirs/demo/data/',
            'give a --data-root',
        )

    def test_missing_root_with_data_sets_that_have_their_own(self, train, trial, tmp_path):
        """Their own data root exists, but nothing may be trained or evaluated on it."""
        own = {f'{name}__dataset__data_root': trial.data_root for name in LOADERS}
        outcome = train(trial.config, *on('nowhere', trial, **own))
        assert outcome.status == 2
        assert outcome.stderr.splitlines()[-1].startswith('error: data root nowhere is not a folder;')
        assert not list(tmp_path.iterdir())

    def test_file_outside_the_root(self, test, trials, refused):
        trial = trials['mask_rcnn']
        options = on(trial.data_root, trial, test_dataloader__dataset__ann_file='/labels/val.json')
        refused(
            'Data',
            '`--data-root` with a data set that has a file outside the data root',
            test(trial.config, 'any.pth', *options),
            'test_dataloader.dataset.ann_file is /labels/val.json, outside',
            'omit --data-root',
        )

    def test_empty_root(self, test, trial, tmp_path, refused):
        (tmp_path / 'data').mkdir()
        refused(
            'Data',
            f'an empty data root ({LAYOUT[trial.task]})',
            test(trial.config, 'any.pth', *on(tmp_path / 'data', trial)),
            'is empty; the data root must have',
            {'mask_rcnn': 'val2017', 'upernet': 'images/validation'}[trial.task],
        )

    def test_empty_folder_of_images(self, train, trial, copy_of, refused):
        data = copy_of(trial)
        folder = (data / IMAGES[trial.task, 'train']).parent
        shutil.rmtree(folder)
        folder.mkdir()
        given = f'an empty image folder ({LAYOUT[trial.task]})'
        refused('Data', given, train(trial.config, *on(data, trial)), f'{folder} is empty')

    @pytest.mark.parametrize('split', ['train', 'val'])
    def test_missing_annotations(self, train, trial, copy_of, tmp_path, split, refused):
        missing = {
            'mask_rcnn': f'annotations/instances_{split}2017.json',
            'upernet': f'annotations/{"training" if split == "train" else "validation"}',
        }[trial.task]
        data = copy_of(trial)
        (data / missing).rename(data / 'elsewhere')
        given = f'no {"training" if split == "train" else "validation"} annotations'
        refused(
            'Data',
            f'{given} ({LAYOUT[trial.task]})',
            train(trial.config, *on(data, trial)),
            f'{data / missing} is missing',
        )
        assert not (tmp_path / 'work_dirs').exists()

    def test_testing_needs_no_training_data(self, commands, trials, work_dir_of, tmp_path):
        trial = trials['upernet']
        data = tmp_path / 'data'
        for kind in ('images', 'annotations'):
            shutil.copytree(trial.data_root / kind / 'validation', data / kind / 'validation')
        arguments = ['--work-dir', tmp_path / 'run', *on(data, trial)]
        commands.succeed('test', trial.config, work_dir_of('upernet') / 'iter_4.pth', *arguments)

    def test_evaluator_has_a_different_file(self, test, trials, refused):
        trial = trials['mask_rcnn']
        other = f'{trial.data_root}/{INSTANCES}'
        refused(
            'Data',
            'an evaluator with a different annotation file than its data set',
            test(trial.config, 'any.pth', *on(trial.data_root, trial, test_evaluator__ann_file=other)),
            'test_evaluator.ann_file is',
            'make them equal',
        )


def of_first_annotation(**values):
    """Return a function that changes the first annotation; None removes a key."""

    def change(content):
        first = content['annotations'][0] | values
        content['annotations'][0] = {k: v for k, v in first.items() if v is not None}
        return content

    return change


def of_first_image(**values):
    """Return a function that changes the first image."""

    def change(content):
        content['images'][0].update(values)
        return content

    return change


def rename_categories(new_name):
    def change(content):
        for number, category in enumerate(content['categories']):
            category['name'] = new_name(number, category['name'])
        return content

    return change


class TestCocoFile:
    @pytest.mark.parametrize(
        ('given', 'change', 'messages'),
        [
            (
                'predictions instead of COCO ground truth',
                lambda content: [{'image_id': 1, 'category_id': 1, 'bbox': [0, 0, 9, 9], 'score': 0.9}],
                ('is a list, like a file of predictions', 'give COCO ground truth'),
            ),
            (
                'a JSON file that is not in COCO format',
                lambda content: {'shapes': [], 'imageData': None},
                ('has no images', 'give COCO ground truth'),
            ),
            (
                'a COCO file without annotations',
                lambda content: content | {'annotations': []},
                ('the list of annotations is empty',),
            ),
            (
                'a COCO file with different classes',
                rename_categories(lambda number, name: f'other {number}'),
                ('6 of the 6 classes (disc, square, triangle and 3 more)', '(other 0, other 1, other 2'),
            ),
            (
                'a COCO file with a missing class',
                rename_categories(lambda number, name: 'Star' if name == 'star' else name),
                ('1 of the 6 classes (star), and 1 unknown categories (Star)',),
            ),
            (
                'a COCO file with its categories in a different order',
                lambda content: content | {'categories': content['categories'][::-1]},
                ("category 'cross' twice or in a different order",),
            ),
            (
                'an annotation with an unlisted category',
                of_first_annotation(category_id=99),
                ('the entry with id 1 has category_id 99', 'does not list'),
            ),
            (
                'an annotation for an unlisted image',
                of_first_annotation(image_id=99),
                ('the entry with id 1 has image_id 99', 'does not list'),
            ),
            (
                'a relative file name that points outside the image folder',
                of_first_image(file_name='../../../etc/passwd'),
                ("has the file_name '../../../etc/passwd', which points outside the image folder",),
            ),
            (
                'an absolute file name',
                of_first_image(file_name='/etc/passwd'),
                ("has the file_name '/etc/passwd', which points outside the image folder",),
            ),
            (
                'an image entry with too many pixels',
                of_first_image(height=60_000, width=60_000),
                ('has 60000x60000 pixels, more than the limit of 179 million',),
            ),
            (
                'a mix of numbers and strings as ids',
                of_first_annotation(id='first'),
                ('some ids are numbers and some are strings',),
            ),
            (
                'a run-length code longer than its image',
                of_first_annotation(segmentation={'size': [64, 64], 'counts': [0, 10**12]}),
                ('not a run-length code of 64 rows, 64 columns',),
            ),
            (
                'a polygon too large for memory',
                of_first_annotation(segmentation=[[0, 0, 1e12, 0, 0, 1e12]]),
                ('has a segmentation that is neither polygons nor a run-length code',),
            ),
            (
                'an annotation without a mask',
                of_first_annotation(segmentation=None),
                ('the entry with id 1 has no segmentation',),
            ),
            (
                'an annotation with NaN in its box',
                of_first_annotation(bbox=[0, 0, float('nan'), 5]),
                ('the entry with id 1 has the bbox [0, 0, nan, 5]',),
            ),
        ],
    )
    def test_content(self, train, trials, copy_of, nothing_written, refused, given, change, messages):
        trial = trials['mask_rcnn']
        data = copy_of(trial)
        edit(data / INSTANCES, change)
        outcome = train(trial.config, *on(data, trial))
        refused('Data', given, outcome, INSTANCES.rpartition('/')[2], *messages)
        shutil.rmtree(data)
        assert nothing_written()

    def test_truncated(self, test, trials, copy_of, refused):
        trial = trials['mask_rcnn']
        data = copy_of(trial)
        file = data / 'annotations/instances_val2017.json'
        file.write_text('{"images": [{"id": 1,\n"file_n')
        refused(
            'Data',
            'a truncated annotation file',
            test(trial.config, 'any.pth', *on(data, trial)),
            f'{file} is not valid JSON or is truncated (error at line 2, column 1',
        )


class TestNumberOfClasses:
    @pytest.mark.parametrize(
        ('task', 'head'),
        [
            ('mask_rcnn', 'roi_head.bbox_head'),
            ('mask_rcnn', 'roi_head.mask_head'),
            ('upernet', 'decode_head'),
            ('upernet', 'auxiliary_head'),
        ],
    )
    def test_of_a_head(self, train, trials, refused, task, head):
        trial = trials[task]
        wrong = {f'model.{head}.num_classes': 5}
        refused(
            'Data',
            f'{head}.num_classes different from the number of classes in the data',
            train(trial.config, *on(trial.data_root, trial, **wrong)),
            f'model.{head}.num_classes is 5',
            f'has {6 if task == "mask_rcnn" else 8} classes',
        )

    def test_classes_of_a_different_data_set(self, train, trials, refused):
        trial = trials['upernet']
        wrong = {'train_dataloader.dataset.type': 'ADE20KDataset'}
        refused(
            'Data',
            'ADE20KDataset with custom classes',
            train(trial.config, *on(trial.data_root, trial, **wrong)),
            'ADE20KDataset has no class ground, disc, square',
            'use BaseSegDataset',
        )


def halve(file):
    """Truncate a file to half its length."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


class TestImages:
    def test_missing_of_coco(self, train, trials, copy_of, refused):
        trial = trials['mask_rcnn']
        data = copy_of(trial)
        image = data / IMAGES['mask_rcnn', 'val']
        image.unlink()
        refused(
            'Data',
            'a listed image that is missing from the folder',
            train(trial.config, *on(data, trial)),
            '1 of the 7 images of',
            f'such as {image}; restore it',
        )

    @pytest.mark.parametrize(
        ('given', 'lost'),
        [
            ('an image without a segmentation map', MAPS['train']),
            ('a segmentation map without an image', IMAGES['upernet', 'train']),
        ],
    )
    def test_missing_of_ade20k(self, train, trials, copy_of, refused, given, lost):
        trial = trials['upernet']
        data = copy_of(trial)
        (data / lost).unlink()
        refused('Data', given, train(trial.config, *on(data, trial)), f'such as {data / lost}')

    @pytest.mark.parametrize('workers', [0, 1])
    def test_truncated(self, train, trial, copy_of, tmp_path, refused, workers):
        data = copy_of(trial)
        image = data / IMAGES[trial.task, 'train']
        halve(image)
        outcome = train(trial.config, *on(data, trial, train_dataloader__num_workers=workers))
        given = f'a truncated image, found while training ({LAYOUT[trial.task]})'
        refused('Data', given, outcome, f'error: {image} is truncated', '--skip-bad-images')
        assert not [*tmp_path.rglob('*.pth'), *tmp_path.rglob('result.json')]

    def test_not_an_image(self, test, trial, copy_of, work_dir_of, refused):
        data = copy_of(trial)
        image = data / IMAGES[trial.task, 'val']
        image.write_text('<html>404 Not Found</html>')
        checkpoint = work_dir_of(trial.task) / f'{trial.end}.pth'
        refused(
            'Data',
            f'a file that is not an image, found while testing ({LAYOUT[trial.task]})',
            test(trial.config, checkpoint, *on(data, trial)),
            f'error: {image} cannot be decoded as an image',
        )

    def test_a_pipe(self, train, trials, copy_of, refused):
        """Reading a pipe would never end."""
        trial = trials['mask_rcnn']
        data = copy_of(trial)
        image = data / IMAGES['mask_rcnn', 'train']
        image.unlink()
        os.mkfifo(image)
        outcome = train(trial.config, *on(data, trial))
        refused('Data', 'a pipe instead of an image', outcome, f'error: {image} is not a file')

    def test_a_link_to_itself(self, train, trials, copy_of, refused):
        trial = trials['upernet']
        data = copy_of(trial)
        image = data / IMAGES['upernet', 'train']
        image.unlink()
        image.symlink_to(image.name)
        given = 'a link to itself instead of an image'
        message = f'error: {image} cannot be read (Too many levels of symbolic links)'
        refused('Data', given, train(trial.config, *on(data, trial)), message)

    def test_too_many_pixels(self, train, trials, copy_of, refused):
        trial = trials['mask_rcnn']
        data = copy_of(trial)
        image = data / IMAGES['mask_rcnn', 'train']
        image.write_bytes(png([60_000, 60_000], 8, 2, bytes(100)))
        outcome = train(trial.config, *on(data, trial))
        given = 'an image file that claims to have too many pixels'
        refused('Data', given, outcome, f'error: {image} claims to have more than 179 million pixels')

    def test_flipped_bit(self, train, trials, copy_of, refused):
        trial = trials['upernet']
        data = copy_of(trial)
        map_file = data / MAPS['train']
        content = bytearray(map_file.read_bytes())
        content[-30] ^= 1
        map_file.write_bytes(content)
        given = 'a corrupt segmentation map (one flipped bit)'
        refused('Data', given, train(trial.config, *on(data, trial)), f'error: {map_file} is corrupt')

    def test_pictures_are_drawn_only_in_their_folder(self, test, trials, copy_of, work_dir_of, tmp_path):
        """The file name of an image points outside its folder."""
        trial = trials['mask_rcnn']
        data = copy_of(trial)
        shutil.copy(data / IMAGES['mask_rcnn', 'val'], tmp_path / 'outside.jpg')
        file = data / 'annotations/instances_val2017.json'
        edit(file, of_first_image(file_name='../../outside.jpg'))
        before = sorted(tmp_path.rglob('*'))
        checkpoint = work_dir_of('mask_rcnn') / 'epoch_2.pth'
        outcome = test(trial.config, checkpoint, '--show-dir', 'pictures', *on(data, trial))
        assert outcome.status == 2
        assert 'points outside the image folder' in outcome.stderr
        assert sorted(tmp_path.rglob('*')) == before

    def test_size_does_not_match_the_annotations(self, train, trials, copy_of, refused):
        trial = trials['mask_rcnn']
        data = copy_of(trial)
        image = data / IMAGES['mask_rcnn', 'train']
        cv2.imwrite(str(image), np.zeros((48, 32, 3), np.uint8))
        refused(
            'Data',
            'an image whose size does not match its annotations',
            train(trial.config, *on(data, trial)),
            f'{image} is 32x48 pixels, but its annotations are for 64x64',
        )


class TestSegmentationMaps:
    @pytest.mark.parametrize(
        ('given', 'content', 'message'),
        [
            (
                'whose size does not match its image',
                np.ones((32, 64)),
                'is 64x32 pixels, but its image is 64x64',
            ),
            ('in color', np.ones((64, 64, 3)), 'is a PNG of mode RGB; maps must be'),
            (
                'with 16 bits per pixel',
                np.ones((64, 64), np.uint16),
                'is a PNG of mode I;16; maps must be',
            ),
            (
                'with a class index that is too large',
                np.full((64, 64), 9),
                'has the class index 9; expected 1 to 8',
            ),
        ],
    )
    @pytest.mark.parametrize('command', ['train', 'test'])
    def test_map(
        self, commands, trials, copy_of, work_dir_of, tmp_path, refused, command, given, content, message
    ):
        trial = trials['upernet']
        data = copy_of(trial)
        map_file = data / MAPS[command]
        kind = np.uint16 if content.dtype == np.uint16 else np.uint8
        cv2.imwrite(str(map_file), content.astype(kind))
        positional = [work_dir_of('upernet') / 'iter_4.pth'] if command == 'test' else []
        outcome = commands(command, trial.config, *positional, *on(data, trial), folder=tmp_path)
        refused(
            'Data', f'a segmentation map {given} ({command})', outcome, f'error: {map_file} {message}'
        )


class TestSkipping:
    """`--skip-bad-images`."""

    @pytest.fixture
    def damaged(self, trial, copy_of):
        """Data with one missing and one truncated image among 7 validation and 8 training images."""
        data = copy_of(trial)
        for split in ('train', 'val'):
            image = data / IMAGES[trial.task, split]
            image.unlink()
            halve(image.with_name(image.name.replace('2.jpg', '3.jpg')))
        return data

    def test_testing_uses_the_other_images(self, commands, trial, damaged, work_dir_of, tmp_path):
        checkpoint = work_dir_of(trial.task) / f'{trial.end}.pth'
        arguments = ['--skip-bad-images', *on(damaged, trial)]
        outcome = commands.succeed('test', trial.config, checkpoint, *arguments, folder=tmp_path)
        (result,) = read_results(tmp_path / 'work_dirs')
        first = IMAGES[trial.task, 'val']
        assert result['images'] == 5
        assert result['images_skipped'] == {
            'count': 2,
            'names': [first, first.replace('2.jpg', '3.jpg')],
        }
        assert f'skipped: {damaged / first} is missing' in outcome.stdout

    def test_training_uses_the_other_images(self, commands, trial, damaged, tmp_path):
        arguments = ['--skip-bad-images', *on(damaged, trial)]
        outcome = commands.succeed('train', trial.config, *arguments, folder=tmp_path)
        result = read_results(tmp_path / 'work_dirs')[-1]
        assert result['images'] == 5
        assert result['images_skipped']['count'] == result['training_images_skipped'] == 2
        assert f'skipped: {damaged / IMAGES[trial.task, "train"]} is missing' in outcome.stdout

    def test_good_data_are_unaffected(self, commands, trial, trained, tmp_path):
        checkpoint = trained / f'{trial.end}.pth'
        arguments = ['--skip-bad-images', *on(trial.data_root, trial)]
        commands.succeed('test', trial.config, checkpoint, *arguments, folder=tmp_path)
        (result,) = read_results(tmp_path)
        assert result['images_skipped'] == {'count': 0, 'names': []}
        assert result['metrics'] == pytest.approx(read_results(trained)[-1]['metrics'], abs=1e-9)

    def test_no_image_is_left(self, train, trial, copy_of, nothing_written, refused):
        data = copy_of(trial)
        for image in (data / IMAGES[trial.task, 'train']).parent.iterdir():
            halve(image)
        outcome = train(trial.config, '--skip-bad-images', *on(data, trial))
        given = f'`--skip-bad-images` when every image is bad ({LAYOUT[trial.task]})'
        refused('Data', given, outcome, 'none of the 8 images can be used', 'is truncated')
        shutil.rmtree(data)
        assert nothing_written()
