"""What a server writes, in a person's words."""

from __future__ import annotations

from pathlib import Path

from plm_edge.serve.follow import Follower, Words

LOG = """\
0.06.161.979 I slot launch_slot_: id  0 | task 0 | processing task, is_child = 0
0.23.853.358 I slot print_timing: id  0 | task 0 | prompt eval time =    9386.26 ms /    31 tokens
0.23.853.430 I slot print_timing: id  0 | task 0 |        eval time =    8305.02 ms /     8 tokens
0.23.853.455 I slot print_timing: id  0 | task 0 |       total time =   17691.28 ms /    39 tokens
0.30.000.000 W srv  operator(): refused: web pages of 'http://evil.com' may not use this server
0.31.000.000 I que    start_loop: entering sleeping state
0.31.000.001 I srv  handle_sleep: entering sleeping state
0.32.000.000 I que    start_loop: exiting sleeping state
"""


def test_words() -> None:
    words = Words()
    said = [text for line in LOG.splitlines() if (text := words.of(line))]
    assert said[0] == "31 tokens read in 9.4 s, 8 tokens written in 8.3 s (1.0 t/s)"
    assert said[1].endswith("refused: web pages of 'http://evil.com' may not use this server")
    assert [text.split(":")[0] for text in said[2:]] == ["asleep", "awake"]


def test_a_log_that_grows_and_is_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    follower = Follower(log, whole=True)
    assert follower.read() == []
    log.write_text("one\ntw")
    assert follower.read() == ["one"]
    with log.open("a") as file:
        file.write("o\nthree\n")
    assert follower.read() == ["two", "three"]
    log.write_text("new\n")
    assert follower.read() == ["new"]
    assert Follower(log, whole=True).read() == []
    assert Follower(log, whole=True, from_start=True).read() == ["new"]
