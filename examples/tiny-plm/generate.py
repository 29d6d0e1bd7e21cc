"""Token-by-token generation with a KV cache, in torch: the reference for short samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# isort: split
from model import PLM


@dataclass(frozen=True)
class Sampling:
    """Temperature 0 is greedy; top_p keeps the nucleus."""

    temperature: float
    top_p: float


GREEDY = Sampling(temperature=0.0, top_p=1.0)


def pick(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token id of logits [vocab]."""
    if sampling.temperature == 0.0:
        return int(logits.argmax())
    share, order = torch.softmax(logits / sampling.temperature, dim=-1).sort(descending=True)
    share[share.cumsum(0) - share > sampling.top_p] = 0.0
    return int(order[torch.multinomial(share, 1, generator=generator)])


@torch.no_grad()
def complete(
    model: PLM,
    prompt: list[int],
    limit: int,
    stop: int,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    done: Callable[[list[int]], bool] | None = None,
) -> list[int]:
    """Up to `limit` new token ids after `prompt`; ends early before `stop` or once `done` is true.

    Raises ValueError if the prompt fills the model's context.
    """
    generator = torch.Generator().manual_seed(seed)
    if len(prompt) >= model.config.max_position_embeddings:
        raise ValueError(f"a prompt of {len(prompt)} tokens leaves no room in the context")
    limit = min(limit, model.config.max_position_embeddings - len(prompt))
    out: list[int] = []
    hidden, _, past = model(torch.tensor([prompt]))
    while len(out) < limit:
        token = pick(model.logits(hidden[0, -1]), sampling, generator)
        if token == stop:
            break
        out.append(token)
        if done is not None and done(out):
            break
        hidden, _, past = model(torch.tensor([[token]]), past)
    return out
