"""The files we ship are sound, and a slip in anyone's file stops that file, says where, and nothing else."""

import time
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.catalog_files import PACKAGED, Problem, check, load
from domain.catalog.catalog import Catalog
from domain.catalog.model import INDIA
from domain.catalog.price import Fx, Rates, cost, rate_of
from domain.inference.metering import Usage

FX = Fx(inr_per_usd=Decimal(100), on=date(2026, 11, 23), margin=Decimal("0.05"))

PROVIDER = """
id = "acme"
name = "Acme"
base_url = "https://acme.example/v1"
residency = "IN"
key_env = "BR_KEY_ACME"

[[models]]
id = "acme/tiny"
upstream = "tiny-1"
input_inr_per_mtok = "29.28"
cached_input_inr_per_mtok = "10.98"
output_inr_per_mtok = "73.20"
priced_on = "2026-09-20"
context_length = 4096
max_output_tokens = 512
"""

MODELS = """
[[models]]
id = "shared"
name = "Shared"
owned_by = "someone"
modality = "chat"
openness = "open"
listed_on = "2026-11-23"
context_length = 1000
max_output_tokens = 100
"""

ALL = "max_output_tokens = 512\n"
WHEN = '\n[[models.when]]\ninput_inr_per_mtok = "60"\noutput_inr_per_mtok = "150"\n'
ONE_RATE = '\n[[models.when]]\ntier = "flex"\ninput_inr_per_mtok = "60"\n'
CACHED_AUDIO = "models[0].cached_audio_input_inr_per_mtok"

Put = Callable[[str, str], None]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    return write


def only_problem(directory: Path) -> Problem:
    _, problems = load([directory], fx=FX)
    (problem,) = problems
    return problem


@pytest.fixture(scope="module")
def shipped() -> Catalog:
    catalog, problems = load([PACKAGED], fx=FX)
    assert problems == []
    return catalog


def test_everything_shipped_is_sound_and_served() -> None:
    assert check([PACKAGED], fx=FX) == []


def test_the_first_model_shipped_is_a_chat_model(shipped: Catalog) -> None:
    first = next(iter(shipped.models.values()))
    assert (first.id, first.modality) == ("sarvam-105b", "chat")


def test_the_shipped_routes_in_india_are_those_we_can_prove(shipped: Catalog) -> None:
    resident = {id for id, provider in shipped.providers.items() if provider.residency == INDIA}
    own_keys_only = {"krutrim", "neevcloud", "e2e"}
    assert resident == {"sarvam", "sarvam-open", "bedrock-mumbai", "bedrock-mumbai-converse"} | own_keys_only
    assert all(route.byok_only for provider in own_keys_only for route in shipped.routes_at(provider))
    assert {each.residency for each in shipped.providers.values()} == {INDIA, ""}


def test_the_only_shipped_price_of_nothing_is_meant(shipped: Catalog) -> None:
    free = [
        f"{route.provider}/{route.model}"
        for routes in shipped.routes.values()
        for route in routes
        if route.rates is not None and route.rates.input == 0 and not route.rates.seconds
    ]
    assert free == ["zai/glm-4.7-flash"]


def test_the_shipped_providers_are_called_over_tls_with_a_key_of_the_platform(shipped: Catalog) -> None:
    for provider in shipped.providers.values():
        assert provider.base_url.startswith("https://")
        assert provider.auth in ("bearer", "header:api-key", "header:x-api-key", "header:x-goog-api-key")
        assert provider.key_env.startswith("BR_KEY_")


def test_a_published_rupee_price_is_kept_to_the_nano(shipped: Catalog) -> None:
    route = shipped.route(provider="sarvam", model="sarvam-105b")
    assert route is not None
    assert route.rates is not None
    assert (route.rates.input, route.rates.cached_input, route.rates.output) == (29_280, 10_980, 73_200)


def test_a_dollar_price_becomes_rupees_with_the_margin(shipped: Catalog) -> None:
    route = shipped.route(provider="openai", model="gpt-5")
    assert route is not None
    assert route.rates is not None
    assert (route.rates.input, route.rates.output) == (131_250, 1_050_000)


def test_loading_what_we_ship_is_quick() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        load([PACKAGED], fx=FX)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.06


def test_one_provider_file_is_enough_for_a_provider_and_its_model(tmp_path: Path, put: Put) -> None:
    put("providers/acme.toml", PROVIDER)
    catalog, problems = load([tmp_path], fx=FX)
    assert problems == []
    (route,) = catalog.routes_of("acme/tiny")
    assert (route.upstream, route.residency, route.context_length) == ("tiny-1", "IN", 4096)
    model = catalog.models["acme/tiny"]
    assert (model.owned_by, model.modality, model.openness) == ("acme", "chat", "proprietary")
    assert catalog.providers["acme"].auth == "bearer"


def test_a_provider_without_auth_and_key_is_keyless_and_may_be_plain_http(tmp_path: Path, put: Put) -> None:
    file = PROVIDER.replace('key_env = "BR_KEY_ACME"\n', "").replace("https://acme", "http://127.0.0.1:9")
    put("providers/acme.toml", file)
    catalog, problems = load([tmp_path], fx=FX)
    assert problems == []
    assert catalog.providers["acme"].keyless


def test_a_missing_residency_is_not_guessed(tmp_path: Path, put: Put) -> None:
    put("providers/acme.toml", PROVIDER.replace('residency = "IN"\n', ""))
    catalog, _ = load([tmp_path], fx=FX)
    assert catalog.routes_of("acme/tiny")[0].residency == ""


def test_a_model_file_describes_and_routes_narrow(tmp_path: Path, put: Put) -> None:
    put("catalog/models.toml", MODELS)
    put(
        "providers/acme.toml",
        PROVIDER.replace("acme/tiny", "shared").replace("4096", "500").replace("max_output_tokens = 512", ""),
    )
    catalog, problems = load([tmp_path], fx=FX)
    assert problems == []
    assert catalog.models["shared"].context_length == 1000
    (route,) = catalog.routes_of("shared")
    assert (route.context_length, route.max_output_tokens) == (500, 100)


def test_a_later_directory_replaces_a_provider_by_its_file_name(tmp_path: Path, put: Put) -> None:
    put("ours/providers/acme.toml", PROVIDER)
    put("theirs/providers/acme.toml", PROVIDER.replace("acme.example", "proxy.example"))
    catalog, problems = load([tmp_path / "ours", tmp_path / "theirs"], fx=FX)
    assert problems == []
    assert catalog.providers["acme"].base_url == "https://proxy.example/v1"


def test_a_bad_file_stops_only_itself(tmp_path: Path, put: Put) -> None:
    put("providers/acme.toml", PROVIDER)
    put("providers/broken.toml", "id = ")
    put("providers/half.toml", PROVIDER.replace('"acme"', '"half"').replace('"29.28"', '"0"'))
    catalog, problems = load([tmp_path], fx=FX)
    assert list(catalog.providers) == ["acme"]
    assert list(catalog.models) == ["acme/tiny"]
    assert [Path(problem.file).name for problem in problems] == ["broken.toml", "half.toml"]


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('name = "Acme"', 'nam = "Acme"', ""),
        ('name = "Acme"', "name = 7", "name"),
        ('name = "Acme"', 'name = "Acme"\ncolour = "red"', ""),
        ('id = "acme"', 'id = "Acme Inc"', "id"),
        ("https://acme.example/v1", "ftp://acme.example/v1", "base_url"),
        ("https://acme.example/v1", "https://acme.example/v1/", "base_url"),
        ("https://acme.example/v1", "https://me:secret@acme.example/v1", "base_url"),
        ('residency = "IN"', 'residency = "India"', "residency"),
        ('residency = "IN"', 'residency = "IN"\nauth = "magic"', "auth"),
        ('residency = "IN"', 'residency = "IN"\nauth = "none"', "key_env"),
        ('residency = "IN"', 'residency = "IN"\nwire = "carrier-pigeon"', "wire"),
        ('residency = "IN"', 'residency = "IN"\nusage = { cached = "somewhere" }', "usage.cached"),
        ('upstream = "tiny-1"\n', "", "models[0]"),
        ('"29.28"', "29.28", "models[0].input_inr_per_mtok"),
        ('"29.28"', '"29.2801"', "models[0].input_inr_per_mtok"),
        ('"29.28"', '"-29.28"', "models[0].input_inr_per_mtok"),
        ('"29.28"', '"nan"', "models[0].input_inr_per_mtok"),
        ('"29.28"', '"many"', "models[0].input_inr_per_mtok"),
        ('"29.28"', '"0"', "models[0].input_inr_per_mtok"),
        ('"29.28"', '"0.029"', "models[0].input_inr_per_mtok"),
        ('"29.28"', '"29280000"', "models[0].input_inr_per_mtok"),
        ('"73.20"', '"50001"', "models[0].output_inr_per_mtok"),
        ('"10.98"', '"30"', "models[0].cached_input_inr_per_mtok"),
        ('input_inr_per_mtok = "29.28"\n', "", "models[0].input_inr_per_mtok"),
        ('output_inr_per_mtok = "73.20"\n', "", "models[0].output_inr_per_mtok"),
        ("output_inr", "output_usd", "models[0]"),
        ('priced_on = "2026-09-20"\n', "", "models[0].priced_on"),
        ("2026-09-20", "20 September", "models[0].priced_on"),
        ("context_length = 4096\n", "", "models[0].context_length"),
        ("context_length = 4096\n", "context_length = -1\n", "models[0].context_length"),
        ("max_output_tokens = 512\n", "", "models[0].max_output_tokens"),
        ("max_output_tokens = 512\n", "max_output_tokens = 512\nfree = true\n", "models[0].free"),
        ("max_output_tokens = 512\n", "max_output_tokens = 512\nbyok_only = true\n", "models[0].byok_only"),
        (
            "max_output_tokens = 512\n",
            'max_output_tokens = 512\nper_request_inr = "1001"\n',
            "models[0].per_request_inr",
        ),
        ('residency = "IN"', 'residency = "IN"\nheaders = { x-a = "two words" }', "headers[...]"),
        ('residency = "IN"', 'residency = "IN"\nheaders = { authorization = "me" }', "headers"),
        ('residency = "IN"', 'residency = "IN"\npaths = { chat = "no/slash" }', "paths[...]"),
        ('residency = "IN"', 'residency = "IN"\nusage = { cache_write = "near" }', "usage.cache_write"),
        ('"10.98"', '"10.98"\ncache_write_hour_usd_per_mtok = "1"', "models[0]"),
        ('"10.98"', '"10.98"\naudio_input_inr_per_mtok = "5"\ncached_audio_input_inr_per_mtok = "6"', CACHED_AUDIO),
        ("max_output_tokens = 512\n", ALL + WHEN, "models[0].when[0]"),
        ("max_output_tokens = 512\n", ALL + WHEN + "above_tokens = -1\n", "models[0].when[0].above_tokens"),
        ("max_output_tokens = 512\n", ALL + WHEN + 'tier = "flex"\nfree = true\n', "models[0].when[0]"),
        ("max_output_tokens = 512\n", ALL + WHEN + 'utc = ["25:00-26:00"]\n', "models[0].when[0].utc[0]"),
        ("max_output_tokens = 512\n", ALL + WHEN + 'utc = ["06:00-04:00"]\n', "models[0].when[0].utc"),
        ("max_output_tokens = 512\n", ALL + WHEN.replace("_inr_", "_usd_") + 'tier = "flex"\n', "models[0].when[0]"),
        ("max_output_tokens = 512\n", ALL + 2 * (WHEN + 'tier = "flex"\n'), "models[0].when"),
        (
            "max_output_tokens = 512\n",
            ALL + WHEN + 'tier = "flex"\n' + WHEN + "above_tokens = 9\n",
            "models[0].when",
        ),
        ("max_output_tokens = 512\n", ALL + ONE_RATE, "models[0].when[0].output_inr_per_mtok"),
    ],
)
def test_a_slip_is_named_by_file_and_field(tmp_path: Path, put: Put, old: str, new: str, field: str) -> None:
    assert old in PROVIDER
    put("providers/acme.toml", PROVIDER.replace(old, new))
    problem = only_problem(tmp_path)
    assert Path(problem.file).name == "acme.toml"
    assert problem.field == field
    assert problem.message


def test_the_same_id_in_two_files_is_a_slip_of_the_second(tmp_path: Path, put: Put) -> None:
    put("providers/acme.toml", PROVIDER)
    put("providers/other.toml", PROVIDER.replace("acme/tiny", "acme/other"))
    problem = only_problem(tmp_path)
    assert (Path(problem.file).name, problem.field) == ("other.toml", "id")


def test_a_model_twice_in_one_file_is_a_slip(tmp_path: Path, put: Put) -> None:
    put("providers/acme.toml", PROVIDER + PROVIDER[PROVIDER.index("[[models]]") :])
    assert only_problem(tmp_path).field == "models[1].id"
    put("providers/acme.toml", PROVIDER)
    put("catalog/models.toml", MODELS + MODELS)
    assert only_problem(tmp_path).field == "models[1].id"


def test_a_model_is_described_in_one_place(tmp_path: Path, put: Put) -> None:
    put("catalog/models.toml", MODELS)
    put("providers/acme.toml", PROVIDER.replace('id = "acme/tiny"', 'id = "shared"\nopenness = "permissive"'))
    assert only_problem(tmp_path).field == "models[0].openness"


def test_a_free_route_and_one_for_own_keys_only_are_said_so(tmp_path: Path, put: Put) -> None:
    head = PROVIDER[: PROVIDER.index("[[models]]")]
    limits = "context_length = 10\nmax_output_tokens = 5\n"
    free = '[[models]]\nid = "gift"\nupstream = "g"\npriced_on = "2026-11-23"\nfree = true\n'
    own = '[[models]]\nid = "own"\nupstream = "o"\nbyok_only = true\n'
    put("providers/acme.toml", f"{head}\n{free}{limits}\n{own}{limits}")
    catalog, problems = load([tmp_path], fx=FX)
    assert problems == []
    (gift,), (theirs,) = catalog.routes_of("gift"), catalog.routes_of("own")
    assert gift.rates is not None
    assert (gift.rates.input, gift.rates.output, gift.byok_only) == (0, 0, False)
    assert theirs.byok_only


def test_a_fee_per_request_is_part_of_the_rates(tmp_path: Path, put: Put) -> None:
    put("providers/acme.toml", PROVIDER + 'per_request_inr = "0.5"\n')
    catalog, problems = load([tmp_path], fx=FX)
    assert problems == []
    rates = catalog.routes_of("acme/tiny")[0].rates
    assert rates is not None
    assert rates.per_request == 500_000_000


def test_a_model_that_nobody_serves_is_pointed_out_by_the_check(tmp_path: Path, put: Put) -> None:
    put("catalog/models.toml", MODELS)
    catalog, problems = load([tmp_path], fx=FX)
    assert (list(catalog.models), problems) == (["shared"], [])
    assert [problem.field for problem in check([tmp_path], fx=FX)] == ["shared"]


def test_directories_that_are_not_there_hold_nothing(tmp_path: Path) -> None:
    catalog, problems = load([tmp_path / "nowhere"], fx=FX)
    assert (list(catalog.providers), problems) == ([], [])


def priced(directory: Path) -> Rates:
    catalog, problems = load([directory], fx=FX)
    assert problems == []
    (route,) = catalog.routes_of("acme/tiny")
    assert route.rates is not None
    return route.rates


def test_prices_under_conditions_stand_with_the_narrowest_first(tmp_path: Path, put: Put) -> None:
    conditions = ["above_tokens = 100\n", 'utc = ["01:00-04:00", "06:00-10:00"]\n', "above_tokens = 300\n"]
    put("providers/acme.toml", PROVIDER + "".join(WHEN + condition for condition in conditions))
    rates = priced(tmp_path)
    assert [(variant.above_tokens, variant.windows) for variant in rates.variants] == [
        (300, ()),
        (100, ()),
        (0, ((60, 240), (360, 600))),
    ]
    assert {variant.rates.input for variant in rates.variants} == {60_000}
    assert [variant.rates.id.removeprefix(rates.id) for variant in rates.variants] == [
        "+over-300",
        "+over-100",
        "+utc-0100-0400+utc-0600-1000",
    ]


def test_a_changed_condition_is_another_version_of_the_price(tmp_path: Path, put: Put) -> None:
    ids = set()
    for condition in ('tier = "flex"\n', 'tier = "priority"\n', "above_tokens = 100\n", 'utc = ["01:00-04:00"]\n'):
        put("providers/acme.toml", PROVIDER + WHEN + condition)
        ids.add(priced(tmp_path).id)
    assert len(ids) == 4


def test_classes_priced_apart_are_kept_and_others_cost_what_plain_tokens_do(tmp_path: Path, put: Put) -> None:
    more = (
        'cache_write_inr_per_mtok = "36.6"\ncache_write_hour_inr_per_mtok = "58.56"\naudio_input_inr_per_mtok = "90"\n'
    )
    put("providers/acme.toml", PROVIDER + more)
    rates = priced(tmp_path)
    assert (rates.cache_write, rates.cache_write_hour, rates.audio_input) == (36_600, 58_560, 90_000)
    assert (rate_of(rates, "cached_audio_input"), rate_of(rates, "audio_output")) == (10_980, 73_200)


def test_minutes_and_characters_are_prices_of_speech(tmp_path: Path, put: Put) -> None:
    head = PROVIDER[: PROVIDER.index("[[models]]")]
    heard = 'id = "ears"\nupstream = "e"\nmodality = "transcription"\nper_minute_inr = "0.5"\n'
    spoken = 'id = "voice"\nupstream = "v"\nmodality = "speech"\nper_mchar_inr = "70"\n'
    rest = 'priced_on = "2026-11-23"\ncontext_length = 0\n'
    put("providers/acme.toml", f"{head}\n[[models]]\n{heard}{rest}\n[[models]]\n{spoken}{rest}")
    catalog, problems = load([tmp_path], fx=FX)
    assert problems == []
    ears, voice = catalog.routes_of("ears")[0].rates, catalog.routes_of("voice")[0].rates
    assert ears is not None
    assert voice is not None
    assert (ears.seconds, voice.characters) == (8_333_334, 70_000)  # a second is rounded up to a whole nano-rupee
    assert cost(ears, Usage(seconds=90)) == 90 * 8_333_334
    assert cost(voice, Usage(characters=1_000)) == 70_000_000


def test_a_model_of_speech_needs_a_price_of_its_own_unit(tmp_path: Path, put: Put) -> None:
    put("providers/acme.toml", PROVIDER.replace('upstream = "tiny-1"', 'upstream = "t"\nmodality = "transcription"'))
    assert only_problem(tmp_path).field == "models[0].per_minute_inr"


def test_a_wire_without_embeddings_cannot_offer_them(tmp_path: Path, put: Put) -> None:
    file = PROVIDER.replace('residency = "IN"', 'residency = "IN"\nwire = "anthropic"')
    put("providers/acme.toml", file.replace('upstream = "tiny-1"', 'upstream = "t"\nmodality = "embedding"'))
    assert only_problem(tmp_path).field == "models[0].id"


def test_routes_of_another_wire_say_what_they_take(tmp_path: Path, put: Put) -> None:
    put("providers/acme.toml", PROVIDER.replace('residency = "IN"', 'residency = "IN"\nwire = "cohere"'))
    catalog, _ = load([tmp_path], fx=FX)
    takes = catalog.routes_of("acme/tiny")[0].takes
    assert takes is not None
    assert "messages" in takes
    assert "n" not in takes


LISTED = '[models]\n"acme/tiny" = { input = "0.28", output = "0.7", on = "2026-09-20" }\n'


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"29.28"', '"292.8"', "point in the right place"),  # trap 13: a power of ten
        ('"29.28"', '"12"', None),
        ('"73.20"', '"732"', "point in the right place"),
        ('"73.20"', '"28"', "output is cheaper than input"),
        ("max_output_tokens = 512", "max_output_tokens = 5120", "into a context of"),
        ('"10.98"', '"10.98"\ncache_write_inr_per_mtok = "9"', "writing the cache is cheaper"),
        ("max_output_tokens = 512", "max_output_tokens = 511", None),
    ],
)
def test_the_check_doubts_what_makes_no_sense(tmp_path: Path, put: Put, old: str, new: str, told: str | None) -> None:
    put("providers/acme.toml", PROVIDER.replace(old, new))
    put("list_prices.toml", LISTED)
    problems = check([tmp_path], fx=FX)
    assert any(told in problem.message for problem in problems) if told else problems == []
    assert {problem.field for problem in problems} <= {"acme/acme/tiny"}
    assert load([tmp_path], fx=FX)[1] == []  # such a file is still in force: a person decides


def test_prices_under_conditions_are_doubted_too(tmp_path: Path, put: Put) -> None:
    put("providers/acme.toml", PROVIDER + WHEN.replace("150", "15") + 'tier = "flex"\n')
    (problem,) = check([tmp_path], fx=FX)
    assert "+flex: output is cheaper than input" in problem.message


def test_a_power_of_ten_in_the_price_of_any_maker_is_seen(tmp_path: Path, put: Put) -> None:
    put("list_prices.toml", (PACKAGED / "list_prices.toml").read_text())
    put("catalog/models.toml", (PACKAGED / "catalog" / "models.toml").read_text())
    for name, right, wrong in (
        ("openai", 'input_usd_per_mtok = "1.25"', 'input_usd_per_mtok = "12.5"'),
        ("anthropic", 'output_usd_per_mtok = "50"', 'output_usd_per_mtok = "5"'),
        ("gemini", 'input_usd_per_mtok = "0.3"', 'input_usd_per_mtok = "0.03"'),
        ("sarvam", 'input_inr_per_mtok = "29.28"', 'input_inr_per_mtok = "292.8"'),
    ):
        text = (PACKAGED / "providers" / f"{name}.toml").read_text()
        assert right in text
        put(f"providers/{name}.toml", text.replace(right, wrong, 1))
        doubted = [problem for problem in check([tmp_path], fx=FX) if "point" in problem.message]
        assert doubted, name
        (tmp_path / "providers" / f"{name}.toml").unlink()


def test_a_list_of_prices_that_cannot_be_read_is_told(tmp_path: Path, put: Put) -> None:
    put("providers/acme.toml", PROVIDER)
    put("list_prices.toml", LISTED.replace('"0.28"', '"dear"'))
    (problem,) = check([tmp_path], fx=FX)
    assert (Path(problem.file).name, problem.field) == ("list_prices.toml", "models.acme/tiny.input")


def test_everything_that_the_product_promises_is_in_the_catalog(shipped: Catalog) -> None:
    promised = """krutrim-2 sarvam-30b sarvam-105b qwen2.5-7b-instruct qwen3-32b llama-3.1-8b-instruct llama-3.3-70b
        gemma-4-31b-it gpt-oss-20b gpt-oss-120b glm-4.6 glm-4.7 glm-4.5-air glm-4.7-flash glm-5.2 kimi-k2 kimi-k3
        deepseek-v4-pro nemotron-super gpt-5 gpt-5-mini gpt-5.6-sol gemini-2.5-flash claude-haiku-4.5 claude-fable-5
        bge-m3 whisper-large-v3 kokoro-82m"""
    assert [id for id in promised.split() if not shipped.routes_of(id)] == []
