"""Backbones by name: leaves and names agree, any module works, and what does not fit is refused."""

import ast
import copy
import re
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from backbones import UnifiedBackbone
from evaluation.config.config_files import read_config
from evaluation.config.contestants import (
    PAGES,
    file_name,
    find_backbone,
    named_after,
    open_config,
    scale_names,
    use_backbone,
)
from evaluation.config.digests import config_sha256
from evaluation.config.whole_config import check_config
from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError
from tests.commands import ROOT
from tests.detectors import CONFIGS

LEAVES = sorted(
    str(file.relative_to(ROOT / 'configs'))
    for folder in ('configs', 'configs/demo')
    for file in (ROOT / folder).glob('*.py')
    # Other configs import a leaf under its former name.
    if '_base_.backbones' in file.read_text()
)
DETECTION, SEGMENTATION, CLASSIFICATION = (
    'instance_segmentation',
    'semantic_segmentation',
    'classification',
)
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
DETECTOR, SEGMENTOR, CLASSIFIER = (
    str(ROOT / f'configs/demo/{task}_swin_micro.py') for task in ('mask_rcnn', 'upernet', 'imagenet')
)
PAGE = str(ROOT / 'configs/_base_/mask_rcnn_coco_1x.py')
IMAGENET = [123.675, 116.28, 103.53]
WIDTHS = [8, 16, 24, 32]


def read(leaf):
    return read_config(str(ROOT / 'configs' / leaf))


def recipe_page(leaf):
    """Return the recipe page that a leaf imports, from its source."""
    tree = ast.parse((ROOT / 'configs' / leaf).read_text())
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    (page,) = (name for name in names if '_base_' in name and 'backbones' not in name)
    return f'{page.replace(".", "/")}.py'


def sibling(leaf):
    """Return another leaf of the same recipe in the same folder."""
    group = [
        other
        for other in LEAVES
        if Path(other).parent == Path(leaf).parent and recipe_page(other) == recipe_page(leaf)
    ]
    return group[(group.index(leaf) + 1) % len(group)]


class TestLeaves:
    @pytest.mark.parametrize('leaf', LEAVES)
    def test_leaf_is_any_other_of_its_recipe_with_its_backbone(self, leaf):
        expected, other = read(leaf), sibling(leaf)
        assert other != leaf
        found = use_backbone(read(other), expected.contestant.name)
        assert config_sha256(found) == config_sha256(expected)
        assert found.contestant == expected.contestant
        assert Path(found.filename) == Path(expected.filename)

    @pytest.mark.parametrize('leaf', LEAVES)
    def test_leaf_is_its_recipe_with_its_backbone(self, leaf):
        expected, page = read(leaf), recipe_page(leaf)
        found = use_backbone(read(page), expected.contestant.name)
        assert config_sha256(found) == config_sha256(expected)
        assert found.contestant == expected.contestant
        assert Path(found.filename).stem == f'{Path(page).stem}_{expected.contestant.name}'

    def test_original_is_not_changed(self):
        cfg = read('mask_rcnn_swin_tiny.py')
        before = copy.deepcopy(cfg.to_dict())
        use_backbone(cfg, 'dcn_tiny')
        assert cfg.to_dict() == before

    @pytest.mark.parametrize(
        'leaf',
        ['mask_rcnn_swin_tiny.py', 'upernet_original_resnet50.py', 'imagenet_pvt_micro.py'],
    )
    def test_a_dumped_config_works_too(self, leaf, tmp_path):
        file = tmp_path / Path(leaf).name
        read(leaf).dump(str(file))
        name = 'convnext_small' if 'imagenet' in leaf else 'r50'
        page = recipe_page(leaf)
        found = use_backbone(read_config(str(file)), name)
        assert config_sha256(found) == config_sha256(use_backbone(read(page), name))


class TestScales:
    def test_every_dict_with_a_type_is_a_scale_of_one_page(self):
        found = []
        for page in PAGES.glob('*.py'):
            for statement in ast.parse(page.read_text()).body:
                value = getattr(statement, 'value', None)
                if 'type' in [keyword.arg for keyword in getattr(value, 'keywords', ())]:
                    found += [target.id for target in statement.targets]
        assert len({*found}) == len(found) > 20
        assert {*found} <= {*scale_names()}
        # The others are former names.
        assert all(find_backbone(name, DETECTION).settings for name in {*scale_names()} - {*found})

    @pytest.mark.parametrize('page', sorted(PAGES.glob('*.py')), ids=lambda page: page.stem)
    def test_drop_path_rates_are_of_known_tasks_and_scales(self, page):
        content = read_config(str(page)).to_dict()
        for task, rates in content.get('drop_path_rates', {}).items():
            assert task in TASKS
            assert all(any(name.endswith(f'_{scale}') for name in scale_names()) for scale in rates)

    def test_scale_of_a_classifier(self):
        found = find_backbone('dcn_tiny', CLASSIFICATION)
        assert found.settings['type'] == UnifiedBackbone.classifier
        assert found.settings['drop_path_rate'] == 0.1
        assert found.contestant == {'name': 'dcn_tiny', 'scale': 'tiny'}

    def test_no_classifier(self):
        with pytest.raises(UserError, match='r50: ResNet has no classifier'):
            find_backbone('r50', CLASSIFICATION)


class TestNames:
    @pytest.mark.parametrize('name', ['resnet50.a1_in1k', 'hf-hub:timm/resnet18.a1_in1k'])
    def test_timm_keeps_the_tag_of_the_weights(self, name):
        found = find_backbone(f'timm:{name}', DETECTION)
        assert found.settings == {'type': 'TimmBackbone', 'model_name': name}
        assert found.contestant == {'name': name, 'family': 'timm'}

    def test_options(self):
        found = find_backbone("tests.networks:Pyramid(width=4, shared='a(b)')", DETECTION)
        assert found.settings == {'type': 'tests.networks.Pyramid', 'width': 4, 'shared': 'a(b)'}
        name = "tests.networks.Pyramid(width=4, shared='a(b)')"
        assert found.contestant == {'name': name, 'family': 'tests'}
        found = find_backbone('dcn_tiny(drop_path_rate=0.1, out_indices=(1, 2))', SEGMENTATION)
        assert (found.settings['drop_path_rate'], found.settings['out_indices']) == (0.1, (1, 2))
        assert found.contestant['name'] == 'dcn_tiny(drop_path_rate=0.1, out_indices=(1, 2))'

    @pytest.mark.parametrize(
        ('path', 'kind'),
        [
            ('mmdet.models.backbones:ResNet', 'mmdet.ResNet'),
            ('mmdet.models.backbones.resnet:ResNet', 'mmdet.ResNet'),
            ('mmseg.models:ResNetV1c', 'mmseg.ResNetV1c'),
            ('backbones.unified:UnifiedBackbone', 'UnifiedBackbone'),
            ('torch.nn:Identity', 'torch.nn.Identity'),
        ],
    )
    def test_registered_classes_of_libraries_have_their_registered_name(self, path, kind):
        assert find_backbone(path, DETECTION).settings == {'type': kind}

    def test_family_of_a_class(self):
        assert find_backbone('mmdet.models:ResNet', DETECTION).contestant['family'] == 'mmdet'
        assert find_backbone('backbones:UnifiedBackbone', DETECTION).contestant['family'] == 'unified'

    @pytest.mark.parametrize(
        ('name', 'message'),
        [
            ('dcn_tinny', r'no such scale; did you mean dcn_tiny\?'),
            (
                'zzzzzz',
                'no such scale; give a scale such as dcn_tiny, timm:NAME, or package.module:Class',
            ),
            ('timm:', 'names no network'),
            ('a b:Net', 'give a scale'),
            ('tests.networks:', 'give a scale'),
            ('tests.networks:Pyramid:x', 'give a scale'),
            ('nowhere_at_all:Net', 'no module nowhere_at_all'),
            ('tests.nowhere:Net', 'no module tests.nowhere'),
            ('tests.networks:Pyramids', r'tests.networks has no Pyramids; did you mean Pyramid\?'),
            ('tests.networks:make_pyramid', 'make_pyramid is not a class'),
            ('pathlib:Path', 'Path is not derived from torch.nn.Module'),
            ('dcn_tiny(3)', 'not KEY=VALUE'),
            ('dcn_tiny(**{})', 'not KEY=VALUE'),
            ('dcn_tiny(a=1, a=2)', 'each key once'),
            ('dcn_tiny(a=1)(b=2)', 'not KEY=VALUE'),
            ('dcn_tiny(a=1', 'cannot be read'),
            ('dcn_tiny(a=b)', 'cannot be read'),
            ('dcn_tiny(a=open("x"))', 'cannot be read'),
            ('dcn_tiny(a={1, 2})', 'configs do not hold'),
            ("dcn_tiny(type='ResNet')", 'type is not an option'),
        ],
    )
    def test_refused(self, name, message):
        with pytest.raises(UserError, match=message) as caught:
            find_backbone(name, DETECTION)
        assert '\n' not in str(caught.value)

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('import nowhere_at_all\n', 'my_faulty_net needs the module nowhere_at_all'),
            ('class Net\n', r"my_faulty_net.py, line 1: syntax error: expected ':'"),
            ('import sys; sys.exit(0)\n', 'my_faulty_net ends Python when it is imported'),
        ],
    )
    def test_modules_that_cannot_be_imported(self, text, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr('sys.path', [*sys.path])
        Path('my_faulty_net.py').write_text(text)
        with pytest.raises(UserError, match=message):
            find_backbone('my_faulty_net:Net', DETECTION)

    def test_other_errors_inside_a_module_keep_their_traceback(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr('sys.path', [*sys.path])
        Path('my_raising_net.py').write_text('1 / 0\n')
        with pytest.raises(ZeroDivisionError):
            find_backbone('my_raising_net:Net', DETECTION)

    def test_the_source_code_is_part_of_the_experiment(self, tmp_path, monkeypatch):
        """Also that of modules beside it, but not that of unrelated files."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr('sys.path', [*sys.path])
        network, layers = Path('my_edited_net.py'), Path('my_edited_layers.py')
        imports = 'import my_edited_layers\nfrom tests.networks import Pyramid\n'
        network.write_text(f'{imports}class Net(Pyramid):\n    pass\n')
        layers.write_text('SIZE = 3\n')

        def digest():
            return config_sha256(use_backbone(read_config(PAGE), 'my_edited_net:Net'))

        first = digest()
        Path('unrelated.py').write_text('a = 1\n')
        assert digest() == first
        layers.write_text('SIZE = 5\n')
        second = digest()
        assert second != first
        network.write_text(network.read_text() + '# a comment\n')
        assert digest() not in (first, second)
        layers.write_text('SIZE = 3\n')
        network.write_text(network.read_text().removesuffix('# a comment\n'))
        assert digest() == first

    def test_installed_classes_have_no_source_digest(self):
        for name in ('mmdet.models:ResNet', 'torchvision.models.vgg:VGG'):
            assert find_backbone(name, DETECTION).source_sha256 is None

    def test_an_option_is_given_once(self):
        with pytest.raises(UserError, match='both set width; give one'):
            open_config(PAGE, 'tests.networks:Pyramid(width=4)', {'model.backbone.width': 8})

    @pytest.mark.parametrize(
        ('contestant', 'expected'),
        [
            ('dcn_tiny', 'dcn_tiny'),
            ('resnet50.a1_in1k', 'resnet50.a1_in1k'),
            ('hf-hub:timm/resnet18', 'hf-hub_timm_resnet18'),
            ('Net(depth=3, widths=[1, 2])', 'Net_depth_3_widths_1_2'),
            ('dcn_tiny(drop_path_rate=0.1)', 'dcn_tiny_drop_path_rate_0.1'),
        ],
    )
    def test_file_names(self, contestant, expected):
        assert file_name(contestant) == expected

    @pytest.mark.parametrize(
        ('file', 'own', 'expected'),
        [
            ('mask_rcnn_swin_micro.py', 'swin_micro', 'mask_rcnn_dcn_tiny'),
            ('mask_rcnn_coco_1x.py', None, 'mask_rcnn_coco_1x_dcn_tiny'),
            ('mine.py', 'swin_micro', 'mine_dcn_tiny'),
            ('a_Net_depth_3.py', 'Net(depth=3)', 'a_dcn_tiny'),
        ],
    )
    def test_name_of_the_config(self, file, own, expected):
        content = {} if own is None else {'contestant': {'name': own}}
        assert named_after(Config(content, cfg_text=' ', filename=file), 'dcn_tiny') == expected


class TestAnyModule:
    @pytest.mark.parametrize('width', [3, 5])
    def test_neck_takes_its_channels(self, width):
        cfg = use_backbone(read_config(PAGE), f'tests.networks:Pyramid(width={width})')
        maps = MODELS.build(cfg.model.backbone)(torch.rand(1, 3, 64, 64))
        assert cfg.model.neck.in_channels == [value.shape[1] for value in maps]
        check_config(cfg, LOADERS, 1)

    def test_heads_take_their_maps(self):
        cfg = use_backbone(read_config(SEGMENTOR), 'tests.networks:Pyramid')
        assert cfg.model.decode_head.in_channels == WIDTHS
        assert cfg.model.auxiliary_head.in_channels == WIDTHS[2]
        check_config(cfg, LOADERS, 1)

    def test_lists_of_heads(self):
        cfg = read_config(SEGMENTOR)
        auxiliary = cfg.model.auxiliary_head
        cfg.model.auxiliary_head = [{**auxiliary, 'in_index': index} for index in (1, -1)]
        del cfg.model.auxiliary_head[1]['in_index']
        found = use_backbone(cfg, 'tests.networks:Pyramid').model.auxiliary_head
        assert [head.in_channels for head in found] == [WIDTHS[1], WIDTHS[3]]

    @pytest.mark.parametrize('name', ['ReadsValues', 'BuildsWithValues'])
    def test_module_that_needs_values(self, name):
        cfg = use_backbone(read_config(DETECTOR), f'tests.networks:{name}')
        assert cfg.model.neck.in_channels == WIDTHS

    def test_module_that_takes_only_the_size_of_the_crops(self):
        cfg = read('upernet_swin_micro.py')
        assert use_backbone(cfg, 'tests.networks:LargeOnly').model.decode_head.in_channels == WIDTHS
        with pytest.raises(UserError, match=r'does not run on an image of 192x320 .*too small'):
            use_backbone(read_config(DETECTOR), 'tests.networks:LargeOnly')

    def test_backbone_of_mmdet_in_a_segmentor(self):
        cfg = use_backbone(read_config(SEGMENTOR), 'mmdet.models.backbones:ResNet(depth=18)')
        assert cfg.model.decode_head.in_channels == [64, 128, 256, 512]
        with DefaultScope.overwrite_default_scope('mmseg'):
            assert type(MODELS.build(cfg.model.backbone)).__module__.startswith('mmdet')

    def test_classifier(self):
        cfg = use_backbone(read_config(CLASSIFIER), 'tests.networks:Logits')
        # The number of classes belongs to the data set.
        assert cfg.model.backbone == {'type': 'tests.networks.Logits', 'num_classes': 6}
        check_config(cfg, LOADERS, 1)
        with pytest.raises(UserError, match='Pyramid returns maps, but this config is for a'):
            use_backbone(read_config(CLASSIFIER), 'tests.networks:Pyramid')
        with pytest.raises(UserError, match='returns logits'):
            use_backbone(read_config(DETECTOR), 'tests.networks:Logits')

    @pytest.mark.parametrize(
        ('name', 'message'),
        [
            ('NeedsWidth', 'tests.networks.NeedsWidth needs width'),
            ('NeedsWidth(widthh=3)', r'widthh is not a setting .*did you mean width\?'),
            ('Pyramid(depth=3)', 'depth is not a setting of tests.networks.Pyramid'),
            ('OneMap', r'returns one map of shape \[1, 32, 6, 10\]; return a tuple'),
            ('NoMaps', 'returns nothing; return a tuple'),
            ('NamedMaps', 'returns a dict; return a tuple'),
            ('ChannelsLast', r'channels last, such as \[1, 48, 80, 8\] .*permute'),
            ('Tokens', r'returns shape \[1, 8, 3840\] as output 0'),
            ('ThreeMaps', r'model.neck \(FPN\) takes 4 of the maps .*ThreeMaps returns 3'),
            ('WrongStrides', 'returns maps at strides 8, 16, 32, 64; return one map at each of'),
            ('Distorted', 'a map of 24x80 .* no single stride'),
            ('Broken', "AttributeError: 'Broken' object has no attribute 'neck' .*networks.py, line"),
            ('BadNormalization', r'BadNormalization.normalization is .*give dict\(mean=\[...\]'),
            ('NormalizedToOne', 'is for values from 0 to 1; multiply it by 255'),
            ('Unbuildable', r"cannot be built: KeyError: 'foo' \(.*networks.py, line \d+\)"),
            ('Leaving', r'cannot be built: SystemExit: 3 \(.*networks.py, line \d+\)'),
        ],
    )
    def test_refused(self, name, message):
        with pytest.raises(UserError, match=message) as caught:
            use_backbone(read_config(DETECTOR), f'tests.networks:{name}')
        assert '\n' not in str(caught.value)


class TestOptions:
    """Overrides apply after the backbone is replaced, and channels follow them."""

    def test_overrides_of_the_new_backbone(self):
        options = {'model.backbone.width': 5}
        cfg, warnings = open_config(DETECTOR, 'tests.networks:Pyramid', options)
        assert cfg.model.backbone.width == 5
        assert cfg.model.neck.in_channels == [5, 10, 15, 20]
        assert not warnings

    def test_channels_of_the_command_line_are_checked(self):
        options = {'model.neck.in_channels': [1, 2, 3, 4]}
        cfg, _ = open_config(DETECTOR, 'tests.networks:Pyramid', options)
        with pytest.raises(
            UserError, match=r'in_channels=\[1, 2, 3, 4\], but .* have \[8, 16, 24, 32\]'
        ):
            check_config(cfg, LOADERS, 1)

    def test_no_backbone_no_change(self):
        cfg, _ = open_config(DETECTOR, None, {})
        assert cfg.to_dict() == read_config(DETECTOR).to_dict()


class TestChannelsOfLeaves:
    @pytest.mark.parametrize('leaf', ['mask_rcnn_r50.py', 'upernet_r50.py', 'upernet_dcn_micro.py'])
    def test_missing_channels_are_filled_in(self, leaf, tmp_path):
        cfg = read(leaf)
        expected = config_sha256(cfg)
        for part in ('neck', 'decode_head', 'auxiliary_head'):
            cfg.model.get(part, {}).pop('in_channels', None)
        cfg.dump(str(tmp_path / 'leaf.py'))
        found, _ = open_config(str(tmp_path / 'leaf.py'), None, {})
        assert config_sha256(found) == expected

    @pytest.mark.parametrize(
        ('leaf', 'place', 'wrong'),
        [
            ('mask_rcnn_r50.py', 'neck', [64, 128, 256, 512]),
            ('upernet_r50.py', 'decode_head', [256, 512, 1024, 1024]),
            ('upernet_r50.py', 'auxiliary_head', 512),
            ('mask_rcnn_dcn_tiny.py', 'neck', [64, 128, 256]),
        ],
    )
    def test_mismatches_are_named(self, leaf, place, wrong):
        cfg = read(leaf)
        right = cfg.model[place].in_channels
        check_config(cfg, LOADERS, 1)
        cfg.model[place].in_channels = wrong
        message = re.escape(f'model.{place}.in_channels={wrong}, but the maps of model.backbone')
        with pytest.raises(UserError, match=message) as caught:
            check_config(cfg, LOADERS, 1)
        assert str(caught.value).endswith(f'give model.{place}.in_channels={right}')

    def test_backbone_that_cannot_be_examined_is_not_refused(self, capsys):
        cfg = read_config(DETECTOR)
        cfg.model.backbone = ConfigDict(type='tests.networks.Broken')
        check_config(cfg, LOADERS, 1)
        assert 'in_channels of neck and heads cannot be checked' in capsys.readouterr().err


def detector(file):
    """Return a config of mmdet."""
    cfg = Config.fromfile(CONFIGS / file)
    cfg.model.backbone.init_cfg = None
    cfg.recipe = dict(name='other', task=DETECTION, dataset='COCO val2017')
    return Config(cfg.to_dict(), cfg_text=cfg.text, filename='detector.py')


class TestOtherModels:
    @pytest.mark.parametrize(
        'file',
        [
            'retinanet/retinanet_r50_fpn_1x_coco.py',
            'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
            'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
            'libra_rcnn/libra-retinanet_r50_fpn_1x_coco.py',
        ],
    )
    def test_detectors_with_a_pyramid(self, file):
        cfg = use_backbone(detector(file), 'tests.networks:Pyramid')
        neck = cfg.model.neck[0] if isinstance(cfg.model.neck, list) else cfg.model.neck
        assert neck.in_channels == WIDTHS
        # mmdet's own models with their own backbones pass the check too.
        check_config(detector(file), (), 1)

    def test_order_of_channels_is_kept(self):
        cfg = detector('yolo/yolov3_d53_8xb8-320-273e_coco.py')
        check_config(cfg, (), 1)
        name = 'dcn_tiny(out_indices=(1, 2, 3))'
        assert use_backbone(cfg, name).model.neck.in_channels == [512, 256, 128]

    @pytest.mark.parametrize(
        ('file', 'message'),
        [
            ('detr/detr_r50_8xb2-150e_coco.py', r'model.neck \(ChannelMapper\) takes 1 of the maps'),
            ('faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py', 'no neck or decode head'),
        ],
    )
    def test_models_that_cannot_take_it(self, file, message):
        with pytest.raises(UserError, match=message) as caught:
            use_backbone(detector(file), 'tests.networks:Pyramid')
        assert '\n' not in str(caught.value)

    def test_configs_without_a_model_or_task(self):
        with pytest.raises(UserError, match='has no model'):
            use_backbone(read_config(str(ROOT / 'configs/_base_/runtime.py')), 'dcn_tiny')
        with pytest.raises(UserError, match='declares no recipe, so its task is unknown'):
            use_backbone(Config({'model': {'type': 'X'}}, cfg_text=' ', filename='x.py'), 'dcn_tiny')


class TestNormalization:
    @pytest.mark.parametrize('file', [DETECTOR, SEGMENTOR])
    def test_images_are_normalized_for_the_weights(self, file, capsys):
        cfg = use_backbone(read_config(file), 'tests.networks:Normalized')
        assert cfg.model.data_preprocessor.mean == cfg.model.data_preprocessor.std == [127.5] * 3
        assert 'images are normalized as the weights of tests.networks.Normalized expect' in (
            capsys.readouterr().out
        )

    def test_next_backbone_gets_those_of_the_recipe(self, tmp_path):
        leaf = tmp_path / 'configs/mine_normalized.py'
        leaf.parent.mkdir()
        (leaf.parent / '_base_').symlink_to(ROOT / 'configs/_base_')
        lines = (
            'from mmengine.config import read_base',
            'with read_base():',
            '    from ._base_.mask_rcnn_coco_1x import *',
            "contestant = dict(name='normalized')",
            "model.update(backbone=dict(type='tests.networks.Normalized'))",
            'model.data_preprocessor.update(mean=[127.5] * 3, std=[127.5] * 3)',
        )
        leaf.write_text('\n'.join(lines) + '\n')
        found = use_backbone(read_config(str(leaf)), 'dcn_tiny')
        assert config_sha256(found) == config_sha256(read('mask_rcnn_dcn_tiny.py'))

    def test_command_line_wins_with_a_warning(self, capsys):
        options = {'model.data_preprocessor.mean': IMAGENET}
        cfg, _ = open_config(DETECTOR, 'tests.networks:Normalized', options)
        assert cfg.model.data_preprocessor.mean == IMAGENET
        check_config(cfg, LOADERS, 1)
        assert 'but the weights of model.backbone expect mean=[127.5' in capsys.readouterr().err

    def test_leaf_with_another_normalization_is_warned_of(self, capsys):
        cfg = use_backbone(read_config(DETECTOR), 'tests.networks:Normalized')
        check_config(cfg, LOADERS, 1)
        assert 'expect mean' not in capsys.readouterr().err
        cfg.model.data_preprocessor.mean = IMAGENET
        check_config(cfg, LOADERS, 1)
        assert 'expect mean' in capsys.readouterr().err


def test_maps_of_unified_backbones_have_the_stated_channels():
    """`dims` are trusted, so they must be those of the maps."""
    for name in ('swin_micro', 'convnext_micro(out_indices=(1, 3))'):
        settings = find_backbone(name, DETECTION).settings
        network: nn.Module = MODELS.build(settings)
        maps = network(torch.rand(1, 3, 64, 96))
        assert [value.shape[1] for value in maps] == [network.dims[i] for i in network.out_indices]
