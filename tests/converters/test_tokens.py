"""The same text gives the same ids in the engine as in Hugging Face's tokenizers.

With the real vocabulary of 151,936 tokens, which the vendored tree carries, in a model of no size.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from benchmarks.synthetic import real_tokenizer
from plm_edge.cli import main
from plm_edge.converters.convert import convert
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from testkit.checkout import Upstream
from testkit.checkpoints import PlmShape, write_checkpoint, write_tokenizer

SHAPE = PlmShape(1, hidden=32, vocab=151_936)


@pytest.fixture(scope="module")
def real(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with PLM's vocabulary, and m.gguf made from it."""
    folder = write_checkpoint(tmp_path_factory.mktemp("tokens") / "checkpoint", SHAPE)
    tokenizer, special = real_tokenizer(upstream.tree / "models/ggml-vocab-qwen2.gguf")
    write_tokenizer(folder, tokenizer, special, 4096)
    convert(folder, quant="q8_0", out=folder.parent / "m.gguf")
    return folder


@pytest.fixture(scope="module")
def reference(real: Path) -> Tokenizer:
    return Tokenizer.from_file(str(real / "tokenizer.json"))


@pytest.fixture(scope="module")
def session(real: Path) -> Iterator[Session]:
    with Session.open(real.parent / "m.gguf", Options(threads=1)) as opened:
        yield opened


def characters() -> list[str]:
    """Every character that Unicode assigns and a text may hold, of all scripts."""
    return [
        c
        for c in map(chr, range(0x20, 0x30000))
        if unicodedata.category(c) not in ("Cn", "Co", "Cs")
    ]


def same(session: Session, reference: Tokenizer, texts: list[str]) -> None:
    wrong = [t for t in texts if session.tokenize(t) != reference.encode(t).ids]
    assert wrong == []


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@pytest.mark.full
def test_every_character(session: Session, reference: Tokenizer) -> None:
    """Each among letters, spaces and digits; eight to a text, as 140,000 texts take long.

    `make test` has those of test_scripts_mixed.
    """

    source = iter(characters())
    texts = []
    while group := list(islice(source, 8)):
        texts.append(nfc("".join(f"a{c}{c} {c}1{c}\n" for c in group)))
    assert len(texts) > 17_000
    same(session, reference, texts)


def test_scripts_mixed(session: Session, reference: Tokenizer) -> None:
    rng = random.Random(1)
    pool = characters()
    plain = "etaoin shrdlu,.'!?\n\t  \r\n0123456789ABC"
    texts = []
    for _ in range(3000):
        chosen = rng.choices(pool, k=6) + rng.choices(plain, k=24)
        rng.shuffle(chosen)
        texts.append(nfc("".join(chosen)))
    same(session, reference, texts)


TEXTS = [
    "",
    " ",
    "\n",
    "   \n\n\n   \t\t x  \r\n\r\n y \u00a0\u2003\u3000 z   ",
    *(" " * n + "x" for n in (2, 3, 4, 7, 8, 16, 17, 100)),
    *("\n" * n + "x\t" + "\t" * n for n in (2, 3, 9)),
    "don't DON'T I'll X'RE we'Ve ' s 'S",
    "12345678901234567890 3.14159 ١٢٣٤ ⅷ Ⅷ ½ ²³ 1,000,000",
    "The quick brown fox. Der schnelle Fuchs — «рыжая лисица», 敏捷的棕色狐狸；素早い茶色の狐、재빠른",  # noqa: E501, RUF001
    "שלום עולם العربية فارسی हिन्दी বাংলা தமிழ் ไทย ລາວ ខ្មែរ မြန်မာ ქართული Հայերեն አማርኛ ᏣᎳᎩ 𐍈 𒀀",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ☺️ 1️⃣ 🫠",
    "def f(x):\n    return {'a': [x**2, 0xFF]}  # größer ≠\n\n\n" * 3,
    "https://example.org/a?b=c&d=%20#e  user@example.org  C:\\x\\y  <html>&amp;</html>",
    "<|im_start|>system\nYou are PLM.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n",
    "<|endoftext|><|endoftext|> <|im_end|><|im_start", "< |im_end|> <|IM_END|> <|im_end|>>",
    "\u200b\u200d\ufeff\u00ad\u202e end", "\x00\x01\x7f\x80\x85\u2028\u2029",
    "ﬁ ① ｆｕｌｌ ㎏ ſ İ ı ẞ Ǆ",  # unchanged by NFC, changed by NFKC  # noqa: RUF001
    "z" * 3000, "ab" * 2000, "漢字" * 800,
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_texts(session: Session, reference: Tokenizer, text: str) -> None:
    same(session, reference, [nfc(text)])


def test_every_piece(session: Session, reference: Tokenizer) -> None:
    """The bytes of each name, by GPT-2's rule: a byte that is no visible character of Latin-1 has
    one of those from U+0100 on, in order."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in visible]
    stands_for = {chr(byte): byte for byte in visible}
    stands_for |= {chr(0x100 + n): byte for n, byte in enumerate(others)}
    piece = session.vocabulary.piece
    names = {token: name for name, token in reference.get_vocab().items()}
    n_plain = 151_643  # and then <|endoftext|>
    wrong = [
        token
        for token in range(n_plain)
        if piece(token, special=True) != bytes(stands_for[c] for c in names[token])
    ]
    assert wrong == []
    assert piece(n_plain, special=True) == b"<|endoftext|>"


def test_tiny_plm_too(tiny_gguf: Path, tiny_checkpoint: Path) -> None:
    reference = Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))
    with Session.open(tiny_gguf, Options(threads=1)) as session:
        same(session, reference, [nfc(text) for text in TEXTS])


DECOMPOSED = ["e\u0301", "A\u030a", "\u1112\u1161\u11ab", "q\u0323\u0307 o\u0308"]


@pytest.mark.parametrize("text", DECOMPOSED)
def test_llama_cpp_does_not_normalise(session: Session, reference: Tokenizer, text: str) -> None:
    """The one known difference, and that composing the text first is all it takes."""
    assert session.tokenize(nfc(text)) == reference.encode(text).ids
    if nfc(text) != text:
        assert session.tokenize(text) != reference.encode(text).ids


def test_inspect_says_so(real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (real, real.parent / "m.gguf"):
        assert main(["inspect", str(path)]) == 0
        assert "not NFC-normalised" in capsys.readouterr().out


INVALID = [
    b"a\xffb", b"\x80", b"caf\xe9 au lait", b"\xc3", b"abc \xc3\x28 def", b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"x\xf0\x9f\x98y", b"\xed\xa0\x80", b"\xf5\x90\x80\x80", b"\xfe\xff", b"\xc0\xaf",
]  # fmt: skip


def same_bytes(session: Session, reference: Tokenizer, raw: bytes) -> None:
    """Hugging Face's library takes text only: it gets what Python makes of the bytes, a U+FFFD for
    each part that is none; the engine gets the bytes."""
    assert session.tokenize(raw) == reference.encode(raw.decode("utf-8", "replace")).ids, raw


@pytest.mark.parametrize("raw", INVALID, ids=repr)
def test_invalid_utf8(session: Session, reference: Tokenizer, raw: bytes) -> None:
    same_bytes(session, reference, raw)
    same_bytes(session, reference, b"<|im_start|>" + raw + b"<|im_end|>\n" + raw)


def test_random_bytes(session: Session, reference: Tokenizer) -> None:
    rng = random.Random(2)
    leads = [0xC2, 0xC3, 0xE2, 0xE4, 0xED, 0xF0, 0xF4, 0x80, 0x9F, 0xBF, 0xFF, 0x20, 0x61]
    invalid = 0
    for _ in range(3000):
        raw = bytes(rng.choices(leads, k=8) + rng.choices(range(256), k=8))
        text = raw.decode("utf-8", "replace")
        if nfc(text) == text:
            same_bytes(session, reference, raw)
            invalid += "\ufffd" in text
    assert invalid > 2900


def test_lone_surrogates(session: Session) -> None:
    assert session.tokenize("a\ud800b") == session.tokenize("a\ufffd\ufffd\ufffdb")
