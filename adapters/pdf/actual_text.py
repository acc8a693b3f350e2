"""Lets Indic text be copied, searched and read aloud from our PDFs.

WeasyPrint tells readers which letters a glyph stands for, once per glyph of a font. In Indic scripts glyphs are joined,
swapped and shared between syllables, so that a name comes out of the clipboard garbled. PDF's own answer is ActualText
(ISO 32000-1, section 14.9.4): each run of text says in so many letters what it reads. WeasyPrint has no switch for it,
so the one function with which it draws a run is wrapped. The looks stay the same; only what is read changes.
"""

from typing import Any

_MARK = "draws a run of text and says what it reads"
_INDIC = 0x0900


def keep_text_readable() -> None:
    """From now on every run with more than European letters carries its ActualText. Repeating this is harmless."""
    from weasyprint import draw

    if getattr(draw.draw_text, "__doc__", None) == _MARK:
        return
    plain = draw.draw_text

    def draw_text(stream: Any, textbox: Any, *rest: Any) -> None:
        if any(ord(sign) >= _INDIC for sign in textbox.text):
            letters = textbox.text.encode("utf-16-be").hex()
            stream.begin_marked_content("Span", f"<</ActualText <feff{letters}>>>")
            plain(stream, textbox, *rest)
            stream.end_marked_content()
        else:
            plain(stream, textbox, *rest)

    draw_text.__doc__ = _MARK
    draw.draw_text = draw_text
