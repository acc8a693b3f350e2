"""Reads providers and models from TOML files, strictly: a slip in a price must stop its file, not reach a
bill.

Each directory holds `providers/*.toml` and `catalog/*.toml`. A provider file in a later directory replaces
the one of the same file name before it. A bad file stops only itself; what is wrong with it is returned,
never swallowed.
"""

import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import InvalidOperation
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from domain.catalog.catalog import Catalog, assemble
from domain.catalog.model import Modality, Model, Openness, Provider, Route
from domain.catalog.price import Fx, Rates, make_rates
from domain.inference.metering import TOKENS_MAX, UsageSemantics
from domain.kernel.money import parse_inr, rate_from_inr_per_mtok, rate_from_usd_per_mtok, rupees

PACKAGED = Path(__file__).parent

# Nano-rupees per token. Outside these a price per million is a slip: per token, per thousand, or paise.
RATE_MIN = 100
RATE_MAX = 50_000_000
PER_REQUEST_MAX = rupees(1_000)


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


class _ModelFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    models: tuple[_ModelEntry, ...]


class _RouteEntry(_ModelEntry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model as one provider serves it. Prices are decimal strings: TOML's own decimals would be floats."""

    upstream: _Text
    priced_on: _Text | None = None
    input_inr_per_mtok: str | None = None
    cached_input_inr_per_mtok: str | None = None
    cache_write_inr_per_mtok: str | None = None
    output_inr_per_mtok: str | None = None
    input_usd_per_mtok: str | None = None
    cached_input_usd_per_mtok: str | None = None
    cache_write_usd_per_mtok: str | None = None
    output_usd_per_mtok: str | None = None
    per_request_inr: str | None = None
    priced_to_tokens: _Tokens = 0
    free: bool = False
    byok_only: bool = False
    refuses: tuple[str, ...] = ()


class _ProviderFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: _ProviderId
    name: _Text
    base_url: _Text
    residency: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}\Z")] | None = None
    auth: Annotated[str, msgspec.Meta(pattern=r"^(bearer|none|header:[A-Za-z0-9-]+)\Z")] | None = None
    key_env: Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Z0-9_]*\Z")] | None = None
    wire: Literal["openai"] = "openai"
    usage: UsageSemantics = UsageSemantics()
    output_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    refuses: tuple[str, ...] = ()
    models: tuple[_RouteEntry, ...] = ()


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
    """All problems of the files: those that stop a file, and models that no provider serves."""
    catalog, problems = load(directories, fx=fx)
    unserved = [model for model in catalog.models if not catalog.routes_of(model)]
    return problems + [
        Problem(file="", field=model, message="no provider file has a route for this model") for model in unserved
    ]


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
        for index, entry in enumerate(file.models):
            where = f"models[{index}]"
            if entry.id in routes:
                raise _Wrong(f"{where}.id", f"the model {entry.id} is here twice")
            model = self.models.get(entry.id)
            if model is None:
                model = models[entry.id] = _model(entry, where, owner=provider.id)
            else:
                _refuse_description(entry, where)
            routes[entry.id] = Route(
                provider=provider.id,
                model=model.id,
                upstream=entry.upstream,
                residency=provider.residency,
                rates=_rates(entry, provider.id, model, where, self.fx),
                context_length=_or(entry.context_length, model.context_length),
                max_output_tokens=_or(entry.max_output_tokens, model.max_output_tokens),
                priced_to_tokens=entry.priced_to_tokens,
                refuses=frozenset(file.refuses + entry.refuses),
            )
        self.providers[provider.id] = provider
        self.models |= models
        self.routes += routes.values()


def _provider(file: _ProviderFile) -> Provider:
    try:
        address = urlsplit(file.base_url)
    except ValueError as invalid:
        raise _Wrong("base_url", str(invalid)) from None
    if address.scheme not in ("http", "https") or not address.hostname or address.query or address.fragment:
        raise _Wrong("base_url", "must be a plain http or https address")
    if address.username is not None or file.base_url.endswith("/"):
        raise _Wrong("base_url", "must have no credentials and no slash at its end")
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
        wire=file.wire,
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


def _rates(entry: _RouteEntry, provider: str, model: Model, where: str, fx: Fx) -> Rates | None:
    """The route's rates, or None for a route that is declared to have none; never zero without being told
    so.
    """
    prices = [name for name in entry.__struct_fields__ if "_per_mtok" in name and getattr(entry, name) is not None]
    if entry.byok_only:
        if prices or entry.per_request_inr or entry.free:
            raise _Wrong(f"{where}.byok_only", "is set beside a price")
        return None
    if entry.priced_on is None:
        raise _Wrong(f"{where}.priced_on", "is missing")
    _day(entry.priced_on, f"{where}.priced_on")
    if entry.free:
        if prices or entry.per_request_inr:
            raise _Wrong(f"{where}.free", "is set beside a price")
        return make_rates(provider=provider, model=model.id, priced_on=entry.priced_on, input=0, output=0)
    if len({"_inr_" in name for name in prices}) > 1:
        raise _Wrong(where, "has prices in two currencies")
    currency = "inr" if any("_inr_" in name for name in prices) else "usd"
    rate: dict[str, int] = {}
    for part in ("input", "cached_input", "cache_write", "output"):
        name = f"{part}_{currency}_per_mtok"
        if name in prices:
            rate[part] = _rate(getattr(entry, name), currency, f"{where}.{name}", fx)
    if "input" not in rate:
        raise _Wrong(f"{where}.input_{currency}_per_mtok", "is missing; say free or byok_only if that is meant")
    if "output" not in rate and model.modality == "chat":
        raise _Wrong(f"{where}.output_{currency}_per_mtok", "is missing")
    if rate.get("cached_input", 0) > rate["input"]:
        raise _Wrong(f"{where}.cached_input_{currency}_per_mtok", "is dearer than the input itself")
    return make_rates(
        provider=provider,
        model=model.id,
        priced_on=entry.priced_on,
        input=rate["input"],
        cached_input=rate.get("cached_input"),
        cache_write=rate.get("cache_write"),
        output=rate.get("output", 0),
        per_request=_per_request(entry.per_request_inr, f"{where}.per_request_inr"),
    )


def _rate(text: str, currency: str, field: str, fx: Fx) -> int:
    """Nano-rupees per token, inside the bounds of sanity."""
    try:
        if currency == "inr":
            nanos = rate_from_inr_per_mtok(text)
        else:
            nanos = rate_from_usd_per_mtok(text, inr_per_usd=fx.inr_per_usd, margin=fx.margin)
    except (ValueError, InvalidOperation):
        raise _Wrong(field, f"is not a price per million tokens: {text!r}") from None
    if not RATE_MIN <= nanos <= RATE_MAX:
        raise _Wrong(field, f"is absurd for a million tokens: {text!r}")
    return nanos


def _per_request(text: str | None, field: str) -> int:
    if text is None:
        return 0
    try:
        nanos = parse_inr(text)
    except ValueError as invalid:
        raise _Wrong(field, str(invalid)) from None
    if not 0 < nanos <= PER_REQUEST_MAX:
        raise _Wrong(field, f"is absurd for one request: {text!r}")
    return nanos


def _day(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _Wrong(field, f"is not a date like 2026-09-20: {text!r}") from None


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
