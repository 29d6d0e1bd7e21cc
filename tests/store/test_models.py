"""list, show, add, rm and alias, as a person calls them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base import files
from testkit.cli import Cli
from testkit.hub_server import Hub
from tests.store.hub import NAME, in_hf_cache

Q4 = f"{NAME}:Q4_K_M"
EMPTY = {"schema": "plm-edge/models/1", "models": [], "aliases": {}, "damaged": []}


def answer(cli: Cli, *arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli(*arguments, "--json").stdout)
    return found


@pytest.fixture
def mine(tmp_path: Path, weights: Path) -> Path:
    """A file of the person's own."""
    path = tmp_path / "mine/abc-Q8_0.gguf"
    path.parent.mkdir()
    path.write_bytes(weights.read_bytes())
    return path


def test_nothing_yet(cli: Cli) -> None:
    done = cli("list")
    assert done.stdout == ""
    assert "plm-edge pull" in done.stderr
    assert answer(cli, "list") == EMPTY


def test_add_uses_the_file_where_it_is(cli: Cli, mine: Path, tmp_path: Path) -> None:
    done = cli("add", mine)
    assert done.stdout == f"{mine}\n"
    assert "used where it is" in done.stderr
    (model,) = answer(cli, "list")["models"]
    assert model["path"] == str(mine)
    assert (model["origin"], model["quant"], model["placed"]) == ("added", "Q8_0", False)
    assert not (tmp_path / "data/models").exists()
    assert cli("run", "abc:q8_0", "-p", "x", "-n", "3", "--temp", "0").stdout == "abc\n"
    assert "not a GGUF" in cli.fails("add", Path(__file__), code=3)[0]
    assert "there is no file" in cli.fails("add", mine.with_name("abd.gguf"), code=3)[0]


def test_several_are_added_together_or_not_at_all(
    cli: Cli, mine: Path, tmp_path: Path, weights: Path
) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("text")
    assert "not a GGUF" in cli.fails("add", mine, text, code=3)[0]
    assert "cannot be an alias" in cli.fails("add", mine, "--alias", "a b", code=2)[0]
    assert answer(cli, "list") == EMPTY
    text.write_bytes(weights.read_bytes())
    report = answer(cli, "add", mine, text)
    assert report["schema"] == "plm-edge/added/1"
    assert [model["path"] for model in report["models"]] == [str(mine), str(text)]


def test_list_for_people(cli: Cli, mine: Path) -> None:
    cli("pull", NAME)
    cli("add", mine, "--alias", "short")
    mine.unlink()
    table = cli("list").stdout
    lines = [line for line in table.splitlines() if line]
    assert f"the file is gone: {mine}" in lines[1]
    assert "= short" in lines[1]
    assert lines[2].startswith("*")
    assert Q4 in lines[2]
    assert "2,048" in lines[2]
    assert "pulled somebody/Small-GGUF" in lines[2]


def test_found_in_other_programs(cli: Cli, server: Hub, tmp_path: Path) -> None:
    home = Path(cli.env["HOME"])
    file = server.folder / "small-Q8_0.gguf"
    link = in_hf_cache(tmp_path / "hf", "else/Where-GGUF", file)
    studio = home / ".lmstudio/models/some/one/m-Q4_0.gguf"
    studio.parent.mkdir(parents=True)
    os.link(server.folder / "small-Q4_K_M.gguf", studio)
    (studio.parent / "mmproj-m.gguf").write_bytes(b"GGUF")
    blob = home / ".ollama/models/blobs" / f"sha256-{files.sha256(file)}"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(file.read_bytes())
    manifest = home / ".ollama/models/manifests/registry.ollama.ai/library/small/1b"
    manifest.parent.mkdir(parents=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "0" * 64},
        {
            "mediaType": "application/vnd.ollama.image.model",
            "digest": "sha256:" + blob.name.removeprefix("sha256-"),
        },
    ]
    manifest.write_text(json.dumps({"layers": layers}))
    manifest.with_name("damaged").write_text("{")
    cache = home / ".cache/llama.cpp/some_one_x.gguf"
    cache.parent.mkdir(parents=True)
    os.link(server.folder / "small-IQ2_XXS.gguf", cache)
    found = answer(cli, "list", "--found")
    assert found["schema"] == "plm-edge/found-models/1"
    assert [(m["program"], m["name"], m["path"]) for m in found["models"]] == [
        ("Hugging Face cache", "else/Where-GGUF:Q8_0", str(link)),
        ("LM Studio", "some/one:Q4_0", str(studio)),
        ("ollama", "small:1b", str(blob)),
        ("llama.cpp", "some_one_x", str(cache)),
    ]
    assert not any(m["known"] for m in found["models"])
    cli("add", blob)
    assert answer(cli, "list")["models"][0]["name"] == "small:1b"
    assert cli("run", "small:1b", "-p", "x", "-n", "3", "--temp", "0").stdout == "abc\n"
    assert sum(m["known"] for m in answer(cli, "list", "--found")["models"]) == 1
    assert "small:1b" in cli("list", "--found").stdout


def test_a_damaged_registry(cli: Cli, tmp_path: Path) -> None:
    """What pull placed is found again, used where it is, and never fetched twice."""
    cli("pull", NAME)
    registry = tmp_path / "data/models.json"
    registry.write_text("{")
    done = cli("list")
    assert f"{registry} holds what could not be read" in done.stderr
    (found,) = answer(cli, "list", "--found")["models"]
    assert (found["program"], found["name"], found["known"]) == ("plm-edge", Q4, False)
    cli("add", found["path"])
    listed = answer(cli, "list")
    assert [model["name"] for model in listed["models"]] == [Q4]
    assert listed["damaged"] == [str(tmp_path / "data/models.damaged-1.json")]
    assert answer(cli, "list", "--found")["models"] == []
    registry.unlink()
    assert answer(cli, "pull", NAME)["placed"]


def test_show(cli: Cli, server: Hub) -> None:
    cli("pull", NAME, "--alias", "short")
    shown = answer(cli, "show", "short")
    assert shown["schema"] == "plm-edge/model/1"
    assert (shown["name"], shown["aliases"], shown["quant"]) == (Q4, ["short"], "Q4_K_M")
    assert (shown["architecture"], shown["context"], shown["layers"]) == ("plm", 2048, 2)
    assert shown["chat_template"] is False
    assert shown["cache_per_token"]["f16"] == 2 * 128 * 2
    need = shown["need"]
    assert need["kv"] == 2048 * shown["cache_per_token"]["f16"]
    assert need["total"] == sum(need[part] for part in ("weights", "kv", "compute", "process"))
    assert shown["sha256"] == files.sha256(server.folder / "small-Q4_K_M.gguf")
    assert shown["sha256_state"] == "recorded"
    text = cli("show", "short").stdout
    for expected in ("2,048 tokens", "no: it continues text", "512 B in f16", "pulled", "SHA-256"):
        assert expected in text
    path = Path(shown["path"])
    assert answer(cli, "show", "short", "--hash")["sha256_state"] == "compared"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert answer(cli, "show", "short", "--hash")["sha256_state"] == "changed"
    assert "NOT the one on record" in cli("show", "short", "--hash").stdout


def test_show_says_what_is_needed_and_free_here_and_on_devices(cli: Cli, mine: Path) -> None:
    cli("devices", "add", "my-pi", "--profile", "rpi5", "--host", "pi@192.0.2.1")
    cli("devices", "add", "itself", "--profile", "host")
    shown = answer(cli, "show", mine)
    memory, devices = shown["memory"], {one["name"]: one for one in shown["devices"]}
    parts = ("weights", "kv", "compute_estimate", "process_estimate")
    assert memory["needed"] == sum(memory[part] for part in parts) < memory["available"]
    assert (memory["n_ctx"], memory["kv_type"], memory["bound_by"]) == (
        2048, "f16", "this machine",
    )  # fmt: skip
    assert set(devices) == {"my-pi", "itself"}
    assert devices["my-pi"]["available"] == 8 * 10**9
    assert not devices["my-pi"]["free"]
    text = cli("show", mine).stdout
    for word in ("weights", "KV cache", "compute", "needed", "available", "my-pi", "in all"):
        assert word in text
    (asked,) = answer(cli, "show", mine, "--device", "itself")["devices"]
    assert asked["free"]
    assert 0 < asked["available"] < devices["itself"]["available"]
    assert "no device" in cli.fails("show", mine, "--device", "nobody", code=3)[0]


def test_show_a_file_that_is_not_known(cli: Cli, mine: Path) -> None:
    assert answer(cli, "show", mine)["sha256_state"] == "unknown"
    assert "plm-edge add" in cli("show", mine).stdout


class TestRemove:
    def test_what_pull_placed_is_deleted(self, cli: Cli, tmp_path: Path) -> None:
        cli("pull", NAME, "--alias", "short")
        what, why, fix = cli.fails("rm", "short", code=2)
        assert (what, "--yes" in fix) == ("nothing was done", True)
        assert "confirmed" in why
        report = answer(cli, "rm", "short", "--yes")
        path = f"{tmp_path}/data/models/{NAME}/small-Q4_K_M.gguf"
        assert report == {
            "schema": "plm-edge/rm/1",
            "deleted": [path],
            "forgotten": [path],
            "aliases": ["short"],
        }
        assert not Path(path).parents[1].exists()
        assert answer(cli, "list") == EMPTY

    def test_what_it_did_not_place_stays(self, cli: Cli, mine: Path) -> None:
        cli("add", mine)
        done = cli("rm", "abc-Q8_0")
        assert f"{mine} stays" in done.stderr
        assert mine.exists()
        assert answer(cli, "list")["models"] == []
        assert "does not delete it" in cli.fails("rm", mine, code=2)[1]

    def test_a_file_that_was_put_in_its_place_stays(self, cli: Cli, tmp_path: Path) -> None:
        cli("pull", NAME)
        path = tmp_path / f"data/models/{NAME}/small-Q4_K_M.gguf"
        path.write_bytes(b"GGUF of the person")
        assert "not the file any more" in cli("rm", Q4).stderr
        assert path.exists()

    def test_those_whose_file_is_gone(self, cli: Cli, mine: Path) -> None:
        cli("pull", NAME)
        cli("add", mine)
        mine.unlink()
        assert "plm-edge rm abc" in cli.fails("run", "abc", "-p", "x", code=3)[2]
        assert answer(cli, "rm", "--missing")["forgotten"] == [str(mine)]
        assert len(answer(cli, "list")["models"]) == 1
        assert "no model's file is gone" in cli("rm", "--missing").stderr

    def test_wrong_names(self, cli: Cli) -> None:
        cli("pull", NAME)
        assert "did you mean" in cli.fails("rm", "small:Q4_K", "--yes", code=3)[2]
        assert "names no model" in cli.fails("rm", code=2)[1]
        assert "came with plm-edge" in cli.fails("rm", "tiny-plm", "--yes", code=2)[1]

    def test_one_that_is_named_twice(self, cli: Cli, tmp_path: Path) -> None:
        cli("pull", NAME, "--alias", "short")
        path = f"{tmp_path}/data/models/{NAME}/small-Q4_K_M.gguf"
        report = answer(cli, "rm", "short", Q4, path, "--yes")
        assert (report["deleted"], report["forgotten"]) == ([path], [path])

    def test_a_terminal_is_asked(self, cli: Cli) -> None:
        import pexpect

        cli("pull", NAME)
        for reply, left in (("n", 1), ("y", 0)):
            child = pexpect.spawn(
                cli.command[0], [*cli.command[1:], "rm", Q4],
                env={**cli.env, "TERM": "xterm"}, encoding="utf-8", timeout=60,
            )  # fmt: skip
            child.expect("Delete 1 file,")
            child.sendline(reply)
            child.expect(pexpect.EOF)
            child.close()
            assert child.exitstatus == 0
            assert len(answer(cli, "list")["models"]) == left


class TestAlias:
    def test_set_list_use_remove(self, cli: Cli, mine: Path) -> None:
        cli("alias", "short", mine)
        assert answer(cli, "alias") == {
            "schema": "plm-edge/aliases/1",
            "aliases": {"short": str(mine)},
        }
        assert f"short  {mine}" in cli("alias").stdout
        assert cli("run", "short", "-p", "x", "-n", "3", "--temp", "0").stdout == "abc\n"
        cli("alias", "--remove", "short")
        assert answer(cli, "alias")["aliases"] == {}
        none = cli("alias")
        assert (none.stdout, "plm-edge alias NAME MODEL" in none.stderr) == ("", True)
        assert "there is no alias" in cli.fails("alias", "--remove", "short", code=3)[0]
        assert mine.exists()

    def test_letters_of_any_language(self, cli: Cli, mine: Path) -> None:
        cli("alias", "été-2", mine)
        assert answer(cli, "show", "été-2")["path"] == str(mine)

    @pytest.mark.parametrize(
        "name", ["_a", "a b", "a/b", "-", "a:b", "x.gguf", "abc-Q8_0", "tiny-plm", ""]
    )
    def test_names_that_cannot_be(self, cli: Cli, mine: Path, name: str) -> None:
        cli("add", mine)
        assert "cannot be an alias" in cli.fails("alias", "--", name, mine, code=2)[0]

    def test_no_such_model(self, cli: Cli) -> None:
        assert "there is no model" in cli.fails("alias", "short", "nothing", code=3)[0]
        what, _, fix = cli.fails("rm", "nothing", code=3)
        assert "there is no model" in what
        assert "pull" not in fix  # nobody fetches a model to remove it
        assert "--remove NAME" in cli.fails("alias", "short", code=2)[2]


def test_a_data_folder_that_cannot_be_written(cli: Cli, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    what, _, fix = cli.fails("add", mine, code=4)
    assert "cannot write" in what
    assert "PLM_EDGE_DATA_DIR" in fix
