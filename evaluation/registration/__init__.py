"""Import everything that registers with OpenMMLab.

Configs name this module alone, so that they do not depend on where the modules of the suite lie. Nothing
imports it but configs.
"""

import backbones  # noqa: F401
import evaluation.classification.accuracy
import evaluation.classification.classifier
import evaluation.classification.dataset
import evaluation.classification.preprocessor
import evaluation.classification.transforms
import evaluation.data.loading
import evaluation.data.reproducible_loading
import evaluation.data.segmentation_map
import evaluation.hooks.checkpoint
import evaluation.hooks.instance_drawing
import evaluation.hooks.result
import evaluation.hooks.segmentation_drawing
import evaluation.instance_tta
import evaluation.metrics.instances
import evaluation.metrics.segmentation
import evaluation.segmentation_tta  # noqa: F401
