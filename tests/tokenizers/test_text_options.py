"""Text pieces beyond the default: unigram, normalising rules, samples of a stream, and existing models as they are."""

from __future__ import annotations

import hashlib
import io
import itertools
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lst.errors import UserError
from lst.tokenizers import text as text_pieces
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.text import (
    TextOptions,
    TextTokenizer,
    build_text_tokenizer,
    fit_text_tokenizer,
    sample_lines,
    unpunctuated_rules,
)

LINES = [
    "Anna ate the warm bread with butter, and the old dog slept all day.",
    "Ben found 12 small keys under the mat; it opened the red door in 1999!",
    "We sang until the sun rose. Rain fell on the green hill - don't you know?",
] * 3
PLAIN = TextOptions(strip_punctuation=True)
STRIPPING = fit_text_tokenizer(LINES, 320, True, PLAIN)


def llama_form() -> bytes:
    """A model in the form of Llama 2's: <unk>, <s>, </s>, 256 bytes; text is not normalised, digits stand alone."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_writer=model,
        model_type="bpe",
        vocab_size=330,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
        allow_whitespace_only_pieces=True,
    )
    return model.getvalue()


LLAMA = llama_form()


def test_unigram_takes_the_likeliest_pieces() -> None:
    """Against all ways to cut a word, by the pieces' own log-probabilities."""
    tokenizer = fit_text_tokenizer(LINES, 330, True, TextOptions("unigram"))
    assert tokenizer.has_bytes
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    scores = {processor.id_to_piece(i): processor.get_score(i) for i in range(tokenizer.vocab_size)}
    for word in ("bread", "anna", "theold"):
        text = f"▁{word}"
        cuts = itertools.chain.from_iterable(itertools.combinations(range(1, len(text)), n) for n in range(len(text)))
        totals = []
        for cut in cuts:
            pieces = [text[a:b] for a, b in itertools.pairwise([0, *cut, len(text)])]
            if all(piece in scores for piece in pieces):
                totals.append(sum(scores[piece] for piece in pieces))
        chosen = sum(scores[piece] for piece in tokenizer.pieces(tokenizer.encode(word)))
        assert chosen == pytest.approx(max(totals), abs=1e-4)
        assert tokenizer.decode(tokenizer.encode(word)) == word


def test_unigram_of_a_small_text_gets_fewer_pieces() -> None:
    tokenizer = fit_text_tokenizer(["hello world", "hello there"], 32_000, True, TextOptions("unigram"))
    assert 256 < tokenizer.vocab_size < 330
    assert tokenizer.decode(tokenizer.encode("hello 世界")) == "hello 世界"


def test_rare_characters_are_bytes_where_coverage_says_so() -> None:
    lines = ["plain words of the plain kind " * 20, "ȝ"]
    whole = fit_text_tokenizer(lines, 320)
    covered = fit_text_tokenizer(lines, 320, True, TextOptions(character_coverage=0.99))
    assert "ȝ" in "".join(whole.pieces(whole.encode("ȝ")))
    assert covered.pieces(covered.encode("ȝ"))[-2:] == ["<0xC8>", "<0x9D>"]
    assert covered.decode(covered.encode("ȝ")) == "ȝ"


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp", "Cn", "Co"), exclude_characters="▁\ufffd"))
)
@example("ＡＢ ﬁ ½ É")
def test_identity_keeps_letters_as_they_are(text: str) -> None:
    tokenizer = IDENTITY
    assert tokenizer.decode(tokenizer.encode(text)) == text


IDENTITY = fit_text_tokenizer(LINES, 330, False, TextOptions(normalization="identity"))


def test_each_digit_is_a_piece_where_asked_for() -> None:
    lines = ["in 1999 and 1999 and 1999 again"] * 20
    together = fit_text_tokenizer(lines, 330)
    apart = fit_text_tokenizer(lines, 330, True, TextOptions(split_digits=True))
    assert any(sum(sign.isdigit() for sign in piece) > 1 for piece in together.pieces(together.encode("in 1999")))
    assert all(sum(sign.isdigit() for sign in piece) < 2 for piece in apart.pieces(apart.encode("in 1999")))
    assert apart.decode(apart.encode("in 1999")) == "in 1999"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("“Anna,” she said: don’t stop!", "anna she said don't stop"),
        ("well-known — or not...", "well known or not"),
        ("Straße, CAFÉ; Cafe\u0301", "strasse café café"),
        ("one\ttwo\nthree\x07", "one two three"),
        ("$5 + 3% @home", "$5 + 3 home"),
        ("¿Qué? 你好。", "qué 你好"),
    ],
)
def test_punctuation_is_left_out_inside_the_model(written: str, expected: str, tmp_path: Path) -> None:
    STRIPPING.save(tmp_path / "text.model")
    loaded = TextTokenizer.load(tmp_path / "text.model")
    assert loaded.decode(loaded.encode(written)) == expected


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(min_codepoint=1, max_codepoint=0x24F, exclude_categories=("Cn",))))
def test_stripping_is_pythons_tables_a_sign_at_a_time(text: str) -> None:
    expected = []
    for sign in text:
        if unicodedata.category(sign) == "Cc" and not sign.isspace():
            continue
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", sign).casefold())
        for part in folded.replace("’", "'"):
            kind = unicodedata.category(part)
            if part.isspace() or kind == "Pd":
                expected.append(" ")
            elif part == "'" or not kind.startswith("P"):
                expected.append(part)
    assert STRIPPING.decode(STRIPPING.encode(text)) == " ".join("".join(expected).split())


def test_where_rules_lay_while_training_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert fit_text_tokenizer(LINES, 320, True, PLAIN).sha256 == STRIPPING.sha256
    assert b"rules.tsv" not in STRIPPING.model


def test_rules_fold_case_only_where_asked_for() -> None:
    folding, keeping = unpunctuated_rules(True), unpunctuated_rules(False)
    assert "\n41\t61\n" in f"\n{folding}"
    assert "\n41\t" not in f"\n{keeping}"
    assert "\n2E\t\n" in f"\n{keeping}"
    assert "\n27\t" not in f"\n{keeping}"


def test_an_existing_model_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "llama.model"
    path.write_bytes(LLAMA)
    tokenizer = build_text_tokenizer(TokenizerConfig(text_model=str(path)), iter(()))
    assert tokenizer.sha256 == hashlib.sha256(LLAMA).hexdigest()
    assert tokenizer.vocab_size == 330
    assert tokenizer.control_ids == [1, 2]
    assert tokenizer.has_bytes
    # Neither case nor width is changed, though lowercase is the default of what is trained here.
    for text in ("Anna ATE ﬁ Ａ", "  two  spaces ", "1999 你好", "A\nB\tC"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    tokenizer.save(tmp_path / "copy.model")
    assert (tmp_path / "copy.model").read_bytes() == LLAMA


@settings(max_examples=100, deadline=None)
@given(st.text() | st.lists(st.sampled_from(["<s>", "</s>", "<unk>", "<0x41>", " ", "a"])).map("".join))
def test_control_pieces_never_come_out_of_text(text: str) -> None:
    tokenizer = TextTokenizer(LLAMA)
    ids = tokenizer.encode(text)
    assert not set(ids) & {0, 1, 2}
    assert tokenizer.decode([1, *ids, 2]) == tokenizer.decode(ids)
    if "▁" not in text and "\ufffd" not in text and "\0" not in text:
        assert tokenizer.decode(ids) == text


def test_a_model_without_bytes_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=model, vocab_size=60, minloglevel=2, num_threads=1
    )
    path = tmp_path / "t5.model"
    path.write_bytes(model.getvalue())
    tokenizer = build_text_tokenizer(TokenizerConfig(text_model=str(path)), iter(()))
    assert not tokenizer.has_bytes
    assert "t5.model has no byte pieces" in capsys.readouterr().err


def test_a_missing_model_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing: .*none\.model.*tokenizer\.text_model=PATH"):
        build_text_tokenizer(TokenizerConfig(text_model=str(tmp_path / "none.model")), iter(()))


def test_options_reach_the_training() -> None:
    config = TokenizerConfig(text_vocab_size=320, strip_punctuation=True)
    assert build_text_tokenizer(config, LINES).sha256 == STRIPPING.sha256
    config = TokenizerConfig(text_vocab_size=330, lowercase=False, normalization="identity")
    assert build_text_tokenizer(config, LINES).sha256 == IDENTITY.sha256


@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 2**31))
def test_sample_of_lines_keeps_order_and_size(count: int, max_lines: int, seed: int) -> None:
    lines = [str(number) for number in range(count)]
    kept = list(sample_lines(iter(lines), max_lines, seed))
    assert len(kept) == min(count, max_lines)
    assert kept == sorted(kept, key=int)
    assert len(set(kept)) == len(kept)
    assert kept == list(sample_lines(iter(lines), max_lines, seed))


@pytest.mark.parametrize("normalization", ["nmt_nfkc", "identity"])
def test_counted_words_give_the_pieces_of_the_lines(monkeypatch: pytest.MonkeyPatch, normalization: str) -> None:
    words = [
        "Hello",
        "na\u00efve",
        "Stra\u00dfe",
        "the",
        "\ufb01ne",
        "a\u3000b",
        "x\u200by",
        "e\u0301t",
        "\u00bd",
        "12",
        "\u4e2d",
    ]
    draw = np.random.default_rng(0)
    lines = [*(" ".join(draw.choice(words, 9)) for _ in range(60)), "  double  space ", "a trailing one "]
    options = TextOptions(normalization=normalization)
    counted = fit_text_tokenizer(lines, 330, options=options).model
    # A tab is a sign of its own to the trainer: such texts are handed over as they are.
    assert text_pieces._counted_words(["a\tb c"]) is None
    monkeypatch.setattr(text_pieces, "_counted_words", lambda texts: None)
    assert fit_text_tokenizer(lines, 330, options=options).model == counted


def test_sample_of_lines_is_uniform() -> None:
    counts = np.zeros(30)
    for seed in range(900):
        counts[[int(line) for line in sample_lines(map(str, range(30)), 10, seed)]] += 1
    assert np.abs(counts - 300).max() < 5 * np.sqrt(900 * 2 / 9)


def test_a_stream_is_held_in_part_only() -> None:
    """No more lines than asked for are alive at once."""
    alive = 0
    most = 0

    class Line(str):
        def __new__(cls, text: str) -> Line:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return super().__new__(cls, text)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def stream() -> Iterator[str]:
        for number in range(5_000):
            yield Line(f"line {number}")

    kept = sample_lines(stream(), 50, seed=0)
    assert len(kept) == 50
    assert most <= 55
