"""Files and URLs of checkpoints, and the weights in them."""

import functools
import http.server
import random
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file

from backbones import BackboneError
from backbones.checkpoint import WEIGHT_KEYS, read_checkpoint, state_dicts, weights_of
from tests.oversized import safetensors, write_claim, write_compressed

ONE, TWO = torch.tensor([1.0]), torch.tensor([2.0])


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if 'cut_off' in self.path:
            self.send_response(200)
            self.send_header('Content-Length', '100000')
            self.end_headers()
            self.wfile.write(b'x' * 100)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def _directly(monkeypatch):
    """Ignore any proxy set in the environment."""
    monkeypatch.setenv('no_proxy', '*')


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve `tmp_path / 'site'`; downloads go to `tmp_path / 'hub'`."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    (tmp_path / 'site').mkdir()
    handler = functools.partial(Handler, directory=tmp_path / 'site')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as running:
        running.requests = []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        running.address = f'http://127.0.0.1:{running.server_port}'
        yield running
        running.shutdown()


def save(file, **content):
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({'model': content}, file)
    return file


class TestAddresses:
    def test_is_downloaded_once(self, server, tmp_path):
        save(tmp_path / 'site/a.pth', w=ONE)
        for _ in range(2):
            assert read_checkpoint(f'{server.address}/a.pth') == {'model': {'w': ONE}}
        assert server.requests == ['/a.pth']

    def test_two_files_with_the_same_name(self, server, tmp_path):
        save(tmp_path / 'site/first/best.pth', w=ONE)
        save(tmp_path / 'site/second/best.pth', w=TWO)
        for folder, value in (('first', ONE), ('second', TWO)):
            found = read_checkpoint(f'{server.address}/{folder}/best.pth')
            assert torch.equal(found['model']['w'], value)

    def test_several_processes_share_one_download(self, server, tmp_path):
        save(tmp_path / 'site/a.pth', w=ONE)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(read_checkpoint, [f'{server.address}/a.pth'] * 4))
        assert all(torch.equal(content['model']['w'], ONE) for content in found)
        assert len(server.requests) == 1

    @pytest.mark.parametrize('name', ['nowhere.pth', 'cut_off.pth'])
    def test_failed_downloads_leave_nothing(self, server, tmp_path, name):
        with pytest.raises(BackboneError) as error:
            read_checkpoint(f'{server.address}/{name}')
        message = str(error.value)
        assert f'{server.address}/{name}' in message
        assert '\n' not in message
        assert not list((tmp_path / 'hub').rglob('*.pth'))

    def test_corrupt_download_can_be_repeated(self, server, tmp_path):
        save(tmp_path / 'site/a.pth', w=ONE).write_text('<html>come back later</html>')
        with pytest.raises(BackboneError) as error:
            read_checkpoint(f'{server.address}/a.pth')
        (kept,) = (tmp_path / 'hub').rglob('*.pth')
        assert f'delete {kept} to download it again' in str(error.value)

    @pytest.mark.parametrize('address', ['http://127.0.0.1:9/a.pth', 'https://a b/c.pth', 'http:///'])
    def test_unreachable(self, tmp_path, monkeypatch, address):
        monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
        with pytest.raises(BackboneError, match=r'cannot be downloaded .*check the address'):
            read_checkpoint(address)


class TestFiles:
    def test_safetensors_by_content(self, tmp_path):
        save_file({'w': ONE}, tmp_path / 'renamed.pth')
        assert torch.equal(read_checkpoint(str(tmp_path / 'renamed.pth'))['w'], ONE)

    def test_torch_by_content(self, tmp_path):
        file = save(tmp_path / 'renamed.safetensors', w=ONE)
        assert torch.equal(read_checkpoint(str(file))['model']['w'], ONE)

    def test_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv('HOME', str(tmp_path))
        save(tmp_path / 'a.pth', w=ONE)
        assert read_checkpoint('~/a.pth')

    @pytest.mark.parametrize(
        ('prepare', 'reason'),
        [
            (lambda file: None, 'is not a file'),
            (lambda file: file.mkdir(), 'is a folder'),
            (lambda file: file.touch(), 'is empty'),
            (lambda file: file.write_text('buy milk'), 'truncated or not a checkpoint'),
            (lambda file: file.write_bytes(random.Random(0).randbytes(5000)), 'truncated or not a'),
            (lambda file: file.write_bytes(b'.' * 9), 'truncated or not a checkpoint'),
            (lambda file: torch.save([ONE], file), 'contains no weights but an object of type list'),
        ],
        ids=['missing', 'folder', 'empty', 'text', 'noise', 'a pickle of nothing', 'list'],
    )
    def test_unreadable(self, tmp_path, prepare, reason):
        prepare(tmp_path / 'a.pth')
        with pytest.raises(BackboneError, match=f'a.pth .*{reason}'):
            read_checkpoint(str(tmp_path / 'a.pth'))

    @pytest.mark.parametrize('zipped', [True, False])
    def test_truncated_anywhere(self, tmp_path, zipped):
        file = tmp_path / 'a.pth'
        torch.save({'model': {'w': torch.zeros(3000)}}, file, _use_new_zipfile_serialization=zipped)
        whole = file.read_bytes()
        for length in range(1, len(whole), len(whole) // 15):
            file.write_bytes(whole[:length])
            with pytest.raises(BackboneError, match='truncated or not a checkpoint'):
                read_checkpoint(str(file))


class TestWeights:
    @pytest.mark.parametrize('key', WEIGHT_KEYS)
    def test_one_set(self, key):
        assert weights_of({key: {'w': ONE}, 'epoch': 3}, 'a.pth') == {'w': ONE}

    def test_plain(self):
        assert weights_of({'w': ONE, 'epoch': 3}, 'a.pth') == {'w': ONE}

    @pytest.mark.parametrize(
        ('wish', 'taken', 'value'), [(None, 'model', ONE), ('model_ema', 'model_ema', TWO)]
    )
    def test_the_choice_among_several_is_logged(self, monkeypatch, wish, taken, value):
        said = []
        monkeypatch.setattr(state_dicts, 'print_log', lambda text, logger: said.append(text))
        content = {'model_ema': {'w': TWO}, 'model': {'w': ONE}}
        assert weights_of(content, 'a.pth', wish) == {'w': value}
        assert said == [f'a.pth has weights under model, model_ema; using {taken}']

    def test_missing_key(self):
        with pytest.raises(BackboneError, match=r"no weights under 'ema'; it has model$"):
            weights_of({'model': {'w': ONE}}, 'a.pth', 'ema')

    def test_averages_next_to_their_decay_rate(self):
        assert weights_of({'ema': {'state_dict': {'w': ONE}, 'decay': 0.99}}, 'a.pth') == {'w': ONE}

    @pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.'])
    def test_wrappers_are_removed(self, prefix):
        assert weights_of({f'{prefix}stem.module.w': ONE}, 'a.pth') == {'stem.module.w': ONE}

    @pytest.mark.parametrize('content', [{}, {'model': {}}, {'state_dict': {'lr': 0.1}}, {3: ONE}])
    def test_none(self, content):
        with pytest.raises(BackboneError, match=r'a\.pth contains no weights'):
            weights_of(content, 'a.pth')


class TestSizes:
    """Zip files whose content takes more memory than their size suggests."""

    def test_a_member_that_inflates(self, tmp_path):
        write_compressed(tmp_path / 'a.pth', 100_000_000)
        assert (tmp_path / 'a.pth').stat().st_size < 200_000
        with pytest.raises(BackboneError, match=r'contains compressed members such as a/data/1, which'):
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
        with pytest.raises(BackboneError, match=r'contains members that claim 4,29\d,\d{3},\d{3} bytes'):
            read_checkpoint(str(tmp_path / 'a.pth'))

    def test_omitted_checksums(self, tmp_path):
        """`torch.serialization.set_crc32_options(False)` omits them."""
        before = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(False)
        try:
            torch.save({'model': {'a': torch.ones(2)}}, tmp_path / 'a.pth')
        finally:
            torch.serialization.set_crc32_options(before)
        assert read_checkpoint(str(tmp_path / 'a.pth'))['model']['a'].tolist() == [1, 1]


class TestTensors:
    def test_a_number_that_claims_to_have_terabytes(self, tmp_path):
        tensor = torch.zeros(1).expand(10**6, 10**6)
        torch.save({'model': {'a': tensor}}, tmp_path / 'a.pth')
        content = read_checkpoint(str(tmp_path / 'a.pth'))
        with pytest.raises(BackboneError, match=r'a claims 4,000,000,000,000 bytes, but .* has only 4;'):
            weights_of(content, 'a.pth')

    def test_a_constant_that_many_entries_share(self):
        weights = {'a': torch.zeros(1).expand(100, 100)}
        assert weights_of({'model': weights}, 'a.pth') == weights

    @pytest.mark.parametrize(
        'tensor',
        [torch.zeros(4, device='meta'), torch.zeros(4, 4).to_sparse()],
        ids=['meta', 'sparse'],
    )
    def test_tensors_that_are_not_dense(self, tensor):
        with pytest.raises(BackboneError, match=r'a is not a dense array of numbers'):
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
