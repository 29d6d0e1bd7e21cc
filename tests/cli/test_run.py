"""`plm-edge run` as a process: what goes to which stream, how it ends, what it reports."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from testkit import plm_gguf
from testkit.cli import Cli

GREEDY = ("--temp", "0", "--threads", "1")


def result(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(text)
    assert data["schema"] == "plm-edge/run/1"
    return data


def test_the_text_alone_goes_to_stdout(cli: Cli, models: Path) -> None:
    done = cli("run", models / "abc.gguf", "-p", "hi", "-n", "7", *GREEDY)
    assert done.stdout == "abcabca\n"
    assert done.stderr == ""


def test_stats_go_to_stderr(cli: Cli, models: Path) -> None:
    done = cli("run", models / "abc.gguf", "-p", "hi", "-n", "4", "--stats", *GREEDY)
    assert done.stdout == "abca\n"
    for name in ("load", "TTFT", "prefill", "decode", "KV cache", "peak RSS"):
        assert sum(line.startswith(name) for line in done.stderr.splitlines()) == 1, done.stderr
    assert "\x1b" not in done.stderr


def test_it_stops_where_the_model_ends(cli: Cli, models: Path) -> None:
    done = cli("run", models / "xyz-end.gguf", "-p", "hi", "--json", *GREEDY)
    got = result(done.stdout)
    assert (got["text"], got["tokens"], got["stop_reason"]) == ("xyz", [*b"xyz"], "end")
    assert done.stderr == ""


def test_json_reports_all(cli: Cli, models: Path) -> None:
    model = models / "abc.gguf"
    got = result(cli("run", model, "-p", "hello", "-n", "9", "--json", *GREEDY).stdout)
    assert got["text"] == "abcabcabc"
    assert got["stop_reason"] == "length"
    assert got["prompt_tokens"] == 5
    assert got["templated"] is False
    assert got["model"]["path"] == str(model)
    assert got["model"]["architecture"] == "plm"
    assert set(got["engine"]) == {"version", "pin", "tree"}
    stats = got["stats"]
    assert stats["n_generated"] == 9
    assert stats["n_ctx"] == 4096
    assert 0 < stats["prefill_s"] <= stats["ttft_s"]
    assert stats["prefill_tps"] == pytest.approx(5 / stats["prefill_s"])
    assert stats["decode_tps"] == pytest.approx(8 / stats["decode_s"])
    # The prompt and all but the last token are in the cache: 576-like values a token and layer.
    per_token = 2 * plm_gguf.LATENT_ROW * plm_gguf.N_LAYERS
    assert stats["kv_bytes_per_token"] == per_token
    assert stats["kv_bytes_used"] == (5 + 8) * per_token
    assert stats["kv_bytes_allocated"] == 4096 * per_token
    assert stats["peak_rss_bytes"] > model.stat().st_size
    assert stats["load_s"] > 0


@pytest.mark.parametrize(("kv", "bytes_per_32"), [("f16", 64), ("q8_0", 34), ("q4_0", 18)])
def test_kv_types(cli: Cli, models: Path, kv: str, bytes_per_32: int) -> None:
    done = cli("run", models / "abc.gguf", "-p", "hi", "-n", "6", "--kv", kv, "--json", *GREEDY)
    got = result(done.stdout)
    assert got["text"] == "abcabc"
    row = plm_gguf.LATENT_ROW // 32 * bytes_per_32
    assert got["stats"]["kv_bytes_per_token"] == row * plm_gguf.N_LAYERS
    assert got["stats"]["kv_type"] == kv


def test_a_seed_makes_it_repeatable(cli: Cli, models: Path) -> None:
    def text(*options: str) -> str:
        arguments = ("-p", "hi", "-n", "24", "--temp", "1", "--json", "--threads", "1")
        return str(result(cli("run", models / "random.gguf", *arguments, *options).stdout)["text"])

    first = text("--seed", "7")
    assert text("--seed", "7") == first
    assert text("--seed", "8") != first
    assert text("--seed", "7", "--top-k", "1") == text("--seed", "8", "--top-k", "1")
    assert text("--seed", "7", "--min-p", "0.999") == text("--seed", "8", "--min-p", "0.999")
    assert text("--seed", "7", "--top-p", "1e-6") == text("--seed", "8", "--top-p", "1e-6")


def test_a_drawn_seed_is_reported_and_repeats(cli: Cli, models: Path) -> None:
    options = ("-p", "hi", "-n", "24", "--temp", "1", "--json", "--threads", "1")
    one = result(cli("run", models / "random.gguf", *options).stdout)
    seed = str(one["sampling"]["seed"])
    two = result(cli("run", models / "random.gguf", *options, "--seed", seed).stdout)
    assert two["text"] == one["text"]


def test_the_prompt_from_stdin(cli: Cli, models: Path) -> None:
    prompt = "größer\n".encode()
    arguments = ("-p", "-", "-n", "3", "--json", *GREEDY)
    done = cli("run", models / "abc.gguf", *arguments, stdin=prompt)
    assert result(done.stdout)["prompt_tokens"] == len(prompt)


def test_characters_of_several_bytes_are_whole(cli: Cli, tmp_path: Path) -> None:
    model = plm_gguf.write(tmp_path / "m.gguf", script="é€😀".encode(), endless=False)
    assert cli("run", model, "-p", "hi", *GREEDY).stdout == "é€😀\n"


def test_a_character_cut_off_by_n_is_replaced(cli: Cli, tmp_path: Path) -> None:
    model = plm_gguf.write(tmp_path / "m.gguf", script="a€".encode())
    assert cli("run", model, "-p", "hi", "-n", "3", *GREEDY).stdout == "a\ufffd\n"


def test_it_stops_at_a_full_context(cli: Cli, models: Path) -> None:
    arguments = ("-p", "x" * 40, "-n", "-1", "--ctx", "64", *GREEDY)
    done = cli("run", models / "abc.gguf", *arguments)
    assert len(done.stdout.strip()) == 64 - 40 + 1  # the last token is drawn, not computed
    assert "the context of 64 tokens is full" in done.stderr
    got = result(cli("run", models / "abc.gguf", *arguments, "--json").stdout)
    assert got["stop_reason"] == "context"


def test_a_prompt_longer_than_the_context(cli: Cli, models: Path) -> None:
    arguments = ("run", models / "abc.gguf", "-p", "x" * 300, "--ctx", "64", *GREEDY)
    what, why, fix = cli.fails(*arguments, code=3)
    assert what == "the prompt does not fit the context"
    assert "300 tokens" in why
    assert "64" in why
    assert fix == "use --ctx 768"
    assert cli("run", models / "abc.gguf", "-p", "x" * 300, "-n", "1", "--ctx", "768", *GREEDY)


def test_n_zero_computes_the_prompt_alone(cli: Cli, models: Path) -> None:
    got = result(cli("run", models / "abc.gguf", "-p", "hi", "-n", "0", "--json", *GREEDY).stdout)
    assert got["tokens"] == []
    assert got["stats"]["ttft_s"] is None
    assert got["stats"]["prefill_tps"] > 0


def test_other_architectures_run_with_a_note(cli: Cli, tmp_path: Path) -> None:
    model = plm_gguf.write(tmp_path / "m.gguf", arch="llama")
    done = cli("run", model, "-p", "hi", "-n", "3", *GREEDY)
    assert "llama model, not a PLM" in done.stderr
    assert len(done.stdout) > 1
    assert cli("run", model, "-p", "hi", "-n", "3", "-q", *GREEDY).stderr == ""


def test_the_chat_template_is_applied_unless_raw(cli: Cli, tmp_path: Path) -> None:
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}>"
    model = plm_gguf.write(tmp_path / "m.gguf", script=b"abc", chat_template=template)
    arguments = ("-p", "hello", "-n", "3", "--json", *GREEDY)
    chat = result(cli("run", model, *arguments).stdout)
    assert chat["templated"] is True
    assert chat["prompt_tokens"] == len("[user]hello>") + 1  # the end token is one
    raw = result(cli("run", model, *arguments, "--raw").stdout)
    assert raw["templated"] is False
    assert raw["prompt_tokens"] == len("hello")


def test_a_hostile_chat_template_is_refused(cli: Cli, tmp_path: Path) -> None:
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    model = plm_gguf.write(tmp_path / "m.gguf", script=b"abc", chat_template=template)
    what, why, fix = cli.fails("run", model, "-p", "hi", *GREEDY, code=3)
    assert "chat template" in what
    assert "unsafe" in why
    assert "--raw" in fix


def test_too_little_memory_is_refused_in_advance(cli: Cli, models: Path) -> None:
    arguments = ("run", models / "abc.gguf", "-p", "hi", "--ctx", "2000000000", *GREEDY)
    what, why, fix = cli.fails(*arguments, code=5)
    assert what == "not enough memory for abc.gguf"
    assert "MiB" in why
    assert "2,000,000,000 tokens" in why
    assert "--ctx 4096" in fix


def test_memory_that_runs_out_all_the_same(cli: Cli, models: Path) -> None:
    """--force past the check, in a process that may have 3 GiB: the cache alone is 4."""
    shell = ["bash", "-c", 'ulimit -v 3145728; exec "$@"', "-"]
    limited = Cli(cli.env, [*shell, *cli.command])
    arguments = ("-p", "hi", "--ctx", str(2**23), "--force", *GREEDY)
    what, why, fix = limited.fails("run", models / "abc.gguf", *arguments, code=5)
    assert what == "not enough memory for abc.gguf"
    assert "alloc" in why
    assert "--ctx" in fix


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "m.gguf"],
        ["run", "m.gguf", "-p", "x", "--no-such-option"],
        ["run", "m.gguf", "-p", "x", "--kv", "f8"],
        ["run", "m.gguf", "-p", "x", "--threads", "0"],
        ["run", "m.gguf", "-p", "x", "-n", "many"],
        ["run", "m.gguf", "-p", "x", "--temp", "-1"],
        ["run", "m.gguf", "-p", "x", "--temp", "nan"],
        ["run", "m.gguf", "-p", "x", "--top-p", "0"],
        ["run", "m.gguf", "-p", "x", "--seed", "-1"],
        ["run", "m.gguf", "-p", "x", "--emulate"],
        ["run", "-p", "x", "--emulate", "--device", "rpi5@pi@kitchen"],
        ["rum"],
    ],
)
def test_wrong_command_lines(cli: Cli, arguments: list[str]) -> None:
    assert "int range" not in cli.fails(*arguments, code=2)[1]


def test_a_prompt_that_is_not_utf8(cli: Cli, models: Path) -> None:
    model = models / "abc.gguf"
    _, why, _ = cli.fails("run", model, "-p", b"caf\xe9", code=2)
    assert "0xe9" in why
    _, why, _ = cli.fails("run", model, "-p", "-", code=2, stdin=b"ab\xff")
    assert "0xff at position 2" in why


def test_an_empty_prompt(cli: Cli, models: Path) -> None:
    what, _, _ = cli.fails("run", models / "abc.gguf", "-p", "", code=2)
    assert what == "the prompt is empty"


class TestWrongModels:
    def test_missing_with_a_near_miss(self, cli: Cli, models: Path) -> None:
        what, _, fix = cli.fails("run", models / "adc.gguf", "-p", "x", code=3)
        assert "there is no file" in what
        assert str(models / "abc.gguf") in fix

    def test_a_path_that_is_not_utf8(self, cli: Cli, tmp_path: Path) -> None:
        what, _, _ = cli.fails("run", bytes(tmp_path) + b"/\xff.gguf", "-p", "x", code=3)
        assert "\\xff.gguf" in what

    def test_a_name_that_is_not_utf8_runs(self, cli: Cli, models: Path, tmp_path: Path) -> None:
        odd = bytes(tmp_path) + b"/m\xff.gguf"
        Path(os.fsdecode(odd)).write_bytes((models / "abc.gguf").read_bytes())
        done = cli("run", odd, "-p", "x", "-n", "3", "--json", *GREEDY)
        assert result(done.stdout)["text"] == "abc"

    def test_a_checkpoint(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        _, _, fix = cli.fails("run", tmp_path, "-p", "x", code=3)
        assert fix == f"convert it first: plm-edge convert {tmp_path}"

    def test_a_folder_of_models(self, cli: Cli, models: Path) -> None:
        _, why, fix = cli.fails("run", models, "-p", "x", code=3)
        assert "3 GGUF models" in why
        assert str(models / "abc.gguf") in fix

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "empty"),
            (b"<!doctype html><title>Not found</title>", "text file"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
            (b"\x00" * 100, "not with 'GGUF'"),
            (b"PK\x03\x04" + b"\x00" * 60, "pickled"),
        ],
    )
    def test_not_a_gguf(self, cli: Cli, tmp_path: Path, content: bytes, reason: str) -> None:
        (tmp_path / "m.gguf").write_bytes(content)
        what, why, _ = cli.fails("run", tmp_path / "m.gguf", "-p", "x", code=3)
        assert "is not a GGUF model" in what
        assert reason in why

    @pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.999])
    def test_half_a_download(self, cli: Cli, models: Path, tmp_path: Path, share: float) -> None:
        whole = (models / "abc.gguf").read_bytes()
        (tmp_path / "m.gguf").write_bytes(whole[: int(share * len(whole))])
        what, _, _ = cli.fails("run", tmp_path / "m.gguf", "-p", "x", code=3)
        assert "half a download" in what

    def test_an_architecture_that_the_engine_lacks(self, cli: Cli, tmp_path: Path) -> None:
        model = plm_gguf.write(tmp_path / "m.gguf", arch="nonesuch")
        what, why, fix = cli.fails("run", model, "-p", "x", code=3)
        assert "cannot load m.gguf" in what
        assert "unknown model architecture: 'nonesuch'" in why
        assert "architecture" in fix

    def test_a_model_without_a_tensor(self, cli: Cli, tmp_path: Path) -> None:
        model = plm_gguf.write(tmp_path / "m.gguf")
        # Renamed in place: the header stays valid, the engine misses the old name.
        data = model.read_bytes()
        assert data.count(b"blk.1.ffn_up.weight") == 1
        model.write_bytes(data.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"))
        _, why, _ = cli.fails("run", model, "-p", "x", code=3)
        assert "blk.1.ffn_up.weight" in why


def test_debug_shows_the_engines_log_and_the_traceback(cli: Cli, models: Path) -> None:
    done = cli("run", models / "abc.gguf", "-p", "hi", "-n", "1", "--debug", *GREEDY)
    assert "llama_kv_cache" in done.stderr
    assert done.stdout == "a\n"
    import subprocess

    failed = subprocess.run(
        [*cli.command, "run", "/no/such.gguf", "-p", "x", "--debug"],
        capture_output=True,
        env=cli.env,
        text=True,
    )
    assert failed.returncode == 3
    assert "Traceback" in failed.stderr
    assert "  fix  " in failed.stderr


def test_stats_show_the_rows_that_were_skipped(cli: Cli, tiny_gguf: Path) -> None:
    done = cli("run", tiny_gguf, "-p", "def f(", "-n", "4", "--stats", *GREEDY)
    assert [line for line in done.stderr.splitlines() if line.startswith("zero rows")]
    got = result(cli("run", tiny_gguf, "-p", "def f(", "-n", "4", "--json", *GREEDY).stdout)
    shares = got["stats"]["zeros_by_layer"]
    assert len(shares) == 6
    assert all(0 < share < 1 for share in shares)
