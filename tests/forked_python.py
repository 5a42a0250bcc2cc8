"""Stand in for a Python process: ask the server of `tests.commands` for a fork that runs the script.

    python -IS forked_python.py SOCKET -u SCRIPT ARGUMENTS...

It passes on its arguments, environment, folder, output and signals, and exits with the status of the
fork. The fork ends when this process does.
"""

import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    address, *words = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    link = socket.socket(socket.AF_UNIX)
    link.connect(address)
    script, *arguments = [word for word in words if word != '-u']
    request = {
        'script': script,
        'arguments': arguments,
        'folder': os.getcwd(),
        'environment': dict(os.environ),
    }
    socket.send_fds(link, [b'.'], [0, 1, 2])
    answers = link.makefile('rw')
    print(json.dumps(request), file=answers, flush=True)
    process = int(answers.readline())
    for number in FORWARDED:
        signal.signal(number, lambda number, _: os.kill(process, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    status = int(answers.readline())
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == '__main__':
    main()
