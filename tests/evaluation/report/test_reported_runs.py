"""Names of evaluations, and folders of their runs."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.report.reported_runs import gather_runs, labels, run_folder
from evaluation.results.reading import load_results, read_result
from evaluation.tasks import Contestant
from tests.evaluation.report.matrix import document, write_run


@pytest.fixture(scope='module')
def result(tmp_path_factory):
    return read_result(write_run(tmp_path_factory.mktemp('run'), document()))


class TestLabels:
    def test_labels_contain_only_the_differences(self, result):
        scratch = dataclasses.replace(result, initialization='scratch')
        second_seed = dataclasses.replace(result, seed=1)
        other = dataclasses.replace(result, contestant=Contestant('dcn_tiny'))
        assert labels([result]) == ['swin_tiny']
        assert labels([result, scratch, other]) == [
            'swin_tiny pretrained',
            'swin_tiny scratch',
            'dcn_tiny',
        ]
        assert labels([result, second_seed]) == ['swin_tiny seed 0', 'swin_tiny seed 1']

    @given(
        st.lists(
            st.fixed_dictionaries(
                {
                    'contestant': st.sampled_from([Contestant('a'), Contestant('b')]),
                    'seed': st.sampled_from([None, 0, 1]),
                    'initialization': st.sampled_from([None, 'scratch', 'x.pth']),
                    'test_time_augmentation': st.booleans(),
                    'epoch': st.sampled_from([None, 1, 12]),
                    'images': st.sampled_from([8, 5000]),
                }
            ),
            max_size=12,
        )
    )
    def test_labels_are_unique(self, result, changes):
        results = [
            dataclasses.replace(result, path=Path(f'{number}/result.json'), **each)
            for number, each in enumerate(changes)
        ]
        found = labels(results)
        assert len(set(found)) == len(results)
        assert all(
            name.startswith(each.contestant.name) for name, each in zip(found, results, strict=True)
        )


@pytest.mark.parametrize(
    ('file', 'folder', 'started'),
    [
        ('run/20260101_120000/epoch_2/result.json', 'run', '20260101_120000'),
        ('run/20260101_120000/iter_160/result.json', 'run', '20260101_120000'),
        ('run/20260101_120000/result.json', 'run', '20260101_120000'),
        ('run/other/result.json', 'run/other', None),
        ('epoch_2/result.json', 'epoch_2', None),
    ],
)
def test_run_folder(file, folder, started):
    assert run_folder(Path(file)) == (Path(folder), started)


def test_order_of_tables_and_selection_of_latest_evaluations(tmp_path):
    write_run(tmp_path / 'a', document(mixer='dcn', epoch=1))
    write_run(tmp_path / 'b', document(mixer='dcn'))
    write_run(tmp_path / 'c', document(mixer='halo'))
    write_run(tmp_path / 'd', document('upernet', 'halo'))
    runs = gather_runs(load_results([tmp_path]))
    assert [(run.label, run.is_selected) for run in runs] == [
        ('dcn_tiny epoch 1/12', False),
        ('dcn_tiny epoch 12/12', True),
        ('halo_tiny', True),
        ('halo_tiny', True),
    ]
    assert [run.group for run in runs] == 3 * ['Mask R-CNN on COCO val2017'] + ['UperNet on ADE20K val']
    assert [run.folder.name for run in runs] == ['a', 'b', 'c', 'd']
