"""What OpenAI's request says is said again on each wire, or refused, and never dropped in silence."""

from typing import Any

import pytest

from domain.inference.wires.anthropic import ANTHROPIC
from domain.inference.wires.bedrock import BEDROCK
from domain.inference.wires.cohere import COHERE
from domain.inference.wires.gemini import GEMINI
from domain.inference.wires.openai import OPENAI
from domain.inference.wires.wire import Untranslatable, Wire
from tests.domain.inference.wires.asking import LINK, LOOK_UP, PICTURE, called, result, sent, user

NATIVE = [
    pytest.param(ANTHROPIC, id="anthropic"),
    pytest.param(GEMINI, id="gemini"),
    pytest.param(COHERE, id="cohere"),
    pytest.param(BEDROCK, id="bedrock"),
]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
    user([{"type": "text", "text": "Which?"}, PICTURE]),
    called("c1", "c2", text="Let me see."),
    result("c1", "one"),
    result("c2", "two"),
    user("And now?"),
]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}


def test_openais_own_bytes_are_kept() -> None:
    assert sent(OPENAI, temperature=0.1, whatever={"a": 1})["whatever"] == {"a": 1}


def test_a_conversation_as_anthropic_has_it() -> None:
    body = sent(ANTHROPIC, messages=TALK, tools=[LOOK_UP], stop="END", temperature=1.7, top_p=0.5, stream=True)
    assert body == {
        "model": "theirs",
        "max_tokens": 8_192,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Which?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "c1", "name": "look_up", "input": {"what": "c1"}},
                    {"type": "tool_use", "id": "c2", "name": "look_up", "input": {"what": "c2"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "two"},
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
        "tools": [
            {
                "name": "look_up",
                "description": "Looks it up",
                "input_schema": LOOK_UP["function"]["parameters"],
            }
        ],
        "tool_choice": {"type": "auto"},
        "stop_sequences": ["END"],
        "temperature": 1,
        "top_p": 0.5,
    }


def test_a_conversation_as_google_has_it() -> None:
    body = sent(GEMINI, messages=TALK, tools=[LOOK_UP], stop=["END"], temperature=1.7, max_tokens=9, seed=7)
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}
    assert body["contents"] == [
        {
            "role": "user",
            "parts": [{"text": "Which?"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}],
        },
        {
            "role": "model",
            "parts": [
                {"text": "Let me see."},
                {"functionCall": {"name": "look_up", "args": {"what": "c1"}}},
                {"functionCall": {"name": "look_up", "args": {"what": "c2"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look_up", "response": {"result": "one"}}},
                {"functionResponse": {"name": "look_up", "response": {"result": "two"}}},
                {"text": "And now?"},
            ],
        },
    ]
    assert body["generationConfig"] == {
        "maxOutputTokens": 9,
        "temperature": 1.7,
        "stopSequences": ["END"],
        "seed": 7,
    }
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "AUTO"}}


def test_a_conversation_as_cohere_has_it() -> None:
    body = sent(COHERE, messages=TALK, tools=[LOOK_UP], stop=["END"], top_p=0.5, max_tokens=9)
    assert [message["role"] for message in body["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
    ]
    assert body["messages"][0]["content"] == "Be brief.\nBe kind."
    assert body["messages"][2]["tool_calls"][1]["function"] == {"name": "look_up", "arguments": '{"what":"c2"}'}
    assert body["messages"][3] == {"role": "tool", "tool_call_id": "c1", "content": "one"}
    assert (body["p"], body["max_tokens"], body["stop_sequences"]) == (0.5, 9, ["END"])


def test_a_conversation_as_amazon_has_it() -> None:
    body = sent(BEDROCK, messages=TALK, tools=[LOOK_UP], stop=["END"], max_tokens=9)
    assert body["system"] == [{"text": "Be brief."}, {"text": "Be kind."}]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"][1] == {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}}
    assert body["messages"][1]["content"][1] == {
        "toolUse": {"toolUseId": "c1", "name": "look_up", "input": {"what": "c1"}}
    }
    assert body["messages"][2]["content"][0] == {"toolResult": {"toolUseId": "c1", "content": [{"text": "one"}]}}
    assert body["inferenceConfig"] == {"maxTokens": 9, "stopSequences": ["END"]}
    assert body["toolConfig"]["toolChoice"] == {"auto": {}}


@pytest.mark.parametrize(
    ("choice", "anthropic", "gemini", "bedrock"),
    [
        ("required", {"type": "any"}, {"mode": "ANY"}, {"any": {}}),
        (
            {"type": "function", "function": {"name": "look_up"}},
            {"type": "tool", "name": "look_up"},
            {"mode": "ANY", "allowedFunctionNames": ["look_up"]},
            {"tool": {"name": "look_up"}},
        ),
    ],
)
def test_which_tool_is_to_be_called(choice: Any, anthropic: Any, gemini: Any, bedrock: Any) -> None:
    assert sent(ANTHROPIC, tools=[LOOK_UP], tool_choice=choice)["tool_choice"] == anthropic
    assert sent(GEMINI, tools=[LOOK_UP], tool_choice=choice)["toolConfig"]["functionCallingConfig"] == gemini
    assert sent(BEDROCK, tools=[LOOK_UP], tool_choice=choice)["toolConfig"]["toolChoice"] == bedrock


def test_no_tool_is_to_be_called() -> None:
    assert sent(ANTHROPIC, tools=[LOOK_UP], tool_choice="none")["tool_choice"] == {"type": "none"}
    assert sent(GEMINI, tools=[LOOK_UP], tool_choice="none")["toolConfig"] == {
        "functionCallingConfig": {"mode": "NONE"}
    }
    assert sent(COHERE, tools=[LOOK_UP], tool_choice="none")["tool_choice"] == "NONE"
    assert "toolConfig" not in sent(BEDROCK, tools=[LOOK_UP], tool_choice="none")
    with pytest.raises(Untranslatable, match="no tools that may be called now"):
        sent(BEDROCK, messages=TALK, tools=[LOOK_UP], tool_choice="none")


def test_one_call_at_a_time() -> None:
    body = sent(ANTHROPIC, tools=[LOOK_UP], parallel_tool_calls=False)
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_answers_in_a_schema() -> None:
    assert sent(ANTHROPIC, response_format=AS_SCHEMA)["output_config"] == {
        "format": {"type": "json_schema", "schema": SCHEMA}
    }
    gemini = sent(GEMINI, response_format=AS_SCHEMA)["generationConfig"]
    assert gemini == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    assert sent(COHERE, response_format=AS_SCHEMA)["response_format"] == {"type": "json_object", "json_schema": SCHEMA}
    as_json = {"type": "json_object"}
    assert sent(GEMINI, response_format=as_json)["generationConfig"] == {"responseMimeType": "application/json"}
    assert sent(COHERE, response_format=as_json)["response_format"] == as_json


def test_the_output_limit_is_the_holds_else_the_callers_else_the_models() -> None:
    def limits(**given: Any) -> list[Any]:
        return [
            sent(ANTHROPIC, **given)["max_tokens"],
            sent(GEMINI, **given)["generationConfig"].get("maxOutputTokens"),
            sent(COHERE, **given).get("max_tokens"),
            sent(BEDROCK, **given)["inferenceConfig"].get("maxTokens"),
        ]

    assert limits() == [8_192, None, None, None]
    assert limits(max_completion_tokens=50, max_tokens=60) == [50] * 4
    assert limits(max_tokens=60, limit=7) == [7] * 4
    assert sent(ANTHROPIC, max_tokens=100_000)["max_tokens"] == 8_192


def test_what_is_to_be_cached_is_marked_where_the_wire_has_marks() -> None:
    kept = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    messages = [{"role": "system", "content": [kept]}, user([kept])]
    assert sent(ANTHROPIC, messages=messages)["system"] == [kept]
    assert sent(ANTHROPIC, messages=messages)["messages"][0]["content"] == [kept]
    assert sent(BEDROCK, messages=messages)["messages"][0]["content"] == [
        {"text": "long"},
        {"cachePoint": {"type": "default", "ttl": "1h"}},
    ]


def test_googles_signatures_go_back_where_they_came_from() -> None:
    signed: dict[str, Any] = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    body = sent(GEMINI, messages=[user("x"), called("c1", **signed), result("c1", "one")])
    (call,) = body["contents"][1]["parts"]
    assert call["thoughtSignature"] == "c2ln"


def test_effort_is_googles_budget_of_thought() -> None:
    assert sent(GEMINI, reasoning_effort="low")["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 1_024}
    with pytest.raises(Untranslatable, match="reasoning_effort"):
        sent(GEMINI, reasoning_effort="xhigh")


def test_pictures_that_are_linked() -> None:
    assert sent(ANTHROPIC, messages=[user([LINK])])["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    ]
    assert sent(COHERE, messages=[user([LINK])])["messages"][0]["content"][0]["image_url"] == {
        "url": "https://example.com/a.png"
    }
    for wire in (GEMINI, BEDROCK):
        with pytest.raises(Untranslatable, match="linked"):
            sent(wire, messages=[user([LINK])])


def test_only_google_hears() -> None:
    heard = [user([{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}])]
    assert sent(GEMINI, messages=heard)["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}}
    ]
    for wire in (ANTHROPIC, COHERE, BEDROCK):
        with pytest.raises(Untranslatable, match="audio"):
            sent(wire, messages=heard)


@pytest.mark.parametrize("wire", NATIVE)
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"messages": [{"role": "narrator", "content": "x"}]}, "role 'narrator'"),
        ({"messages": [user([{"type": "hologram"}])]}, "type 'hologram'"),
        ({"messages": [user([{"type": "image_url", "image_url": {"url": "ftp://a/b"}}])]}, "neither embedded"),
        ({"messages": [{"role": "system", "content": [PICTURE]}]}, "media in a message"),
        ({"messages": [{"content": "x"}]}, "another shape"),
        ({"messages": "say it"}, "another shape"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "type 'custom'"),
        ({"tools": [LOOK_UP], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
    ],
)
def test_what_has_no_common_meaning_is_refused(wire: Wire, body: dict[str, Any], told: str) -> None:
    with pytest.raises(Untranslatable, match=told):
        sent(wire, **body)


@pytest.mark.parametrize("wire", NATIVE)
def test_arguments_that_are_no_object_are_refused(wire: Wire) -> None:
    broken = called("c1")
    broken["tool_calls"][0]["function"]["arguments"] = "{broken"
    with pytest.raises(Untranslatable, match="arguments"):
        sent(wire, messages=[user("x"), broken, result("c1", "one")], tools=[LOOK_UP])


def test_cohere_cannot_name_a_tool() -> None:
    with pytest.raises(Untranslatable, match="names a tool"):
        sent(COHERE, tools=[LOOK_UP], tool_choice={"type": "function", "function": {"name": "look_up"}})
