"""Pictures against analytic ones, naive oracles, and the scenes of a data set."""

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from evaluation.demo.pictures import Sheet, draw_sheet, predictions_sheet, write_sheet
from evaluation.engine.drawing import (
    distinct_palette,
    draw_instances,
    draw_segmentation,
)
from evaluation.engine.experiment import read_config, set_data_root
from evaluation.scenes.scene_datasets import write_ade20k, write_datasets
from evaluation.scenes.scenes import (
    OBJECT_CLASSES,
    PALETTE,
    SceneStyle,
    render_scene,
    scene_seed,
)
from evaluation.utils.errors import UserError

CONFIGS = Path(__file__).parents[3] / 'configs' / 'demo'
RED, BLUE = (220, 40, 60), (30, 60, 230)
GRAY = 100


def gray_image(height: int, width: int) -> np.ndarray:
    image = np.full((height, width, 3), GRAY, np.uint8)
    image.setflags(write=False)
    return image


def noise_image(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 255, (height, width, 3), np.uint8)


def filled(height: int, width: int, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def is_color(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (image == color).all(axis=-1)


def draw_boxes(side: int, boxes: list, scores: list | None = None) -> np.ndarray:
    """Draw masks that fill their boxes, with alternating classes 'a' (red) and 'b' (blue)."""
    masks = np.array([filled(side, side, *box) for box in boxes])
    labels = np.arange(len(boxes)) % 2
    return draw_instances(
        gray_image(side, side),
        masks,
        np.array(boxes, float),
        labels,
        None if scores is None else np.array(scores),
        ['a', 'b'],
        [RED, BLUE],
    )


def tag_of(color: int) -> np.ndarray:
    """Return the tag that `draw_boxes` draws for a box of one of the classes."""
    drawn = draw_boxes(128, [(40, 60, 80, 90)] * 2)
    box = filled(128, 128, 40, 60, 80, 90)
    rows, columns = np.nonzero(is_color(drawn, (RED, BLUE)[color]) & ~box)
    return drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def find(sheet: np.ndarray, panel: np.ndarray) -> tuple[int, int]:
    """Return top and left of the one position where `sheet` equals `panel`."""
    distance = cv2.matchTemplate(sheet, panel, cv2.TM_SQDIFF)
    top, left = map(int, np.unravel_index(distance.argmin(), distance.shape))
    found = sheet[top : top + panel.shape[0], left : left + panel.shape[1]]
    np.testing.assert_array_equal(found, panel)
    return top, left


# Instances


def test_instance_colors_its_mask_its_box_and_one_tag():
    side, box = 128, (40, 50, 90, 100)
    rows, columns = np.mgrid[:side, :side]
    mask = (columns - 64.5) ** 2 + (rows - 74.5) ** 2 < 24**2
    drawn = draw_instances(
        gray_image(side, side), mask[None], np.array([box], float), np.array([0]), None, ['a'], [RED]
    )

    frame = filled(side, side, *box) & ~filled(side, side, 41, 51, 89, 99)
    assert is_color(drawn, RED)[frame].all()
    neighbors = [np.roll(mask, step, axis) for step in (1, -1) for axis in (0, 1)]
    outline = mask & ~np.logical_and.reduce(neighbors)
    assert is_color(drawn, RED)[outline].all()
    blend = tuple(round(0.55 * GRAY + 0.45 * part) for part in RED)
    np.testing.assert_array_equal(is_color(drawn, blend), mask & ~outline)
    rest = (drawn != GRAY).any(axis=-1) & ~mask & ~frame
    ys, xs = np.nonzero(rest)
    assert rest[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].all()
    assert ys.max() == box[1] - 1
    assert xs.min() == box[0]


@pytest.mark.parametrize(('side', 'thickness'), [(128, 1), (300, 2), (600, 4)])
def test_outline_grows_with_the_picture(side, thickness):
    box = np.array([side // 4, side // 4, 3 * side // 4, 3 * side // 4])
    drawn = draw_boxes(side, [box.tolist()])
    across = is_color(drawn, RED)[side // 2]
    inside = np.arange(side)
    expected = (inside >= box[0]) & (inside < box[2])
    expected &= (inside < box[0] + thickness) | (inside >= box[2] - thickness)
    np.testing.assert_array_equal(across, expected)


def test_colors_lie_over_the_gray_of_the_picture():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:] = (200, 20, 90)
    luma = round(0.299 * 200 + 0.587 * 20 + 0.114 * 90)
    mask = filled(64, 64, 10, 20, 50, 60)
    drawn = draw_instances(
        image, mask[None], np.array([[10, 20, 50, 60.0]]), np.array([0]), None, ['a'], [BLUE]
    )
    assert drawn[40, 30] == pytest.approx([0.55 * luma + 0.45 * part for part in BLUE], abs=0.51)
    segmented = draw_segmentation(image, np.zeros((64, 64), int), [BLUE])
    assert segmented[40, 30] == pytest.approx([0.35 * luma + 0.65 * part for part in BLUE], abs=0.51)


@pytest.mark.parametrize('order', [(0, 1), (1, 0)])
def test_smaller_masks_lie_in_front(order):
    boxes = [(10, 20, 120, 120), (40, 60, 80, 100)]
    masks = np.array([filled(128, 128, *boxes[i]) for i in order])
    drawn = draw_instances(
        gray_image(128, 128),
        masks,
        np.array([boxes[i] for i in order], float),
        np.array(order),
        None,
        ['large', 'small'],
        [RED, BLUE],
    )
    blends = [[round(0.55 * GRAY + 0.45 * part) for part in color] for color in (RED, BLUE)]
    assert drawn[80, 60].tolist() == blends[1]
    assert drawn[110, 110].tolist() == blends[0]


def test_no_instances_leave_the_picture():
    image = noise_image(np.random.default_rng(0), 40, 50)
    nothing = (np.zeros((0, 40, 50), bool), np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    drawn = draw_instances(image, *nothing, ['a'], [RED])
    np.testing.assert_array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_an_empty_mask_draws_its_box_only():
    drawn = draw_instances(
        gray_image(96, 96),
        np.zeros((1, 96, 96), bool),
        np.array([[20.4, 40.4, 60.6, 80.6]]),
        np.array([0]),
        None,
        ['a'],
        [RED],
    )
    frame = filled(96, 96, 20, 40, 61, 81) & ~filled(96, 96, 21, 41, 60, 80)
    np.testing.assert_array_equal(is_color(drawn, RED)[40:], frame[40:])


def test_tags_of_equal_boxes_do_not_hide_each_other():
    drawn = draw_boxes(128, [(40, 50, 80, 90)] * 6)
    for color in (0, 1):
        find(drawn, tag_of(color))


@pytest.mark.parametrize(
    'box', [(0, 0, 9, 9), (119, 0, 128, 9), (0, 119, 9, 128), (119, 119, 128, 128), (0, 0, 128, 128)]
)
def test_tags_stay_inside_the_picture(box):
    find(draw_boxes(128, [box]), tag_of(0))


@pytest.mark.parametrize('box', [(-30, -20, 40, 50), (100, 90, 160, 150), (140, 140, 150, 150)])
def test_boxes_beyond_the_picture_are_cut(box):
    drawn = draw_instances(
        gray_image(128, 128),
        np.zeros((1, 128, 128), bool),
        np.array([box], float),
        np.array([0]),
        None,
        ['a'],
        [RED],
    )
    left, top = np.clip(box[:2], 0, 127)
    right, bottom = np.clip(box[2:], (left + 1, top + 1), 128)
    corners = drawn[[top, top, bottom - 1, bottom - 1], [left, right - 1, left, right - 1]]
    assert (corners != GRAY).any(axis=-1).all()


def test_scores_are_part_of_the_tags():
    box = [(20, 40, 100, 120)]
    truth, high, lower = (draw_boxes(128, box, scores) for scores in (None, [0.93], [0.92]))
    assert not np.array_equal(truth, high)
    assert not np.array_equal(high, lower)
    np.testing.assert_array_equal(truth[40:], high[40:])
    np.testing.assert_array_equal(high, draw_boxes(128, box, [0.9299]))


def test_tags_are_readable_on_light_and_on_dark_colors():
    for color, ink in (((250, 240, 90), 0), ((20, 20, 120), 255)):
        drawn = draw_instances(
            gray_image(128, 128),
            np.zeros((1, 128, 128), bool),
            np.array([[20, 40, 100, 120.0]]),
            np.array([0]),
            None,
            ['HHH'],
            [color],
        )
        extreme = drawn[:40].max() if ink else drawn[:40].min()
        assert abs(int(extreme) - ink) < 20


@pytest.mark.parametrize(
    ('masks', 'boxes', 'labels', 'scores'),
    [
        ((1, 9, 8), (1, 4), (1,), None),
        ((2, 8, 8), (1, 4), (1,), None),
        ((1, 8, 8), (2, 4), (1,), None),
        ((1, 8, 8), (1, 5), (1,), None),
        ((1, 8, 8), (1, 4), (1,), (2,)),
    ],
)
def test_instances_that_do_not_fit_are_refused(masks, boxes, labels, scores):
    with pytest.raises(ValueError, match='shape'):
        draw_instances(
            gray_image(8, 8),
            np.zeros(masks, bool),
            np.zeros(boxes),
            np.zeros(labels, int),
            scores and np.zeros(scores),
            ['a'],
            [RED],
        )


# Segmentation


@given(
    arrays.arrays(np.uint8, (5, 7, 3)),
    arrays.arrays(np.int64, (5, 7), elements=st.sampled_from([0, 1, 2, 255])),
)
def test_segmentation_is_the_color_over_the_gray(image, segmentation):
    palette = [RED, BLUE, (255, 255, 255)]
    image.setflags(write=False)
    drawn = draw_segmentation(image, segmentation, palette)
    for place in np.ndindex(5, 7):
        label = segmentation[place]
        luma = np.dot([0.299, 0.587, 0.114], image[place])
        expected = image[place] if label == 255 else 0.35 * luma + 0.65 * np.array(palette[label])
        # The gray and the mixture are rounded one after the other.
        assert drawn[place] == pytest.approx(expected, abs=0 if label == 255 else 0.5 + 0.35)


@pytest.mark.parametrize(
    ('segmentation', 'message'),
    [
        (np.zeros((4, 5), int), 'shape'),
        (np.full((4, 4), 2), 'colors'),
        (np.full((4, 4), -1), 'colors'),
    ],
)
def test_segmentation_of_the_wrong_shape_is_refused(segmentation, message):
    with pytest.raises(ValueError, match=message):
        draw_segmentation(gray_image(4, 4), segmentation, [RED, BLUE])


# Sheets


def test_sheet_has_all_pictures_and_names():
    rng = np.random.default_rng(1)
    rows = {'top: first': [], 'bottom': []}
    for name in rows:
        rows[name] = [noise_image(rng, 30, 50) for _ in range(3)]
    figure = draw_sheet(Sheet('Title', ['x', 'y', 'z'], rows, {'disc': RED, 'ring': BLUE}))
    assert figure.get_suptitle() == 'Title'
    shown = [axes.images[0].get_array() for axes in figure.axes]
    np.testing.assert_array_equal(shown, [*rows['top: first'], *rows['bottom']])
    assert [axes.get_title() for axes in figure.axes] == ['x', 'y', 'z', '', '', '']
    assert [axes.get_ylabel() for axes in figure.axes] == ['top:\nfirst', '', '', 'bottom', '', '']
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['disc', 'ring']
    assert [tuple(np.multiply(p.get_facecolor()[:3], 255).round()) for p in legend.get_patches()] == [
        RED,
        BLUE,
    ]


def test_palette_can_be_told_apart():
    palette = distinct_palette(32)
    distances = [np.linalg.norm(np.subtract(a, b)) for a, b in itertools.combinations(palette, 2)]
    assert min(distances) > 20
    few = [np.linalg.norm(np.subtract(a, b)) for a, b in itertools.combinations(palette[:8], 2)]
    assert min(few) > 60
    assert palette[:5] == distinct_palette(5)
    assert distinct_palette(0) == []


def test_sheet_is_written_as_png(tmp_path):
    path = tmp_path / 'new' / 'sheet.png'
    write_sheet(path, Sheet('Title', ['x'], {'row': [gray_image(20, 30)]}, {'disc': RED}))
    height, width, _ = cv2.imread(str(path)).shape
    assert (width, height) == (350, 330)
    assert [p.name for p in path.parent.iterdir()] == ['sheet.png']


# Predictions

STYLE = SceneStyle(height=64, width=96, empty_probability=0.4, crowd_probability=0.8, area_min=1)
SCENES = 4
# UperNet predicts this everywhere, Mask R-CNN for every box.
PREDICTED = 'star'
# Number of scenes; the first has only a crowd, the third is empty.
SHOWN = (1, 3)


def objects(scene) -> list:
    return [instance for instance in scene.instances if not instance.is_crowd]


def scenes_of(seed: int) -> list:
    return [render_scene(STYLE, scene_seed(seed, 'val', i)) for i in range(SCENES)]


def fitting_seed() -> int:
    """Return a seed whose scenes have crowd and objects, the same again, nothing, and objects."""
    return next(
        seed
        for seed in itertools.count()
        for first, second, third, last in [scenes_of(seed)]
        if all(0 < len(objects(s)) < len(s.instances) for s in (first, second))
        if not third.instances and objects(last)
    )


def leave_crowd_alone(annotations: Path, image_id: int) -> None:
    document = json.loads(annotations.read_text())
    document['annotations'] = [
        a for a in document['annotations'] if a['image_id'] != image_id or a['iscrowd']
    ]
    annotations.write_text(json.dumps(document))


def save_config(folder: Path, name: str, root: Path) -> Config:
    config = read_config(str(CONFIGS / f'{name}.py'))
    set_data_root(config, str(root))
    config.dump(folder / f'{name}.py')
    return read_config(str(folder / f'{name}.py'))


def save_checkpoint(path: Path, cfg: Config, layer: str, probabilities: list[float]) -> Path:
    """Save random weights, with a classifier that gives these probabilities for any input."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        weights = MODELS.build(cfg.model).state_dict()
    weights[f'{layer}.weight'].zero_()
    weights[f'{layer}.bias'].copy_(torch.tensor(probabilities).log())
    torch.save({'state_dict': weights}, path)
    return path


def one_against(classes: int, label: int, score: float) -> list[float]:
    """Return probabilities: `score` for one class, almost 0 for others, the rest for the last."""
    probabilities = [1e-4] * classes
    probabilities[label], probabilities[-1] = score, 1 - score
    return probabilities


@pytest.fixture(scope='module')
def runs(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp('pictures')
    seed = fitting_seed()
    write_datasets(folder, STYLE, {'val': SCENES}, seed)
    leave_crowd_alone(folder / 'coco/annotations/instances_val2017.json', image_id=1)
    detector = save_config(folder, 'mask_rcnn_convnext_micro', folder / 'coco')
    segmentor = save_config(folder, 'upernet_convnext_micro', folder / 'ADEChallengeData2016')
    label = OBJECT_CLASSES.index(PREDICTED)
    made = {'folder': folder, 'seed': seed}
    for name, score in (('sure', 0.35), ('unsure', 0.25)):
        probabilities = one_against(len(OBJECT_CLASSES) + 1, label, score)
        path = folder / f'{name}.pth'
        made[name] = (
            detector,
            save_checkpoint(path, detector, 'roi_head.bbox_head.fc_cls', probabilities),
        )
    probabilities = one_against(len(PALETTE), 2 + label, 0.9)
    path = folder / 'upernet.pth'
    made['upernet'] = (
        segmentor,
        save_checkpoint(path, segmentor, 'decode_head.conv_seg', probabilities),
    )
    return made


def twice(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, axis=0).repeat(2, axis=1)


def expected_panels(runs: dict, number: int) -> dict[str, np.ndarray]:
    """Return the panels expected for a scene, computed from the scene itself."""
    scene = scenes_of(runs['seed'])[number]
    image = twice(cv2.imread(str(runs['folder'] / f'coco/val2017/{number + 1:012d}.jpg'))[..., ::-1])
    masks = np.array([twice(instance.mask) for instance in objects(scene)])
    places = [np.argwhere(mask) for mask in masks]
    boxes = np.array([[*p.min(axis=0)[::-1], *(p.max(axis=0)[::-1] + 1)] for p in places])
    labels = np.array([instance.label for instance in objects(scene)])
    # 0 is unlabeled in the files, 255 in the loaded maps.
    segmentation = twice(scene.segmentation - np.uint8(1))
    star = np.full(image.shape[:2], 2 + OBJECT_CLASSES.index(PREDICTED))
    return {
        'image': image,
        'instances': draw_instances(image, masks, boxes, labels, None, OBJECT_CLASSES, PALETTE[2:]),
        'classes': draw_segmentation(image, segmentation, PALETTE),
        'predicted classes': draw_segmentation(image, star, PALETTE),
    }


def current_scope() -> str | None:
    scope = DefaultScope.get_current_instance()
    return scope and scope.scope_name


def test_sheet_shows_truth_and_predictions_of_pictures_with_objects(runs):
    before = current_scope()
    sheet = predictions_sheet(runs['sure'], runs['upernet'], count=2)
    assert current_scope() == before
    assert sheet.title == 'convnext_micro: predictions of Mask R-CNN (score at least 0.3) and UperNet'
    assert list(sheet.column_titles) == [f'validation image {number + 1}' for number in SHOWN]
    for column, number in enumerate(SHOWN):
        image, instances, found, classes, predicted = (row[column] for row in sheet.rows.values())
        panels = expected_panels(runs, number)
        np.testing.assert_array_equal(image, panels['image'])
        np.testing.assert_array_equal(instances, panels['instances'])
        np.testing.assert_array_equal(classes, panels['classes'])
        np.testing.assert_array_equal(predicted, panels['predicted classes'])
        colors = dict(zip(OBJECT_CLASSES, PALETTE[2:], strict=True))
        drawn = {name for name, color in colors.items() if is_color(found, color).sum() > 50}
        assert drawn == {PREDICTED}


def test_sheet_shows_no_instance_below_the_threshold(runs):
    sheet = predictions_sheet(runs['unsure'], runs['upernet'], count=1)
    image, _, found, *_ = (row[0] for row in sheet.rows.values())
    np.testing.assert_array_equal(found, image)


def test_classes_without_a_color_get_one(runs):
    sheet = predictions_sheet(runs['unsure'], runs['upernet'], 1, colors={'ground': (1, 2, 3)})
    assert sheet.legend['ground'] == (1, 2, 3)
    others = [color for name, color in sheet.legend.items() if name != 'ground']
    assert others == distinct_palette(len(PALETTE) - 1)


def test_invalid_runs_are_refused(runs, tmp_path):
    sure, upernet = runs['sure'], runs['upernet']
    other = tmp_path / 'other'
    write_ade20k(other, STYLE, {'val': SCENES}, runs['seed'] + 1)
    fewer = tmp_path / 'fewer'
    write_ade20k(fewer, STYLE, {'val': SCENES - 1}, runs['seed'])
    elsewhere = save_config(tmp_path, 'upernet_convnext_micro', other)
    (tmp_path / 'short').mkdir()
    short = save_config(tmp_path / 'short', 'upernet_convnext_micro', fewer)
    cases = [
        ((sure, upernet, 0), '1 or more'),
        ((sure, upernet, SCENES), 'only 2 .* 4 were requested'),
        ((sure, (elsewhere, upernet[1]), 1), 'are different pictures'),
        ((sure, (short, upernet[1]), 1), 'the same scenes'),
        (((sure[0], upernet[1]), upernet, 1), 'does not fit'),
        (((sure[0], tmp_path / 'none.pth'), upernet, 1), 'is not a file'),
        ((upernet, sure, 1), 'is not a config of mmdet'),
    ]
    for arguments, message in cases:
        with pytest.raises(UserError, match=message) as raised:
            predictions_sheet(*arguments)
        assert '\n' not in str(raised.value)
