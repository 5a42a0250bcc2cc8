import pytest
from mmengine.config import ConfigDict

import evaluation.data.segmentation_map  # noqa: F401
from evaluation.data.checked_loading import with_checked_loading, without_truth

pytestmark = pytest.mark.habits


def names(pipeline):
    return [step['type'] for step in pipeline]


def test_loaders_are_replaced_in_wrapped_data_sets():
    steps = [{'type': 'mmcv.LoadImageFromFile', 'color_type': 'color'}, {'type': 'LoadAnnotations'}]
    inner = {'type': 'BaseSegDataset', 'metainfo': {'classes': ['a', 'b']}, 'pipeline': steps}
    wrapped = {'type': 'RepeatDataset', 'times': 2, 'dataset': inner}
    wrapped = ConfigDict(type='ConcatDataset', datasets=[wrapped])
    pipeline = with_checked_loading(wrapped, 'mmseg').datasets[0].dataset.pipeline
    assert pipeline[0] == {'type': 'LoadCheckedImage', 'color_type': 'color'}
    assert pipeline[1] == {'type': 'LoadCheckedSegmentationMap', 'num_classes': 2}
    assert names(wrapped.datasets[0].dataset.pipeline) == ['mmcv.LoadImageFromFile', 'LoadAnnotations']


def test_a_plain_dict_will_do():
    steps = [{'type': 'LoadAnnotations'}]
    dataset = {'type': 'BaseSegDataset', 'metainfo': {'classes': ['a', 'b']}, 'pipeline': steps}
    assert with_checked_loading(dataset, 'mmseg')['pipeline'][0]['num_classes'] == 2


def test_objects_keep_the_transform_of_mmdet():
    dataset = {'type': 'CocoDataset', 'pipeline': [{'type': 'LoadAnnotations', 'with_bbox': True}]}
    assert with_checked_loading(dataset, 'mmdet') == dataset


def test_without_truth_no_view_is_lost():
    views = [[{'type': 'Resize'}], [{'type': 'LoadAnnotations'}], [{'type': 'PackDetInputs'}]]
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'TestTimeAug', 'transforms': views}]
    kept = without_truth(pipeline)
    assert names(kept) == ['LoadImageFromFile', 'TestTimeAug']
    assert [names(view) for view in kept[1]['transforms']] == [['Resize'], ['PackDetInputs']]
