"""A plugin for tiny-plm, trained once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plm_edge.base.progress import NoProgress
from plm_edge.engine.options import Options, never
from plm_edge.spa import making
from plm_edge.spa import remote as remotes
from plm_edge.spa import server as servers
from plm_edge.spa.making import Made, Texts
from plm_edge.spa.server import SpaServer
from plm_edge.spa.training import Settings
from tests.spa.arithmetic import HASH, Arithmetic
from tests.spa.links import OWN
from tests.spa.serving import KEY, running

OPTIONS = Options(threads=1, kv="f32")
# Text that tiny-plm, which knows Python, does not expect.
WORDS = [
    f"""def zorble_{name}(quux):
    frobnicate = quux.wibble_{name}()
    if frobnicate is None:
        raise ZorbleError("no frobnicate in {name}")
    return frobnicate.zorble(quux, {number})


"""
    * 2
    for number, name in enumerate(("alpha", "beta", "gamma", "delta", "epsilon", "zeta"))
]
PUBLIC = [
    "def mean(values):\n    return sum(values) / len(values)\n\n\n" * 3,
    "for index, value in enumerate(items):\n    print(index, value)\n\nimport os\n" * 3,
]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("spa-cache")
        patch.setenv("PLM_EDGE_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _patient() -> Iterator[None]:
    """A busy machine may take long to open a link, and to answer on it. Tests of links that are
    lost say themselves how soon. Of its own: some tests undo their patches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remotes, "CONNECT_S", 30.0)
        patch.setattr(remotes, "STALL_S", 60.0)
        patch.setattr(servers, "ANSWER_S", 30.0)
        yield


@pytest.fixture(scope="session")
def read_texts(tiny_gguf: Path) -> Texts:
    bars = making.Bars(NoProgress(), NoProgress())
    return making.read_texts(tiny_gguf, WORDS, None, OPTIONS, bars, public=PUBLIC)


@pytest.fixture(scope="session")
def made(read_texts: Texts) -> Made:
    return making.make(read_texts, Settings(epochs=6, batch=64, rate=3e-3), NoProgress(), never)


@pytest.fixture
def base() -> Arithmetic:
    return Arithmetic()


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plugin for the base of arithmetic, as a file; commands have the server's key."""
    monkeypatch.setenv("PLM_EDGE_API_KEY", KEY)
    OWN.write(tmp_path / "plugin.gguf")
    return tmp_path / "plugin.gguf"


@pytest.fixture
def server(base: Arithmetic) -> Iterator[SpaServer]:
    with running(base.as_base(), HASH, length=256) as made:
        yield made
