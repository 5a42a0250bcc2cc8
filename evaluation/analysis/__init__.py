"""What a backbone has learnt to look at and to ignore: analyses of a model beside AP and mIoU."""

import backbones  # noqa: F401  Before mmdet, which needs its operators, whichever module comes first.
