"""Protocols and fractions in configs: what they change in every recipe, and what identifies them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, PARAM_SCHEDULERS, DefaultScope
from torch import nn

from evaluation.config.config_files import read_config
from evaluation.config.contestants import open_config
from evaluation.config.digests import config_sha256
from evaluation.config.protocols import ProtocolOptions, use_protocol
from evaluation.config.recipe import recipe_of
from evaluation.config.run_settings import check_same_experiment, differences
from evaluation.config.schedule_length import length_warnings
from evaluation.config.whole_config import check_config
from evaluation.engine.protocol_options import (
    add_protocol_options,
    check_stated,
    options_of,
    stated_by_checkpoint,
)
from evaluation.tasks.semantic_segmentation import SEMANTIC_SEGMENTATION
from evaluation.utils.errors import CommandLine
from tests.commands import ROOT
from tests.refusals import refusal

NETWORK = 'tests.networks:Pyramid'
FROZEN, LINEAR = ProtocolOptions('frozen'), ProtocolOptions('linear')
TENTH = ProtocolOptions(fraction=0.1, fraction_seed=3)
LOADERS = ('train_dataloader', 'val_dataloader')


def recipes():
    """Return all pages with a recipe."""
    pages = sorted((ROOT / 'configs/_base_').glob('*.py'))
    return {page.stem: page for page in pages if 'recipe' in read_config(str(page))}


RECIPES = recipes()


def is_of_segmentation(page):
    return recipe_of(read_config(str(page))).task == SEMANTIC_SEGMENTATION.key


SEGMENTATION = {name: page for name, page in RECIPES.items() if is_of_segmentation(page)}
OTHERS = {name: page for name, page in RECIPES.items() if name not in SEGMENTATION}
COCO_PAGE = ROOT / 'configs/_base_/mask_rcnn_coco_1x.py'
ADE_PAGE = ROOT / 'configs/_base_/upernet_ade20k_160k.py'


def opened(page, options, backbone='pool_micro', **more):
    return open_config(str(page), backbone, {k.replace('__', '.'): v for k, v in more.items()}, options)[
        0
    ]


def learning_rates(cfg):
    """Return the learning rate of each step, from the schedulers that mmengine builds."""
    parameter = nn.Parameter(torch.zeros(1))
    settings = dict(cfg.optim_wrapper.optimizer)
    optimizer = getattr(torch.optim, settings.pop('type'))([parameter], **settings)
    schedulers = [PARAM_SCHEDULERS.build({**part}, default_args={'optimizer': optimizer})
                  for part in cfg.param_scheduler]  # fmt: skip
    rates = []
    for _ in range(cfg.train_cfg.max_iters):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return rates


class TestLinear:
    @pytest.mark.parametrize('name', SEGMENTATION)
    def test_every_segmentation_recipe(self, name):
        plain = opened(SEGMENTATION[name], ProtocolOptions())
        cfg = opened(SEGMENTATION[name], LINEAR)
        check_config(cfg, LOADERS, 1)
        assert not length_warnings(cfg)
        with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
            model = MODELS.build(cfg.model)
        assert {part for part, _ in model.named_children()} == {
            'data_preprocessor', 'backbone', 'decode_head'
        }  # fmt: skip
        assert model.decode_head.channels == sum(model.backbone.dims)
        assert model.decode_head.num_classes == plain.model.decode_head.num_classes
        assert cfg.model.backbone == plain.model.backbone
        assert cfg.train_dataloader == plain.train_dataloader
        # The shorter of the page and the source.
        length = min(plain.train_cfg.max_iters, 40_000)
        assert cfg.train_cfg.max_iters == length
        # As many evaluations and checkpoints as on the page.
        count = plain.train_cfg.max_iters / plain.train_cfg.val_interval
        assert length / cfg.train_cfg.val_interval == pytest.approx(count, rel=0.05)
        count = plain.train_cfg.max_iters / plain.default_hooks.checkpoint.interval
        assert length / cfg.default_hooks.checkpoint.interval == pytest.approx(count, rel=0.05)

    def test_settings_of_dinov2(self):
        """Source: released config of the linear head of DINOv2 ViT-B/14 on ADE20K."""
        cfg = opened(ADE_PAGE, LINEAR)
        assert cfg.optim_wrapper.to_dict() == dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-4),
        )
        assert (cfg.train_cfg.max_iters, cfg.auto_scale_lr.base_batch_size) == (40_000, 16)
        assert cfg.recipe.iterations == 40_000
        rates = learning_rates(cfg)
        step = np.arange(40_000)
        rising = step < 1500
        expected = np.where(rising, 1e-3 * step / 1499, 1e-3 * (1 - (step - 1500) / 38_500))
        np.testing.assert_allclose(rates, expected, atol=2e-6)

    @pytest.mark.parametrize('length', [1, 2, 30, 60, 160, 80_000])
    def test_short_schedules_rise_and_fall(self, length):
        cfg = opened(ROOT / 'configs/_base_/demo_upernet.py', ProtocolOptions())
        cfg.train_cfg.max_iters = length
        cfg = use_protocol(cfg, LINEAR)
        rates = learning_rates(cfg)
        assert len(rates) == min(length, 40_000)
        top = int(np.argmax(rates))
        assert rates[top] == pytest.approx(1e-3, rel=0.01)
        assert rates[:top] == sorted(rates[:top])
        assert rates[top:] == sorted(rates[top:], reverse=True)
        assert length < 30 or rates[-1] < 1e-4

    def test_overrides_apply_after_it(self):
        cfg = opened(
            ADE_PAGE,
            LINEAR,
            optim_wrapper__optimizer__lr=0.5,
            train_cfg__max_iters=7,
            model__decode_head__align_corners=True,
        )
        assert cfg.optim_wrapper.optimizer.lr == 0.5
        assert cfg.train_cfg.max_iters == 7
        assert cfg.model.decode_head.align_corners

    def test_precision_is_kept(self):
        cfg = opened(ADE_PAGE, ProtocolOptions())
        cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16', loss_scale='dynamic')
        probe = use_protocol(cfg, LINEAR).optim_wrapper
        assert (probe.type, probe.dtype) == ('AmpOptimWrapper', 'bfloat16')
        assert probe.loss_scale == 'dynamic'

    def test_neck_is_dropped(self):
        """The maps of the backbone are probed, not those of a neck."""
        cfg = opened(ADE_PAGE, ProtocolOptions(), NETWORK)
        cfg.model.neck = dict(type='FPN', in_channels=[8, 16, 24, 32], out_channels=64, num_outs=4)
        cfg.model.decode_head.in_channels = [64] * 4
        probe = use_protocol(cfg, LINEAR)
        assert 'neck' not in probe.model
        assert probe.model.decode_head.in_channels == [8, 16, 24, 32]

    @pytest.mark.parametrize('name', OTHERS)
    def test_other_tasks_are_refused(self, name):
        task = recipe_of(read_config(str(OTHERS[name]))).task
        said = refusal(opened, OTHERS[name], LINEAR)
        assert said.startswith('--protocol linear is for semantic_segmentation, but config ')
        assert said.endswith(f'is for {task}; give --protocol frozen')

    def test_other_segmentors_are_refused(self):
        cfg = opened(ADE_PAGE, ProtocolOptions())
        cfg.model.update(type='CascadeEncoderDecoder', decode_head=[cfg.model.decode_head] * 2)
        assert 'is a CascadeEncoderDecoder without one' in refusal(use_protocol, cfg, LINEAR)

    def test_length_in_epochs_is_refused(self):
        cfg = opened(ADE_PAGE, ProtocolOptions())
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
        assert 'has no train_cfg.max_iters' in refusal(use_protocol, cfg, LINEAR)


@pytest.mark.parametrize('name', RECIPES)
@pytest.mark.parametrize('options', [FROZEN, TENTH], ids=['frozen', 'fraction'])
def test_everything_else_stays_as_in_the_recipe(name, options):
    plain, cfg = (opened(RECIPES[name], each).to_dict() for each in (ProtocolOptions(), options))
    assert {key for key in cfg if cfg[key] != plain.get(key)} == {'recipe'}
    assert cfg['recipe'] == {**plain['recipe'], **options.facts}


class TestIdentity:
    def test_of_the_page_is_unchanged(self):
        cfg = opened(COCO_PAGE, ProtocolOptions())
        before = config_sha256(cfg)
        cfg.recipe.update(protocol=None, fraction=None, fraction_seed=None)
        assert config_sha256(cfg) == before

    def test_differs_by_protocol_fraction_and_seed(self):
        every = [
            ProtocolOptions(protocol, fraction, seed)
            for protocol in (None, 'frozen')
            for fraction, seed in ((None, None), (0.1, 0), (0.1, 1), (0.05, 0))
        ]
        configs = [opened(COCO_PAGE, options) for options in every]
        assert len({config_sha256(cfg) for cfg in configs}) == len(every)
        assert len({cfg.filename for cfg in configs}) == len(every)
        assert len({cfg.contestant.name for cfg in configs}) == 1

    def test_names(self):
        options = ProtocolOptions('frozen', 0.05, 2)
        assert Path(opened(COCO_PAGE, options).filename).name == (
            'mask_rcnn_coco_1x_pool_micro_frozen_fraction_0.05_seed_2.py'
        )

    def test_config_without_a_contestant_keeps_its_name(self):
        cfg = opened(COCO_PAGE, ProtocolOptions())
        cfg.pop('contestant')
        assert use_protocol(cfg, FROZEN).contestant.name == 'mask_rcnn_coco_1x_pool_micro'

    def test_dumped_config_states_it_already(self, tmp_path):
        cfg = opened(ADE_PAGE, ProtocolOptions('linear', 0.1, 0))
        dumped = str(tmp_path / Path(cfg.filename).name)
        cfg.dump(dumped)
        for options in (ProtocolOptions(), LINEAR, ProtocolOptions('linear', 0.1, 0)):
            again, _ = open_config(dumped, None, {}, options)
            assert again.filename == dumped
            assert again.recipe == cfg.recipe
            assert config_sha256(again) == config_sha256(cfg)

    @pytest.mark.parametrize(
        ('options', 'said'),
        [
            (LINEAR, "states protocol='frozen', not 'linear'"),
            (ProtocolOptions(fraction=0.2, fraction_seed=0), 'states fraction=0.1, not 0.2'),
            (ProtocolOptions(fraction=0.1, fraction_seed=1), 'states fraction_seed=0, not 1'),
        ],
    )
    def test_a_config_that_states_something_else(self, options, said):
        cfg = opened(COCO_PAGE, ProtocolOptions('frozen', 0.1, 0))
        assert said in refusal(use_protocol, cfg, options)

    def test_config_without_a_recipe(self):
        assert 'declares no recipe' in refusal(use_protocol, Config({}, filename=None), FROZEN)

    @pytest.mark.parametrize(
        ('facts', 'said'),
        [
            (dict(protocol='warm'), "recipe.protocol is 'warm'; give 'frozen' or 'linear'"),
            (dict(fraction=2.0, fraction_seed=0), 'recipe.fraction is 2.0; give a number between'),
            (dict(fraction=0.5), 'recipe.fraction_seed is None'),
            (dict(fraction_seed=1), 'recipe.fraction_seed is 1'),
            (dict(fraction=0.5, fraction_seed=-1), 'recipe.fraction_seed is -1'),
        ],
    )
    def test_invalid_facts_of_a_page(self, facts, said):
        cfg = opened(COCO_PAGE, ProtocolOptions())
        cfg.recipe.update(facts)
        assert said in refusal(recipe_of, cfg)


class TestResume:
    def test_differences_are_named(self):
        plain, other = (opened(COCO_PAGE, each).to_dict() for each in (ProtocolOptions(), TENTH))
        assert list(differences(other, plain)) == [
            ('recipe.fraction', 0.1, 'nothing'), ('recipe.fraction_seed', 3, 'nothing')
        ]  # fmt: skip
        assert not list(differences(other, other))

    @pytest.mark.parametrize('stored', [ProtocolOptions(), FROZEN, TENTH, LINEAR])
    @pytest.mark.parametrize('wanted', [ProtocolOptions(), FROZEN, TENTH, LINEAR])
    def test_different_protocol_is_refused(self, stored, wanted):
        theirs, ours = (opened(ADE_PAGE, each) for each in (stored, wanted))
        checkpoint = {'meta': {'cfg': theirs.pretty_text}}
        if stored == wanted:
            check_same_experiment(ours, checkpoint, 'a.pth')
        else:
            said = refusal(check_same_experiment, ours, checkpoint, 'a.pth')
            assert 'a.pth belongs to a different experiment: recipe.' in said

    def test_different_images_are_refused(self):
        ours, theirs = (opened(COCO_PAGE, TENTH) for _ in range(2))
        ours.train_dataloader.dataset.images_sha256 = 'a' * 64
        theirs.train_dataloader.dataset.images_sha256 = 'b' * 64
        said = refusal(check_same_experiment, ours, {'meta': {'cfg': theirs.pretty_text}}, 'a.pth')
        assert said == (
            'a.pth was trained on a different list of images (bbbbbbbb, not aaaaaaaa), from different '
            'data or ids; give the data that it was trained on, or a different --work-dir'
        )


class TestOptions:
    def parse(self, *words):
        parser = CommandLine('')
        add_protocol_options(parser)
        return options_of(parser.parse_args([*words]))

    def test_defaults(self):
        assert self.parse() == ProtocolOptions()
        assert self.parse('--fraction', '0.1') == ProtocolOptions(None, 0.1, 0)
        assert self.parse('--fraction', '0.1', '--fraction-seed', '4') == ProtocolOptions(None, 0.1, 4)

    @pytest.mark.parametrize(
        'options', [ProtocolOptions(), FROZEN, TENTH, ProtocolOptions('linear', 0.05, 1)]
    )
    def test_arguments_of_jobs_state_the_same(self, options):
        assert self.parse(*options.arguments) == options

    @pytest.mark.parametrize(
        ('words', 'said'),
        [
            (['--protocol', 'warm'], "invalid choice: 'warm'"),
            (['--fraction', '0'], '0 is not between 0 and 1'),
            (['--fraction', '1'], '1 is not between 0 and 1'),
            (['--fraction', '-0.1'], '-0.1 is not between 0 and 1'),
            (['--fraction', 'nan'], 'nan is not between 0 and 1'),
            (['--fraction', '10%'], "'10%' is neither a number between 0 and 1 nor a file"),
            (['--fraction-seed', '1'], '--fraction-seed needs --fraction'),
            (['--fraction', '0.1', '--fraction-seed', '-1'], "'-1' is not a whole number"),
        ],
    )
    def test_refused(self, words, said):
        assert said in refusal(self.parse, *words)


class TestCheckpoint:
    def stated(self, tmp_path, meta):
        file = tmp_path / 'a.pth'
        torch.save({'meta': meta, 'state_dict': {'a': torch.zeros(1)}}, file)
        return stated_by_checkpoint(str(file))

    def test_states_what_it_was_trained_with(self, tmp_path):
        options = ProtocolOptions('linear', 0.1, 2)
        text = opened(ADE_PAGE, options).pretty_text
        assert self.stated(tmp_path, {'cfg': text}) == options

    @pytest.mark.parametrize(
        'meta', [{}, {'cfg': None}, {'cfg': 'x ='}, {'cfg': 'recipe = 1'}, None, []]
    )
    def test_states_nothing(self, tmp_path, meta):
        assert self.stated(tmp_path, meta) == ProtocolOptions()

    @pytest.mark.parametrize('recipe', ["dict(protocol='x')", "dict(fraction='x', fraction_seed=0)"])
    def test_states_what_cannot_be(self, tmp_path, recipe):
        said = refusal(self.stated, tmp_path, {'cfg': f'recipe = {recipe}'})
        assert 'a.pth: recipe.' in said
        assert "is 'x'; give" in said

    def test_config_that_claims_more(self):
        trained, claimed = (opened(ADE_PAGE, options) for options in (ProtocolOptions(), FROZEN))
        content = {'meta': {'cfg': trained.pretty_text}}
        said = refusal(check_stated, claimed, content, 'a.pth')
        assert "states protocol='frozen', but a.pth was trained without" in said
        check_stated(trained, content, 'a.pth')
        check_stated(claimed, {'meta': {'cfg': claimed.pretty_text}}, 'a.pth')
        # Weights alone do not say how they were trained.
        check_stated(claimed, {}, 'a.pth')

    def test_unreadable_or_missing(self, tmp_path):
        (tmp_path / 'b.pth').write_text('?')
        for source in (str(tmp_path / 'b.pth'), str(tmp_path / 'none.pth'), None):
            assert stated_by_checkpoint(source) == ProtocolOptions()
