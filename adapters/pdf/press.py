"""Turns a page of HTML into a PDF that can be archived: WeasyPrint, with our fonts and nothing from outside.

Loading WeasyPrint and the fonts takes a second or two and 100 MB, once per process: it belongs in a worker.
"""

import atexit
import io
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from adapters.pdf.actual_text import keep_text_readable
from adapters.pdf.ready import require_libraries
from domain.kernel.clock import to_datetime

FONTS = Path(__file__).parent / "fonts"
VARIANT = "pdf/a-3a"
_PACKAGED = "package:"
_DRAWING = threading.Lock()  # Pango's fonts are not made for threads


@dataclass(frozen=True, slots=True)
class Enclosure:
    """A file inside the PDF, for machines."""

    name: str
    data: bytes
    description: str


def press(
    page: Callable[[str], str], *, letters: str, enclosed: Enclosure, at: int, sizes_pt: Sequence[float] = (9,)
) -> bytes:
    """The page as PDF/A-3, made at the moment `at` for all anyone can tell: the same input gives the same bytes, given
    the same releases of WeasyPrint and Pango.

    `page` puts the CSS that it is given after its own and gives the HTML; that CSS has the fonts for all `letters`, as
    the value `--fonts`, and the root's font size. Of several `sizes_pt` the first is taken that fits on one sheet.
    Raises Unavailable `pdf_unavailable` where the system lacks WeasyPrint's libraries.
    """
    require_libraries()
    with _DRAWING, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # WeasyPrint leaves a file to the garbage collector
        return _draw(page, letters=letters, enclosed=enclosed, at=at, sizes_pt=sizes_pt)


def _draw(
    page: Callable[[str], str], *, letters: str, enclosed: Enclosure, at: int, sizes_pt: Sequence[float]
) -> bytes:
    engine = _engine()
    faces = _font_faces(letters)
    for size in sizes_pt:
        html = engine.HTML(string=page(f"{faces}html {{ font-size: {size}pt }}"), url_fetcher=engine.fetcher)
        drawn = html.render(font_config=engine.fonts, pdf_variant=VARIANT)
        if len(drawn.pages) == 1:
            break
    attachment = engine.Attachment(
        file_obj=io.BytesIO(enclosed.data),
        name=enclosed.name,
        description=enclosed.description,
        created=to_datetime(at),
        modified=to_datetime(at),
        relationship="Data",
    )
    pdf: bytes = drawn.write_pdf(pdf_variant=VARIANT, attachments=[attachment], finisher=_name_once)
    return pdf


def _name_once(_: Any, pdf: Any) -> None:
    """WeasyPrint lists an enclosed file twice among the associated ones."""
    pdf.catalog["AF"][:] = dict.fromkeys(pdf.catalog["AF"])


@dataclass(frozen=True, slots=True)
class _Engine:
    HTML: Any
    Attachment: Any
    fonts: Any
    fetcher: Any
    cache_folder: tempfile.TemporaryDirectory[str] | None


@cache
def _engine() -> _Engine:
    """WeasyPrint, loaded once per process, with a fetcher that knows our fonts and nothing else."""
    cache_folder = _quiet_fontconfig()
    import weasyprint
    from weasyprint.text.fonts import FontConfiguration
    from weasyprint.urls import URLFetcher, URLFetcherResponse

    files = {f"{_PACKAGED}{file}": FONTS / file for script in scripts() for file in script.files.values()}

    class PackagedFonts(URLFetcher):  # type: ignore[misc]
        def fetch(self, url: str, headers: object = None) -> Any:
            if url not in files:
                raise ValueError(f"a document may not ask for {url}")
            return URLFetcherResponse(url, files[url].read_bytes())

    keep_text_readable()
    atexit.register(_engine.cache_clear)  # the fonts' files are removed while Python still can
    return _Engine(weasyprint.HTML, weasyprint.Attachment, FontConfiguration(), PackagedFonts(), cache_folder)


def _quiet_fontconfig() -> tempfile.TemporaryDirectory[str] | None:
    """Fontconfig complains for every font unless it may keep a cache somewhere. Where the home is closed to us, it is
    given a folder that lives as long as the process."""
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    there = next(folder for folder in (own, *own.parents) if folder.exists())
    if os.access(there, os.W_OK) or os.access("/var/cache/fontconfig", os.W_OK):
        return None
    folder = tempfile.TemporaryDirectory(prefix="bharatrouter-fonts-")
    os.environ["XDG_CACHE_HOME"] = folder.name
    return folder


# Fonts


class Script(msgspec.Struct, frozen=True):
    """One entry of `fonts.toml`: a script in two weights, and the characters that its files are asked for."""

    name: str
    package: str
    version: str
    unicode: tuple[str, ...]
    regular_sha256: str
    semibold_sha256: str

    @property
    def files(self) -> Mapping[int, str]:
        """File names by CSS weight."""
        return {400: f"noto-sans-{self.name}-regular.woff2", 600: f"noto-sans-{self.name}-semibold.woff2"}

    def is_in(self, text: str) -> bool:
        bounds = [part.removeprefix("U+").split("-") for part in self.unicode]
        ranges = [(int(bound[0], 16), int(bound[-1], 16)) for bound in bounds]
        return any(first <= ord(letter) <= last for letter in set(text) for first, last in ranges)


@cache
def scripts() -> tuple[Script, ...]:
    """Every script that documents can be written in, in the order in which a letter is looked for."""
    return msgspec.toml.decode((FONTS / "fonts.toml").read_bytes(), type=dict[str, tuple[Script, ...]])["script"]


def _font_faces(letters: str) -> str:
    """The fonts that the letters need: loading all of them would take longer than the rest of the page."""
    needed = [script for script in scripts() if script.name.startswith("latin") or script.is_in(letters)]
    faces = [
        f'@font-face {{ font-family: "{script.name}"; font-weight: {weight}; src: url("{_PACKAGED}{file}") }}\n'
        for script in needed
        for weight, file in script.files.items()
    ]
    families = ", ".join(f'"{script.name}"' for script in needed)
    return f"{''.join(faces)}html {{ --fonts: {families} }}\n"
