"""What an org has brought: its keys for providers and its endpoints, and the decisions to save and remove them."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from sys import intern
from urllib.parse import urlsplit

from domain.byo.events import (
    OwnEndpointAdded,
    OwnEndpointRemoved,
    OwnKeyChecked,
    OwnKeyRemoved,
    OwnKeySaved,
)
from domain.catalog.model import Provider
from domain.kernel.errors import Invalid, NotFound
from domain.kernel.events import Event
from domain.kernel.store import Change, Decision, Store
from domain.routing.needs import OWN_ENDPOINT

KEY_LENGTH_MAX = 1_000
LABEL_LENGTH_MAX = 100
SLUG_LENGTH_MAX = 40
MODELS_MAX = 2_000
ENDPOINTS_MAX = 20

_KEY = re.compile(rf"[!-~]{{1,{KEY_LENGTH_MAX}}}")
_MODEL = re.compile(r"[!-~]{1,200}")
_COUNTRY = re.compile(r"[A-Z]{2}")


@dataclass(frozen=True, slots=True)
class OwnKey:
    """The org's key for one provider, sealed for the org and `host`. `discovered` are the provider's own ids of models;
    times in microseconds since 1970."""

    provider: str
    host: str
    sealed: str
    mask: str
    label: str
    always_use: bool
    verified: bool
    discovered: tuple[str, ...]
    saved_at: int
    checked_at: int


@dataclass(frozen=True, slots=True)
class OwnEndpoint:
    """An OpenAI-compatible deployment of the org. `sealed` is empty where it takes no key."""

    id: str
    slug: str
    name: str
    model: str
    base_url: str
    upstream: str
    residency: str
    sealed: str
    mask: str
    added_at: int

    @property
    def provider_ref(self) -> str:
        """How callers name it: `byoe:<slug>`."""
        return OWN_ENDPOINT + self.slug

    @property
    def host(self) -> str:
        """The host that its key is sealed for."""
        return host_of(self.base_url)


@dataclass(frozen=True, slots=True)
class Own:
    """Keys by provider and endpoints by slug, oldest first."""

    keys: Mapping[str, OwnKey] = field(default_factory=dict)
    endpoints: Mapping[str, OwnEndpoint] = field(default_factory=dict)

    def evolve(self, stream: str, event: Event) -> "Own":
        match event:
            case OwnKeySaved():
                return replace(self, keys={**self.keys, event.provider: _key(event)})
            case OwnKeyChecked() if event.provider in self.keys:
                known = self.keys[event.provider]
                found = tuple(map(intern, event.discovered))
                checked = replace(known, verified=event.verified, discovered=found, checked_at=event.at)
                return replace(self, keys={**self.keys, event.provider: checked})
            case OwnKeyRemoved():
                return replace(self, keys={id: key for id, key in self.keys.items() if id != event.provider})
            case OwnEndpointAdded():
                endpoint = _endpoint(stream.partition(":")[2], event)
                return replace(self, endpoints={**self.endpoints, event.slug: endpoint})
            case OwnEndpointRemoved():
                left = {slug: endpoint for slug, endpoint in self.endpoints.items() if slug != event.slug}
                return replace(self, endpoints=left)
            case _:
                return self

    def key(self, provider: str) -> OwnKey:
        """Raises NotFound where the org has none for this provider."""
        key = self.keys.get(provider)
        if key is None:
            raise NotFound(
                "not_found", f"No key is saved for '{provider}'; PUT /me/byok/{provider} saves one.", param="provider"
            )
        return key

    def endpoint(self, id: str) -> OwnEndpoint:
        """Raises NotFound where the org has no such endpoint."""
        found = next((endpoint for endpoint in self.endpoints.values() if endpoint.id == id), None)
        if found is None:
            raise NotFound("not_found", "No such endpoint; list yours with GET /me/endpoints.", param="id")
        return found


NOTHING_OWN = Own()


# Keys


def save_key(
    store: Store,
    *,
    org: str,
    provider: str,
    host: str,
    sealed: str,
    mask: str,
    label: str,
    always_use: bool,
    verified: bool,
    discovered: Sequence[str],
    at: int,
    by: str,
) -> int | None:
    """Saves the org's key for a provider, in place of the one before. Raises Invalid `invalid_request`."""
    saved = OwnKeySaved(
        org=org,
        provider=provider,
        host=host,
        sealed=sealed,
        mask=mask,
        label=_clean_label(label),
        always_use=always_use,
        verified=verified,
        discovered=tuple(discovered),
    )
    stream = f"credential:{org}/{provider}"
    return store.change(Change(stream, Own(), lambda state: [(stream, saved)]), at=at, by=by)


def note_check(
    store: Store,
    *,
    org: str,
    provider: str,
    sealed: str,
    verified: bool,
    discovered: Sequence[str],
    at: int,
    by: str,
) -> int | None:
    """Records what a check of the key that is sealed so has found. Nothing, if that is known, or the key is another by
    now."""
    stream = f"credential:{org}/{provider}"

    def decide(state: Own) -> Decision:
        key = state.keys.get(provider)
        found = tuple(discovered) if verified or key is None else key.discovered
        if key is None or key.sealed != sealed or (key.verified, key.discovered) == (verified, found):
            return []
        return [(stream, OwnKeyChecked(org=org, provider=provider, verified=verified, discovered=found))]

    return store.change(Change(stream, Own(), decide), at=at, by=by)


def remove_key(store: Store, *, org: str, provider: str, at: int, by: str) -> int | None:
    """Forgets the key. Raises NotFound where there is none."""
    stream = f"credential:{org}/{provider}"

    def decide(state: Own) -> Decision:
        state.key(provider)
        return [(stream, OwnKeyRemoved(org=org, provider=provider))]

    return store.change(Change(stream, Own(), decide), at=at, by=by)


# Endpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointTerms:
    """What an org says of an endpoint. `base_url` is as the guard of addresses wants it kept."""

    name: str
    model: str
    base_url: str
    upstream: str
    residency: str | None


def check_terms(terms: EndpointTerms) -> EndpointTerms:
    """The terms in the form in which they are kept. Raises Invalid `invalid_request`."""
    name = " ".join(terms.name.split())
    if not 1 <= len(name) <= LABEL_LENGTH_MAX or not name.isprintable() or not slug_of(name):
        raise Invalid(
            "invalid_request",
            f"Give a name of 1 to {LABEL_LENGTH_MAX} characters with a letter of a to z or a digit in it.",
            param="name",
        )
    for param, given in (("model", terms.model), ("upstream_model", terms.upstream)):
        if not _MODEL.fullmatch(given):
            raise Invalid("invalid_request", f"'{param}' must be 1 to 200 ASCII signs without blanks.", param=param)
    residency = (terms.residency or "").upper()
    if residency and not _COUNTRY.fullmatch(residency):
        raise Invalid(
            "invalid_request",
            "'residency' is an ISO country of two letters, such as IN, or null, which counts as abroad.",
            param="residency",
        )
    return replace(terms, name=name, base_url=check_base_url(terms.base_url), residency=residency)


def check_base_url(url: str) -> str:
    """The URL without a slash at its end. Raises Invalid `invalid_request` for one with a query."""
    if "?" in url:
        raise Invalid("invalid_request", "'base_url' must have no query; paths are put behind it.", param="base_url")
    return url.rstrip("/")


def add_endpoint(
    store: Store,
    *,
    org: str,
    endpoint: str,
    terms: EndpointTerms,
    sealed: str,
    mask: str,
    at: int,
    by: str,
) -> int | None:
    """Saves an endpoint under the slug of its name, with a number behind it where that is taken. `terms` are checked.

    Raises Invalid `endpoint_limit`; a repeat with the same id changes nothing.
    """

    def decide(state: Own) -> Decision:
        if any(known.id == endpoint for known in state.endpoints.values()):
            return []
        require_room(state)
        added = OwnEndpointAdded(
            org=org,
            slug=_free_slug(slug_of(terms.name), state),
            name=terms.name,
            model=terms.model,
            base_url=terms.base_url,
            upstream=terms.upstream,
            residency=terms.residency or "",
            sealed=sealed,
            mask=mask,
        )
        return [(f"endpoint:{endpoint}", added)]

    return store.change(Change(f"org:{org}", Own(), decide), at=at, by=by)


def require_room(own: Own) -> None:
    """Raises Invalid `endpoint_limit` if the org has as many endpoints as it may have."""
    if len(own.endpoints) >= ENDPOINTS_MAX:
        raise Invalid("endpoint_limit", f"An org has at most {ENDPOINTS_MAX} endpoints; delete one you do not need.")


def remove_endpoint(store: Store, *, org: str, endpoint: str, at: int, by: str) -> int | None:
    """Forgets the endpoint. Raises NotFound where the org has no such."""

    def decide(state: Own) -> Decision:
        return [(f"endpoint:{endpoint}", OwnEndpointRemoved(org=org, slug=state.endpoint(endpoint).slug))]

    return store.change(Change(f"org:{org}", Own(), decide), at=at, by=by)


# What both need


def check_key(key: str, *, param: str = "key") -> str:
    """The key without outer blanks. Raises Invalid `invalid_request` for what could be no key; quotes nothing of it."""
    key = key.strip()
    if not _KEY.fullmatch(key):
        raise Invalid(
            "invalid_request", f"'{param}' must be 1 to {KEY_LENGTH_MAX} ASCII signs without blanks.", param=param
        )
    return key


def mask_of(key: str) -> str:
    """What is shown of a key: its last four signs, of a short one none."""
    return "…" + (key[-4:] if len(key) >= 12 else "")


def host_of(url: str) -> str:
    """The host of a URL, in lower case: whom a key is sealed for."""
    return urlsplit(url).hostname or ""


def takes_keys(provider: Provider) -> Provider:
    """The provider. Raises Invalid `invalid_request` for one that takes no key from anybody."""
    if provider.keyless:
        raise Invalid(
            "invalid_request", f"{provider.name} takes no keys; call its models as they are.", param="provider"
        )
    return provider


def usable_models(ids: Sequence[str]) -> tuple[str, ...]:
    """Those of a provider's list that can be named in a request: each once, `MODELS_MAX` at most."""
    return tuple(id for id in dict.fromkeys(ids) if _MODEL.fullmatch(id))[:MODELS_MAX]


def slug_of(name: str) -> str:
    """`GPU box, Pune` is `gpu-box-pune`; empty where no letter or digit is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_LENGTH_MAX].strip("-")


def _free_slug(slug: str, own: Own) -> str:
    numbered = [slug, *(f"{slug}-{number}" for number in range(2, ENDPOINTS_MAX + 2))]
    return next(each for each in numbered if each not in own.endpoints)


def _clean_label(label: str) -> str:
    label = label.strip()
    if len(label) > LABEL_LENGTH_MAX or not (label.isprintable() or not label):
        raise Invalid("invalid_request", f"'label' takes up to {LABEL_LENGTH_MAX} printable characters.", param="label")
    return label


def _key(event: OwnKeySaved) -> OwnKey:
    return OwnKey(
        provider=event.provider,
        host=event.host,
        sealed=event.sealed,
        mask=event.mask,
        label=event.label,
        always_use=event.always_use,
        verified=event.verified,
        discovered=tuple(map(intern, event.discovered)),  # many orgs have the same long lists
        saved_at=event.at,
        checked_at=event.at,
    )


def _endpoint(id: str, event: OwnEndpointAdded) -> OwnEndpoint:
    return OwnEndpoint(
        id=id,
        slug=event.slug,
        name=event.name,
        model=event.model,
        base_url=event.base_url,
        upstream=event.upstream,
        residency=event.residency,
        sealed=event.sealed,
        mask=event.mask,
        added_at=event.at,
    )
