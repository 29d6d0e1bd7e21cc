"""`plm-edge run` writes text to stdout and all else to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from plm_edge.base import console
from plm_edge.model.description import ARCH

if TYPE_CHECKING:
    from rich.progress import Progress

    from plm_edge.generate.protocol import Generation

LONGEST_ECHO = 2000  # characters of a prompt that are shown before its continuation
PATIENCE = 0.3  # seconds of loading before a progress bar appears
PREFILL_PATIENCE = 1.0  # the same for reading a prompt


@contextmanager
def loading(path: Path) -> Iterator[Callable[[float], None]]:
    """Show a progress bar if loading `path` takes a while; yield a function that takes 0 to 1."""
    started, total = time.monotonic(), path.stat().st_size
    bar: Progress | None = None
    with ExitStack() as stack:

        def on_load(share: float) -> None:
            nonlocal bar
            if bar is None and time.monotonic() - started > PATIENCE:
                bar = stack.enter_context(console.progress())
                bar.add_task(f"loading {console.printable(path.name)}", total=total)
            if bar is not None:
                bar.update(bar.task_ids[0], completed=share * total)

        yield on_load


@contextmanager
def reading() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar with the time that is left if reading a prompt takes a while.

    Yields a function that takes the tokens done and those of all: `Request.on_prefill`. The bar is
    gone when all are done, so that the answer has the terminal to itself.
    """
    started = time.monotonic()
    bar: Progress | None = None
    with ExitStack() as stack:

        def on_prefill(done: int, total: int) -> None:
            nonlocal bar
            if bar is None and done < total and time.monotonic() - started > PREFILL_PATIENCE:
                bar = stack.enter_context(console.progress(in_bytes=False))
                bar.add_task("reading the prompt", total=total)
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done)
                if done == total:
                    stack.close()

        yield on_prefill


def remarks(architecture: str | None, synthetic: bool, n_ctx: int, trained: int | None) -> None:
    """Print what is unusual about a model and its context, although it works.

    Args:
        architecture: the model's; None if it has none.
        synthetic: whether its weights are random.
        n_ctx: tokens of context.
        trained: tokens of context that the model was trained for; None if that is not known.
    """
    if architecture != ARCH:
        console.note(
            f"this is a {architecture} model, not a PLM: it runs as in any llama.cpp, without "
            "the latent cache and the sparse kernels"
        )
    if synthetic:
        console.warn("the weights are synthetic, random: what it says is noise, its speed is not")
    if trained is not None and n_ctx > trained:
        console.warn(
            f"the context of {n_ctx:,} tokens is more than the {trained:,} that the "
            "model was trained for: text beyond them degrades"
        )


def stream(generation: Generation, prompt: str, *, echo: bool) -> str:
    """Write the generated text to stdout as it comes, and return all of it.

    Args:
        generation: yields the text.
        prompt: the person's prompt.
        echo: show the prompt first, dim and on stderr, if both streams are terminals: a
            continuation reads badly without its beginning.
    """
    to_terminal = sys.stdout.isatty()
    if echo and to_terminal and len(prompt) <= LONGEST_ECHO:
        console.echo(prompt)
    written = []
    for text in generation:
        written.append(text)
        # Escape sequences that a model makes up must not reach the terminal.
        sys.stdout.write(console.printable(text) if to_terminal else text)
        sys.stdout.flush()
    whole = "".join(written)
    if not whole.endswith("\n"):
        sys.stdout.write("\n")
        sys.stdout.flush()
    return whole


def say_why_stopped(generation: Generation) -> None:
    """Print on stderr why the text ended, unless the model ended it or its length was asked for."""
    if generation.stop_reason == "context":
        console.warn(
            f"stopped: the context of {generation.stats.n_ctx:,} tokens is full (--ctx raises it)"
        )
    elif generation.stop_reason == "interrupted":
        console.note("stopped by Ctrl-C")
