"""Alignment of other languages than English: phones by eSpeak NG, romanised labels of CTC models, given times."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio import pipelines
from torchaudio.models import wav2vec2_model

from lst.data.alignment.aligner import AlignItem, AlignmentError, ScoreScale
from lst.data.alignment.build import build_aligner
from lst.data.alignment.ctc.foreign_labels import ForeignLabelMap, is_romanised
from lst.data.alignment.ctc.labels import CharacterGroup, CtcWord
from lst.data.alignment.ctc.model import load_ctc_model, save_ctc_model
from lst.data.alignment.hmm import PhoneAligner, PocketsphinxAligner
from lst.data.alignment.known_languages import language_problems
from lst.data.alignment.outliers import without_outliers
from lst.data.alignment.words import word_key
from lst.data.config import AlignConfig, DataConfig
from lst.data.corpora import ManifestRow
from lst.data.prepare.gather import gather_source
from lst.data.prepare.utterances import check_aligner
from lst.data.text import romanised, spaced
from lst.data.utterance import Utterance, Word
from lst.errors import UserError
from tests.data.conftest import options

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
LABELS = ("-", "|", *"abcdefghijklmnopqrstuvwxyz", "'")
CONVOLUTIONS = [(8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 2, 2), (8, 2, 2)]
Speak = Callable[[str, str], np.ndarray]


@pytest.fixture(scope="module")
def speak(tmp_path_factory: pytest.TempPathFactory) -> Speak:
    """Says a text by a voice of eSpeak NG: float32 at 16 kHz."""
    folder = tmp_path_factory.mktemp("speech")

    def say(text: str, voice: str) -> np.ndarray:
        file = folder / "said.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-w", file, "--stdin"], input=text.encode(), check=True)
        sound, rate_hz = soundfile.read(file, dtype="float32")
        places = np.arange(0, len(sound), rate_hz / 16_000)
        return np.interp(places, np.arange(len(sound)), sound).astype(np.float32)

    return say


@pytest.fixture(scope="module")
def pocketsphinx() -> PocketsphinxAligner:
    return PocketsphinxAligner()


@pytest.fixture(scope="module")
def ctc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CTC model with random weights and the letters of MMS_FA."""
    torch.manual_seed(0)
    architecture = {
        "extractor_mode": "layer_norm",
        "extractor_conv_layer_config": CONVOLUTIONS,
        "extractor_conv_bias": True,
        "encoder_embed_dim": 8,
        "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": 8,
        "encoder_pos_conv_groups": 2,
        "encoder_num_layers": 1,
        "encoder_num_heads": 2,
        "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_features": 16,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.0,
        "encoder_layer_norm_first": True,
        "encoder_layer_drop": 0.0,
        "aux_num_out": len(LABELS),
    }
    folder = tmp_path_factory.mktemp("ctc")
    save_ctc_model(folder, wav2vec2_model(**architecture).eval(), architecture, LABELS)
    return folder


def check_tiles(words: tuple[Word, ...], text: str, num_frames: int) -> None:
    """Words are in order, within the frames, and have the text's pieces."""
    assert " ".join(word.text for word in words) == " ".join(text.split())
    places = [place for word in words for place in (word.start_frame, word.end_frame)]
    assert places == sorted(places)
    assert places[-1] <= num_frames
    units = np.zeros(num_frames, np.uint16)
    segments = Utterance("u", "", text, 1.0, units, words).segments()
    assert [0, *(segment.end_frame for segment in segments)] == [
        *(segment.start_frame for segment in segments),
        num_frames,
    ]


@needs_espeak
@pytest.mark.parametrize(
    ("language", "voice", "text"),
    [
        ("de", "de+f2", "Meine Schwester liest am 3. Mai ein spannendes Buch."),
        ("fr", "fr-fr+f2", "Aujourd’hui, ma sœur lit un bon livre."),
    ],
)
def test_phones_of_espeak_find_the_words(
    language: str, voice: str, text: str, speak: Speak, pocketsphinx: PocketsphinxAligner
) -> None:
    sound = speak(text, voice)
    num_frames = len(sound) // 640
    (found,) = pocketsphinx.align_many([AlignItem(sound, text, num_frames, language=language)], 25)
    assert not isinstance(found, AlignmentError)
    check_tiles(found, text, num_frames)
    assert not any(word.is_unaligned for word in found)
    # Each half of the text is found where it is said when said alone.
    half = len(text.split()) // 2
    start = speak(" ".join(text.split()[:half]), voice)
    assert abs(found[half - 1].end_frame - len(start) / 640) < 12


@needs_espeak
def test_german_words_are_not_those_of_the_english_dictionary(speak: Speak, pocketsphinx: PocketsphinxAligner) -> None:
    item = AlignItem(speak("die Hand war alt", "de+f2"), "die Hand war alt", 60, language="de")
    assert not isinstance(pocketsphinx.align_many([item], 25)[0], AlignmentError)
    english = pocketsphinx.decoder.lookup_word("die")
    assert english == "D AY"
    assert pocketsphinx.decoder.lookup_word("de:die") is None, "the decoder of English has no other words"


@needs_espeak
def test_the_phone_aligner_takes_other_languages(speak: Speak) -> None:
    phones = PhoneAligner().phones(
        speak("Meine Schwester liest ein Buch", "de+f2"), "Meine Schwester liest ein Buch", "de"
    )
    assert len(set(phones.tolist())) > 10


def test_labels_are_romanised_and_cover_every_character() -> None:
    pytest.importorskip("uroman", reason="the extra uroman is not installed")
    for language, text, wanted in [
        ("ru", "«Привет», мир!", ["privet", "mir"]),
        ("zh", spaced("我有3个，三！", "zh"), ["wo", "you", "*", "ge", "san"]),
        ("de", "Für 2 Straßen", ["fuer", "zwei", "strassen"]),
        ("fr", "l’eau ‘ici’ œuvre", ["l'eau", "ici", "oeuvre"]),
        ("hi", "नमस्ते दुनिया", ["namaste", "duniyaa"]),
        ("he", "שלום", ["shlvm"]),
        ("qaa", "дом", ["dom"]),
    ]:
        words = ForeignLabelMap(LABELS, 0, language).words(text)
        names = [*LABELS, "*"]
        assert ["".join(names[label] for label in word.label_ids) for word in words] == wanted
        for word in words:
            assert sum(group.num_characters for group in word.groups) == len(word.text.replace(" ", ""))
    assert sum(part.num_characters for part in romanised("объект", "ru")) == 6


def test_a_dictionary_with_letters_of_its_own_is_taken_as_it_is() -> None:
    labels = ("<pad>", "|", *"абвгдеж", "ı", "i", "2")
    assert is_romanised(LABELS)
    assert not is_romanised(labels)
    russian, turkish = ForeignLabelMap(labels, 0, "ru"), ForeignLabelMap(labels, 0, "tr")
    assert russian.words("БЕГ 2")[0] == CtcWord(
        "БЕГ", (CharacterGroup(1, (3,)), CharacterGroup(1, (7,)), CharacterGroup(1, (5,)))
    )
    assert russian.words("БЕГ 2")[1].label_ids == [11]
    assert turkish.words("Iİ")[0].label_ids == [9, 10]
    assert russian.words("33")[0].label_ids == [len(labels)], "any sound"


@pytest.mark.parametrize(
    ("language", "text"),
    [("ru", "Привет, мир! Это дом."), ("zh", "我有三个苹果。"), ("ja", "お茶を飲む"), ("ar", "مرحبا بالعالم")],
)
def test_a_ctc_model_aligns_any_script(language: str, text: str, ctc_folder: Path) -> None:
    pytest.importorskip("uroman", reason="the extra uroman is not installed")
    config = AlignConfig(method="ctc", checkpoint=str(ctc_folder), level="character", min_score=-100.0)
    aligner = build_aligner(config)
    sound = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    text = spaced(text, language)
    (found,) = aligner.aligner.align_many([AlignItem(sound, text, 75, language=language)], 25)
    assert not isinstance(found, AlignmentError)
    check_tiles(found, text, 75)
    for word in found:
        assert not word.character_ends or len(word.character_ends) == len(word.text.replace(" ", ""))


def test_english_and_other_rows_each_go_by_their_language(ctc_folder: Path) -> None:
    pytest.importorskip("uroman", reason="the extra uroman is not installed")
    aligner = build_aligner(AlignConfig(method="ctc", checkpoint=str(ctc_folder), min_score=-100.0)).aligner
    sound = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    text = "the 2 dogs"
    alone = aligner.align_many([AlignItem(sound, text, 75)], 25)
    mixed = aligner.align_many([AlignItem(sound, "два пса", 75, language="ru"), AlignItem(sound, text, 75)], 25)
    assert mixed[1] == alone[0]
    assert [word.text for word in mixed[0]] == ["два", "пса"]  # type: ignore[union-attr]


def test_missing_romaniser_and_weights_are_told_before_work(
    ctc_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [ManifestRow("u", "u.wav", "привет", language="ru")]
    config = DataConfig(align=AlignConfig(method="ctc", checkpoint=str(ctc_folder)))
    monkeypatch.setattr(
        "lst.data.text.romanise.import_or_explain", lambda *told: (_ for _ in ()).throw(UserError(" ".join(told)))
    )
    monkeypatch.setattr("lst.data.prepare.utterances.romaniser", _romaniser_of_another_process)
    with pytest.raises(UserError, match=r"romaniser.*pip install 'latent-speech-text\[uroman\]'"):
        check_aligner(config, rows)
    # Nor is a long recording listened to first.
    soundfile.write(tmp_path / "u.wav", np.zeros(32_000, np.float32), 16_000)
    (tmp_path / "manifest.jsonl").write_text('{"path": "u.wav", "text": "two", "language": "ru"}\n')
    with pytest.raises(UserError, match="the romaniser"):
        gather_source(options(tmp_path, align=config.align, cut_above_s=1.0, vad="energy"))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", _no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"the weights of MMS_FA are not there.*Download https.*put it at .*MMS_FA.pt"):
        load_ctc_model("MMS_FA")
    assert is_romanised(pipelines.MMS_FA.get_labels(star=None))


def _romaniser_of_another_process() -> object:
    from lst.data.text.romanise import romaniser

    return romaniser.__wrapped__()


def _no_network(*arguments: object, **named: object) -> None:
    raise OSError("no network")


def test_languages_that_the_aligner_does_not_know_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lst.data.alignment.known_languages.espeak_problem", lambda code: "" if code == "de" else "none"
    )
    languages = {"de": 1, "so": 2}
    assert language_problems(AlignConfig(method="ctc", checkpoint="X"), languages, 4) == []
    (told,) = language_problems(AlignConfig(), languages, 4)
    assert told.startswith("2 of 4 transcripts are in Somali: none. Use data.align.method=ctc")
    assert "data.align.checkpoint=MMS_FA" in told


def test_imported_alignments_fit_any_script(tmp_path: Path) -> None:
    grid = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 2\ntiers? <exists>\n'
        "size = 1\nitem []:\n"
        '    item [1]:\n        class = "IntervalTier"\n        name = "words"\n        xmin = 0\n        xmax = 2\n'
        "        intervals: size = 3\n"
    )
    for number, (start, end, text) in enumerate([(0, 0.4, ""), (0.4, 1.0, "привет"), (1.0, 2.0, "мир")], 1):
        grid += f"        intervals [{number}]:\n            xmin = {start}\n            xmax = {end}\n"
        grid += f'            text = "{text}"\n'
    (tmp_path / "u1.TextGrid").write_text(grid, encoding="utf-8")
    aligner = build_aligner(AlignConfig(method="import", source=str(tmp_path)))
    sound = np.zeros(32_000, np.float32)
    (found,) = aligner.align_many([AlignItem(sound, "Привет, МИР!", 50, "u1", language="ru")], 25)
    assert found == (Word("Привет,", 10, 25, 0.0), Word("МИР!", 25, 50, 0.0))


def test_times_of_chinese_words_are_shared_by_their_characters(tmp_path: Path) -> None:
    (tmp_path / "all.ctm").write_text("u1 1 0.0 1.0 学生\nu1 1 1.0 0.5 好\n", encoding="utf-8")
    aligner = build_aligner(AlignConfig(method="import", source=str(tmp_path)))
    (found,) = aligner.align_many([AlignItem(np.zeros(32_000, np.float32), "学 生 好。", 50, "u1", language="zh")], 25)
    assert [tuple(word[:3]) for word in found] == [("学", 0, 12), ("生", 12, 25), ("好。", 25, 38)]  # type: ignore[union-attr]


def test_keys_of_words_agree_between_spellings() -> None:
    assert word_key("STRASSE") == word_key("Straße") == "strasse"
    assert word_key("Été") == word_key("É" + "té")
    assert word_key("ISPARTA") == word_key("ısparta")
    assert word_key("Мир!") == "мир"


def test_scores_are_compared_within_a_language() -> None:
    def utterance(score: float) -> Utterance:
        return Utterance("u", "", "a", 1.0, np.zeros(9, np.uint16), (Word("a", 0, 9, score),))

    scale = ScoreScale(lowest=-30.0, least_spread=2.0, lowest_foreign=-55.0)
    found = [*(utterance(-10.0) for _ in range(25)), *(utterance(-45.0) for _ in range(25))]
    assert without_outliers(found, scale, [""] * 25 + ["de"] * 25) == found
    assert not all(isinstance(one, Utterance) for one in without_outliers([*found[:26]], scale, [""] * 26))
    assert (scale.lowest_of(""), scale.lowest_of("de")) == (-30.0, -55.0)
