"""What is wrong or slow in an environment, and what to do: pure functions of its facts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evaluation.doctor.packages import as_numbers

ERROR, WARNING, NOTE = LEVELS = ('error', 'warning', 'note')
GIBIBYTE = 1 << 30
# A worker hands over batches of some ten megabytes, several of them ahead.
LEAST_SHARED = GIBIBYTE
# Each batch that a worker hands over opens a file, as do logs and images.
LEAST_OPEN_FILES = 4096
# A training leaves checkpoints of up to 1.5 GB.
LEAST_DISK = 20 * GIBIBYTE
LEAST_MEMORY = 8 * GIBIBYTE
# Of a GPU: what Triton compiles for, and what two images with the heads of Mask R-CNN take.
LEAST_CAPABILITY = (7, 0)
LEAST_GPU_MEMORY = 8 * GIBIBYTE
PYTHONS = ((3, 10), (3, 12))
# torchvision 0.21 belongs to torch 2.6, 0.22 to 2.7, and so on.
TORCHVISION_AHEAD = 15


@dataclass(frozen=True)
class Advice:
    """One line.

    Attributes:
        level: `error` where commands will not run, `warning` where they are slow or at risk, `note`.
        text: what is so, and what to do.
    """

    level: str
    text: str


def advise(facts: dict[str, Any]) -> list[Advice]:
    """All advice on an environment, errors first.

    Args:
        facts: as `facts.gather` returns them.
    """
    found = [line for advice in ALL for line in advice(facts)]
    return sorted(found, key=lambda line: LEVELS.index(line.level))


def on_python(facts: dict[str, Any]) -> Iterator[Advice]:
    """Versions that the suite is made for."""
    version = facts['system']['python']
    least, most = PYTHONS
    if not least <= as_numbers(version)[:2] <= most:
        text = f'Python {version}: the suite is for 3.{least[1]} to 3.{most[1]}; make .venv with one'
        yield Advice(ERROR, text)


def on_imports(facts: dict[str, Any]) -> Iterator[Advice]:
    """What cannot be imported."""
    for name, error in facts['errors'].items():
        yield Advice(ERROR, f'{name} does not work: {error}{_remedy(error)}')


def on_packages(facts: dict[str, Any]) -> Iterator[Advice]:
    """What is missing or of another version than the suite asks for."""
    for line in facts['packages']['unfit']:
        remedy = 'pip install -c constraints.txt -e .'
        yield Advice(ERROR if 'missing' in line else WARNING, f'{line}: {remedy}')


def on_torchvision(facts: dict[str, Any]) -> Iterator[Advice]:
    """Whether torch and torchvision are of one release."""
    # Those that were imported say their build too.
    torch, torchvision = (
        facts['imports'].get(name, {}).get('version') or facts['packages']['versions'].get(name)
        for name in ('torch', 'torchvision')
    )
    if torch and torchvision:
        major, minor = as_numbers(torch)[:2]
        expected = (0, minor + TORCHVISION_AHEAD)
        if major == 2 and as_numbers(torchvision)[:2] != expected:
            wanted = f'{expected[0]}.{expected[1]}'
            text = f'torch {torch} belongs to torchvision {wanted}, and {torchvision} is installed: '
            yield Advice(ERROR, text + f'pip install torchvision=={wanted}.*')
        builds = {version.partition('+')[2] for version in (torch, torchvision)}
        if len(builds) > 1 and '+' in torch + torchvision:
            text = f'torch {torch} and torchvision {torchvision} are of different builds; take both '
            yield Advice(WARNING, text + 'from one index')
    if not facts['imports'].get('torchvision', {}).get('operators', True):
        text = 'torchvision has no compiled operators (NMS, RoIAlign); install the one of your torch'
        yield Advice(ERROR, text)


def on_opencv(facts: dict[str, Any]) -> Iterator[Advice]:
    """Two packages write the same files; the one that was installed last counts."""
    gui = facts['imports'].get('opencv', {}).get('gui', 'NONE')
    versions = facts['packages']['versions']
    builds = [name for name in versions if name.startswith('opencv') and versions[name]]
    if gui != 'NONE' or 'opencv' in facts['errors']:
        remedy = 'pip install --force-reinstall --no-deps -c constraints.txt opencv-python-headless'
        text = f'OpenCV in use is not the headless build ({" and ".join(builds)} are installed), and '
        yield Advice(WARNING, f'{text}needs libGL: {remedy}')
    elif len({versions[name] for name in builds}) > 1:
        listed = ', '.join(f'{name} {versions[name]}' for name in builds)
        yield Advice(WARNING, f'builds of OpenCV of different versions share their files: {listed}')


def on_gpus(facts: dict[str, Any]) -> Iterator[Advice]:
    """Driver, torch's build and the GPUs."""
    torch = facts['imports'].get('torch')
    if torch is None:
        return
    gpus, driver = facts['imports'].get('gpus', {}).get('gpus', []), facts['driver']
    has_driver = bool(driver['loaded'] or driver['gpus'])
    if has_driver and not torch['cuda']:
        text = 'there is a driver of NVIDIA, but torch is a build for the CPU; install one for CUDA'
        yield Advice(WARNING, text)
    elif has_driver and not gpus:
        text = f'torch is built for CUDA {torch["cuda"]} and sees no GPU, though a driver is loaded'
        yield Advice(WARNING, f'{text} ({driver["loaded"]}): it may be too old, or GPUs be hidden')
    elif not gpus:
        yield Advice(NOTE, 'no GPU: everything runs on the CPU, which trains tiny models at most')
    for index, gpu in enumerate(gpus):
        name = f'GPU {index} ({gpu["name"]})'
        capability = tuple(gpu['capability'])
        if capability < LEAST_CAPABILITY:
            text = f'{name} has compute capability {capability[0]}.{capability[1]}: Triton needs 7.0'
            yield Advice(WARNING, f'{text}; set DENSE_MIXERS_CUDA=reference')
        if gpu['memory'] < LEAST_GPU_MEMORY:
            size = in_gib(gpu['memory'])
            yield Advice(WARNING, f'{name} has {size}; give a smaller train_dataloader.batch_size')


def on_mixers(facts: dict[str, Any]) -> Iterator[Advice]:
    """Operators that run on something slower than they could."""
    mixers = facts['imports'].get('mixers', {})
    for device, name in mixers.get('dcnv3', {}).items():
        if name == 'reference':
            yield Advice(WARNING, f'DCNv3 runs on plain PyTorch on {device}, which is slow')
    if mixers.get('attention', {}).get('cpu') == 'PyTorch':
        yield Advice(WARNING, 'attention on the CPU is slow: numba cannot be used; reinstall numba')


def on_memory(facts: dict[str, Any]) -> Iterator[Advice]:
    """Memory, and the part of it that data workers share."""
    memory = facts['memory']
    usable = min(filter(None, (memory['total'], memory['limit'])), default=None)
    if usable is not None and usable < LEAST_MEMORY:
        text = f'{in_gib(usable)} of memory: evaluations on COCO need more than 8 GiB; ask for more'
        yield Advice(WARNING, text)
    if memory['shared'] is not None and memory['shared'] < LEAST_SHARED:
        text = (
            f'/dev/shm has {in_gib(memory["shared"])}: data workers may die of a bus error; start the '
        )
        yield Advice(
            WARNING, text + 'container with --shm-size=8g, or give train_dataloader.num_workers=0'
        )


def on_limits(facts: dict[str, Any]) -> Iterator[Advice]:
    """Files that may be open at once."""
    soft, most = facts['limits']['open_files'], facts['limits']['open_files_at_most']
    if 0 <= soft < LEAST_OPEN_FILES:
        can_be_raised = most < 0 or most >= LEAST_OPEN_FILES
        remedy = f'ulimit -n {LEAST_OPEN_FILES}' if can_be_raised else 'ask who runs the machine'
        yield Advice(WARNING, f'{soft} files may be open at once, data workers may need more: {remedy}')


def on_cpu(facts: dict[str, Any]) -> Iterator[Advice]:
    """Cores that this process may use."""
    cpu = facts['cpu']
    allowed = min(filter(None, (cpu['cores_allowed'], cpu['cores_of_quota'])), default=None)
    if allowed is not None and cpu['cores'] and allowed < cpu['cores']:
        text = (
            f'{allowed:g} of {cpu["cores"]} cores may be used; set num_workers of the data loaders and'
        )
        yield Advice(NOTE, f'{text} OMP_NUM_THREADS by that')


def on_disk(facts: dict[str, Any]) -> Iterator[Advice]:
    """Where results would be written."""
    disk = facts['disk']
    if not disk['writable']:
        yield Advice(WARNING, f'{disk["folder"]} cannot be written; give --work-dir')
    if disk['free'] < LEAST_DISK:
        text = f'{in_gib(disk["free"])} free for {disk["folder"]}: a training leaves 20 GiB; make room'
        yield Advice(WARNING, f'{text}, or give --work-dir')


def on_data(facts: dict[str, Any]) -> Iterator[Advice]:
    """Data sets where the configs look for them."""
    for root, layout in facts['data'].items():
        if layout == 'unknown layout':
            yield Advice(WARNING, f'{root} has none of the known layouts; see docs/preparing_data.md')
    if not any(facts['data'].values()):
        text = 'no data set is where the configs look for it; give --data-root, see docs/'
        yield Advice(NOTE, f'{text}preparing_data.md')


def in_gib(size: int) -> str:
    """Bytes in gibibytes: `7.5 GiB`."""
    return f'{size / GIBIBYTE:.1f} GiB'


def _remedy(error: str) -> str:
    """What to do about an error of an import, where that is known."""
    known = {
        'libGL': '; pip install --force-reinstall --no-deps opencv-python-headless',
        'No module named': '; pip install -c constraints.txt -e .',
        'GLIBCXX': '; the C++ library is older than the package needs, take a newer environment',
    }
    return next((remedy for part, remedy in known.items() if part in error), '')


ALL = (
    on_python,
    on_imports,
    on_packages,
    on_torchvision,
    on_opencv,
    on_gpus,
    on_mixers,
    on_memory,
    on_limits,
    on_cpu,
    on_disk,
    on_data,
)
