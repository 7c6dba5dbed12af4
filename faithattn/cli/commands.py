"""The command line and its sub-commands.

Each sub-command is a pair of functions: one adds its arguments to a parser, one does the work and
returns the exit status. What needs PyTorch is imported in the second, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from faithattn._version import __version__
from faithattn.cli import audit, audits, calibrate, published, reproduce
from faithattn.cli.errors import CommandError

_DESCRIPTION = """\
Does a model's attention explain its output? faithattn runs the four tests of the study "Attention
is not Explanation" (Jain & Wallace 2019), and others, on your model and data set:

  1. Does attention rank words as gradients do?              (Kendall tau)
  2. Does it rank them as leaving each word out does?        (Kendall tau)
  3. Does the output change when attention is shuffled?      (median change)
  4. Could quite other attention have given the same output? (divergence)

audit runs them and writes a report with a verdict for each; report, merge and compare are about
such reports. reproduce trains the study's own models on a task and runs the tests on them. And can
the tests tell at all? calibrate asks them about planted pairs of which one is known to be more
faithful.
"""
_EPILOG = """\
examples:
  faithattn audit my.models:load --data my.data:batches --out results/mine
                                          your own model; what each part means: audit --help
  faithattn compare results/before results/after
                                          what has changed between two audits
  faithattn reproduce babi-1              the quickest way to see it all; needs no file
  faithattn reproduce reviews.csv         your own texts with two labels
  faithattn published sst                 what the study reported on SST
  faithattn calibrate --quick             which metrics rank planted pairs rightly, and when
  faithattn audit --help                  every option, with examples; so for each command

exit status: 0 done, 1 failed on the way, 2 something wrong with the command or a file,
3 done and a limit that was asked for is not met, 130 interrupted.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command in one line."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}. Try {self.prog} --help.\n")
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: What follows ``faithattn``; None for those of this process.

    Returns:
        The exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.

    Raises:
        SystemExit: After ``--help`` and ``--version``, and on wrong usage.
    """
    _survive_any_encoding()
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.work is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        status: int = chosen.work(chosen)
    except CommandError as error:
        sys.stderr.write(f"{parser.prog} {chosen.command}: {_one_line(error)}\n")
        return error.status
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{parser.prog} {chosen.command}: interrupted.\n")
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _parser() -> argparse.ArgumentParser:
    """Returns the parser with every sub-command."""
    parser = _Parser(
        prog="faithattn",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"faithattn {__version__}")
    parser.set_defaults(work=None, command="")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    audit.add_parser(commands)
    audits.add_parsers(commands)
    reproduce.add_parser(commands)
    calibrate.add_parser(commands)
    published.add_parser(commands)
    return parser


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _survive_any_encoding() -> None:
    """Prints a mark for letters that the terminal cannot show, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
