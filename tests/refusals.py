import pytest

from evaluation.utils.errors import UserError


def refusal(check, *arguments):
    """Return the one-line message of the `UserError` that a check raises."""
    with pytest.raises(UserError) as caught:
        check(*arguments)
    (line,) = str(caught.value).splitlines()
    return line
