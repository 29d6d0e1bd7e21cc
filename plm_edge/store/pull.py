"""`pull` makes a model from the hub or an address known: used where it is, else downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import NoProgress, Progress
from plm_edge.hub import client, web
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.store import candidates, elsewhere, fetching, here, names, registry
from plm_edge.store.candidates import Candidate
from plm_edge.store.reference import HubReference, WebReference
from plm_edge.store.registry import RegisteredModel

Choice = Callable[[Sequence[Candidate], Candidate], Candidate]


@dataclass(frozen=True)
class PulledModel:
    """A model that is known now.

    Attributes:
        model: its entry.
        how: it was downloaded, found in another program's folder, or known before.
        where: the program in whose folder it was found; empty else.
        hashed: its content was compared with a hash that the source states.
    """

    model: RegisteredModel
    how: Literal["downloaded", "found", "known"]
    where: str = ""
    hashed: bool = True


@dataclass(frozen=True)
class Wishes:
    """How a person wants a model pulled.

    Attributes:
        into: the folder to put it in; None is the folder of models.
        sha256: what the file must have, where its source does not state it.
        force: fetch it even where disk or memory is too small.
        choose: picks one of several candidates; it is given them, and the one that is proposed.
        remark: told in a sentence what is no reason to stop.
        progress: told how far it is.
    """

    into: Path | None = None
    sha256: str = ""
    force: bool = False
    choose: Choice = lambda offered, proposed: proposed
    remark: Callable[[str], None] = lambda sentence: None
    progress: Progress = field(default_factory=NoProgress)


def pull(reference: HubReference | WebReference, wishes: Wishes) -> PulledModel:
    """Make a model known, and download it where it is not here.

    Raises:
        PlmEdgeError: `into` is no folder, there is no model, it is a checkpoint, there is no room,
            the connection failed, or what came is not what the source states.
    """
    if wishes.into is not None and wishes.into.exists() and not wishes.into.is_dir():
        raise PlmEdgeError(
            f"nothing can be put into {wishes.into}",
            "it is no folder",
            "name a folder with --into; the file keeps its own name",
            ExitCode.USAGE,
        )
    try:
        if isinstance(reference, WebReference):
            return _from_web(reference, wishes)
        return _from_hub(reference, wishes)
    except OSError as error:
        raise registry.cannot_write(error) from error


def _from_hub(reference: HubReference, wishes: Wishes) -> PulledModel:
    if client.offline():
        return _offline(reference)
    repository = reference.repository
    about = client.info(repository, reference.revision)
    siblings = about.siblings or []
    offered = candidates.of(siblings)
    if not offered:
        raise _no_gguf(repository, [sibling.rfilename for sibling in siblings])
    wanted = candidates.wanted(reference, offered)
    proposed = candidates.preferred(wanted)
    candidate = proposed if len(wanted) == 1 else wishes.choose(wanted, proposed)
    known = here.known(candidate)
    if known is not None:
        return PulledModel(here.register_again(known, repository, candidate), "known")
    found = here.in_other_program(candidate, repository)
    if found is not None:
        entry = registry.add_model(
            found.path,
            repository,
            candidate.quant,
            origin="pulled",
            repository=repository,
            sha256=candidate.files[0].sha256,
            n_bytes=candidate.n_bytes,
            name=found.name if found.program == "ollama" else "",
        )
        return PulledModel(entry, "found", found.program)
    commit = str(about.sha)
    folder = wishes.into or elsewhere.models_folder() / repository
    targets = [
        folder / (file.path if wishes.into is None else Path(file.path).name)
        for file in candidate.files
    ]
    ours = here.is_ours(targets[0])
    parts = [
        fetching.Part(
            file.path,
            partial(client.address, repository, file.path, commit),
            target,
            file.size,
            file.sha256,
            ours=ours,
        )
        for file, target in zip(candidate.files, targets, strict=True)
    ]
    hashes = fetching.fetch(parts, wishes.progress, wishes.remark, force=wishes.force)
    entry = registry.add_model(
        parts[0].target,
        repository,
        candidate.quant,
        origin="pulled",
        repository=repository,
        sha256=hashes[0],
        placed=True,
        n_bytes=candidate.n_bytes,
    )
    return PulledModel(entry, "downloaded", hashed=all(file.sha256 for file in candidate.files))


def _offline(reference: HubReference) -> PulledModel:
    """What is here of a repository, when nothing may be asked of the hub.

    Raises:
        PlmEdgeError: nothing is (code ENVIRONMENT).
    """
    repository, quant = reference.repository, reference.quant.casefold()
    for model in reversed(registry.entries()):
        fits = not quant or model.quant.casefold() == quant
        if reference.file:
            fits = Path(model.path).name == Path(reference.file).name
        if model.repository.casefold() == repository.casefold() and fits:
            return PulledModel(model, "known")
    for found in elsewhere.in_hf_cache(repository):
        said = names.split_stem(found.path.stem)[1]
        if quant and said.casefold() != quant:
            continue
        if reference.file and found.path.name != Path(reference.file).name:
            continue
        entry = registry.add_model(
            found.path, repository, said, origin="pulled", repository=repository,
            sha256=found.sha256, n_bytes=found.n_bytes,
        )  # fmt: skip
        return PulledModel(entry, "found", found.program, hashed=False)
    raise PlmEdgeError(
        f"cannot get {repository}",
        "HF_HUB_OFFLINE is set, and nothing of it is here",
        "unset HF_HUB_OFFLINE, or copy the file here and: plm-edge add FILE",
        ExitCode.ENVIRONMENT,
    )


def _no_gguf(repository: str, there: list[str]) -> PlmEdgeError:
    if "config.json" in there:
        return PlmEdgeError(
            f"{repository} is a checkpoint, not yet a model that can run",
            "it has config.json and no .gguf file; the engine runs GGUF files",
            f"if it is a PLM, convert fetches it as well: plm-edge convert {repository}",
        )
    shown = ", ".join(sorted(there)[:4]) or "no files"
    return PlmEdgeError(
        f"{repository} has no GGUF model",
        f"it has {shown}",
        "look for a repository with .gguf files, often named …-GGUF",
    )


def _from_web(reference: WebReference, wishes: Wishes) -> PulledModel:
    if client.offline():
        raise PlmEdgeError(
            f"cannot get {reference.url}",
            "HF_HUB_OFFLINE is set: nothing is asked of the network",
            "unset it",
            ExitCode.ENVIRONMENT,
        )
    for model in reversed(registry.entries()):
        same = wishes.sha256 in ("", model.sha256)
        if model.source == reference.url and model.placed and same:
            return PulledModel(model, "known", hashed=bool(wishes.sha256))
    there = web.look(reference.url)
    folder = wishes.into or elsewhere.models_folder() / "web"
    if not reference.file.isprintable() or reference.file.startswith("."):
        raise PlmEdgeError(
            f"cannot get {reference.url}",
            f"{reference.file!r} is no name for a file",
            "fetch it with another program, then: plm-edge add FILE",
        )
    target = folder / reference.file
    part = fetching.Part(
        reference.file,
        lambda: (reference.url, {}),
        target,
        there.size,
        wishes.sha256.lower(),
        "" if wishes.sha256 else there.version,
        ours=here.is_ours(target),
    )
    hashes = fetching.fetch([part], wishes.progress, wishes.remark, force=wishes.force)
    quant = names.split_stem(target.stem)[1] or describe(gguf_file.read(target)).quant
    entry = registry.add_model(
        target, reference.url, quant, origin="pulled", sha256=hashes[0], placed=True
    )
    return PulledModel(entry, "downloaded", hashed=bool(wishes.sha256))
