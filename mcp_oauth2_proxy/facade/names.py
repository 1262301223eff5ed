"""Names that strangers chose, made harmless to look at."""

from __future__ import annotations

import unicodedata

#: Characters of a client's name that the consent page shows.
MAX_NAME = 80

#: Controls, formats (bidi overrides, zero width), surrogates, private use and unassigned.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}
_SEPARATORS = {"Zs", "Zl", "Zp"}
#: Scripts whose letters look like those of another one.
_LOOK_ALIKE = {"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "FULLWIDTH", "MATHEMATICAL"}
#: Combining marks in a row that still are a letter; more climb over the neighbouring lines.
_MAX_MARKS = 2


def harmless(name: str, limit: int = MAX_NAME) -> str:
    """Return ``name`` on one line, without control, bidi and invisible characters, at most ``limit`` long.

    What looks like another character stays as it is: the page points out a name that
    :func:`mixes_scripts`, and shows the host beside it, which is ASCII.
    """
    kept: list[str] = []
    marks = 0
    for character in unicodedata.normalize("NFC", name[: limit * 8]):
        category = unicodedata.category(character)
        if category in _SEPARATORS or character in "\t\r\n":
            kept.append(" ")
            continue
        if category in _INVISIBLE:
            continue
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks <= _MAX_MARKS:
            kept.append(character)
    shown = " ".join("".join(kept).split())
    return shown if len(shown) <= limit else shown[: limit - 1].rstrip() + "…"


def mixes_scripts(name: str) -> bool:
    """Return whether a word of ``name`` has letters of scripts that are mistaken for one another.

    Latin, Greek, Cyrillic, Armenian and Cherokee share shapes; a word of an honest name is written in one
    of them (UTS 39 section 5.1). A letter's script is the first word of its Unicode name.
    """
    for word in name.split():
        scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in word if letter.isalpha()}
        if len(scripts & _LOOK_ALIKE) > 1:
            return True
    return False
