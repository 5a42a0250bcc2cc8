"""Checks that a validation or test loader gives each image once, to a metric that knows it."""

from collections.abc import Iterator

from mmengine.config import Config, ConfigDict

from evaluation.config.schedule import INFINITE_SAMPLERS, name_of, sampler_of
from evaluation.data.class_counts import dataset_class
from evaluation.utils.errors import UserError

EVALUATED = ('val_dataloader', 'test_dataloader')
REMEDY = 'evaluate each data set by itself, or give one annotation file that has all'


def check_evaluated(cfg: Config, loader: str) -> None:
    """Check the wrappers around the data sets of a loader.

    Args:
        cfg: the config.
        loader: a data loader; one of training passes.

    Raises:
        UserError: the sampler never ends, or a wrapper repeats or mixes images, or joins data sets that
            the evaluation cannot join.
    """
    if loader not in EVALUATED:
        return
    sampler = sampler_of(cfg, loader)
    if sampler.is_a(*INFINITE_SAMPLERS):
        raise UserError(
            f'{sampler.place}.type={name_of(sampler)!r} never ends, and so would the evaluation; '
            f"give {sampler.place}.type='DefaultSampler' and {sampler.place}.shuffle=False"
        )
    dataset = cfg[loader].dataset
    for place, wrapper in wrappers_of(dataset, f'{loader}.dataset'):
        if 'dataset' in wrapper:
            raise UserError(
                f'{place}.type={_name(wrapper)!r} repeats or mixes images, which an evaluation takes '
                f'once each; give the settings of {place}.dataset as {place}'
            )
    parts = list(_plain(dataset))
    files = [part.get('ann_file') for part in parts]
    coco = [dataset_class(part, cfg.default_scope).load_data_list.__qualname__ for part in parts]
    if len(parts) > 1 and 'CocoDataset.load_data_list' in coco:
        # Images of two files may have equal ids, and the metric has the truth of one file.
        raise UserError(
            f'{loader}.dataset joins {len(parts)} data sets ({", ".join(map(str, files))}), but AP is '
            f'computed from one annotation file; {REMEDY}'
        )
    for index, part in enumerate(parts):
        if any(_images(part) == _images(other) for other in parts[:index]):
            raise UserError(
                f'{loader}.dataset joins {part.get("data_root") or part.get("type")} twice, so its '
                'images would count twice; leave one out'
            )


def wrappers_of(dataset: ConfigDict, place: str) -> Iterator[tuple[str, ConfigDict]]:
    """Data sets that hold others, with their places in the config, outermost first."""
    if 'dataset' in dataset:
        yield place, dataset
        yield from wrappers_of(dataset.dataset, f'{place}.dataset')
    elif 'datasets' in dataset:
        yield place, dataset
        for index, part in enumerate(dataset.datasets):
            yield from wrappers_of(part, f'{place}.datasets.{index}')


def _plain(dataset: ConfigDict) -> Iterator[ConfigDict]:
    parts = dataset.get('datasets', [dataset.dataset] if 'dataset' in dataset else [])
    if not parts:
        yield dataset
    for part in parts:
        yield from _plain(part)


def _images(part: ConfigDict) -> tuple:
    """What says which images a data set has."""
    names = ('data_root', 'data_prefix', 'ann_file', 'split', 'indices')
    return tuple(str(part.get(name)) for name in names)


def _name(settings: ConfigDict) -> str:
    wanted = settings.get('type')
    return wanted if isinstance(wanted, str) else getattr(wanted, '__name__', str(wanted))
