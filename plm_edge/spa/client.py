"""The program on a device that has a plugin and no engine: Python and numpy, and this.

It reads one JSON object on stdin, so that neither prompt nor key is in the list of processes, and
writes a JSON object a line: parts of the text as they come, then how it ended. `deploying` sends
it as a zip that Python runs, and `there` talks to it.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from plm_edge.base.errors import PlmEdgeError
from plm_edge.generate.text import TextDecoder
from plm_edge.spa import account
from plm_edge.spa import plugin as plugins
from plm_edge.spa.choosing import PluginChooser
from plm_edge.spa.device import Generation
from plm_edge.spa.frame import TOP, Rows
from plm_edge.spa.memory import ORDER
from plm_edge.spa.plugin import Plugin
from plm_edge.spa.remote import Remote

_PROOFS = 16


def main() -> int:
    """Do what stdin says; 0 where it was done."""
    asked = json.loads(sys.stdin.readline())
    try:
        own = plugins.read(Path(asked["plugin"]))
        if asked["do"] == "prove":
            _tell(proof=proof(own), python=platform.python_version(), numpy=np.__version__)
        else:
            _run(own, asked)
    except PlmEdgeError as error:
        _tell(error=[error.what, error.why, error.fix, int(error.code)])
        return 1
    return 0


def proof(own: Plugin) -> list[int]:
    """Returns the tokens that a plugin chooses at some places that the base never saw: whoever
    computes as this machine does finds the same."""
    rng = np.random.default_rng(20240313)
    count, n_vocab = min(TOP, len(own.vocabulary.ends)), len(own.vocabulary.ends)
    chooser, found = PluginChooser(own), []
    for place in range(_PROOFS):
        row = Rows(
            rng.integers(-127, 128, (1, own.codec.n_states, own.codec.width)).astype(np.int8),
            np.full((1, own.codec.n_states), 0.02, np.float16),
            rng.permutation(n_vocab)[None, :count].astype(np.int32),
            -np.sort(rng.random((1, count)) * 4).astype(np.float16),
            np.array([-2.0], np.float32),
        )
        end = place * len(own.stream) // _PROOFS + ORDER
        found.append(chooser.choose(row, -1, own.stream[:end].tolist(), place))
    return found


def _run(own: Plugin, asked: dict[str, Any]) -> None:
    source = Remote(
        asked["server"], asked["key"], asked["fingerprint"], own, window=asked["window"],
        temperature=asked["temperature"], seed=asked["seed"],
    )  # fmt: skip
    chooser = PluginChooser(own, asked["temperature"], asked["seed"])
    made = Generation(source, chooser, own.vocabulary, asked["mode"])
    began, decoder = time.perf_counter(), TextDecoder()
    broken: PlmEdgeError | None = None
    try:
        for step in made.steps(asked["prompt"], asked["n_predict"]):
            _tell(text=decoder.feed(step.piece), personal=step.personal)
    except PlmEdgeError as error:
        broken = error
    _tell(text=decoder.finish(), personal=False)
    made.close()
    if broken is None or made.made:
        _tell(done=account.of(made, source, time.perf_counter() - began, broken))
    if broken is not None:
        raise broken


def _tell(**what: object) -> None:
    print(json.dumps(what), flush=True)
