"""The proof that a device computes what this machine does is the same greedy tokens.

Kernels of another CPU add in another order, so that logits differ in their last digits, and where
two tokens are all but equally likely either may win. So the reference, computed here by our engine
with the same file, says how clearly it prefers each token; those that follow one another with a
margin of at least MARGIN are compared, and must be equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.deploy import record
from plm_edge.deploy.record import ModelHeader, Proof
from plm_edge.deploy.server import Server
from plm_edge.engine.greedy import greedy
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.remote.api import BrokenAnswer
from plm_edge.model import offload, sizes
from plm_edge.model.description import describe

MARGIN = 0.2  # nats
LENGTH = 16  # tokens that are compared at most
ENOUGH = 8  # clear tokens that make a prompt good enough
CTX = 256  # tokens of context for the proof
PROMPTS = (
    "def fibonacci(n):",
    "The capital of France is",
    "import os\nimport sys\n\n\ndef main(",
    "1, 2, 3, 4, 5, 6,",
)


@dataclass(frozen=True)
class Reference:
    """What this machine computes: the greedy `tokens` that follow `prompt_tokens`.

    `margin` is the least margin among them, in nats. `header` was read in the same session.
    """

    prompt: str
    prompt_tokens: list[int]
    tokens: list[int]
    margin: float
    header: ModelHeader


def reference(model: Path) -> Reference:
    """Compute the reference with the engine here.

    Raises:
        PlmEdgeError: the model cannot be loaded here, or ends every text at once.
    """
    best: tuple[str, list[int], list[int], float] | None = None
    with Session.open(model, Options(n_ctx=CTX, kv="f16", gpu_layers=0)) as session:
        for prompt in PROMPTS:
            tokens = session.tokenize(prompt)
            steps = greedy(session, tokens, LENGTH)
            clear = next((i for i, s in enumerate(steps) if s.margin < MARGIN), len(steps))
            chosen = steps[: max(clear, 1)]
            if chosen and (best is None or len(chosen) > len(best[2])):
                least = min(step.margin for step in chosen)
                best = prompt, tokens, [step.token for step in chosen], least
            if best and len(best[2]) >= ENOUGH:
                break
        about = describe(session.header)
        bos, eos = session.vocabulary.bos_eos
        header = ModelHeader(
            architecture=about.architecture,
            description=session.description,
            sizes=sizes.of(session.header),
            parts=offload.parts(session.header),
            chat_template=session.model.chat_template,
            bos=bos,
            eos=eos,
            synthetic=about.synthetic,
        )
    if best is None:
        raise PlmEdgeError(
            f"{model.name} cannot be proven on a device",
            "it ends every text before its first token",
            "see whether it runs here: plm-edge run",
        )
    return Reference(*best, header)


def prove(server: Server, expected: Reference, engine: str) -> Proof:
    """Let the device compute the same tokens, and compare them.

    Args:
        server: runs the model there.
        expected: what this machine computed.
        engine: the key of the build that runs there.

    Raises:
        PlmEdgeError: the tokens differ (code DEVICE), or the server failed.
    """
    body = {
        "prompt": expected.prompt_tokens, "n_predict": len(expected.tokens), "temperature": 0.0,
        "samplers": ["temperature"], "return_tokens": True, "cache_prompt": False,
    }  # fmt: skip
    try:
        got = [int(token) for token in server.api.complete(body)["tokens"]][: len(expected.tokens)]
    except BrokenAnswer:
        raise server.failure() from None
    if got != expected.tokens:
        at = next(
            (i for i, (a, b) in enumerate(zip(got, expected.tokens, strict=False)) if a != b),
            min(len(got), len(expected.tokens)),
        )
        raise PlmEdgeError(
            f"{server.transport.name} does not compute what this machine does",
            f"of {len(expected.tokens)} greedy tokens after {expected.prompt!r}, number {at + 1} "
            f"is another one: {got} there, {expected.tokens} here, where the reference preferred "
            f"each by {expected.margin:.2g} nats or more",
            "build the engine again (plm-edge engine build --device NAME --force), and report it "
            "if it stays so; nothing was installed",
            ExitCode.DEVICE,
        )
    return Proof(engine, expected.prompt, got, round(expected.margin, 4), record.now())
