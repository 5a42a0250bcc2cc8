import pytest
import torch

from evaluation.utils import devices as memory
from evaluation.utils.devices import (
    OutOfMemoryError,
    is_out_of_memory,
    out_of_memory_raised,
    refused_beyond_free_memory,
)
from tests.evaluation.benchmark.toys import CPU

MEGABYTE = 2**20


class TestFailure:
    @pytest.mark.parametrize('batch', [1, 2**31])
    def test_real_failure_on_the_cpu(self, batch):
        with pytest.raises(OutOfMemoryError), out_of_memory_raised(CPU.device):
            torch.empty(batch, 3, 1_000_000, 1_000_000)

    @pytest.mark.parametrize('error', [MemoryError(), torch.OutOfMemoryError('CUDA out of memory')])
    def test_errors_of_python_and_gpus(self, error):
        assert is_out_of_memory(error)
        with pytest.raises(OutOfMemoryError), out_of_memory_raised(CPU.device):
            raise error

    @pytest.mark.parametrize('error', [RuntimeError('shapes differ'), ValueError('DefaultCPUAllocator')])
    def test_other_errors_pass_through(self, error):
        with pytest.raises(type(error), match=str(error)), out_of_memory_raised(CPU.device):
            raise error

    def test_memory_of_the_failed_pass_is_freed(self):
        released = []

        class Held:
            def __del__(self):
                released.append(True)

        def fail():
            held = Held()
            torch.empty(1, 3, 1_000_000, 1_000_000)
            return held

        with pytest.raises(OutOfMemoryError) as caught, out_of_memory_raised(CPU.device):
            fail()
        assert caught.value
        assert released == [True]


@pytest.mark.skipif(memory.free_memory() is None, reason='free memory is unknown')
class TestLimit:
    def test_free_memory_is_known(self):
        assert 10 * MEGABYTE < memory.free_memory() < 2**50

    def test_more_than_the_free_memory_is_refused(self, monkeypatch):
        monkeypatch.setattr(memory, 'free_memory', lambda: 100 * MEGABYTE)
        with refused_beyond_free_memory(CPU.device):
            with pytest.raises(OutOfMemoryError), out_of_memory_raised(CPU.device):
                torch.ones(300 * MEGABYTE, dtype=torch.uint8)
            torch.ones(50 * MEGABYTE, dtype=torch.uint8)
        torch.ones(300 * MEGABYTE, dtype=torch.uint8)

    def test_many_small_allocations_are_refused(self, monkeypatch):
        """Linux would grant each one, and kill the process when it uses them all."""
        monkeypatch.setattr(memory, 'free_memory', lambda: 200 * MEGABYTE)
        parts = []

        def take_all():
            with out_of_memory_raised(CPU.device):
                while True:
                    parts.append(torch.empty(40 * MEGABYTE, dtype=torch.uint8))

        with refused_beyond_free_memory(CPU.device), pytest.raises(OutOfMemoryError):
            take_all()
        # Memory that the process had freed before does not count toward the limit.
        assert 3 <= len(parts) <= 40

    def test_gpus_are_left_alone(self, monkeypatch):
        monkeypatch.setattr(memory, 'free_memory', lambda: MEGABYTE)
        with refused_beyond_free_memory(torch.device('cuda')):
            torch.ones(100 * MEGABYTE, dtype=torch.uint8)

    def test_control_groups_count(self, monkeypatch, tmp_path):
        monkeypatch.setattr(memory, '_CGROUPS', tmp_path)
        assert memory.free_memory() > 1000
        (tmp_path / 'memory.max').write_text('5000\n')
        (tmp_path / 'memory.current').write_text('4000\n')
        assert memory.free_memory() == 1000
        (tmp_path / 'memory.max').write_text('max\n')
        assert memory.free_memory() > 1000
