"""What a reader makes of a PDF: pdfium, the one in browsers, and qpdf."""

import io

import pikepdf
import pypdfium2


def text_of(pdf: bytes) -> str:
    """The text as it is copied or searched, lines and pages joined by blanks."""
    with pypdfium2.PdfDocument(pdf) as document:
        text = " ".join(page.get_textpage().get_text_range() for page in document)
    return " ".join(text.split())


def pages_of(pdf: bytes) -> list[tuple[int, int]]:
    """Width and height of each page in points."""
    with pypdfium2.PdfDocument(pdf) as document:
        return [(round(page.get_width()), round(page.get_height())) for page in document]


def fonts_of(pdf: bytes) -> set[str]:
    """Names of the fonts that are used, all of which must be inside the file."""
    with pikepdf.open(io.BytesIO(pdf)) as document:
        fonts = [font for page in document.pages for font in page.Resources.Font.values()]
        inner = [font.DescendantFonts[0].FontDescriptor for font in fonts]
        assert all("/FontFile2" in descriptor for descriptor in inner)
        return {str(descriptor.FontFamily) for descriptor in inner}
