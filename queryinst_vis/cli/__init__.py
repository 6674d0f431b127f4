"""The command line ``queryinst-vis``: parses arguments, runs a command and reports the outcome.

Exit status 0: success. 2: invalid arguments or input, with a one-line message on standard error.
130: interrupted by Ctrl-C; 143 and 129: by SIGTERM and SIGHUP. 1: any other error, also in one
line; ``--debug`` adds the traceback. Training that is stopped saves its state, says how to
resume, and ends with 1. If the reader of standard output exits (``| head``), the command
continues and still writes its files.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from queryinst_vis import __version__
from queryinst_vis.cli import (
    batch,
    benchmark,
    data,
    datasets,
    detect,
    diagnose,
    doctor,
    evaluate,
    export,
    finetune,
    interchange,
    plots,
    report,
    review,
    submission,
    test,
    track,
    train,
    weights,
)
from queryinst_vis.cli.arguments import Parser, check_outputs
from queryinst_vis.cli.streams import prepare_streams
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.utils.files import remove_temporaries
from queryinst_vis.utils.interrupt import Terminated, raise_when_terminated

PROGRAM = "queryinst-vis"
FAMILIES = (
    track,
    batch,
    detect,
    train,
    finetune,
    test,
    evaluate,
    diagnose,
    report,
    review,
    datasets,
    interchange,
    data,
    submission,
    weights,
    export,
    benchmark,
    plots,
    doctor,
)
"""The modules that add commands, in the order of the help text.

They import libraries inside the functions that run a command, so that ``--help`` is fast.
"""

_ENVIRONMENT_ERRORS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOTDIR,
}
"""Errors that the user can fix: permissions, disk space and file names."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv`` (default: ``sys.argv``) and return the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if argv is None:
        prepare_streams()
    try:
        with raise_when_terminated():
            return _run(words)
    finally:
        remove_temporaries()


def _run(words: list[str]) -> int:
    debug = "--debug" in words
    try:
        arguments = parse_arguments(words)
        check_outputs(arguments)
        with _warnings_in_one_line():
            arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except InputError as error:
        return _fail(str(error), 2, debug)
    except KeyboardInterrupt as error:
        return _fail_by(error, debug)
    except OSError as error:
        if error.errno in _ENVIRONMENT_ERRORS and error.filename is not None:
            return _fail(f"{os.fsdecode(error.filename)}: {error.strerror}", 2, debug)
        return _fail_unexpectedly(error, debug)
    except Exception as error:
        if interrupt := _interrupt_behind(error):
            return _fail_by(interrupt, debug)
        return _fail_unexpectedly(error, debug)
    return 0


def _interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The interrupt that a library was handling when an error occurred."""
    context = error.__context__
    if context is None or isinstance(context, KeyboardInterrupt):
        return context
    return _interrupt_behind(context)


def _fail_by(interrupt: KeyboardInterrupt, debug: bool) -> int:
    if isinstance(interrupt, Terminated):
        return _fail(f"stopped by {interrupt}", 128 + interrupt.number, debug)
    return _fail("interrupted", 130, debug)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show ``InputWarning`` like errors, without the source line that Python adds."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)  # repeated ones too, such as of each outage
        show = warnings.showwarning

        def show_in_one_line(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, InputWarning):
                print(f"{PROGRAM}: warning: {message}", file=sys.stderr)
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = show_in_one_line
        yield


def _fail_unexpectedly(error: Exception, debug: bool) -> int:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    hint = "" if debug else " (--debug shows where)"
    return _fail(f"unexpected {reason}{hint}", 1, debug)


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    return status


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """Parse a command line; ``run`` of the result is the function to call.

    Raises:
        InputError: unknown, missing or malformed arguments.
    """
    parser = build_parser()
    arguments, rest = parser.parse_known_args(words)
    if rest and "overrides" in arguments and not any(word.startswith("-") for word in rest):
        # argparse fills a list of positionals only once; overrides may also follow an option
        arguments.overrides = [*arguments.overrides, *rest]
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return arguments


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = Parser(
        prog=PROGRAM,
        description="Train, evaluate and run QueryInst on images and QueryInst-VIS on videos.",
        epilog="'%(prog)s COMMAND --help' shows the options and examples of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for family in FAMILIES:
        family.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
