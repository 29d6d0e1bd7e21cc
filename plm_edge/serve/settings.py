"""Settings say how llama-server runs on this machine: small by default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plm_edge.base import place
from plm_edge.engine.prompt_cache import PromptFolder
from plm_edge.generate.speculation import MOST
from plm_edge.machine import memory
from plm_edge.model.need import N_BATCH
from plm_edge.model.offload import load_mode

PORT = 7560
LOOPBACK = "127.0.0.1"
SLEEP_AFTER = 900  # seconds without a request until the model leaves the memory
_CACHE_SHARE = 20  # of the RAM, at most 1/20 keeps earlier prompts
_MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """How to run a model here.

    Attributes:
        model: the GGUF.
        name: what requests call it, and answers name.
        aliases: other names for it.
        host: the addresses to listen on, with commas between.
        port: 0 takes any that is free.
        origins: web pages that may use it, as --cors-origins has them.
        key_file: holds the API keys, one a line; None asks for none.
        n_ctx: tokens of context of each conversation.
        parallel: conversations at once.
        threads: how many compute.
        kv: type of the cache.
        sleep_after: seconds without a request until the model leaves the memory; 0 keeps it.
        page: whether to serve the page at /.
        prompts: where prompts are kept on disk; None keeps none.
        mlock: keep the weights in memory, never swapped out.
        speculate: guess tokens from the text so far, and check them together.
        more: further words for llama-server.
    """

    model: Path
    name: str
    n_ctx: int
    threads: int
    aliases: tuple[str, ...] = ()
    host: str = LOOPBACK
    port: int = PORT
    origins: tuple[str, ...] = ("localhost",)
    key_file: Path | None = None
    parallel: int = 1
    kv: str = "f16"
    sleep_after: int = SLEEP_AFTER
    page: bool = True
    prompts: PromptFolder | None = None
    mlock: bool = False
    speculate: bool = False
    more: tuple[str, ...] = ()

    def words(self, program: Path) -> list[str]:
        """The command line, word by word; no key is in it."""
        page = place.PACKAGE / "serve/page"
        shown = self.page and (page / "index.html").is_file()
        return [
            str(program), "--model", str(self.model), "--alias", self.name,
            "--host", self.host, "--port", str(self.port),
            "--cors-origins", ",".join(self.origins),
            *(["--api-key-file", str(self.key_file)] if self.key_file else []),
            "--ctx-size", str(self.n_ctx * self.parallel), "--parallel", str(self.parallel),
            "--threads", str(self.threads), "--poll", "0", "--threads-http", "4",
            "--cache-type-k", self.kv, "--cache-type-v", self.kv,
            "--batch-size", str(N_BATCH), "--ubatch-size", str(N_BATCH), "--no-warmup",
            "--load-mode", "mlock" if self.mlock else load_mode(self.more),
            "--cache-ram", str(cache_ram()), "--sleep-idle-seconds", str(self.sleep_after or -1),
            "--metrics", "--offline", "--log-colors", "off", "--verbosity", "3",
            *(["--path", str(page)] if shown else ["--no-ui"]),
            *(_guesses(self.parallel) if self.speculate else []),
            *self.more,
        ]  # fmt: skip


def _guesses(parallel: int) -> list[str]:
    """llama-server looks up what followed the last tokens before. It guesses so few that all
    conversations together compute no more tokens at once than have the bits of single ones."""
    return [
        "--spec-type", "ngram-simple", "--spec-ngram-simple-size-n", "4",
        "--spec-ngram-simple-size-m", str(MOST // parallel - 1),
    ]  # fmt: skip


def cache_ram() -> int:
    """MiB that the server may take for prompts of earlier conversations: 5 % of the RAM."""
    return memory.total() // _CACHE_SHARE // _MIB
