import contextlib
import os
import signal
import subprocess
import sys

import pytest

from evaluation.utils import errors
from evaluation.utils.errors import CommandLine, UserError, command, did_you_mean, warn
from evaluation.utils.interruption import stopping_signals

ENVIRONMENT = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'SLURM_PROCID', 'SLURM_NTASKS')


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Remove the launcher's variables, and do not wait for a first process that does not exist."""
    waited = []
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(errors.time, 'sleep', waited.append)
    handlers = {number: signal.getsignal(number) for number in (*signals(), signal.SIGCHLD)}
    yield waited
    for number, handler in handlers.items():
        signal.signal(number, handler)


def signals():
    return signal.SIGINT, signal.SIGTERM


def ending(main):
    """Return the exit status of a command."""
    with pytest.raises(SystemExit) as end:
        command(main)()
    return end.value.code


class TestCommand:
    def test_bad_input(self, capsys):
        def main():
            raise UserError('no such file')

        assert ending(main) == 2
        assert capsys.readouterr() == ('', 'error: no such file\n')

    def test_bug_keeps_its_traceback(self):
        def main():
            raise RuntimeError('broken')

        with pytest.raises(RuntimeError, match='broken'):
            command(main)()

    def test_success(self, capsys):
        assert command(lambda: None)() is None
        assert capsys.readouterr() == ('', '')

    @pytest.mark.parametrize('number', signals())
    def test_interrupted(self, capsys, number):
        def main():
            os.kill(os.getpid(), number)
            raise AssertionError('it went on')

        assert ending(main) == 128 + number
        assert capsys.readouterr().err == 'interrupted\n'

    @pytest.mark.parametrize('other', [ImportError, UserError, SystemExit])
    def test_interrupted_when_a_library_raises_a_different_error(self, capsys, other):
        def main():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise other('cannot import') from None

        assert ending(main) == 130
        assert capsys.readouterr().err == 'interrupted\n'

    def test_interrupted_when_a_library_loses_the_exception(self, capsys):
        def main():
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)

        assert ending(main) == 143
        assert capsys.readouterr().err == 'interrupted\n'

    def test_keyboard_interrupt_without_a_signal_is_a_bug(self):
        def main():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            command(main)()


class TestProcesses:
    @pytest.mark.parametrize(
        ('variables', 'said', 'waits'),
        [
            ({'RANK': '0', 'LOCAL_RANK': '0'}, 'error: bad', 0),
            ({'RANK': '1', 'LOCAL_RANK': '1', 'WORLD_SIZE': '2'}, 'error: process 1 of 2: bad', 1),
            # The first process on a machine has its own terminal.
            ({'RANK': '8', 'LOCAL_RANK': '0', 'WORLD_SIZE': '16'}, 'error: bad', 0),
            ({'SLURM_PROCID': '3', 'SLURM_NTASKS': '8'}, 'error: process 3 of 8: bad', 1),
        ],
    )
    def test_first_process_reports_the_error(
        self, capsys, monkeypatch, environment, variables, said, waits
    ):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

        def main():
            raise UserError('bad')

        assert ending(main) == 2
        assert capsys.readouterr().err == f'{said}\n'
        assert len(environment) == waits

    @pytest.mark.parametrize(('rank', 'said'), [('0', 'interrupted\n'), ('1', '')])
    def test_only_the_first_process_prints_interrupted(self, capsys, monkeypatch, rank, said):
        monkeypatch.setenv('LOCAL_RANK', rank)
        assert ending(lambda: os.kill(os.getpid(), signal.SIGINT)) == 130
        assert capsys.readouterr().err == said

    @pytest.mark.parametrize(('rank', 'said'), [('0', 'warning: odd\n'), ('1', '')])
    def test_warning(self, capsys, monkeypatch, rank, said):
        monkeypatch.setenv('RANK', rank)
        warn('odd')
        assert capsys.readouterr().err == said


class TestSignals:
    def test_handlers_are_restored(self):
        before = [signal.getsignal(number) for number in signals()]
        with stopping_signals() as received:
            assert [signal.getsignal(number) for number in signals()] != before
        assert [signal.getsignal(number) for number in signals()] == before
        assert received.signal is None

    def test_ignored_signals_stay_ignored(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with stopping_signals() as received:
            os.kill(os.getpid(), signal.SIGINT)
        assert received.signal is None

    def test_child_process_ends_silently(self):
        program = (
            'import os, signal, time\n'
            'from evaluation.utils.interruption import stopping_signals\n'
            'with stopping_signals():\n'
            '    child = os.fork()\n'
            '    if not child:\n'
            '        time.sleep(60)\n'
            '    time.sleep(0.2)\n'
            '    os.kill(child, signal.SIGINT)\n'
            '    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n'
        )
        done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ('130\n', '')

    def test_second_signal_ends_the_process(self):
        program = (
            'import os, signal, time\n'
            'from evaluation.utils.interruption import stopping_signals\n'
            'with stopping_signals():\n'
            '    try:\n'
            '        os.kill(os.getpid(), signal.SIGINT)\n'
            '    except KeyboardInterrupt:\n'
            '        os.kill(os.getpid(), signal.SIGINT)\n'
            '        time.sleep(60)\n'
        )
        done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (-signal.SIGINT, '')


class TestCommandLine:
    def test_raises_user_errors(self):
        parser = CommandLine('Does something.')
        parser.add_argument('--seed', type=int)
        with pytest.raises(UserError, match=r'unrecognized arguments: --sed 3; --help lists'):
            parser.parse_args(['--sed', '3'])

    def test_nearest_name(self):
        assert did_you_mean('LR', ['lr', 'betas']) == '; did you mean lr?'
        assert did_you_mean('adamw', ['Adam', 'AdamW']) == '; did you mean AdamW?'
        assert did_you_mean('weights', ['lr', 'betas']) == ''
