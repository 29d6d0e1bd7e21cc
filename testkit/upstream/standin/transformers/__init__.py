"""As much of transformers as upstream's converter asks for, over the tokenizers library.

transformers proper would bring 200 MB and minutes into each test run, to read the same file with
the same library. Checked against transformers 4.57.6, the version that upstream pins: the
converter's output is the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer


class AutoConfig:
    @staticmethod
    def from_pretrained(path: Path, **_: Any) -> None:
        # What transformers does for PLM, whose class is remote code: upstream reads config.json.
        raise ValueError("unknown architecture")


class AutoTokenizer:
    @staticmethod
    def from_pretrained(path: Path) -> _Fast:
        return _Fast(Path(path))


class _Fast:
    """The part of PreTrainedTokenizerFast that `get_vocab_base` of upstream's converter uses."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.vocab = self._tokenizer.get_vocab(with_added_tokens=True)
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.added_tokens_decoder = {
            int(i): SimpleNamespace(**entry)
            for i, entry in settings["added_tokens_decoder"].items()
        }

    def get_added_vocab(self) -> dict[str, int]:
        return {token.content: i for i, token in self.added_tokens_decoder.items()}

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text
