"""What an operator may set, from the environment. Nothing is read before `Settings()` is called.

Keys of providers are no fields: each provider file names its own variable (`BR_KEY_SARVAM`), and the wiring
looks that name up in the environment.
"""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from adapters.egress import parse_allowed
from domain.kernel.errors import Invalid
from domain.payments.document import Supplier
from domain.payments.gstin import check_gstin

SEALING_KEY_LENGTH_MIN = 32


def default_home() -> Path:
    """Where state lives unless BHARATROUTER_HOME says otherwise."""
    return Path("/var/lib/bharatrouter") if os.geteuid() == 0 else Path("~/.local/share/bharatrouter").expanduser()


class Settings(BaseSettings):
    """Every setting and its default. A field `x` is the variable `BR_X` unless it names another."""

    model_config = SettingsConfigDict(
        env_prefix="BR_", frozen=True, extra="forbid", populate_by_name=True, env_ignore_empty=True
    )

    # Where the product lives
    host: str = Field(default="127.0.0.1", validation_alias="HOST")
    port: int = Field(default=8000, ge=0, le=65_535, validation_alias="PORT")
    home: Path = Field(default_factory=default_home, validation_alias="BHARATROUTER_HOME")
    catalog_dir: Path | None = Field(default=None, validation_alias="BHARATROUTER_CATALOG_DIR")
    web_processes: int = Field(default=1, ge=1, validation_alias="WEB_PROCESSES")
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL", repr=False)
    redis_url: str | None = Field(default=None, validation_alias="REDIS_URL", repr=False)
    simulator_url: str | None = None
    public_url: str = Field(
        default_factory=lambda data: f"http://{data['host']}:{data['port']}",
        description="where others reach this product",
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="addresses and networks, with commas between them, whose x-forwarded-for is believed",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Addresses that users give: webhooks, endpoints of their own
    egress_allowed: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="host names, addresses and networks, with commas between them, that may be called although they are"
        " not of the open internet",
    )
    egress_http: bool = Field(default=False, description="whether http:// may be called too")

    # Secrets
    operator_token: SecretStr | None = None
    key_pepper: SecretStr | None = None
    sealing_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="what is sealed is sealed by the first of these, with commas between them; the others, and the one"
        " made of the pepper, open what was sealed before, until `bharatrouter vault reseal`",
    )

    # Limits
    gateway_rpm: int = Field(default=120, ge=0, description="requests a minute per key; 0 is no cap")
    wrong_keys_rpm: int = Field(default=60, ge=0, description="wrong keys a minute per client address; 0 is no cap")
    keys_max: int = Field(default=5, ge=1, description="active keys per org")
    workspaces_max: int = Field(default=20, ge=1, description="per org")
    people_max: int = Field(default=50, ge=1, description="members and open invitations per org")
    teams_max: int = Field(default=10, ge=0, description="team orgs that one person has founded")
    ephemeral_keys_max: int = Field(default=1_000, ge=0, description="ephemeral keys of one key that live at once")
    agents_max: int = Field(default=20, ge=0, description="agents per org")
    collections_max: int = Field(default=100, ge=0, description="collections per org, forks included")
    webhooks_max: int = Field(default=10, ge=0, description="endpoints per org")
    trial_models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="free for orgs that have no credit yet, with commas between them; none is no trial keys"
    )
    trial_rpm: int = Field(default=60, ge=1, description="requests a minute for all trial keys of an org together")
    trial_daily: int = Field(default=200, ge=1, description="requests a day for all trial keys of an org together")
    body_bytes_max: int = Field(default=10_000_000, ge=1)
    in_flight_max: int = Field(default=4_000, ge=1, description="calls at once per process; more are told `overloaded`")

    # Agents: whose tokens are taken in place of keys; without an issuer, nobody's
    agent_issuer: str | None = Field(default=None, description="`iss` of the tokens")
    agent_audience: str | None = Field(default=None, description="`aud` of the tokens")
    agent_jwks_url: str | None = Field(default=None, description="where the issuer publishes its keys")
    agent_claims: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("sub",), min_length=1, description="claims that may tell agents apart, the first that does counts"
    )

    # Money
    sign_up_inr: int = Field(default=100, ge=0, description="whole rupees of credit, once per person")
    topup_inr_min: int = Field(default=100, ge=1, description="whole rupees of one top-up")
    topup_inr_max: int = Field(default=1_000, ge=1)
    hold_seconds: int = Field(default=900, ge=1, description="how long a hold lives without a sign of life")
    fx_inr_per_usd: Decimal = Field(default=Decimal("96"), gt=0)
    fx_date: date = date(2026, 7, 1)
    fx_margin: Decimal = Field(default=Decimal("0.05"), ge=0)
    seal_seconds: int = Field(default=60, ge=1, description="the log is sealed at least this often while it grows")
    seal_events: int = Field(default=10_000, ge=1, description="events in one sealed block at most")

    # Who collects payments; without a key there are none
    razorpay_url: str = "https://api.razorpay.com"
    razorpay_key_id: str | None = None
    razorpay_key_secret: SecretStr | None = None
    razorpay_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="newest first, with commas between them; the ones before are accepted too"
    )

    open_orders_max: int = Field(default=20, ge=1, description="top-ups an org orders within a day and does not pay")

    # Whom persons sign in with; a provider without a client id is offered to nobody
    github_client_id: str | None = None
    github_client_secret: SecretStr | None = None
    github_url: str = "https://github.com"
    github_api_url: str = "https://api.github.com"
    google_client_id: str | None = None
    google_client_secret: SecretStr | None = None
    google_url: str = Field(default="https://accounts.google.com", description="the issuer, as it calls itself")
    sign_ins_max: int = Field(
        default=100, ge=0, description="begun or finished per client address in ten minutes; 0 is no cap"
    )

    # Mail: by BR_SMTP_URL, else BR_SMTP_HOST and its like, else into a folder, else not at all
    smtp_url: SecretStr | None = None
    smtp_host: str | None = None
    smtp_port: int | None = Field(default=None, ge=1, le=65_535, description="465 for tls, 587 for starttls, else 25")
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_tls: Literal["starttls", "tls", "none"] | None = None
    mail_from: str = "BharatRouter <no-reply@localhost>"
    mail_folder: Path | None = Field(default=None, description="mails become files here while no server is set")
    mail_seconds: float = Field(default=20, gt=0, description="for one mail")

    # Who issues documents, and as what; until the supplier is set, they are specimens
    supplier_name: str = "Specimen Supplier (BR_SUPPLIER_NAME is not set)"
    supplier_address: str = Field(
        default="BR_SUPPLIER_ADDRESS is not set; Bengaluru 560001, Karnataka", description="lines, with ; between them"
    )
    supplier_gstin: str = Field(default="29AAAAA1111A1ZS", description="the supplier's PAN and State are read from it")
    supplier_cin: str = ""
    supplier_email: str = "billing@specimen.example"
    supplier_website: str = "specimen.example"
    document_description: str = "Prepaid credit for the use of AI models"
    document_kind: Literal["receipt_voucher", "tax_invoice"] = "receipt_voucher"
    document_pfx: Path | None = Field(default=None, description="certificate and key that documents are signed with")
    document_pfx_password: SecretStr | None = None
    gst_mode: Literal["on_top", "included"] = "on_top"
    gst_percent: int = Field(default=18, ge=0, le=100)
    sac: str = Field(default="998315", pattern=r"^99[0-9]{2}([0-9]{2})?$", description="service accounting code")

    # Patience with providers and clients
    connect_seconds: float = Field(default=5, gt=0)
    first_byte_seconds: float = Field(default=60, gt=0)
    reasoning_first_byte_seconds: float = Field(default=300, gt=0)
    idle_seconds: float = Field(default=120, gt=0, description="between two pieces of a stream")
    circuit_seconds: float = Field(default=30, gt=0, description="a route that failed rests, before one call tries it")
    disconnect_grace_seconds: float = Field(default=10, ge=0, description="to finish a call whose client has left")
    stop_seconds: float = Field(default=15, ge=0, description="to finish calls when the product is stopped")

    # Monitoring: checks are calls of one token that the product pays for
    canary_seconds: int = Field(default=300, ge=1, description="between two checks of a monitored collection")
    canary_inr: int = Field(default=5, ge=0, description="whole rupees that an org's checks may cost us a day")
    monitored_max: int = Field(default=5, ge=0, description="monitored collections per org")
    alert_quiet_seconds: int = Field(default=3_600, ge=0, description="between two notices of one alert")

    @field_validator("home", "catalog_dir", "mail_folder", "document_pfx")
    @classmethod
    def _from_anywhere(cls, path: Path | None) -> Path | None:
        """Children may run in other folders, so a path is made absolute at once."""
        return None if path is None else path.expanduser().absolute()

    @field_validator("sealing_keys")
    @classmethod
    def _are_long(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(key.get_secret_value()) < SEALING_KEY_LENGTH_MIN for key in keys):
            raise ValueError(f"each takes {SEALING_KEY_LENGTH_MIN} random characters or more")
        return keys

    @field_validator("supplier_gstin")
    @classmethod
    def _without_slip(cls, gstin: str) -> str:
        """A wrong number on documents of law is found at the start, not by the tax office."""
        try:
            return check_gstin(gstin)
        except Invalid as refusal:
            raise ValueError(refusal.message) from None

    @field_validator("razorpay_webhook_secrets", "sealing_keys", "trusted_proxies", mode="before")
    @classmethod
    def _one_by_one(cls, given: object) -> object:
        return [item.strip() for item in given.split(",") if item.strip()] if isinstance(given, str) else given

    @field_validator("egress_allowed")
    @classmethod
    def _are_hosts_or_networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        parse_allowed(given)
        return given

    @field_validator("trial_models", "agent_claims", "egress_allowed", mode="before")
    @classmethod
    def _with_commas(cls, given: object) -> object:
        return [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given

    @model_validator(mode="after")
    def _agents_are_whole(self) -> "Settings":
        given = [self.agent_issuer, self.agent_audience, self.agent_jwks_url]
        if any(given) and not all(given):
            raise ValueError("set BR_AGENT_ISSUER, BR_AGENT_AUDIENCE and BR_AGENT_JWKS_URL, or none of them")
        if shared := {"iss", "aud", "exp", "nbf", "iat", "scope", "scp"} & set(self.agent_claims):
            raise ValueError(f"BR_AGENT_CLAIMS must not name {shared.pop()}, which tells no agents apart")
        url = urlsplit(self.agent_jwks_url or "")
        if self.agent_jwks_url and url.scheme != "https" and url.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("BR_AGENT_JWKS_URL must be https")
        return self

    @model_validator(mode="after")
    def _key_is_whole(self) -> "Settings":
        if (self.razorpay_key_id is None) != (self.razorpay_key_secret is None):
            raise ValueError("set BR_RAZORPAY_KEY_ID and BR_RAZORPAY_KEY_SECRET, or neither")
        if (self.github_client_id is None) != (self.github_client_secret is None):
            raise ValueError("set BR_GITHUB_CLIENT_ID and BR_GITHUB_CLIENT_SECRET, or neither")
        if (self.google_client_id is None) != (self.google_client_secret is None):
            raise ValueError("set BR_GOOGLE_CLIENT_ID and BR_GOOGLE_CLIENT_SECRET, or neither")
        return self

    @model_validator(mode="after")
    def _real_money_has_a_supplier(self) -> "Settings":
        """Documents over real money must not be specimens."""
        if (self.razorpay_key_id or "").startswith("rzp_live_"):
            names = ("supplier_name", "supplier_address", "supplier_gstin")
            missing = [f"BR_{name.upper()}" for name in names if name not in self.model_fields_set]
            if missing:
                raise ValueError(f"with a live Razorpay key, set {', '.join(missing)}, or documents would be specimens")
        return self

    @field_validator("smtp_url")
    @classmethod
    def _is_of_smtp(cls, given: SecretStr | None) -> SecretStr | None:
        url = urlsplit("" if given is None else given.get_secret_value())
        if given is not None and (url.scheme not in ("smtp", "smtps") or not url.hostname):
            raise ValueError("must look like smtps://user:password@mail.example.com:465")
        return given


def supplier(settings: Settings) -> Supplier:
    """Who is printed on documents as their issuer."""
    return Supplier(
        name=settings.supplier_name,
        address=tuple(line.strip() for line in settings.supplier_address.split(";")),
        gstin=settings.supplier_gstin,
        cin=settings.supplier_cin,
        email=settings.supplier_email,
        website=settings.supplier_website,
    )


def beside_product(settings: Settings) -> Settings:
    """The settings completed with the addresses of the product that runs from the same home, if one does.

    What the environment names stays as it is. Commands of the terminal find the running product this way.
    """
    product = running_product(settings.home)
    names = ("database_url", "redis_url", "simulator_url")
    missing = {name: product[name] for name in names if getattr(settings, name) is None and product.get(name)}
    if settings.razorpay_key_id is None and product.get("payments_url"):
        missing |= {
            "razorpay_url": product["payments_url"],
            "razorpay_key_id": product["razorpay_key_id"],
            "razorpay_key_secret": SecretStr(str(product["razorpay_key_secret"])),
            "razorpay_webhook_secrets": (SecretStr(str(product["razorpay_webhook_secrets"])),),
        }
    if "public_url" not in settings.model_fields_set and "address" in product:
        missing["public_url"] = product["address"]
    return settings.model_copy(update=missing)


def running_product(home: Path) -> Mapping[str, object]:
    """What `run.json` in the home says about the product that runs there; empty when none does."""
    try:
        product: dict[str, object] = json.loads((home / "run.json").read_bytes())
    except FileNotFoundError:
        return {}
    try:
        os.kill(int(str(product["pid"])), 0)
    except ProcessLookupError:
        return {}
    except PermissionError:
        pass  # it lives, and is another user's
    return product


def key_pepper(settings: Settings) -> bytes:
    """The secret that keyed hashes of API keys are made with: BR_KEY_PEPPER, else one kept in the home.

    Without it no stored key can be checked, so it is made once, at the first start, readable by its owner
    alone. Several machines on one database need the variable.
    """
    if settings.key_pepper is not None:
        return settings.key_pepper.get_secret_value().encode()
    return kept_secret(settings.home, "key.pepper", lambda: secrets.token_urlsafe(32).encode())


def kept_secret(home: Path, name: str, make: Callable[[], bytes]) -> bytes:
    """A secret that is kept in the home, readable by its owner alone; `make` makes it the first time."""
    kept = home / name
    if not kept.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f"{name}.{secrets.token_hex(8)}"
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, kept)  # of several processes that start at once, one wins and all use its secret
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return kept.read_bytes()
