"""Each model is written, converted and loaded once a session, when a test first asks for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
import torch

from tests.parity.engine import Engine
from tests.parity.subjects import Subject, make

_errors: dict[str, list[tuple[float, str]]] = defaultdict(list)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Every test of this folder is a product of settings."""
    item.add_marker(pytest.mark.pairwise)


@pytest.fixture(scope="session")
def engine() -> Engine:
    # The tests' own cores are few, and torch's threads would wait for one another.
    torch.set_num_threads(1)
    return Engine.of_project()


@pytest.fixture(scope="session")
def subject(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    """A subject by name."""
    folder = tmp_path_factory.mktemp("parity")
    made: dict[str, Subject] = {}

    def get(name: str) -> Subject:
        if name not in made:
            made[name] = make(name, folder, engine)
        return made[name]

    return get


@pytest.fixture
def within(request: pytest.FixtureRequest) -> Callable[[float, float], None]:
    """Asserts that an error is at most a bound, and notes it for the summary and the XML report."""

    def check(error: float, bound: float) -> None:
        request.node.user_properties.append(("nmse", error))
        test, _, case = request.node.name.partition("[")
        _errors[f"{test} (at most {bound:g})"].append((error, case.rstrip("]")))
        assert error <= bound

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The worst error of each test, so that a bound's room is seen."""
    if _errors:
        terminalreporter.section("parity: largest NMSE")
        for test, found in _errors.items():
            error, case = max(found)
            terminalreporter.write_line(f"{error:.2e}  {test}  {case}")


@pytest.fixture
def tiny_text(subject: Callable[[str], Subject]) -> list[int]:
    """Tokens of a text that tiny-plm knows how to go on with."""
    return list(subject("tiny-plm").text)
