"""Small data sets as users have them, made from generated scenes in COCO's and ADE20K's layouts."""

import json
import shutil
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from tests.commands import ROOT


def pages_in(folder):
    """Copy the recipes to a folder; return that of the pages."""
    shutil.copytree(ROOT / 'configs', folder / 'configs')
    return folder / 'configs/_base_'


def instances(scenes, split='train'):
    """Return the content of a COCO file of the scenes."""
    return json.loads((scenes / f'coco/annotations/instances_{split}2017.json').read_text())


def coco_folder(root, scenes, without=(), rle=False, one_class=False, unicode=False, count=None):
    """Write the training scenes as one export of COCO: other names, ids and places.

    Args:
        root: folder to create.
        scenes: folder of the scenes.
        without: keys of annotations to leave out.
        rle: convert polygons to compressed run-length codes.
        one_class: name all objects `thing`.
        unicode: use names that are not ASCII.
        count: number of images; default: all.

    Returns:
        Content of the written file.
    """
    content = instances(scenes)
    (root / 'photos').mkdir(parents=True)
    images = content['images'][:count]
    for number, image in enumerate(images):
        own = f'Straße {number} é.jpg' if unicode else f'shot-{number}.jpg'
        shutil.copy(scenes / 'coco/train2017' / image['file_name'], root / 'photos' / own)
        image.update(id=image['id'] * 10 + 3, file_name=own)
    present = {image['id'] for image in images}
    annotations = []
    for entry in content['annotations']:
        entry.update(image_id=entry['image_id'] * 10 + 3, category_id=900 - 7 * entry['category_id'])
        entry['id'] += 1000
        if entry['image_id'] not in present:
            continue
        if one_class:
            entry['category_id'] = 5
        if rle and type(entry['segmentation']) is list:
            size = next((i['height'], i['width']) for i in images if i['id'] == entry['image_id'])
            code = coco_mask.merge(coco_mask.frPyObjects(entry['segmentation'], *size))
            entry['segmentation'] = {'size': code['size'], 'counts': code['counts'].decode()}
        annotations.append({k: v for k, v in entry.items() if k not in without})
    categories = [
        {'id': 900 - 7 * c['id'], 'name': f'«{c["name"]}»' if unicode else c['name']}
        for c in content['categories']
    ]
    if one_class:
        categories = [{'id': 5, 'name': 'thing'}]
    written = {'images': images, 'annotations': annotations, 'categories': categories}
    (root / 'export.json').write_text(json.dumps(written, ensure_ascii=not unicode))
    return written


def edit_json(file: Path, change) -> None:
    """Apply `change` to the content of a JSON file, in place."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def mask_folder(root, scenes, values=range(256), split=False):
    """Write the scenes as images and masks.

    Args:
        root: folder to create.
        scenes: folder of the scenes.
        values: value in the masks for each value of the scenes' maps.
        split: whether to keep the two splits, as folders; otherwise all images are in one folder.
    """
    table = np.array([*values], np.uint8)
    source = scenes / 'ADEChallengeData2016'
    for part in ('training', 'validation'):
        for image in sorted((source / 'images' / part).iterdir()):
            here = [root / kind / (part if split else '') for kind in ('images', 'masks')]
            for folder in here:
                folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, here[0] / image.name)
            scene = cv2.imread(str(source / 'annotations' / part / f'{image.stem}.png'), -1)
            cv2.imwrite(str(here[1] / f'{image.stem}.png'), table[scene])


def voc_folder(root, scenes, difficult=False):
    """Write the training scenes in the layout of Pascal VOC; return the COCO content of the scenes."""
    content = instances(scenes)
    names = {category['id']: category['name'] for category in content['categories']}
    for folder in ('Annotations', 'JPEGImages'):
        (root / folder).mkdir(parents=True)
    for image in content['images']:
        own = [entry for entry in content['annotations'] if entry['image_id'] == image['id']]
        objects = [xml_object(names[entry['category_id']], entry['bbox'], difficult) for entry in own]
        text = (
            f'<annotation><filename>{image["file_name"]}</filename>'
            f'<size><width>{image["width"]}</width><height>{image["height"]}</height></size>'
            f'{"".join(objects)}</annotation>'
        )
        stem = Path(image['file_name']).stem
        (root / 'Annotations' / f'{stem}.xml').write_text(text)
        shutil.copy(scenes / 'coco/train2017' / image['file_name'], root / 'JPEGImages')
    return content


def xml_object(name, box, difficult=False):
    """Return an object in VOC's XML; VOC counts from 1 and includes the last pixel."""
    left, top, width, height = box
    sides = {'xmin': left + 1, 'ymin': top + 1, 'xmax': left + width, 'ymax': top + height}
    corners = ''.join(f'<{side}>{value}</{side}>' for side, value in sides.items())
    return (
        f'<object><name>{escape(name)}</name><difficult>{int(difficult)}</difficult>'
        f'<bndbox>{corners}</bndbox></object>'
    )
