"""`plm-edge pull` against a hub that breaks off, lies and is short of nothing but patience."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from plm_edge.base import files
from testkit.cli import Cli, finish
from testkit.hub_server import Hub
from tests.store.hub import NAME, in_hf_cache

DEFAULT = "small-Q4_K_M.gguf"


def pull(cli: Cli, *arguments: str | Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(cli("pull", *arguments, "--json").stdout)
    assert report["schema"] == "plm-edge/pulled/1"
    return report


def listed(cli: Cli) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(cli("list", "--json").stdout)
    assert report["schema"] == "plm-edge/models/1"
    return report


def test_pull_and_run(cli: Cli, server: Hub, tmp_path: Path) -> None:
    done = cli("pull", NAME)
    assert done.stdout == f"{tmp_path}/data/models/{NAME}/{DEFAULT}\n"
    assert "IQ2_XXS" in done.stderr
    assert "taking Q4_K_M" in done.stderr
    assert f"plm-edge run {NAME}:Q4_K_M" in done.stderr
    assert files.sha256(Path(done.stdout.strip())) == files.sha256(server.folder / DEFAULT)
    assert not list((tmp_path / "data/models").rglob("*.partial"))
    (model,) = listed(cli)["models"]
    assert (model["name"], model["origin"], model["newest"]) == (f"{NAME}:Q4_K_M", "pulled", True)
    assert (model["architecture"], model["context"], model["placed"]) == ("plm", 2048, True)
    ran = cli("run", f"{NAME}:Q4_K_M", "-p", "hi", "-n", "3", "--temp", "0", "--threads", "1")
    assert ran.stdout == "abc\n"


def test_pulled_twice(cli: Cli, server: Hub) -> None:
    assert pull(cli, NAME)["how"] == "downloaded"
    server.served.clear()
    again = pull(cli, NAME)
    assert again["how"] == "known"
    assert again["placed"]
    assert server.served == []
    assert len(listed(cli)["models"]) == 1


@pytest.mark.parametrize(
    ("given", "file"),
    [
        (f"{NAME}:Q8_0", "small-Q8_0.gguf"),
        (f"{NAME}:iq2_xxs", "small-IQ2_XXS.gguf"),
        (f"{NAME}/small-Q8_0.gguf", "small-Q8_0.gguf"),
        (f"hf.co/{NAME}:Q8_0", "small-Q8_0.gguf"),
        (f"https://huggingface.co/{NAME}/resolve/main/small-Q8_0.gguf", "small-Q8_0.gguf"),
        (f"https://huggingface.co/{NAME}/blob/main/small-Q8_0.gguf?download=true",
         "small-Q8_0.gguf"),
        (f"https://huggingface.co/{NAME}", DEFAULT),
        (f"https://huggingface.co/{NAME}/tree/main", DEFAULT),
    ],
)  # fmt: skip
def test_what_a_person_can_say(cli: Cli, given: str, file: str) -> None:
    assert Path(pull(cli, given)["path"]).name == file


def test_a_connection_that_breaks(cli: Cli, server: Hub) -> None:
    size = (server.folder / DEFAULT).stat().st_size
    server.cuts = [100_000, 1, 0, 500_000]
    report = pull(cli, NAME)
    assert files.sha256(Path(report["path"])) == files.sha256(server.folder / DEFAULT)
    starts = [first for name, first in server.served if name == DEFAULT]
    assert starts[:5] == [0, 100_000, 100_001, 100_001, 600_001]
    assert size > 1 << 20


def test_the_next_run_goes_on(cli: Cli, server: Hub) -> None:
    server.cuts = [1_300_000] * 1 + [0] * 1000
    what, why, fix = cli.fails("pull", NAME, code=3)
    assert "cannot get" in what
    assert "5 times" in why
    assert "goes on" in fix
    assert listed(cli)["models"] == []
    server.cuts = []
    server.served.clear()
    report = pull(cli, NAME)
    assert min(first for _, first in server.served) > 1_000_000
    assert files.sha256(Path(report["path"])) == files.sha256(server.folder / DEFAULT)


def test_killed_in_the_middle(cli: Cli, server: Hub, tmp_path: Path) -> None:
    server.cuts = [1 << 20, 1_200_000 - (1 << 20)] + [0] * 1000  # the header's MiB, then the rest
    cli.command[-1] = cli.command[-1].replace("0.01", "5")
    process = cli.start("pull", NAME, "-q")
    folder = tmp_path / "data/models" / NAME
    partial = folder / f"{DEFAULT}.plm-edge.partial"
    while not (partial.exists() and partial.stat().st_size == 1_200_000):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    server.cuts = []
    server.served.clear()
    pull(cli, NAME)
    assert min(first for _, first in server.served) == 1_200_000
    assert [path.name for path in folder.iterdir()] == [DEFAULT]


def test_ctrl_c(cli: Cli, server: Hub) -> None:
    server.cuts = [0] * 1000
    cli.command[-1] = cli.command[-1].replace("0.01", "60")
    process = cli.start("pull", NAME)
    while not server.served:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"goes on where it was" in err
    assert b"Traceback" not in err


def test_a_file_that_is_not_what_the_hub_says(cli: Cli, server: Hub, tmp_path: Path) -> None:
    server.spoiled = {DEFAULT}
    what, why, _ = cli.fails("pull", NAME, code=3)
    assert "is not the file that the hub has" in what
    assert files.sha256(server.folder / DEFAULT) in why
    assert listed(cli)["models"] == []
    assert not any(path.is_file() for path in (tmp_path / "data/models").rglob("*"))
    server.spoiled = set()
    assert pull(cli, NAME)["how"] == "downloaded"


def test_disk_too_full(cli: Cli, server: Hub) -> None:
    full = (
        "import shutil, collections; U = collections.namedtuple('U', 'total used free'); "
        "shutil.disk_usage = lambda path: U(1, 1, 1000); "
    )
    cli.command[-1] = full + cli.command[-1]
    what, why, fix = cli.fails("pull", NAME, code=5)
    assert "not enough disk space" in what
    assert "1000 B left" in why
    assert "--into" in fix
    assert server.served == []
    assert pull(cli, NAME, "--force")["how"] == "downloaded"


def test_disk_full_in_the_middle(cli: Cli, server: Hub, tmp_path: Path) -> None:
    cli.command[-1] = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1200000, resource.RLIM_INFINITY)); "
    ) + cli.command[-1]
    what, _, fix = cli.fails("pull", NAME, code=5)
    assert "the disk is full" in what
    assert "--into" in fix
    assert listed(cli)["models"] == []
    (partial,) = (tmp_path / "data/models" / NAME).iterdir()
    assert partial.stat().st_size == 1_200_000


def test_too_large_for_the_machine(cli: Cli, server: Hub) -> None:
    small = "import plm_edge.machine.memory as m; m.total = lambda: 1 << 20; "
    cli.command[-1] = small + cli.command[-1]
    what, why, fix = cli.fails("pull", NAME, code=5)
    assert "too large for this machine" in what
    assert "1.0 MiB in all" in why
    assert "--force" in fix
    size = (server.folder / DEFAULT).stat().st_size
    assert {first for _, first in server.served} == {0}
    assert size > 1 << 20  # told after the first MiB
    assert pull(cli, NAME, "--force")["how"] == "downloaded"


def test_too_large_for_now(cli: Cli) -> None:
    little = "from plm_edge.machine import memory as m; m.available = lambda: m.Room(1 << 20, ''); "
    cli.command[-1] = little + cli.command[-1]
    done = cli("pull", NAME)
    assert "1.0 MiB are free now" in done.stderr


def test_what_cannot_be_pulled(cli: Cli, server: Hub, tmp_path: Path) -> None:
    cases = [
        ("else/where", 3, "no such repository", "check the name"),
        (f"{NAME}:Q5_K_M", 3, "IQ2_XXS", "name one of these"),
        (f"{NAME}/nothing.gguf", 3, "IQ2_XXS", "name one of these"),
        ("llama3.2:1b", 2, "not the form", "USER/REPO"),
        ("ftp://somewhere/x.gguf", 2, "ftp://", "USER/REPO"),
        (f"{server.url}/plain/a/README.md", 2, "not in .gguf", "USER/REPO"),
        (f"{server.url}/plain/nothing.gguf", 3, "404", "check the address"),
    ]
    for given, code, why, fix in cases:
        lines = cli.fails("pull", given, code=code)
        assert why in lines[1], lines
        assert fix in lines[2], lines
    here = tmp_path / "here.gguf"
    here.write_bytes(b"GGUF")
    assert f"plm-edge add {here}" in cli.fails("pull", here, code=2)[2]


def test_a_checkpoint(cli: Cli, server: Hub) -> None:
    for path in server.folder.glob("*.gguf"):
        path.unlink()
    assert "has no GGUF model" in cli.fails("pull", NAME, code=3)[0]
    (server.folder / "config.json").write_text("{}")
    what, _, fix = cli.fails("pull", NAME, code=3)
    assert "is a checkpoint" in what
    assert fix.endswith(f"plm-edge convert {NAME}")


def test_no_gguf_behind_the_name(cli: Cli, server: Hub, tmp_path: Path) -> None:
    (server.folder / DEFAULT).write_bytes(b"<html>" * 500_000)
    what, why, _ = cli.fails("pull", NAME, code=3)
    assert "is not a GGUF" in what
    assert "web page" in why
    assert not any(path.is_file() for path in (tmp_path / "data/models").rglob("*"))


def test_no_network(cli: Cli) -> None:
    cli.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    _, why, _ = cli.fails("pull", NAME, code=3)
    assert "the connection failed 5 times" in why


def test_through_a_proxy(cli: Cli, server: Hub) -> None:
    """The hub can be reached through the proxy alone, which the same server plays."""
    cli.env["HF_ENDPOINT"] = "http://hub.invalid"
    cli.env["HTTP_PROXY"] = cli.env["http_proxy"] = server.url
    assert pull(cli, NAME)["how"] == "downloaded"
    assert set(server.tokens) == {"hub.invalid"}


def test_the_token_is_for_the_hub_alone(cli: Cli, server: Hub) -> None:
    cli.env["HF_TOKEN"] = "hf_secret"
    server.store = server.url.replace("127.0.0.1", "localhost")
    report = pull(cli, NAME)
    assert files.sha256(Path(report["path"])) == files.sha256(server.folder / DEFAULT)
    hub, store = (urlsplit(url).netloc for url in (server.url, server.store))
    assert server.tokens[hub] == {"Bearer hf_secret"}
    assert server.tokens[store] == {""}


def test_offline(cli: Cli, server: Hub, tmp_path: Path) -> None:
    cli.env["HF_HUB_OFFLINE"] = "1"
    _, why, _ = cli.fails("pull", NAME, code=4)
    assert "HF_HUB_OFFLINE is set" in why
    assert server.requests == 0
    link = in_hf_cache(tmp_path / "hf", NAME, server.folder / "small-Q8_0.gguf")
    report = pull(cli, NAME)
    assert (report["how"], report["path"]) == ("found", str(link))
    assert pull(cli, f"{NAME}:Q8_0")["how"] == "known"
    assert server.requests == 0
    assert "HF_HUB_OFFLINE" in cli.fails("pull", f"{server.url}/plain/{DEFAULT}", code=4)[1]


def test_what_the_cache_has_is_used_there(cli: Cli, server: Hub, tmp_path: Path) -> None:
    link = in_hf_cache(tmp_path / "hf", NAME, server.folder / DEFAULT)
    report = pull(cli, NAME)
    assert (report["how"], report["where"]) == ("found", "Hugging Face cache")
    assert (report["path"], report["placed"]) == (str(link), False)
    assert server.served == []
    assert not (tmp_path / "data/models").exists()
    cli("rm", f"{NAME}:Q4_K_M")
    assert link.exists()


def test_what_the_cache_has_damaged_is_not_used(cli: Cli, server: Hub, tmp_path: Path) -> None:
    link = in_hf_cache(tmp_path / "hf", NAME, server.folder / DEFAULT)
    with link.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"X")
    assert pull(cli, NAME)["how"] == "downloaded"


def test_a_file_of_another_program(cli: Cli, server: Hub, tmp_path: Path) -> None:
    folder = Path(cli.env["HOME"]) / ".lmstudio/models/other/Small-GGUF"
    folder.mkdir(parents=True)
    (folder / "a.gguf").write_bytes((server.folder / DEFAULT).read_bytes())
    report = pull(cli, NAME)
    assert (report["how"], report["where"]) == ("found", "LM Studio")
    assert cli("run", f"{NAME}:Q4_K_M", "-p", "x", "-n", "3", "--temp", "0").stdout == "abc\n"


def test_into_another_folder(cli: Cli, tmp_path: Path) -> None:
    report = pull(cli, NAME, "--into", tmp_path / "mine")
    assert report["path"] == str(tmp_path / "mine" / DEFAULT)
    other = tmp_path / "other"
    other.mkdir()
    (other / "small-Q8_0.gguf").write_bytes(b"of the person")
    what, _, _ = cli.fails("pull", f"{NAME}:Q8_0", "--into", other, code=3)
    assert "is there already" in what
    assert (other / "small-Q8_0.gguf").read_bytes() == b"of the person"


def test_a_new_version_replaces_what_pull_placed(cli: Cli, server: Hub) -> None:
    old = pull(cli, NAME)
    with (server.folder / DEFAULT).open("ab") as file:
        file.write(b"new")
    new = pull(cli, NAME)
    assert new["path"] == old["path"]
    assert new["sha256"] == files.sha256(server.folder / DEFAULT) != old["sha256"]
    assert len(listed(cli)["models"]) == 1


def test_two_runs_at_once(cli: Cli, server: Hub) -> None:
    """Both files are fetched and remembered."""
    processes = [cli.start("pull", f"{NAME}:{quant}", "-q") for quant in ("Q8_0", "Q4_K_M")]
    for process in processes:
        _, err = finish(process)
        assert process.returncode == 0, err
    assert {model["quant"] for model in listed(cli)["models"]} == {"Q8_0", "Q4_K_M"}


class TestPlainAddress:
    def test_with_and_without_a_hash(self, cli: Cli, server: Hub, tmp_path: Path) -> None:
        url = f"{server.url}/plain/{DEFAULT}"
        server.cuts = [1_100_000, 0]
        done = cli("pull", url)
        assert done.stdout == f"{tmp_path}/data/models/web/{DEFAULT}\n"
        assert "its source states no SHA-256" in done.stderr
        assert pull(cli, url)["how"] == "known"
        right = files.sha256(server.folder / DEFAULT)
        assert pull(cli, url, "--sha256", right)["hashed"]
        wrong = "0" * 64
        other = f"{server.url}/plain/small-Q8_0.gguf"
        assert "is not the file" in cli.fails("pull", other, "--sha256", wrong, code=3)[0]

    @pytest.mark.parametrize(("heads", "ranges"), [(False, True), (True, False)])
    def test_simple_servers(self, cli: Cli, server: Hub, heads: bool, ranges: bool) -> None:
        server.heads, server.ranges = heads, ranges
        server.cuts = [1_500_000] if not ranges else []
        report = pull(cli, f"{server.url}/plain/{DEFAULT}")
        assert files.sha256(Path(report["path"])) == files.sha256(server.folder / DEFAULT)

    def test_another_version_is_not_gone_on_with(self, cli: Cli, server: Hub) -> None:
        url = f"{server.url}/plain/{DEFAULT}"
        server.cuts = [1_200_000] + [0] * 1000
        cli.fails("pull", url, code=3)
        path = server.folder / DEFAULT
        path.write_bytes(path.read_bytes()[:-1] + b"5")
        server.cuts = []
        assert files.sha256(Path(pull(cli, url)["path"])) == files.sha256(path)


def test_split_models(cli: Cli, server: Hub, weights: Path) -> None:
    from tests.store.splitting import split

    for path in server.folder.glob("*.gguf"):
        path.unlink()
    split(weights, server.folder / "Q8_0/small")
    report = pull(cli, NAME)
    assert report["name"] == f"{NAME}:Q8_0"
    first = Path(report["path"])
    assert [path.name for path in sorted(first.parent.iterdir())] == [
        "small-00001-of-00002.gguf", "small-00002-of-00002.gguf",
    ]  # fmt: skip
    ran = cli("run", f"{NAME}:Q8_0", "-p", "hi", "-n", "3", "--temp", "0", "--threads", "1")
    assert ran.stdout == "abc\n"
    assert "in 2 parts" in cli("show", f"{NAME}:Q8_0").stdout
    first.with_name("small-00002-of-00002.gguf").rename(first.with_name("away"))
    assert "small-00002-of-00002.gguf is gone" in listed(cli)["models"][0]["problem"]
    assert pull(cli, NAME)["how"] == "downloaded"
    cli("rm", NAME, "--yes")
    assert not list(first.parent.glob("*.gguf"))


def test_a_terminal_is_asked(cli: Cli) -> None:
    import pexpect

    child = pexpect.spawn(
        cli.command[0], [*cli.command[1:], "pull", NAME],
        env={**cli.env, "TERM": "xterm"}, encoding="utf-8", timeout=60, dimensions=(30, 100),
    )  # fmt: skip
    child.expect("Which one")
    child.sendline("9")
    child.expect("A number from 1 to 3")
    child.sendline("3")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert listed(cli)["models"][0]["quant"] == "Q8_0"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--alias", "a b"), "cannot be an alias"),
        (("--sha256", "12ab"), "is no SHA-256"),
        (("--into", __file__), "nothing can be put into"),
    ],
)
def test_a_slip_is_said_before_anything_is_fetched(
    cli: Cli, server: Hub, words: tuple[str, str], said: str
) -> None:
    assert said in cli.fails("pull", f"{server.url}/plain/{DEFAULT}", *words, code=2)[0]
    assert server.requests == 0


def test_two_of_the_same(cli: Cli) -> None:
    """A second run at the same file ends at once with a word, or finds it if the first is done."""
    processes = [cli.start("pull", NAME) for _ in range(2)]
    done = [(finish(process), process.returncode) for process in processes]
    assert 0 in [code for _, code in done]
    for (_, err), code in done:
        assert code == 0 or b"being downloaded by another run" in err
    assert len(listed(cli)["models"]) == 1
