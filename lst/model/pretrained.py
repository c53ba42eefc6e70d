"""Model folders: ``model.safetensors`` and ``config.json``, never a pickle; from a disk or the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import asdict, fields
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
        patching: how the model's training cut documents; kept in ``config.json``.
        vocabulary: what its ids mean, as ``Vocabulary.to_dict`` gives it; empty when it was not told.
    """

    config: ModelConfig
    vocab_size: int
    patching: PatchingConfig = PatchingConfig()
    vocabulary: dict[str, Any] = {}  # noqa: RUF012  (replaced, never changed)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Writes the weights, then ``config.json``, which says that the folder is whole."""
        state = self.state_dict()  # type: ignore[attr-defined]
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        write_bytes(save_directory / WEIGHTS_FILE, save(weights))
        config = {
            "version": VERSION,
            "model": asdict(self.config),
            "patching": asdict(self.patching),
            "vocab_size": self.vocab_size,
            "vocabulary": self.vocabulary,
        }
        write_json(save_directory / CONFIG_FILE, config)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **_: Any,
    ) -> Any:
        """Reads a folder, or fetches the two files from the Hub; the model comes in evaluation mode.

        Raises:
            UserError: a file is missing or damaged, or the weights do not fit the configuration; all misfits are named.
        """
        if Path(model_id).exists():
            paths = [Path(model_id) / name for name in (CONFIG_FILE, WEIGHTS_FILE)]
        else:
            hub: dict[str, Any] = {
                "revision": revision,
                "cache_dir": cache_dir,
                "force_download": force_download,
                "local_files_only": local_files_only,
                "token": token,
            }
            try:
                paths = [Path(hf_hub_download(model_id, name, **hub)) for name in (CONFIG_FILE, WEIGHTS_FILE)]
            except (HFValidationError, OSError) as error:
                raise UserError(
                    f"no model {model_id!r}: there is no such folder, and the Hugging Face Hub gives none of this name "
                    f"({str(error).splitlines()[0]})"
                ) from None
        config = read_model_config(paths[0])
        model: Any = cls(ModelConfig(**config["model"]), config["vocab_size"])
        weights = read_weights(paths[1], "model", _REMEDY)
        check_weights(model, weights, "model", paths[1], "Use the config.json that was written with these weights.")
        model.load_state_dict(weights)
        model.patching, model.vocabulary = PatchingConfig(**config["patching"]), config["vocabulary"]
        return model.eval()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Any:
        """The model in a folder, or in a repository of the Hugging Face Hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder, or ``owner/name`` on the Hub.
            options: ``revision``, ``cache_dir``, ``force_download``, ``local_files_only`` and ``token`` of the Hub.

        Raises:
            UserError: a file is missing or damaged, or the weights do not fit the configuration.
        """
        known = {"revision": None, "cache_dir": None, "force_download": False, "local_files_only": False, "token": None}
        if unknown := sorted(options.keys() - known.keys()):
            raise UserError(f"from_pretrained: unknown options {', '.join(unknown)}; allowed are {', '.join(known)}")
        return cls._from_pretrained(model_id=str(pretrained_model_name_or_path), **{**known, **options})


def read_model_config(path: Path) -> dict[str, Any]:
    """The configuration of a model folder; raises ``UserError`` for another version, missing or unknown options."""
    config: dict[str, Any] = read_json(path, dict[str, Any], "the model's configuration", _REMEDY)
    if config.get("version") != VERSION:
        raise UserError(
            f"{path} has version {config.get('version')}, this project reads {VERSION}: train the model again, or load "
            "it with the version of the project that wrote it"
        )
    problems = [f"{key} is missing" for key in ("model", "patching", "vocab_size", "vocabulary") if key not in config]
    for section, kind in (("model", ModelConfig), ("patching", PatchingConfig)):
        known = {item.name for item in fields(kind)}
        problems += [f"unknown option {section}.{key}" for key in config.get(section, {}) if key not in known]
    if not problems:
        problems = ModelConfig(**config["model"]).problems() + PatchingConfig(**config["patching"]).problems()
    raise_problems(f"the model's configuration {path}", problems, "Was it written by another version of the project?")
    return config
