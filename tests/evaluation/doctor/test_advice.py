"""Advice on constructed environments: none on a sound one, and one line on each problem."""

import copy

import pytest

from evaluation.doctor.advice import ERROR, GIBIBYTE, NOTE, WARNING, advise, page

SOUND = {
    'git': {'revision': 'f00', 'changed': False},
    'system': {
        'system': 'Linux',
        'python': '3.11.7',
        'executable': '/venv/bin/python',
        'compiler': None,
    },
    'cpu': {
        'name': 'EPYC',
        'cores': 64,
        'cores_allowed': 64,
        'cores_of_quota': None,
        'simd': ['avx2'],
        'threads_set': None,
    },
    'memory': {
        'total': 256 * GIBIBYTE,
        'available': 200 * GIBIBYTE,
        'limit': None,
        'shared': 128 * GIBIBYTE,
        'shared_free': 128 * GIBIBYTE,
    },
    'limits': {'open_files': 65536, 'open_files_at_most': 65536},
    'disk': {'folder': 'work_dirs', 'free': 900 * GIBIBYTE, 'writable': True},
    'driver': {'loaded': '570.86.10', 'gpus': ['NVIDIA H100, 81559 MiB, 570.86.10, 9.0']},
    'slurm': {'sbatch': None, 'job': None},
    'packages': {
        'versions': {
            'torch': '2.11.0',
            'torchvision': '0.26.0',
            'opencv-python': '4.12.0.88',
            'opencv-python-headless': '4.12.0.88',
        },
        'unfit': [],
    },
    'imports': {
        'torch': {'version': '2.11.0', 'cuda': '13.0', 'cudnn': 91900, 'nccl': '2.28.9'},
        'gpus': {
            'gpus': [
                {
                    'name': 'NVIDIA H100',
                    'capability': [9, 0],
                    'memory': 79 * GIBIBYTE,
                    'memory_free': 78 * GIBIBYTE,
                }
            ]
        },
        'torchvision': {'version': '0.26.0', 'operators': True},
        'opencv': {'version': '4.12.0', 'gui': 'NONE'},
        'mmcv operators': {'operators': 'compiled'},
        'mixers': {
            'dcnv3': {'cpu': 'numba', 'cuda': 'triton'},
            'attention': {'cpu': 'numba', 'cuda': 'PyTorch'},
        },
    },
    'errors': {},
    'data': {'data/coco': 'coco', 'data/imagenet': None},
}


def changed(place, value):
    """Return the sound facts with a different value at a place, whose keys are separated by slashes."""
    facts = copy.deepcopy(SOUND)
    *way, last = place.split('/')
    inner = facts
    for key in way:
        inner = inner[key]
    inner[last] = value
    return facts


def test_no_advice_on_a_sound_environment():
    assert advise(SOUND) == []
    assert page(SOUND, [], colored=False).endswith('\n\nno problems found\n')


OLD = [{'name': 'K80', 'capability': [3, 7], 'memory': 11 * GIBIBYTE, 'memory_free': GIBIBYTE}]
SMALL = [{'name': 'T400', 'capability': [7, 5], 'memory': 4 * GIBIBYTE, 'memory_free': GIBIBYTE}]
# Place, value, level, and part of the advice.
WRONG = [
    ('system/python', '3.9.2', ERROR, 'Python 3.9.2 is unsupported; create .venv with Python 3.10 to'),
    ('system/python', '3.13.0', ERROR, 'Python 3.13.0'),
    ('errors', {'mmdet': 'ImportError: x'}, ERROR, 'mmdet does not work: ImportError: x'),
    (
        'errors',
        {'mmseg': "ModuleNotFoundError: No module named 'mmseg'"},
        ERROR,
        'pip install -c constraints.txt -e .',
    ),
    ('packages/unfit', ['timm missing, but timm>=1.0 is required'], ERROR, 'timm missing'),
    ('packages/unfit', ['numpy 1.26, but numpy>=2 is required'], WARNING, 'numpy 1.26'),
    ('imports/torchvision/version', '0.25.1', ERROR, 'needs torchvision 0.26'),
    ('imports/torchvision/version', '0.26.0+cpu', WARNING, 'are different builds'),
    ('imports/torch/version', '2.7.1', ERROR, 'needs torchvision 0.22'),
    ('packages/versions/opencv-python', '4.10.0.84', WARNING, 'OpenCV builds with different versions'),
    ('imports/opencv/gui', 'QT5', WARNING, 'is not the headless build (opencv-python and opencv-p'),
    ('imports/torchvision/operators', False, ERROR, 'has no compiled operators'),
    ('imports/torch/cuda', None, WARNING, 'torch is a CPU build'),
    ('imports/gpus/gpus', [], WARNING, 'sees no GPU, although a driver is loaded (570.86.10)'),
    ('imports/gpus/gpus', OLD, WARNING, 'has compute capability 3.7, but Triton needs 7.0'),
    ('imports/gpus/gpus', SMALL, WARNING, 'GPU 0 (T400) has 4.0 GiB'),
    ('imports/mixers/dcnv3/cuda', 'reference', WARNING, 'DCNv3 uses plain PyTorch on cuda'),
    ('imports/mixers/attention/cpu', 'PyTorch', WARNING, 'attention on the CPU is slow'),
    ('memory/total', 4 * GIBIBYTE, WARNING, '4.0 GiB of memory'),
    ('memory/limit', 2 * GIBIBYTE, WARNING, '2.0 GiB of memory'),
    ('memory/shared', 64 << 20, WARNING, '/dev/shm has 0.1 GiB: data workers may crash'),
    ('limits/open_files', 1024, WARNING, 'the limit of 1024 open files'),
    ('cpu/cores_allowed', 4, NOTE, '4 of 64 cores may be used'),
    ('cpu/cores_of_quota', 1.5, NOTE, '1.5 of 64 cores may be used'),
    ('disk/free', GIBIBYTE, WARNING, '1.0 GiB free for work_dirs'),
    ('disk/writable', False, WARNING, 'work_dirs is not writable'),
    ('data/data/coco', None, NOTE, 'no data sets'),
]


@pytest.mark.parametrize(('place', 'value', 'level', 'text'), WRONG)
def test_one_line_on_each_problem(place, value, level, text):
    place = place.replace('data/data/coco', 'data') if place.startswith('data/') else place
    facts = changed(place, value if place != 'data' else {'data/coco': None})
    (line,) = advise(facts)
    assert line.level == level
    assert text in line.text
    assert '\n' not in line.text
    assert f'{level}: {line.text}\n' in page(facts, [line], colored=False)


def test_no_gpu_and_no_driver():
    facts = changed('imports/gpus/gpus', [])
    facts['driver'] = {'loaded': None, 'gpus': []}
    (line,) = advise(facts)
    assert (line.level, line.text[:6]) == (NOTE, 'no GPU')


def test_advice_depends_on_the_hard_limit():
    facts = changed('limits', {'open_files': 1024, 'open_files_at_most': 1024})
    assert 'ask your administrator' in advise(facts)[0].text
    facts = changed('limits', {'open_files': 1024, 'open_files_at_most': 1048576})
    assert 'ulimit -n 4096' in advise(facts)[0].text


def test_everything_is_broken():
    """If nothing can be imported, the page says so and shows all other facts."""
    facts = changed('imports', {})
    facts['errors'] = {'torch': 'ImportError: libcudart.so.13: cannot open shared object file'}
    advice = advise(facts)
    assert advice[0].level == ERROR
    text = page(facts, advice, colored=False)
    assert 'mmcv operators     not importable' in text
    assert 'error: torch does not work: ImportError: libcudart.so.13' in text
    assert '\x1b' not in text
    assert '\x1b[31merror\x1b[0m: torch' in page(facts, advice, colored=True)
