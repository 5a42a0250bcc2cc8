"""mmengine's runner, with checkpoints that are read safely, checked, and written atomically."""

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.distributed import PrefixStore, Store, rendezvous
from torch.distributed.rendezvous import register_rendezvous_handler
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from backbones.checkpoint import read_checkpoint, weights_of
from evaluation.config.run_settings import accumulated_batches, effective_batch_size
from evaluation.data.image_loading import SEEDED_SAMPLERS, with_checked_loading, yield_errors
from evaluation.engine.hooks.training import (
    UNFINISHED,
    DivergenceHook,
    MissedEvaluationHook,
    RandomStateHook,
    SharedStatisticsHook,
)
from evaluation.models.frozen import freeze_backbone
from evaluation.models.model_weights import check_whole, fit_model, unwrapped
from evaluation.utils.errors import UserError
from evaluation.utils.files import rename_whole
from evaluation.utils.process_groups import restart_count
from evaluation.utils.random_state import RandomState, random_state
from evaluation.utils.scalars import write_length

# Entries that a checkpoint needs to be resumed.
TRAINING_STATE = ('meta', 'message_hub', 'optimizer', 'param_schedulers')


class BenchmarkRunner(Runner):
    """Runner that loads every checkpoint through `backbones.checkpoint` and logs a report on it.

    `checkpoint_key` of the config selects the entry of a file that holds the weights.
    """

    resumed_random_states: list[RandomState] | None = None
    to_test: tuple[dict, str] | None = None
    test_loop_of: Callable[['BenchmarkRunner'], BaseLoop] | None = None

    def build_logger(
        self, log_level: int | str = 'INFO', log_file: str | None = None, **settings: object
    ) -> MMLogger:
        """Build mmengine's logger; a log file that cannot be written stops the run."""
        logger = super().build_logger(log_level, log_file, **settings)
        settle_log_faults(logger)
        return logger

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scale the learning rate linearly with the effective batch; mmengine ignores accumulation.

        Args:
            optim_wrapper: wrapper of one optimizer, or of several.
            auto_scale_lr: settings `enable`, and `base_batch_size`, the batch of the config's rate.
        """
        if not (auto_scale_lr or {}).get('enable'):
            return
        base = auto_scale_lr['base_batch_size']
        batch = effective_batch_size(self.cfg, self.world_size)
        several = isinstance(optim_wrapper, OptimWrapperDict)
        for wrapper in optim_wrapper.values() if several else [optim_wrapper]:
            for group in wrapper.optimizer.param_groups:
                group['lr'] *= batch / base
        self.logger.info(
            f'learning rate scaled by {batch / base:g}: the config sets it for a batch of {base}, and '
            f'this training uses {batch} images per step ({self.world_size} processes, '
            f'{accumulated_batches(self.cfg)} accumulated batches of '
            f'{self.cfg.train_dataloader.batch_size} each)'
        )

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop, and write its length for progress reports."""
        built = super().build_train_loop(loop)
        iterations = getattr(built, 'max_iters', None)
        if is_main_process() and iterations is not None:
            # Not essential: if the disk is not writable, the training reports it for its own files.
            with contextlib.suppress(OSError):
                write_length(Path(self.log_dir), iterations)
        return built

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model; freeze its backbone if the recipe states a protocol.

        Raises:
            UserError: the model has nothing to freeze.
        """
        built = super().build_model(model)
        if protocol := (self.cfg.get('recipe') or {}).get('protocol'):
            freeze_backbone(unwrapped(built), protocol)
        return built

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop of a test, by `test_loop_of` if it is set."""
        return super().build_test_loop(loop) if self.test_loop_of is None else self.test_loop_of(self)

    def load_or_resume(self) -> None:
        """Load `to_test`, the content and source of a checkpoint, if set; else follow the config.

        Raises:
            BackboneError: the checkpoint does not fit, or lacks a weight of the model under test.
            UserError: processes on different machines see different checkpoints.
        """
        self._check_one_start()
        if self.to_test is None:
            super().load_or_resume()
        elif not self._has_loaded:
            self.load_content(*self.to_test, strict=True)

    def _check_one_start(self) -> None:
        """Check that all processes load the same checkpoint, as each looked for it on its own."""
        start = Path(self._load_from or '').name if self.to_test is None else ''
        starts = all_gather_object((start, self._resume))
        if len(set(starts)) > 1:
            names = ', '.join(sorted({name or 'nothing' for name, _ in starts}))
            raise UserError(
                f'processes would start from different checkpoints ({names}), since machines see '
                'different files; use a shared work dir, or give --resume CHECKPOINT'
            )

    def load_checkpoint(
        self,
        filename: str,
        map_location: torch.device | Callable | str = 'cpu',
        strict: bool = False,
    ) -> dict:
        """Load weights from a path or URL.

        Args:
            filename: path or URL of the checkpoint.
            map_location: as for `torch.load`.
            strict: whether every weight of the model must be in the file.

        Raises:
            BackboneError: the file cannot be read or does not fit.
        """
        return self.load_content(read_checkpoint(filename, map_location), filename, strict)

    def load_content(self, content: dict, source: str, strict: bool = False) -> dict:
        """Load weights from the output of `read_checkpoint`.

        Args:
            content: content of the checkpoint.
            source: path or URL of the checkpoint, for messages.
            strict: whether every weight of the model must be in the file.

        Raises:
            BackboneError: the weights do not fit.
        """
        model = unwrapped(self.model)
        weights = weights_of(content, source, self.cfg.get('checkpoint_key'))
        fitted, report = fit_model(model, weights, source)
        self.logger.info(f'{source}:\n  {report}')
        if strict:
            check_whole(model, fitted, report, source)
        # mmengine would run this text as Python code to compare the number of GPUs.
        meta = {key: value for key, value in content.get('meta', {}).items() if key != 'config'}
        checkpoint = {**content, 'meta': meta, 'state_dict': fitted}
        # Hooks may replace the weights, as the EMA hook does.
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model.load_state_dict(checkpoint['state_dict'], strict=False)
        if self._resume:
            self.resumed_random_states = meta.get('random_states')
        self._has_loaded = True
        return checkpoint

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Save a checkpoint, with the random state of every process; the arguments are mmengine's.

        An existing file of the same name is replaced only after the new one is complete on disk.

        Raises:
            UserError: some weights are non-finite.
        """
        states = all_gather_object(random_state())
        if not is_main_process():
            return
        is_local = file_client_args is None and backend_args is None and '://' not in str(out_dir)
        unfinished = f'{filename}{UNFINISHED}' if is_local else filename
        try:
            super().save_checkpoint(
                out_dir,
                unfinished,
                file_client_args=file_client_args,
                save_optimizer=save_optimizer,
                save_param_scheduler=save_param_scheduler,
                meta={**(meta or {}), 'random_states': states},
                by_epoch=by_epoch,
                backend_args=backend_args,
            )
            if is_local:
                rename_whole(Path(out_dir, unfinished), Path(out_dir, filename))
        except BaseException as error:
            if isinstance(error, OSError):
                error.filename = str(Path(out_dir, filename))
            if is_local:
                with contextlib.suppress(OSError):
                    Path(out_dir, unfinished).unlink(missing_ok=True)
            raise

    def register_hooks(
        self,
        default_hooks: dict[str, Hook | dict] | None = None,
        custom_hooks: list[Hook | dict] | None = None,
    ) -> None:
        """Register the config's hooks, and those that keep a training correct and resumable."""
        super().register_hooks(default_hooks, custom_hooks)
        for hook in (
            DivergenceHook(),
            RandomStateHook(),
            SharedStatisticsHook(),
            MissedEvaluationHook(),
        ):
            self.register_hook(hook)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader that checks what it loads and yields a `UserError` for a bad batch.

        With a seeded sampler, the data set is wrapped in a `SeededDataset`.
        """
        if isinstance(dataloader, dict):
            dataloader = {**dataloader, 'dataset': with_checked_loading(dataloader['dataset'])}
        if isinstance(dataloader, dict) and dataloader['sampler']['type'] in SEEDED_SAMPLERS:
            dataset = {'type': 'SeededDataset', 'dataset': dataloader['dataset'], 'seed': seed}
            # Starting workers draws a seed; it must not come from the model's random numbers.
            generator = torch.Generator().manual_seed(seed)
            dataloader = {**dataloader, 'dataset': dataset, 'generator': generator}
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if loader is not dataloader:
            yield_errors(loader)
        return loader

    def call_hook(self, fn_name: str, **arguments: Any) -> None:
        """Call a method of all hooks.

        Raises:
            UserError: the data loader yielded this error instead of a batch.
        """
        if isinstance(arguments.get('data_batch'), UserError):
            raise arguments['data_batch']
        super().call_hook(fn_name, **arguments)


DEFAULT = 'MMDistributedDataParallel'
SCHEME = 'restart'


def set_model_wrapper(cfg: Config, on_gpu: bool) -> None:
    """Complete the config's `model_wrapper_cfg`, without changing its settings.

    mmengine reads `find_unused_parameters` only without a `model_wrapper_cfg`, and always sets a GPU as
    the model's device.

    Args:
        cfg: the config; modified in place if a setting is missing.
        on_gpu: whether the processes train on GPUs.
    """
    own = cfg.get('model_wrapper_cfg')
    if own is None and on_gpu:
        return
    wrapper = {'type': DEFAULT, 'broadcast_buffers': False} if own is None else {'type': DEFAULT, **own}
    built = wrapper['type']
    built = MODEL_WRAPPERS.get(built) if isinstance(built, str) else built
    if 'find_unused_parameters' in cfg and built is not None and _takes_unused(built):
        wrapper.setdefault('find_unused_parameters', cfg.find_unused_parameters)
    if not on_gpu and inspect.isclass(built) and issubclass(built, DistributedDataParallel):
        # DistributedDataParallel takes no device ids for modules on the CPU.
        wrapper['device_ids'] = None
    cfg.model_wrapper_cfg = wrapper


def _takes_unused(built: type) -> bool:
    inits = [vars(base).get('__init__') for base in built.__mro__]
    return any(
        'find_unused_parameters' in inspect.signature(init).parameters
        for init in inits
        if inspect.isfunction(init)
    )


def init_method() -> str:
    """Return the `init_method` of `init_process_group` for a process that torchrun started.

    torchrun gives every restart the same store, which still has the addresses of the previous
    processes. A process that reads an old address before the new one is written fails to connect. So
    each restart uses its own prefix in the store.
    """
    if restart_count() == 0:
        return 'env://'
    register_rendezvous_handler(SCHEME, _rendezvous)
    return f'{SCHEME}://'


def _rendezvous(url: str, **options: object) -> Iterator[tuple[Store, int, int]]:
    for store, rank, size in rendezvous('env://', **options):
        yield PrefixStore(f'restart {restart_count()}', store), rank, size


def settle_log_faults(logger: logging.Logger) -> None:
    """Stop the run if a log file cannot be written; ignore a closed terminal."""
    for handler in logger.handlers:
        is_file = isinstance(handler, logging.FileHandler)
        handler.handleError = _raise_again if is_file else _pass_over


def _raise_again(_: logging.LogRecord) -> None:
    # `logging` calls this while it handles the error.
    raise


def _pass_over(_: logging.LogRecord) -> None:
    """Ignore the error: the line is in the log file."""
