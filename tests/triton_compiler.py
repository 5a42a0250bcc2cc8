"""Skip tests that compile kernels where Triton cannot compile."""

import pytest

from evaluation.gpu_check.ahead_of_time import check_compiler
from evaluation.gpu_check.checks import SkippedCheckError


def skip_unless_compiling() -> None:
    """Skip the test if Triton cannot compile in this process."""
    try:
        check_compiler()
    except SkippedCheckError as error:
        pytest.skip(str(error))
