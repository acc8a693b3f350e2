"""Which key a request shows, whatever else its headers hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.caller import presented_key

KEY = b"br-abc"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([(b"authorization", b"Bearer br-abc")], KEY),
        ([(b"authorization", b"bEaReR   br-abc ")], KEY),
        ([(b"x-br-api-key", b" br-abc ")], KEY),
        ([(b"x-api-key", b"br-abc")], KEY),
        ([(b"authorization", b"Basic YTpi")], None),
        ([(b"authorization", b"Basic YTpi"), (b"x-api-key", KEY)], KEY),
        ([(b"authorization", b"Bearer sk-other"), (b"x-br-api-key", KEY)], KEY),
        ([(b"authorization", b"Bearer sk-other")], b"sk-other"),
        ([(b"x-api-key", b"br-other"), (b"x-br-api-key", KEY)], KEY),
        ([(b"authorization", b"Bearer ")], None),
        ([(b"authorization", b"Bearer br-" + b"x" * 300)], None),
        ([(b"cookie", b"br-abc"), (b"host", b"br-abc")], None),
    ],
)
def test_a_key_is_found_where_it_may_stand(headers: list[tuple[bytes, bytes]], expected: bytes | None) -> None:
    assert presented_key(headers) == expected


NAME = st.sampled_from([b"authorization", b"x-br-api-key", b"x-api-key", b"host"])


@given(st.lists(st.tuples(NAME, st.binary(max_size=300)), max_size=6))
def test_whatever_the_headers_hold_the_answer_is_a_short_key_or_none(headers: list[tuple[bytes, bytes]]) -> None:
    key = presented_key(headers)
    assert key is None or 0 < len(key) <= 200
