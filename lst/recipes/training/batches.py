"""The batches of a training and of its validation, from prepared data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from lst.configs.schema import Config
from lst.data.batches import BatchLoader, LoaderState, StreamPlan, mix_sources
from lst.data.config import MixConfig
from lst.data.documents import DocumentBuilder
from lst.data.prepared import PreparedData, read_source
from lst.data.synthesis.fresh import FreshStories
from lst.data.synthesis.simulated import SimulatedSpeech
from lst.data.utterance import Utterance
from lst.errors import UserError, raise_problems
from lst.evaluation.ceilings import StoryData
from lst.evaluation.perplexity import text_windows
from lst.model.batch import Document, PackedBatch, pack_documents
from lst.model.config import PatchingConfig
from lst.model.inference import cut_documents
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import inference_patching, inference_strategy, patch_documents
from lst.parallel import ALONE, Ranks
from lst.recipes.training.sources import held_out_places, told_sources, weighted_corpora
from lst.runs import FittedPatching, plain_patching
from lst.runs.fitted_patching import FITTED_STRATEGIES


def build_loader(
    config: Config,
    data: PreparedData,
    stream_fingerprint: str,
    state: dict[str, Any] | None = None,
    patching: FittedPatching | None = None,
    ranks: Ranks = ALONE,
) -> BatchLoader:
    """The training batches of a rank; fitted strategies need ``patching``."""
    plan = build_stream_plan(config, data, stream_fingerprint, patching)
    before = LoaderState.from_json(state) if state else None
    return BatchLoader(plan, before, config.data.num_loader_workers, ranks.rank, ranks.size)


def build_stream_plan(
    config: Config, data: PreparedData, stream_fingerprint: str, patching: FittedPatching | None = None
) -> StreamPlan:
    """Everything that decides the training batches of a configuration."""
    patching = patching or plain_patching(config.patching, data)
    return StreamPlan(
        mix_sources(
            data.train,
            data.text,
            training_mix(config, data),
            fresh_speech(config, data),
            fresh_stories(config, data),
            weighted_corpora(config, data),
            data.speech,
        ),
        patching.builder(config, data),
        patching.config,
        num_rows=config.train.rows,
        row_patches=config.train.row_patches,
        num_batches=config.train.max_steps * config.train.num_parts,
        pack_buffer=config.data.pack_buffer,
        seed=config.seed,
        fingerprint=stream_fingerprint,
        mix_by=config.data.mix.by,
        shuffle_shards=config.data.shuffle_shards,
        num_streams=config.data.num_streams,
        told_sources=told_sources(data),
    )


def training_mix(config: Config, data: PreparedData) -> MixConfig:
    """The weights of the kinds of documents; of text alone there is one kind, whatever the others weigh.

    Raises:
        UserError: the data is text alone, and texts have no weight.
    """
    mix = config.data.mix
    if not data.is_text_alone:
        return mix
    if not mix.text:
        raise UserError(f"data.mix.text=0: {data.folder} holds text alone, so nothing is left to train on")
    return replace(mix, interleaved=0.0, speech=0.0, paired=0.0)


def fresh_speech(config: Config, data: PreparedData) -> SimulatedSpeech | None:
    """What says utterances anew in every pass; None with ``data.mix.fresh_speech=false``.

    Raises:
        UserError: the data is no simulated speech.
    """
    if not config.data.mix.fresh_speech:
        return None
    facts = read_source(data.folder).get("simulated")
    if facts is None:
        raise UserError(
            f"data.mix.fresh_speech=true: {data.folder} holds {data.index['description']}, and only simulated speech "
            "can be said anew: prepare with corpus=simulated, or leave the option out"
        )
    return SimulatedSpeech.of(facts)


def fresh_stories(config: Config, data: PreparedData) -> FreshStories | None:
    """What draws a new story for every document; None with ``data.mix.fresh_stories=false``.

    Raises:
        UserError: the data is no stories of a grammar, or asks questions, whose stories would be trained on.
    """
    if not config.data.mix.fresh_stories:
        return None
    found = StoryData.of(data)
    if found is None or found.speech is None:
        raise UserError(
            f"data.mix.fresh_stories=true: {data.folder} holds {data.index['description']}, and only simulated stories "
            "can be drawn anew: prepare with corpus=simulated and no text=, or leave the option out"
        )
    if data.questions:
        raise UserError(
            f"data.mix.fresh_stories=true: {data.folder} asks questions about stories that would be trained on: "
            "prepare with data.num_questions=0, or leave the option out"
        )
    return FreshStories(found.grammar, config.seed, found.speech.config.num_speakers)


class _ValidationBatches(Sequence[PackedBatch]):
    """Batches of documents that are cut anew whenever they are read: a boundary head cuts as it has learnt to by then.

    Args:
        model: decides where patches end.
        documents: of each batch.
        patching: as in the training.
        sources: numbers of those of each batch's documents; empty where there is one.
    """

    def __init__(
        self,
        model: LatentSpeechTextModel,
        documents: Sequence[Sequence[Document]],
        patching: PatchingConfig,
        sources: Sequence[Sequence[int]],
    ) -> None:
        self._model, self._documents, self._patching, self._sources = model, documents, patching, sources

    def __len__(self) -> int:
        return len(self._documents)

    def __getitem__(self, index: Any) -> Any:
        strategy = inference_strategy(self._patching, self._model.config.boundary_head)
        documents = self._documents[index]
        cuts = cut_documents(self._model, documents, strategy, self._patching)
        batch = pack_documents([[pair] for pair in zip(documents, cuts, strict=True)], max(map(len, cuts)))
        sources = self._sources[index]
        return replace(batch, doc_source_ids=torch.tensor(sources)) if sources else batch


def validation_batches(
    config: Config, data: PreparedData, patching: FittedPatching, model: LatentSpeechTextModel
) -> tuple[Sequence[PackedBatch], int, int]:
    """Held-out utterances as documents of speech and of text, patched as at inference.

    Returns:
        The batches, the bytes of the texts and the units of the speech.
    """
    builder = patching.builder(config, data)
    if data.is_text_alone:
        documents, text_bytes = _held_out_texts(config, data, builder)
        return _chunked(config, model, documents, patching), text_bytes, 0
    places = held_out_places(data.valid, config.train.eval_utterances)
    utterances = [data.valid[place] for place in places]
    if patching.config.strategy in FITTED_STRATEGIES:
        # Only now is it known how these cut speech.
        check_held_out_lengths(config, data, patching)
    # One or two of each utterance.
    own = [held_out_documents(builder, utterance) for utterance in utterances]
    documents = [document for of_utterance in own for document in of_utterance]
    text_bytes = sum(len(utterance.text.encode()) for utterance in utterances)
    names = told_sources(data)
    told = zip(places, own, strict=True)
    sources = [names.index(data.valid.source_of(place)) for place, some in told for _ in some] if names else []
    return _chunked(config, model, documents, patching, sources), text_bytes, sum(map(builder.num_units, utterances))


def _chunked(
    config: Config,
    model: LatentSpeechTextModel,
    documents: Sequence[Document],
    patching: FittedPatching,
    sources: Sequence[int] = (),
) -> Sequence[PackedBatch]:
    """Documents in batches of two rows for each row of a training batch; ``sources`` are those of the documents."""
    size = 2 * config.train.rows
    starts = range(0, len(documents), size)
    chunks = [documents[start : start + size] for start in starts]
    batches = _ValidationBatches(model, chunks, patching.config, [sources[start : start + size] for start in starts])
    return batches if model.config.boundary_head else list(batches)


def _held_out_texts(config: Config, data: PreparedData, builder: DocumentBuilder) -> tuple[list[Document], int]:
    """The first held-out texts, in windows of the model's context, and their bytes; the last text may add a few."""
    documents: list[Document] = []
    num_bytes = 0
    for text in data.valid:
        if len(documents) >= config.train.eval_utterances:
            break
        documents += [window for window, _ in text_windows(builder, text, config.train.row_patches)]
        num_bytes += len(text.text.encode())
    return documents, num_bytes


def check_held_out_lengths(config: Config, data: PreparedData, patching: FittedPatching) -> None:
    """Raises ``ProblemsError`` naming every held-out utterance that is longer than the model's context.

    Not only those that training looks at: the evaluation reads all of them.
    """
    # What a boundary head will decide is not known yet: every unit may be a patch.
    strategy = "none" if config.model.boundary_head else inference_strategy(patching.config)
    builder = patching.builder(config, data)
    too_long = []
    for utterance in data.valid:
        cuts = patch_documents(
            list(held_out_documents(builder, utterance)), strategy, inference_patching(patching.config)
        )
        if (longest := max(map(len, cuts))) > config.model.max_patches:
            too_long.append(f"{utterance.id}: {longest} patches")
    raise_problems(
        f"held-out utterances of {data.folder} are longer than model.max_patches={config.model.max_patches}",
        too_long,
        "Raise model.max_patches, or prepare with a smaller data.max_duration_s.",
    )


def held_out_documents(builder: DocumentBuilder, utterance: Utterance) -> tuple[Document, ...]:
    """An utterance as a document of speech and, if it has a text, as one of text."""
    speech = builder.speech(utterance)
    return (speech, builder.text(utterance)) if utterance.text else (speech,)
