"""Shares of the training images: nested, independent of order, fixed in a file, at the same length."""

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from mmengine.config import ConfigDict
from mmengine.runner import Runner

from evaluation.config.contestants import open_config
from evaluation.config.protocols import ProtocolOptions
from evaluation.data.bad_images import images_skipped, leave_out_bad_images
from evaluation.data.data_root import set_data_root
from evaluation.data.fractions import (
    FILE,
    chosen_images,
    fraction_digest,
    image_ids,
    read_list,
    use_fraction,
)
from evaluation.data.image_loading import build_dataset
from evaluation.scenes.scene_datasets import write_datasets
from evaluation.scenes.scenes import SceneStyle
from tests.commands import ROOT
from tests.evaluation.data.class_folders import write_folders
from tests.refusals import refusal

IMAGES = 30
HALF = ProtocolOptions(fraction=0.5, fraction_seed=0)
PAGES = {
    'mask_rcnn': ('coco', 'train2017'),
    'upernet': ('ADEChallengeData2016', 'images/training'),
    'imagenet': ('imagenet', 'train'),
}

FIRST_OF_SEED_0 = [61, 798, 793, 988, 341]
FIRST_OF_SEED_1 = [952, 613, 856, 328, 133]

ids_of_images = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=60, unique=True)
shares = st.floats(0.001, 0.999)
seeds = st.integers(0, 2**31 - 1)


class TestChoice:
    @given(ids_of_images, seeds, shares, shares)
    def test_smaller_shares_are_part_of_larger_ones(self, ids, seed, one, other):
        small, large = (chosen_images(ids, share, seed) for share in sorted((one, other)))
        assert small == large[: len(small)]
        assert len(large) == round(max(one, other) * len(ids))

    @given(ids_of_images, seeds, shares, st.randoms())
    def test_order_of_images_does_not_matter(self, ids, seed, share, generator):
        shuffled = ids[:]
        generator.shuffle(shuffled)
        one, other = ([names[i] for i in chosen_images(names, share, seed)] for names in (ids, shuffled))
        assert one == other

    @given(ids_of_images, seeds)
    def test_other_images_do_not_change_the_order_of_those_that_stay(self, ids, seed):
        kept = ids[::2]
        of_kept = [kept[i] for i in chosen_images(kept, 1, seed)]
        of_all = [ids[i] for i in chosen_images(ids, 1, seed)]
        assert of_kept == [name for name in of_all if name in kept]

    def test_seeds_choose_evenly(self):
        """Each of 50 images is in about a fifth of 2,000 lists of ten."""
        ids = [str(number) for number in range(50)]
        counts = Counter(i for seed in range(2000) for i in chosen_images(ids, 0.2, seed))
        # Five standard deviations of a binomial count.
        assert all(abs(counts[i] - 400) < 5 * (2000 * 0.2 * 0.8) ** 0.5 for i in range(50))

    def test_lists_stay_the_same_in_all_versions(self):
        """Written down, so that an update cannot change published lists."""
        ids = [str(number) for number in range(1000)]
        assert chosen_images(ids, 0.005, 0) == FIRST_OF_SEED_0
        assert chosen_images(ids, 0.005, 1) == FIRST_OF_SEED_1


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_datasets(folder, SceneStyle(height=64, width=64), {'train': IMAGES, 'val': 2}, seed=0)
    write_folders(folder / 'imagenet', {'train': 8, 'val': 2})
    return folder


@pytest.fixture(params=PAGES)
def name(request):
    return request.param


def config_of(name, roots, options):
    page = ROOT / f'configs/_base_/demo_{name}.py'
    cfg, _ = open_config(str(page), 'pool_micro', {}, options)
    set_data_root(cfg, str(roots / PAGES[name][0]), ('train_dataloader',))
    return cfg


def build(cfg):
    return build_dataset(cfg.train_dataloader.dataset, cfg.default_scope)


class TestTraining:
    @pytest.fixture
    def whole(self, name, roots):
        return build(config_of(name, roots, ProtocolOptions()))

    def test_share_at_the_whole_length(self, name, roots, whole):
        cfg = config_of(name, roots, HALF)
        images = use_fraction(cfg)
        dataset = build(cfg)
        assert len(dataset) == len(whole) == images.available
        assert {*images.images} < {*image_ids(whole)}
        assert len({*images.images}) == len(images.images) == round(len(whole) / 2)
        counts = Counter(image_ids(dataset))
        assert {*counts} == {*images.images}
        # Each image is repeated as often as any other, up to one.
        assert max(counts.values()) - min(counts.values()) <= 1
        assert fraction_digest(cfg.train_dataloader.dataset) == images.sha256

    def test_same_number_of_iterations(self, name, roots):
        lengths = set()
        for options in (ProtocolOptions(), HALF, ProtocolOptions(fraction=0.1, fraction_seed=5)):
            cfg = config_of(name, roots, options)
            use_fraction(cfg)
            cfg.train_dataloader.pop('batch_sampler', None)
            cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
            dataset = build(cfg)
            loader = Runner.build_dataloader({**cfg.train_dataloader, 'dataset': dataset}, seed=0)
            lengths.add((len(loader), cfg.train_cfg.get('max_epochs'), cfg.train_cfg.get('max_iters')))
        assert len(lengths) == 1

    def test_samples_have_truth(self, name, roots):
        cfg = config_of(name, roots, HALF)
        use_fraction(cfg)
        dataset = build_dataset(
            cfg.train_dataloader.dataset, cfg.default_scope, cfg.train_dataloader.dataset.pipeline
        )
        sample = dataset[len(dataset) - 1]['data_samples']
        assert any(key in sample for key in ('gt_instances', 'gt_sem_seg', 'gt_label'))

    def test_inside_wrappers(self, name, roots):
        cfg = config_of(name, roots, HALF)
        inner = cfg.train_dataloader.dataset
        cfg.train_dataloader.dataset = ConfigDict(type='RepeatDataset', times=2, dataset=inner)
        images = use_fraction(cfg)
        assert cfg.train_dataloader.dataset.dataset.type == 'dataset_of_fraction'
        assert fraction_digest(cfg.train_dataloader.dataset) == images.sha256

    def test_bad_images_of_the_share_are_skipped(self, name, roots, tmp_path):
        copied = shutil.copytree(roots / PAGES[name][0], tmp_path / PAGES[name][0]).parent
        images = use_fraction(config_of(name, roots, HALF))
        whole = build(config_of(name, roots, ProtocolOptions()))
        paths = dict(zip(image_ids(whole), range(len(whole)), strict=True))
        files = [Path(whole.get_data_info(paths[each])['img_path']) for each in images.images]
        paths = {whole.get_data_info(index)['img_path'] for index in range(len(whole))}
        outside = Path(min(paths - {*map(str, files)}))
        for file in (files[0], outside):
            damaged = tmp_path / file.relative_to(roots)
            damaged.write_bytes(damaged.read_bytes()[:50])
        cfg = config_of(name, copied, HALF)
        leave_out_bad_images(cfg, ('train_dataloader',))
        assert use_fraction(cfg).images == images.images
        assert images_skipped(cfg.train_dataloader.dataset)['count'] == 1
        dataset = build(cfg)
        assert len(dataset) == len(whole)
        assert {*image_ids(dataset)} == {*images.images[1:]}

    def test_again_from_a_config_that_states_it(self, name, roots):
        cfg = config_of(name, roots, HALF)
        images = use_fraction(cfg)
        assert use_fraction(cfg) == images

    def test_nothing_without_a_fraction(self, name, roots):
        cfg = config_of(name, roots, ProtocolOptions('frozen'))
        before = cfg.to_dict()
        assert use_fraction(cfg) is None
        assert cfg.to_dict() == before


def test_order_of_annotations_does_not_matter(roots, tmp_path):
    shutil.copytree(roots / 'coco', tmp_path / 'coco')
    file = tmp_path / 'coco/annotations/instances_train2017.json'
    content = json.loads(file.read_text())
    random.Random(1).shuffle(content['images'])
    file.write_text(json.dumps(content))
    one, other = (use_fraction(config_of('mask_rcnn', root, HALF)) for root in (roots, tmp_path))
    assert one.images == other.images
    assert one.sha256 == other.sha256


class TestFile:
    @pytest.fixture
    def images(self, roots, tmp_path):
        images = use_fraction(config_of('mask_rcnn', roots, HALF))
        images.write(tmp_path)
        return images

    def test_is_read_as_written(self, images, tmp_path):
        assert read_list(tmp_path / FILE) == images

    def test_of_the_same_data(self, images, roots, tmp_path):
        assert use_fraction(config_of('mask_rcnn', roots, HALF), tmp_path / FILE) == images

    @pytest.mark.parametrize('change', ['images', 'data'])
    def test_of_other_data(self, images, roots, tmp_path, change):
        shutil.copytree(roots / 'coco', tmp_path / 'coco')
        file = tmp_path / 'coco/annotations/instances_train2017.json'
        content = json.loads(file.read_text())
        if change == 'images':
            content['images'] = content['images'][1:]
        else:
            content['info'] = {'description': 'other'}
        file.write_text(json.dumps(content))
        said = refusal(use_fraction, config_of('mask_rcnn', tmp_path, HALF), tmp_path / FILE)
        assert 'images of other data' in said
        assert images.sha256[:8] in said

    @pytest.mark.parametrize(
        ('text', 'said'),
        [
            ('', 'is not a list of training images'),
            ('[]', 'is not a list of training images'),
            ('{"images": []}', 'is not a list of training images'),
            ('{"sha256": "a", "images": [], "x": 1}', 'is not a list of training images'),
        ],
    )
    def test_anything_else(self, tmp_path, text, said):
        (tmp_path / 'a.json').write_text(text)
        assert said in refusal(read_list, tmp_path / 'a.json')

    def test_no_fraction(self, images, tmp_path):
        """Such a list would train on all images."""
        content = json.loads((tmp_path / FILE).read_text())
        content.update(fraction=None, fraction_seed=None)
        (tmp_path / FILE).write_text(json.dumps(content))
        assert 'states no fraction' in refusal(read_list, tmp_path / FILE)

    def test_edited(self, images, tmp_path):
        content = json.loads((tmp_path / FILE).read_text())
        content['images'].pop()
        (tmp_path / FILE).write_text(json.dumps(content))
        assert 'its images were changed' in refusal(read_list, tmp_path / FILE)


def test_less_than_one_image(roots):
    cfg = config_of('mask_rcnn', roots, ProtocolOptions(fraction=0.001, fraction_seed=0))
    assert 'is less than one; give at least 0.0' in refusal(use_fraction, cfg)


def test_several_data_sets(roots):
    cfg = config_of('mask_rcnn', roots, HALF)
    parts = [cfg.train_dataloader.dataset] * 2
    cfg.train_dataloader.dataset = ConfigDict(type='ConcatDataset', datasets=parts)
    assert 'joins 2' in refusal(use_fraction, cfg)


def test_data_that_change_after_the_start(roots):
    cfg = config_of('mask_rcnn', roots, HALF)
    use_fraction(cfg)
    cfg.train_dataloader.dataset.images_sha256 = '0' * 64
    assert 'the training images changed since the run was started' in refusal(build, cfg)
