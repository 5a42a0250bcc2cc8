"""Images with an EXIF orientation: image and ground truth show the same pixels."""

import json
from copy import deepcopy
from functools import cache
from types import SimpleNamespace

import cv2
import mmengine
import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image
from torchvision import transforms

import backbones  # noqa: F401  (before mmseg, which needs its operators)
from evaluation.data.image_files import TURNED_IMAGES, BadFileError, orientation_of
from evaluation.data.image_loading import LoadCheckedImage, image_of, with_checked_loading
from evaluation.data.imagenet import ImageNetDataset
from evaluation.engine.drawing import DrawInstances, DrawSegmentations
from evaluation.engine.experiment import read_config
from tests.evaluation.data.looking import look
from tests.variants import ROOT

pytestmark = pytest.mark.habits

SHAPES = {'oblong': (48, 64), 'square': (64, 64)}
CASES = [
    *[('oblong', orientation) for orientation in (1, 2, 3, 4, 6)],
    *[('square', orientation) for orientation in (5, 7, 8)],
]
OBJECT, GROUND = 200, 40


def object_map(shape):
    """Return (H, W), bool: an object in one corner, so that every rotation and mirror image differs."""
    inside = np.zeros(shape, bool)
    inside[4:20, 4:28] = True
    return inside


def save(file, inside, orientation):
    """Save a picture of a bright object with an EXIF orientation; pixels are stored unchanged."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.where(inside, OBJECT, GROUND).astype(np.uint8)
    Image.fromarray(np.stack([pixels] * 3, 2)).save(file, quality=95, exif=exif)


def write_ade20k(root, shape, orientation):
    """Write a data root with one scene per split and classes 1 (ground) and 2 (object)."""
    inside = object_map(shape)
    for split in ('training', 'validation'):
        save(root / f'images/{split}/scene.jpg', inside, orientation)
        file = root / f'annotations/{split}/scene.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((inside + 1).astype(np.uint8)).save(file)
    return root


def write_coco(root, shape, orientation):
    """Write a data root with one image per split and one object per image."""
    (height, width), inside = shape, object_map(shape)
    polygon = [4, 4, 28, 4, 28, 20, 4, 20]
    entry = {'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [4, 4, 24, 16], 'area': 384}
    content = {
        'images': [{'id': 1, 'file_name': '1.jpg', 'height': height, 'width': width}],
        'annotations': [{**entry, 'segmentation': [polygon], 'iscrowd': 0}],
        'categories': [{'id': 1, 'name': 'person'}],
    }
    (root / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        save(root / split / '1.jpg', inside, orientation)
        (root / f'annotations/instances_{split}.json').write_text(json.dumps(content))
    return root


@cache
def config(name):
    """Return a config, which must be copied before it is changed."""
    return read_config(str(ROOT / f'configs/{name}.py'))


def build(name, loader, root, pipeline=None):
    """Build a data set of a config on different data, with small images and without color changes."""
    cfg = deepcopy(config(name))
    settings = cfg[loader].dataset
    steps = cfg[pipeline] if pipeline else settings.pipeline
    settings.pipeline = [step for step in steps if step['type'] != 'PhotoMetricDistortion']
    for step in settings.pipeline:
        if 'Resize' in step['type']:
            step['scale'] = (256, 128)
    settings.data_root = str(root)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return DATASETS.build(with_checked_loading(settings))


def agreement(image, truth):
    """Return the share of pixels where a picture (3, H, W) and a map (H, W) of the object agree."""
    seen = image.float().mean(0).numpy() > (OBJECT + GROUND) / 2
    return float((seen == truth).mean())


@pytest.fixture(params=CASES, ids=lambda case: f'{case[0]} {case[1]}')
def case(request):
    """Return shape and orientation of an image."""
    kind, orientation = request.param
    return SHAPES[kind], orientation


class TestSegmentation:
    @pytest.mark.parametrize(
        ('loader', 'pipeline'),
        [
            ('train_dataloader', None),
            ('test_dataloader', None),
            ('test_dataloader', 'tta_pipeline'),
        ],
    )
    def test_image_and_map_agree(self, tmp_path, case, loader, pipeline):
        root = write_ade20k(tmp_path, *case)
        dataset = build('upernet_swin_micro', loader, root, pipeline)
        sample = dataset[0]
        view = next(
            i
            for i, each in enumerate(np.atleast_1d(sample['data_samples']))
            if pipeline is None or not each.flip
        )
        image = sample['inputs'][view] if pipeline else sample['inputs']
        truth = np.atleast_1d(sample['data_samples'])[view].gt_sem_seg.data[0].numpy()
        if loader == 'train_dataloader':
            image = image[:, : truth.shape[0], : truth.shape[1]]
        else:
            # The map has the size of the file, and the image has the size used in the test.
            resized = cv2.resize(image.numpy().transpose(1, 2, 0), truth.shape[::-1])
            image = build_tensor(resized)
        assert agreement(image, truth == 1) > 0.97

    def test_drawn_image_agrees(self, tmp_path, case, monkeypatch):
        dataset = build('upernet_swin_micro', 'test_dataloader', write_ade20k(tmp_path, *case))
        image = image_of(dataset, dataset.get_data_info(0)['img_path'])
        assert np.array_equal(image[..., 0] > 120, object_map(case[0]))
        assert np.array_equal(drawn_on(DrawSegmentations, dataset, monkeypatch), image)


class TestDetection:
    @pytest.mark.parametrize('loader', ['train_dataloader', 'test_dataloader'])
    def test_image_and_mask_agree(self, tmp_path, case, loader):
        root = write_coco(tmp_path, *case)
        sample = build('mask_rcnn_swin_micro', loader, root)[0]
        mask = sample['data_samples'].gt_instances.masks.to_ndarray()[0] == 1
        resized = cv2.resize(sample['inputs'].numpy().transpose(1, 2, 0), mask.shape[::-1])
        assert agreement(build_tensor(resized), mask) > 0.97

    def test_drawn_image_agrees(self, tmp_path, case, monkeypatch):
        dataset = build('mask_rcnn_swin_micro', 'test_dataloader', write_coco(tmp_path, *case))
        image = drawn_on(DrawInstances, dataset, monkeypatch)
        assert np.array_equal(image[..., 0] > 120, object_map(case[0]))


def build_tensor(image):
    return transforms.ToTensor()(image) * 255


def drawn_on(hook, dataset, monkeypatch):
    """Return the image that a visualization hook passes to the visualizer after a test."""
    drawn = []

    class Visualizer:
        def add_datasample(self, name, image, data_sample, **options):
            drawn.append(image)

    runner = SimpleNamespace(
        visualizer=Visualizer(), test_dataloader=SimpleNamespace(dataset=dataset), iter=0
    )
    monkeypatch.setattr(mmengine.visualization.Visualizer, 'get_current_instance', lambda: None)
    hook = hook(draw=True)
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, None, [dataset[0]['data_samples']])
    (image,) = drawn
    return image


class TestOtherConvention:
    """Annotations made in a tool that applies the orientation."""

    @pytest.mark.parametrize('value', [5, 6, 7, 8])
    def test_map_of_the_rotated_image_is_reported(self, tmp_path, value):
        root = write_ade20k(tmp_path, (48, 64), value)
        for file in root.rglob('*.png'):
            Image.open(file).transpose(Image.Transpose.ROTATE_90).save(file)
        dataset = build('upernet_swin_micro', 'test_dataloader', root)
        with pytest.raises(
            BadFileError, match=rf"has the EXIF orientation {value}: set color_type .* to 'color' if"
        ):
            dataset[0]

    @pytest.mark.parametrize('value', [5, 6, 7, 8])
    def test_size_of_the_rotated_image_is_reported(self, tmp_path, value):
        save(tmp_path / 'a.jpg', object_map((48, 64)), value)
        stated = {'img_path': str(tmp_path / 'a.jpg'), 'height': 64, 'width': 48}
        with pytest.raises(BadFileError, match=rf'is 64x48 .* are for 48x64; .* orientation {value}:'):
            LoadCheckedImage().transform(dict(stated))
        assert LoadCheckedImage(color_type='color').transform(stated)['img_shape'] == (64, 48)

    def test_wrong_size_without_an_orientation(self, tmp_path):
        save(tmp_path / 'a.jpg', object_map((48, 64)), 1)
        with pytest.raises(BadFileError, match=r'are for 48x64; restore it'):
            LoadCheckedImage().transform(
                {'img_path': str(tmp_path / 'a.jpg'), 'height': 64, 'width': 48}
            )


@pytest.mark.parametrize('kind', ['png', 'webp', 'tiff', 'mpo', 'jpeg'])
@pytest.mark.parametrize('value', [3, 6])
def test_every_format(tmp_path, kind, value):
    """OpenCV and Pillow always apply the orientation of a TIFF."""
    exif = Image.Exif()
    exif[0x0112] = value
    file = tmp_path / 'image'
    pixels = np.where(object_map((48, 64)), OBJECT, GROUND).astype(np.uint8)
    Image.fromarray(np.stack([pixels] * 3, 2)).save(file, kind, exif=exif)
    assert orientation_of(file.read_bytes()) == value
    for backend in ('cv2', 'pillow'):
        load = LoadCheckedImage(imdecode_backend=backend)
        if kind == 'tiff':
            with pytest.raises(BadFileError, match='is a TIFF with an orientation'):
                load.transform({'img_path': str(file)})
            continue
        image = load.transform({'img_path': str(file)})['img']
        assert np.array_equal(image[..., 0] > 120, object_map((48, 64)))


@pytest.mark.parametrize('value', [0, 9, 255])
def test_invalid_orientation_is_ignored(tmp_path, value):
    save(tmp_path / 'a.jpg', object_map((48, 64)), value)
    assert orientation_of((tmp_path / 'a.jpg').read_bytes()) == 1


@pytest.mark.parametrize('write', [write_ade20k, write_coco])
class TestExamination:
    def test_reports_the_image(self, tmp_path, write, case):
        findings = look(write(tmp_path / 'data', *case)).findings
        orientation = case[1]
        assert {each.kind for each in findings} == ({TURNED_IMAGES} if orientation > 1 else set())
        for finding in findings:
            assert finding.text.startswith(f'has the EXIF orientation {orientation} (')
            assert finding.subject.endswith('.jpg')


class TestImageNet:
    """The released code decodes with `mmcv.imfrombytes`, and resizes and crops with torchvision."""

    @pytest.mark.parametrize('orientation', range(1, 9))
    def test_loads_as_in_the_released_code(self, tmp_path, orientation):
        root = tmp_path / 'data'
        file = root / 'val/only/image.jpg'
        # Not `object_map`, because the object must be inside the crop.
        inside = np.zeros((240, 320), bool)
        inside[40:120, 80:200] = True
        save(file, inside, orientation)
        cfg = config('imagenet_swin_micro')
        dataset = ImageNetDataset(str(root), 'val', pipeline=cfg.test_pipeline)
        decoded = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        released = transforms.Compose(
            [
                transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(224),
            ]
        )
        expected = np.asarray(released(Image.fromarray(decoded[..., ::-1])))
        assert np.array_equal(dataset[0]['inputs'].flip(0).numpy().transpose(1, 2, 0), expected)

    def test_orientation_is_applied(self, tmp_path):
        root = tmp_path / 'data'
        save(root / 'train/only/image.jpg', object_map((240, 320)), 6)
        cfg = config('imagenet_swin_micro')
        for pipeline in (cfg.train_pipeline[:1], cfg.test_pipeline[:1]):
            image = ImageNetDataset(str(root), 'train', pipeline=pipeline)[0]['img']
            assert np.array_equal(image[..., 0] > 120, np.rot90(object_map((240, 320)), -1))
