"""Which results a table shows, and in what order."""

from collections.abc import Sequence

from evaluation.results.result import Result

SCALE_ORDER = ('micro', 'tiny', 'small', 'base')
MIXER_ORDER = ('halo', 'pvt', 'swin', 'convnext', 'dcn')


def select(results: Sequence[Result], every: bool) -> list[Result]:
    """Choose what a table shows, in the order of its rows.

    Unless `every` is true, one result is kept of each setup and seed: the one furthest in training, and
    the newest of those.
    """
    ordered = sorted(results, key=row_order)
    if every:
        return ordered
    # The row order ends with progress, so that the last of a kind is the furthest.
    furthest = {(setup(result), result.seed): result for result in ordered}
    return sorted(furthest.values(), key=row_order)


def setup(result: Result) -> tuple:
    """What all evaluations of an experiment share, whatever their seed and progress."""
    return (
        result.task,
        result.backbone,
        result.config,
        result.config_sha256,
        result.dataset,
        result.data_sha256,
        result.images,
        result.test_time_augmentation,
        # Where runs start from weights of their own seed, these have other names.
        result.start,
        result.training_data_sha256,
        result.batch_size,
        result.mixed_precision,
        result.learning_rate_scaled,
        result.recipe,
    )


def row_order(result: Result) -> tuple:
    """Return the sort key of a row: baselines first, then scale, mixer, config and progress.

    Mixers and scales that the suite does not know come last, alphabetically.
    """
    return (
        result.mixer is not None,
        _rank(SCALE_ORDER, result.scale),
        _rank(MIXER_ORDER, result.mixer),
        result.backbone,
        result.config,
        result.recipe or '',
        result.start == 'pretrained',
        result.test_time_augmentation,
        -1 if result.iteration is None else result.iteration,
        result.created,
        str(result.path),
    )


def _rank(order: Sequence[str], name: str | None) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name or '')
