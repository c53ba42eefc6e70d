"""What a trained model and the prepared data agree on."""

from __future__ import annotations

from lst.model.inference import TokenLayout
from lst.tokenizers.vocabulary import Vocabulary


def token_layout(vocabulary: Vocabulary) -> TokenLayout:
    """What a vocabulary's ids mean to the model."""
    return TokenLayout(
        vocabulary.num_text, vocabulary.first_unit_id, vocabulary.text_id, vocabulary.speech_id, vocabulary.eos_id
    )
