"""Writes a whole model as a folder for others, with a card, and pushes it to the Hugging Face Hub.

::

    RUN/models/NAME/final, RUN/data, RUN/results.json ──write_public──▶ FOLDER ──push──▶ OWNER/NAME

The folder is one that ``lst.load`` opens. Paths of this machine are left out of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCardData

from lst.errors import UserError
from lst.evaluation.results import NO_CLOZE, Direction, DirectionSummary
from lst.lazy import import_or_explain
from lst.model.checkpoint import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from lst.model.hashes import write_hashes
from lst.runs import WholeModel
from lst.storage import read_bytes, staged_folder, write_bytes, write_text
from lst.voice.converter import StyleVoice
from lst.voice.saved import STYLE_VOICE_FILE
from lst.voice.vocoders import VOICE_FILE, MeanSpectra, Vocoder
from lst.voice.vocoders.of_mels import VOCODER_FILE, TrainedVocoder

LIBRARY, TAGS = "latent-speech-text", ["speech-text", "latent-speech-text-transformer"]
_UNSTATED = "not stated"


@dataclass(frozen=True)
class ModelFacts:
    """What a model card says besides what the model itself knows.

    Attributes:
        licence: of the model; empty where it is not stated.
        corpus: what it was trained on, in words; empty where the data is gone.
        speech: recordings, synthesised or simulated speech.
        corpus_licence: empty where it is not stated.
        row_licences: hours by licence as the utterances state them; empty where they do not.
        warnings: what to know of these licences, a sentence each.
        figures: accuracies by direction; None where it was not evaluated, empty where it could be asked nothing.
        bits_per_unit: of held-out speech; None where it was not evaluated.
        items: what was asked: questions or cloze items.
        chance: the accuracy of guessing.
    """

    licence: str = ""
    corpus: str = ""
    speech: str = ""
    corpus_licence: str = ""
    row_licences: str = ""
    warnings: Sequence[str] = ()
    figures: Mapping[Direction, DirectionSummary] | None = None
    items: str = ""
    chance: float = 0.5
    bits_per_unit: float | None = None


def model_card(whole: WholeModel, voice: Vocoder | None, facts: ModelFacts) -> str:
    """The card of a model, as Markdown with the Hub's front matter."""
    front = ModelCardData(license=facts.licence or None, library_name=LIBRARY, tags=TAGS).to_yaml()
    codec, config = whole.tokenizers.codec, whole.model.config
    rows = {
        "parameters": f"{whole.model.num_parameters:,}",
        "patching": f"{whole.strategy} (trained with {whole.patching.config.strategy})",
        "context": f"{config.max_patches:,} patches",
        "text": f"{whole.tokenizers.tokenizer.vocab_size:,} SentencePiece pieces",
        "speech": f"{codec.num_units:,} units at {codec.frame_rate_hz} Hz ({codec.name})",
        "voice": voice.name if voice else "none: units without sound",
        "data": ", ".join(filter(None, [facts.corpus, facts.speech])) or _UNSTATED,
        "licence of the data": "; ".join(filter(None, [facts.corpus_licence, facts.row_licences])) or _UNSTATED,
        "licence of the model": facts.licence or _UNSTATED,
    }
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows.items())
    warned = "".join(f"\n> **Licences of the data:** {_cell(warning)}\n" for warning in facts.warnings)
    return f"""---
{front}
---

# {whole.name}: a Latent Speech-Text Transformer

A language model of text and of speech units, which continues either in either.

| | |
|---|---|
{table}
{warned}
## Use

```python
import lst  # pip install {LIBRARY}

model = lst.load("FOLDER_OR_REPOSITORY")
print(model.generate("Anna wanted to", max_new_tokens=20))
model.generate("Anna wanted to", modality="speech", max_new_tokens=75).sound.save("spoken.wav")
print(model.score("prompt.wav", ["one ending", "another.wav"]))
```

The folder holds weights, text tokenizer, unit codebook and fitted patching. No pickle is in it, and nothing
that can run code.

## Figures

{_figures(facts)}

Paper: https://arxiv.org/abs/2510.06195
"""


def _figures(facts: ModelFacts) -> str:
    if not facts.figures:
        if facts.bits_per_unit is None:
            return "It was not evaluated."
        return f"Held-out speech costs {facts.bits_per_unit:.3f} bits a unit; {NO_CLOZE}."
    lines = [
        f"{'Questions' if facts.items == 'questions' else 'Cloze items'} with two endings on held-out data; chance is "
        f"{100 * facts.chance:.3g} %. S is speech, T is text: context → ending.",
        "",
        "| direction | score | items | accuracy, % | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for direction, one in facts.figures.items():
        low, high = one["low"], one["high"]
        lines.append(
            f"| {direction} | {one['score']} | {one['num_items']:,} | {100 * one['accuracy']:.1f} | "
            f"{100 * low:.1f} to {100 * high:.1f} |"
        )
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def write_public(whole: WholeModel, voice: Vocoder | None, facts: ModelFacts, folder: Path) -> None:
    """Writes a whole model with its card into a new folder, all of it or nothing.

    Raises:
        UserError: something is in the folder.
    """
    check_new(folder)
    with staged_folder(folder) as staging:
        whole.patching.save(staging)
        whole.tokenizers.save(staging, names_local_weights=False)
        if isinstance(voice, MeanSpectra):
            voice.save(staging / VOICE_FILE)
        elif isinstance(voice, StyleVoice):
            voice.saved.save(staging / STYLE_VOICE_FILE)
            if isinstance(voice.vocoder, TrainedVocoder):
                voice.vocoder.save(staging / VOCODER_FILE)
        write_bytes(staging / WEIGHTS_FILE, read_bytes(whole.folder / WEIGHTS_FILE))
        write_text(staging / CARD_FILE, model_card(whole, voice, facts))
        config = read_bytes(whole.folder / CONFIG_FILE)
        write_hashes(staging, {CONFIG_FILE: config})
        write_bytes(staging / CONFIG_FILE, config)


def check_new(folder: Path) -> None:
    """Raises ``UserError`` unless a folder is absent or empty."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"hub={folder} is there already: name another folder, or delete it")


def push(folder: Path, repository: str) -> str:
    """Pushes a folder to ``OWNER/NAME`` on the Hub, a private repository where it is new; returns its URL.

    Raises:
        UserError: the Hub cannot be reached or refuses.
    """
    hub = import_or_explain("huggingface_hub", "pushing a model", "pip install huggingface_hub")
    try:
        api = hub.HfApi()
        url = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="A Latent Speech-Text Transformer")
    except Exception as error:
        told = str(error).splitlines() or [""]
        raise UserError(
            f"hub=hub:{repository} cannot be written ({type(error).__name__}: {told[0]}). Log in with hf auth login "
            "where you are online, or write a folder with hub=FOLDER"
        ) from None
    return str(url)
