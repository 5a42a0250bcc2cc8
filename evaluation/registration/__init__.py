"""Import everything that registers with OpenMMLab.

Configs name only this module, so they do not depend on where the modules of the suite are. Only configs
import it.
"""

import backbones  # noqa: F401
import evaluation.data.fractions
import evaluation.data.image_loading
import evaluation.data.imagenet
import evaluation.data.segmentation_map
import evaluation.engine.drawing
import evaluation.engine.hooks.result_hook
import evaluation.engine.hooks.training
import evaluation.metrics.class_metrics
import evaluation.metrics.instance_ap
import evaluation.models.classifier
import evaluation.models.linear_head
import evaluation.models.test_time_augmentation  # noqa: F401
