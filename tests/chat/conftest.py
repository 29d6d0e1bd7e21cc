"""A model that answers by a script, a byte a token, in a template whose length is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from plm_edge.chat import folder
from plm_edge.chat.chat import Chat, Setting
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.sampling import Sampling
from testkit import plm_gguf

TEMPLATE = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}\n{% endfor %}a"
GREEDY = Sampling(temp=0.0)

MakeChat = Callable[..., Chat]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def make_chat(tmp_path: Path) -> Iterator[MakeChat]:
    """Opens a chat with a model that answers `script`, for ever or to an end."""
    with ExitStack() as stack:

        def make(
            script: bytes = b"xyz",
            *,
            endless: bool = False,
            n_ctx: int = 256,
            template: str | None = TEMPLATE,
            setting: Setting | None = None,
        ) -> Chat:
            model = plm_gguf.write(
                tmp_path / "model.gguf", script=script, endless=endless, chat_template=template
            )
            session = stack.enter_context(Session.open(model, Options(n_ctx=n_ctx, threads=1)))
            opened = folder.begin(str(model), plain=template is None)
            stack.callback(opened.close)
            setting = setting or Setting(GREEDY)
            return Chat(LocalGenerator(session), session.n_ctx, opened, setting)

        yield make
