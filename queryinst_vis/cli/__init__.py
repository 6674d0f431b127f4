"""``queryinst-vis ...``: parse the command line, run one job, end with an honest exit status.

0: done. 2: bad arguments or input, one line on standard error says what and where. 130: stopped
by Ctrl-C. 1: anything else, one line as well; ``--debug`` shows the traceback behind it. A training
that is stopped saves its state first, says how to go on, and ends with 1.
"""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from queryinst_vis.cli.commands import add_all
from queryinst_vis.errors import InputError, InputWarning

PROGRAM = "queryinst-vis"


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return the exit status."""
    words = sys.argv[1:] if argv is None else argv
    debug = "--debug" in words
    try:
        arguments = parse_arguments(words)
        with _warnings_in_one_line():
            arguments.run(arguments)
    except InputError as error:
        return _fail(str(error), 2, debug)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, debug)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        hint = "" if debug else " (--debug shows where)"
        return _fail(f"unexpected {reason}{hint}", 1, debug)
    return 0


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show our own warnings like errors, without the place in the code that Python adds."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_ours(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, InputWarning):
                print(f"{PROGRAM}: warning: {message}", file=sys.stderr)
            else:
                show(message, category, *place)

        warnings.showwarning = show_ours
        yield


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    return status


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """Parse a command line; ``.run`` of the result is the job.

    Raises:
        InputError: unknown, missing or malformed arguments.
    """
    parser = build_parser()
    arguments, rest = parser.parse_known_args(words)
    if rest and "overrides" in arguments and not any(word.startswith("-") for word in rest):
        # argparse fills a list of positionals once; overrides may also stand behind an option
        arguments.overrides = [*arguments.overrides, *rest]
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return arguments


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = _Parser(
        prog=PROGRAM,
        description="Instances as queries: train, evaluate and run QueryInst on images and "
        "QueryInst-VIS on videos.",
        epilog="'%(prog)s COMMAND --help' shows the options and an example of each command.",
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_all(subparsers)
    return parser


class _Parser(argparse.ArgumentParser):
    """Reports bad arguments the way bad input is reported: one line, exit status 2."""

    def error(self, message: str) -> None:
        raise InputError(f"{message}; see '{self.prog} --help'")


if __name__ == "__main__":
    sys.exit(main())
