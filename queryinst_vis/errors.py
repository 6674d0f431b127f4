"""The exception and the warning for invalid input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn


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


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type without a message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run the main function of a script and exit.

    Args:
        main: returns the exit status, or None for 0. If it raises an ``InputError``, the message
            is printed as one line, and the exit status is 2.
    """
    try:
        sys.exit(main())
    except InputError as error:
        print(f"{sys.argv[0]}: error: {error}", file=sys.stderr)
        sys.exit(2)
