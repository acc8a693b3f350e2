"""What is sent, and the signature that is on it."""

import base64
from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from domain.kernel.clock import SECOND
from domain.webhooks.deliveries import GAPS_SECONDS, body_of, delivery_id, headers_of, make_secret, problem_of

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""Of the examples that the libraries of Standard Webhooks are tested with."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_the_published_example_has_the_published_signature() -> None:
    headers = headers_of(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', secrets=[SECRET], at=1_614_265_330 * SECOND
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(
    data=st.dictionaries(st.text(), JSON, max_size=4),
    entropy=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=2),
    at=st.integers(0, 4_000_000_000 * SECOND),
)
def test_whatever_is_told_the_library_signs_it_the_same(data: dict, entropy: list[bytes], at: int) -> None:
    body = body_of("balance.low", at=at, data=data)
    secrets = [make_secret(each) for each in entropy]
    signed = headers_of("msg_1", body, secrets=secrets, at=at)["webhook-signature"]
    moment = datetime.fromtimestamp(at // SECOND, UTC)
    assert signed.split(" ") == [Webhook(secret).sign("msg_1", moment, body.decode()) for secret in secrets]
    assert msgspec.json.decode(body)["data"] == data


def test_the_order_of_what_is_told_does_not_change_the_bytes() -> None:
    assert body_of("x", at=0, data={"a": 1, "b": 2}) == body_of("x", at=0, data={"b": 2, "a": 1})


def test_a_secret_is_the_prefix_and_32_bytes() -> None:
    secret = make_secret(bytes(range(32)))
    assert secret.startswith("whsec_")
    assert base64.b64decode(secret.removeprefix("whsec_")) == bytes(range(32))


def test_a_delivery_is_named_by_its_fact_and_its_endpoint() -> None:
    assert delivery_id(position=255, endpoint="wh_01a1") == "msg_ff_01a1"


def test_only_2xx_is_delivered() -> None:
    assert [problem_of(status) for status in (200, 201, 204, 299)] == [""] * 4
    assert problem_of(302) == "redirected, which is not followed"
    assert problem_of(404) == "answered 404"


def test_the_attempts_come_at_the_published_moments() -> None:
    moments = [sum(GAPS_SECONDS[:count]) for count in range(len(GAPS_SECONDS) + 1)]
    assert moments == [0, 60, 300, 1_800, 7_200, 28_800]
