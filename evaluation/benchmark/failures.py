"""Why a network cannot run as it was asked to, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch._dynamo.exc import BackendCompilerFailed

from evaluation.benchmark.passes import Mode
from evaluation.benchmark.sizes import Size
from evaluation.engine.experiment import TOO_FEW_VALUES
from evaluation.utils.errors import UserError

_NO_KERNEL = 'not implemented for'


@contextmanager
def failures_explained(name: str, size: Size, mode: Mode) -> Iterator[None]:
    """Let what is not the suite's defect be an error that names the row.

    Args:
        name: of the row.
        size: of the batch that it runs on.
        mode: how it runs.

    Raises:
        UserError: the device has no kernel for the dtype, a batch norm has too little to train on, or
            the compiler failed.
    """
    try:
        yield
    except BackendCompilerFailed as error:
        reason = ' '.join(str(error.inner_exception).split('\n\n')[0].split())
        raise UserError(f'{name} cannot be compiled: {reason}; leave out --compile') from error
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ''
        if TOO_FEW_VALUES in reason:
            raise UserError(
                f'{name} cannot train on {size}: a batch norm gets one value a channel; '
                'give more images with --batch'
            ) from error
        if _NO_KERNEL in reason:
            raise UserError(f'{name} does not run in {mode.dtype} on {mode.device}: {reason}') from error
        raise
