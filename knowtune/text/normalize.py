"""Text as people write it: what of it shows nothing, when two texts read the same, and how an answer joins its prompt.

Texts are kept as written, with every blank and line break, but for characters that neither show nor mean anything
(`visible`). Whether two texts are the same is asked of their normal form alone (`normal_form`): by `clean`, and
where a tested prompt must not be a trained one.
"""

from __future__ import annotations

import re
import unicodedata

# Scripts that are written without blanks between words, and the marks that are set with them: Thai, Lao, Tibetan,
# Myanmar, Khmer, Javanese, kana, bopomofo, Han, Yi, and full-width forms. Korean writes blanks.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\ua980-\ua9df\uaa60-\uaa7f"
    "\u2e80-\u312f\u3190-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff9f"
    "\U00020000-\U0003ffff"
)
unspaced = re.compile(f"[{_UNSPACED}]")
# What shows nothing: byte-order marks, word joiners, soft hyphens; blanks without width but between letters of scripts
# that part words by them; joiners after an ASCII character, for emoji, Persian and Indic letters are no ASCII.
_hidden = re.compile(
    f"[\ufeff\u2060\u00ad]|(?<![{_UNSPACED}])\u200b|\u200b(?![{_UNSPACED}])|(?:^|(?<=[\x00-\x7f]))[\u200c\u200d]+"
)
_SAME = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032\u00b4\u0060"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-"),
}
# Other forms of a letter that read as it. Not: raised, lowered and circled ones, fractions, letters of formulas.
_FORMS = ("<wide>", "<narrow>", "<noBreak>", "<compat>", "<initial>", "<medial>", "<final>", "<isolated>", "<vertical>")


class _Folding(dict[int, str]):
    """What each character is compared as; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        if unicodedata.category(letter) == "Cf" or 0xFE00 <= code <= 0xFE0F:  # formats and variants show nothing
            same = ""
        elif unicodedata.decomposition(letter).startswith(_FORMS):
            same = unicodedata.normalize("NFKC", letter)
        else:
            same = letter
        self[code] = same
        return same


_folding = _Folding(_SAME)


def visible(text: str) -> str:
    """Leave out what shows nothing and means nothing; everything else stays as written.

    Left out: byte-order marks (U+FEFF), word joiners (U+2060), soft hyphens (U+00AD); zero-width blanks (U+200B) but in
    scripts that part words by them (Khmer, Thai, ...); joiners (U+200C, U+200D) at a text's start or after an ASCII
    character. In emoji, Persian and Indic words joiners stay.
    """
    return text if text.isascii() else _hidden.sub("", text)


def normal_form(text: str) -> str:
    """Give the form by which texts are compared: two texts of one normal form say the same.

    Case, the number and kind of blanks and line breaks, Unicode's composed and decomposed, wide and narrow forms,
    characters without width, and the shapes of quotes and dashes make no difference. Punctuation does, and so do
    accents, and raised and lowered digits.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFD", text.translate(_folding))
        text = unicodedata.normalize("NFC", text.casefold())
    elif "`" in text:
        text = text.replace("`", "'")
    return " ".join(text.lower().split())


def joint(prompt: str, target: str = "") -> str:
    """Say what stands between a prompt that is a plain column and its target: one blank, or nothing.

    Nothing where the prompt ends, or the target begins, with white space of its own; nothing after a prompt whose last
    letter is of a script that is written without blanks (Chinese, Japanese, Thai, ...).
    """
    if not prompt or prompt[-1].isspace() or target[:1].isspace():
        return ""
    if prompt.isascii():
        return " "
    last = next((letter for letter in reversed(prompt) if letter.isalpha() or unspaced.match(letter)), "")
    return "" if unspaced.match(last) else " "
