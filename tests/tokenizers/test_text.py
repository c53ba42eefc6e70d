"""Text BPE: any text comes back, nothing is unknown, and sizes and files are checked."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lst.errors import UserError
from lst.tokenizers.text import MIN_VOCAB_SIZE, NUM_BYTE_PIECES, TextTokenizer, fit_text_tokenizer

LINES = [
    "Anna ate the warm bread with butter, and the old dog slept all day.",
    "Ben found a small key under the mat; it opened the red door.",
    "We sang until the sun rose. Rain fell on the green hill!",
    "Tom gave the boat a push, then he ran home before dark.",
] * 3
FOLDING = fit_text_tokenizer(LINES, 330)
KEEPING = fit_text_tokenizer(LINES, 330, lowercase=False)
UNKNOWN_ID = 0


def normalised(text: str, tokenizer: TextTokenizer) -> str:
    """What SentencePiece's own normaliser makes of a text, apart from any encoding."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    return processor.normalize(text).replace("▁", " ").strip(" ")


def is_plain(text: str) -> bool:
    """Whether normalisation and case folding have nothing to do, by Python's own tables."""
    return unicodedata.normalize("NFKC", text).casefold() == text and text.lower() == text


visible = st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Mc", "Me", "Cn", "Co"))
plain_words = st.lists(st.text(visible.filter(lambda c: is_plain(c) and c not in "▁\ufffd"), min_size=1), min_size=1)


@settings(max_examples=100, deadline=None)
@given(st.text())
@example("")
@example("Anna ate")
@example("  two  spaces\tand\na line ")
@example("naïve café, 𝔘nicode 😀 你好 ㎏ ½ ﬁ")
@example("▁ ▁▁a")
@example("\ufffd a\ufffdb")
def test_any_text_comes_back_as_normalised_and_nothing_is_unknown(text: str) -> None:
    for tokenizer in (FOLDING, KEEPING):
        ids = tokenizer.encode(text)
        assert UNKNOWN_ID not in ids
        assert all(0 < index < tokenizer.vocab_size for index in ids)
        assert tokenizer.decode(ids) == normalised(text, tokenizer)


@settings(max_examples=100, deadline=None)
@given(plain_words)
@example(["anna", "😀", "你好"])
def test_text_that_needs_no_normalisation_comes_back_unchanged(words: list[str]) -> None:
    text = " ".join(words)
    assume(is_plain(text))
    for tokenizer in (FOLDING, KEEPING):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20)))
def test_ascii_text_comes_back_but_for_case_and_repeated_spaces(text: str) -> None:
    assert FOLDING.decode(FOLDING.encode(text)) == " ".join(text.lower().split())
    assert KEEPING.decode(KEEPING.encode(text)) == " ".join(text.split())


def test_case_is_folded_only_when_asked_for() -> None:
    assert FOLDING.encode("ANNA ATE THE BREAD") == FOLDING.encode("anna ate the bread")
    assert KEEPING.encode("ANNA ATE THE BREAD") != KEEPING.encode("anna ate the bread")
    assert FOLDING.decode(FOLDING.encode("Straẞe ÄÖ")) == normalised("Straẞe ÄÖ", FOLDING)


def test_known_words_are_pieces_and_others_bytes() -> None:
    assert "".join(FOLDING.pieces(FOLDING.encode("The bread"))) == "▁the▁bread"
    assert len(FOLDING.encode("the bread")) < len("the bread")
    assert FOLDING.pieces(FOLDING.encode("你"))[1:] == ["<0xE4>", "<0xBD>", "<0xA0>"]
    bytes_there = {f"<0x{value:02X}>" for value in range(NUM_BYTE_PIECES)}
    assert bytes_there <= set(FOLDING.pieces(range(FOLDING.vocab_size)))


def test_no_special_token_is_added() -> None:
    assert FOLDING.encode("") == []
    assert FOLDING.encode("a b") == FOLDING.encode("a") + FOLDING.encode("b")
    assert FOLDING.decode([]) == ""


@pytest.mark.parametrize("vocab_size", [-1, 0, 257, MIN_VOCAB_SIZE - 1])
def test_vocabulary_too_small_for_bytes_and_letters_is_refused(vocab_size: int) -> None:
    with pytest.raises(UserError, match=rf"text_vocab_size={vocab_size} is too small.*{MIN_VOCAB_SIZE} or more"):
        fit_text_tokenizer(LINES, vocab_size)


def test_vocabulary_too_small_for_the_letters_says_which_option_to_raise() -> None:
    many_letters = "".join(chr(0x4E00 + offset) for offset in range(400))
    expected = rf"text_vocab_size={MIN_VOCAB_SIZE} is too small for the letters of this text: set it to 658 or more"
    with pytest.raises(UserError, match=expected):
        fit_text_tokenizer([many_letters], MIN_VOCAB_SIZE)
    assert fit_text_tokenizer([many_letters], 659).vocab_size == 659


def test_vocabulary_larger_than_the_text_supports_gets_fewer_pieces() -> None:
    tokenizer = fit_text_tokenizer(["hello world", "hello there"], 32_000)
    assert NUM_BYTE_PIECES < tokenizer.vocab_size < 330
    assert tokenizer.decode(tokenizer.encode("hello 世界")) == "hello 世界"


@pytest.mark.parametrize("line", ["a", "x y", "你好", "0", "a\0b", "e\u0301"])
def test_tiniest_texts_can_be_trained_on(line: str) -> None:
    tokenizer = fit_text_tokenizer([line], 768)
    assert tokenizer.decode(tokenizer.encode(line)) == normalised(line, tokenizer)


def test_vocabulary_that_the_text_supports_is_filled() -> None:
    assert FOLDING.vocab_size == KEEPING.vocab_size == 330


@pytest.mark.parametrize("lines", [[], [""], ["  ", "\n"]])
def test_no_text_is_refused(lines: list[str]) -> None:
    with pytest.raises(UserError, match="no text to train"):
        fit_text_tokenizer(lines, 768)


def test_training_gives_the_same_model_from_the_same_text() -> None:
    assert fit_text_tokenizer(iter(LINES), 330).sha256 == FOLDING.sha256
    assert FOLDING.sha256 == hashlib.sha256(FOLDING.model).hexdigest()
    others = [KEEPING, fit_text_tokenizer(LINES, 331), fit_text_tokenizer([*LINES, "one more line"], 330)]
    assert len({FOLDING.sha256, *(other.sha256 for other in others)}) == 4


def test_long_lines_are_trained_on() -> None:
    """SentencePiece leaves lines of over 4,192 bytes out unless told otherwise."""
    tokenizer = fit_text_tokenizer(["zebra " * 2_000, "a"], 400)
    assert "▁zebra" in tokenizer.pieces(range(tokenizer.vocab_size))


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "text.model"
    FOLDING.save(path)
    loaded = TextTokenizer.load(path)
    assert loaded.sha256 == FOLDING.sha256
    assert loaded.encode(LINES[0]) == FOLDING.encode(LINES[0])
    assert loaded.vocab_size == FOLDING.vocab_size


def test_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing: .*text\.model.*lst prepare"):
        TextTokenizer.load(tmp_path / "text.model")


@pytest.mark.parametrize("content", [b"", b"x", b"no model " * 50, FOLDING.model[: len(FOLDING.model) // 2]])
def test_other_and_damaged_files_are_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.model"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"text\.model is not a SentencePiece model.*lst prepare"):
        TextTokenizer.load(path)


def test_flipped_byte_is_named_or_gives_another_hash(tmp_path: Path) -> None:
    """Among the first pieces; a flip inside a piece makes text that is no UTF-8."""
    path = tmp_path / "text.model"
    outcomes: dict[str, list[int]] = {}
    for place in range(0, 400, 5):
        content = bytearray(FOLDING.model)
        content[place] ^= 0x80
        path.write_bytes(content)
        try:
            outcome = "same hash" if TextTokenizer.load(path).sha256 == FOLDING.sha256 else "another hash"
        except UserError as error:
            outcome = "named" if "text.model is not a SentencePiece model" in str(error) else str(error)
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        outcomes.setdefault(outcome, []).append(place)
    print({outcome: len(places) for outcome, places in outcomes.items()})
    assert outcomes.keys() <= {"another hash", "named"}
