"""Runs from patterns and options: configs, checkpoints, data roots, initial weights."""

from pathlib import Path

import pytest
from mmengine.config import Config

from evaluation.config.config_files import read_config
from evaluation.data.data_root import data_root_of
from evaluation.engine.pretrained_weights import pretrained_of
from evaluation.sweep.entries import find_configs, find_entries
from evaluation.sweep.runs import (
    evaluations,
    trainings,
)
from evaluation.utils.errors import UserError
from tests.commands import ROOT


@pytest.fixture
def configs(tmp_path):
    """Folder with three configs, two of which have the same name."""
    for name in ('a/swin.py', 'a/dcn.py', 'b/swin.py', 'a/notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


class TestConfigs:
    def test_patterns_and_files(self, configs):
        found = find_configs([f'{configs}/a/*', f'{configs}/a/swin.py'])
        assert found == [configs / 'a/dcn.py', configs / 'a/swin.py']

    def test_same_names_are_refused(self, configs):
        with pytest.raises(UserError, match=r'a/swin\.py and .*b/swin\.py have the same name'):
            find_configs([f'{configs}/*/*.py'])

    def test_every_seed(self, configs):
        runs = trainings(find_entries([configs / 'a/dcn.py', configs / 'a/swin.py'], []), [0, 2])
        assert [run.name for run in runs] == ['dcn/seed_0', 'dcn/seed_2', 'swin/seed_0', 'swin/seed_2']

    def test_checkpoints_to_test(self, configs):
        files = {
            'single.pth': None,
            'dcn/iter_8.pth': 'dcn',
            'swin/seed_0/iter_4.pth': 'swin/seed_0',
            'swin/seed_10/iter_6.pth': 'swin/seed_10',
        }
        for file, folder in files.items():
            (configs / file).parent.mkdir(parents=True, exist_ok=True)
            (configs / file).touch()
            if folder:
                (configs / folder / 'last_checkpoint').write_text(f'/elsewhere/{Path(file).name}')
        named = find_entries([Path(f'{name}.py') for name in ('dcn', 'single', 'swin')], [])
        found = [(run.name, run.checkpoint) for run in evaluations(named, configs, None)]
        assert found == [
            ('dcn/test', f'{configs}/dcn/iter_8.pth'),
            ('single/test', f'{configs}/single.pth'),
            ('swin/test_seed_0', f'{configs}/swin/seed_0/iter_4.pth'),
            ('swin/test_seed_10', f'{configs}/swin/seed_10/iter_6.pth'),
        ]
        assert [run.name for run in evaluations(named[2:], configs, [10])] == ['swin/test_seed_10']
        with pytest.raises(UserError, match='no checkpoint of swin/seed_3;'):
            evaluations(named[2:], configs, [0, 3])
        # A checkpoint without a seed does not count for any seed.
        with pytest.raises(UserError, match='no checkpoint of dcn/seed_1, single/seed_1, swin/seed_1;'):
            evaluations(named, configs, [1])
        with pytest.raises(UserError, match='give each seed once'):
            evaluations(named, configs, [10, 10])

    def test_folders_that_are_not_seeds(self, configs):
        for name in ('seed_1', 'seed_²', 'seed_01', 'seed_x'):
            (configs / 'swin' / name).mkdir(parents=True)
            (configs / 'swin' / name / 'epoch_2.pth').touch()
        found = evaluations(find_entries([Path('swin.py')], []), configs, None)
        assert [run.name for run in found] == ['swin/test_seed_1']


class TestDataRoot:
    @pytest.mark.parametrize(
        ('own', 'there', 'expected'),
        [
            ('data/coco', 'coco', 'coco'),
            ('data/ade/ADEChallengeData2016', 'ade/ADEChallengeData2016', 'ade/ADEChallengeData2016'),
            ('data/ade/ADEChallengeData2016', 'ADEChallengeData2016', 'ADEChallengeData2016'),
            ('data/coco', 'train2017', ''),
            ('/big/coco', 'coco', 'coco'),
        ],
    )
    def test_folder_with_several_data_sets(self, tmp_path, own, there, expected):
        (tmp_path / there).mkdir(parents=True)
        found = data_root_of(Config({'data_root': own}), str(tmp_path))
        assert Path(found) == tmp_path / expected

    def test_no_data_root(self):
        assert data_root_of(Config({'data_root': 'data/coco'}), None) is None


class TestPretrained:
    @pytest.mark.parametrize(
        ('wish', 'found'),
        [
            ('w/{mixer}_{scale}/{seed}.pth', 'w/dcn_tiny/3.pth'),
            ('w/{name}.pth', 'w/dcn_tiny.pth'),
            ('released', 'released'),
            (None, None),
        ],
    )
    def test_placeholders_of_the_run(self, wish, found):
        cfg = read_config(str(ROOT / 'configs/upernet_dcn_tiny.py'))
        assert pretrained_of(wish, cfg, 3) == found

    def test_placeholders_that_the_config_does_not_declare(self):
        cfg = read_config(str(ROOT / 'configs/upernet_r50.py'))
        assert pretrained_of('w/{name}.pth', cfg, 0) == 'w/original_resnet50.pth'
        for name in ('mixer', 'scale'):
            with pytest.raises(UserError, match=f'upernet_r50.py declares no {name}; add the line'):
                pretrained_of(f'w/{{{name}}}.pth', cfg, 0)
        with pytest.raises(UserError, match='unknown name in braces; use only name, mixer, scale, seed'):
            pretrained_of('w/{model}.pth', cfg, 0)
