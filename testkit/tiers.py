"""Which tests a run takes: `make test-fast`, `make test` and `make test-all` name a tier each.

`all` takes every test. `usual` leaves out what is marked `full` (it compiles an engine or a wheel,
reaches a phone, or runs a GPU in software), and of what is marked `pairwise`, a product of
settings, it takes so many cells that each two values of different settings meet in one. `fast`
takes unit tests, and one cell of the first product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations

import pytest
from _pytest.mark.structures import ParameterSet

TIERS = ("fast", "usual", "all")
MARKERS = (
    "full: `make test-all` alone runs it",
    "pairwise: `make test` runs so many of its cells that each two values of settings meet",
    "slow: no unit test; `make test-fast` leaves it out",
)
# fixtures of pytest that are made once and cost nothing
_CHEAP = {"_own_registry", "pytestconfig", "tmp_path_factory"}

Cell = Mapping[str, Hashable]


def pairwise(cells: Sequence[Cell]) -> list[int]:
    """Returns the places of cells that hold every pair of values which any of `cells` holds.

    The cells need not be a whole product: pairs that none of them holds are not asked for. The
    cell with most pairs that are still missing is taken first, and of equal ones the first, so
    the same cells give the same places in every process.
    """
    pairs = [set(combinations(sorted(cell.items()), min(2, len(cell)))) for cell in cells]
    missing = set().union(*pairs)
    taken = []
    while missing:
        best = max(range(len(cells)), key=lambda place: (len(pairs[place] & missing), -place))
        missing -= pairs[best]
        taken.append(best)
    return sorted(taken)


def quant_cells(cells: Sequence[tuple[str, ...] | str]) -> list[ParameterSet]:
    """Cells of a test whose last value is a quantisation's name; those that ggml's quantisers take
    seconds for, a search a block, are `full`."""
    found = []
    for cell in cells:
        values = (cell,) if isinstance(cell, str) else cell
        marks = [pytest.mark.full] if values[-1].startswith(("iq1", "iq2", "iq3")) else []
        found.append(pytest.param(*values, marks=marks))
    return found


def left_out(items: Sequence[pytest.Item], tier: str) -> list[pytest.Item]:
    """Returns the tests of `items` that a run of this tier does not take."""
    if tier == "all":
        return []
    products: dict[str, list[pytest.Item]] = defaultdict(list)
    others = []
    for item in items:
        if item.get_closest_marker("full"):
            continue
        if item.get_closest_marker("pairwise"):
            products[item.nodeid.partition("[")[0]].append(item)
        else:
            others.append(item)
    if tier == "fast":
        kept = [item for item in others if is_unit(item)]
        kept += next(iter(products.values()), [])[:1]
    else:
        kept = others + [cells[place] for cells in products.values() for place in _cover(cells)]
    names = {item.nodeid for item in kept}
    return [item for item in items if item.nodeid not in names]


def is_unit(item: pytest.Item) -> bool:
    """Whether a test computes in this process, and for a moment.

    What costs more is marked, starts the command (`cli`), or shares what was made for it with
    other tests: a fixture of a wider scope than the test's own is there because making it costs.
    """
    if item.get_closest_marker("slow"):
        return False
    fixtures = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    return "cli" not in fixtures and all(
        name in _CHEAP or found[-1].scope == "function" for name, found in fixtures.items()
    )


def _cover(cells: Sequence[pytest.Item]) -> list[int]:
    """The places of `cells`, of one test, that `usual` takes: one that is no product, as it is."""
    settings = [_settings(item) for item in cells]
    return pairwise(settings) if all(settings) else [*range(len(cells))]


def _settings(item: pytest.Item) -> Cell:
    """What a test is called with, by name; values as Python writes them, which can be compared."""
    call = getattr(item, "callspec", None)
    return {name: repr(value) for name, value in call.params.items()} if call else {}
