"""``tokenizer.json`` as text tokenizer: the ids of its own package, bytes and characters of pieces, damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lst.errors import UserError
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.text import TextTokenizer, build_text_tokenizer, text_model_file

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: extra hf")

LINES = [
    "Anna ate the warm bread with butter, and the old dog slept all day.",
    "Ben found 12 small keys under the mat; it opened the red door in 1999!",
    "naïve cafés 中文 don't",
] * 3
TEXTS = [*LINES[:3], "the cat", "a", "<|end|> the", "two  spaces", "🦊 über"]


def of_bytes() -> Any:
    """In the form of Llama 3, Qwen and SmolLM."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|begin|>"], initial_alphabet=sorted(alphabet), show_progress=False
    )
    model.train_from_iterator(LINES, trainer)
    model.add_special_tokens(["<|end|>"])
    model.add_tokens(["<tool>"])
    model.post_processor = tokenizers.processors.TemplateProcessing("<|begin|> $A", None, [("<|begin|>", 0)])
    return model


def of_words() -> Any:
    """In the form of Llama 2: word marks, and bytes for all else."""
    others = [f"<0x{byte:02X}>" for byte in range(256)]
    model = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    model.normalizer = tokenizers.normalizers.Sequence(steps)
    model.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    plain = [line.encode("ascii", "ignore").decode() for line in LINES]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", "<s>"], show_progress=False)
    model.train_from_iterator(plain, trainer)
    values = json.loads(model.to_str())
    vocabulary = values["model"]["vocab"]
    vocabulary |= {piece: len(vocabulary) + number for number, piece in enumerate(others)}
    return tokenizers.Tokenizer.from_str(json.dumps(values))


FORMS = {"bytes": of_bytes(), "words": of_words()}


@pytest.mark.parametrize("form", FORMS)
def test_ids_are_those_of_the_package_for_a_text_after_a_space(form: str, tmp_path: Path) -> None:
    """So that a word has the same pieces at the beginning of a span and within it."""
    theirs = FORMS[form]
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = TextTokenizer.load(tmp_path / "tokenizer.json")
    theirs.encode_special_tokens = True
    space = " " if form == "bytes" else ""
    assert ours.vocab_size == theirs.get_vocab_size()
    assert ours.has_bytes
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == theirs.encode(space + text, add_special_tokens=False).ids
        assert not set(ids) & set(ours.control_ids)
        assert ours.decode(ids) == text
        assert ours.encode("  " + text) == ids
        assert sum(ours.piece_bytes[index] for index in ids) == len(f" {text}".encode())
        assert sum(ours.piece_characters([text])[0]) == len(text.replace(" ", ""))
    assert ours.encode("") == []
    if form == "bytes":
        assert ours.encode("Anna ate the mat") == ours.encode("Anna ate") + ours.encode("the mat")


def test_special_tokens_are_no_text() -> None:
    tokenizer = TextTokenizer(FORMS["bytes"].to_str().encode())
    names = dict(zip(tokenizer.pieces(range(tokenizer.vocab_size)), range(tokenizer.vocab_size), strict=True))
    assert tokenizer.pieces(tokenizer.control_ids) == ["<|begin|>", "<|end|>"]
    assert [tokenizer.piece_bytes[names[name]] for name in ("<|begin|>", "<|end|>", "<tool>")] == [0, 0, 6]
    assert tokenizer.decode([names["<|begin|>"], *tokenizer.encode("the dog"), names["<|end|>"]]) == "the dog"


def test_a_folder_gives_its_tokenizer_and_a_saved_one_is_the_same_file(tmp_path: Path) -> None:
    FORMS["words"].save(str(tmp_path / "tokenizer.json"))
    tokenizer = build_text_tokenizer(TokenizerConfig(text_model=str(tmp_path)), [])
    tokenizer.save(tmp_path / "text.model")
    again = TextTokenizer.load(tmp_path / "text.model")
    assert (again.sha256, again.file_name, again.is_sentencepiece) == (tokenizer.sha256, "tokenizer.json", False)
    assert (tmp_path / "text.model").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
    assert text_model_file(str(tmp_path)) == tmp_path / "tokenizer.json"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"version": "1.0"}', "neither of bytes"),
        (b'{"decoder": {"type": "ByteLevel"}}', "not a SentencePiece model or tokenizer.json"),
        (b'{"decoder": {"type": "ByteLevel"', "is not JSON"),
        (b"{}", "neither of bytes"),
    ],
)
def test_files_that_are_no_tokenizer_are_named(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(UserError) as raised:
        TextTokenizer.load(tmp_path / "tokenizer.json")
    assert told in str(raised.value)
    assert "tokenizer.json" in str(raised.value)
