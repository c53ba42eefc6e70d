"""A trained token baseline as a text model: a Hugging Face folder that transformers loads.

::

    FOLDER/model.safetensors    all weights; ids are those of the joint vocabulary
    FOLDER/tokenizer.json       the text tokenizer, or tokenizer.model where it is SentencePiece's
    FOLDER/config.json          of a Llama; of a Qwen2 or Qwen3 where the backbone has their biases or norms
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from lst.configs.text_models import TEXT_CONFIG_FILE, text_model_config
from lst.model.text_weights import text_weights
from lst.runs.trained import TrainedModel
from lst.storage import write_bytes, write_text


def text_model_values(trained: TrainedModel) -> dict[str, Any]:
    """``config.json`` of a trained model as a text model; raises ``UserError`` where it has what no text model has."""
    ids = trained.vocabulary
    return text_model_config(trained.model.config, ids.size, ids.bos_id, ids.eos_id, ids.pad_id)


def save_text_model(folder: Path, trained: TrainedModel) -> None:
    """Writes a trained model as a text model. ``config.json`` comes last: it marks the folder as complete.

    Raises:
        UserError: the model has what no text model has; all of it is named.
    """
    values = text_model_values(trained)
    tokenizer = trained.data.tokenizer
    write_bytes(folder / "model.safetensors", save(text_weights(trained.model), metadata={"format": "pt"}))
    tokenizer.save(folder / tokenizer.file_name)
    write_text(folder / TEXT_CONFIG_FILE, json.dumps(values, indent=2) + "\n")
