import os
import threading

import pytest
import torch

from backbones.ops.cpu import threads
from backbones.ops.cpu.threads import for_ranges


@pytest.fixture(params=['openmp', 'pool'], autouse=True)
def kind(request, monkeypatch):
    """Use three threads, from torch's OpenMP or from the pool."""
    if request.param == 'pool':
        monkeypatch.setattr(threads, 'openmp', lambda: None)
    elif threads.openmp() is None:
        pytest.skip("torch does not ship GNU's OpenMP")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize('count', [0, 1, 2, 3, 100])
def test_every_number_once(count):
    seen, lock = [], threading.Lock()

    def work(begin, end):
        with lock:
            seen.extend(range(begin, end))

    for_ranges(work, count)
    assert sorted(seen) == list(range(count))


def test_parts_run_at_the_same_time():
    barrier = threading.Barrier(3, timeout=60)
    for_ranges(lambda begin, end: barrier.wait(), 3)


def test_errors_are_raised_after_all_parts_have_finished():
    ended = []

    def work(begin, end):
        if begin == 2:
            raise ValueError('the last part')
        ended.append(begin)

    with pytest.raises(ValueError, match='the last part'):
        for_ranges(work, 3)
    assert sorted(ended) == [0, 1]


def test_works_in_a_forked_process_and_in_other_threads():
    for_ranges(lambda begin, end: None, 3)
    process = os.fork()
    if process == 0:
        seen = []
        for_ranges(lambda begin, end: seen.append(end - begin), 9)
        os._exit(seen != [3, 3, 3])
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0

    seen = []
    thread = threading.Thread(target=lambda: for_ranges(lambda a, b: seen.append(b - a), 9))
    thread.start()
    thread.join()
    assert sum(seen) == 9
