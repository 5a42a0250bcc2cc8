import pytest

from evaluation.utils.errors import UserError


def refusal(check, *arguments):
    """The one line by which a check refuses."""
    with pytest.raises(UserError) as caught:
        check(*arguments)
    (line,) = str(caught.value).splitlines()
    return line
