"""Advice on an environment from its facts, and a text page that shows both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.doctor.facts import as_numbers

ERROR, WARNING, NOTE = LEVELS = ('error', 'warning', 'note')
GIBIBYTE = 1 << 30
# Data workers put batches of about 10 MB in shared memory and prefetch several.
LEAST_SHARED = GIBIBYTE
# Batches from data workers, logs and images all use open files.
LEAST_OPEN_FILES = 4096
# Checkpoints of a training run are up to 1.5 GB each.
LEAST_DISK = 20 * GIBIBYTE
LEAST_MEMORY = 8 * GIBIBYTE
# Triton needs this compute capability, and Mask R-CNN with two images needs this much memory.
LEAST_CAPABILITY = (7, 0)
LEAST_GPU_MEMORY = 8 * GIBIBYTE
PYTHONS = ((3, 10), (3, 12))
# torchvision 0.21 matches torch 2.6, 0.22 matches 2.7, and so on.
TORCHVISION_AHEAD = 15
WIDTH = 18
COLORS = {ERROR: '\x1b[31m', WARNING: '\x1b[33m', NOTE: '\x1b[36m'}
PLAIN = '\x1b[0m'


@dataclass(frozen=True)
class Advice:
    """One line of advice.

    Attributes:
        level: `error` if commands will not run, `warning` if they are slow or may fail, or `note`.
        text: the problem, and what to do.
    """

    level: str
    text: str


def advise(facts: dict[str, Any]) -> list[Advice]:
    """Return all advice on an environment, errors first.

    Args:
        facts: facts from `gather`.
    """
    found = [line for advice in ALL for line in advice(facts)]
    return sorted(found, key=lambda line: LEVELS.index(line.level))


def on_python(facts: dict[str, Any]) -> Iterator[Advice]:
    """Check the version of Python."""
    version = facts['system']['python']
    least, most = PYTHONS
    if not least <= as_numbers(version)[:2] <= most:
        text = f'Python {version} is unsupported; create .venv with Python 3.{least[1]} to 3.{most[1]}'
        yield Advice(ERROR, text)


def on_imports(facts: dict[str, Any]) -> Iterator[Advice]:
    """Report packages that cannot be imported."""
    for name, error in facts['errors'].items():
        yield Advice(ERROR, f'{name} does not work: {error}{_remedy(error)}')


def on_packages(facts: dict[str, Any]) -> Iterator[Advice]:
    """Report packages that are missing or outside the required range."""
    for line in facts['packages']['unfit']:
        remedy = 'pip install -c constraints.txt -e .'
        yield Advice(ERROR if 'missing' in line else WARNING, f'{line}: {remedy}')


def on_torchvision(facts: dict[str, Any]) -> Iterator[Advice]:
    """Check that torch and torchvision belong to the same release."""
    # Imported packages report their build too.
    torch, torchvision = (
        facts['imports'].get(name, {}).get('version') or facts['packages']['versions'].get(name)
        for name in ('torch', 'torchvision')
    )
    if torch and torchvision:
        major, minor = as_numbers(torch)[:2]
        expected = (0, minor + TORCHVISION_AHEAD)
        if major == 2 and as_numbers(torchvision)[:2] != expected:
            wanted = f'{expected[0]}.{expected[1]}'
            text = f'torch {torch} needs torchvision {wanted}, but {torchvision} is installed: '
            yield Advice(ERROR, text + f'pip install torchvision=={wanted}.*')
        builds = {version.partition('+')[2] for version in (torch, torchvision)}
        if len(builds) > 1 and '+' in torch + torchvision:
            text = f'torch {torch} and torchvision {torchvision} are different builds; install both '
            yield Advice(WARNING, text + 'from the same index')
    if not facts['imports'].get('torchvision', {}).get('operators', True):
        text = 'torchvision has no compiled operators (NMS, RoIAlign); install the build for your torch'
        yield Advice(ERROR, text)


def on_opencv(facts: dict[str, Any]) -> Iterator[Advice]:
    """Check for several builds of OpenCV, which overwrite each other's files."""
    gui = facts['imports'].get('opencv', {}).get('gui', 'NONE')
    versions = facts['packages']['versions']
    builds = [name for name in versions if name.startswith('opencv') and versions[name]]
    if gui != 'NONE' or 'opencv' in facts['errors']:
        remedy = 'pip install --force-reinstall --no-deps -c constraints.txt opencv-python-headless'
        text = f'OpenCV is not the headless build ({" and ".join(builds)} are installed) and needs '
        yield Advice(WARNING, f'{text}libGL: {remedy}')
    elif len({versions[name] for name in builds}) > 1:
        listed = ', '.join(f'{name} {versions[name]}' for name in builds)
        yield Advice(WARNING, f'OpenCV builds with different versions overwrite each other: {listed}')


def on_gpus(facts: dict[str, Any]) -> Iterator[Advice]:
    """Check the driver, the build of torch, and the GPUs."""
    torch = facts['imports'].get('torch')
    if torch is None:
        return
    gpus, driver = facts['imports'].get('gpus', {}).get('gpus', []), facts['driver']
    has_driver = bool(driver['loaded'] or driver['gpus'])
    if has_driver and not torch['cuda']:
        text = 'an NVIDIA driver is installed, but torch is a CPU build; install a CUDA build'
        yield Advice(WARNING, text)
    elif has_driver and not gpus:
        text = f'torch is built for CUDA {torch["cuda"]} but sees no GPU, although a driver is loaded'
        yield Advice(WARNING, f'{text} ({driver["loaded"]}); it may be too old, or GPUs may be hidden')
    elif not gpus:
        yield Advice(NOTE, 'no GPU: everything runs on the CPU, which can train only tiny models')
    for index, gpu in enumerate(gpus):
        name = f'GPU {index} ({gpu["name"]})'
        capability = tuple(gpu['capability'])
        if capability < LEAST_CAPABILITY:
            text = f'{name} has compute capability {capability[0]}.{capability[1]}, but Triton needs 7.0'
            yield Advice(WARNING, f'{text}; set DENSE_MIXERS_CUDA=reference')
        if gpu['memory'] < LEAST_GPU_MEMORY:
            size = in_gib(gpu['memory'])
            yield Advice(WARNING, f'{name} has {size}; give a smaller train_dataloader.batch_size')


def on_mixers(facts: dict[str, Any]) -> Iterator[Advice]:
    """Report operators with a slow implementation."""
    mixers = facts['imports'].get('mixers', {})
    for device, name in mixers.get('dcnv3', {}).items():
        if name == 'reference':
            yield Advice(WARNING, f'DCNv3 uses plain PyTorch on {device}, which is slow')
    if mixers.get('attention', {}).get('cpu') == 'PyTorch':
        yield Advice(WARNING, 'attention on the CPU is slow: numba does not work; reinstall numba')


def on_memory(facts: dict[str, Any]) -> Iterator[Advice]:
    """Check the memory, and the shared memory for data workers."""
    memory = facts['memory']
    usable = min(filter(None, (memory['total'], memory['limit'])), default=None)
    if usable is not None and usable < LEAST_MEMORY:
        text = f'{in_gib(usable)} of memory: evaluation on COCO needs more than 8 GiB; request more'
        yield Advice(WARNING, text)
    if memory['shared'] is not None and memory['shared'] < LEAST_SHARED:
        text = (
            f'/dev/shm has {in_gib(memory["shared"])}: data workers may crash with a bus error; start '
        )
        yield Advice(
            WARNING, text + 'the container with --shm-size=8g, or set train_dataloader.num_workers=0'
        )


def on_limits(facts: dict[str, Any]) -> Iterator[Advice]:
    """Check the limit of open files."""
    soft, most = facts['limits']['open_files'], facts['limits']['open_files_at_most']
    if 0 <= soft < LEAST_OPEN_FILES:
        can_be_raised = most < 0 or most >= LEAST_OPEN_FILES
        remedy = f'ulimit -n {LEAST_OPEN_FILES}' if can_be_raised else 'ask your administrator'
        yield Advice(
            WARNING, f'the limit of {soft} open files may be too low for data workers: {remedy}'
        )


def on_cpu(facts: dict[str, Any]) -> Iterator[Advice]:
    """Report cores that this process may not use."""
    cpu = facts['cpu']
    allowed = min(filter(None, (cpu['cores_allowed'], cpu['cores_of_quota'])), default=None)
    if allowed is not None and cpu['cores'] and allowed < cpu['cores']:
        text = (
            f'only {allowed:g} of {cpu["cores"]} cores may be used; set num_workers of the data loaders '
        )
        yield Advice(NOTE, f'{text}and OMP_NUM_THREADS accordingly')


def on_disk(facts: dict[str, Any]) -> Iterator[Advice]:
    """Check the folder for results."""
    disk = facts['disk']
    if not disk['writable']:
        yield Advice(WARNING, f'{disk["folder"]} is not writable; give --work-dir')
    if disk['free'] < LEAST_DISK:
        text = (
            f'{in_gib(disk["free"])} free for {disk["folder"]}: a training run needs 20 GiB; free some'
        )
        yield Advice(WARNING, f'{text} space, or give --work-dir')


def on_data(facts: dict[str, Any]) -> Iterator[Advice]:
    """Check the data sets, by default those in the folders that configs use."""
    for root, layout in facts['data'].items():
        if layout == 'unknown layout':
            yield Advice(WARNING, f'{root} has an unknown layout; see docs/preparing_data.md')
    if not any(facts['data'].values()):
        text = 'no data sets in the folders that configs use; give --data-root, see docs/'
        yield Advice(NOTE, f'{text}preparing_data.md')


def in_gib(size: int) -> str:
    """Format bytes in gibibytes: `7.5 GiB`."""
    return f'{size / GIBIBYTE:.1f} GiB'


def _remedy(error: str) -> str:
    """Return a known remedy for an import error."""
    known = {
        'libGL': '; pip install --force-reinstall --no-deps opencv-python-headless',
        'No module named': '; pip install -c constraints.txt -e .',
        'GLIBCXX': '; the C++ library is too old for the package, use a newer environment',
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


def page(facts: dict[str, Any], advice: Sequence[Advice], colored: bool) -> str:
    """Render one page: a line for each fact, then the advice."""
    lines = [f'{name:{WIDTH}} {value}'.rstrip() for name, value in rows(facts)]
    lines.append('')
    for line in advice:
        level = f'{COLORS[line.level]}{line.level}{PLAIN}' if colored else line.level
        lines.append(f'{level}: {line.text}')
    if not any(line.level != NOTE for line in advice):
        lines.append('no problems found')
    return '\n'.join(lines) + '\n'


def rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and value of each line."""
    system, cpu, memory = facts['system'], facts['cpu'], facts['memory']
    changed = ', with changes' if facts['git']['changed'] else ''
    yield 'suite', f'{facts["git"]["revision"] or "not a Git checkout"}{changed}'
    yield 'system', system['system']
    yield 'Python', f'{system["python"]}, {system["executable"]}'
    yield from package_rows(facts)
    yield from operator_rows(facts['imports'])
    yield from gpu_rows(facts)
    yield 'CPU', f'{cpu["name"]}, {", ".join(cpu["simd"]) or "SIMD unknown"}'
    allowed = cpu['cores_allowed'] if cpu['cores_of_quota'] is None else f'{cpu["cores_of_quota"]:g}'
    yield (
        'cores',
        f'{cpu["cores"]}, allowed {allowed}; OMP_NUM_THREADS {cpu["threads_set"] or "not set"}',
    )
    limit = f', limit {in_gib(memory["limit"])}' if memory['limit'] else ''
    yield 'memory', f'{_size(memory["total"])}, free {_size(memory["available"])}{limit}'
    yield '/dev/shm', f'{_size(memory["shared"])}, free {_size(memory["shared_free"])}'
    yield (
        'open files',
        f'{facts["limits"]["open_files"]}, at most {facts["limits"]["open_files_at_most"]}',
    )
    yield 'free disk', f'{in_gib(facts["disk"]["free"])} for {facts["disk"]["folder"]}'
    for root, layout in facts['data'].items():
        yield 'data', f'{root}: {layout or "missing"}'
    job = f', job {facts["slurm"]["job"]}' if facts['slurm']['job'] else ''
    yield 'Slurm', f'{facts["slurm"]["sbatch"] or "none"}{job}'
    yield 'compiler', f'{system["compiler"] or "none"} (only torch.compile needs one)'


def package_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield package versions, several per line."""
    torch = facts['imports'].get('torch', {})
    versions = facts['packages']['versions']
    parts = [f'CUDA {torch.get("cuda") or "none"}', f'cuDNN {torch.get("cudnn") or "none"}']
    parts.append(f'NCCL {torch.get("nccl") or "none"}')
    yield 'torch', f'{torch.get("version") or versions.get("torch")}, {", ".join(parts)}'
    others = [f'{name} {version or "missing"}' for name, version in versions.items() if name != 'torch']
    for start in range(0, len(others), 4):
        yield '' if start else 'packages', ', '.join(others[start : start + 4])


def operator_rows(imports: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield implementations of operators."""
    yield 'mmcv operators', imports.get('mmcv operators', {}).get('operators', 'not importable')
    mixers = imports.get('mixers', {})
    for name in ('dcnv3', 'attention'):
        on_devices = [f'{kind} on {device}' for device, kind in mixers.get(name, {}).items()]
        yield name, ', '.join(on_devices) or 'not importable'
    opencv = imports.get('opencv', {})
    build = 'headless' if opencv.get('gui') == 'NONE' else 'with windows'
    yield 'OpenCV', f'{opencv["version"]}, {build}' if opencv else 'not importable'


def gpu_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a line for each GPU that torch sees, or, without any, that the driver reports."""
    gpus = facts['imports'].get('gpus', {}).get('gpus', [])
    for index, gpu in enumerate(gpus):
        capability = '.'.join(map(str, gpu['capability']))
        memory = f'{in_gib(gpu["memory"])}, free {in_gib(gpu["memory_free"])}'
        yield f'GPU {index}', f'{gpu["name"]}, {memory}, compute capability {capability}'
    if not gpus:
        yield 'GPUs', 'none that torch sees'
    for line in facts['driver']['gpus'] if not gpus else ():
        yield 'driver reports', line
    yield 'NVIDIA driver', facts['driver']['loaded'] or 'none'


def _size(size: int | None) -> str:
    return 'unknown' if size is None else in_gib(size)
