"""Generation with compiled layers against the parallel form in float64, and against PyTorch's operators."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from recurrent_models import VOCAB_SIZE, patching_of

from lst.kernels.native import library
from lst.model.batch import Document, pack_documents
from lst.model.config import ModelConfig
from lst.model.inference import incremental
from lst.model.inference.incremental import DecodingState
from lst.model.inference.patch_stepper import PatchStepper
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document

FIRST_UNIT_ID, BOS = 40, 35
SHAPE = {"global_dim": 48, "global_layers": 2, "global_heads": 4, "global_kv_heads": 2, "ffn_multiple_of": 8}
MORE = {"attention_bias": "all", "query_key_norm": True, "global_head_dim": 10}
LOCAL = {"local_dim": 20, "local_heads": 2, "window_tokens": 7, "encoder_window_patches": 3, "decoder_keys": 2}
BASELINE = {"encoder_layers": 0, "decoder_layers": 0}


@pytest.mark.skipif(not library.is_available(), reason="the compiled kernels were not built")
@pytest.mark.parametrize(
    "choices",
    [
        {**BASELINE, **MORE},
        {**BASELINE, "global_mixers": ["window_attention"], "global_window_patches": 5},
        {**LOCAL, "cross_residual": 2, "global_mixers": ["h3", "attention"]},
        {**LOCAL, "local_kv_heads": 1},
    ],
    ids=["baseline", "window", "lst with h3", "lst"],
)
@pytest.mark.parametrize("num_sequences", [1, 3])
def test_steps_equal_the_parallel_form(choices: dict, num_sequences: int) -> None:
    config = ModelConfig(**SHAPE, **choices)
    model = LatentSpeechTextModel(config, VOCAB_SIZE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(4.0)
    ids = np.random.default_rng(1).integers(FIRST_UNIT_ID, VOCAB_SIZE, (num_sequences, 90)).astype(np.int32)
    ids[:, 0] = BOS
    documents = [Document(str(row), one, (one >= FIRST_UNIT_ID).astype(np.uint8)) for row, one in enumerate(ids)]
    patching = patching_of(config)

    def cut(document: Document):
        return patch_document(document, patching.strategy, patching)

    def stepped() -> torch.Tensor:
        prompts = [Document(d.id, d.token_ids[:5], d.modalities[:5]) for d in documents]
        steppers = [PatchStepper(patching, FIRST_UNIT_ID) for _ in prompts]
        for stepper, prompt in zip(steppers, prompts, strict=True):
            stepper.begin(prompt, cut(prompt))
        with torch.inference_mode():
            state = DecodingState(model, prompts, [cut(prompt) for prompt in prompts], steppers)
            return torch.stack([state.step(ids[:, place], (ids[:, place] >= 0) * 1) for place in range(5, 90)])

    with (
        mock.patch.object(library, "run_steps", wraps=library.run_steps) as steps,
        mock.patch.object(library, "head", wraps=library.head) as head,
    ):
        found = stepped()
    assert steps.call_count
    assert head.call_count == 85
    with (
        mock.patch.object(incremental, "compile_layers", return_value={}),
        mock.patch.object(incremental, "compile_head", return_value=None),
    ):
        torch.testing.assert_close(found, stepped(), rtol=1e-3, atol=1e-3)
    wide = model.double()
    batch = pack_documents([[(document, cut(document))] for document in documents], 90)
    with torch.no_grad():
        whole = wide(batch).view(num_sequences, 90, -1).transpose(0, 1)
    torch.testing.assert_close(found[:-1].double(), whole[5:-1], rtol=1e-3, atol=1e-3)
