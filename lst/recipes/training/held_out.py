"""What a person sees of a model in training beside its losses: cloze accuracies, and a text that it goes on with.

::

    held-out utterances ──cloze_items──▶ accuracy in each direction at every validation      train.eval_items
    a held-out text ──its beginning────▶ continuations, written and spoken: samples.jsonl,   train.sample_every
                                         samples/*.wav and TensorBoard

Neither changes a weight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypedDict

from lst.api.model import SpeechTextModel
from lst.api.voices import fit_voice, voice_of
from lst.configs.schema import Config, EvalConfig
from lst.data.prepared import PreparedData
from lst.errors import UserError
from lst.evaluation import Scorer
from lst.evaluation.cloze import ClozeItem, cloze_document, cloze_items, item_credits, score_cloze
from lst.evaluation.results import DIRECTIONS, NO_CLOZE
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import inference_patching, inference_strategy, patch_documents
from lst.progress import say
from lst.runs import FittedPatching, ModelTokenizers, RunFolder, WholeModel
from lst.storage import Count
from lst.voice.vocoders import Vocoder

SAMPLES_FILE, SAMPLES_FOLDER = "samples.jsonl", "samples"
# Long enough to tell words from noise, and short enough to draw in a second.
MOST_PROMPT_WORDS, SAMPLE_TOKENS = 12, 40
# Four seconds of 25 units each.
SPOKEN_TOKENS = 100


class _Spoken(TypedDict, total=False):
    spoken: str


class SampleRow(_Spoken):
    """A row of ``samples.jsonl``.

    Keys:
        step: after which it was drawn.
        prompt: the beginning of a held-out text, the same throughout.
        continuation: what the model adds to it, drawn with the seed of the training.
        spoken: a WAV file in the training's folder, with what the model says after it; absent without a voice.
    """

    step: Count
    prompt: str
    continuation: str


@dataclass(frozen=True)
class HeldOut:
    """What is looked at.

    Attributes:
        whole: the model that is trained.
        data: that it is trained on.
        scorer: of its documents.
        items: of the cloze; none with ``train.eval_items=0``.
        prompt: of the sample; empty with ``train.sample_every=0``.
        sample_every: steps between samples.
        seed: of their draws.
    """

    whole: WholeModel
    data: PreparedData
    scorer: Scorer
    items: list[ClozeItem]
    prompt: str
    sample_every: int
    seed: int

    @classmethod
    def of(cls, config: Config, data: PreparedData, patching: FittedPatching, model: LatentSpeechTextModel) -> HeldOut:
        """What the options ask for.

        Raises:
            UserError: there are no such items or texts, or none that the model's context holds.
        """
        final = RunFolder.of(config).final(config.name)
        whole = WholeModel(config.name, final, model, patching, ModelTokenizers.of(data))
        # Rows that share no beginnings are computed by the model's own forward pass, which sharded weights need.
        scorer = replace(Scorer.of(whole, config), shares_beginnings=False)
        items = [item for item in held_out_items(config, data) if _fits(scorer, item)]
        if config.train.eval_items and not items:
            raise UserError(f"train.eval_items: no cloze item fits model.max_patches={model.config.max_patches}")
        if len(items) < config.train.eval_items:
            say(f"{config.name}: cloze accuracies are of {len(items)} items, all that there are or that fit the model")
        prompt = held_out_prompt(config, data)
        if prompt and len(scorer.builder.text_part(prompt).token_ids) + 2 > model.config.max_patches:
            raise UserError(f"train.sample_every: the prompt does not fit model.max_patches={model.config.max_patches}")
        return cls(whole, data, scorer, items, prompt, config.train.sample_every, config.seed)

    @cached_property
    def voice(self) -> Vocoder | None:
        """Makes the samples heard: the voice that ``lst generate`` would take, or one fitted to the data now."""
        return None if self.data.is_text_alone else voice_of(self.whole) or fit_voice(self.data)

    def accuracies(self) -> dict[str, float]:
        """The share of items whose true ending is likelier, by direction: ``ClozeAccuracies``; empty without items."""
        if not self.items:
            return {}
        rows = score_cloze(self.scorer, self.items)
        return {
            accuracy_key(direction): float(
                item_credits([row for row in rows if row["direction"] == direction], "sum").mean()
            )
            for direction in DIRECTIONS
        }

    def sample(self, step: int) -> SampleRow | None:
        """What is due after a step, written and, where there is a voice, spoken; None where nothing is.

        The sound is written into the training's folder.
        """
        if not self.sample_every or step % self.sample_every:
            return None
        model = self.whole.model
        was_training = model.training
        model.eval()
        try:
            speaker = SpeechTextModel(self.whole, self.voice)
            continued = speaker.generate(self.prompt, modality="text", max_new_tokens=SAMPLE_TOKENS, seed=self.seed)
            row = SampleRow(step=step, prompt=self.prompt, continuation=continued.text)
            if self.voice is not None:
                spoken = speaker.generate(self.prompt, modality="speech", max_new_tokens=SPOKEN_TOKENS, seed=self.seed)
                if len(spoken.units):
                    row["spoken"] = f"{SAMPLES_FOLDER}/step-{step:08}.wav"
                    spoken.sound.save(self.whole.folder.parent / row["spoken"])
        finally:
            model.train(was_training)
        return row


def accuracy_key(direction: str) -> str:
    """The name of a direction's accuracy in ``metrics.jsonl``.

    >>> accuracy_key("S→T")
    'valid_cloze_s_to_t'
    """
    return f"valid_cloze_{direction.lower().replace('→', '_to_')}"


def held_out_items(config: Config, data: PreparedData) -> list[ClozeItem]:
    """The cloze items of ``train.eval_items``.

    Raises:
        UserError: the data is text alone, or has no items, as speech without words has none.
    """
    if not config.train.eval_items:
        return []
    if data.is_text_alone:
        raise UserError(
            f"train.eval_items={config.train.eval_items}: {data.folder} holds text alone, and cloze items are spoken "
            "too: leave the option out"
        )
    items = cloze_items(list(data.valid), replace(EvalConfig(), max_items=config.train.eval_items), config.seed)
    if not items:
        raise UserError(f"train.eval_items={config.train.eval_items}: {NO_CLOZE}: leave the option out")
    return items


def held_out_prompt(config: Config, data: PreparedData) -> str:
    """The first words of the first held-out text, at most half of it; empty with ``train.sample_every=0``.

    Raises:
        UserError: no held-out text has two words.
    """
    if not config.train.sample_every:
        return ""
    for held_out in data.valid:
        words = held_out.text.split()
        if len(words) > 1:
            return " ".join(words[: min(MOST_PROMPT_WORDS, len(words) // 2)])
    raise UserError(f"train.sample_every: no held-out text of {data.folder} has two words: leave the option out")


def _fits(scorer: Scorer, item: ClozeItem) -> bool:
    """Whether every document has an ending to score and fits the model, however a boundary head comes to cut it."""
    documents = [cloze_document(scorer.builder, item, one, is_true) for one in DIRECTIONS for is_true in (True, False)]
    patching, config = scorer.trained.patching.config, scorer.trained.model.config
    strategy = "none" if config.boundary_head else inference_strategy(patching)
    cuts = patch_documents([document for document, _ in documents], strategy, inference_patching(patching))
    return max(map(len, cuts)) <= config.max_patches and all(tokens.start < tokens.stop for _, tokens in documents)
