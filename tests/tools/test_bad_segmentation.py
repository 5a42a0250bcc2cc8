"""Segmentor settings that would fail later or give wrong results: status 2, nothing written."""

import json
import shutil

import pytest
from PIL import Image

from tests.tools.test_bad_data import IMAGES, on

pytestmark = pytest.mark.habits

KIND = 'Configs and options'
VALIDATION = 'val_dataloader.dataset.pipeline'
RESIZE = "{'type':'Resize','scale':(64,64)}"


@pytest.fixture
def upernet(trials):
    return trials['upernet']


@pytest.mark.parametrize(
    ('given', 'options', 'messages'),
    [
        (
            'sliding windows without a stride',
            {'model.test_cfg': "{'mode':'slide','crop_size':(64,64)}"},
            ["model.test_cfg.mode='slide' with stride=None", 'give height and width in pixels'],
        ),
        (
            'one output channel for eight classes',
            {'model.decode_head.out_channels': 1},
            ['model.decode_head.out_channels=1 with num_classes=8; give 8, or 1 with two classes'],
        ),
        (
            'one output channel with a loss for several channels',
            {'model.decode_head.out_channels': 1, 'model.decode_head.num_classes': 2},
            ['CrossEntropyLoss with these settings cannot train out_channels=1', 'use_sigmoid=True'],
        ),
        (
            'an ignore_index that maps and metric do not use',
            {'model.decode_head.ignore_index': 0},
            ['model.decode_head.ignore_index=0, but maps and metric only ignore 255'],
        ),
        (
            'a validation pipeline that loads the map before Resize',
            {f'{VALIDATION}.3': RESIZE},
            ['loads the map (LoadAnnotations) before Resize', 'have the size of the image file'],
        ),
        (
            'data sets that differ in reduce_zero_label',
            {
                'val_dataloader.dataset.reduce_zero_label': False,
                f'{VALIDATION}.2.reduce_zero_label': False,
            },
            ['reduce_zero_label is True in the data set of train_dataloader but False in that of val'],
        ),
    ],
)
def test_settings(train, upernet, refused, tmp_path, given, options, messages):
    outcome = train(upernet.config, *on(upernet.data_root, upernet, **options))
    refused(KIND, given, outcome, *messages)
    assert not list(tmp_path.iterdir())


def test_batches_of_several_shapes(train, upernet, refused, tmp_path):
    data = shutil.copytree(upernet.data_root, tmp_path / 'data')
    image = data / IMAGES['upernet', 'val']
    label_map = data / 'annotations/validation' / f'{image.stem}.png'
    for file in (image, label_map):
        Image.open(file).crop((0, 0, 64, 48)).save(file)
    options = {'val_dataloader.batch_size': 2, f'{VALIDATION}.1.keep_ratio': True}
    outcome = train(upernet.config, *on(data, upernet, **options))
    refused(
        KIND,
        'validation batches of images with different shapes',
        outcome,
        'val_dataloader.batch_size=2, but images have different shapes',
        'set val_dataloader.batch_size=1',
    )
    assert list(tmp_path.iterdir()) == [data]


class TestOrientation:
    """Images with an EXIF rotation, with annotations for the rotated image."""

    @pytest.fixture
    def turned(self, tmp_path, trials):
        def copy(task, name):
            data = shutil.copytree(trials[task].data_root, tmp_path / 'data')
            exif = Image.Exif()
            exif[0x0112] = 6
            image = Image.open(data / name)
            image.crop((0, 0, 64, 48)).save(data / name, exif=exif)
            return data

        return copy

    def test_of_ade20k(self, test, trials, turned, weights, refused, tmp_path):
        import torch

        name = IMAGES['upernet', 'val']
        data = turned('upernet', name)
        label_map = data / 'annotations/validation' / f'{(data / name).stem}.png'
        Image.open(label_map).crop((0, 0, 48, 64)).save(label_map)
        torch.save({'state_dict': weights('upernet')}, tmp_path / 'model.pth')
        outcome = test(trials['upernet'].config, 'model.pth', *on(data, trials['upernet']))
        refused(
            'Data',
            'a segmentation map for an image rotated by its EXIF orientation',
            outcome,
            f'{label_map} is 48x64 pixels, but its image is 64x48; the image has the EXIF orientation 6',
            "set color_type of LoadCheckedImage to 'color'",
        )

    def test_of_coco(self, test, trials, turned, weights, refused, tmp_path):
        import torch

        name = IMAGES['mask_rcnn', 'val']
        data = turned('mask_rcnn', name)
        file = data / 'annotations/instances_val2017.json'
        content = json.loads(file.read_text())
        (image,) = [each for each in content['images'] if name.endswith(each['file_name'])]
        image.update(height=64, width=48)
        # Remove its objects, which may lie outside the new size.
        content['annotations'] = [
            each for each in content['annotations'] if each['image_id'] != image['id']
        ]
        file.write_text(json.dumps(content))
        torch.save({'state_dict': weights('mask_rcnn')}, tmp_path / 'model.pth')
        outcome = test(trials['mask_rcnn'].config, 'model.pth', *on(data, trials['mask_rcnn']))
        refused(
            'Data',
            'annotations for an image rotated by its EXIF orientation',
            outcome,
            f'{data / name} is 64x48 pixels, but its annotations are for 48x64',
            'the image has the EXIF orientation 6',
        )
