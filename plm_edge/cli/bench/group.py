"""A group of commands that does something without one as well: `bench [MODEL]`, `bench COMMAND`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_NAMED = "plm_edge.bench.command"  # in a call's `meta`: whether a command was named


class BenchGroup(TyperGroup):
    """Takes its own argument and options unless its first argument is the name of a command.

    A model whose file has the name of a command is given as `./matrix`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if self._place_of_command(args) is None:
            args = current_spelling(args)
        at = self._place_of_command(args)
        ctx.meta[_NAMED] = at is not None
        if at is None:
            ctx.allow_interspersed_args, ctx.allow_extra_args = True, False
        else:
            args = [args[at], *args[:at], *args[at + 1 :]]
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Nothing but --help when a command is named: that one has the rest."""
        params: list[Any] = super().get_params(ctx)
        if ctx.command is self and not ctx.meta.get(_NAMED):
            return params
        own = {id(param) for param in self.params}
        return [param for param in params if id(param) not in own]

    def _place_of_command(self, args: list[str]) -> int | None:
        """Where in `args` a command's name stands, if it is the first that is no option."""
        options = [param for param in self.params if not getattr(param, "is_flag", True)]
        with_value = {name for option in options for name in option.opts}
        at = 0
        while at < len(args) and args[at].startswith("-"):
            at += 2 if args[at] in with_value else 1
        return at if at < len(args) and args[at] in self.commands else None


def current_spelling(args: list[str]) -> list[str]:
    """`--matrix`, `--suite paper` and `--compare OTHER`, as the commands that they have become."""
    for at, word in enumerate(args):
        option, _, value = word.partition("=")
        before, after = args[:at], args[at + 1 :]
        if option == "--matrix":
            return ["matrix", *before, *after]
        if option in ("--suite", "--compare"):
            if not value:
                value, after = "".join(after[:1]), after[1:]
            if option == "--suite" and value == "paper":
                return ["paper", *before, *after]
            if option == "--compare" and value:
                return ["compare", value, *before, *after]
    return args
