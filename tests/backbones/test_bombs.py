"""Checkpoints that would exhaust memory, time or the stack are refused, in no time and in one line."""

import resource
import zipfile

import pytest
import torch

from backbones import BackboneError
from backbones.checkpoint import read_checkpoint, weights_of
from backbones.checkpoint.bombs import DEEPEST, MOST_ENTRIES
from tests.bombs import PICKLES, safetensors, write_claim, write_compressed, write_pickle

zipped_or_not = pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
SAYS = {
    'lists in lists': r'holds containers nested 100,00\d deep',
    'a key of tuples in tuples': r'holds containers nested 100,00\d deep',
    'lists that repeat': r'holds .*e\+\d\d entries, by repetition',
    'lists that repeat, filled later': r'holds .*e\+\d\d entries, by repetition',
    'a bytearray of a terabyte': r'holds a bytearray, which can be of any size',
    'a bytearray of a gigabyte': r'holds a bytearray, which can be of any size',
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
