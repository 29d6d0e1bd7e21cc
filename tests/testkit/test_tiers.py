"""Which tests a tier takes, and that a skipped one fails CI."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations, product
from pathlib import Path

import pytest

from testkit import needs, tiers
from testkit.checkout import ROOT

pytest_plugins = ["pytester"]

MODULE = """
    import pytest
    from testkit import needs

    @pytest.fixture(scope="session")
    def costly():
        return 1

    def test_unit(): pass

    @pytest.mark.parametrize("x", [1, 2])
    def test_units(x): pass

    def test_shares(costly): pass

    @pytest.mark.slow
    def test_slow(): pass

    @pytest.mark.full
    def test_full(): pass

    @pytest.mark.pairwise
    @pytest.mark.parametrize("a", range(3))
    @pytest.mark.parametrize("b", range(3))
    @pytest.mark.parametrize("c", range(3))
    def test_product(a, b, c): pass

    @pytest.mark.pairwise
    @pytest.mark.full
    @pytest.mark.parametrize("a", range(3))
    def test_full_product(a): pass

    @pytest.mark.pairwise
    def test_no_product(): pass
"""


def pairs(cells: list[dict[str, int]]) -> set[tuple[tuple[str, int], ...]]:
    return {pair for cell in cells for pair in combinations(sorted(cell.items()), 2)}


@pytest.mark.parametrize("counts", [(2,), (3, 4), (2, 2, 2, 2), (7, 3, 4, 2), (4, 5, 2, 2)])
def test_every_pair_meets(counts: tuple[int, ...]) -> None:
    names = "abcd"[: len(counts)]
    cells = [dict(zip(names, values, strict=True)) for values in product(*map(range, counts))]
    places = tiers.pairwise(cells)
    assert pairs([cells[place] for place in places]) == pairs(cells)
    assert {value for place in places for value in cells[place].items()} == {
        value for cell in cells for value in cell.items()
    }
    largest = sorted(counts)[-2:]
    assert len(places) <= 1.5 * (largest[0] * largest[-1] if len(counts) > 1 else counts[0])


def test_cells_that_are_no_whole_product() -> None:
    cells = [{"a": a, "b": b, "c": c} for a, b, c in product(range(4), repeat=3) if a != b]
    places = tiers.pairwise(cells)
    assert pairs([cells[place] for place in places]) == pairs(cells)
    assert len(places) < len(cells) / 2


@pytest.fixture(autouse=True)
def _no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pytest inside of the test loads what it needs of what is installed, not all, in seconds."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin")


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile(MODULE)
    return pytester


@pytest.mark.slow
def test_what_the_tiers_take(suite: pytest.Pytester) -> None:
    def passed(tier: str) -> int:
        return int(suite.runpytest("-q", "--tier", tier).parseoutcomes()["passed"])

    assert passed("all") == 6 + 27 + 3 + 1
    # without the full ones, and of the product nine cells or a few more, which hold all 27 pairs
    assert 5 + 9 + 1 <= passed("usual") <= 5 + 11 + 1
    assert passed("fast") == 3 + 1


@pytest.mark.slow
def test_a_skipped_test_fails_where_none_may_be(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile(f"""
        import pytest
        def test_passes(): pass
        def test_on_another_cpu(): pytest.skip("{needs.CPU} avx1024")
    """)
    assert pytester.runpytest("--no-skips").ret == 0
    pytester.makepyfile("""
        from testkit import needs
        def test_needs(monkeypatch):
            monkeypatch.setenv("PATH", "")
            monkeypatch.setattr(needs, "SYSTEM", "")
            needs.programs("qemu-aarch64")
    """)
    result = pytester.runpytest("-rs")
    result.stdout.fnmatch_lines(["SKIPPED*needs qemu-aarch64: apt install qemu-user"])
    assert result.ret == 0
    assert pytester.runpytest("--no-skips").ret == 1


def test_ci_installs_what_tests_need() -> None:
    listed = (ROOT / ".ci/packages").read_text(encoding="utf-8").split()
    assert set(needs.PACKAGES.values()) <= set(listed)


def test_tests_of_a_group_share_a_worker(tmp_path: Path) -> None:
    """pytest-xdist marks a grouped test's name; a pytest that it does not fit loses that."""
    (tmp_path / "test_grouped.py").write_text(
        "import pytest\n@pytest.mark.xdist_group('one')\ndef test_it(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-v", "-n", "1", "--dist", "loadgroup", "."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "test_it@one" in done.stdout
