"""This room is the `plm-edge` command; only it ends the program."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options

# How typer names what it wanted, and how a person would.
_PLAIN = {"a valid int range": "a whole number", "a valid float range": "a number"}


class _Commands(TyperGroup):
    """The group of all commands: it ends quietly if the reader of the output is gone."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Caught here, because typer would end the program as if it had failed.
            _drop_stdout()
            raise typer.Exit(ExitCode.BROKEN_PIPE) from None


app = typer.Typer(
    name="plm-edge",
    cls=_Commands,
    help="Convert, run and measure PLM language models on edge devices.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if not value:
        return
    from plm_edge import __version__
    from plm_edge.engine import library

    console.out.print(f"plm-edge {__version__}")
    try:
        engine = library.load()
    except PlmEdgeError as error:
        console.out.print(f"engine   none: {console.printable(error.what)}", markup=False)
    else:
        info = engine.info
        console.out.print(f"engine   llama.cpp from {info.pin}, patched", markup=False)
        console.out.print(f"tree     {info.tree}", markup=False)
    raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Print the versions of plm-edge and of its engine.",
        ),
    ] = False,
    debug: options.Debug = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what there is, if no command is given."""
    if context.invoked_subcommand is None:
        from plm_edge.cli import status

        names = {command.name or "" for command in app.registered_commands}
        status.show(names | {group.name or "" for group in app.registered_groups})


def _register() -> None:
    # Imported here and not at the top: the commands use `options`, and `app` must exist first.
    from plm_edge.cli.bench import bench
    from plm_edge.cli.cache import cache
    from plm_edge.cli.chat import Chat, chat
    from plm_edge.cli.convert import convert
    from plm_edge.cli.deploy import deploy
    from plm_edge.cli.devices import devices
    from plm_edge.cli.doctor import doctor
    from plm_edge.cli.engine import engine
    from plm_edge.cli.inspection import inspect
    from plm_edge.cli.models.alias import alias
    from plm_edge.cli.models.listing import listing
    from plm_edge.cli.models.pull import add, pull
    from plm_edge.cli.models.remove import remove
    from plm_edge.cli.models.show import show
    from plm_edge.cli.pack import pack
    from plm_edge.cli.profile import profile
    from plm_edge.cli.quality.evaluate import evaluate
    from plm_edge.cli.quality.imatrix import imatrix
    from plm_edge.cli.quality.sparsity import sparsity
    from plm_edge.cli.rpc import rpc
    from plm_edge.cli.run import run
    from plm_edge.cli.serve import logs, ps, serve, service, stop
    from plm_edge.cli.spa import spa
    from plm_edge.cli.tokens import tokens
    from plm_edge.cli.uninstall import uninstall

    # By what a person wants: --help shows them so.
    use, models, there, here = "Use a model", "Your models", "Other machines", "This machine"
    app.command("run", rich_help_panel=use)(run)
    app.command("chat", cls=Chat, rich_help_panel=use)(chat)
    app.command("serve", rich_help_panel=use)(serve)
    app.add_typer(spa, name="spa", rich_help_panel=use)
    app.command("ps", rich_help_panel=use)(ps)
    app.command("stop", rich_help_panel=use)(stop)
    app.command("logs", rich_help_panel=use)(logs)
    app.command("pull", rich_help_panel=models)(pull)
    app.command("add", rich_help_panel=models)(add)
    app.command("list", rich_help_panel=models)(listing)
    app.command("show", rich_help_panel=models)(show)
    app.command("alias", rich_help_panel=models)(alias)
    app.command("rm", rich_help_panel=models)(remove)
    app.command("convert", rich_help_panel=models)(convert)
    app.command("inspect", rich_help_panel=models)(inspect)
    app.add_typer(bench, name="bench", rich_help_panel="Measure")
    app.command("profile", rich_help_panel="Measure")(profile)
    app.add_typer(tokens, name="tokens", rich_help_panel=models)
    app.command("imatrix", rich_help_panel=models)(imatrix)
    app.command("eval", rich_help_panel="Measure")(evaluate)
    app.command("sparsity", rich_help_panel="Measure")(sparsity)
    app.add_typer(devices, name="devices", rich_help_panel=there)
    app.command("deploy", rich_help_panel=there)(deploy)
    app.command("pack", rich_help_panel=there)(pack)
    app.command("rpc", rich_help_panel=there)(rpc)
    app.add_typer(engine, name="engine", rich_help_panel=there)
    app.command("doctor", rich_help_panel=here)(doctor)
    app.add_typer(cache, name="cache", rich_help_panel=here)
    app.add_typer(service, name="service", rich_help_panel=here)
    app.command("uninstall", rich_help_panel=here)(uninstall)


_register()


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: the words after the program's name. None takes those of this process.

    No exception leaves this function: a person sees three lines, and --debug shows the traceback.
    """
    try:
        _prepare_streams()
        result = app(args=arguments, prog_name="plm-edge", standalone_mode=False)
        sys.stdout.flush()
        return int(result) if isinstance(result, int) else int(ExitCode.OK)
    except BrokenPipeError:
        _drop_stdout()
        return int(ExitCode.BROKEN_PIPE)
    except (KeyboardInterrupt, typer.Abort):
        return int(ExitCode.INTERRUPTED)
    except typer.Exit as stop:
        return stop.exit_code
    except PlmEdgeError as error:
        return _fail(error)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help was printed, and that is enough
            return int(ExitCode.USAGE)
        usage = _usage_error(error)
        return _fail(usage or _bug(error))


def _fail(error: PlmEdgeError) -> int:
    if options.debug_wanted:
        traceback.print_exc()
    with contextlib.suppress(BrokenPipeError):  # the code says enough
        console.show_error(error)
    return int(error.code)


def _usage_error(error: Exception) -> PlmEdgeError | None:
    """Make a PlmEdgeError of typer's error for a wrong command line; None for any other error.

    It is known by its attributes, not its class: some versions of typer bring their own click.
    """
    message = getattr(error, "format_message", None)
    if message is None or not hasattr(error, "exit_code"):
        return None
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context else "plm-edge"
    why = " ".join(str(message()).split()) or type(error).__name__
    for typed, plain in _PLAIN.items():
        why = why.replace(typed, plain)
    fix = f"see {command} --help"
    if command == "plm-edge run" and "extra argument" in why:  # as ollama and llm take it
        fix = f'a prompt goes after -p: plm-edge run MODEL -p "…"; {fix}'
    return PlmEdgeError("the command line is not right", why, fix, ExitCode.USAGE)


def _bug(error: Exception) -> PlmEdgeError:
    return PlmEdgeError(
        "plm-edge failed in a way that it should not",
        " ".join(f"{type(error).__name__}: {error}".split()),
        "run it again with --debug, and report what it prints",
        ExitCode.INTERNAL,
    )


def _prepare_streams() -> None:
    """Let the streams replace characters that the terminal's encoding lacks, and not raise."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")


def _drop_stdout() -> None:
    """Send stdout nowhere once nobody reads it: Python would fail again when it flushes at exit."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
