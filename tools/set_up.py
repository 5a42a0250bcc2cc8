"""Create a virtual environment with the tested set of packages; used by the Makefile.

    python3 tools/set_up.py .venv

Needs nothing but Python. Shows one line of progress; pip's own output goes to `setup.log` in the
environment, and its errors are shown if it fails.
"""

import re
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = (3, 10), (3, 12)
INSTALL = ['install', '-c', 'constraints.txt']
PACKAGES = [*INSTALL, '--progress-bar', 'off', '-e', '.[test]']
# The OpenMMLab packages ask for both builds of OpenCV, which overwrite each other's files. The headless
# one must be the last, since the other needs libGL at run time.
OPENCV = [*INSTALL, '--force-reinstall', '--no-deps', 'opencv-python-headless']
WIDTH = 30
DOWNLOAD = re.compile(r'\s*Downloading (?:\S+/)?(\S+?)-\d\S* \((.*)\)')


class ProgressLine:
    """One line of progress, rewritten on a terminal and repeated twice a minute elsewhere.

    Args:
        site_packages: folder of the environment in which packages appear as they are installed.
        expected: number of packages.
    """

    def __init__(self, site_packages, expected):
        self.site_packages, self.expected = site_packages, expected
        self.collected = 0
        self.doing = 'asking the package index'
        self.is_running = True
        self.started = time.monotonic()

    def read(self, line):
        """Take note of a line that pip has printed."""
        if line.startswith('Collecting '):
            self.collected += 1
        elif match := DOWNLOAD.match(line):
            self.doing = f'downloading {match[1]}, {match[2]}'
        elif line.startswith('Building wheel'):
            self.doing = 'building wheels'
        elif line.startswith('Installing collected packages'):
            self.doing = 'installing'

    def show(self):
        """Show the line until `is_running` is unset."""
        is_terminal = sys.stdout.isatty()
        while self.is_running:
            if is_terminal:
                print(f'\r\033[K{self.line()}', end='', flush=True)
            else:
                print(self.line(), flush=True)
            for _ in range(5 if is_terminal else 300):
                if self.is_running:
                    time.sleep(0.1)
        if is_terminal:
            print('\r\033[K', end='')

    def line(self):
        """Return the line: half of the bar is for downloads, half for the installation."""
        installed = len(list(self.site_packages.glob('*.dist-info')))
        share = min((self.collected + installed) / (2 * self.expected), 1)
        bar = '#' * round(WIDTH * share)
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        return f'[{bar:<{WIDTH}}] {minutes}:{seconds:02} {self.doing}'


def run_pip(python, arguments, progress, log):
    """Run pip; return its exit status."""
    command = [str(python), '-m', 'pip', '--disable-pip-version-check', *arguments]
    process = subprocess.Popen(
        command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    for line in process.stdout:
        log.write(line)
        progress.read(line)
    return process.wait()


def main():
    """Set up the environment that the command line names.

    Returns:
        Exit status: 2 for a Python that is not supported, pip's own if it fails.
    """
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        version = '.'.join(map(str, sys.version_info[:2]))
        print(
            f'error: {sys.executable} is Python {version}; 3.10 to 3.12 are supported: give one with '
            'PYTHON=python3.11',
            file=sys.stderr,
        )
        return 2
    environment = Path(sys.argv[1])
    print(f'Setting up {environment}: about 4 minutes and 6 GB', flush=True)
    python = environment / 'bin/python'
    if not python.exists():
        subprocess.run([sys.executable, '-m', 'venv', str(environment)], check=True)
    (site_packages,) = environment.glob('lib/python*/site-packages')
    pins = (ROOT / 'constraints.txt').read_text(encoding='utf-8').count('==')
    progress = ProgressLine(site_packages, pins)
    shown = Thread(target=progress.show)
    shown.start()
    log_file = environment / 'setup.log'
    try:
        with open(str(log_file), 'w', encoding='utf-8') as log:
            status = run_pip(python, PACKAGES, progress, log) or run_pip(python, OPENCV, progress, log)
    finally:
        progress.is_running = False
        shown.join()
    if status:
        lines = log_file.read_text(encoding='utf-8').splitlines()
        errors = [line for line in lines if line.startswith('ERROR')] or lines[-10:]
        print('\n'.join(errors), file=sys.stderr)
        print(f'error: pip failed; its whole output is in {log_file}', file=sys.stderr)
        return status
    print(f'{environment} is ready')
    return 0


if __name__ == '__main__':
    sys.exit(main())
