"""Model folders on a disk or the Hugging Face Hub: ``model.safetensors`` and ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import HFValidationError
from safetensors.torch import save

from lst.errors import UserError, raise_problems
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.weights import check_weights, read_weights
from lst.storage import read_json, write_bytes, write_json

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
VERSION = 3
# Options of the Hub, and their values where they are not given.
_HUB_OPTIONS = {"revision": None, "cache_dir": None, "force_download": False, "local_files_only": False, "token": None}
_REMEDY = "Train it with lst train, or name the right run with run_dir=FOLDER name=MODEL."

_CARD = """---
{{ card_data }}
---

# A Latent Speech-Text Transformer

`config.json` holds the dimensions, how the training grouped speech units into patches, and sizes and hashes of the
vocabulary. The text tokenizer and the unit codebook that the ids belong to are not in this folder.

```python
from lst.model.lst import LatentSpeechTextModel

model = LatentSpeechTextModel.from_pretrained("FOLDER_OR_REPOSITORY")
```

Paper: https://arxiv.org/abs/2510.06195
"""


class PretrainedModel(
    PyTorchModelHubMixin,
    model_card_template=_CARD,
    library_name="latent-speech-text",
    tags=["speech-text", "latent-speech-text-transformer"],
):
    """``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` of a model.

    Attributes:
        config: the shape of the model.
        vocab_size: size of the joint vocabulary.
        patching: how the training cut documents into patches.
        vocabulary: what the ids mean, from ``Vocabulary.to_dict``; empty if it was not set.
    """

    config: ModelConfig
    vocab_size: int
    patching: PatchingConfig = PatchingConfig()
    vocabulary: dict[str, Any] = {}  # noqa: RUF012  (replaced, never changed)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Writes the weights, then ``config.json``, which marks the folder as complete."""
        state = self.state_dict()  # type: ignore[attr-defined]
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        write_bytes(save_directory / WEIGHTS_FILE, save(weights))
        config = ModelFolderConfig(self.config, self.patching, self.vocab_size, self.vocabulary)
        write_json(save_directory / CONFIG_FILE, {"version": VERSION, **asdict(config)})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Any:
        """The model in a folder, or in a repository of the Hugging Face Hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder, or ``owner/name`` on the Hub.
            options: ``revision``, ``cache_dir``, ``force_download``, ``local_files_only`` and ``token`` of the Hub.

        Raises:
            UserError: a file is missing or damaged, or weights do not fit the configuration; all of them are named.
        """
        if unknown := sorted(options.keys() - _HUB_OPTIONS.keys()):
            raise UserError(
                f"from_pretrained: unknown options {', '.join(unknown)}; allowed are {', '.join(_HUB_OPTIONS)}"
            )
        config_path, weights_path = _files(str(pretrained_model_name_or_path), {**_HUB_OPTIONS, **options})
        config = read_model_config(config_path)
        model: Any = cls(config.model, config.vocab_size)
        weights = read_weights(weights_path, "model", _REMEDY)
        check_weights(model, weights, "model", weights_path, "Use the config.json that was written with these weights.")
        model.load_state_dict(weights)
        model.patching, model.vocabulary = config.patching, dict(config.vocabulary)
        return model.eval()


@dataclass(frozen=True)
class ModelFolderConfig:
    """The content of a model folder's ``config.json``, besides its version.

    Attributes:
        model: the shape of the model.
        patching: how the training cut documents into patches.
        vocab_size: size of the joint vocabulary.
        vocabulary: what the ids mean, from ``Vocabulary.to_dict``; empty if it was not set.
    """

    model: ModelConfig
    patching: PatchingConfig
    vocab_size: int
    vocabulary: Mapping[str, Any]


def _files(name: str, hub: dict[str, Any]) -> list[Path]:
    """``config.json`` and the weights, in a folder or fetched from the Hub."""
    names = (CONFIG_FILE, WEIGHTS_FILE)
    if Path(name).exists():
        return [Path(name) / file for file in names]
    try:
        return [Path(hf_hub_download(name, file, **hub)) for file in names]
    except (HFValidationError, OSError) as error:
        raise UserError(
            f"no model {name!r}: there is no such folder, and the Hugging Face Hub has no such model "
            f"({str(error).splitlines()[0]})"
        ) from None


def read_model_config(path: Path) -> ModelFolderConfig:
    """Reads ``config.json`` of a model folder.

    Raises:
        UserError: the file is missing or of another version, or options are missing, unknown or not allowed.
    """
    values = read_json(path, dict[str, Any], "the model's configuration", _REMEDY)
    if values.get("version") != VERSION:
        raise UserError(
            f"{path} has version {values.get('version')}, this project reads {VERSION}: train the model again, or load "
            "it with the version of the project that wrote it"
        )
    problems = [f"{item.name} is missing" for item in fields(ModelFolderConfig) if item.name not in values]
    for section, kind in (("model", ModelConfig), ("patching", PatchingConfig)):
        known = {item.name for item in fields(kind)}
        problems += [f"unknown option {section}.{key}" for key in values.get(section, {}) if key not in known]
    subject, remedy = f"the model's configuration {path}", "Was it written by another version of the project?"
    raise_problems(subject, problems, remedy)
    model, patching = ModelConfig(**values["model"]), PatchingConfig(**values["patching"])
    raise_problems(subject, model.problems() + patching.problems(), remedy)
    return ModelFolderConfig(model, patching, values["vocab_size"], values["vocabulary"])
