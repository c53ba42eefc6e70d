"""SentencePiece models: what the tokenizer of text and the speech BPE share."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import sentencepiece
from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

from lst.errors import UserError
from lst.storage import write_bytes

Model = TypeVar("Model", bound="PieceModel")
# Longer texts are no part of a training.
MAX_SENTENCE_BYTES = 1 << 20


class PieceModel:
    """A SentencePiece model with its hash, and its way to and from a file.

    Args:
        model: the serialised model.

    Raises:
        RuntimeError, ValueError: the bytes are no model of this kind.
    """

    kind = "SentencePiece model"

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @property
    def sha256(self) -> str:
        """Hash of the serialised model, which vocabularies and checkpoints record."""
        return hashlib.sha256(self.model).hexdigest()

    @property
    def proto(self) -> Any:
        """The parsed model; see ``parse_model``."""
        return parse_model(self.model)

    def save(self, path: Path) -> None:
        """Writes the serialised model."""
        write_bytes(path, self.model)

    @classmethod
    def read(cls: type[Model], path: Path, missing: str, remedy: str) -> Model:
        """Reads a model from a file.

        Args:
            path: the file.
            missing: what is missing where there is no such file, for the error.
            remedy: a sentence that says what to do, for the error.

        Raises:
            UserError: the file is missing, or it is not a model of this kind.
        """
        if not path.is_file():
            raise UserError(f"{missing} is missing: {path}. {remedy}")
        try:
            return cls(path.read_bytes())
        except UserError:
            raise
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path} is not a {cls.kind} ({error}). {remedy}") from None


def parse_model(model: bytes) -> Any:
    """A serialised model as SentencePiece's own ``ModelProto``: pieces, trainer options, normalization rules.

    Raises:
        UserError: the bytes are damaged.
    """
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(model)
    except DecodeError as error:
        raise UserError(f"the SentencePiece model is damaged ({error}): make it again with lst prepare") from None
    return proto


def train_pieces(texts: Sequence[str], num_pieces: int, option: str, **options: Any) -> bytes:
    """Trains a SentencePiece model; the result depends on the texts and the options alone.

    Args:
        texts: what to train on.
        num_pieces: upper bound of the number of pieces. A small text supports fewer and then gets fewer.
        option: name of the option that sets ``num_pieces``, for the error.
        options: further options of SentencePiece's trainer.

    Returns:
        The serialised model.

    Raises:
        UserError: ``num_pieces`` is below the number of characters, or SentencePiece refuses for another reason.
    """
    try:
        return _train(texts, num_pieces, options)
    except RuntimeError as error:
        if needed := re.search(r"(\d+) vs (\d+)", str(error)):
            raise UserError(
                f"{option}={num_pieces} is too small for the letters of this text: set it to "
                f"{max(map(int, needed.groups()))} or more"
            ) from error
        if supported := re.search(r"<= (\d+)", str(error)):
            return _train(texts, int(supported[1]), options)
        raise UserError(f"SentencePiece could not be trained: {error}") from error


def _train(texts: Sequence[str], num_pieces: int, options: dict[str, Any]) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=num_pieces,
        max_sentence_length=MAX_SENTENCE_BYTES,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return model.getvalue()
