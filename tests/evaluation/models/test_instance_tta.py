"""`InstanceTTAModel`: views are unflipped exactly, and each object gives one instance."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import nn

import backbones  # noqa: F401  (before mmdet, which needs its operators)
from evaluation.config.config_files import read_config
from evaluation.config.contestants import use_backbone
from evaluation.models.test_time_augmentation import InstanceTTAModel, merge_instances, unflip
from tests.variants import ROOT

from mmdet.structures import DetDataSample  # isort: skip

HEIGHT, WIDTH = 20, 30
CASCADE = ROOT / 'configs/_base_/cascade_mask_rcnn_coco_3x.py'


def instances(*found):
    """Return `InstanceData` from tuples of label, score, (left, top, right, bottom) and mask."""
    data = InstanceData()
    data.labels = torch.tensor([label for label, *_ in found], dtype=torch.int64)
    data.scores = torch.tensor([score for _, score, *_ in found], dtype=torch.float32)
    data.bboxes = torch.tensor([box for *_, box, _ in found], dtype=torch.float32).reshape(-1, 4)
    masks = np.array([mask for *_, mask in found], bool).reshape(-1, HEIGHT, WIDTH)
    data.masks = torch.from_numpy(masks)
    return data


def filled(box):
    left, top, right, bottom = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def view(found, direction=None):
    """Return a view of an image of HEIGHT x WIDTH with the predictions `found`."""
    sample = DetDataSample(
        metainfo={
            'flip': direction is not None,
            'flip_direction': direction,
            'ori_shape': (HEIGHT, WIDTH),
            'img_id': 7,
        }
    )
    if found is not None:
        sample.pred_instances = found
    return sample


def flipped(found, direction):
    """Return the same instances in the flipped image."""
    seen = []
    for label, score, (left, top, right, bottom), mask in found:
        if direction == 'horizontal':
            box, mask = (WIDTH - right, top, WIDTH - left, bottom), mask[:, ::-1]
        else:
            box, mask = (left, HEIGHT - bottom, right, HEIGHT - top), mask[::-1]
        seen.append((label, score, box, mask))
    return instances(*seen)


def assert_same(one, other):
    assert len(one) == len(other)
    for key in ('labels', 'scores', 'bboxes', 'masks'):
        assert torch.equal(one[key], other[key]), key


BOXES = st.tuples(st.integers(0, 10), st.integers(0, 8), st.integers(15, WIDTH), st.integers(12, HEIGHT))


class TestUnflip:
    @given(st.lists(BOXES, max_size=4), st.sampled_from(['horizontal', 'vertical']))
    def test_inverts_the_flip(self, boxes, direction):
        random = np.random.default_rng(len(boxes))
        found = [
            (i, 0.9 - i / 10, box, random.random((HEIGHT, WIDTH)) < 0.5) for i, box in enumerate(boxes)
        ]
        turned_back = unflip(view(flipped(found, direction), direction))
        assert_same(turned_back, instances(*found))

    def test_unflipped_views_stay_the_same(self):
        found = instances((1, 0.5, (2, 3, 9, 12), filled((2, 3, 9, 12))))
        assert_same(unflip(view(found)), found)

    def test_does_not_change_its_argument(self):
        box = (2, 3, 9, 12)
        seen = flipped([(1, 0.5, box, filled(box))], 'horizontal')
        sample = view(seen, 'horizontal')
        unflip(sample)
        assert_same(sample.pred_instances, flipped([(1, 0.5, box, filled(box))], 'horizontal'))


A, B = (2, 3, 12, 14), (15, 2, 28, 18)


class Detector(nn.Module):
    """Detector without predictions; tests pass the instances to merge."""

    def test_step(self, data):
        return []


@pytest.fixture
def model():
    return InstanceTTAModel(Detector(), iou_threshold=0.5, max_per_img=10)


class TestMerging:
    def test_flipped_duplicate_is_one_instance(self, model):
        found = [(0, 0.9, A, filled(A)), (2, 0.8, B, filled(B))]
        mirrored = [(0, 0.7, A, filled(A)), (2, 0.6, B, filled(B))]
        views = [view(instances(*found)), view(flipped(mirrored, 'horizontal'), 'horizontal')]
        (merged,) = model.merge_preds([views])
        assert_same(merged.pred_instances, instances(*found))
        assert merged.img_id == 7

    def test_images_stay_separate(self, model):
        one, other = instances((0, 0.9, A, filled(A))), instances((0, 0.8, B, filled(B)))
        merged = model.merge_preds([[view(one)], [view(other)]])
        assert_same(merged[0].pred_instances, one)
        assert_same(merged[1].pred_instances, other)

    def test_object_in_only_one_view_is_kept(self, model):
        one = instances((0, 0.6, A, filled(A)))
        other = flipped([(1, 0.9, B, filled(B))], 'vertical')
        (merged,) = model.merge_preds([[view(one), view(other, 'vertical')]])
        expected = instances((1, 0.9, B, filled(B)), (0, 0.6, A, filled(A)))
        assert_same(merged.pred_instances, expected)

    def test_nothing_found(self, model):
        empty = instances()
        (merged,) = model.merge_preds([[view(empty), view(empty, 'horizontal')]])
        assert len(merged.pred_instances) == 0
        assert merged.pred_instances.bboxes.shape == (0, 4)
        assert merged.pred_instances.masks.shape == (0, HEIGHT, WIDTH)

    def test_nothing_found_in_one_view(self, model):
        found = instances((0, 0.9, A, filled(A)))
        (merged,) = model.merge_preds([[view(instances()), view(found)]])
        assert_same(merged.pred_instances, found)

    def test_classes_stay_separate(self):
        found = instances((0, 0.9, A, filled(A)), (1, 0.8, A, filled(A)))
        assert_same(merge_instances(found, 0.5, 10), found)

    def test_boxes_that_overlap_less_stay_separate(self):
        half = (2, 3, 12, 8)  # IoU with A: 5 / 11
        found = instances((0, 0.9, A, filled(A)), (0, 0.8, half, filled(half)))
        assert_same(merge_instances(found, 0.5, 10), found)
        assert len(merge_instances(found, 0.4, 10)) == 1

    def test_best_are_kept(self):
        found = instances((0, 0.3, A, filled(A)), (1, 0.9, B, filled(B)), (2, 0.6, A, filled(A)))
        merged = merge_instances(found, 0.5, most=2)
        assert merged.labels.tolist() == [1, 2]


class TestPredicting:
    """Views of a batch, as `TestTimeAug` yields them."""

    class FlipReader(nn.Module):
        """Detector that sees one box at the left of each image; it must not know of flips."""

        def test_step(self, data):
            for sample in data['data_samples']:
                assert not sample.flip
                box = (2, 3, 12, 14)
                sample.pred_instances = instances((0, 0.9, box, filled(box)))
            return data['data_samples']

    def test_detector_does_not_see_flips(self):
        model = InstanceTTAModel(self.FlipReader(), iou_threshold=0.5, max_per_img=10)
        views = [view(None), view(None, 'horizontal')]
        data = {'inputs': [[None]] * 2, 'data_samples': [[each] for each in views]}
        (merged,) = model.test_step(data)
        # The box in the flipped view is at the right of the image.
        mirrored = (WIDTH - 12, 3, WIDTH - 2, 14)
        found = [tuple(box) for box in merged.pred_instances.bboxes.int().tolist()]
        assert sorted(found) == sorted([(2, 3, 12, 14), mirrored])
        assert [each.flip for each in views] == [False, True]

    def test_cascade_with_masks(self):
        """mmdet's cascade fails for views that are marked as flipped."""
        cfg = use_backbone(read_config(str(CASCADE)), 'convnext_micro')
        cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
        cfg.model.test_cfg.rpn.max_per_img = 20
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmdet'):
            detector = MODELS.build(cfg.model).eval()
        model = InstanceTTAModel(detector, iou_threshold=0.5, max_per_img=10)
        image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
        data = {'inputs': [[image], [image.flip(-1)]], 'data_samples': []}
        for is_flipped in (False, True):
            sample = DetDataSample(
                metainfo={
                    'flip': is_flipped,
                    'flip_direction': 'horizontal' if is_flipped else None,
                    'ori_shape': (64, 64),
                    'img_shape': (64, 64),
                    'scale_factor': (1.0, 1.0),
                }
            )
            data['data_samples'].append([sample])
        with torch.no_grad():
            (merged,) = model.test_step(data)
        found = merged.pred_instances
        assert 0 < len(found) <= 10
        assert found.masks.shape == (len(found), 64, 64)


class TestVote:
    def test_majority_of_equal_scores(self):
        left, right, top = filled((2, 3, 8, 14)), filled((6, 3, 12, 14)), filled((2, 3, 12, 8))
        found = instances(*((0, 0.5, A, mask) for mask in (left, right, top)))
        merged = merge_instances(found, 0.5, 10)
        counts = left.astype(int) + right + top
        assert len(merged) == 1
        assert np.array_equal(merged.masks[0].numpy(), counts >= 2)

    def test_scores_are_weights(self):
        left, right = filled((2, 3, 8, 14)), filled((6, 3, 12, 14))
        found = instances((0, 0.9, A, left), (0, 0.5, A, right), (0, 0.3, A, right))
        merged = merge_instances(found, 0.5, 10)
        assert np.array_equal(merged.masks[0].numpy(), left)

    def test_masks_of_other_classes_and_boxes_do_not_vote(self):
        found = instances(
            (0, 0.4, A, filled(A)), (1, 0.9, A, filled(B)), (0, 0.9, B, filled((0, 0, 5, 5)))
        )
        merged = merge_instances(found, 0.5, 10)
        (mine,) = (
            mask
            for mask, label, score in zip(merged.masks, merged.labels, merged.scores, strict=True)
            if label == 0 and score < 0.5
        )
        assert np.array_equal(mine.numpy(), filled(A))

    def test_masks_are_boolean(self):
        found = instances((0, 0.9, A, filled(A)), (0, 0.8, A, filled(A)))
        assert merge_instances(found, 0.5, 10).masks.dtype == torch.bool
