"""Losses of documents that begin alike: what they share is computed once.

Endings of one context share its tokens. Up to the last complete patch before what is scored, the states of a document
do not depend on what follows. So each different beginning is computed once, with its keys and values recorded; the rest
of every document then attends to them and to itself::

    documents ──group_beginnings──▶ beginnings ──recorded──▶ keys and values ──Continuation──▶ losses of the rests
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch

from lst.kernels.cross_entropy import linear_cross_entropy
from lst.model.backbone import RECURRENT
from lst.model.batch import Document, PackedBatch, Patches, pack_documents
from lst.model.config import ModelConfig
from lst.model.inference.beginnings import Beginning
from lst.model.layers import Recorder
from lst.model.lst import LatentSpeechTextModel
from lst.model.ranges import AttentionRanges, KeyRange, attention_ranges


def can_share(model: LatentSpeechTextModel) -> bool:
    """Whether the model's layers all attend: the states of recurrent mixers are not continued here."""
    return not set(model.config.mixers) & set(RECURRENT)


@torch.inference_mode()
def losses_of_rests(model: LatentSpeechTextModel, beginnings: Sequence[Beginning]) -> list[np.ndarray]:
    """Losses in nats of the targets of each document's tokens after its beginning, float64 [rest] each.

    Args:
        model: in evaluation mode, without recurrent mixers.
        beginnings: of documents that are computed together; every one has a patch.
    """
    device = next(model.parameters()).device
    numbers: dict[bytes, int] = {}
    of_document = [numbers.setdefault(own.key, len(numbers)) for own in beginnings]
    shared = [beginnings[of_document.index(number)] for number in range(len(numbers))]
    recorder = _Beginnings(model.config)
    with suppress(_AllRecorded):
        model.hidden(_packed([own.alone for own in shared]).to(device), recorder)
    whole = _packed([(own.document, own.patches) for own in beginnings]).to(device)
    places = {
        name: _Places.of(
            [len(own.document) if name == "tokens" else len(own.patches) for own in beginnings],
            [getattr(own, f"num_{name}") for own in beginnings],
            of_document,
            device,
        )
        for name in ("tokens", "patches")
    }
    continuation = Continuation(recorder, places["tokens"], places["patches"], model.config.decoder_keys)
    batch = _rest_of(whole, places["tokens"].rest, places["patches"].rest)
    ranges = _ranges_of(attention_ranges(whole, model.config), places, model.config.sub_queries)
    hidden = model.hidden(batch, continuation, ranges)
    ones = hidden.new_ones(len(hidden), dtype=torch.float32)
    nats = linear_cross_entropy(hidden, model.head.weight, batch.target_ids, ones)[1].cpu().double().numpy()
    sizes = [len(own.document) - own.num_tokens for own in beginnings]
    return np.split(nats, np.cumsum(sizes)[:-1])


def _packed(pairs: Sequence[tuple[Document, Patches]]) -> PackedBatch:
    return pack_documents([list(pairs)], sum(len(patches) for _, patches in pairs))


@dataclass(frozen=True)
class _Places:
    """Where the tokens (or patches) of the whole documents come from: their rests, or different beginnings.

    Attributes:
        rest: int64 [rest], of the rests.
        order: int64 [all], where each is in the batch of rests, followed by the batch of different beginnings.
    """

    rest: torch.Tensor
    order: torch.Tensor

    @classmethod
    def of(cls, sizes: list[int], known: list[int], of_document: list[int], device: torch.device) -> _Places:
        """Places for documents of ``sizes``, of which the first ``known`` belong to beginning ``of_document``."""
        lengths = dict(zip(of_document, known, strict=True))
        num_rest = sum(sizes) - sum(known)
        sources = num_rest + np.cumsum([0, *(lengths[number] for number in range(len(lengths)))])
        is_known = np.concatenate([np.arange(size) < count for size, count in zip(sizes, known, strict=True)])
        order = np.empty(len(is_known), np.int64)
        order[~is_known] = np.arange(num_rest)
        order[is_known] = np.concatenate(
            [np.arange(count) + sources[number] for number, count in zip(of_document, known, strict=True)]
        )
        return cls(*(torch.from_numpy(array).to(device) for array in (np.flatnonzero(~is_known), order)))

    def repeated(self, times: int) -> _Places:
        """The same where each token or patch has ``times`` keys."""

        def spread(places: torch.Tensor) -> torch.Tensor:
            return (places[:, None] * times + torch.arange(times, device=places.device)).flatten()

        return self if times == 1 else _Places(spread(self.rest), spread(self.order))


class _AllRecorded(Exception):  # noqa: N818 (no error: nothing is left to compute)
    """The keys and values of every layer are recorded: what else the last layer computes, nobody reads."""


class _Beginnings(Recorder):
    """Records the keys and values of beginnings, and then ends the computation by ``_AllRecorded``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        has_decoder = config.has_local_modules
        self._last, self._num_layers = (
            ("decoder.tokens", config.decoder_layers) if has_decoder else ("backbone", config.global_layers)
        )

    def keys_and_values(self, name: str, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Records; see ``Recorder``."""
        found = super().keys_and_values(name, key, value)
        if len(self.keys_values.get(self._last, ())) == self._num_layers:
            raise _AllRecorded
        return found


class Continuation(Recorder):
    """Gives the layers of the rests the keys and values of their beginnings beside their own.

    Args:
        recorded: of the different beginnings.
        tokens, patches: where they belong.
        decoder_keys: keys of a patch in the decoder.
    """

    def __init__(self, recorded: Recorder, tokens: _Places, patches: _Places, decoder_keys: int) -> None:
        super().__init__()
        self._recorded = {name: iter(layers) for name, layers in recorded.keys_values.items()}
        self._places = dict.fromkeys(("encoder.tokens", "encoder.reads", "decoder.tokens"), tokens)
        self._places |= {"backbone": patches, "decoder.reads": patches.repeated(decoder_keys)}

    def keys_and_values(self, name: str, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the whole documents, in the order of their tokens or patches."""
        order = self._places[name].order
        return tuple(  # type: ignore[return-value]
            torch.cat([own, before])[order]
            for own, before in zip((key, value), next(self._recorded[name]), strict=True)
        )


def _rest_of(whole: PackedBatch, tokens: torch.Tensor, patches: torch.Tensor) -> PackedBatch:
    """The batch of the tokens and patches at these places; positions stay those in the whole documents."""
    number = torch.zeros(whole.num_patches, dtype=torch.int64, device=tokens.device)
    number[patches] = torch.arange(len(patches), device=tokens.device)
    return replace(
        whole,
        token_ids=whole.token_ids[tokens],
        target_ids=whole.target_ids[tokens],
        modalities=whole.modalities[tokens],
        target_modalities=whole.target_modalities[tokens],
        doc_ids=whole.doc_ids[tokens],
        position_ids=whole.position_ids[tokens],
        patch_ids=number[whole.patch_ids[tokens]],
        context_patch_ids=number[whole.context_patch_ids[tokens]],
        patch_slots=whole.patch_slots[patches],
    )


def _ranges_of(whole: AttentionRanges, places: dict[str, _Places], sub_queries: int) -> AttentionRanges:
    """The ranges of the rests' queries over the keys of the whole documents."""
    tokens, patches = places["tokens"].rest, places["patches"].rest

    def at(keys: KeyRange, queries: torch.Tensor) -> KeyRange:
        return KeyRange(keys.first[queries], keys.last[queries])

    return AttentionRanges(
        tokens=at(whole.tokens, tokens),
        patches=at(whole.patches, patches),
        reads=at(whole.reads, places["patches"].repeated(sub_queries).rest),
        contexts=at(whole.contexts, tokens),
    )
