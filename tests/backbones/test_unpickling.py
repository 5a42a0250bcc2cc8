"""Reading a pickle never runs code: data is returned as data, code is rejected and named."""

import argparse
import builtins
import datetime
import importlib
import io
import os
import pathlib
import pickle
import runpy
import shutil
import subprocess
import sys
import types
from collections import OrderedDict, defaultdict, deque
from decimal import Decimal

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from numpy._core.multiarray import _reconstruct as reconstruct

from backbones import BackboneError
from backbones.checkpoint import install_safe_loading, read_checkpoint
from tests.hostile import Command, is_as_dangerous_as_meant, write_hostile

zipped_or_not = pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])


def round_trip(value, folder, zipped=True):
    file = folder / 'file.pth'
    torch.save(
        {'model': {'a': torch.zeros(2)}, 'value': value}, file, _use_new_zipfile_serialization=zipped
    )
    content = read_checkpoint(str(file))
    assert torch.equal(content['model']['a'], torch.zeros(2))
    return content['value']


class Options:
    """A class from a different project."""

    def __init__(self):
        self.rate = 0.1
        self.inner = argparse.Namespace(names=['a', 'b'])


class Settings(dict):
    """A dict with attributes, as many config libraries have."""


class Reduced:
    """Pickled as a call of a function with arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Restored:
    """Creates a folder when its state is set."""

    def __init__(self, proof):
        self.proof = str(proof)

    def __setstate__(self, state):
        os.mkdir(state['proof'])


@zipped_or_not
class TestData:
    def test_objects_keep_their_attributes(self, tmp_path, zipped):
        found = round_trip(Options(), tmp_path, zipped)
        assert found.rate == 0.1
        assert found.inner == argparse.Namespace(names=['a', 'b'])
        assert not isinstance(found, Options)

    def test_mappings_keep_their_items_and_attributes(self, tmp_path, zipped):
        settings = Settings(lr=0.1, deep=Settings(er=1))
        settings.frozen = True
        found = round_trip(settings, tmp_path, zipped)
        assert found == {'lr': 0.1, 'deep': {'er': 1}}
        assert found.frozen
        assert type(found) is OrderedDict

    def test_many_classes_in_one_file(self, tmp_path, zipped):
        found = round_trip([Options(), Settings(a=1), ConfigDict(b=2)], tmp_path, zipped)
        assert found[0].rate == 0.1
        assert found[1:] == [{'a': 1}, {'b': 2}]

    @pytest.mark.parametrize(
        'value',
        [
            pathlib.PurePosixPath('/a/b'),
            datetime.datetime(2026, 1, 1),
            datetime.timedelta(seconds=3),
            np.float64(0.5),
            np.arange(3),
            np.arange(6.0).reshape(2, 3).T,
            np.array(['ab', 'c']),
            np.array([True]),
            np.array(1j),
            np.float32(2),
            frozenset([1]),
            range(3),
            deque([1]),
            defaultdict(list, a=[1]),
            Decimal('0.5'),
            types.SimpleNamespace(a=1),
            datetime.time(3),
            datetime.timezone.utc,
            np.random.RandomState(0).get_state(),
            OrderedDict(a=1),
            slice(1, 2),
            torch.Size([2]),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_values_do_not_prevent_reading(self, tmp_path, zipped, value):
        round_trip(value, tmp_path, zipped)

    @pytest.mark.parametrize(
        'value',
        [
            np.arange(6.0).reshape(2, 3),
            np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            np.arange(3, dtype='>i4'),
            np.zeros((0, 2)),
            np.array(['ab', 'c']),
            np.array([True, False]),
            np.array(5, dtype=np.uint32),
            np.float64(82.1),
            np.int64(-3),
        ],
        ids=lambda value: f'{type(value).__name__} {value.dtype}',
    )
    def test_arrays_and_their_numbers_are_kept(self, tmp_path, zipped, value):
        found = round_trip(value, tmp_path, zipped)
        assert np.array_equal(found, value)
        assert found.dtype == value.dtype.newbyteorder('=')

    def test_training_history_is_complete(self, tmp_path, zipped):
        history = HistoryBuffer([1.0, 0.5, 0.2], [1, 2, 3])
        found = round_trip(history, tmp_path, zipped)
        assert type(found) is HistoryBuffer
        assert all(map(np.array_equal, found.data, history.data))
        for method in ('mean', 'min', 'max', 'current'):
            assert found.statistics(method) == history.statistics(method)


CODE = {
    'posix.mkdir': lambda proof: Command(proof),
    'builtins.eval': lambda proof: Reduced(eval, f'__import__("os").mkdir({str(proof)!r})'),
    'builtins.exec': lambda proof: Reduced(exec, f'__import__("os").mkdir({str(proof)!r})'),
    'builtins.getattr': lambda proof: Reduced(getattr, 'text', 'upper'),
    'builtins.__import__': lambda proof: Reduced(builtins.__import__, 'os'),
    'importlib.import_module': lambda proof: Reduced(importlib.import_module, 'os'),
    'runpy.run_path': lambda proof: Reduced(runpy.run_path, str(proof)),
    'shutil.rmtree': lambda proof: Reduced(shutil.rmtree, str(proof)),
    'Popen': lambda proof: Reduced(subprocess.Popen, ['mkdir', str(proof)]),
    'torch.hub.load': lambda proof: Reduced(torch.hub.load, 'a/b', 'c'),
    'Reduced': lambda proof: Reduced(Reduced, print),
}


@zipped_or_not
class TestCode:
    @pytest.mark.parametrize('name', CODE)
    def test_is_rejected_and_named(self, tmp_path, zipped, name):
        proof = tmp_path / 'proof'
        file = tmp_path / 'file.pth'
        content = {'model': {}, 'value': [CODE[name](proof)]}
        if name in ('builtins.__import__', 'importlib.import_module'):
            content['value'] = [Reduced(*(CODE[name](proof).call[0], 'os.path'))]
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        before = set(sys.modules)
        with pytest.raises(BackboneError) as error:
            read_checkpoint(str(file))
        assert name in str(error.value)
        assert 'tries to run' in str(error.value)
        assert not proof.exists()
        assert set(sys.modules) == before

    def test_setstate_is_not_called(self, tmp_path, zipped):
        proof = tmp_path / 'proof'
        assert round_trip(Restored(proof), tmp_path, zipped).proof == str(proof)
        assert not proof.exists()

    def test_history_takes_no_methods_from_a_file(self, tmp_path, zipped):
        before = dict(HistoryBuffer([1.0], [1])._statistics_methods)
        history = HistoryBuffer([1.0], [1])
        history.__dict__['_statistics_methods'] = {**before, 'mean': print}
        found = round_trip(history, tmp_path, zipped)
        assert found.mean() == 1.0
        assert HistoryBuffer._statistics_methods == before
        assert found._statistics_methods == before

    def test_error_does_not_suggest_running_the_code(self, tmp_path, zipped):
        file = tmp_path / 'file.pth'
        write_hostile(file, {}, tmp_path / 'proof', zipped)
        with pytest.raises(BackboneError) as error:
            read_checkpoint(str(file))
        for advice in ('weights_only', 'if you trust', 'safe_globals', '\x1b', '\n'):
            assert advice not in str(error.value)
        assert is_as_dangerous_as_meant(file, tmp_path / 'proof')


LAYOUT = (3, '<', None, None, None, -1, -1, 0)
OBJECTS = (*LAYOUT[:2], ('O', (1,)), *LAYOUT[3:])
FIELDS = (*LAYOUT[:3], ('x',), {}, *LAYOUT[5:])
# These make NumPy follow addresses from the file, or crash.
HARMFUL_ARRAYS = {
    'objects over bytes': lambda: Reduced(np.ndarray, (1,), 'O', b'A' * 8),
    'numbers over bytes': lambda: Reduced(np.ndarray, (9,), 'f8', b'A' * 8),
    'an array of objects': lambda: np.array([{}], dtype=object),
    'a type of objects': lambda: Reduced(np.dtype, 'O'),
    'a type with fields': lambda: np.dtype([('x', 'f8')]),
    'a type of arrays': lambda: np.dtype(('f8', (2,))),
    'a type with a state of objects': lambda: Stated(
        np.dtype, ('i8',), (*LAYOUT[:2], ('O', (1,)), *LAYOUT[3:])
    ),
    'a type with a state of fields': lambda: Stated(
        np.dtype, ('i8',), (*LAYOUT[:3], ('x',), {}, *LAYOUT[5:])
    ),
    'too few bytes': lambda: array_of_state((1, (9,), np.dtype('f8'), False, b'A' * 8)),
    'a list for bytes': lambda: array_of_state((1, (1,), np.dtype('f8'), False, [1])),
    'a number of too few bytes': lambda: Reduced(np._core.multiarray.scalar, np.dtype('f8'), b'A'),
    'an array of another class': lambda: Reduced(reconstruct, np.matrix, (0,), b'b'),
    'a record of lists': lambda: history_of_lists(),
    'a history of arguments': lambda: Reduced(HistoryBuffer, [1.0], [1]),
}


class Stated(Reduced):
    """Pickled as a call, and a state to set afterwards."""

    def __init__(self, function, arguments, state):
        self.call = function, arguments, state


def history_of_lists():
    history = HistoryBuffer([1.0], [1])
    history.__dict__['_log_history'] = [1.0]
    return history


def array_of_state(state):
    return Stated(reconstruct, (np.ndarray, (0,), b'b'), state)


@zipped_or_not
@pytest.mark.parametrize('kind', HARMFUL_ARRAYS)
def test_harmful_arrays_are_rejected(tmp_path, kind, zipped):
    message = 'tries to run .*HistoryBuffer' if 'history' in kind else 'contains .* unsafe to load'
    with pytest.raises(BackboneError, match=message):
        round_trip(HARMFUL_ARRAYS[kind](), tmp_path, zipped)


def test_types_ignore_harmful_flags(tmp_path):
    """These flags would make NumPy treat numbers as addresses."""
    for flags in (1, 17, 63):
        found = round_trip(Stated(np.dtype, ('i8',), (*LAYOUT[:7], flags)), tmp_path)
        assert found.plain == np.dtype('<i8')
        assert not found.plain.hasobject


@pytest.mark.parametrize(
    ('zipped', 'lists', 'expected'), [(True, True, 1), (True, False, 21), (False, True, 21)]
)
def test_many_unknown_classes(tmp_path, monkeypatch, zipped, lists, expected):
    """If torch lists the classes, the file is read only once."""
    if not lists:
        monkeypatch.delattr(torch.serialization, 'get_unsafe_globals_in_checkpoint')
    classes = [type(f'Class{i}', (), {'__module__': 'somewhere', 'rate': 1}) for i in range(20)]
    module = types.ModuleType('somewhere')
    module.__dict__.update({each.__name__: each for each in classes})
    monkeypatch.setitem(sys.modules, 'somewhere', module)
    readings, load = [], torch.load
    monkeypatch.setattr(torch, 'load', lambda *a, **k: readings.append(1) or load(*a, **k))
    objects = [each() for each in classes]
    for number, each in enumerate(objects):
        each.number = number
    found = round_trip(objects, tmp_path, zipped)
    assert [each.number for each in found] == list(range(20))
    assert len(readings) == expected


@zipped_or_not
@pytest.mark.parametrize(
    'value',
    [
        [b'', b'a', bytes(range(256)) * 100, b'a'],
        torch.arange(24.0).reshape(4, 6).t()[1::2, 2:],
        torch.zeros(0, 3),
        torch.tensor(2.0),
        torch.ones(3, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.nn.Parameter(torch.ones(2)),
        OrderedDict(a=torch.ones(2)),
        ConfigDict(a=ConfigDict(b=[ConfigDict(c=1)] * 3)),
        {'history': HistoryBuffer([1.0] * 10_000, [1] * 10_000)},
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_written_by_torch_are_read(tmp_path, zipped, value):
    content = {'model': {}, 'value': value}
    torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(str(tmp_path / 'a.pth'))['value']
    if isinstance(value, torch.Tensor):
        assert torch.equal(found, value)
    elif 'history' in value:
        assert found['history'].mean() == 1.0
    else:
        assert repr(found) == repr(value) or found == value


def test_dtype_without_its_own_storage_class(tmp_path):
    """torch cannot read this dtype from the legacy format."""
    value = torch.ones(3, dtype=torch.uint16)
    torch.save({'value': value}, tmp_path / 'a.pth')
    assert torch.equal(read_checkpoint(str(tmp_path / 'a.pth'))['value'], value)


def test_a_tensor_with_attributes(tmp_path):
    value = torch.ones(3)
    value.note = 'kept'
    torch.save({'value': value}, tmp_path / 'a.pth')
    assert read_checkpoint(str(tmp_path / 'a.pth'))['value'].note == 'kept'


@zipped_or_not
def test_container_that_contains_itself(tmp_path, zipped):
    circle: list = [1]
    circle.append({'again': circle})
    file = tmp_path / 'a.pth'
    torch.save({'model': {}, 'circle': circle}, file, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(str(file))['circle']
    assert found[1]['again'] is found


@pytest.mark.parametrize('protocol', range(5))
def test_pickle_that_is_not_a_checkpoint(tmp_path, protocol):
    file = tmp_path / 'file.pth'
    file.write_bytes(pickle.dumps({'model': Command(tmp_path / 'proof')}, protocol))
    with pytest.raises(BackboneError):
        read_checkpoint(str(file))
    assert not (tmp_path / 'proof').exists()
    pickle.loads(file.read_bytes())
    assert (tmp_path / 'proof').exists()


class TestMmengineLoaders:
    """Every way in which mmengine loads checkpoints."""

    @zipped_or_not
    @pytest.mark.parametrize('scheme', ['', 'file://'])
    def test_files_and_urls(self, tmp_path, scheme, zipped, monkeypatch):
        monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
        file, proof = tmp_path / 'file.pth', tmp_path / 'proof'
        write_hostile(file, {'state_dict': {}}, proof, zipped)
        loader = CheckpointLoader._get_checkpoint_loader('https://' if scheme else '')
        with pytest.raises(BackboneError, match=r'tries to run posix\.mkdir'):
            loader(f'{scheme}{file}', 'cpu')
        assert not proof.exists()
        assert is_as_dangerous_as_meant(file, proof)

    def test_bytes_of_an_object_store(self, tmp_path):
        file, proof = tmp_path / 'file.pth', tmp_path / 'proof'
        write_hostile(file, {}, proof, zipped=True)
        with pytest.raises(BackboneError, match='tries to run'):
            mmengine_checkpoint._safe_torch_load(io.BytesIO(file.read_bytes()))
        assert not proof.exists()

    @pytest.mark.parametrize(
        'scheme', ['torchvision://resnet50', 'open-mmlab://detectron2/resnet50_caffe']
    )
    def test_model_zoos(self, tmp_path, scheme, monkeypatch):
        file, proof = tmp_path / 'file.pth', tmp_path / 'proof'
        write_hostile(file, {}, proof, zipped=True)
        reached = []
        monkeypatch.setattr(
            'backbones.checkpoint.checkpoint_files._download',
            lambda url, path: (reached.append(url), shutil.copy(file, path)),
        )
        monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
        with pytest.raises(BackboneError, match='tries to run'):
            CheckpointLoader.load_checkpoint(scheme, 'cpu', logger='silent')
        assert reached
        assert not proof.exists()

    def test_config_text_that_the_runner_would_run_is_removed(self, tmp_path):
        torch.save({'meta': {'config': 'import os', 'iter': 3}}, tmp_path / 'a.pth')
        content = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu', logger='silent')
        assert content == {'meta': {'iter': 3}}

    def test_error_of_a_missing_file_is_one_line(self):
        with pytest.raises(BackboneError, match=r'nowhere\.pth is not a file'):
            CheckpointLoader.load_checkpoint('nowhere.pth', 'cpu', logger='silent')

    def test_unsupported_mmengine_is_rejected(self, monkeypatch):
        monkeypatch.delattr(mmengine_checkpoint, 'load_url')
        with pytest.raises(ImportError, match='load_url'):
            install_safe_loading()
