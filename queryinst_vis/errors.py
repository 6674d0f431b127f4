"""The exception and the warning that mean "the input is at fault, not the program"."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input from outside: a file, a config, a checkpoint, an argument.

    The message is one line that says what is wrong, where, and what to do about it.
    The command line prints it as it is and exits with status 2; from Python it is an
    ordinary ``ValueError``.

    Example::

        try:
            queryinst_vis.detect("missing.jpg")
        except queryinst_vis.InputError as error:
            print(error)
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


class InputWarning(UserWarning):
    """Input that can be worked with, but not quite as one may expect.

    The message is one line; the command line prints it as it is and goes on.
    """
