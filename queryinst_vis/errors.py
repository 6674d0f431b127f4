"""The exception and the warning for invalid input."""

from __future__ import annotations


class InputError(ValueError):
    """Invalid input: a file, a config, a checkpoint, an argument.

    The message is a single line with the place, the problem and a remedy. The command line prints
    it and exits with status 2; in Python, it is a ``ValueError``.

    Example::

        try:
            queryinst_vis.detect("missing.jpg")
        except queryinst_vis.InputError as error:
            print(error)
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


class InputWarning(UserWarning):
    """Input that can be used, but not entirely as expected.

    The message is a single line, which the command line prints before it continues.
    """
