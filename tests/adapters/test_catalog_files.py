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
from domain.catalog.price import Fx

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
    assert resident == {"sarvam", "sarvam-open", "bedrock-mumbai"}
    assert {each.residency for each in shipped.providers.values()} == {INDIA, ""}


def test_the_only_shipped_price_of_nothing_is_meant(shipped: Catalog) -> None:
    free = [
        f"{route.provider}/{route.model}"
        for routes in shipped.routes.values()
        for route in routes
        if route.rates is not None and route.rates.input == 0
    ]
    assert free == ["zai/glm-4.7-flash"]


def test_the_shipped_providers_are_called_over_tls_with_a_key_of_the_platform(shipped: Catalog) -> None:
    for provider in shipped.providers.values():
        assert provider.base_url.startswith("https://")
        assert provider.auth == "bearer"
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
