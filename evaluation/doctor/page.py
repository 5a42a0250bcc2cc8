"""Facts and advice as one page of text."""

from collections.abc import Iterator, Sequence
from typing import Any

from evaluation.doctor.advice import ERROR, NOTE, WARNING, Advice, in_gib

WIDTH = 18
COLOURS = {ERROR: '\x1b[31m', WARNING: '\x1b[33m', NOTE: '\x1b[36m'}
PLAIN = '\x1b[0m'


def page(facts: dict[str, Any], advice: Sequence[Advice], coloured: bool) -> str:
    """One page: a line a fact, then the advice."""
    lines = [f'{name:{WIDTH}} {value}'.rstrip() for name, value in rows(facts)]
    lines.append('')
    for line in advice:
        level = f'{COLOURS[line.level]}{line.level}{PLAIN}' if coloured else line.level
        lines.append(f'{level}: {line.text}')
    if not any(line.level != NOTE for line in advice):
        lines.append('nothing is wrong')
    return '\n'.join(lines) + '\n'


def rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of each line."""
    system, cpu, memory = facts['system'], facts['cpu'], facts['memory']
    changed = ', with changes' if facts['git']['changed'] else ''
    yield 'suite', f'{facts["git"]["revision"] or "not a checkout of git"}{changed}'
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
        yield 'data', f'{root}: {layout or "not there"}'
    job = f', job {facts["slurm"]["job"]}' if facts['slurm']['job'] else ''
    yield 'Slurm', f'{facts["slurm"]["sbatch"] or "not here"}{job}'
    yield 'compiler', f'{system["compiler"] or "none"} (only torch.compile needs one)'


def package_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Versions, several in a line."""
    torch = facts['imports'].get('torch', {})
    versions = facts['packages']['versions']
    parts = [f'CUDA {torch.get("cuda") or "none"}', f'cuDNN {torch.get("cudnn") or "none"}']
    parts.append(f'NCCL {torch.get("nccl") or "none"}')
    yield 'torch', f'{torch.get("version") or versions.get("torch")}, {", ".join(parts)}'
    others = [f'{name} {version or "missing"}' for name, version in versions.items() if name != 'torch']
    for start in range(0, len(others), 4):
        yield '' if start else 'packages', ', '.join(others[start : start + 4])


def operator_rows(imports: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What operators run on."""
    yield 'mmcv operators', imports.get('mmcv operators', {}).get('operators', 'not importable')
    mixers = imports.get('mixers', {})
    for name in ('dcnv3', 'attention'):
        on_devices = [f'{kind} on {device}' for device, kind in mixers.get(name, {}).items()]
        yield name, ', '.join(on_devices) or 'not importable'
    opencv = imports.get('opencv', {})
    build = 'headless' if opencv.get('gui') == 'NONE' else 'with windows'
    yield 'OpenCV', f'{opencv["version"]}, {build}' if opencv else 'not importable'


def gpu_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A line a GPU that torch sees, or what the driver says."""
    gpus = facts['imports'].get('gpus', {}).get('gpus', [])
    for index, gpu in enumerate(gpus):
        capability = '.'.join(map(str, gpu['capability']))
        memory = f'{in_gib(gpu["memory"])}, free {in_gib(gpu["memory_free"])}'
        yield f'GPU {index}', f'{gpu["name"]}, {memory}, compute capability {capability}'
    if not gpus:
        yield 'GPUs', 'none that torch sees'
    for line in facts['driver']['gpus'] if not gpus else ():
        yield 'driver knows', line
    yield 'NVIDIA driver', facts['driver']['loaded'] or 'none'


def _size(size: int | None) -> str:
    return 'unknown' if size is None else in_gib(size)
