"""Several places in one option."""

from __future__ import annotations

from pathlib import Path

import pytest

from lst.configs.compose import build_config
from lst.errors import UserError
from lst.storage import joined_places, named_places, place_list_problems


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("/data/read", {"": "/data/read"}),
        ("[/data/read, s3://bucket/talks/]", {"read": "/data/read", "talks": "s3://bucket/talks/"}),
        ("[r=/a/x,t=/b/x.tsv]", {"r": "/a/x", "t": "/b/x.tsv"}),
        (
            "[/a/one/manifest.jsonl,'/b/two/manifest.tsv']",
            {"one": "/a/one/manifest.jsonl", "two": "/b/two/manifest.tsv"},
        ),
        ("[/data/my talks.v2]", {"my_talks": "/data/my talks.v2"}),
    ],
)
def test_places_have_names(text: str, places: dict[str, str]) -> None:
    assert named_places(text) == places
    assert place_list_problems("corpus", text) == []
    assert named_places(joined_places(places)) == places


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "a list of places is needed"),
        ("[read=]", "a list of places is needed"),
        ("[/a/x,/b/x]", "2 places are called x"),
        ("[a=/data/x,b=/data/x/]", "a and b are the same place"),
        ("[a=/data/x,b=/data/x/y]", "b lies in a"),
        ("[a=s3://b/x,b=s3://b/x/y]", "b lies in a"),
        ("[/data/x,simulated]", "simulated is no place"),
        ("[/]", "corpus: /: give each a name of letters"),
        ("[a=/x,/y/данные]", "corpus: /y/данные: give each a name of letters"),
        ("[ä=/x,/y]", "corpus: /x: give each a name of letters"),
    ],
)
def test_lists_that_cannot_be(text: str, said: str) -> None:
    (problem,) = place_list_problems("corpus", text, ("simulated", "none"))
    assert said in problem


def test_a_list_is_an_option_and_may_stand_in_yaml(tmp_path: Path) -> None:
    assert build_config(["corpus=[a=/x,b=/y]"]).corpus == "[a=/x,b=/y]"
    (tmp_path / "mine.yaml").write_text("defaults: [config, _self_]\ncorpus: [a=/x, /y]\n")
    words = [f"--config-dir={tmp_path}", "--config-name=mine"]
    assert named_places(str(build_config(words).corpus)) == {"a": "/x", "y": "/y"}
    with pytest.raises(UserError, match="the same place"):
        build_config(["corpus=[a=/x,b=/x]"])


def test_weights_and_limits_are_given_by_name() -> None:
    config = build_config(["data.sources.weights={read: 2, talks: 0.5}", "data.sources.max_epochs.talks=4"])
    assert config.data.sources.weights == {"read": 2.0, "talks": 0.5}
    assert config.data.sources.max_epochs == {"talks": 4.0}
    with pytest.raises(UserError) as raised:
        build_config(["data.sources.weights={a: 0, b: -1}", "data.sources.max_epochs={a: 0}"])
    assert str(raised.value).count("must be above 0") == 3
