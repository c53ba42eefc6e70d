"""Continues a prompt token by token.

Each step computes the whole sequence anew: simple and exact, at a cost that grows with the square of the length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lst.model.batch import SPEECH, TEXT, Document, pack_documents
from lst.model.config import PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import inference_strategy, patch_document
from lst.progress import Progress


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is drawn.

    Attributes:
        max_new_tokens: tokens at most; generation also ends at a stop token.
        temperature: 0 takes the likeliest token.
        top_k: only the k likeliest are drawn from; 0 sets no limit.
        seed: of the draws.
    """

    max_new_tokens: int = 50
    temperature: float = 0.8
    top_k: int = 0
    seed: int = 0


@torch.inference_mode()
def next_token_logits(
    model: LatentSpeechTextModel, token_ids: np.ndarray, modalities: np.ndarray, patching: PatchingConfig
) -> torch.Tensor:
    """Logits, float32 [V], of the token after ``token_ids`` [n], equal to those of the parallel form.

    A static patch that is not yet full is filled up with copies of the last unit: they come later, so they change no
    logit before them, and the patch is rightly seen as incomplete.
    """
    filler = 0
    strategy = inference_strategy(patching)
    if strategy == "static" and modalities[-1] == SPEECH:
        others = np.flatnonzero(modalities != SPEECH)
        filler = -(len(modalities) - 1 - int(others[-1])) % patching.static_size
    filled_ids, filled_modalities = (np.append(x, np.repeat(x[-1:], filler)) for x in (token_ids, modalities))
    document = Document("prompt", filled_ids, filled_modalities)
    patches = patch_document(document, strategy, patching)
    batch = pack_documents([[(document, patches)]], len(patches)).to(next(model.parameters()).device)
    return model(batch)[len(token_ids) - 1].float().cpu()


def generate(
    model: LatentSpeechTextModel,
    prompt: Document,
    patching: PatchingConfig,
    allowed_ids: np.ndarray,
    stop_ids: set[int],
    first_unit_id: int,
    options: SamplingOptions,
) -> np.ndarray:
    """Continues a prompt.

    Args:
        model: the model.
        prompt: opens with one token that is a patch of its own, ``<bos>`` say.
        patching: as the model was trained; static at inference, or none.
        allowed_ids: int [a], ids that may be drawn (one modality's and the stop tokens, say).
        stop_ids: generation ends with one of these; it is not returned.
        first_unit_id: from here on ids are speech units.
        options: how to draw.

    Returns:
        int32 [n], the new tokens.
    """
    generator = torch.Generator().manual_seed(options.seed)
    forbidden = torch.ones(model.vocab_size, dtype=torch.bool)
    forbidden[torch.from_numpy(allowed_ids.astype(np.int64))] = False
    token_ids, modalities = prompt.token_ids, prompt.modalities
    with Progress(options.max_new_tokens, "generate", unit="token") as progress:
        for _ in range(options.max_new_tokens):
            logits = next_token_logits(model, token_ids, modalities, patching).masked_fill(forbidden, float("-inf"))
            token = draw_token(logits, options, generator)
            progress.advance()
            if token in stop_ids:
                break
            token_ids = np.append(token_ids, np.int32(token))
            modalities = np.append(modalities, np.uint8(SPEECH if token >= first_unit_id else TEXT))
    return token_ids[len(prompt) :]


def draw_token(logits: torch.Tensor, options: SamplingOptions, generator: torch.Generator) -> int:
    """One token from logits [V]; minus infinity is never drawn."""
    if options.temperature == 0:
        return int(logits.argmax())
    if options.top_k:
        least = logits.topk(min(options.top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < least, float("-inf"))
    weights = (logits / options.temperature).softmax(dim=-1)
    return int(torch.multinomial(weights, 1, generator=generator))
