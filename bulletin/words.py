"""Everything that the board says to people, in every language: one gettext catalogue each, `locale/LANGUAGE.po`, by key.

A catalogue's msgid is a key, its msgstr the words, in which `{name}` stands for a value. Numbers, times and shares take the form of the language.
Values are escaped where they are put into a page, so a catalogue holds plain text and no markup. Another language is another file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from babel import Locale, negotiate_locale
from babel.dates import format_datetime, format_timedelta
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent

LOCALES = Path(__file__).parent / "locale"

DEFAULT = "en"
"""The language of the API's texts, and of a page for a browser that asks for none of ours."""

LAST_SECOND = 253_402_300_799
"""The end of the year 9999."""


class Words:
    """What the board says in one language, as its catalogue has it. `name` is what the language calls itself."""

    def __init__(self, language: str, catalogue: Mapping[str, str]) -> None:
        self.language, self.catalogue = language, catalogue
        self.locale = Locale.parse(language)
        self.name = str(self.locale.get_language_name(language))
        # "0.0" in the place of the language's last digit: one decimal, in its own form.
        self._share = re.sub(r"0(?=[^0]*$)", "0.0", self.locale.percent_formats[None].pattern)

    def say(self, key: str, **values: Any) -> str:
        """The words of a key with its values. Raises KeyError for a key that there is none of."""
        return self.catalogue[key].format(
            **{name: self.number(value) if isinstance(value, int) else value for name, value in values.items()}
        )

    def number(self, value: int | None) -> str:
        """With thousands separated; a dash for what is not known."""
        return "–" if value is None else format_decimal(value, locale=self.locale)

    def share(self, part: int, whole: int | None) -> str:
        """A percentage with one decimal; a dash where there is nothing to be a part of."""
        return format_percent(part / whole, self._share, locale=self.locale) if whole else "–"

    def when(self, seconds: int) -> str:
        """A time in words, in UTC. A full minute, as times that are set in advance are, has no seconds."""
        form = self.catalogue["format.time"]
        return format_datetime(
            _datetime(seconds), form if seconds % 60 else form.replace(":ss", ""), tzinfo=UTC, locale=self.locale
        )

    def delay(self, to: int, now: int) -> str:
        """From now to a time, roughly: "in 3 hours"."""
        if to == now:
            return self.say("delay.now")
        distance = timedelta(seconds=max(-LAST_SECOND, min(to - now, LAST_SECOND)))
        return format_timedelta(distance, threshold=1, add_direction=True, locale=self.locale)

    def span(self, seconds: int) -> str:
        """A length of time: "15 minutes"."""
        return format_timedelta(timedelta(seconds=seconds), threshold=1, locale=self.locale)


def iso(seconds: int) -> str:
    """A time for machines (HTML's datetime attribute)."""
    return f"{_datetime(seconds):%Y-%m-%dT%H:%M:%SZ}"


def negotiate(accept_language: str) -> str:
    """The language among ours that a browser asks for first (RFC 9110, section 12.5.4), else DEFAULT."""
    asked: list[tuple[float, str]] = []
    for part in accept_language.split(","):
        tag, _, weight = part.partition(";q=")
        try:
            asked.append((-float(weight or 1), tag.strip()))
        except ValueError:
            continue
    wanted = [tag for weight, tag in sorted(asked, key=lambda one: one[0]) if weight < 0]
    return negotiate_locale(wanted, list(LANGUAGES), sep="-") or DEFAULT


def read_catalogue(language: str) -> dict[str, str]:
    """key → words, of the catalogue of a language."""
    with (LOCALES / f"{language}.po").open("rb") as file:
        return {str(message.id): str(message.string) for message in read_po(file, locale=language) if message.id}


def _datetime(seconds: int) -> datetime:
    # A manifest's times go further than a calendar of four-digit years.
    return datetime.fromtimestamp(min(seconds, LAST_SECOND), UTC)


LANGUAGES: dict[str, Words] = {
    path.stem: Words(path.stem, read_catalogue(path.stem)) for path in sorted(LOCALES.glob("*.po"))
}
"""Every language there is a catalogue for."""

ENGLISH = LANGUAGES[DEFAULT]
