"""The catalogues: every language says everything, with the same values, and nothing that no page uses."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from bulletin import words
from bulletin.words import ENGLISH, LANGUAGES, negotiate

FOLDER = Path(words.__file__).parent
OTHERS = sorted(LANGUAGES.keys() - {words.DEFAULT})


def values_in(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_english_and_french_are_there():
    assert {"en", "fr"} <= set(LANGUAGES)


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_says_everything_that_english_says(language):
    assert LANGUAGES[language].catalogue.keys() == ENGLISH.catalogue.keys()
    assert all(LANGUAGES[language].catalogue.values())


@pytest.mark.parametrize("language", OTHERS)
def test_words_of_a_language_take_the_same_values(language):
    other = LANGUAGES[language].catalogue
    wrong = {
        k for k, text in ENGLISH.catalogue.items() if k != "format.time" and values_in(text) != values_in(other[k])
    }
    assert not wrong


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_is_not_english_again(language):
    same = {key for key, text in ENGLISH.catalogue.items() if LANGUAGES[language].catalogue[key] == text}
    assert len(same) < len(ENGLISH.catalogue) / 20, same


def test_every_key_is_used_by_a_page_and_every_page_finds_its_keys():
    sources = [path.read_text() for path in (*FOLDER.glob("*.py"), *FOLDER.glob("templates/*.html"))]
    whole = "\n".join(sources)
    literal = set(re.findall(r"""["']([a-z][a-zA-Z0-9-]*(?:\.[a-zA-Z0-9-]+)*)["']""", whole))
    # keys that are put together: say("state." ~ …), say(f"fate.{…}"), and those with `.practice` or `.title` behind
    prefixes = {found + "." for found in re.findall(r"""["']([a-z][a-zA-Z.-]*)\.["'] ~""", whole)}
    prefixes |= {found + "." for found in re.findall(r"""f"([a-z]+)\.\{""", whole)} | {
        "find.",
        "receipt.step.",
        "next.",
        "check.",
    }
    known = ENGLISH.catalogue.keys()
    unused = {
        key for key in known
        if key not in literal and not key.startswith(tuple(prefixes)) and not key.endswith((".practice", ".text", ".title"))
    }  # fmt: skip
    assert not unused
    said = set(re.findall(r"""say\(["']([a-z][a-zA-Z0-9.-]*)["'][,)]""", whole))
    assert said <= known, said - known


def test_numbers_times_and_shares_take_the_form_of_the_language():
    french = LANGUAGES["fr"]
    assert (ENGLISH.number(1234567), french.number(1234567)) == ("1,234,567", "1\u202f234\u202f567")
    assert (ENGLISH.share(1, 3), french.share(1, 3)) == ("33.3%", "33,3\xa0%")
    assert ENGLISH.when(1_795_000_000) == "18 November 2026, 11:06:40 UTC"
    assert french.when(1_795_000_000) == "18 novembre 2026 à 11:06:40 UTC"
    assert ENGLISH.when(1_795_000_020) == "18 November 2026, 11:07 UTC"  # a full minute, as times set in advance are
    assert (ENGLISH.delay(7200, 0), french.delay(7200, 0)) == ("in 2 hours", "dans 2 heures")
    assert (ENGLISH.delay(0, 7200), french.delay(0, 7200)) == ("2 hours ago", "il y a 2 heures")
    assert french.say("records.next") == "Inscriptions suivantes"


def test_what_is_not_known_is_a_dash_and_no_time_is_too_late():
    assert ENGLISH.number(None) == ENGLISH.share(1, 0) == ENGLISH.share(1, None) == "–"
    assert "9999" in ENGLISH.when(2**63)
    assert ENGLISH.delay(2**63, 0).startswith("in ")


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("fr-CA,fr;q=0.9,en;q=0.8", "fr"),
        ("en;q=0.2, fr;q=0.9", "fr"),
        ("de, en;q=0.1", "en"),
        ("de", "en"),
        ("fr;q=0", "en"),
        ("", "en"),
        ("fr;q=x, en", "en"),
        ("*", "en"),
        ("../../etc", "en"),
    ],
)
def test_the_browser_chooses_among_our_languages(asked, language):
    assert negotiate(asked) == language
