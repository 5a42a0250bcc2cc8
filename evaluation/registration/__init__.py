"""Import everything that registers with OpenMMLab.

Configs name this module alone, so that they do not depend on where the modules of the suite lie. Nothing
imports it but configs.
"""

import backbones  # noqa: F401
import evaluation.data.imagenet_dataset
import evaluation.data.loading
import evaluation.data.reproducible_loading
import evaluation.data.segmentation_map
import evaluation.data.timm_transforms
import evaluation.engine.hooks.checkpoint
import evaluation.engine.hooks.result
import evaluation.engine.hooks.visualization
import evaluation.metrics.accuracy
import evaluation.metrics.instances
import evaluation.metrics.segmentation
import evaluation.models.classifier
import evaluation.models.preprocessor
import evaluation.models.test_time_augmentation  # noqa: F401
