"""Evidence is written whole and read back, and what is not evidence is refused."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from evaluation.errors import UserError
from evaluation.evidence import files
from evaluation.evidence.classification import collect_guesses
from evaluation.evidence.files import read_evidence, write_evidence
from evaluation.evidence.names import image_names
from evaluation.evidence.segmentation import collect_confusion
from tests.evaluation.evidence.problems import instance_evidence

CLASSES = ('a', 'b', 'c')


def evidence_of(task):
    if task == 'mask_rcnn':
        return instance_evidence()
    if task == 'upernet':
        confusions = [np.array([[0, 1, 5], [2, 3, 9]]), np.zeros((0, 3), np.int64)]
        return collect_confusion(['2.png', '1.png'], confusions, CLASSES)
    return collect_guesses(['2.jpg', '1.jpg'], [(0, 1, 5), (2, 2, 0)], CLASSES)


TASKS = ('mask_rcnn', 'upernet', 'imagenet')


@pytest.mark.parametrize('task', TASKS)
def test_read_back_as_it_was(tmp_path, task):
    evidence = evidence_of(task)
    write_evidence(tmp_path / 'evidence.npz', evidence)
    found = read_evidence(tmp_path / 'evidence.npz', task)
    one, other = files._arrays(evidence), files._arrays(found)
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert np.array_equal(one[name], other[name])
    assert [*tmp_path.iterdir()] == [tmp_path / 'evidence.npz']


@pytest.mark.parametrize('task', TASKS)
def test_of_another_task(tmp_path, task):
    write_evidence(tmp_path / 'evidence.npz', evidence_of(task))
    for other in set(TASKS) - {task}:
        with pytest.raises(UserError, match=f'no evidence of a {other} evaluation'):
            read_evidence(tmp_path / 'evidence.npz', other)


def rewrite(file, **changes):
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez_compressed(file, **{**arrays, **changes})


@pytest.mark.parametrize(
    ('changes', 'complaint'),
    [
        ({'detection_image': np.array([0, 10**6, 0])}, 'out of range|unequal lengths'),
        ({'object_class': np.array([-1])}, 'out of range|unequal lengths'),
        ({'detection_score': np.array(['a', 'b'])}, 'holds <U1'),
        ({'box_hits': np.zeros((3, 2), np.uint16)}, '2 ranges of areas'),
        ({'box_hits': np.zeros(3, np.uint16)}, '1 axes'),
        ({'mask_targets': np.array([10**9])}, 'out of range'),
        ({'images': np.array([1, 1, 1])}, 'out of range|occurs twice'),
        ({'object_counts': np.ones((99, 4), bool)}, 'unequal lengths'),
    ],
    ids=str,
)
def test_numbers_that_would_lead_outside_of_an_array(tmp_path, changes, complaint):
    file = tmp_path / 'evidence.npz'
    write_evidence(file, instance_evidence())
    rewrite(file, **changes)
    with pytest.raises(UserError, match=complaint) as caught:
        read_evidence(file, 'mask_rcnn')
    assert '\n' not in str(caught.value)


class Bomb:
    def __reduce__(self):
        return exec, ('raise SystemExit("run")',)


def test_pickles_are_never_read(tmp_path):
    file = tmp_path / 'evidence.npz'
    np.savez(file, images=np.array([Bomb()], dtype=object))
    with pytest.raises(UserError, match='no evidence'):
        read_evidence(file, 'mask_rcnn')
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match='no evidence'):
        read_evidence(file, 'mask_rcnn')


def test_what_unpacks_to_gigabytes_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(files, 'MOST_BYTES', 1 << 20)
    file = tmp_path / 'evidence.npz'
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('images.npy', bytes(1 << 22))
    with pytest.raises(UserError, match='bytes when unpacked'):
        read_evidence(file, 'upernet')


def test_an_array_that_claims_more_than_the_file_holds(tmp_path):
    buffer = io.BytesIO()
    header = {'descr': '<i8', 'fortran_order': False, 'shape': (10**15,)}
    np.lib.format.write_array_header_1_0(buffer, header)
    file = tmp_path / 'evidence.npz'
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('images.npy', buffer.getvalue() + bytes(80))
    with pytest.raises(UserError, match='no evidence'):
        read_evidence(file, 'upernet')


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04', b'text'])
def test_a_file_that_is_no_archive(tmp_path, content):
    file = tmp_path / 'evidence.npz'
    file.write_bytes(content)
    with pytest.raises(UserError, match='no evidence'):
        read_evidence(file, 'upernet')


def test_a_truncated_file(tmp_path):
    file = tmp_path / 'evidence.npz'
    write_evidence(file, instance_evidence())
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(UserError, match='no evidence'):
        read_evidence(file, 'mask_rcnn')


class TestNames:
    def test_do_not_depend_on_the_place(self):
        assert image_names(['/data/val/a/1.jpg', '/data/val/b/1.jpg']) == ['a/1.jpg', 'b/1.jpg']
        assert image_names(['x/val/1.jpg', 'x/val/2.jpg']) == ['1.jpg', '2.jpg']
        assert image_names(['x/1.jpg']) == ['1.jpg']

    def test_are_none_where_images_cannot_be_told_apart(self):
        assert image_names(['1.jpg', None]) is None
        assert image_names(['1.jpg', '1.jpg']) is None
