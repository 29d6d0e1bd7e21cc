"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from plm_edge.base import console
from testkit import chat_model, needs, tiers
from testkit.checkout import ROOT, TINY_PLM, Upstream

# A shell lets its background jobs ignore Ctrl-C, and what they start inherits it: the programs that
# tests interrupt would not hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run")
    parser.addoption(
        "--tier", choices=tiers.TIERS, default="all", help="which tests to run (testkit/tiers.py)"
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in tiers.MARKERS:
        config.addinivalue_line("markers", line)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for each core that this process may use; one more where no test compiles for long,
    since some wait for servers and devices."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return cores + int(config.getoption("--tier") == "usual")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = tiers.left_out(items, config.getoption("--tier"))
    if left_out:
        names = {item.nodeid for item in left_out}
        items[:] = [item for item in items if item.nodeid not in names]
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter is not None:
        reports = reporter.stats.get("skipped", [])
        skipped = sum(needs.CPU not in str(report.longrepr) for report in reports)
        if skipped and exitstatus == 0:
            reporter.write_line(f"--no-skips: {skipped} tests were skipped", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _notes() -> Iterator[None]:
    """A test that calls `cli.main` with --json or -q leaves later ones their notes on stderr."""
    yield
    console.set_quiet(False)


@pytest.fixture(autouse=True, scope="session")
def _own_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests convert, measure and say is not remembered as the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        patch.delenv("PLM_EDGE_MODEL", raising=False)
        patch.setenv("PLM_EDGE_PROMPT_CACHE", "off")
        yield


@pytest.fixture(scope="session")
def upstream() -> Upstream:
    found = Upstream(ROOT / "vendor/llama.cpp/.tree", ROOT / "build/engine/bin")
    assert (found.bin / "llama-quantize").exists(), "run `make test`: it builds llama.cpp's tools"
    return found


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Path:
    """The trained tiny-plm, in the published checkpoint format."""
    return TINY_PLM


@pytest.fixture(scope="session")
def chat_gguf() -> Path:
    """SmolLM2-135M-Instruct, a real chat model that is no PLM."""
    return chat_model.gguf()


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """tiny-plm in q4_k, made by our converter."""
    from plm_edge.converters.convert import convert

    out = tmp_path_factory.mktemp("tiny") / "tiny-plm-q4_k.gguf"
    convert(tiny_checkpoint, quant="q4_k", out=out)
    return out
