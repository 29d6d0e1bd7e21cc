"""`plm-edge chat` as a person uses it, on a pseudo-terminal."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

from testkit import plm_gguf
from testkit.cli import Cli
from tests.cli.chat_screen import PROMPT_AGAIN, ChatScreen
from tests.cli.chats import GREEDY, saved, turns

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


def test_a_chat_from_greeting_to_end(cli: Cli, chatty: Path) -> None:
    screen = ChatScreen(cli, chatty / "chat.gguf", *GREEDY)
    screen.wait_prompt()
    assert "a message, or /help" in screen.text
    screen.answer_to("hello")
    screen.answer_to("again")
    assert screen.text.count("xyz") == 2
    assert screen.leave() == 0
    assert turns(cli) == [("hello", "xyz"), ("again", "xyz")]
    history = Path(cli.env["PLM_EDGE_DATA_DIR"]) / "chat-history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_a_paste_of_200_lines_is_one_message(cli: Cli, chatty: Path) -> None:
    text = "\n".join(f"line {number} " + "\t'\"\\" * 3 for number in range(200))
    screen = ChatScreen(cli, chatty / "chat.gguf", *GREEDY, "--ctx", "20000")
    screen.wait_prompt()
    screen.paste(text)
    screen.wait("line 199")
    screen.answer_to(" end")
    assert screen.leave() == 0
    assert turns(cli) == [(text + " end", "xyz")]


def test_a_paste_while_it_answers_waits_and_stays_whole(cli: Cli, chatty: Path) -> None:
    # 3000 tokens were an answer that may end before Ctrl-C comes
    screen = ChatScreen(cli, chatty / "endless.gguf", *GREEDY, "--ctx", "100000", "--force")
    screen.wait_prompt()
    screen.type("one\r")
    screen.wait("xyzxyz")
    screen.paste("two\nthree")
    screen.type("\r")
    screen.type("\x03")
    screen.wait("stopped; what it wrote stays")
    screen.wait_prompt()
    # Ctrl-C empties the terminal's queue, as everywhere; what was typed after it is there.
    screen.paste("four\nfive")
    screen.type("\r")
    screen.wait(lambda: len(turns(cli)) == 2 and bool(turns(cli)[1][1]))
    screen.type("\x03")
    screen.wait("stopped; what it wrote stays", 2)
    screen.wait_prompt()
    assert screen.leave() == 0
    assert [question for question, _ in turns(cli)] == ["one", "four\nfive"]


def test_several_lines_by_hand(cli: Cli, chatty: Path) -> None:
    screen = ChatScreen(cli, chatty / "chat.gguf", *GREEDY)
    screen.wait_prompt()
    screen.answer_to("a\nb\x1b\rc\\\rd")  # Ctrl-J, Alt-Enter, a backslash at the end
    screen.answer_to('"""e\r\rf"""')
    screen.leave()
    assert [question for question, _ in turns(cli)] == ["a\nb\nc\nd", "e\n\nf"]


def test_ctrl_c_stops_the_answer_and_keeps_it(cli: Cli, chatty: Path) -> None:
    screen = ChatScreen(cli, chatty / "endless.gguf", *GREEDY, "--ctx", "100000", "--force")
    screen.wait_prompt()
    screen.type("go\r")
    screen.wait("xyzxyzxyz")
    screen.type("\x03")
    screen.wait("stopped; what it wrote stays")
    screen.wait_prompt()
    assert "^C" not in screen.text
    ((question, answer),) = turns(cli)
    assert question == "go"
    assert answer.startswith("xyzxyzxyz")
    assert saved(cli)[0]["conversation"]["turns"][0]["stop_reason"] == "interrupted"
    screen.answer_to("/context")
    assert re.search(r"turns +1 +of 1 go", screen.text)
    assert screen.leave() == 0


def test_ctrl_c_at_the_prompt_clears_and_up_has_it_back(cli: Cli, chatty: Path) -> None:
    screen = ChatScreen(cli, chatty / "chat.gguf", *GREEDY)
    screen.wait_prompt()
    screen.type("precious")
    screen.wait("> precious")
    screen.type("\x03")
    screen.wait(screen.at_prompt)
    screen.type("\x1b[A")
    screen.wait("> precious")
    screen.answer_to("")
    assert screen.leave() == 0
    assert turns(cli) == [("precious", "xyz")]


def test_kill_9_loses_no_more_than_a_second(cli: Cli, chatty: Path) -> None:
    arguments = (chatty / "endless.gguf", *GREEDY, "--ctx", "100000", "--force")
    screen = ChatScreen(cli, *arguments)
    screen.wait_prompt()
    screen.type("go\r")
    screen.wait("xyzxyzxyz")
    screen.wait(lambda: bool(turns(cli)[0][1]))  # saved while it comes
    screen.kill()
    ((_, kept),) = turns(cli)
    assert kept
    assert kept == ("xyz" * len(kept))[: len(kept)]
    again = ChatScreen(cli, "-c", *arguments[1:])  # the model is the chat's own
    again.wait_prompt()
    assert "(it was stopped there)" in again.text
    assert "> go" in again.text
    again.type("more\r")
    again.wait(lambda: len(turns(cli)) == 2 and bool(turns(cli)[1][1]))
    again.type("\x03")
    again.wait("stopped; what it wrote stays")
    again.wait_prompt()
    assert again.leave() == 0
    assert turns(cli)[0] == ("go", kept)


def test_a_question_that_was_never_answered_is_at_the_prompt(cli: Cli, chatty: Path) -> None:
    cli("chat", chatty / "chat.gguf", *GREEDY, stdin=b"one\n")
    (path,) = (Path(cli.env["PLM_EDGE_DATA_DIR"]) / "chats").glob("*.json")
    chat = json.loads(path.read_bytes())
    chat["conversation"]["turns"].append({"question": "killed before it began"})
    path.write_text(json.dumps(chat))
    screen = ChatScreen(cli, "--continue", *GREEDY)
    screen.wait("> killed before it began")
    screen.answer_to("")
    assert screen.leave() == 0
    assert turns(cli) == [("one", "xyz"), ("killed before it began", "xyz")]


def test_undo_retry_and_edit(cli: Cli, chatty: Path, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/two/zwei/ "$1"\n')
    editor.chmod(0o755)
    screen = ChatScreen(
        cli, chatty / "chat.gguf", *GREEDY, env={"EDITOR": str(editor), "VISUAL": ""}
    )
    screen.wait_prompt()
    for question in ("one", "two", "three"):
        screen.answer_to(question)
    screen.answer_to("/undo")
    assert "took back: three" in screen.text
    screen.answer_to("/retry")
    assert [question for question, _ in turns(cli)] == ["one", "two"]
    screen.type("/edit\r")
    screen.wait(lambda: [question for question, _ in turns(cli)] == ["one", "zwei"])
    screen.wait(screen.at_prompt)
    screen.type("/edit\r")
    screen.wait("nothing was changed")
    screen.wait(screen.at_prompt)
    assert screen.leave() == 0
    assert turns(cli) == [("one", "xyz"), ("zwei", "xyz")]


def test_save_load_new_and_list(cli: Cli, chatty: Path) -> None:
    screen = ChatScreen(cli, chatty / "chat.gguf", *GREEDY)
    screen.wait_prompt()
    screen.answer_to("/system be kind")
    screen.answer_to("one")
    screen.answer_to("/save first")
    screen.answer_to("/new")
    screen.answer_to("two")
    screen.answer_to("/save first")
    assert "there is a chat first already" in screen.text
    screen.answer_to("/save second")
    screen.answer_to("/load first")
    assert "first: 1 turn; the last:" in screen.text
    screen.answer_to("three")
    screen.answer_to("/load none")
    assert "there is no chat none" in screen.text
    screen.type("/quit\r")
    assert screen.ended() == 0
    assert turns(cli, "first") == [("one", "xyz"), ("three", "xyz")]
    assert turns(cli, "second") == [("two", "xyz")]
    assert [chat["conversation"]["system"] for chat in saved(cli)] == ["be kind"] * 2
    listed = json.loads(cli("chat", "--list", "--json").stdout)
    assert listed["schema"] == "plm-edge/chats/1"
    assert [chat["name"] for chat in listed["chats"]] == ["first", "second"]
    shown = cli("chat", "--list").stdout
    assert re.search(r"first .* 2 +one", shown)
    cli("chat", "-c", "second", *GREEDY, stdin=b"four")
    assert turns(cli, "second") == [("two", "xyz"), ("four", "xyz")]


def test_a_file_goes_with_the_next_message(cli: Cli, chatty: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("seven\n")
    (tmp_path / "model.bin").write_bytes(b"a\0b")
    (tmp_path / "long.txt").write_text("x" * 3000)
    screen = ChatScreen(cli, chatty / "chat.gguf", *GREEDY)
    screen.wait_prompt()
    screen.answer_to(f"/file {tmp_path}/model.bin")
    assert "it is binary" in screen.text
    screen.answer_to(f"/file {tmp_path}/long.txt")
    assert "it has 3,000 tokens; the context has 2,048" in screen.text
    screen.answer_to(f"/file {tmp_path}/notes.txt")
    assert "notes.txt: 6 tokens, with the next message" in screen.text
    screen.answer_to("how many?")
    screen.answer_to("and now?")
    assert screen.leave() == 0
    assert [question for question, _ in turns(cli)] == [
        "notes.txt:\n```\nseven\n```\n\nhow many?",
        "and now?",
    ]


def test_the_context_full_drops_turns_with_a_notice(cli: Cli, chatty: Path) -> None:
    screen = ChatScreen(cli, chatty / "chat.gguf", *GREEDY, "--ctx", "256")
    screen.wait_prompt()
    for number in range(4):
        screen.answer_to(f"{number}" * 60)
    assert re.search(r"context full: the (2 )?oldest turns? no longer goe?s?", screen.text)
    assert screen.leave() == 0
    assert len(turns(cli)) == 4


def test_strict_is_an_error_that_keeps_the_draft(cli: Cli, chatty: Path) -> None:
    screen = ChatScreen(cli, chatty / "chat.gguf", *GREEDY, "--ctx", "256", "--strict")
    screen.wait_prompt()
    for number in range(3):
        screen.answer_to(f"{number}" * 60)
    screen.type("3" * 60 + "\r")
    screen.wait("the context is full")
    screen.wait("> " + "3" * 60, 2)
    screen.type("\x03")
    screen.wait(screen.at_prompt)
    screen.type("4" * 400 + "\r")
    screen.wait("the message does not fit the context")
    screen.wait("403 tokens; the context has 256")
    screen.wait(lambda: screen.lines[-1].endswith("4") or "> 444" in "\n".join(screen.lines[-8:]))
    screen.type("\x03")
    screen.wait(screen.at_prompt)
    assert screen.leave() == 0
    assert len(turns(cli)) == 3


def test_40_columns(cli: Cli, tmp_path: Path) -> None:
    words = "abcdefghij klmnopqrs tuvwxyz ABCDEFG HIJKLMN 0123456789".replace(" ", "")
    model = plm_gguf.write(
        tmp_path / "m.gguf", script=words.encode(), endless=False, chat_template="Q"
    )
    screen = ChatScreen(cli, model, *GREEDY, columns=40, rows=12)
    screen.wait_prompt()
    screen.answer_to("what?")
    screen.answer_to("/help")
    screen.answer_to("/context")
    screen.answer_to("/stats")
    assert words[:39] + "\n" + words[39:] in screen.text
    assert "Alt-Enter" in screen.text
    assert screen.leave() == 0


def test_words_are_not_cut(cli: Cli, tmp_path: Path) -> None:
    text = "the quick-brown fox_jumps"  # no byte of a script may occur twice: one line is short
    script = bytes(dict.fromkeys(text.encode()))
    model = plm_gguf.write(tmp_path / "m.gguf", script=script, endless=False, chat_template="Q")
    screen = ChatScreen(cli, model, *GREEDY, columns=12, rows=12)
    screen.wait_prompt()
    screen.answer_to("?")
    whole = script.decode()
    words = whole.split()
    assert all(any(word[:11] in line for line in screen.text.splitlines()) for word in words)
    assert screen.leave() == 0


def test_colours_and_no_color(cli: Cli, tmp_path: Path) -> None:
    model = plm_gguf.write(
        tmp_path / "m.gguf", script=b"- `ls`"[:5], endless=False, chat_template="Q"
    )
    screens = []
    environments: tuple[dict[str, str], ...] = ({}, {"NO_COLOR": "1"})
    for env in environments:
        screen = ChatScreen(cli, model, *GREEDY, env=env)
        screen.wait_prompt()
        screen.answer_to("what?")
        screen.answer_to("/help")
        assert "- `ls" in screen.text
        assert screen.text.count("- `ls") == 1  # styled in place, not printed again
        assert screen.leave() == 0
        screens.append(screen.raw)
    assert COLOUR.search(screens[0])
    assert not COLOUR.search(screens[1])


def test_escape_sequences_of_a_model_do_not_reach_the_terminal(cli: Cli, tmp_path: Path) -> None:
    model = plm_gguf.write(
        tmp_path / "m.gguf", script=b"\x1b]0;owned\x07\r", endless=False, chat_template="Q"
    )
    screen = ChatScreen(cli, model, *GREEDY)
    screen.wait_prompt()
    screen.answer_to("what?")
    assert screen.leave() == 0
    assert "\\x1b]0;owned\\x07\\r" in screen.text
    assert "\x1b]" not in screen.raw


def test_prompts_are_kept_unless_they_shall_not(cli: Cli, chatty: Path) -> None:
    del cli.env["PLM_EDGE_PROMPT_CACHE"]  # the tests' own: off
    folder = Path(cli.env["PLM_EDGE_CACHE_DIR"]) / "prompts"
    asked = ("chat", chatty / "chat.gguf", *GREEDY, "--no-save", "--stats")
    without = cli(*asked, "--no-prompt-cache", "--no-speculate", stdin=b"x" * 500)
    assert not folder.exists()
    assert "reused" not in without.stderr
    kept = cli(*asked, "--prompt-cache", "10M", stdin=b"x" * 500)
    assert any(folder.iterdir())
    again = cli(*asked, stdin=b"x" * 500)
    assert "read from disk" in again.stderr
    assert without.stdout == kept.stdout == again.stdout == "xyz\n"
    assert "is no size" in cli.fails(*asked, "--prompt-cache", "much", code=2, stdin=b"x")[0]


def test_a_broken_chat_is_set_aside(cli: Cli, chatty: Path) -> None:
    model = chatty / "chat.gguf"
    cli("chat", model, *GREEDY, stdin=b"good")
    folder = Path(cli.env["PLM_EDGE_DATA_DIR"]) / "chats"
    (folder / "bad.json").write_text("{")
    what, _, fix = cli.fails("chat", "-c", "bad", *GREEDY, code=3, stdin=b"x")
    assert what == "the chat bad is damaged"
    assert str(folder / "bad.broken") in fix
    (folder / "bad.json").write_text("[")
    done = cli("chat", "-c", *GREEDY, stdin=b"on")  # the last that can be read
    assert f"it was kept as {folder / 'bad.broken-2'}" in done.stderr
    assert (folder / "bad.broken").read_text() == "{"
    assert (folder / "bad.broken-2").read_text() == "["
    assert turns(cli) == [("good", "xyz"), ("on", "xyz")]


def test_two_chats_at_once(cli: Cli, chatty: Path) -> None:
    screens = [ChatScreen(cli, chatty / "chat.gguf", *GREEDY) for _ in range(2)]
    for screen in screens:
        screen.wait_prompt()
    for number in range(2):
        for name, screen in zip("ab", screens, strict=True):
            screen.answer_to(f"{name}{number}")
    what, _, _ = cli.fails("chat", "-c", code=3, stdin=b"x")
    assert what.endswith("is open already")
    for screen in screens:
        assert screen.leave() == 0
    found = [[turn["question"] for turn in chat["conversation"]["turns"]] for chat in saved(cli)]
    assert sorted(found) == [["a0", "a1"], ["b0", "b1"]]


def test_history_is_there_the_next_time(cli: Cli, chatty: Path) -> None:
    for keys in ("first\nline", "\x1b[A\x1b[A"):
        screen = ChatScreen(cli, chatty / "chat.gguf", *GREEDY)
        screen.wait_prompt()
        screen.answer_to(keys)
        assert screen.leave() == 0
    found = [chat["conversation"]["turns"][0]["question"] for chat in saved(cli)]
    assert found == ["first\nline"] * 2


def test_tab_completes_commands(cli: Cli, chatty: Path) -> None:
    screen = ChatScreen(cli, chatty / "chat.gguf", *GREEDY)
    screen.wait_prompt()
    screen.type("/cont")
    screen.wait("how full the context is")
    screen.type("\t")
    screen.wait("> /context")
    screen.type("\x03")
    screen.wait(screen.at_prompt)
    assert screen.leave() == 0


def test_a_base_model_says_so_and_continues_the_text(cli: Cli, models: Path) -> None:
    screen = ChatScreen(cli, models / "abc.gguf", *GREEDY, "-n", "6")
    screen.wait_prompt()
    assert "this model has no chat template" in screen.text
    screen.answer_to("hello ")
    screen.answer_to("")  # Enter alone: more of it
    assert screen.text.count("abcabc") == 2
    assert screen.leave() == 0
    assert turns(cli) == [("hello ", "abcabc"), ("", "abcabc")]


def test_raw_puts_no_template_around_the_text(cli: Cli, chatty: Path) -> None:
    done = cli("chat", chatty / "chat.gguf", *GREEDY, "--raw", stdin=b"one")
    assert done.stdout == "xyz\n"
    assert "without its chat template it does not answer" in done.stderr
    cli("chat", "-c", *GREEDY, "--raw", stdin=b"two")
    (chat,) = saved(cli)
    assert chat["conversation"]["plain"] is True


def test_ctrl_c_before_the_answer_begins_gives_the_message_back(cli: Cli, models: Path) -> None:
    long = "x" * 60_000  # takes far longer to read than Ctrl-C to arrive
    screen = ChatScreen(cli, models / "random.gguf", *GREEDY, "--ctx", "200000", "--force")
    screen.wait_prompt()
    screen.paste(long)
    screen.wait(lambda: screen.lines[-1] != "")
    screen.type("\r")
    screen.wait(lambda: bool(saved(cli)))
    before = len(screen.raw)
    screen.type("\x03")
    screen.wait("your message is back at the prompt")
    assert saved(cli) == []
    # a Ctrl-C before the prompt stands would be one for the answer that has ended
    screen.wait(lambda: PROMPT_AGAIN in screen.raw[before:])
    screen.type("\x03")
    screen.wait(screen.at_prompt)
    assert screen.leave() == 0


def test_stats_are_those_of_run(cli: Cli, chatty: Path) -> None:
    screen = ChatScreen(cli, chatty / "chat.gguf", *GREEDY)
    screen.wait_prompt()
    screen.answer_to("one " * 20)  # what is shorter is not worth keeping
    screen.answer_to("two")
    screen.answer_to("/stats")
    last, whole = screen.text.split("the whole chat, 2 answers")
    for word in ("load", "TTFT", "prefill", "reused", "decode", "KV cache", "peak RSS"):
        assert word in last
    for word in ("TTFT", "prefill", "reused", "decode", "on average"):
        assert word in whole
    assert screen.leave() == 0
