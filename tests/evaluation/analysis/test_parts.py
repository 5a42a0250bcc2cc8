"""Work in parts: finished parts are not repeated, and sums are bitwise identical."""

import numpy as np
import pytest

from evaluation.analysis.parts import ITEMS_IN_A_PART, Parts, complete, key_of
from evaluation.utils.interruption import Interrupted

ITEMS = list(range(2 * ITEMS_IN_A_PART + 3))


def work(items):
    """Return numbers whose sum depends on the order of summation."""
    numbers = [np.random.default_rng(item).random((3, 4)).astype(np.float32) for item in items]
    return {'numbers': np.sum(numbers, 0), 'items': np.asarray(len(items))}


class TestParts:
    def test_sum_covers_all_items(self, tmp_path):
        parts = Parts(tmp_path / 'erf.partial' / 'key', len(ITEMS))
        complete(parts, ITEMS, work)
        total = parts.sum()
        assert total['items'] == len(ITEMS)
        np.testing.assert_allclose(total['numbers'], work(ITEMS)['numbers'], rtol=1e-6)
        parts.remove()
        assert not list(tmp_path.iterdir())

    def test_remove_keeps_parts_of_other_work(self, tmp_path):
        for key in ('one', 'other'):
            complete(Parts(tmp_path / 'partial' / key, 1), [0], work)
        Parts(tmp_path / 'partial' / 'one', 1).remove()
        assert Parts(tmp_path / 'partial' / 'other', 1).missing() == []

    def test_resumes_after_an_interruption(self, tmp_path):
        seen = []

        def interrupted(items):
            if len(seen) == 1:
                raise KeyboardInterrupt
            seen.append(items)
            return work(items)

        parts = Parts(tmp_path / 'here', len(ITEMS))
        with pytest.raises(Interrupted, match=r'1 of 3 parts are kept in .*here; to resume, run'):
            complete(parts, ITEMS, interrupted)
        seen.clear()
        complete(parts, ITEMS, lambda items: seen.append(items) or work(items))
        assert seen == [ITEMS[8:16], ITEMS[16:]]
        whole = Parts(tmp_path / 'whole', len(ITEMS))
        complete(whole, ITEMS, work)
        assert all(np.array_equal(whole.sum()[name], value) for name, value in parts.sum().items())

    def test_unfinished_part_is_not_kept(self, tmp_path, monkeypatch):
        parts = Parts(tmp_path / 'here', 1)

        def fails(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr('os.replace', fails)
        with pytest.raises(KeyboardInterrupt):
            parts.write(0, work([0]))
        assert parts.missing() == [0]
        assert not list(parts.folder.iterdir())


def test_key_distinguishes_facts():
    assert key_of({'a': 1, 'b': [2]}) == key_of({'b': [2], 'a': 1}) != key_of({'a': 1, 'b': [3]})
