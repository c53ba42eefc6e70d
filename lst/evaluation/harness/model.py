"""A trained model as the harness wants one: log-likelihoods, rolling log-likelihoods and generation of text.

Texts become the documents that ``lst eval`` scores as T→T: ``<bos> <text>``, context, continuation. Scores are those of
the same scorer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from lst.configs.compose import build_config
from lst.data.documents.interleave import DocumentPart
from lst.errors import UserError
from lst.evaluation.scorer import Scorer
from lst.model.batch import TEXT, Document, pack_documents
from lst.model.inference import SamplingOptions, cut_documents, generate
from lst.progress import say
from lst.runs import open_whole

# ``<bos>`` and ``<text>``, which begin every document.
NUM_MARKERS = 2
MAX_NEW_TOKENS = 256
# A request of the harness: context and continuation as texts, then as ids.
Pair = tuple[tuple[str, str], list[int], list[int]]


class HarnessModel(TemplateLM):
    """A model of this project in the harness.

    Args:
        pretrained: folder of a trained model: ``RUN/models/NAME/final``, or a copy of one anywhere.
        data_dir: prepared data with the tokenizers, for a folder without them, as earlier versions saved it.
        batch_size: rows scored together, and prompts continued together.
        device: where the model computes; without a GPU, the CPU.
        max_batch_size: the harness's; there is no search for a batch size.

    Raises:
        UserError: the folder holds no trained model, or is damaged.
    """

    def __init__(
        self,
        pretrained: str,
        data_dir: str | None = None,
        batch_size: int | str | None = None,
        device: str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.batch_size = int(batch_size) if batch_size is not None and str(batch_size).isdecimal() else 8
        trained = open_whole(Path(pretrained).expanduser(), data=Path(data_dir) if data_dir else None)
        # The harness asks for a GPU where nobody has chosen.
        has_device = device is not None and (torch.cuda.is_available() or not device.startswith("cuda"))
        self.trained = replace(trained, model=trained.model.to(device if has_device else "cpu"))
        config = build_config([f"eval.rows_a_batch={self.batch_size}"])
        self.scorer = Scorer.of(self.trained, config)
        self.max_text_tokens = self.trained.model.config.max_patches - NUM_MARKERS

    @property
    def eot_token_id(self) -> int:
        """Id of ``<eos>``."""
        return self.trained.vocabulary.eos_id

    @property
    def prefix_token_id(self) -> int:
        """Id of ``<bos>``, the context of texts without one."""
        return self.trained.vocabulary.bos_id

    @property
    def tokenizer_name(self) -> str:
        """Hash of the text tokenizer, for the harness's cache."""
        return self.trained.vocabulary.text_sha256

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids of a text, without special tokens."""
        return self.trained.tokenizers.tokenizer.encode(string)

    def _document(self, ids: Sequence[int]) -> Document:
        """``<bos> <text>`` and the ids; a ``<bos>`` among them is the one that is there."""
        vocabulary = self.trained.vocabulary
        text = np.array([index for index in ids if index != vocabulary.bos_id], np.int32)
        part = DocumentPart(TEXT, vocabulary.text_id, text, np.zeros(0, np.int32), np.zeros(0, bool))
        return self.scorer.builder.document("text", [part], end=False)

    def _fitted(self, contexts: Sequence[list[int]], rooms: Sequence[int]) -> list[list[int]]:
        """The ends of contexts, as many ids as there is room for; it is said if beginnings are left out."""
        kept = [ids[max(len(ids) - room, 0) :] for ids, room in zip(contexts, rooms, strict=True)]
        if num_cut := sum(len(own) < len(ids) for own, ids in zip(kept, contexts, strict=True)):
            say(f"{num_cut} of {len(kept)} contexts do not fit into the model's: their beginnings are left out")
        return kept

    def _loglikelihood_tokens(
        self, requests: Sequence[Pair], disable_tqdm: bool = False, **options: Any
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation in nats, and whether each of its tokens is the likeliest."""
        documents: list[tuple[Document, slice]] = []
        contexts = [context for _, context, _ in requests]
        rooms = [self.max_text_tokens - len(ids) for _, _, ids in requests]
        for ((_, continuation), _, ids), kept in zip(requests, self._fitted(contexts, rooms), strict=True):
            if not 0 < len(ids) <= self.max_text_tokens:
                raise UserError(
                    f"the continuation {continuation[:60]!r} has {len(ids)} tokens: allowed are 1 to "
                    f"{self.max_text_tokens}, the model's context"
                )
            document = self._document([*kept, *ids])
            documents.append((document, slice(len(document) - len(ids), len(document))))
        scores = self.scorer.score(documents)
        return [
            (score.sum_nats, self._is_greedy(document, tokens, score.token_nats))
            for (document, tokens), score in zip(documents, scores, strict=True)
        ]

    @torch.inference_mode()
    def _is_greedy(self, document: Document, tokens: slice, nats: np.ndarray) -> bool:
        """Whether each of the tokens is the likeliest."""
        model = self.trained.model
        # The likeliest of V tokens has a probability of 1/V or more: for most continuations that decides.
        if float(nats.min()) < -np.log(model.vocab_size) - 1e-4:
            return False
        (cut,) = cut_documents(model, [document], self.trained.strategy, self.trained.patching.config)
        batch = pack_documents([[(document, cut)]], len(cut)).to(model.head.weight.device)
        likeliest = model(batch)[tokens.start - 1 : tokens.stop - 1].argmax(dim=-1).cpu().numpy()
        return bool((likeliest == document.token_ids[tokens]).all())

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts in nats; of a text longer than the context, window by window."""
        pairs: list[tuple[int, Pair]] = []
        for number, request in enumerate(requests):
            (text,) = request.args
            windows = get_rolling_token_windows(self.tok_encode(text), self.prefix_token_id, self.max_text_tokens, 1)
            pairs += [(number, (("", text), *make_disjoint_window(window))) for window in windows]
        sums = [0.0] * len(requests)
        for (number, _), (nats, _greedy) in zip(
            pairs, self._loglikelihood_tokens([pair for _, pair in pairs]), strict=True
        ):
            sums[number] += nats
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Continuations of prompts up to the first of their stop texts."""
        texts: list[str] = []
        for _, group in groupby((request.args for request in requests), key=lambda args: repr(args[1])):
            contexts, options = zip(*group, strict=True)
            for start in range(0, len(contexts), self.batch_size):
                texts += self._continued(contexts[start : start + self.batch_size], options[0])
        return texts

    def _continued(self, contexts: Sequence[str], options: dict[str, Any]) -> list[str]:
        trained = self.trained
        num_new = min(int(options.get("max_gen_toks", MAX_NEW_TOKENS)), self.max_text_tokens - 1)
        temperature = float(options.get("temperature", 1.0)) if options.get("do_sample") else 0.0
        sampling = SamplingOptions(
            num_new, temperature, int(options.get("top_k") or 0), float(options.get("top_p") or 1.0), "text"
        )
        rooms = [self.max_text_tokens - num_new] * len(contexts)
        prompts = map(self._document, self._fitted([self.tok_encode(context) for context in contexts], rooms))
        patching = trained.patching
        found = generate(trained.model, list(prompts), patching.config, trained.layout, sampling, patching.unit_measure)
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else until
        texts = []
        for continued in found:
            text = trained.tokenizers.tokenizer.decode(continued.token_ids.tolist())
            for stop in filter(None, stops):
                text = text.partition(stop)[0]
            texts.append(text)
        return texts
