"""Phoneme labels from text: the reference's rules, label files, and what is said when g2p_en cannot be used."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from search_spaces.errors import InputError
from trainable.data.labels import clean_text, is_held_out, labeller, phoneme_ids
from trainable.data.packed import Unusable
from trainable.data.phonemes import CLASSES

# What g2p_en returns: phonemes with stress, ' ' between words, and an apostrophe at a word's end as a word of its own.
SAYS = {
    "hello": ["HH", "AH0", "L", "OW1"],
    "the boys'": ["DH", "AH0", " ", "B", "OY1", "Z", " ", "'"],
    "it's half-done now": ["IH1", "T", "S", " ", "HH", "AE1", "F", " ", "D", "AH1", "N", " ", "N", "AW1"],
    "odd": ["AA1", "QQ"],
}


@pytest.fixture
def g2p(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A g2p_en that says `SAYS`; g2p(make=..., call=...) gives its parts an error. Returns the texts it was asked."""

    def install(make: Exception | None = None, call: Exception | None = None) -> list[str]:
        asked: list[str] = []

        class G2p:
            def __init__(self) -> None:
                if make:
                    raise make

            def __call__(self, text: str) -> list[str]:
                if call:
                    raise call
                asked.append(text)
                return SAYS.get(text, ["T", "EH1", "S", "T"])

        module = ModuleType("g2p_en")
        module.G2p = G2p  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "g2p_en", module)
        return asked

    return install


def names(ids: list[int]) -> str:
    return " ".join(CLASSES[number] for number in ids)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Hello, world.   ", "hello world"),
        ("it's half-done; 'now'?", "it's half-done 'now'"),
        ("Well -- go", "well  go"),
        ("a---b", "a-b"),
        ("Line\ttwo\n3", "linetwo"),
    ],
)
def test_texts_are_cleaned_as_the_reference_does(text: str, cleaned: str) -> None:
    """Letters, hyphens, apostrophes and blanks stay; double hyphens go; all is lower case."""
    assert clean_text(text) == cleaned


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello.", "HH AH L OW SIL"),
        ("The boys'", "DH AH SIL B OY Z SIL SIL"),
        ("It's half-done now!", "IH T S SIL HH AE F SIL D AH N SIL N AW SIL"),
    ],
)
def test_labels_are_those_of_the_reference(g2p: Callable[..., list[str]], text: str, expected: str) -> None:
    """A blank is SIL, stress goes, one SIL ends the sentence, and an apostrophe at the end leaves two."""
    g2p()
    assert names(labeller()(text)) == expected


@pytest.mark.parametrize(("text", "sign"), [("café", "é"), ("room 101", "1"), ("你好", "你")])
def test_a_text_that_cannot_be_pronounced_is_refused(g2p: Callable[..., list[str]], text: str, sign: str) -> None:
    """A letter or digit that would be dropped would leave a wrong label, so there is none."""
    g2p()
    with pytest.raises(Unusable, match=repr(sign)):
        labeller()(text)


def test_a_text_without_words_or_with_a_new_phoneme_is_refused(g2p: Callable[..., list[str]]) -> None:
    """Punctuation alone says nothing; what g2p_en says must be one of the classes."""
    g2p()
    label = labeller()
    for text in ("", " ... ", "-", "'"):
        with pytest.raises(Unusable, match="nothing to pronounce"):
            label(text)
    with pytest.raises(Unusable, match="'QQ', which is no phoneme"):
        label("odd")


def test_a_text_is_pronounced_once(g2p: Callable[..., list[str]]) -> None:
    """The same sentence in another session is not looked up again."""
    asked = g2p()
    label = labeller()
    assert label("Hello.") == label("Hello.")
    assert asked == ["a test", "hello"]


def test_without_g2p_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line: the extra, or a label file."""
    monkeypatch.setitem(sys.modules, "g2p_en", None)
    with pytest.raises(InputError) as raised:
        labeller()
    [line] = raised.value.problems
    assert "pip install '.[g2p]' in the checkout" in line
    assert "--labels FILE" in line


@pytest.mark.parametrize("when", ["make", "call"])
@pytest.mark.parametrize(
    "named", ["averaged_perceptron_tagger", "'averaged_perceptron_tagger'", "\x1b[93mcmudict\x1b[0m"]
)
def test_without_its_data_the_line_says_how_to_get_them(g2p: Callable[..., list[str]], when: str, named: str) -> None:
    """NLTK's data may be missed when g2p_en is made or when it is first used; its page of text becomes one line."""
    g2p(**{when: LookupError("*" * 70 + f"\n  Resource {named} not found.\n")})
    with pytest.raises(InputError) as raised:
        labeller()
    [line] = raised.value.problems
    assert "\n" not in line and "\x1b" not in line
    assert f"g2p_en lacks NLTK's {'cmudict' if 'cmudict' in named else 'averaged_perceptron_tagger'}; run" in line
    assert "python -m nltk.downloader averaged_perceptron_tagger" in line


def test_a_module_that_g2p_en_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """g2p_en is there and what it imports is not: the line does not say that g2p_en is not installed."""
    (tmp_path / "g2p_en.py").write_text("import no_such_module_of_ours\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "g2p_en", raising=False)
    with pytest.raises(InputError) as raised:
        labeller()
    [line] = raised.value.problems
    assert "installed but cannot be imported (No module named 'no_such_module_of_ours')" in line
    assert "not installed" not in line
    assert "--labels FILE" in line


@pytest.mark.parametrize("cut", [0, 40, -30])
def test_a_damaged_file_of_nltk_is_named(
    g2p: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cut: int
) -> None:
    """A download that was cut off, or holds other bytes: the file to remove, and how to get it again."""
    g2p(make=zipfile.BadZipFile("File is not a zip file"))
    data = ModuleType("nltk.data")
    data.path = [str(tmp_path / "nowhere"), str(tmp_path)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nltk", ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.data", data)
    for folder, name in (("taggers", "averaged_perceptron_tagger"), ("corpora", "cmudict")):
        (tmp_path / folder).mkdir()
        with zipfile.ZipFile(tmp_path / folder / f"{name}.zip", "w") as whole:
            whole.writestr("content", "AH0 " * 200)
    bad = tmp_path / "corpora" / "cmudict.zip"
    bad.write_bytes(bad.read_bytes()[:cut])
    with pytest.raises(InputError) as raised:
        labeller()
    [line] = raised.value.problems
    assert f"{bad} is damaged or cut short; remove it and run python -m nltk.downloader" in line


def write(folder: Path, suffix: str, rows: list[tuple[Any, Any]]) -> Path:
    file = folder / f"labels{suffix}"
    if suffix == ".csv":
        file.write_text("text,phonemes\n" + "".join(f'"{text}",{phonemes}\n' for text, phonemes in rows))
    else:
        file.write_text("".join(json.dumps({"text": t, "phonemes": p}) + "\n" for t, p in rows))
    return file


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_label_file_gives_its_phonemes(tmp_path: Path, suffix: str) -> None:
    """Texts are compared after cleaning; phonemes are taken as they stand, stress or not."""
    file = write(tmp_path, suffix, [("Hello, world.", "HH AH0 L OW1 SIL W ER1 L D"), ("no", "N OW")])
    label = labeller(file)
    assert names(label("hello world")) == "HH AH L OW SIL W ER L D"
    assert names(label("No!")) == "N OW"
    with pytest.raises(Unusable, match="text 'yes' is not in"):
        label("yes")


def test_phonemes_in_json_may_be_a_list(tmp_path: Path) -> None:
    """As tools that write JSON have them."""
    assert names(labeller(write(tmp_path, ".jsonl", [("no", ["N", "OW1"])]))("no")) == "N OW"


def test_every_problem_of_a_label_file_is_shown_at_once(tmp_path: Path) -> None:
    """Unknown phonemes, none at all, and two pronunciations of a text, each with its line."""
    rows = [("no", "N OW"), ("bad", "B XX D"), ("none", ""), ("No.", "N AO"), ("no", "N OW1")]
    with pytest.raises(InputError) as raised:
        labeller(write(tmp_path, ".csv", rows))
    lines = raised.value.problems
    assert [line.split(": ")[1] for line in lines] == ["line 3", "line 4", "line 5"]
    for line, says in zip(lines, ("'XX' is not an ARPABET phoneme", "no phonemes", "other phonemes"), strict=True):
        assert says in line


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "a.csv",
            "sentence,phones\nno,N OW\n",
            "columns sentence, phones; give CSV, TSV or JSON",
        ),
        ("a.csv", "", "no labels in it"),
        ("a.csv", "text,phonemes\n", "no labels in it"),
        ("a.csv", b"\xff\xfe\x00text", "cannot be read"),
        ("a.jsonl", "{not json}\n", "cannot be read"),
        ("a.jsonl", '["no", "N OW"]\n', "cannot be read"),
        ("a.jsonl", '{"text": "no"}\n', "columns text; give CSV, TSV or JSON"),
        ("a.csv", "text,phonemes\nno\n", "cannot be read"),
    ],
)
def test_a_file_that_holds_no_labels_is_one_line(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    """It is named, with what is wanted."""
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as raised:
        labeller(file)
    [line] = raised.value.problems
    assert line.startswith(f"{file}: ")
    assert says in line


def test_a_missing_label_file_is_one_line(tmp_path: Path) -> None:
    """Its path, and that it is not there."""
    with pytest.raises(InputError, match=r"nowhere.csv: cannot be read \(No such file"):
        labeller(tmp_path / "nowhere.csv")


def test_held_out_is_recognised_however_it_is_written() -> None:
    """With capitals, a full stop or padding; no other text is taken for it."""
    assert all(is_held_out(text) for text in ("held out", "Held out.", "held out    "))
    assert not any(is_held_out(text) for text in ("", "he held out his hand", "heldout"))


def test_every_class_has_its_name() -> None:
    """Names give the class ids of the data folder, with and without stress, in any case."""
    assert phoneme_ids(list(CLASSES[1:])) == list(range(1, 41))
    assert phoneme_ids("ah0 AH1 Ah2") == [3, 3, 3]
    with pytest.raises(Unusable, match="<blank>"):
        phoneme_ids("<blank>")
