"""What a plugin is worth: perplexities of each of its parts, and of what it is compared with.

Whole texts are kept out of everything that learns, the same ones for every seed. A seed decides
first weights, order, and which of the other texts choose the gates.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import Progress
from plm_edge.spa import lora, lora_answers, making, mixture, texts
from plm_edge.spa.making import Texts, hold_back, perplexity, without
from plm_edge.spa.memories import Memories
from plm_edge.spa.memory import BREAK
from plm_edge.spa.mixture import PARTS, Likelihoods
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
    """The table, and what it stands on.

    Attributes:
        trained, personal, general: tokens to learn from, and to judge by.
        rank, lora: of LoRA, and what its training did with each seed; 0 and empty without it.
    """

    rows: tuple[Row, ...]
    trained: int
    personal: int
    general: int
    rank: int = 0
    lora: tuple[lora.Trained, ...] = ()


def evaluate(
    given: Texts,
    general: Reading,
    settings: Settings,
    seeds: int,
    progress: Callable[[str], Progress],
    stop: Callable[[], bool],
    *,
    lora_seeds: int = 0,
    replace_logits: bool = False,
) -> Figures:
    """Train with each seed, and judge.

    Args:
        given: all personal texts, and public ones.
        general: texts from which nothing learned.
        progress: returns who is told how far a step is, by its name.
        lora_seeds: with how many of the seeds LoRA is trained too; that is slow.
        replace_logits: whether the paper's form is trained too.

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
    asked: list[lora_answers.Answers] = []

    def note(name: str, size: int, personal: Values, other: Values) -> None:
        found.setdefault(name, []).append((size, perplexity(personal), perplexity(other)))

    for seed in range(seeds):
        chosen = replace(settings, seed=seed)
        mine = replace(given, personal=train)
        made = making.make(mine, chosen, progress(f"training, seed {seed}"), stop)
        plugin, size = made.plugin, made.size
        held = hold_back(train, seed)
        text, rest = train.take(~held), train.take(held)
        held_memories = without(train, rest, given.codec)
        fitted = [plugin.judge(part, held_memories) for part in (rest, given.public)]
        judged = [plugin.judge(test), plugin.judge(general)]
        note("base", 0, *(part.base for _, part in judged))
        note("side alone", size, *(part.side for _, part in judged))
        gates = mixture.fit(fitted, ("side",))
        note("side, soft gate", size, *(_mixed(gates, part) for part in judged))
        note("side, hard gate", size, *(_hard(gates, part) for part in judged))
        for weight in (0.1, 0.3):
            fixed = [
                np.outer(np.array([0, weight, 0], np.float32), np.ones_like(part.base))
                for _, part in judged
            ]
            mixed = [part.mixed(gate) for gate, (_, part) in zip(fixed, judged, strict=True)]
            note(f"n-grams alone, weight {weight}", 0, *mixed)
        for name, uses in (("n-grams", ("memory",)), ("nearest states", ("nearest",)),
                           ("both memories", ("memory", "nearest"))):  # fmt: skip
            gates = mixture.fit(fitted, uses)
            note(f"{name} alone, gate", 0, *(_mixed(gates, part) for part in judged))
        note("side and memories", size, *(_mixed(plugin.gates, part) for part in judged))
        if replace_logits:
            parts = replaced(
                given.header, text, rest, [test, general], chosen, progress("replacing"), stop
            )
            note("replacing, as in the paper", parts.size, *parts.likelihoods)
        if seed < lora_seeds:
            memories = [held_memories, held_memories, plugin.memories, plugin.memories]
            parts_of = (text, rest, test, general)
            asked.append(_judge_lora(note, given, parts_of, memories, size, seed, progress, stop))
    rows = [
        Row(name, of[0][0], tuple(x[1] for x in of), tuple(x[2] for x in of))
        for name, of in found.items()
    ]
    return Figures(
        tuple(rows), len(train), len(test), len(general),
        max((answers.rank for answers in asked), default=0),
        tuple(answers.trained for answers in asked),
    )  # fmt: skip


def _judge_lora(
    note: Callable[[str, int, Values, Values], None],
    given: Texts,
    readings: tuple[Reading, Reading, Reading, Reading],
    memories: Sequence[Memories],
    size: int,
    seed: int,
    progress: Callable[[str], Progress],
    stop: Callable[[], bool],
) -> lora_answers.Answers:
    text, rest, test, general = readings
    public = given.public.take(given.public.texts < _LORA_PUBLIC)
    wanted = (rest, public, test, general)

    def asked(settings: lora.Settings) -> lora_answers.Answers:
        return lora_answers.ask(given, text, rest, wanted, size, settings, progress, stop)

    if not seed:
        untrained = asked(lora.Settings(epochs=0)).of[2:]
        note("base in torch, bfloat16", 0, *(np.exp(own) for own, _ in untrained))
    answers = asked(lora.Settings(seed=seed))
    parts = [
        _seen(reading, *answer, known)
        for reading, answer, known in zip(wanted, answers.of, memories, strict=True)
    ]
    size = answers.size
    note("LoRA", size, *(part.side for _, part in parts[2:]))
    for name, uses in (("LoRA, soft gate", ("side",)), ("LoRA, soft gate, and memories", PARTS)):
        gates = mixture.fit(parts[:2], uses)
        note(name, size, *(_mixed(gates, part) for part in parts[2:]))
    return answers


def _seen(reading: Reading, logs: Values, top: Values, memories: Memories) -> Seen:
    """What gates see of LoRA, and what it and the memories say."""
    said = memories.judge(reading)
    changed = Changed(top, np.zeros(len(reading), np.float32))
    none = np.zeros((len(reading), 0), np.float32)
    seen = mixture.features(reading.rows, changed, none, said.recalls, said.sureness)
    return seen, said.beside(np.exp(reading.base), np.exp(logs))


def _mixed(gates: mixture.Gates, part: Seen) -> Values:
    return part[1].mixed(gates.of(part[0]))


def _hard(gates: mixture.Gates, part: Seen) -> Values:
    g = gates.of(part[0])[0]
    return np.where(g > 0.5, part[1].side, part[1].base)
