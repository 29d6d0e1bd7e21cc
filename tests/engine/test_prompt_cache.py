"""The prompt cache on disk: what comes back is what was there, and nothing else ever comes back."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine import prompt_cache, prompt_files
from plm_edge.engine.log import engine_log
from plm_edge.engine.options import Options
from plm_edge.engine.prompt_cache import PromptFolder
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from plm_edge.generate.stats import Stats
from testkit import plm_gguf

BLOCK = 128  # PLM_PROMPT_CACHE_BLOCK
TEXT = "def area(width, height):\n    return width * height\n\nfor i in range(10):\n    print(i)\n"


def say(
    model: Path,
    folder: Path | None,
    prompt: list[int],
    *,
    kv: str = "f16",
    limit: int = 0,
    n_predict: int = 24,
    flash_attn: str = "auto",
) -> tuple[list[int], Stats]:
    """What a fresh program says greedily: the tokens, and the statistics."""
    kept = None if folder is None else PromptFolder(folder, limit)
    options = Options(n_ctx=1024, threads=1, kv=kv, prompts=kept, flash_attn=flash_attn)
    with Session.open(model, options) as session:
        request = Request(prompt, n_predict, Sampling(temp=0), speculate=False)
        generation = LocalGenerator(session).generate(request)
        generation.whole()
        return generation.tokens, generation.stats


def tokens_of(model: Path, count: int) -> list[int]:
    with Session.open(model, Options(n_ctx=64, threads=1)) as session:
        return session.tokenize(TEXT * 40)[:count]


def blocks(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.kv"))


@pytest.fixture(scope="module")
def llama_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama with random weights: a cache of keys and values, for several heads."""
    return plm_gguf.write(tmp_path_factory.mktemp("llama") / "llama.gguf", arch="llama")


@pytest.mark.parametrize("kv", ["f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("model", ["tiny_gguf", "llama_gguf"])
@pytest.mark.parametrize("count", [300, 2 * BLOCK])
def test_the_same_prompt_after_a_restart_is_read(
    request: pytest.FixtureRequest, tmp_path: Path, model: str, kv: str, count: int
) -> None:
    path: Path = request.getfixturevalue(model)
    prompt = tokens_of(path, count)
    without, _ = say(path, None, prompt, kv=kv)
    first, before = say(path, tmp_path, prompt, kv=kv)
    second, after = say(path, tmp_path, prompt, kv=kv)
    assert first == second == without
    assert (before.n_reused_disk, after.n_reused_disk) == (0, count - 1)
    assert after.n_reused_memory == 0


def test_the_folder_is_private(tiny_gguf: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    say(tiny_gguf, folder, tokens_of(tiny_gguf, 200))
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    (kept,) = prompt_files.kept(folder)
    assert (kept.model, kept.kv, kept.n_files, kept.n_tokens) == (str(tiny_gguf), "f16", 2, 200)
    assert prompt_files.clear(folder) == kept.n_bytes > 0
    assert not folder.exists()


def test_prompts_share_their_beginning_and_grow_by_what_is_new(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    prompt = tokens_of(tiny_gguf, 500)
    say(tiny_gguf, tmp_path, prompt[:300])
    old = blocks(tmp_path)
    assert len(old) == 3
    _, grown = say(tiny_gguf, tmp_path, prompt)
    assert grown.n_reused_disk == 300
    new = blocks(tmp_path)
    # the short last block has become a whole one; the two before are as they were
    assert len(new) == 4
    assert len(set(old) & set(new)) == 2
    _, branch = say(tiny_gguf, tmp_path, [*prompt[:290], *reversed(prompt[:80])])
    assert branch.n_reused_disk >= 290  # within a block
    assert len(blocks(tmp_path)) == 5


def test_another_cache_type_or_model_is_another_prompt(tiny_gguf: Path, tmp_path: Path) -> None:
    prompt = tokens_of(tiny_gguf, 200)
    say(tiny_gguf, tmp_path / "p", prompt)
    _, other_type = say(tiny_gguf, tmp_path / "p", prompt, kv="q8_0")
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(tiny_gguf.read_bytes())
    _, other_file = say(copy, tmp_path / "p", prompt)
    assert other_type.n_reused_disk == other_file.n_reused_disk == 0
    # The same name, size and time of change, but another byte in one place.
    times = copy.stat()
    data = bytearray(copy.read_bytes())
    data[-5000] ^= 1
    copy.write_bytes(data)
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    _, edited = say(copy, tmp_path / "p", prompt)
    assert edited.n_reused_disk == 0


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty", "foreign", "other prompt"])
def test_what_is_damaged_or_foreign_is_named_and_never_used(
    tiny_gguf: Path, tmp_path: Path, harm: str
) -> None:
    prompt = tokens_of(tiny_gguf, 300)
    expected, _ = say(tiny_gguf, tmp_path, prompt)
    by_position = sorted(blocks(tmp_path), key=lambda path: int(path.stem.split("-")[2]))
    bad = by_position[1]
    data = bytearray(bad.read_bytes())
    if harm == "flipped":
        data[len(data) // 2] ^= 4
    elif harm == "cut":
        del data[-1000:]
    elif harm == "empty":
        data.clear()
    elif harm == "foreign":
        data[8:40] = bytes(32)  # the key
    else:
        data[:] = by_position[0].read_bytes()
    bad.write_bytes(data)
    engine_log.clear()
    tokens, stats = say(tiny_gguf, tmp_path, prompt)
    assert tokens == expected
    assert stats.n_reused_disk == BLOCK  # up to the bad one
    assert engine_log.text.count(f"{bad} is ignored and removed") == 1
    # It was computed and written again.
    assert say(tiny_gguf, tmp_path, prompt)[1].n_reused_disk == 299


def test_the_limit_is_kept_and_the_oldest_goes_first(tiny_gguf: Path, tmp_path: Path) -> None:
    prompt = tokens_of(tiny_gguf, 900)
    parts = [prompt[i : i + 260] for i in (0, 300, 600)]
    say(tiny_gguf, tmp_path, parts[0])
    one = sum(path.stat().st_size for path in blocks(tmp_path))
    limit = int(2.2 * one)
    for part in (parts[1], parts[0], parts[2]):
        say(tiny_gguf, tmp_path, part, limit=limit)
        assert sum(path.stat().st_size for path in blocks(tmp_path)) <= limit
    reused = [say(tiny_gguf, tmp_path, parts[i], limit=limit)[1].n_reused_disk for i in (2, 0, 1)]
    assert reused[:2] == [259, 259]
    assert reused[2] < 260 - BLOCK  # lost its end at least


def test_short_prompts_leave_no_file(tiny_gguf: Path, tmp_path: Path) -> None:
    say(tiny_gguf, tmp_path, tokens_of(tiny_gguf, prompt_cache.LEAST - 1))
    assert not blocks(tmp_path)


def test_several_processes_may_use_it_at_once(tiny_gguf: Path, tmp_path: Path) -> None:
    prompt = tokens_of(tiny_gguf, 400)
    work = [(tiny_gguf, tmp_path, prompt[: 150 + 50 * i]) for i in range(5)]
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        together = pool.starmap(say, work * 2)
    assert [tokens for tokens, _ in together] == [say(m, None, p)[0] for m, _, p in work] * 2
    assert not list(tmp_path.rglob("*.partial"))
    assert say(*work[-1])[1].n_reused_disk == 349


def test_a_folder_that_cannot_be_used_costs_nothing(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    options = Options(n_ctx=256, threads=1, prompts=PromptFolder(tmp_path / "file"))
    with Session.open(tiny_gguf, options) as session:
        assert session.prompts is not None
        assert session.prompts.reason
        assert LocalGenerator(session).generate(Request([1] * 100, 2)).whole() is not None


def test_a_cache_by_columns_is_not_kept(llama_gguf: Path, tmp_path: Path) -> None:
    _, stats = say(llama_gguf, tmp_path, tokens_of(llama_gguf, 200), flash_attn="off")
    assert stats.n_reused_disk == 0
    assert not blocks(tmp_path)


@pytest.mark.parametrize(
    ("given", "limit"), [("500M", 500 << 20), ("2 GiB", 2 << 30), ("1.5g", 3 << 29), ("77", 77)]
)
def test_sizes(given: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLM_EDGE_PROMPT_CACHE", given)
    for found in (prompt_cache.wanted(), prompt_cache.wanted(given)):
        assert found is not None
        assert found.limit == limit
    assert prompt_cache.wanted("off") is None
    assert prompt_cache.wanted("0") is None


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(PlmEdgeError, match="no size"):
        prompt_cache.wanted("much")
