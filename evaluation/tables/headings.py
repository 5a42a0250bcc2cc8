"""How tables write tasks, metrics and figures."""

from collections.abc import Sequence
from decimal import Decimal

from evaluation.results.result import HEADLINE_METRICS, Result
from evaluation.utils.rounding import fixed

TITLES = {'mask_rcnn': 'Mask R-CNN', 'upernet': 'UperNet', 'imagenet': 'Classification'}

# Where results of other models of a task are in a table too, such as detectors without masks.
MIXED_TITLES = {'mask_rcnn': 'Detection'}

# Digits after the point, as the field prints them.
DIGITS = {'mask_rcnn': 1, 'upernet': 2, 'imagenet': 1}

# Metric: its heading in Markdown and in LaTeX.
HEADINGS = {
    'box_AP': ('box AP', r'AP$^{\mathrm{box}}$'),
    'box_AP50': ('box AP50', r'AP$^{\mathrm{box}}_{50}$'),
    'box_AP75': ('box AP75', r'AP$^{\mathrm{box}}_{75}$'),
    'mask_AP': ('mask AP', r'AP$^{\mathrm{mask}}$'),
    'mask_AP50': ('mask AP50', r'AP$^{\mathrm{mask}}_{50}$'),
    'mask_AP75': ('mask AP75', r'AP$^{\mathrm{mask}}_{75}$'),
    'mIoU': ('mIoU', 'mIoU'),
    'mAcc': ('mAcc', 'mAcc'),
    'aAcc': ('aAcc', 'aAcc'),
    'top1': ('top-1', 'top-1'),
    'top5': ('top-5', 'top-5'),
}


def printed(value: float | None, task: str) -> Decimal | None:
    """Round to what tables print, so that ties and differences are those that a reader sees."""
    return None if value is None else Decimal(fixed(value, DIGITS[task]))


def title_of(results: Sequence[Result]) -> str:
    """Title of a table of results of one task and data set."""
    task = results[0].task
    is_whole = all(result.headline_metrics == HEADLINE_METRICS[task] for result in results)
    title = TITLES[task] if is_whole else MIXED_TITLES[task]
    return f'{title} on {results[0].dataset}'
