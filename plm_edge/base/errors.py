"""An error for a person has three lines and a stable exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `plm-edge` command. Stable: scripts rely on them."""

    OK = 0
    INTERNAL = 1  # a bug of ours
    USAGE = 2  # wrong command line (typer's own code)
    INPUT = 3  # a checkpoint, model or other file is wrong or missing
    ENVIRONMENT = 4  # this installation or machine lacks something (library, compiler, CPU feature)
    RESOURCES = 5  # not enough memory or disk
    DEVICE = 6  # another machine cannot be reached, or failed at what was asked
    INTERRUPTED = 130  # Ctrl-C (128 + SIGINT)
    BROKEN_PIPE = 141  # the reader of stdout left (128 + SIGPIPE), as any program shows it


class PlmEdgeError(Exception):
    """A failure that the person in front of the tool can do something about.

    Args:
        what: what happened, one line.
        why: the cause, with the value that is wrong, one line.
        fix: what to do now, one line.
        code: exit code of the command that this error ends.
    """

    def __init__(self, what: str, why: str, fix: str, code: ExitCode = ExitCode.INPUT) -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix
        self.code = code

    def __str__(self) -> str:
        return f"{self.what}\n{self.why}\n{self.fix}"
