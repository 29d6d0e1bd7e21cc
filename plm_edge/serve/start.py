"""This module turns what a person asked for into the settings of a server, and checks them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import accelerators, library, placement, rpc
from plm_edge.engine.prompt_cache import PromptFolder
from plm_edge.generate.speculation import MOST
from plm_edge.machine import locking, memory
from plm_edge.machine.threads import default_threads
from plm_edge.model import fit, gguf_file, loadable, offload
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.model.need import N_BATCH
from plm_edge.model.offload import Gpu
from plm_edge.serve import keys, network
from plm_edge.serve.settings import LOOPBACK, PORT, SLEEP_AFTER, Settings

_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/,\s]+")


@dataclass(frozen=True)
class Wish:
    """What a person asked for. None lets the machine and the model choose.

    Attributes:
        model: the GGUF.
        name: what requests call it.
        host: an address to listen on; None is loopback.
        lan: listen in this machine's network as well, with a key.
        origins: web pages that may use it, beside its own and those of this machine.
        key_file: a person's own file of keys.
        force: load it even if memory is short.
        rpc: other machines that compute layers, HOST:PORT each.
        gpu_layers: how many layers they or the GPU compute, counted from the last.
        mlock: keep the weights in memory, never swapped out.
        speculate: guess tokens ahead; the text stays the same.

    The others are those of `Settings`.
    """

    model: Path
    name: str
    aliases: tuple[str, ...] = ()
    host: str | None = None
    port: int = PORT
    lan: bool = False
    origins: tuple[str, ...] = ()
    key_file: Path | None = None
    n_ctx: int | None = None
    parallel: int = 1
    kv: str | None = None
    threads: int | None = None
    sleep_after: int = SLEEP_AFTER
    prompts: PromptFolder | None = None
    force: bool = False
    rpc: tuple[str, ...] = ()
    gpu_layers: int | None = None
    mlock: bool = False
    speculate: bool = False


def settings(
    wish: Wish,
    note: Callable[[str], None],
    gpus: Sequence[Gpu] = (),
    tell: Callable[[str], None] | None = None,
) -> Settings:
    """The settings for a wish. Its port is free, and the model fits the memory.

    Where other machines can reach the server there is always a key.

    Args:
        note: gets a sentence on what was given up because memory is short.
        gpus: those that the server has.
        tell: gets a sentence on what goes to them; None: `note` does.

    Raises:
        PlmEdgeError: the port is taken, the model does not fit or cannot be loaded, a key cannot be
            used, or as `check_names`.
    """
    check_names(wish.aliases, wish.origins)
    hosts = [wish.host or LOOPBACK]
    if wish.lan:
        hosts = list(dict.fromkeys([*hosts, network.lan_address()]))
    for host in hosts:
        network.require_free(host, wish.port)
    port = wish.port
    if not port and len(hosts) > 1:  # llama-server finds one for a single address alone
        port = network.free_port(hosts)
    header = gguf_file.read(wish.model)
    loadable.check(header)  # in three lines here, and not by a server that ends
    if not header.keys.get("tokenizer.chat_template"):
        note(f"{wish.name} has no chat template of its own: requests for a chat get ChatML")
    away, share = _elsewhere(header, wish, gpus, tell or note)
    if wish.speculate:
        require_exact_batches(wish.parallel, share)
    chosen = fit.choose(
        header, wish.n_ctx, wish.kv, n_seq=wish.parallel, force=wish.force, share=share
    )
    if chosen.note:
        note(chosen.note)
    if wish.mlock:
        locking.require(chosen.need.weights)
    key_file = keys.given(wish.key_file)
    reachable = [host for host in hosts if not network.is_loopback(host)]
    if reachable and key_file is None:
        key_file = keys.kept()
    return Settings(
        model=wish.model.resolve(),
        name=wish.name,
        aliases=wish.aliases,
        host=",".join(hosts),
        port=port,
        origins=("localhost", *_own_pages(port, bool(reachable)), *wish.origins),
        key_file=key_file,
        n_ctx=chosen.n_ctx,
        parallel=wish.parallel,
        kv=chosen.kv,
        threads=wish.threads or default_threads(),
        sleep_after=wish.sleep_after,
        more=away,
        prompts=wish.prompts,
        mlock=wish.mlock,
        speculate=wish.speculate,
    )


def require_exact_batches(parallel: int, share: float = 1) -> None:
    """Refuse guesses where tokens that are computed together round otherwise than alone.

    Args:
        parallel: conversations at once.
        share: of layers that this machine's CPU computes.

    Raises:
        PlmEdgeError: the text would not be the one without guesses (code USAGE).
    """
    if share < 1:
        why, fix = "only the CPU of one machine rounds them alike", "leave --gpu and --rpc out"
    elif parallel > MOST // 2:
        why = f"the CPU rounds at most {MOST} alike, and {parallel} conversations want 2 each"
        fix = f"use --parallel {MOST // 2}, or fewer"
    else:
        return
    raise PlmEdgeError(
        "--speculate would change the text: tokens are computed together",
        why,
        f"{fix}; or leave --speculate out",
        ExitCode.USAGE,
    )


def _elsewhere(
    header: GGUFFile, wish: Wish, gpus: Sequence[Gpu], tell: Callable[[str], None]
) -> tuple[tuple[str, ...], float]:
    """The words that send layers elsewhere, and the share of layers that stays here."""
    if not wish.rpc:
        return _on_gpu(header, wish, gpus, tell)
    servers = [rpc.ask(endpoint, library.read_pin().tree) for endpoint in wish.rpc]
    there = [free for server in servers for free in server.free]
    n_layers = placement.layers_of(header)
    away = wish.gpu_layers
    if away is None:
        away = accelerators.layers_for(n_layers, memory.total(), there)
    words = ("--rpc", ",".join(wish.rpc), "--n-gpu-layers", str(away))
    return words, accelerators.share_here(n_layers, away)


def _on_gpu(
    header: GGUFFile, wish: Wish, gpus: Sequence[Gpu], tell: Callable[[str], None]
) -> tuple[tuple[str, ...], float]:
    if wish.gpu_layers == 0:
        return ("--device", "none"), 1.0
    if not gpus:
        return (), 1.0
    chosen = offload.reckon(
        header,
        gpus,
        (wish.n_ctx or fit.preferred_ctx(header)) * wish.parallel,
        wish.kv or fit.PREFERRED_KV,
        n_outputs=N_BATCH,
        wanted=wish.gpu_layers,
    )
    tell(chosen.note)
    return chosen.words, chosen.share_here


def check_names(aliases: Sequence[str], origins: Sequence[str]) -> None:
    """Refuse names that will never do.

    Args:
        aliases: other names of the model.
        origins: web pages.

    Raises:
        PlmEdgeError: an alias is empty, or a browser never names a page as one of the origins is
            written (code USAGE).
    """
    if not all(alias.strip() for alias in aliases):
        raise PlmEdgeError(
            "an alias is empty",
            "requests could not call the model by it",
            "give it a name, or leave --alias out",
            ExitCode.USAGE,
        )
    for origin in origins:
        if origin not in ("*", "null", "localhost") and not _ORIGIN.fullmatch(origin):
            raise PlmEdgeError(
                f"{origin!r} is not how a browser names a web page",
                "it sends SCHEME://HOST or SCHEME://HOST:PORT, with no slash or path behind it",
                "for example --origin https://a.example",
                ExitCode.USAGE,
            )


def _own_pages(port: int, reachable: bool) -> list[str]:
    """How a browser names the server's own page, by each name that this machine has.

    With a port that is not known yet, that page is same-origin by its address alone.
    """
    return [f"http://{name}:{port}" for name in network.names()] if reachable else []
