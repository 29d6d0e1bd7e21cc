"""This script trains the tiny PLM on the standard library's own sources.

    python train.py               # from scratch, export to ./checkpoint
    python train.py --resume      # go on after an interruption

The state (weights, optimisers, step) is written to the run folder beside its target and renamed.
The learning rate warms up, stays constant and then falls to zero over the last `--decay` steps;
the last `--long` of them use windows of the model's full context. `--extend` steps with such
windows follow, at a rate that falls from `--extend-rate` of the peak to zero: what makes the
model use positions that the short windows never had. Nothing before the decay depends on
`--steps`, nor before the extension on `--extend`: a run resumed before it may be given another
number, and ends as if it had been started with that number.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer
from torch import Tensor

# isort: split
from corpus import Source, corpus_digest, read_sources
from model import PLM, PLMConfig, save_weights, write_json
from tokens import end_id, tokenizer_config, train_tokenizer

HERE = Path(__file__).resolve().parent
SHORT_WINDOW = 256
HELD_OUT_WINDOWS = 192  # of SHORT_WINDOW tokens: the quick loss shown while training


@dataclass
class Data:
    tokenizer: Tokenizer
    train: np.ndarray  # uint16, all training files, each followed by <|endoftext|>
    held_out: np.ndarray
    facts: dict[str, object]


def default_run_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "plm-edge" / "tiny-plm-run"


def encode(tokenizer: Tokenizer, sources: list[Source]) -> np.ndarray:
    end = end_id(tokenizer)
    encoded = tokenizer.encode_batch([s.text for s in sources])
    return np.concatenate([np.array([*e.ids, end], dtype=np.uint16) for e in encoded])


def prepare(config: PLMConfig) -> Data:
    sources = read_sources()
    parts = {
        "train": [s for s in sources if not s.held_out],
        "held_out": [s for s in sources if s.held_out],
    }
    tokenizer = train_tokenizer((s.text for s in parts["train"]), config.vocab_size)
    ids = {name: encode(tokenizer, part) for name, part in parts.items()}
    facts: dict[str, object] = {"sha256": corpus_digest(sources)}
    for name, part in parts.items():
        size = sum(len(s.text.encode()) for s in part)
        facts[name] = {"files": len(part), "bytes": size, "tokens": len(ids[name])}
    return Data(tokenizer, ids["train"], ids["held_out"], facts)


def window_starts(count: int, window: int, tokens: int, seed: int, index: int) -> list[int]:
    """Starts of the windows index·count … of an endless walk through shuffled epochs.

    A pure function of its arguments, so that a resumed run reads what the first would have read.
    Every epoch shifts the windows' grid by a random offset.
    """
    per_epoch = tokens // window - 1
    starts = []
    for position in range(index * count, (index + 1) * count):
        epoch, place = divmod(position, per_epoch)
        rng = np.random.default_rng((seed, window, epoch))
        shift = rng.integers(window)
        starts.append(int(rng.permutation(per_epoch)[place]) * window + int(shift))
    return starts


def batch(data: np.ndarray, starts: list[int], window: int, device: torch.device) -> Tensor:
    """[len(starts), window + 1] int64: inputs and, shifted by one, targets."""
    rows = np.stack([data[s : s + window + 1] for s in starts]).astype(np.int64)
    return torch.from_numpy(rows).to(device)


def losses(model: PLM, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross entropy (nats a token), and relu(W_up x) averaged over everything but layers."""
    hidden, active, _ = model(tokens[:, :-1])
    logits = model.logits(hidden).float()
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    return loss, torch.stack([a.mean(dtype=torch.float32) for a in active]).sum()


class Trainer:
    """Muon for the layers' matrices, AdamW for the embedding and the norms."""

    def __init__(self, args: argparse.Namespace, config: PLMConfig, data: Data) -> None:
        self.args, self.data = args, data
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = PLM(config)
        self.model.initialise(torch.Generator().manual_seed(args.seed))
        self.model.to(self.device)
        self.forward = torch.compile(losses, dynamic=False) if args.compile else losses
        matrices = [p for p in self.model.layers.parameters() if p.dim() == 2]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        self.optimisers = [
            torch.optim.Muon(matrices, lr=args.lr, momentum=0.95, weight_decay=args.weight_decay),
            torch.optim.AdamW(
                [
                    {"params": [self.model.embed_tokens.weight], "lr": args.lr * 0.15},
                    {"params": vectors, "lr": args.lr * 0.15},
                ],
                betas=(0.9, 0.98),
                weight_decay=0.0,
            ),
        ]
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["peak_lr"] = group["lr"]
        self.step = 0
        self.history: list[dict[str, float]] = []

    def rate(self) -> float:
        """The learning rate's share of its peak: warm-up, plateau, decay to zero; again a decay."""
        left = self.args.steps - self.step
        if left <= 0:
            return float(self.args.extend_rate * (1 + left / self.args.extend))
        return float(min((self.step + 1) / self.args.warmup, left / self.args.decay, 1.0))

    def next_batch(self) -> Tensor:
        long_start = max(self.args.steps - self.args.long, 0)
        if self.step < long_start:
            window, index = SHORT_WINDOW, self.step
        else:
            window, index = self.model.config.max_position_embeddings, self.step - long_start
        count = max(self.args.batch_tokens // window, 1)
        starts = window_starts(count, window, len(self.data.train), self.args.seed, index)
        return batch(self.data.train, starts, window, self.device)

    def train_step(self) -> float:
        """One optimiser step; returns the cross entropy in nats a token."""
        rate = self.rate()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak_lr"] * rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=not self.args.float32):
            loss, active = self.forward(self.model, self.next_batch())
        (loss + self.args.activation_penalty * active).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return float(loss.detach())

    @torch.no_grad()
    def held_out(self) -> tuple[float, float]:
        """(nats a token, share of zeros after ReLU²) on the first held-out windows."""
        stream, total, zeros = self.data.held_out, 0.0, 0.0
        starts = [w * SHORT_WINDOW for w in range(HELD_OUT_WINDOWS)]
        groups = [starts[i : i + 32] for i in range(0, len(starts), 32)]
        for group in groups:
            tokens = batch(stream, group, SHORT_WINDOW, self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=not self.args.float32):
                hidden, active, _ = self.model(tokens[:, :-1])
                logits = self.model.logits(hidden).float()
            total += float(F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))
            zeros += sum(float((a == 0).float().mean()) for a in active) / len(active)
        return total / len(groups), zeros / len(groups)

    def save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "history": self.history,
            "corpus": self.data.facts["sha256"],
        }
        part = path.with_name(path.name + ".part")
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["corpus"] != self.data.facts["sha256"]:
            raise SystemExit("the saved run read another corpus (another Python): start afresh")
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.history = state["step"], state["history"]

    def record(self) -> dict[str, object]:
        """How these weights came about: what the card and a person repeating it need."""
        told = ("run", "out", "resume", "threads", "report", "export_minutes")
        options = {k: v for k, v in vars(self.args).items() if k not in told}
        return {
            "step": self.step,
            "options": options,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": self.device.type,
            "corpus": self.data.facts,
            "history": self.history,
        }

    def export(self, folder: Path) -> None:
        """The checkpoint in the published format; every file is renamed into place when whole."""
        folder.mkdir(parents=True, exist_ok=True)
        config, tokenizer = self.model.config, self.data.tokenizer
        end = end_id(tokenizer)
        part = folder / "tokenizer.json.part"
        tokenizer.save(str(part))
        part.replace(folder / "tokenizer.json")
        write_json(
            folder / "tokenizer_config.json",
            tokenizer_config(tokenizer, config.max_position_embeddings),
        )
        write_json(
            folder / "generation_config.json",
            {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end},
        )
        write_json(folder / "config.json", config.to_json(end))
        write_json(folder / "training.json", self.record())
        save_weights(self.model, folder / "model.safetensors")


def progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:,.0f} tokens/s"),
        TimeRemainingColumn(),
        console=console,
    )


def every(interval: int, step: int, last: int) -> bool:
    return step % interval == 0 or step == last


def run(trainer: Trainer, args: argparse.Namespace, console: Console) -> None:
    """Train to args.steps with a bar on a terminal, and plain lines elsewhere."""
    exported, last = time.monotonic(), args.steps + args.extend
    mean, tick, done = 0.0, time.monotonic(), trainer.step
    with progress_bar(console) as bar:
        task = bar.add_task("", total=last, completed=trainer.step, loss=0.0, speed=0.0)
        for loss in training_losses(trainer, last):
            mean = loss if mean == 0.0 else 0.95 * mean + 0.05 * loss
            speed = (trainer.step - done) * args.batch_tokens / (time.monotonic() - tick)
            bar.update(task, completed=trainer.step, loss=mean, speed=speed)
            if every(args.report, trainer.step, last):
                quick, zeros = trainer.held_out()
                record = {"step": trainer.step, "loss": mean, "held_out": quick, "zeros": zeros}
                trainer.history.append(record)
                bar.console.print(
                    f"step {trainer.step}  loss {mean:.3f}  held-out {quick:.3f}"
                    f"  zeros {zeros:.1%}  {speed:,.0f} tokens/s"
                )
                trainer.save(args.run / "state.pt")
                tick, done = time.monotonic(), trainer.step
            if time.monotonic() - exported > args.export_minutes * 60:
                trainer.export(args.out)
                exported = time.monotonic()


def training_losses(trainer: Trainer, steps: int) -> Iterator[float]:
    while trainer.step < steps:
        yield trainer.train_step()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1900)
    parser.add_argument("--decay", type=int, default=600, help="steps of the final decay")
    parser.add_argument("--long", type=int, default=60, help="last steps, with full context")
    parser.add_argument("--extend", type=int, default=140, help="steps after that, full context")
    parser.add_argument("--extend-rate", type=float, default=0.35)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=0.015, help="Muon's; AdamW takes 0.15 of it")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--activation-penalty", type=float, default=0.02, help="of mean relu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--float32", action="store_true", help="no bf16 autocast")
    parser.add_argument("--compile", action="store_true", help="torch.compile (needs a compiler)")
    parser.add_argument("--report", type=int, default=100, help="steps between evaluations")
    parser.add_argument("--export-minutes", type=float, default=10.0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--run", type=Path, default=default_run_folder(), help="state and log")
    parser.add_argument("--out", type=Path, default=HERE / "checkpoint")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    console = Console()
    config = PLMConfig()
    with console.status("reading the standard library, training the tokenizer"):
        data = prepare(config)
    console.print(json.dumps(data.facts), soft_wrap=True)
    trainer = Trainer(args, config, data)
    if args.resume:
        trainer.load(args.run / "state.pt")
    run(trainer, args, console)
    trainer.export(args.out)


if __name__ == "__main__":
    main()
