"""What an operator may set, from the environment. Nothing is read before `Settings()` is called.

Keys of providers are no fields: each provider file names its own variable (`BR_KEY_SARVAM`), and the wiring
looks that name up in the environment.
"""

import json
import os
import secrets
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


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
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Secrets
    operator_token: SecretStr | None = None
    key_pepper: SecretStr | None = None

    # Limits
    gateway_rpm: int = Field(default=120, ge=0, description="requests a minute per key; 0 is no cap")
    keys_max: int = Field(default=5, ge=1, description="active keys per org")
    body_bytes_max: int = Field(default=10_000_000, ge=1)
    in_flight_max: int = Field(default=4_000, ge=1, description="calls at once per process; more are told `overloaded`")

    # Money
    hold_seconds: int = Field(default=900, ge=1, description="how long a hold lives without a sign of life")
    fx_inr_per_usd: Decimal = Field(default=Decimal("96"), gt=0)
    fx_date: date = date(2026, 7, 1)
    fx_margin: Decimal = Field(default=Decimal("0.05"), ge=0)
    seal_seconds: int = Field(default=60, ge=1, description="the log is sealed at least this often while it grows")
    seal_events: int = Field(default=10_000, ge=1, description="events in one sealed block at most")

    # Patience with providers and clients
    connect_seconds: float = Field(default=5, gt=0)
    first_byte_seconds: float = Field(default=60, gt=0)
    reasoning_first_byte_seconds: float = Field(default=300, gt=0)
    idle_seconds: float = Field(default=120, gt=0, description="between two pieces of a stream")
    disconnect_grace_seconds: float = Field(default=10, ge=0, description="to finish a call whose client has left")
    stop_seconds: float = Field(default=15, ge=0, description="to finish calls when the product is stopped")

    @field_validator("home", "catalog_dir")
    @classmethod
    def _from_anywhere(cls, path: Path | None) -> Path | None:
        """Children may run in other folders, so a path is made absolute at once."""
        return None if path is None else path.expanduser().absolute()


def beside_product(settings: Settings) -> Settings:
    """The settings completed with the addresses of the product that runs from the same home, if one does.

    What the environment names stays as it is. Commands of the terminal find the running product this way.
    """
    product = running_product(settings.home)
    names = ("database_url", "redis_url", "simulator_url")
    missing = {name: product[name] for name in names if getattr(settings, name) is None and product.get(name)}
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
    kept = settings.home / "key.pepper"
    if not kept.exists():
        settings.home.mkdir(parents=True, exist_ok=True)
        draft = settings.home / f"key.pepper.{secrets.token_hex(8)}"
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, kept)  # of several processes that start at once, one wins and all use its secret
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return kept.read_bytes()
