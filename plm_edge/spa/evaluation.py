"""What a plugin is worth: perplexities of each of its parts, and of what it is compared with.

Whole texts are kept out of everything that learns, the same ones for every seed. A seed decides
first weights, order, and which of the other texts choose the gates.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import Progress
from plm_edge.spa import lora, lora_answers, making, mixture, texts
from plm_edge.spa.making import Texts, hold_back, perplexity, without
from plm_edge.spa.memory import BREAK, Memory
from plm_edge.spa.mixture import Likelihoods
from plm_edge.spa.plugin import recall_all
from plm_edge.spa.reading import Reading
from plm_edge.spa.replacing import replaced
from plm_edge.spa.side import Changed
from plm_edge.spa.training import Settings

_LORA_PUBLIC = 6  # public texts that its gates are fitted to: each costs seconds of torch
Values = NDArray[np.float32]
Seen = tuple[Values, Likelihoods]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: what predicts.
        size: values that were trained; 0 for none.
        personal, general: perplexity of each seed.
    """

    name: str
    size: int
    personal: tuple[float, ...]
    general: tuple[float, ...]

    @staticmethod
    def spread(found: tuple[float, ...]) -> float:
        """Returns the standard deviation over seeds."""
        return statistics.stdev(found) if len(found) > 1 else 0.0


@dataclass(frozen=True)
class Figures:
    """The table, and how much text it stands on: numbers of tokens."""

    rows: tuple[Row, ...]
    trained: int
    personal: int
    general: int


def evaluate(
    given: Texts,
    general: Reading,
    settings: Settings,
    seeds: int,
    progress: Callable[[str], Progress],
    stop: Callable[[], bool],
    *,
    with_lora: bool = False,
    replace_logits: bool = False,
) -> Figures:
    """Train with each seed, and judge.

    Args:
        given: all personal texts, and public ones.
        general: texts from which nothing learned.
        progress: returns who is told how far a step is, by its name.

    Raises:
        PlmEdgeError: there are fewer than three texts, or LoRA cannot be trained.
        KeyboardInterrupt: `stop` said so.
    """
    own = given.personal
    sizes = np.bincount(own.texts)
    kept_out = texts.held_back(sizes.tolist(), making.HELD, 0)
    if len(sizes) < 3 or not kept_out:
        raise PlmEdgeError(
            "there are too few texts to judge by",
            f"{len(sizes)} were given, and whole texts are kept out of the training",
            "give a folder of at least five texts",
        )
    is_test = np.isin(own.texts, sorted(kept_out))
    test = own.take(is_test)
    stream = own.stream.copy()
    stream[test.places] = BREAK
    train = replace(own.take(~is_test), stream=stream)
    found: dict[str, list[tuple[int, float, float]]] = {}

    def note(name: str, size: int, personal: Values, other: Values) -> None:
        found.setdefault(name, []).append((size, perplexity(personal), perplexity(other)))

    for seed in range(seeds):
        chosen = replace(settings, seed=seed)
        mine = replace(given, personal=train)
        made = making.make(mine, chosen, progress(f"training, seed {seed}"), stop)
        plugin, size = made.plugin, made.size
        held = hold_back(train, seed)
        text, rest = train.take(~held), train.take(held)
        memory = without(train, rest)
        fitted = [plugin.judge(rest, memory), plugin.judge(given.public, memory)]
        judged = [plugin.judge(test), plugin.judge(general)]
        note("base", 0, *(part.base for _, part in judged))
        note("side alone", size, *(part.side for _, part in judged))
        gates = mixture.fit([(seen, _no_memory(part)) for seen, part in fitted])
        soft = [_mixed(gates, (seen, _no_memory(part))) for seen, part in judged]
        note("side, soft gate", size, *soft)
        note("side, hard gate", size, *(_hard(gates, part) for part in judged))
        for weight in (0.1, 0.3):
            shut = [
                part.mixed(np.zeros_like(part.base), np.full_like(part.base, weight))
                for _, part in judged
            ]
            note(f"memory alone, weight {weight}", 0, *shut)
        gates = mixture.fit([(seen, _no_side(part)) for seen, part in fitted])
        note("memory alone, gate", 0, *(_mixed(gates, (s, _no_side(p))) for s, p in judged))
        note("side and memory", size, *(_mixed(plugin.gates, part) for part in judged))
        if replace_logits:
            parts = replaced(
                given.header, text, rest, [test, general], chosen, progress("replacing"), stop
            )
            note("replacing, as in the paper", parts.size, *parts.likelihoods)
        if with_lora:
            _judge_lora(note, given, text, rest, test, general, plugin.memory, size, seed,
                        progress, stop)  # fmt: skip
    rows = [
        Row(name, of[0][0], tuple(x[1] for x in of), tuple(x[2] for x in of))
        for name, of in found.items()
    ]
    return Figures(tuple(rows), len(train), len(test), len(general))


def _judge_lora(
    note: Callable[[str, int, Values, Values], None],
    given: Texts,
    text: Reading,
    rest: Reading,
    test: Reading,
    general: Reading,
    memory: Memory,
    size: int,
    seed: int,
    progress: Callable[[str], Progress],
    stop: Callable[[], bool],
) -> None:
    held_memory = without(text, rest)
    public = given.public.take(given.public.texts < _LORA_PUBLIC)
    readings = [(rest, held_memory), (public, held_memory), (test, memory), (general, memory)]

    def asked(settings: lora.Settings) -> lora_answers.Answers:
        wanted = [reading for reading, _ in readings]
        return lora_answers.ask(given, text, rest, wanted, size, settings, progress, stop)

    if not seed:
        untrained = asked(lora.Settings(epochs=0)).of[2:]
        note("base in torch, bfloat16", 0, *(np.exp(own) for own, _ in untrained))
    answers = asked(lora.Settings(seed=seed))
    parts = [
        _seen(reading, *answer, recalled)
        for (reading, recalled), answer in zip(readings, answers.of, strict=True)
    ]
    size = answers.size
    note("LoRA", size, *(part.side for _, part in parts[2:]))
    gates = mixture.fit([(seen, _no_memory(part)) for seen, part in parts[:2]])
    note("LoRA, soft gate", size,
         *(_mixed(gates, (seen, _no_memory(part))) for seen, part in parts[2:]))  # fmt: skip
    gates = mixture.fit(parts[:2])
    note("LoRA, soft gate, and memory", size, *(_mixed(gates, part) for part in parts[2:]))


def _seen(reading: Reading, logs: Values, top: Values, memory: Memory) -> Seen:
    """What gates see of LoRA, and what it and the memory say."""
    recalls = recall_all(memory, reading)
    changed = Changed(top, np.zeros(len(reading), np.float32))
    seen = mixture.features(reading.rows, changed, np.zeros((len(reading), 0), np.float32), recalls)
    heard = [r.of(int(t)) for r, t in zip(recalls, reading.targets, strict=True)]
    return seen, Likelihoods(
        np.exp(reading.base), np.exp(logs), np.array(heard), np.array([r.escape for r in recalls])
    )


def _no_memory(part: Likelihoods) -> Likelihoods:
    return replace(part, memory=np.zeros_like(part.memory), escape=np.ones_like(part.escape))


def _no_side(part: Likelihoods) -> Likelihoods:
    return replace(part, side=part.base)


def _mixed(gates: mixture.Gates, part: Seen) -> Values:
    return part[1].mixed(*gates.of(part[0]))


def _hard(gates: mixture.Gates, part: Seen) -> Values:
    g, _ = gates.of(part[0])
    return np.where(g > 0.5, part[1].side, part[1].base)
