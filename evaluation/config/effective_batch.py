"""The number of images that one step of the optimizer sees."""

from mmengine.config import Config


def accumulated_batches(cfg: Config) -> int:
    """How many batches of a process go into one step of the optimizer."""
    return (cfg.get('optim_wrapper') or {}).get('accumulative_counts') or 1


def effective_batch_size(cfg: Config, processes: int) -> int:
    """Images of one step of the optimizer: of all processes and all accumulated batches.

    Args:
        cfg: with `train_dataloader` and `optim_wrapper`.
        processes: how many share the training.
    """
    return cfg.train_dataloader.batch_size * processes * accumulated_batches(cfg)
