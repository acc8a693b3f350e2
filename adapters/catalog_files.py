"""Reads providers and models from TOML files, strictly: a slip in a price must stop its file, not reach a
bill.

Each directory holds `providers/*.toml` and `catalog/*.toml`. A provider file in a later directory replaces
the one of the same file name before it. A bad file stops only itself; what is wrong with it is returned,
never swallowed.
"""

import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from domain.catalog.catalog import Catalog, assemble
from domain.catalog.doubts import ListPrice, doubts
from domain.catalog.model import Modality, Model, Openness, Provider, Route, WireName
from domain.catalog.price import Fx, Rates, Variant, make_rates
from domain.inference.metering import TOKENS_MAX, UsageSemantics
from domain.inference.wires.registry import WIRES
from domain.kernel.money import nanos_from_inr, nanos_from_usd, rate_from_inr_per_mtok, rate_from_usd_per_mtok, rupees

PACKAGED = Path(__file__).parent
LIST_PRICES = "list_prices.toml"

# Nano-rupees per token. Outside these a price per million is a slip: per token, per thousand, or paise.
RATE_MIN = 100
RATE_MAX = 50_000_000
PER_REQUEST_MAX = rupees(1_000)
PER_SECOND_MAX = rupees(10)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong in a file, where (a TOML path, empty for the whole file), in words for whoever wrote
    it.
    """

    file: str
    field: str
    message: str


_ProviderId = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]*\Z")]
_ModelId = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9./_-]*\Z")]
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]
_HeaderValue = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]+\Z")]
_Path = Annotated[str, msgspec.Meta(pattern=r"^/[\x21\x24-\x7e]*\Z")]
_WINDOW = r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)\Z"


class _ModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: _ModelId
    name: _Text | None = None
    owned_by: _Text | None = None
    listed_on: _Text | None = None
    modality: Modality | None = None
    openness: Openness | None = None
    capabilities: tuple[str, ...] | None = None
    reasoning: bool | None = None
    context_length: _Tokens | None = None
    max_output_tokens: _Tokens | None = None


class _ListEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    input: str
    output: str = "0"
    on: str


class _ModelFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    models: tuple[_ModelEntry, ...]


class _Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one set of rates costs. Decimal strings: TOML's own decimals would be floats."""

    input_inr_per_mtok: str | None = None
    cached_input_inr_per_mtok: str | None = None
    cache_write_inr_per_mtok: str | None = None
    cache_write_hour_inr_per_mtok: str | None = None
    output_inr_per_mtok: str | None = None
    audio_input_inr_per_mtok: str | None = None
    cached_audio_input_inr_per_mtok: str | None = None
    audio_output_inr_per_mtok: str | None = None
    per_minute_inr: str | None = None
    per_mchar_inr: str | None = None
    per_request_inr: str | None = None
    input_usd_per_mtok: str | None = None
    cached_input_usd_per_mtok: str | None = None
    cache_write_usd_per_mtok: str | None = None
    cache_write_hour_usd_per_mtok: str | None = None
    output_usd_per_mtok: str | None = None
    audio_input_usd_per_mtok: str | None = None
    cached_audio_input_usd_per_mtok: str | None = None
    audio_output_usd_per_mtok: str | None = None
    per_minute_usd: str | None = None
    per_mchar_usd: str | None = None
    per_request_usd: str | None = None

    def given(self) -> dict[str, str]:
        """The prices that are there, by name."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: price for name, price in found.items() if price is not None}


class _Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When other prices hold, beside which they stand: `utc` are times of the day like `01:00-04:00`."""

    tier: _Text | None = None
    above_tokens: _Tokens = 0
    utc: tuple[Annotated[str, msgspec.Meta(pattern=_WINDOW)], ...] = ()


class _RouteEntry(_ModelEntry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model as one provider serves it, but for its prices."""

    upstream: _Text
    priced_on: _Text | None = None
    priced_to_tokens: _Tokens = 0
    free: bool = False
    byok_only: bool = False
    refuses: tuple[str, ...] = ()
    when: tuple[dict[str, Any], ...] = ()


class _ProviderFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: _ProviderId
    name: _Text
    base_url: _Text
    residency: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}\Z")] | None = None
    auth: Annotated[str, msgspec.Meta(pattern=r"^(bearer|none|header:[A-Za-z0-9-]+)\Z")] | None = None
    key_env: Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Z0-9_]*\Z")] | None = None
    headers: dict[str, _HeaderValue] = {}
    wire: WireName = "openai"
    paths: dict[Literal["chat", "stream", "embeddings", "models"], _Path] = {}
    usage: UsageSemantics = UsageSemantics()
    output_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    refuses: tuple[str, ...] = ()
    models: tuple[dict[str, Any], ...] = ()


class _ListPriceFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    models: dict[str, _ListEntry]


class _Wrong(Exception):
    """A fault in the file being read, at a TOML path."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def load(directories: Sequence[Path], *, fx: Fx) -> tuple[Catalog, list[Problem]]:
    """The catalog of all good files of these directories, in order, and the problems of the others.

    Dollar prices become rupees at `fx`. Models stand in the order of the catalog files, then of the
    provider files.
    """
    reading = _Reading(fx)
    for directory in directories:
        for path in sorted((directory / "catalog").glob("*.toml")):
            reading.guard(path, reading.read_models)
    for path in _provider_files(directories):
        reading.guard(path, reading.read_provider)
    catalog = assemble(providers=reading.providers.values(), models=reading.models.values(), routes=reading.routes)
    return catalog, reading.problems


def check(directories: Sequence[Path], *, fx: Fx) -> list[Problem]:
    """All problems of the files: those that stop a file, models that no provider serves, and prices and limits that
    make no sense, among them those far from the model's list price (`list_prices.toml` of each directory).
    """
    catalog, problems = load(directories, fx=fx)
    unserved = [model for model in catalog.models if not catalog.routes_of(model)]
    problems += [
        Problem(file="", field=model, message="no provider file has a route for this model") for model in unserved
    ]
    listed, unreadable = load_list_prices(directories, fx=fx)
    return [
        *problems,
        *unreadable,
        *[Problem(file="", field=doubt.route, message=doubt.message) for doubt in doubts(catalog, listed)],
    ]


def load_list_prices(directories: Sequence[Path], *, fx: Fx) -> tuple[dict[str, ListPrice], list[Problem]]:
    """What models usually cost, by model, of the good files of these directories, and the problems of the others."""
    reading = _Reading(fx)
    for directory in directories:
        path = directory / LIST_PRICES
        if path.exists():
            reading.guard(path, reading.read_list_prices)
    return reading.listed, reading.problems


def _provider_files(directories: Sequence[Path]) -> list[Path]:
    by_name: dict[str, Path] = {}
    for directory in directories:
        for path in sorted((directory / "providers").glob("*.toml")):
            by_name[path.name] = path
    return list(by_name.values())


class _Reading:
    """The catalog as it grows while file after file is read. A file adds all it holds, or nothing."""

    def __init__(self, fx: Fx) -> None:
        self.fx = fx
        self.providers: dict[str, Provider] = {}
        self.models: dict[str, Model] = {}
        self.routes: list[Route] = []
        self.listed: dict[str, ListPrice] = {}
        self.problems: list[Problem] = []

    def guard(self, path: Path, read: Callable[[dict[str, object]], None]) -> None:
        try:
            read(tomllib.loads(path.read_text("utf-8")))
        except _Wrong as wrong:
            self.problems.append(Problem(file=str(path), field=wrong.field, message=wrong.message))
        except msgspec.ValidationError as invalid:
            message, _, field = str(invalid).partition(" - at `$")
            self.problems.append(Problem(file=str(path), field=field.strip("`."), message=message))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as unreadable:
            self.problems.append(Problem(file=str(path), field="", message=str(unreadable)))

    def read_models(self, document: dict[str, object]) -> None:
        found: dict[str, Model] = {}
        for index, entry in enumerate(msgspec.convert(document, _ModelFile).models):
            where = f"models[{index}]"
            if entry.id in self.models or entry.id in found:
                raise _Wrong(f"{where}.id", f"the model {entry.id} is declared already")
            for name in ("name", "owned_by", "listed_on", "modality", "openness"):
                if getattr(entry, name) is None:
                    raise _Wrong(f"{where}.{name}", "is missing")
            found[entry.id] = _model(entry, where, owner="")
        self.models |= found

    def read_provider(self, document: dict[str, object]) -> None:
        file = msgspec.convert(document, _ProviderFile)
        if file.id in self.providers:
            raise _Wrong("id", f"the provider {file.id} is declared already, in a file of another name")
        provider = _provider(file)
        models: dict[str, Model] = {}
        routes: dict[str, Route] = {}
        wire = WIRES[provider.wire]
        for index, given in enumerate(file.models):
            where = f"models[{index}]"
            entry, prices = _entry(given, where)
            if entry.id in routes:
                raise _Wrong(f"{where}.id", f"the model {entry.id} is here twice")
            model = self.models.get(entry.id)
            if model is None:
                model = models[entry.id] = _model(entry, where, owner=provider.id)
            else:
                _refuse_description(entry, where)
            if model.modality == "embedding" and "embeddings" not in (provider.paths or wire.paths):
                raise _Wrong(f"{where}.id", f"embeddings cannot be asked for on the wire {provider.wire}")
            routes[entry.id] = Route(
                provider=provider.id,
                model=model.id,
                upstream=entry.upstream,
                residency=provider.residency,
                rates=_rates(entry, prices, provider.id, model, where, self.fx),
                context_length=_or(entry.context_length, model.context_length),
                max_output_tokens=_or(entry.max_output_tokens, model.max_output_tokens),
                priced_to_tokens=entry.priced_to_tokens,
                refuses=frozenset(file.refuses + entry.refuses),
                takes=wire.takes,
            )
        self.providers[provider.id] = provider
        self.models |= models
        self.routes += routes.values()

    def read_list_prices(self, document: dict[str, object]) -> None:
        for model, entry in msgspec.convert(document, _ListPriceFile).models.items():
            _day(entry.on, f"models.{model}.on")
            self.listed[model] = ListPrice(
                input=_rate(entry.input, "usd", f"models.{model}.input", self.fx),
                output=0 if entry.output == "0" else _rate(entry.output, "usd", f"models.{model}.output", self.fx),
                input_usd=Decimal(entry.input),
                output_usd=Decimal(entry.output),
                on=entry.on,
            )


_T = TypeVar("_T", bound=msgspec.Struct)


def _convert(given: dict[str, Any], kind: type[_T], where: str) -> _T:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as invalid:
        message, _, field = str(invalid).partition(" - at `$")
        raise _Wrong(where + field.strip("`"), message) from None


def _entry(given: dict[str, Any], where: str) -> tuple[_RouteEntry, _Prices]:
    """A route as it stands in the file, and its prices, which stand beside the rest."""
    prices = {name: given[name] for name in _Prices.__struct_fields__ if name in given}
    rest = {name: value for name, value in given.items() if name not in prices}
    return _convert(rest, _RouteEntry, where), _convert(prices, _Prices, where)


def _provider(file: _ProviderFile) -> Provider:
    try:
        address = urlsplit(file.base_url)
    except ValueError as invalid:
        raise _Wrong("base_url", str(invalid)) from None
    if address.scheme not in ("http", "https") or not address.hostname or address.query or address.fragment:
        raise _Wrong("base_url", "must be a plain http or https address")
    if address.username is not None or file.base_url.endswith("/"):
        raise _Wrong("base_url", "must have no credentials and no slash at its end")
    if set(file.headers) & {"authorization", "host", "content-length", "content-type"}:
        raise _Wrong("headers", "has a header that is ours to set")
    auth = file.auth or ("bearer" if file.key_env else "none")
    if auth == "none" and file.key_env:
        raise _Wrong("key_env", 'is set, but auth is "none"')
    return Provider(
        id=file.id,
        name=file.name,
        base_url=file.base_url,
        residency=file.residency or "",
        auth=auth,
        key_env=file.key_env or "",
        headers=file.headers,
        wire=file.wire,
        paths={str(kind): path for kind, path in file.paths.items()},
        usage=file.usage,
        output_limit_field=file.output_limit_field,
    )


def _model(entry: _ModelEntry, where: str, *, owner: str) -> Model:
    """The model an entry describes; what a provider's file leaves unsaid is taken as the stricter."""
    modality = entry.modality or "chat"
    if entry.context_length is None:
        raise _Wrong(f"{where}.context_length", "is missing")
    if entry.max_output_tokens is None and modality == "chat":
        raise _Wrong(f"{where}.max_output_tokens", "is missing")
    listed_on = _day(entry.listed_on or "1970-01-01", f"{where}.listed_on")
    return Model(
        id=entry.id,
        name=entry.name or entry.id,
        created=int(datetime(listed_on.year, listed_on.month, listed_on.day, tzinfo=UTC).timestamp()),
        owned_by=entry.owned_by or owner,
        modality=modality,
        context_length=entry.context_length,
        max_output_tokens=entry.max_output_tokens or 0,
        openness=entry.openness or "proprietary",
        capabilities=entry.capabilities or (),
        reasoning=entry.reasoning or False,
    )


def _refuse_description(entry: _RouteEntry, where: str) -> None:
    """Two places that describe one model will disagree one day; only its limits may differ from route to
    route.
    """
    for name in ("name", "owned_by", "listed_on", "modality", "openness", "capabilities", "reasoning"):
        if getattr(entry, name) is not None:
            raise _Wrong(f"{where}.{name}", f"the model {entry.id} is described elsewhere already")


def _rates(entry: _RouteEntry, prices: _Prices, provider: str, model: Model, where: str, fx: Fx) -> Rates | None:
    """The route's rates, or None for a route that is declared to have none; never zero without being told
    so.
    """
    priced = prices.given()
    if entry.byok_only or entry.free:
        declared = "byok_only" if entry.byok_only else "free"
        if priced or entry.when or (entry.byok_only and entry.free):
            raise _Wrong(f"{where}.{declared}", "is set beside a price")
        if entry.byok_only:
            return None
    if entry.priced_on is None:
        raise _Wrong(f"{where}.priced_on", "is missing")
    _day(entry.priced_on, f"{where}.priced_on")
    named: dict[str, Any] = {"provider": provider, "model": model.id, "priced_on": entry.priced_on}
    if entry.free:
        return make_rates(**named, input=0, output=0)
    if len({"inr" in name for name in priced}) > 1:
        raise _Wrong(where, "has prices in two currencies")
    variants = _variants(entry, priced, model, named, where, fx)
    return make_rates(**named, **_rate_set(priced, model, where, fx), variants=variants)


def _variants(
    entry: _RouteEntry, priced: dict[str, str], model: Model, named: dict[str, Any], where: str, fx: Fx
) -> tuple[Variant, ...]:
    """The prices under conditions, the narrowest first: above more tokens before above fewer, at times before always.

    A tier without a step where the standard prices have one would be cheap by accident, and is refused.
    """
    found = []
    for index, given in enumerate(entry.when):
        at = f"{where}.when[{index}]"
        prices = _convert({n: v for n, v in given.items() if n in _Prices.__struct_fields__}, _Prices, at)
        condition = _convert({n: v for n, v in given.items() if n not in _Prices.__struct_fields__}, _Condition, at)
        if condition == _Condition():
            raise _Wrong(at, "has no condition: say tier, above_tokens or utc")
        theirs = prices.given()
        if len({"inr" in name for name in priced | theirs}) > 1:
            raise _Wrong(at, "has prices in another currency")
        found.append(
            Variant(
                rates=make_rates(**named, **_rate_set(theirs, model, at, fx)),
                tier=condition.tier or "",
                above_tokens=condition.above_tokens,
                windows=tuple(_window(text, f"{at}.utc") for text in condition.utc),
            )
        )
    steps = {variant.above_tokens for variant in found if not variant.tier and variant.above_tokens}
    for tier in {variant.tier for variant in found if variant.tier}:
        missing = steps - {variant.above_tokens for variant in found if variant.tier == tier}
        if missing:
            raise _Wrong(f"{where}.when", f"the tier {tier} has no price above {min(missing)} tokens")
    if len({(variant.tier, variant.above_tokens, variant.windows) for variant in found}) < len(found):
        raise _Wrong(f"{where}.when", "has the same condition twice")
    return tuple(sorted(found, key=lambda variant: (-variant.above_tokens, not variant.windows)))


def _rate_set(priced: dict[str, str], model: Model, where: str, fx: Fx) -> dict[str, Any]:
    """One set of rates as arguments of `make_rates`."""
    currency = "inr" if any("inr" in name for name in priced) else "usd"
    rate = {
        name.removesuffix(f"_{currency}_per_mtok"): _rate(price, currency, f"{where}.{name}", fx)
        for name, price in priced.items()
        if name.endswith("_per_mtok")
    }
    rare = {name: rate[name] for name in rate.keys() - {"input", "cached_input", "cache_write", "output"}}
    if f"per_minute_{currency}" in priced:
        rare["seconds"] = _amount(priced, f"per_minute_{currency}", where, fx, parts=60, most=PER_SECOND_MAX)
    if f"per_mchar_{currency}" in priced:
        rare["characters"] = _rate(priced[f"per_mchar_{currency}"], currency, f"{where}.per_mchar_{currency}", fx)
    unit = {"transcription": "seconds", "speech": "characters"}.get(model.modality)
    if unit is None and "input" not in rate:
        raise _Wrong(f"{where}.input_{currency}_per_mtok", "is missing; say free or byok_only if that is meant")
    if unit is not None and unit not in rare:
        missing = "per_minute" if unit == "seconds" else "per_mchar"
        raise _Wrong(f"{where}.{missing}_{currency}", "is missing; say free or byok_only if that is meant")
    if "output" not in rate and model.modality == "chat":
        raise _Wrong(f"{where}.output_{currency}_per_mtok", "is missing")
    for cached, plain in (("cached_input", "input"), ("cached_audio_input", "audio_input")):
        if rate.get(cached, 0) > rate.get(plain, rate.get("input", 0)):
            raise _Wrong(f"{where}.{cached}_{currency}_per_mtok", "is dearer than the input itself")
    return {
        "input": rate.get("input", 0),
        "cached_input": rate.get("cached_input"),
        "cache_write": rate.get("cache_write"),
        "output": rate.get("output", 0),
        "per_request": _amount(priced, f"per_request_{currency}", where, fx, parts=1, most=PER_REQUEST_MAX),
        "rare": rare,
    }


def _rate(text: str, currency: str, field: str, fx: Fx) -> int:
    """Nano-rupees per token or character, inside the bounds of sanity."""
    try:
        if currency == "inr":
            nanos = rate_from_inr_per_mtok(text)
        else:
            nanos = rate_from_usd_per_mtok(text, inr_per_usd=fx.inr_per_usd, margin=fx.margin)
    except (ValueError, InvalidOperation):
        raise _Wrong(field, f"is not a price per million: {text!r}") from None
    if not RATE_MIN <= nanos <= RATE_MAX:
        raise _Wrong(field, f"is absurd for a million: {text!r}")
    return nanos


def _amount(priced: dict[str, str], name: str, where: str, fx: Fx, *, parts: int, most: int) -> int:
    """Nano-rupees of one of so many equal parts of a price; 0 where it is not given."""
    if name not in priced:
        return 0
    text = priced[name]
    try:
        if name.endswith("inr"):
            nanos = nanos_from_inr(text, parts=parts)
        else:
            nanos = nanos_from_usd(text, inr_per_usd=fx.inr_per_usd, margin=fx.margin, parts=parts)
    except (ValueError, InvalidOperation):
        raise _Wrong(f"{where}.{name}", f"is not a price: {text!r}") from None
    if not 0 < nanos <= most:
        raise _Wrong(f"{where}.{name}", f"is absurd: {text!r}")
    return nanos


def _window(text: str, field: str) -> tuple[int, int]:
    """Minutes of the UTC day."""
    begin, end = (60 * int(time[:2]) + int(time[3:]) for time in text.split("-"))
    if begin >= end:
        raise _Wrong(field, f"must end after it begins; over midnight it is two: {text!r}")
    return begin, end


def _day(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _Wrong(field, f"is not a date like 2026-09-20: {text!r}") from None


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
