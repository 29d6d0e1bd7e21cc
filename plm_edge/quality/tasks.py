"""Tasks of lm-evaluation-harness, with our engine as the model.

A task asks for the log probabilities of given continuations (multiple choice), of a whole text, or
for a generated answer. What a request shares with the one before it is not computed again, and each
answer is kept on disk until all are there.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import NoProgress, Progress
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.logprobs import log_softmax
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from plm_edge.quality import kept, predictions, reference, task_files
from plm_edge.quality.kept import KeptAnswers
from plm_edge.quality.predictions import rows_at_once

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM

MOST_NEW = 256  # tokens of an answer, where a task does not say
Score = tuple[float, bool]


class Scorer:
    """Scores continuations, and keeps what they share in the context.

    Args:
        session: whose context it uses alone; `max_outputs` rows of logits at once.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._held: list[int] = []
        self._changes = -1  # of the context, when it held these
        self._rows = session.options.max_outputs

    def score(self, before: Sequence[int], after: Sequence[int]) -> Score:
        """Returns the log probability of `after`, in nats, and whether greedy sampling makes it.

        Args:
            before: tokens, at least one; of what does not fit the context, the first are left out.
            after: tokens, at least one; fewer than the context has.
        """
        context = self._session.context
        room = self._session.n_ctx
        given = [*before, *after][-(room + 1) :]
        wanted = given[-len(after) :]
        tokens = given[:-1]
        first = len(tokens) - len(after)  # its logits say what comes first of `after`
        if self._changes != context.n_changes:  # somebody else used it
            context.clear()
            self._held = []
        keep = 0
        for ours, theirs in zip(self._held, tokens[:first], strict=False):
            if ours != theirs:
                break
            keep += 1
        if keep < len(self._held):
            context.remove(0, keep)
        total, greedy = 0.0, True
        batch = context.batch()
        position = keep
        while position < len(tokens):
            end = min(position + context.n_batch, max(position, first) + self._rows, len(tokens))
            batch.clear()
            for at in range(position, end):
                batch.add(tokens[at], at, wanted=at >= first)
            context.decode(batch)
            if batch.n_wanted:
                logprobs = log_softmax(context.logits())
                right = wanted[max(position, first) - first : end - first]
                total += float(logprobs[np.arange(len(right)), right].sum())
                greedy = greedy and logprobs.argmax(1).tolist() == list(right)
            position = end
        self._held, self._changes = tokens, context.n_changes
        return total, greedy


def open_for(path: Path, options: Options) -> Session:
    """Open a model for tasks: the whole context, few rows of logits at once.

    Raises:
        PlmEdgeError: it cannot be loaded.
    """
    with_few = replace(options, max_outputs=32)
    session = Session.open(path, with_few)
    rows = rows_at_once(session.context.n_vocab, session.context.n_batch)
    if rows >= with_few.max_outputs:
        return session
    session.close()
    return Session.open(path, replace(options, max_outputs=rows))


def model_for(
    session: Session, answers: KeptAnswers, progress: Progress | None = None
) -> TemplateLM:
    """Returns the session as a model of lm-evaluation-harness.

    Args:
        answers: those that are there are not computed again; what is computed is kept there.
        progress: told of requests.

    Raises:
        PlmEdgeError: lm-evaluation-harness is not installed (code ENVIRONMENT).
    """
    harness()
    from lm_eval.api.model import TemplateLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    told = progress or NoProgress()
    vocabulary = session.vocabulary

    class EngineLM(TemplateLM):  # type: ignore[misc]
        """Our engine, as the harness wants it."""

        tokenizer_name = "plm-edge"  # keys the harness's own cache of prompts

        def __init__(self) -> None:
            super().__init__()
            self._scorer = Scorer(session)
            self._generator = LocalGenerator(session)

        @property
        def eot_token_id(self) -> int:
            return vocabulary.end

        @property
        def prefix_token_id(self) -> int:
            return vocabulary.end if vocabulary.begin is None else vocabulary.begin

        @property
        def max_length(self) -> int:
            return session.n_ctx

        def tok_encode(
            self, string: str, add_special_tokens: bool | None = None, **_: Any
        ) -> list[int]:
            special = add_special_tokens is not False
            tokens = vocabulary.tokenize(string, add_special=special)
            # a chat template may have written the begin token already
            twice = special and tokens[:2] == [vocabulary.begin] * 2
            return tokens[1:] if twice else tokens

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            return rendered(session, chat_history)

        def chat_template(self, chat_template: bool | str = False) -> str:
            return session.model.chat_template or ""

        def _loglikelihood_tokens(
            self, requests: list[tuple[Any, list[int], list[int]]], **_: Any
        ) -> list[Score]:
            # Those that begin alike lie together.
            order = sorted(range(len(requests)), key=lambda n: [*requests[n][1], *requests[n][2]])
            asked = [requests[number][1:] for number in order]
            found = self._all("score", asked, self._scorer.score)
            scores = dict(zip(order, found, strict=True))
            return [tuple(scores[number]) for number in range(len(requests))]

        def loglikelihood_rolling(
            self, requests: list[Instance], disable_tqdm: bool = False
        ) -> list[float]:
            return self._all("text", [request.args for request in requests], self._text)

        def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
            return self._all("answer", [request.args for request in requests], self._answer)

        def _all(
            self, kind: str, asked: Sequence[tuple[Any, ...]], answer: Callable[..., Any]
        ) -> list[Any]:
            """The answers to all, in order; those that are kept cost nothing."""
            names = [kept.key(kind, json.dumps(arguments)) for arguments in asked]
            told.begin(sum(name not in answers for name in names))
            for name, arguments in zip(names, asked, strict=True):
                if name in answers:
                    continue
                _check_stop(session)
                found = answer(*arguments)
                _check_stop(session)  # it may have been cut short
                answers.keep(name, found)
                told.advance(1)
            return [answers[name] for name in names]

        def _text(self, text: str) -> float:
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(text, add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=session.n_ctx - 1,
                context_len=1,
            )
            scores = [self._scorer.score(*make_disjoint_window(window)) for window in windows]
            return sum(score for score, _ in scores)

        def _answer(self, prompt: str, wanted: dict[str, Any]) -> str:
            until = wanted.get("until") or []
            most = int(wanted.get("max_gen_toks", MOST_NEW))
            sampling = Sampling(temp=0.0)
            if wanted.get("do_sample"):
                sampling = Sampling(temp=float(wanted.get("temperature", 1.0)), seed=1)
            room = max(1, session.n_ctx - most - 1)
            return self._generator.generate(
                Request(
                    self.tok_encode(prompt)[-room:],
                    most,
                    sampling,
                    tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop),
                )
            ).whole()

    return EngineLM()


def rendered(session: Session, messages: Sequence[Mapping[str, object]]) -> str:
    """Returns a conversation in the model's chat template.

    Raises:
        PlmEdgeError: it has none.
    """
    from plm_edge.engine import chat

    template = session.model.chat_template
    if not template:
        raise PlmEdgeError(
            "the model has no chat template",
            "it continues texts, and the tasks were to be asked as a chat",
            "leave --chat out",
            ExitCode.USAGE,
        )
    bos, eos = session.vocabulary.bos_eos
    return chat.render(template, messages, bos=bos, eos=eos)


def harness() -> Any:
    """Returns the module lm_eval.

    Raises:
        PlmEdgeError: it is not installed (code ENVIRONMENT).
    """
    # its bars and ours would write over each other; tqdm asks when it is imported
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        import lm_eval
    except ImportError as error:
        raise PlmEdgeError(
            "tasks need lm-evaluation-harness",
            f"it cannot be imported: {error}",
            "pip install 'plm-edge[eval]'",
            ExitCode.ENVIRONMENT,
        ) from error
    return lm_eval


def run(
    session: Session,
    names: Sequence[str],
    *,
    shots: int | None = None,
    limit: int | None = None,
    include: Path | None = None,
    chat: bool = False,
    run_code: bool = False,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run tasks; returns the harness's results: by task and measure, with its standard errors.

    Each answer is written to disk at once, so that what is interrupted goes on where it was.

    Args:
        session: opened by `open_for`.
        names: of tasks or groups.
        shots: examples before each question; None: as the task says.
        limit: most questions of each task.
        include: a folder with tasks of one's own.
        chat: ask in the model's chat template.
        run_code: let tasks run the programs that the model writes, in no sandbox.
        progress: told of requests.
        note: told why it takes long before they begin, where it does, and what is answered already.

    Raises:
        PlmEdgeError: the harness is missing, knows no such task, or cannot get its data; or a task
            runs programs, and `run_code` does not say so.
        KeyboardInterrupt: the session's `options.stop` said so; call it again to go on.
    """
    lm_eval = harness()
    if include is not None and not include.is_dir():
        raise PlmEdgeError(
            f"there is no folder {include}",
            "--include names the folder of your own tasks",
            "check the path",
        )
    note = note or (lambda _: None)
    manager = _manager(names, include, note)
    if run_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"  # what these tasks ask, before they load
    else:
        _refuse_programs(manager, names)
    answers = KeptAnswers(_key(session))
    if len(answers):
        note(f"{len(answers):,} requests were answered before the interruption")
    model = model_for(session, answers, progress)
    try:
        found = lm_eval.simple_evaluate(
            model=model,
            tasks=list(names),
            num_fewshot=shots,
            limit=limit,
            task_manager=manager,
            apply_chat_template=chat,
            log_samples=False,
            bootstrap_iters=1000,
            confirm_run_unsafe_code=run_code,
        )
    except (OSError, ValueError) as error:
        raise PlmEdgeError(
            f"the tasks {', '.join(names)} cannot be run",
            str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            "their data comes from the Hugging Face hub: check the connection, or HF_HOME",
            ExitCode.ENVIRONMENT,
        ) from error
    answers.forget()
    results: dict[str, Any] = found["results"]
    return results


def _key(session: Session) -> str:
    """A hash of all that answers depend on, but for the question."""
    options = session.options
    how = f"{predictions.how(session, options)} {session.kv_type} {session.n_ctx}"
    return kept.key("tasks", reference.hash_of(session.header.path), how)


def _refuse_programs(manager: Any, names: Sequence[str]) -> None:
    """Refuse tasks that run what the model writes.

    Raises:
        PlmEdgeError: one of them does.
    """
    for name in manager.match_tasks(list(names)):
        if (manager.task_index[name].cfg or {}).get("unsafe_code"):
            raise PlmEdgeError(
                f"{name} runs the programs that the model writes",
                "they run on this machine, as you, in no sandbox",
                "add --run-code if that is what you want, best in a container",
                ExitCode.USAGE,
            )


def _manager(names: Sequence[str], include: Path | None, note: Callable[[str], None]) -> Any:
    """Returns a TaskManager that knows these tasks, made of as few files as are enough.

    Raises:
        PlmEdgeError: there is none of a name.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    own = [] if include is None else [str(include)]
    manager = TaskManager(include_path=own, include_defaults=False)
    rest = _unknown(manager, names)
    found = task_files.find(Path(lm_eval.__file__).parent / "tasks", rest)
    if found.unknown:
        raise PlmEdgeError(
            f"there is no task {found.unknown[0]!r}",
            "lm-evaluation-harness has none of this name",
            "`lm-eval ls tasks` lists them; --include FOLDER adds those of your own",
            ExitCode.USAGE,
        )
    # a group or a tag may name tasks of anywhere
    if not found.unclear and all(name in rest or name in manager.all_subtasks for name in names):
        folders = task_files.folders(found.files.values())
        manager = TaskManager(include_path=[*folders, *own], include_defaults=False)
        if all(manager.task_index[name].yaml_path == path for name, path in found.files.items()):
            return manager
    note("a group, a tag or a pattern: all tasks are read first, which takes half a minute")
    return TaskManager(include_path=own)


def _unknown(manager: Any, names: Sequence[str]) -> list[str]:
    return [name for name in names if not manager.match_tasks([name])]


def _check_stop(session: Session) -> None:
    if session.options.stop():
        raise KeyboardInterrupt
