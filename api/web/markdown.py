"""What people write in Markdown, as HTML that does nothing but show: no markup of theirs, no images, no scripts."""

import re
from functools import cache, lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

TAGS = frozenset(
    {"a", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s"}
    | {"strong", "table", "tbody", "td", "th", "thead", "tr", "ul"}
)
LINK_SCHEMES = frozenset({"http", "https", "mailto"})
LINK_REL = "nofollow noopener"
EMPTY_CELLS_MAX = 1_000
"""Rows of a table that are shorter than its head are filled up to this: twenty kilobytes could ask for millions."""

# A host behind a user's name is not the one that a reader takes it for.
_LINK = re.compile(r"https?://[^/?#\\@]+([/?#][^\\]*)?|mailto:[^\\]+", re.IGNORECASE)


@lru_cache(maxsize=32)
def safe_html(markdown: str) -> str:
    """The text as HTML: CommonMark with tables and strikethrough. HTML in it is shown as text.

    Links lead to other sites or to mail, whole addresses only; images are not shown, since whoever has them would see
    who reads. Markdown-it writes no markup but its own; what it wrote is then held against a list of what may be there.
    """
    import nh3

    return nh3.clean(
        _parser().render(markdown),
        tags=set(TAGS),
        clean_content_tags=set(),
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        attribute_filter=lambda _, name, value: value if name != "href" or _LINK.fullmatch(value) else None,
        url_schemes=set(LINK_SCHEMES),
        url_relative="deny",
        link_rel=LINK_REL,
    )


@cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    vars(import_module("markdown_it.rules_block.table"))["MAX_AUTOCOMPLETED_CELLS"] = EMPTY_CELLS_MAX

    class Parser(MarkdownIt):
        def validateLink(self, url: str) -> bool:
            return _LINK.fullmatch(url) is not None

    parser = Parser("commonmark", {"html": False, "linkify": False, "maxNesting": 20})
    parser.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    return parser
