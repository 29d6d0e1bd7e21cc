"""What of a conversation fits the context: the oldest whole turns make room for the newest."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass

from plm_edge.base.errors import PlmEdgeError
from plm_edge.chat.conversation import Conversation
from plm_edge.generate.protocol import Message, Text

Encode = Callable[[Text | list[Message]], list[int]]
MIN_ANSWER = 256  # tokens that an answer should have room for; an eighth of a small context


@dataclass(frozen=True)
class FittingPrompt:
    """A prompt that leaves room for an answer.

    Attributes:
        tokens: of the prompt.
        n_dropped: so many of the oldest turns are not in it.
    """

    tokens: list[int]
    n_dropped: int


def room_for_answer(n_ctx: int) -> int:
    """Returns the tokens of a context that are kept free for an answer."""
    return min(MIN_ANSWER, max(1, n_ctx // 8))


def fit(conversation: Conversation, encode: Encode, n_ctx: int, *, strict: bool) -> FittingPrompt:
    """Returns the prompt for the last turn, without as many of the oldest turns as are in the way.

    Where turns must go, a quarter of the context is made free, so that the next answers do not
    drop one each: every time the whole prompt is computed again. The system message and the last
    question stay.

    Args:
        encode: turns messages, or the growing text, into token ids.
        n_ctx: tokens of context.
        strict: drop nothing.

    Raises:
        PlmEdgeError: the last question alone does not fit, or turns would have to go and `strict`
            forbids it.
    """
    first, last = conversation.n_dropped, len(conversation.turns) - 1
    room = room_for_answer(n_ctx)
    tokens = encode(conversation.prompt(first))
    if len(tokens) + room <= n_ctx:
        return FittingPrompt(tokens, first)
    alone = encode(conversation.prompt(last)) if last > first else tokens
    if len(alone) + room > n_ctx:
        raise _message_too_long(len(alone), n_ctx, room)
    if strict:
        raise _full(len(tokens), n_ctx, room, last - first)

    def fits(n_dropped: int, room: int) -> bool:
        return len(encode(conversation.prompt(n_dropped))) + room <= n_ctx

    wanted = max(room, n_ctx // 4)
    choices = range(first + 1, last + 1)
    at = bisect.bisect_left(choices, True, key=lambda n: fits(n, wanted))
    if at == len(choices):  # a long question: the smaller room has to do
        at = bisect.bisect_left(choices, True, key=lambda n: fits(n, room))
    n_dropped = choices[min(at, len(choices) - 1)]
    return FittingPrompt(encode(conversation.prompt(n_dropped)), n_dropped)


def _message_too_long(n_tokens: int, n_ctx: int, room: int) -> PlmEdgeError:
    return PlmEdgeError(
        "the message does not fit the context",
        f"with the system message it has {n_tokens:,} tokens; the context has {n_ctx:,}, of which "
        f"{room:,} are for the answer",
        f"shorten it, or begin again with --ctx {-(-(n_tokens + room) // 256) * 256}",
    )


def _full(n_tokens: int, n_ctx: int, room: int, n_turns: int) -> PlmEdgeError:
    return PlmEdgeError(
        "the context is full",
        f"the conversation has {n_tokens:,} tokens; the context has {n_ctx:,}, of which {room:,} "
        "are for the answer, and --strict drops no turn",
        f"/new begins another, /undo takes turns back; without --strict the oldest of {n_turns} go",
    )
