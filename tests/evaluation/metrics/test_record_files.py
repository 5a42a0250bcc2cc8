"""Evidence is written and read back, and invalid files are refused."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from evaluation.metrics import record_files
from evaluation.metrics.calibration import BINS
from evaluation.metrics.class_records import collect_confusion, collect_guesses
from evaluation.metrics.instance_records import ERRORS
from evaluation.metrics.record_files import read_evidence, write_evidence
from evaluation.metrics.records import image_names
from evaluation.utils.errors import UserError
from tests.evaluation.metrics.problems import instance_evidence

CLASSES = ('a', 'b', 'c')


def evidence_of(task):
    if task == 'instance_segmentation':
        return instance_evidence()
    if task == 'semantic_segmentation':
        confusions = [np.array([[0, 1, 5], [2, 3, 9]]), np.zeros((0, 3), np.int64)]
        histogram = np.zeros((BINS, 3))
        histogram[9] = 14, 8.6, 0
        histograms = [histogram, np.zeros((BINS, 3))]
        return collect_confusion(['2.png', '1.png'], confusions, CLASSES, histograms)
    return collect_guesses(['2.jpg', '1.jpg'], [(0, 1, 5), (2, 2, 0)], CLASSES, [0.5, 0.9])


TASKS = ('instance_segmentation', 'semantic_segmentation', 'classification')


@pytest.mark.parametrize('task', TASKS)
def test_evidence_is_read_back_unchanged(tmp_path, task):
    evidence = evidence_of(task)
    write_evidence(tmp_path / 'evidence.npz', evidence)
    found = read_evidence(tmp_path / 'evidence.npz', task)
    one, other = evidence.arrays(), found.arrays()
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert np.array_equal(one[name], other[name])
    assert [*tmp_path.iterdir()] == [tmp_path / 'evidence.npz']


# Arrays of confidences that earlier versions did not store.
LATER = ('confidence', 'bin_pixels', 'bin_right', 'bin_confidence', 'box_overlaps', 'mask_overlaps')


@pytest.mark.parametrize('task', TASKS)
def test_evidence_of_earlier_versions_has_no_calibration(tmp_path, task):
    evidence, file = evidence_of(task), tmp_path / 'evidence.npz'
    arrays = evidence.arrays()
    np.savez(file, **{name: array for name, array in arrays.items() if name not in LATER})
    found = read_evidence(file, task)
    assert (evidence.calibration() != {}, found.calibration()) == (True, {})
    assert found.arrays().keys() == arrays.keys() - {*LATER}


@pytest.mark.parametrize(
    ('task', 'changes', 'complaint'),
    [
        ('semantic_segmentation', {'bin_right': np.ones((2, BINS), np.int64)}, 'do not agree'),
        ('semantic_segmentation', {'bin_pixels': np.zeros((2, BINS), np.int64)}, 'do not agree'),
        ('semantic_segmentation', {'bin_pixels': np.zeros((2, 3), np.int64)}, '3 bins'),
        ('semantic_segmentation', {'bin_confidence': np.full((2, BINS), 99.0)}, 'confident pixels'),
        ('semantic_segmentation', {'bin_confidence': np.full((2, BINS), np.nan)}, 'out of range'),
        ('semantic_segmentation', {'bin_confidence': np.zeros((3, BINS))}, 'different lengths'),
        ('classification', {'confidence': np.array([0.5, -1])}, 'out of range'),
        ('classification', {'confidence': np.array([1, 1])}, 'unsupported type'),
        ('instance_segmentation', {'box_overlaps': np.array([2.0])}, 'out of range'),
        ('instance_segmentation', {'box_overlaps': np.array([0.5])}, 'different lengths'),
    ],
    ids=str,
)
def test_confidences_that_contradict_the_rest(tmp_path, task, changes, complaint):
    file = tmp_path / 'evidence.npz'
    write_evidence(file, evidence_of(task))
    rewrite(file, **changes)
    with pytest.raises(UserError, match=complaint):
        read_evidence(file, task)


@pytest.mark.parametrize('task', TASKS)
def test_evidence_of_a_different_task(tmp_path, task):
    write_evidence(tmp_path / 'evidence.npz', evidence_of(task))
    for other in set(TASKS) - {task}:
        with pytest.raises(UserError, match=f'not valid records of {other}'):
            read_evidence(tmp_path / 'evidence.npz', other)


def rewrite(file, **changes):
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez_compressed(file, **{**arrays, **changes})


@pytest.mark.parametrize(
    ('changes', 'complaint'),
    [
        ({'detection_image': np.array([0, 10**6, 0])}, 'out of range|different lengths'),
        ({'object_class': np.array([-1])}, 'out of range|different lengths'),
        ({'detection_score': np.array(['a', 'b'])}, 'unsupported type <U1'),
        ({'box_hits': np.zeros((3, 2), np.uint16)}, '2 area ranges'),
        ({'box_hits': np.zeros(3, np.uint16)}, '1 axes'),
        ({'mask_targets': np.array([10**9])}, 'out of range'),
        ({'images': np.array([1, 1, 1])}, 'out of range|occurs twice'),
        ({'object_counts': np.ones((99, 4), bool)}, 'different lengths'),
    ],
    ids=str,
)
def test_out_of_bounds_arrays_are_refused(tmp_path, changes, complaint):
    file = tmp_path / 'evidence.npz'
    write_evidence(file, instance_evidence())
    rewrite(file, **changes)
    with pytest.raises(UserError, match=complaint) as caught:
        read_evidence(file, 'instance_segmentation')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('text', ['abc', ''])
def test_classes_that_are_not_a_list(tmp_path, text):
    file = tmp_path / 'evidence.npz'
    write_evidence(file, evidence_of('classification'))
    rewrite(file, classes=np.array(text))
    with pytest.raises(UserError, match='classes has 0 axes'):
        read_evidence(file, 'classification')


def damaged(part, index, value):
    """Return one array of evidence with a changed value, by name."""
    arrays = instance_evidence(20).arrays()
    changed = arrays[part].copy()
    changed[index(arrays) if callable(index) else index] = value
    return {part: changed}


def first_of(error, kind='box'):
    return lambda arrays: np.flatnonzero(arrays[f'{kind}_errors'] == ERRORS.index(error))[0]


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        # Compiled code has room for as many correct detections as there are objects.
        (damaged('object_counts', slice(None), False), 'are not valid objects|more than there'),
        (damaged('object_counts', (slice(None), slice(1, 4)), False), 'more than there are objects'),
        (damaged('box_hits', (slice(None), 2), 1023), 'more than there are objects'),
        (damaged('mask_hits', (slice(None), 0), 1022), 'errors and mask_hits do not agree'),
        (damaged('box_errors', first_of('background'), ERRORS.index('right')), 'do not agree'),
        (damaged('box_targets', first_of('right'), -1), 'not in the image'),
        (damaged('mask_targets', first_of('localisation', 'mask'), -1), 'not in the image'),
        (damaged('box_hits', slice(None), 1 << 12), 'out of range'),
    ],
    ids=str,
)
def test_inconsistent_matches_are_refused(tmp_path, change, complaint):
    file = tmp_path / 'evidence.npz'
    write_evidence(file, instance_evidence(20))
    assert read_evidence(file, 'instance_segmentation')
    rewrite(file, **change)
    with pytest.raises(UserError, match=complaint):
        read_evidence(file, 'instance_segmentation')


@pytest.mark.parametrize('dtype', ['>u2', 'u8', 'i2'])
def test_types_that_compiled_code_does_not_support(tmp_path, dtype):
    file = tmp_path / 'evidence.npz'
    evidence = instance_evidence()
    write_evidence(file, evidence)
    rewrite(file, box_hits=evidence.matches['box'].hits.astype(dtype))
    with pytest.raises(UserError, match='box_hits has unsupported type'):
        read_evidence(file, 'instance_segmentation')


def with_damage(content, random):
    """Change, remove or repeat bytes at one place."""
    data = bytearray(content)
    start, length = random.integers(len(data)), random.integers(1, 9)
    piece = data[start : start + length]
    data[start : start + length] = [random.bytes(length), b'', piece + piece][random.integers(3)]
    return bytes(data)


def with_damaged_array(content, random):
    """Do the same to an array in an intact archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    chosen = random.choice([*parts])
    # In half of the cases, damage only the header of 128 bytes.
    end = random.choice([128, len(parts[chosen])])
    parts[chosen] = with_damage(parts[chosen][:end], random) + parts[chosen][end:]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return buffer.getvalue()


@pytest.mark.parametrize('damage', [with_damage, with_damaged_array])
@pytest.mark.parametrize(
    ('task', 'metric'),
    [
        ('instance_segmentation', 'mask_AP'),
        ('semantic_segmentation', 'mIoU'),
        ('classification', 'top1'),
    ],
)
def test_any_damage_is_reported_or_harmless(tmp_path, task, metric, damage):
    file, random = tmp_path / 'evidence.npz', np.random.default_rng(0)
    write_evidence(file, evidence_of(task))
    content, complaints = file.read_bytes(), []
    for _ in range(300):
        file.write_bytes(damage(content, random))
        try:
            found = read_evidence(file, task)
        except UserError as error:
            complaints.append(str(error))
        else:
            found.metrics_of(metric)(np.ones(len(found.images), np.int64))
    assert len(complaints) > 100
    assert not [each for each in complaints if '\n' in each]


class Bomb:
    def __reduce__(self):
        return exec, ('raise SystemExit("run")',)


def test_pickles_are_never_read(tmp_path):
    file = tmp_path / 'evidence.npz'
    np.savez(file, images=np.array([Bomb()], dtype=object))
    with pytest.raises(UserError, match='not valid records'):
        read_evidence(file, 'instance_segmentation')
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match='not valid records'):
        read_evidence(file, 'instance_segmentation')


def test_files_that_unpack_to_gigabytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(record_files, 'MOST_BYTES', 1 << 20)
    file = tmp_path / 'evidence.npz'
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('images.npy', bytes(1 << 22))
    with pytest.raises(UserError, match='bytes when unpacked'):
        read_evidence(file, 'semantic_segmentation')


def test_an_array_that_claims_more_than_the_file_holds(tmp_path):
    buffer = io.BytesIO()
    header = {'descr': '<i8', 'fortran_order': False, 'shape': (10**15,)}
    np.lib.format.write_array_header_1_0(buffer, header)
    file = tmp_path / 'evidence.npz'
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('images.npy', buffer.getvalue() + bytes(80))
    with pytest.raises(UserError, match='not valid records'):
        read_evidence(file, 'semantic_segmentation')


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04', b'text'])
def test_a_file_that_is_not_an_archive(tmp_path, content):
    file = tmp_path / 'evidence.npz'
    file.write_bytes(content)
    with pytest.raises(UserError, match='not valid records'):
        read_evidence(file, 'semantic_segmentation')


def test_a_truncated_file(tmp_path):
    file = tmp_path / 'evidence.npz'
    write_evidence(file, instance_evidence())
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(UserError, match='not valid records'):
        read_evidence(file, 'instance_segmentation')


class TestNames:
    def test_do_not_depend_on_the_folder(self):
        assert image_names(['/data/val/a/1.jpg', '/data/val/b/1.jpg']) == ['a/1.jpg', 'b/1.jpg']
        assert image_names(['x/val/1.jpg', 'x/val/2.jpg']) == ['1.jpg', '2.jpg']
        assert image_names(['x/1.jpg']) == ['1.jpg']

    def test_absolute_and_relative_paths(self):
        here = os.getcwd()
        assert image_names([f'{here}/val/1.jpg', 'val/2.jpg']) == ['1.jpg', '2.jpg']

    def test_unknown_and_repeated_images(self):
        with pytest.raises(ValueError, match='is unknown'):
            image_names(['1.jpg', None])
        for again in ('1.jpg', os.path.abspath('1.jpg')):
            with pytest.raises(ValueError, match='occurs twice'):
                image_names(['1.jpg', again])


class TestBoxesAlone:
    def test_matches_are_read_back(self, tmp_path):
        evidence = instance_evidence(kinds=('bbox',))
        write_evidence(tmp_path / 'evidence.npz', evidence)
        read = read_evidence(tmp_path / 'evidence.npz', 'instance_segmentation')
        assert {*read.matches} == {'box'}
        np.testing.assert_array_equal(read.matches['box'].hits, evidence.matches['box'].hits)

    @pytest.mark.parametrize('missing', ['mask_targets', 'box_hits'])
    def test_missing_arrays_are_reported(self, tmp_path, missing):
        write_evidence(tmp_path / 'whole.npz', instance_evidence())
        with np.load(tmp_path / 'whole.npz') as whole:
            np.savez_compressed(
                tmp_path / 'part.npz', **{name: whole[name] for name in whole.files if name != missing}
            )
        with pytest.raises(UserError, match=f'{missing} is missing'):
            read_evidence(tmp_path / 'part.npz', 'instance_segmentation')


@pytest.mark.parametrize('confidence', [np.nan, np.inf, -0.1])
def test_confidences_that_are_none_are_not_stored(tmp_path, confidence):
    """The other records of such an evaluation stay readable."""
    found = collect_guesses(['a', 'b'], [(0, 1, 5), (2, 2, 0)], CLASSES, [0.5, confidence])
    assert found.confidence is None
    histogram = np.full((BINS, 3), confidence) if np.isnan(confidence) else None
    confusion = np.array([[0, 1, 5]])
    assert collect_confusion(['a'], [confusion], CLASSES, [histogram]).bin_pixels is None
