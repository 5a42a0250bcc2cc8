"""A Slurm cluster on this machine for tests; its daemons use only a temporary folder.

It needs root and Debian's packages `slurm-wlm` and `munge`; otherwise, `why_not` gives a reason to skip.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PATH = f'{os.environ.get("PATH", "")}:/usr/sbin'
PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun', 'squeue', 'sinfo', 'scontrol', 'scancel')
SECONDS = 60
# Two virtual machines with enough cores for the tests; one also pretends to have GPUs.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
KillWait=20
MinJobAge=20
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={first_port} CPUs=4 Gres=gpu:2 State=UNKNOWN
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={second_port} CPUs=4 State=UNKNOWN
PartitionName=gpu Nodes=one MaxTime=INFINITE State=UP
PartitionName=cpu Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Return why no cluster can be started here; None if one can."""
    if os.geteuid() != 0:
        return 'starting a Slurm cluster needs root'
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    return f'{missing[0]} is not installed (Debian: slurm-wlm, munge)' if missing else None


@dataclass
class Cluster:
    """A running cluster.

    Attributes:
        folder: folder of the files of the cluster.
        environment: environment variables with which commands find the cluster.
    """

    folder: Path
    environment: dict[str, str]
    daemons: list[subprocess.Popen] = field(default_factory=list)

    def run(self, *command: object) -> str:
        """Run a Slurm command and return its output."""
        done = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start a cluster of two virtual machines, `one` and `two`, and stop it at the end."""
    for name in ('munge', 'state'):
        (folder / name).mkdir(mode=0o755)
    folder.chmod(0o755)
    key = folder / 'munge/key'
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    configuration = folder / 'slurm.conf'
    controller, first, second = free_ports(3)
    configuration.write_text(
        CONFIG.format(
            folder=folder,
            host=socket.gethostname().partition('.')[0],
            controller_port=controller,
            first_port=first,
            second_port=second,
        )
    )
    # Devices that exist everywhere stand in for GPUs.
    devices = ('/dev/null', '/dev/zero')
    lines = [f'NodeName=one Name=gpu File={device}\n' for device in devices]
    (folder / 'gres.conf').write_text(''.join(lines))
    started = Cluster(folder, {'SLURM_CONF': str(configuration), 'PATH': PATH})
    try:
        start(started, 'munged', '--foreground', '--force', *munge_files(folder))
        wait_until(lambda: (folder / 'munge/socket').exists(), 'munged did not start')
        start(started, 'slurmctld', '-D', '-i')
        for node in ('one', 'two'):
            start(started, 'slurmd', '-D', '-N', node)
        wait_until(lambda: are_idle(started), 'the machines did not become idle')
        yield started
    finally:
        with contextlib.suppress(AssertionError, OSError, subprocess.SubprocessError):
            started.run('scancel', '--full', '--user=root', '--signal=KILL')
        for daemon in reversed(started.daemons):
            daemon.terminate()
        for daemon in reversed(started.daemons):
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def munge_files(folder: Path) -> list[str]:
    """Return options that keep all files of munge in the folder."""
    kinds = ('key', 'pid', 'log', 'seed')
    files = [f'--{kind}-file={folder / "munge" / kind}' for kind in kinds]
    return [*files, f'--socket={folder / "munge/socket"}']


def start(to: Cluster, *command: str) -> None:
    """Start a daemon that writes its output to a file named after it."""
    with open(to.folder / f'{command[0]}-{len(to.daemons)}.out', 'wb') as output:
        daemon = subprocess.Popen(
            [shutil.which(command[0], path=PATH), *command[1:]],
            env={**os.environ, **to.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    to.daemons.append(daemon)


def are_idle(of: Cluster) -> bool:
    """Return whether both machines are idle."""
    try:
        said = of.run('sinfo', '--noheader', '--Node', '--format=%N %T', '--partition=cpu')
    except AssertionError:
        return False
    return said == 'one idle\ntwo idle\n'


def wait_until(condition, otherwise: str) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: the condition does not hold in time.
    """
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(otherwise)
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Return unused ports."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(('127.0.0.1', 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
