"""What an org may bring: keys and endpoints are saved, replaced and removed by facts, and no key is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.byo.own import (
    ENDPOINTS_MAX,
    MODELS_MAX,
    EndpointTerms,
    Own,
    add_endpoint,
    check_key,
    check_terms,
    mask_of,
    note_check,
    remove_endpoint,
    remove_key,
    save_key,
    slug_of,
    usable_models,
)
from domain.kernel.errors import Invalid, NotFound
from domain.keys.directory import Directory
from tests.memory_store import MemoryStore

NOON = 1


class Org:
    def __init__(self, id: str = "org_a", store: MemoryStore | None = None) -> None:
        self.id = id
        self.store = store or MemoryStore()

    def saves(self, provider: str = "openai", *, sealed: str = "sealed", **more: object) -> int | None:
        given: dict[str, object] = {
            "host": "api.openai.com",
            "mask": "…1234",
            "label": "",
            "always_use": False,
            "verified": True,
            "discovered": ["gpt-5", "their-model"],
        }
        return save_key(self.store, org=self.id, provider=provider, sealed=sealed, at=NOON, by="t", **given | more)

    def checks(self, *, sealed: str, verified: bool, discovered: list[str]) -> int | None:
        return note_check(
            self.store,
            org=self.id,
            provider="openai",
            sealed=sealed,
            verified=verified,
            discovered=discovered,
            at=NOON,
            by="t",
        )

    def adds(self, id: str, name: str = "GPU box") -> int | None:
        return add_endpoint(
            self.store, org=self.id, endpoint=id, terms=check_terms(terms(name)), sealed="", mask="", at=NOON, by="t"
        )

    @property
    def own(self) -> Own:
        return self.directory.own(self.id) or Own()

    @property
    def directory(self) -> Directory:
        directory = Directory()
        for stream, event in self.store.facts:
            directory.evolve(stream, event)
        return directory


def terms(name: str = "GPU box", **given: str | None) -> EndpointTerms:
    fields: dict[str, str | None] = {
        "model": "llama",
        "base_url": "https://llm.example.com/v1/",
        "upstream": "meta/llama",
        "residency": "in",
    }
    return EndpointTerms(name=name, **fields | given)


def test_one_key_for_each_provider_the_newest() -> None:
    org = Org()
    org.saves(sealed="first")
    org.saves(sealed="second", always_use=True)
    org.saves("sarvam", sealed="third")
    assert {provider: key.sealed for provider, key in org.own.keys.items()} == {"openai": "second", "sarvam": "third"}
    assert org.own.key("openai").always_use
    remove_key(org.store, org="org_a", provider="openai", at=NOON, by="t")
    assert [*org.own.keys] == ["sarvam"]
    with pytest.raises(NotFound):
        remove_key(org.store, org="org_a", provider="openai", at=NOON, by="t")


def test_an_org_without_anything_of_its_own_is_not_in_the_directory() -> None:
    org = Org()
    assert org.directory.own("org_a") is None
    org.saves()
    org.adds("end_1")
    assert org.directory.own("org_a") is not None
    assert org.directory.own("org_b") is None
    remove_key(org.store, org="org_a", provider="openai", at=NOON, by="t")
    remove_endpoint(org.store, org="org_a", endpoint="end_1", at=NOON, by="t")
    assert org.directory.own("org_a") is None


def test_a_check_is_on_record_only_where_it_found_something_new() -> None:
    org = Org()
    org.saves(sealed="s")
    assert org.checks(sealed="s", verified=True, discovered=["gpt-5", "their-model"]) is None
    assert org.checks(sealed="s", verified=True, discovered=["gpt-6"]) is not None
    assert org.own.key("openai").discovered == ("gpt-6",)
    assert org.checks(sealed="s", verified=False, discovered=[]) is not None
    assert (org.own.key("openai").verified, org.own.key("openai").discovered) == (False, ("gpt-6",))
    org.saves(sealed="another")
    assert org.checks(sealed="s", verified=False, discovered=[]) is None, "that key is no more"


def test_endpoints_of_one_name_get_slugs_of_their_own() -> None:
    org = Org()
    for number in range(3):
        org.adds(f"end_{number}")
    assert [*org.own.endpoints] == ["gpu-box", "gpu-box-2", "gpu-box-3"]
    assert org.adds("end_0") is None, "a repeat"
    remove_endpoint(org.store, org="org_a", endpoint="end_1", at=NOON, by="t")
    org.adds("end_4")
    assert org.own.endpoint("end_4").slug == "gpu-box-2"
    assert org.own.endpoint("end_4").provider_ref == "byoe:gpu-box-2"


def test_an_org_has_so_many_endpoints_and_no_more() -> None:
    org = Org()
    for number in range(ENDPOINTS_MAX):
        org.adds(f"end_{number}")
    with pytest.raises(Invalid) as refusal:
        org.adds("end_more")
    assert refusal.value.code == "endpoint_limit"
    other = Org("org_b", org.store)
    other.adds("end_theirs")
    with pytest.raises(NotFound):
        remove_endpoint(org.store, org="org_a", endpoint="end_theirs", at=NOON, by="t")


def test_terms_are_kept_in_one_form() -> None:
    checked = check_terms(terms("  GPU   box, Pune "))
    assert (checked.name, checked.base_url, checked.residency) == ("GPU box, Pune", "https://llm.example.com/v1", "IN")
    assert check_terms(terms(residency=None)).residency == ""


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        (terms("!?"), "name"),
        (terms("x" * 101), "name"),
        (terms(model="two words"), "model"),
        (terms(upstream=""), "upstream_model"),
        (terms(residency="India"), "residency"),
        (terms(base_url="https://llm.example.com/v1?key=1"), "base_url"),
    ],
)
def test_a_slip_in_the_terms_is_told_by_field(wrong: EndpointTerms, param: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_terms(wrong)
    assert refusal.value.param == param


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nbreak", "ключ", "x" * 1_001])
def test_what_could_be_no_key_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_key(key)
    assert not key.strip() or key not in refusal.value.message


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60))
def test_a_mask_shows_four_signs_at_most_and_of_short_keys_none(key: str) -> None:
    shown = mask_of(key).removeprefix("…")
    assert key.endswith(shown)
    assert 3 * len(shown) <= len(key)


@given(st.text(max_size=60))
def test_slugs_are_plain_whatever_the_name(name: str) -> None:
    slug = slug_of(name)
    assert slug == slug_of(slug)
    assert slug.isascii()
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_only_models_that_a_request_can_name_are_kept() -> None:
    assert usable_models(["a", "a", "two words", "नया", "", "org/b:free"]) == ("a", "org/b:free")
    assert len(usable_models([f"m{number}" for number in range(MODELS_MAX + 5)])) == MODELS_MAX
