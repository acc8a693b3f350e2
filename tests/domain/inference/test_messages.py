import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.inference.messages import FALLBACKS_MAX, OURS, Ask, parse, payload, prompt_text, token_numbers
from domain.inference.metering import TOKENS_MAX
from domain.kernel.errors import Invalid
from domain.kernel.money import rupees
from domain.routing.needs import Step

MESSAGES = [{"role": "user", "content": "hello"}]
READ_BY_US = OURS | {
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "service_tier",
}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
unknown_names = st.text(min_size=1).filter(lambda name: name not in READ_BY_US)


def ask_of(body: dict[str, Any]) -> Ask:
    return parse("chat", json.dumps({"model": "m", "messages": MESSAGES, **body}).encode())


def sent(ask: Ask, **given: Any) -> dict[str, msgspec.Raw]:
    fields: dict[str, Any] = {
        "upstream": "theirs",
        "output_limit_field": "max_tokens",
        "output_tokens": None,
        "stream_usage": True,
    }
    return msgspec.json.decode(payload(ask, **{**fields, **given}), type=dict[str, msgspec.Raw])


@given(
    unknown=st.dictionaries(unknown_names, values, max_size=5),
    indent=st.sampled_from([None, 1]),
    ascii=st.booleans(),
)
def test_unknown_fields_reach_the_provider_as_the_clients_own_bytes(
    unknown: dict[str, Any], indent: int | None, ascii: bool
) -> None:
    written = {name: json.dumps(value, indent=indent, ensure_ascii=ascii).encode() for name, value in unknown.items()}
    members = {"model": b'"m"', "messages": b"[ ]", **written}
    body = b"{" + b",".join(json.dumps(name).encode() + b" : " + value for name, value in members.items()) + b"}"
    given = sent(parse("chat", body))
    assert bytes(given.pop("model")) == b'"theirs"'
    assert bytes(given.pop("messages")) == b"[ ]"
    assert {name: bytes(value) for name, value in given.items()} == written


def test_fields_of_ours_never_reach_a_provider() -> None:
    ours = {
        "optimize": "price",
        "provider": "cheap",
        "data_policy": "india_only",
        "open_weights": True,
        "permissive": False,
        "fallbacks": [{"model": "b"}],
        "max_cost_inr": 5,
    }
    assert ours.keys() | {"upstream_key", "sangam"} == OURS
    assert sent(ask_of(ours)).keys() == {"model", "messages"}


def test_an_extension_whose_name_is_written_with_escapes_is_recognised() -> None:
    ask = parse("chat", rb'{"model":"m","messages":[],"data_p\u006flicy":"india_only"}')
    assert ask.needs.india_only
    assert sent(ask).keys() == {"model", "messages"}


def test_of_duplicate_fields_the_last_one_counts_for_us_and_is_the_only_one_sent() -> None:
    ask = parse("chat", b'{"model":"m","model":"z","messages":[],"max_tokens":5,"max_tokens":7,"n":1,"n":2}')
    assert (ask.model, ask.output_tokens, ask.choices) == ("z", 7, 2)
    body = payload(ask, upstream="u", output_limit_field="max_tokens", output_tokens=None, stream_usage=True)
    assert body.count(b'"max_tokens"') == body.count(b'"n"') == body.count(b'"model"') == 1
    assert json.loads(body) == {"model": "u", "messages": [], "max_tokens": 7, "n": 2}


@pytest.mark.parametrize("given", [None, {}, {"include_usage": False}, {"include_usage": True}])
def test_usage_is_asked_for_in_every_stream(given: dict[str, Any] | None) -> None:
    ask = ask_of({"stream": True, "stream_options": given})
    assert json.loads(bytes(sent(ask)["stream_options"])) == {"include_usage": True}
    assert json.loads(bytes(sent(ask_of({"stream": True}))["stream_options"])) == {"include_usage": True}


def test_other_stream_options_are_kept() -> None:
    ask = ask_of({"stream": True, "stream_options": {"include_obfuscation": False}})
    assert json.loads(bytes(sent(ask)["stream_options"])) == {"include_obfuscation": False, "include_usage": True}


def test_a_provider_that_does_not_know_stream_options_never_sees_them() -> None:
    ask = ask_of({"stream": True, "stream_options": {"include_usage": True}})
    assert "stream_options" not in sent(ask, stream_usage=False)


def test_whole_answers_are_not_asked_for_stream_usage() -> None:
    assert "stream_options" not in sent(ask_of({}))


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_cut_limit_goes_into_the_providers_own_field_where_the_client_set_none(field: str) -> None:
    given = sent(ask_of({}), output_limit_field=field, output_tokens=99)
    assert bytes(given[field]) == b"99"
    assert len(given) == 3


@pytest.mark.parametrize(
    "body",
    [{"max_tokens": 500}, {"max_completion_tokens": 500}, {"max_tokens": 400, "max_completion_tokens": 500}],
)
def test_a_cut_limit_replaces_every_limit_that_the_client_set(body: dict[str, int]) -> None:
    given = sent(ask_of(body), output_limit_field="max_tokens", output_tokens=99)
    assert {name: int(bytes(given[name])) for name in body} == dict.fromkeys(body, 99)
    assert len(given) == 2 + len(body)


def test_the_smaller_of_both_limits_is_the_limit() -> None:
    assert ask_of({"max_tokens": 400, "max_completion_tokens": 500}).output_tokens == 400
    assert ask_of({"max_tokens": None, "max_completion_tokens": 500}).output_tokens == 500
    assert ask_of({}).output_tokens is None


def test_a_limit_beyond_all_reason_stays_within_what_the_ledger_can_store() -> None:
    ask = ask_of({"max_tokens": 10**30})
    assert ask.output_tokens == TOKENS_MAX
    assert bytes(sent(ask)["max_tokens"]) == b"1" + b"0" * 30


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"messages": None}, "messages"),
        ({"data_policy": "eu_only"}, "data_policy"),
        ({"optimize": "luck"}, "optimize"),
        ({"fallbacks": [{"model": "m"}] * (FALLBACKS_MAX + 1)}, "fallbacks"),
        ({"fallbacks": [{"model": "m", "weight": 1}]}, "fallbacks[0]"),
        ({"model": ""}, "model"),
        ({"model": "a\0b"}, "model"),
        ({"model": "m" * 201}, "model"),
        ({"provider": "a\nb"}, "provider"),
        ({"fallbacks": [{"model": "m"}, {"model": "m", "provider": "\0"}]}, "fallbacks[1].provider"),
        ({"max_cost_inr": 0}, "max_cost_inr"),
        ({"max_cost_inr": -1}, "max_cost_inr"),
        ({"max_cost_inr": "NaN"}, "max_cost_inr"),
        ({"max_cost_inr": True}, "max_cost_inr"),
        ({"max_cost_inr": {}}, "max_cost_inr"),
        ({"max_cost_inr": 1e-10}, "max_cost_inr"),
    ],
)
def test_a_field_out_of_bounds_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as refused:
        ask_of(body)
    assert (refused.value.code, refused.value.param) == ("invalid_request", param)


def test_an_amount_past_all_exponents_is_refused() -> None:
    with pytest.raises(Invalid):
        parse("chat", b'{"model":"m","messages":[],"max_cost_inr":1e9999999999}')


@pytest.mark.parametrize("name", ["sangam"])
def test_what_is_not_offered_is_refused_rather_than_dropped(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        ask_of({name: "x"})
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"model":"m"}',
        b'{"model":"m","messages":[]} x',
        b'{"model":"m","messages":"\xff"}',
        b'{"model":"m","messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        parse("chat", body)
    assert refused.value.code == "invalid_request"


@given(st.binary())
def test_no_bytes_make_the_parser_fail_otherwise(body: bytes) -> None:
    with pytest.raises(Invalid):
        parse("chat", body)


def test_a_pin_binds_the_primary_only() -> None:
    ask = ask_of({"provider": "p", "fallbacks": [{"model": "b"}, {"model": "c", "provider": "q"}]})
    assert ask.needs.steps == (
        Step(model="m", provider="p"),
        Step(model="b"),
        Step(model="c", provider="q"),
    )


def test_the_most_a_call_may_cost_is_read_exactly() -> None:
    assert ask_of({"max_cost_inr": 12}).max_cost == rupees(12)
    assert parse("chat", b'{"model":"m","messages":[],"max_cost_inr":0.000000001}').max_cost == 1
    assert ask_of({"max_cost_inr": "1.5"}).max_cost == 1_500_000_000


# Bounds and texts of the prompt


PROMPT = {"input", "tools", "functions", "response_format", "prediction"}


@given(st.text(), st.dictionaries(unknown_names.filter(lambda name: name not in PROMPT), st.text(), max_size=3))
def test_the_bounds_enclose_the_prompt_and_grow_with_every_field_a_provider_might_read(
    text: str, unknown: dict[str, str]
) -> None:
    plain = ask_of({"messages": [{"role": "user", "content": text}]}).needs
    more = ask_of({"messages": [{"role": "user", "content": text}], **unknown}).needs
    assert 0 <= plain.input_tokens_least <= plain.input_tokens <= more.input_tokens
    assert more.input_tokens >= plain.input_tokens + sum(len(each) for each in unknown.values()) // 3
    assert more.input_tokens_least == plain.input_tokens_least


def test_media_counts_by_the_piece_inline_or_linked() -> None:
    def bound(*parts: dict[str, Any]) -> int:
        return ask_of({"messages": [{"role": "user", "content": list(parts)}]}).needs.input_tokens

    inline = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 60_000}}
    linked = {"type": "image_url", "image_url": {"url": "https://example.in/cat.png"}}
    text = {"type": "text", "text": 'what is "url": "http" here?'}
    assert bound(text) < 100
    assert 4_096 <= bound(text, linked) < 4_300
    assert 4_096 <= bound(text, inline) < 4_300
    assert 12_288 <= bound(text, linked, inline, linked) < 12_600


def test_token_numbers_count_one_by_one() -> None:
    ask = parse("embeddings", b'{"model":"e","input":[[1,2,3],[4, 5]]}')
    assert token_numbers(ask) == 5
    assert ask.needs.input_tokens >= 5
    assert token_numbers(parse("embeddings", b'{"model":"e","input":["1, 2", "3"]}')) == 0


def test_the_text_to_count_is_the_words_without_media() -> None:
    blob = "A" * 600
    ask = ask_of(
        {
            "messages": [
                {"role": "user", "content": "data: not media at all"},
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": blob}}]},
                {"role": "user", "content": [{"image_url": {"url": f"data:image/png;base64,{blob}"}}]},
            ],
            "temperature": 1,
            "user": "ravi",
        }
    )
    text = prompt_text(ask)
    assert "data: not media at all" in text
    assert blob not in text
    assert "ravi" not in text


def test_a_prompt_that_cannot_be_decoded_can_still_be_counted() -> None:
    deep = b"[" * 600 + b'"deep words"' + b"]" * 600
    ask = Ask(endpoint="chat", model="m", members={"messages": msgspec.Raw(deep)}, needs=ask_of({}).needs)
    assert "deep words" in prompt_text(ask)
    broken = Ask(endpoint="chat", model="m", members={"messages": msgspec.Raw(b'"\\ud800 x"')}, needs=ask_of({}).needs)
    assert "x" in prompt_text(broken)
