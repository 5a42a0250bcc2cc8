"""Every kind of damage to data in ImageNet's layouts is found and reported."""

from pathlib import Path

import pytest

from evaluation.data.imagenet import labeled_images
from tests.evaluation.data.class_folders import write_folders, write_lists
from tests.evaluation.data.looking import look


def appended(line):
    return lambda file: file.write_text(f'{file.read_text()}{line}\n')


def emptied(folder):
    for file in folder.iterdir():
        file.unlink()


FOLDERS = {
    'a class without images': ('train/eel', emptied, {'classes without images'}),
    'a class in one split': (
        'train/gnu',
        lambda folder: Path(folder).mkdir(),
        {'classes without images'},
    ),
    'a truncated image': (
        'train/cat/3.jpg',
        lambda f: f.write_bytes(f.read_bytes()[:-9]),
        {'truncated images'},
    ),
    'not an image': ('val/cat/1.jpg', lambda f: f.write_text('<html>'), {'undecodable images'}),
    'notes': (
        'val/cat/notes.txt',
        lambda f: f.write_text('these are cats'),
        {'files that are not images'},
    ),
}
LISTS = {
    'a listed file that is missing': ('train/train_cat 3.JPEG', Path.unlink, {'missing images'}),
    'no label': ('meta/train.txt', appended('train_cat'), {'malformed lines'}),
    'a label of thousands of digits': (
        'meta/train.txt',
        appended(f'train_cat 3.JPEG {"9" * 5000}'),
        {'malformed lines'},
    ),
    'a name with parent folders': (
        'meta/val.txt',
        appended('../../etc/passwd 0'),
        {'file names that point outside the image folder'},
    ),
    'an absolute name': (
        'meta/val.txt',
        appended('/etc/passwd 0'),
        {'file names that point outside the image folder'},
    ),
    'a duplicate file': (
        'meta/train.txt',
        appended('train_cat 3.JPEG 0'),
        {'duplicate file names'},
    ),
}


@pytest.mark.parametrize('write', [write_folders, write_lists])
def test_valid_data(tmp_path, write):
    write(tmp_path / 'data')
    found = look(tmp_path / 'data')
    assert not found.findings
    assert found.counts == {'images': 44, 'classes': 4}


@pytest.mark.parametrize(
    ('write', 'damage'),
    [(write_folders, damage) for damage in FOLDERS] + [(write_lists, damage) for damage in LISTS],
)
def test_damage(tmp_path, write, damage):
    write(tmp_path / 'data')
    name, change, kinds = (FOLDERS | LISTS)[damage]
    change(tmp_path / 'data' / name)
    found = look(tmp_path / 'data')
    assert kinds <= set(found.by_kind())
    assert len(found.by_kind()) == len(kinds) + (damage == 'a class without images')


def test_label_without_images(tmp_path):
    write_lists(tmp_path / 'data')
    for split in ('train', 'val'):
        file = tmp_path / 'data/meta' / f'{split}.txt'
        lines = [line for line in file.read_text().splitlines() if not line.endswith(' 2')]
        file.write_text('\n'.join(lines) + '\n')
    found = look(tmp_path / 'data')
    assert {each.kind for each in found.findings} == {'labels without images'}


def test_labels_out_of_range(tmp_path):
    write_lists(tmp_path / 'data')
    assert not look(tmp_path / 'data', num_classes=4).findings
    assert {each.kind for each in look(tmp_path / 'data', num_classes=3).findings} == {
        'labels out of range'
    }


@pytest.mark.parametrize('write', [write_folders, write_lists])
@pytest.mark.parametrize(
    ('num_classes', 'kinds'),
    [(3, {'labels out of range'}), (4, set()), (5, {'fewer classes than expected'})],
)
def test_expected_number_of_classes(tmp_path, write, num_classes, kinds):
    write(tmp_path / 'data')
    found = look(tmp_path / 'data', num_classes=num_classes).findings
    assert {each.kind for each in found} == kinds


def test_all_labels_without_images_are_counted(tmp_path):
    write_lists(tmp_path / 'data')
    for split in ('train', 'val'):
        file = tmp_path / 'data/meta' / f'{split}.txt'
        file.write_text(file.read_text().replace(' 2\n', ' 9\n').replace(' 3\n', ' 1\n'))
    (finding,) = look(tmp_path / 'data').findings
    assert finding.kind == 'labels without images'
    assert finding.subject == '7 labels such as 2'


def test_hidden_files_are_ignored(tmp_path):
    """Names that start with a dot, as written by other operating systems."""
    write_folders(tmp_path / 'data')
    before = labeled_images(tmp_path / 'data', 'train')
    (tmp_path / 'data/train/cat/._0.jpg').write_bytes(b'\0\5\x16\7')
    assert labeled_images(tmp_path / 'data', 'train') == before
    assert not look(tmp_path / 'data').findings


def test_classes_missing_from_one_split(tmp_path):
    write_folders(tmp_path / 'data')
    (tmp_path / 'data/val/fox').rename(tmp_path / 'data/val/gnu')
    found = look(tmp_path / 'data')
    assert [each.subject for each in found.findings] == ['train: class gnu', 'val: class fox']
