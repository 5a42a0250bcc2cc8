"""`--resume` when the latest checkpoint, or the file that names it, is damaged."""

import random
import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from evaluation.engine.starting_point import latest_checkpoint
from tests.faults.trainings import assert_same_end, checkpoints

KIND = 'Checkpoints'
TRIALS = {False: 3, True: 50}


def truncate(file, rng):
    """Truncate a file, as an interrupted copy does."""
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])


def zero(file, rng):
    """Overwrite blocks with zeros, as if they were never written before a power failure."""
    content = bytearray(file.read_bytes())
    start = rng.randrange(len(content) // 4096) * 4096
    while not any(content[start : start + 65536]):
        start = rng.randrange(len(content) // 4096) * 4096
    content[start : start + 65536] = bytes(len(content[start : start + 65536]))
    file.write_bytes(content)


def flip(file, rng):
    """Flip a bit in the values of a tensor; the bytes between tensors are padding."""
    with zipfile.ZipFile(file) as members:
        member = rng.choice([info for info in members.infolist() if '/data/' in info.filename])
    content = bytearray(file.read_bytes())
    name, extra = struct.unpack_from('<HH', content, member.header_offset + 26)
    start = member.header_offset + 30 + name + extra
    content[start + rng.randrange(member.file_size)] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


DAMAGES = {'truncated': truncate, 'with blocks of zeros': zero, 'with a flipped bit': flip}


@pytest.fixture
def work_dir(reference_of, tmp_path):
    """A copy of a finished training."""
    folder = tmp_path / 'run'
    shutil.copytree(reference_of('upernet'), folder)
    (folder / 'last_checkpoint').write_text(str(checkpoints(folder)[-1]))
    return folder


@pytest.mark.parametrize('damage', DAMAGES)
def test_previous_checkpoint_is_used(work_dir, capsys, full, tally, progress, damage):
    last, before = checkpoints(work_dir)[:-3:-1]
    sound, rng = last.read_bytes(), random.Random(damage)
    said = progress(f'latest checkpoint {damage}', TRIALS[full])
    for _ in range(TRIALS[full]):
        DAMAGES[damage](last, rng)
        assert last.read_bytes() != sound
        file, content = latest_checkpoint(str(work_dir))
        assert file == str(before)
        assert content['meta']['iter'] == int(before.stem.partition('_')[2])
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith('warning: ')
        assert str(last) in line
        assert line.endswith(f'resuming from the previous one, {before}')
        last.write_bytes(sound)
        said.advance()
    tally(f'latest checkpoint {damage}', TRIALS[full], TRIALS[full], 'nothing')


def test_two_damaged_checkpoints_are_skipped(work_dir, capsys):
    last, before, older = checkpoints(work_dir)[:-4:-1]
    last.write_bytes(b'')
    before.write_bytes(before.read_bytes()[:1000])
    assert latest_checkpoint(str(work_dir))[0] == str(older)
    warning = capsys.readouterr().err
    assert all(str(file) in warning for file in (last, before, older))


def test_later_checkpoints_of_another_training_are_ignored(work_dir):
    """Checkpoints beyond the last one of a restarted training belong to the earlier training."""
    first, second, third, *_ = checkpoints(work_dir)
    (work_dir / 'last_checkpoint').write_text(str(second))
    second.write_bytes(b'')
    assert third.is_file()
    assert latest_checkpoint(str(work_dir))[0] == str(first)


class TestLastCheckpoint:
    """The file that names the latest checkpoint."""

    @pytest.mark.parametrize(
        'content', [b'', b'\0' * 40, b'\n', b'\xff\xfe'], ids=['empty', 'zeros', 'newline', 'not UTF-8']
    )
    def test_empty_or_garbled(self, work_dir, capsys, tally, content):
        (work_dir / 'last_checkpoint').write_bytes(content)
        newest = checkpoints(work_dir)[-1]
        assert latest_checkpoint(str(work_dir))[0] == str(newest)
        assert f'last_checkpoint is empty; resuming from the newest intact checkpoint, {newest}' in (
            capsys.readouterr().err
        )
        tally('last_checkpoint empty, missing, or from a moved work dir', 1, 1, 'nothing')

    def test_missing(self, work_dir, capsys, tally):
        (work_dir / 'last_checkpoint').unlink()
        newest = checkpoints(work_dir)[-1]
        assert latest_checkpoint(str(work_dir))[0] == str(newest)
        assert f'has no last_checkpoint; resuming from the newest intact checkpoint, {newest}' in (
            capsys.readouterr().err
        )
        tally('last_checkpoint empty, missing, or from a moved work dir', 1, 1, 'nothing')

    def test_names_a_missing_checkpoint(self, work_dir, capsys, tally):
        last, before = checkpoints(work_dir)[:-3:-1]
        last.unlink()
        assert latest_checkpoint(str(work_dir))[0] == str(before)
        assert f'names {last}, which is missing; resuming from {before}' in capsys.readouterr().err
        tally('last_checkpoint empty, missing, or from a moved work dir', 1, 1, 'nothing')

    def test_work_dir_was_moved(self, work_dir, capsys, tally):
        """The named checkpoint is used even if it is not the newest."""
        named = checkpoints(work_dir)[-2]
        (work_dir / 'last_checkpoint').write_text(f'/elsewhere/{named.name}')
        assert latest_checkpoint(str(work_dir))[0] == str(named)
        assert f'names /elsewhere/{named.name}, which is missing; resuming from {named}' in (
            capsys.readouterr().err
        )
        tally('last_checkpoint empty, missing, or from a moved work dir', 1, 1, 'nothing')

    def test_newest_is_the_one_with_the_largest_number(self, work_dir):
        """`iter_9` is older than `iter_12`."""
        (work_dir / 'last_checkpoint').unlink()
        numbers = sorted(int(file.stem.partition('_')[2]) for file in checkpoints(work_dir))
        assert numbers[0] < 10 <= numbers[-1]
        assert latest_checkpoint(str(work_dir))[0].endswith(f'iter_{numbers[-1]}.pth')

    def test_no_checkpoint(self, tmp_path):
        assert latest_checkpoint(str(tmp_path)) is None
        (tmp_path / 'last_checkpoint').touch()
        assert latest_checkpoint(str(tmp_path)) is None
        assert latest_checkpoint(str(tmp_path / 'nowhere')) is None


class TestCommand:
    def test_resumes_from_the_previous_checkpoint(
        self, commands, trainings, reference_of, work_dir, tally
    ):
        """The logs and scalars of the previous run are truncated as well."""
        training = trainings['upernet']
        for file in [*work_dir.glob('*/vis_data/*.json'), *work_dir.glob('*/*.log')]:
            content = file.read_bytes()
            file.write_bytes(content[: len(content) // 2] + b'\xe2')
        shutil.rmtree(next(work_dir.glob(f'*/{training.end}')))
        last, before = checkpoints(work_dir)[:-3:-1]
        last.write_bytes(last.read_bytes()[:-1000])
        outcome = commands.succeed('train', *training.command(work_dir, '--resume'))
        (line,) = (line for line in outcome.stderr.splitlines() if line.startswith('warning:'))
        assert str(last) in line
        assert str(before) in line
        assert f'resumed epoch: 0, iter: {before.stem.partition("_")[2]}' in outcome.stdout
        assert Path(work_dir, 'last_checkpoint').read_text() == str(last)
        assert_same_end(work_dir, reference_of('upernet'), training.end)
        tally('latest checkpoint truncated', 1, 1, 'nothing', resumed=1)

    def test_all_are_damaged(self, commands, trainings, work_dir, refused):
        files = checkpoints(work_dir)
        for file in files[2:]:
            file.unlink()
        for file in files[:2]:
            file.write_bytes(file.read_bytes()[:-1000])
        left = sorted(work_dir.rglob('*'))
        outcome = commands('train', *trainings['upernet'].command(work_dir, '--resume'))
        given = '`--resume` when every checkpoint of the work dir is damaged'
        refused(KIND, given, outcome, *(f'{file} is truncated' for file in files[:2]))
        assert sorted(work_dir.rglob('*')) == left
