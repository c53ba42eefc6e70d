"""Model folders on a disk or the Hugging Face Hub.

::

    FOLDER/README.md            the model card
    FOLDER/model.safetensors    the weights
    FOLDER/text.model, units.safetensors    see ``lst.runs.model_tokenizers``
    FOLDER/unit_model/, speech_bpe.model    see ``lst.runs.fitted_patching``
    FOLDER/voice.safetensors    see ``lst.voice.vocoders.mean_spectra``
    FOLDER/hashes.json          see ``lst.model.hashes``
    FOLDER/config.json          ``ModelFolder``, written last: it marks the folder as complete

A folder is read without trust: types and ranges of the configuration, the hashes, and the shapes in the header of the
weights are checked before a model is built, and the model gets its memory from the weights alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from safetensors.torch import save

from lst.errors import UserError, raise_problems
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.hashes import HASHES_FILE, check_hashes, write_hashes
from lst.model.weights import load_weights
from lst.progress import say
from lst.storage import Between, FormatError, read_json, write_bytes, write_text
from lst.storage.tensors import read_header
from lst.storage.typed import checked

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
VERSION: Literal[3] = 3
MAX_VOCAB_SIZE = 2**31 - 1
# Options of the Hub, and their values where they are not given.
_HUB_OPTIONS = {"revision": None, "cache_dir": None, "force_download": False, "local_files_only": False, "token": None}
_REMEDY = "Train it with lst train, or name the right run with run_dir=FOLDER name=MODEL."

_CARD = """---
{{ card_data }}
---

# A Latent Speech-Text Transformer

`config.json` holds the dimensions, how the training grouped speech units into patches, and sizes and hashes of the
vocabulary. A folder of `lst train` also holds the text tokenizer (`text.model`), the unit codebook
(`units.safetensors`) and, where there was sound, a voice (`voice.safetensors`).

```python
import lst

model = lst.load("FOLDER_OR_REPOSITORY")  # with its tokenizers: text and audio in, text and sound out

from lst.model.lst import LatentSpeechTextModel

model = LatentSpeechTextModel.from_pretrained("FOLDER_OR_REPOSITORY")  # the weights alone
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

    def save_pretrained(
        self, save_directory: str | Path, *, model_card_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> str | None:
        """Writes a model folder; ``options`` are those of ``PyTorchModelHubMixin.save_pretrained``."""
        card = Path(save_directory) / "README.md"
        # Before all else, so that config.json comes last.
        if not card.exists():
            write_text(card, str(self.generate_model_card(**(model_card_kwargs or {}))))
        url: str | None = super().save_pretrained(save_directory, model_card_kwargs=model_card_kwargs, **options)
        return url

    def _save_pretrained(self, save_directory: Path) -> None:
        """Writes the weights, the hashes, then ``config.json``, which marks the folder as complete."""
        state = self.state_dict()  # type: ignore[attr-defined]
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        write_bytes(save_directory / WEIGHTS_FILE, save(weights))
        config = ModelFolderConfig(self.config, self.patching, self.vocab_size, self.vocabulary)
        text = json.dumps({"version": VERSION, **asdict(config)}, indent=2, ensure_ascii=False) + "\n"
        write_hashes(save_directory, {CONFIG_FILE: text.encode()})
        write_text(save_directory / CONFIG_FILE, text)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        dtype: torch.dtype | None = None,
        verify: bool = True,
        **options: Any,
    ) -> Any:
        """The model in a folder, or in a repository of the Hugging Face Hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder, or ``owner/name`` on the Hub.
            dtype: type of the weights; None keeps the type that they were saved in.
            verify: compare the files' hashes. Reading a very large model is quicker without.
            options: ``revision``, ``cache_dir``, ``force_download``, ``local_files_only`` and ``token`` of the Hub.

        Raises:
            UserError: a file is missing, damaged or altered, or weights do not fit the configuration; all of them are
                named.
        """
        if unknown := sorted(options.keys() - _HUB_OPTIONS.keys()):
            allowed = ["dtype", "verify", *_HUB_OPTIONS]
            raise UserError(f"from_pretrained: unknown options {', '.join(unknown)}; allowed are {', '.join(allowed)}")
        name = Path(pretrained_model_name_or_path)
        is_local = name.exists()
        files = _local_files(name) if is_local else _fetched(str(name), {**_HUB_OPTIONS, **options})
        config = read_model_config(files[CONFIG_FILE])
        weights = read_header(files[WEIGHTS_FILE], "the model's weights are", _REMEDY)
        if verify:
            fetched = None if is_local else {key: path for key, path in files.items() if key != HASHES_FILE}
            check_hashes(name, files.get(HASHES_FILE), fetched)
        else:
            say(f"{name}: the hashes of the model's files are not compared, as asked")
        model = _without_memory(cls, config, weights.tensors, files[CONFIG_FILE])
        load_weights(model, weights, "model", "Use the config.json that was written with these weights.")
        model.patching, model.vocabulary = config.patching, dict(config.vocabulary)
        return model.to(dtype).eval()


class ModelFolder(TypedDict):
    """``config.json`` of a model folder.

    Keys:
        model: options of the model's shape.
        patching: options of ``patching``, as in the training.
        vocab_size: size of the joint vocabulary.
        vocabulary: what the ids mean, as in ``vocabulary.json``; empty if it was not set.
    """

    version: Literal[3]
    model: dict[str, Any]
    patching: dict[str, Any]
    vocab_size: Annotated[int, Between(1, MAX_VOCAB_SIZE)]
    vocabulary: dict[str, Any]


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


def _local_files(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in (CONFIG_FILE, WEIGHTS_FILE, HASHES_FILE)}


def _fetched(name: str, hub: dict[str, Any]) -> dict[str, Path]:
    """The files of a model on the Hub; hashes where it has some."""
    try:
        files = {file: Path(hf_hub_download(name, file, **hub)) for file in (CONFIG_FILE, WEIGHTS_FILE)}
    except (HFValidationError, OSError) as error:
        raise UserError(
            f"no model {name!r}: there is no such folder, and the Hugging Face Hub has no such model "
            f"({str(error).splitlines()[0]})"
        ) from None
    try:
        return {**files, HASHES_FILE: Path(hf_hub_download(name, HASHES_FILE, **hub))}
    except EntryNotFoundError:
        return files


def read_model_config(path: Path) -> ModelFolderConfig:
    """Reads ``config.json`` of a model folder.

    Raises:
        UserError: the file is missing, damaged or of another version, or options are unknown or not allowed.
    """
    values = read_json(path, ModelFolder, "the model's configuration", _REMEDY)
    subject, remedy = f"the model's configuration {path}", "Was it written by another version of the project?"
    problems = []
    for section, kind in (("model", ModelConfig), ("patching", PatchingConfig)):
        known = {item.name for item in fields(kind)}
        problems += [f"unknown option {section}.{key}" for key in values[section] if key not in known]  # type: ignore[literal-required]
    raise_problems(subject, problems, remedy)
    try:
        model = checked(values["model"], ModelConfig, "model")
        patching = checked(values["patching"], PatchingConfig, "patching")
    except FormatError as error:
        raise FormatError(f"{subject} {error}. {remedy}") from None
    raise_problems(subject, model.problems() + patching.problems(), remedy)
    return ModelFolderConfig(model, patching, values["vocab_size"], values["vocabulary"])


def _without_memory(cls: Any, config: ModelFolderConfig, tensors: Collection[str], where: Path) -> Any:
    """The model without memory for its weights; raises ``UserError`` where it would have more layers than there are."""
    shape = config.model
    layers = {"backbone": shape.global_layers, "encoder": shape.encoder_layers, "decoder": shape.decoder_layers}
    there = {place: {name.split(".")[2] for name in tensors if name.startswith(f"{place}.blocks.")} for place in layers}
    problems = [
        f"it asks for {wanted} layers of the {place}, the weights hold {len(there[place])}"
        for place, wanted in layers.items()
        if wanted > len(there[place])
    ]
    subject, remedy = f"the model's configuration {where}", "Use the config.json that was written with these weights."
    raise_problems(subject, problems, remedy)
    try:
        with torch.device("meta"):
            return cls(shape, config.vocab_size)
    except (RuntimeError, OverflowError) as error:
        raise UserError(
            f"{subject} asks for sizes that are no model's ({str(error).splitlines()[0]}). {remedy}"
        ) from None
