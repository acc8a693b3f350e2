"""Settings come from the environment under the names that the documentation gives."""

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from adapters.settings import Settings, key_pepper

NAMES = {
    "HOST": ("host", "0.0.0.0", "0.0.0.0"),
    "PORT": ("port", "9000", 9000),
    "BHARATROUTER_HOME": ("home", "/srv/state", Path("/srv/state")),
    "BHARATROUTER_CATALOG_DIR": ("catalog_dir", "/srv/files", Path("/srv/files")),
    "WEB_PROCESSES": ("web_processes", "2", 2),
    "DATABASE_URL": ("database_url", "postgresql://x/y", "postgresql://x/y"),
    "REDIS_URL": ("redis_url", "redis://x", "redis://x"),
    "BR_GATEWAY_RPM": ("gateway_rpm", "0", 0),
    "BR_FX_INR_PER_USD": ("fx_inr_per_usd", "95.125", Decimal("95.125")),
    "BR_FX_DATE": ("fx_date", "2026-11-01", date(2026, 11, 1)),
    "BR_FIRST_BYTE_SECONDS": ("first_byte_seconds", "0.5", 0.5),
    "BR_SIMULATOR_URL": ("simulator_url", "http://127.0.0.1:9", "http://127.0.0.1:9"),
}


@pytest.mark.parametrize("variable", NAMES)
def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    field, text, value = NAMES[variable]
    assert getattr(Settings(), field) != value
    monkeypatch.setenv(variable, text)
    assert getattr(Settings(), field) == value


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("PORT", "")
    assert (Settings().database_url, Settings().port) == (None, 8000)


@pytest.mark.parametrize(
    ("variable", "text"), [("PORT", "eighty"), ("WEB_PROCESSES", "0"), ("BR_FX_INR_PER_USD", "-1")]
)
def test_a_value_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ValidationError):
        Settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(gatway_rpm=1)  # type: ignore[call-arg]


def test_secrets_are_not_printed() -> None:
    settings = Settings(
        key_pepper=SecretStr("p3pper"), operator_token=SecretStr("t0ken"), database_url="postgresql://u:pa55@h/d"
    )
    assert not any(secret in repr(settings) for secret in ("p3pper", "t0ken", "pa55"))


def test_importing_needs_no_environment() -> None:
    subprocess.run([sys.executable, "-c", "import adapters.settings"], env={}, check=True)


def test_of_many_that_make_the_pepper_at_once_all_use_the_same(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with ThreadPoolExecutor(8) as pool:
        peppers = set(pool.map(lambda _: key_pepper(settings), range(32)))
    assert len(peppers) == 1
    [kept] = list((tmp_path / "home").iterdir())
    assert (kept.read_bytes(), stat.S_IMODE(kept.stat().st_mode)) == (peppers.pop(), 0o600)


def test_a_given_pepper_is_used_as_it_is(tmp_path: Path) -> None:
    assert key_pepper(Settings(home=tmp_path, key_pepper=SecretStr("given"))) == b"given"
    assert list(tmp_path.iterdir()) == []
