"""All predictions of a test run in one file."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import DumpResults
from mmengine.registry import METRICS

from evaluation.metrics.run_lengths import encode_masks

# Beside the predictions: the truth, and the scores of every class at every pixel.
LEFT_OUT = ('gt_instances', 'ignored_instances', 'gt_sem_seg', 'seg_logits')


@METRICS.register_module()
class DumpPredictions(DumpResults):
    """Keeps the predictions until all images are tested, then pickles them.

    mmengine's `DumpResults` keeps all that a model returns, 0.2 GB of scores for an image of ADE20K and
    30 MB of masks for one of COCO, so that no machine would hold a data set. Here masks are run-length
    codes and maps have 8 bits a pixel.

    Args:
        out_file_path: file to write, .pkl or .pickle.
    """

    def __init__(self, out_file_path: str) -> None:
        super().__init__(out_file_path)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of some images.

        Args:
            data_batch: not used.
            data_samples: what the model returned, `pred_instances` with `masks` (N, H, W), bool, or
                `pred_sem_seg` with `data` (1, H, W).
        """
        super().process(data_batch, [smaller(sample) for sample in data_samples])


def smaller(sample: dict) -> dict:
    """What a model returned of an image, without what is no prediction, in small types."""
    kept = {name: value for name, value in sample.items() if name not in LEFT_OUT}
    if 'masks' in kept.get('pred_instances', {}):
        found = kept['pred_instances']
        kept['pred_instances'] = {**found, 'masks': encode_masks(found['masks'])}
    if 'pred_sem_seg' in kept:
        # Labels have 8 bits, so there are not more classes.
        kept['pred_sem_seg'] = {'data': kept['pred_sem_seg']['data'].to(torch.uint8)}
    return kept
