"""Checkpoints that would exhaust memory, time or the stack are refused, in no time and in one line."""

import resource
import tracemalloc
import zipfile
from collections import OrderedDict

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from backbones import BackboneError
from backbones.checkpoint import read_checkpoint, weights_of
from backbones.checkpoint.bombs import DEEPEST, MOST_ENTRIES
from tests.bombs import (
    PICKLES,
    called,
    number,
    of_a_dict,
    safetensors,
    write_claim,
    write_compressed,
    write_members,
    write_pickle,
    write_two_directories,
)

zipped_or_not = pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
SAYS = {
    'lists in lists': r'holds containers nested 100,00\d deep',
    'a key of tuples in tuples': r'holds containers nested 100,00\d deep',
    'lists that repeat': r'holds more than 100,000,000 entries, by repetition',
    'lists that repeat, filled later': r'holds more than 100,000,000 entries, by repetition',
    'a bytearray of a terabyte': r'holds a call of bytearray, which can be of any size',
    'a bytearray of a gigabyte': r'holds a call of bytearray, which can be of any size',
    'a bytearray of Python 2': r'holds a call of bytearray, which can be of any size',
    'digits of digits': r'holds a call of _codecs\.encode for more than a text as latin1',
    'copies': r'holds calls that copy more than \d,\d{3},\d{3} values',
    'values beside the content': r'holds 100,000 values beside its content',
    'a tensor of a gigabyte': r'holds a call of torch\.FloatTensor, which can be of any size',
    'a tensor, otherwise named': r'holds a call of torch\.cuda\.FloatTensor, which',
    'a storage': r'holds a call of torch\.storage\.UntypedStorage, which can be of any size',
    'a tensor beyond its storage': r'a tensor of 1,000,000,000 elements, of which the file has 1,',
    'a state beyond its storage': r'a tensor of 1,000,000,000 elements, of which the file has 1,',
    'a call by another': r'with another function than torch\.save gives it',
}


@pytest.fixture(autouse=True)
def no_more_memory():
    """Half a gigabyte more than what was used by any test before is none of these bombs' due."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 512 * 1024


@zipped_or_not
@pytest.mark.parametrize('kind', PICKLES)
def test_pickles(tmp_path, kind, zipped):
    write_pickle(tmp_path / 'a.pth', PICKLES[kind](), zipped)
    with pytest.raises(BackboneError, match=SAYS[kind]) as error:
        read_checkpoint(str(tmp_path / 'a.pth'))
    assert '\n' not in str(error.value)


def test_looking_takes_no_more_than_the_file(tmp_path):
    """Entries without end, of which exact numbers would have as many digits as the file has bytes."""
    write_pickle(tmp_path / 'a.pth', of_a_dict(b'N' + b'q\x00h\x00\x86' * 40_000), zipped=True)
    tracemalloc.start()
    try:
        with pytest.raises(BackboneError, match=r'holds containers nested 40,00\d deep'):
            read_checkpoint(str(tmp_path / 'a.pth'))
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


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
def test_what_torch_writes_is_no_bomb(tmp_path, zipped, value):
    content = {'model': {}, 'value': value}
    torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(str(tmp_path / 'a.pth'))['value']
    if isinstance(value, torch.Tensor):
        assert torch.equal(found, value)
    elif 'history' in value:
        assert found['history'].mean() == 1.0
    else:
        assert repr(found) == repr(value) or found == value


def test_a_type_without_a_storage_of_its_own(tmp_path):
    """Which torch does not read from the legacy format."""
    value = torch.ones(3, dtype=torch.uint16)
    torch.save({'value': value}, tmp_path / 'a.pth')
    assert torch.equal(read_checkpoint(str(tmp_path / 'a.pth'))['value'], value)


def test_a_tensor_with_attributes(tmp_path):
    value = torch.ones(3)
    value.note = 'kept'
    torch.save({'value': value}, tmp_path / 'a.pth')
    assert read_checkpoint(str(tmp_path / 'a.pth'))['value'].note == 'kept'


@zipped_or_not
def test_what_a_training_writes_is_no_bomb(tmp_path, zipped):
    """Containers in containers, and one that many entries share."""
    shared = [[0.5] * 1000] * 1000
    nested: dict = {}
    # torch.save itself fails on some more.
    for _ in range(DEEPEST // 4):
        nested = {'deeper': nested}
    content = {'model': {'a': torch.zeros(3)}, 'nested': nested, 'history': [shared] * 20}
    torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(str(tmp_path / 'a.pth'))
    assert found['history'] == content['history']
    assert MOST_ENTRIES > 20 * 1000 * 1000


@zipped_or_not
def test_a_container_in_itself(tmp_path, zipped):
    circle: list = [1]
    circle.append({'again': circle})
    file = tmp_path / 'a.pth'
    torch.save({'model': {}, 'circle': circle}, file, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(str(file))['circle']
    assert found[1]['again'] is found


class TestZips:
    def test_a_member_that_inflates(self, tmp_path):
        write_compressed(tmp_path / 'a.pth', 100_000_000)
        assert (tmp_path / 'a.pth').stat().st_size < 200_000
        with pytest.raises(BackboneError, match=r'holds compressed members such as a/data/1, which'):
            read_checkpoint(str(tmp_path / 'a.pth'))

    def test_a_compressed_pickle(self, tmp_path):
        torch.save({'model': {}}, tmp_path / 'a.pth')
        with zipfile.ZipFile(tmp_path / 'a.pth') as old:
            members = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(tmp_path / 'b.pth', 'w', zipfile.ZIP_DEFLATED) as new:
            for name, content in members.items():
                new.writestr(name, content)
        with pytest.raises(BackboneError, match=r'pack it again with zip -0'):
            read_checkpoint(str(tmp_path / 'b.pth'))

    def test_a_member_that_claims_more_than_the_file_has(self, tmp_path):
        write_claim(tmp_path / 'a.pth')
        with pytest.raises(BackboneError, match=r'holds members that claim 4,29\d,\d{3},\d{3} bytes'):
            read_checkpoint(str(tmp_path / 'a.pth'))

    @pytest.mark.parametrize('name', ['archive/DATA.PKL', 'archive/data.Pkl'])
    def test_a_pickle_by_another_name(self, tmp_path, name):
        """Which torch finds all the same."""
        bomb, harmless = PICKLES['a bytearray of a gigabyte'](), of_a_dict(called('torch.Size', b')'))
        members = {'archive/version': b'3\n', 'archive/byteorder': b'little'}
        write_members(tmp_path / 'a.pth', {name: harmless, **members})
        assert torch.load(tmp_path / 'a.pth') == {'a': torch.Size([])}
        write_members(tmp_path / 'a.pth', {name: bomb, **members})
        with pytest.raises(BackboneError, match=r'holds a call of bytearray'):
            read_checkpoint(str(tmp_path / 'a.pth'))

    @pytest.mark.parametrize(
        ('names', 'count'),
        [([], 0), (['archive/data.pkl', 'archive/DATA.PKL'], 2), (['a/data.pkl', 'b/data.pkl'], 2)],
    )
    def test_no_pickle_or_two(self, tmp_path, names, count):
        members = dict.fromkeys(names, PICKLES['lists in lists']()) | {'archive/version': b'3\n'}
        write_members(tmp_path / 'a.pth', members)
        with pytest.raises(BackboneError, match=f'holds {count} members called data.pkl'):
            read_checkpoint(str(tmp_path / 'a.pth'))

    def test_two_directories(self, tmp_path):
        file = tmp_path / 'a.pth'
        seen, read = (of_a_dict(number(value)) for value in (1, 2))
        write_two_directories(file, seen, read)
        assert torch.load(file) == {'a': 2}
        with zipfile.ZipFile(file) as archive:
            assert archive.read('archive/data.pkl') == seen
        with pytest.raises(BackboneError, match='holds a directory elsewhere than it says'):
            read_checkpoint(str(file))

    def test_another_end_of_64_bits(self, tmp_path):
        """That torch looks for where the first one says, and Python right before it."""
        file = tmp_path / 'a.pth'
        torch.save({'model': {}}, file)
        content = bytearray(file.read_bytes())
        place = content.rindex(b'PK\x06\x07')
        content[place + 8] ^= 1
        file.write_bytes(content)
        with pytest.raises(BackboneError, match='holds two ends of its directory'):
            read_checkpoint(str(file))

    def test_checksums_that_were_left_out(self, tmp_path):
        """As `torch.serialization.set_crc32_options(False)` lets it write them."""
        before = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(False)
        try:
            torch.save({'model': {'a': torch.ones(2)}}, tmp_path / 'a.pth')
        finally:
            torch.serialization.set_crc32_options(before)
        assert read_checkpoint(str(tmp_path / 'a.pth'))['model']['a'].tolist() == [1, 1]


class TestTensors:
    def test_a_number_that_claims_to_be_a_terabyte(self, tmp_path):
        tensor = torch.zeros(1).expand(10**6, 10**6)
        torch.save({'model': {'a': tensor}}, tmp_path / 'a.pth')
        content = read_checkpoint(str(tmp_path / 'a.pth'))
        with pytest.raises(BackboneError, match=r'a claims 4,000,000,000,000 bytes, of which .* has 4;'):
            weights_of(content, 'a.pth')

    def test_a_constant_that_many_entries_share(self):
        weights = {'a': torch.zeros(1).expand(100, 100)}
        assert weights_of({'model': weights}, 'a.pth') == weights

    @pytest.mark.parametrize(
        'tensor',
        [torch.zeros(4, device='meta'), torch.zeros(4, 4).to_sparse()],
        ids=['meta', 'sparse'],
    )
    def test_no_arrays(self, tensor):
        with pytest.raises(BackboneError, match=r'a is no array of numbers'):
            weights_of({'model': {'a': tensor}}, 'a.pth')


@pytest.mark.parametrize(
    'content',
    [
        safetensors({}, length=2**63),
        safetensors({}, length=2**40),
        safetensors({'a': {'dtype': 'F32', 'shape': [2**40, 2**40], 'data_offsets': [0, 4]}}),
        safetensors({'a': {'dtype': 'F32', 'shape': [2**30], 'data_offsets': [0, 2**32]}}),
        safetensors({'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [2**62, 2**62 + 4]}}),
    ],
)
def test_safetensors(tmp_path, content):
    (tmp_path / 'a.safetensors').write_bytes(content)
    with pytest.raises(BackboneError, match='is truncated or not a checkpoint'):
        read_checkpoint(str(tmp_path / 'a.safetensors'))
