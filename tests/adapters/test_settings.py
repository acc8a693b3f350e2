"""Settings come from the environment under the names that the documentation gives."""

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from adapters.settings import Settings, key_pepper, supplier

NAMES = {
    "HOST": ("host", "0.0.0.0", "0.0.0.0"),
    "PORT": ("port", "9000", 9000),
    "BHARATROUTER_HOME": ("home", "/srv/state", Path("/srv/state")),
    "BHARATROUTER_CATALOG_DIR": ("catalog_dir", "/srv/files", Path("/srv/files")),
    "WEB_PROCESSES": ("web_processes", "2", 2),
    "DATABASE_URL": ("database_url", "postgresql://x/y", "postgresql://x/y"),
    "REDIS_URL": ("redis_url", "redis://x", "redis://x"),
    "BR_GATEWAY_RPM": ("gateway_rpm", "0", 0),
    "BR_WRONG_KEYS_RPM": ("wrong_keys_rpm", "5", 5),
    "BR_TRUSTED_PROXIES": ("trusted_proxies", "10.0.0.0/8, ::1,", (ip_network("10.0.0.0/8"), ip_network("::1"))),
    "BR_FX_INR_PER_USD": ("fx_inr_per_usd", "95.125", Decimal("95.125")),
    "BR_FX_DATE": ("fx_date", "2026-11-01", date(2026, 11, 1)),
    "BR_FIRST_BYTE_SECONDS": ("first_byte_seconds", "0.5", 0.5),
    "BR_RAZORPAY_URL": ("razorpay_url", "http://127.0.0.1:9", "http://127.0.0.1:9"),
    "BR_RAZORPAY_WEBHOOK_SECRETS": ("razorpay_webhook_secrets", "new, old,", (SecretStr("new"), SecretStr("old"))),
    "BR_SIMULATOR_URL": ("simulator_url", "http://127.0.0.1:9", "http://127.0.0.1:9"),
}


@pytest.mark.parametrize("variable", NAMES)
def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    field, text, value = NAMES[variable]
    assert getattr(Settings(), field) != value
    monkeypatch.setenv(variable, text)
    assert getattr(Settings(), field) == value


def test_real_money_is_not_taken_on_specimen_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BR_RAZORPAY_KEY_ID", "rzp_live_x")
    monkeypatch.setenv("BR_RAZORPAY_KEY_SECRET", "secret")
    monkeypatch.setenv("BR_SUPPLIER_NAME", "Acme Private Limited")
    monkeypatch.setenv("BR_SUPPLIER_GSTIN", "29AAGCB7383J1Z4")
    with pytest.raises(ValidationError, match="BR_SUPPLIER_ADDRESS"):
        Settings()
    monkeypatch.setenv("BR_SUPPLIER_ADDRESS", "1 MG Road; Bengaluru 560001")
    assert Settings().razorpay_key_id == "rzp_live_x"


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("PORT", "")
    assert (Settings().database_url, Settings().port) == (None, 8000)


@pytest.mark.parametrize(
    ("variable", "text"),
    [("PORT", "eighty"), ("WEB_PROCESSES", "0"), ("BR_FX_INR_PER_USD", "-1"), ("BR_TRUSTED_PROXIES", "everyone")],
)
def test_a_value_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize("half", ["BR_RAZORPAY_KEY_ID", "BR_RAZORPAY_KEY_SECRET"])
def test_half_a_razorpay_key_is_refused(monkeypatch: pytest.MonkeyPatch, half: str) -> None:
    monkeypatch.setenv(half, "x")
    with pytest.raises(ValidationError, match="BR_RAZORPAY_KEY_SECRET, or neither"):
        Settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(gatway_rpm=1)


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


def test_the_supplier_of_documents_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Specimen" in supplier(Settings()).name
    monkeypatch.setenv("BR_SUPPLIER_NAME", "Acme Gateway Private Limited")
    monkeypatch.setenv("BR_SUPPLIER_ADDRESS", "1 MG Road; Pune 411001")
    monkeypatch.setenv("BR_SUPPLIER_GSTIN", "27aapfu0939f1zv")
    acme = supplier(Settings())
    assert (acme.name, acme.address) == ("Acme Gateway Private Limited", ("1 MG Road", "Pune 411001"))
    assert (acme.gstin, acme.state, acme.pan) == ("27AAPFU0939F1ZV", "27", "AAPFU0939F")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("BR_SUPPLIER_GSTIN", "27AAPFU0939F1ZW"),
        ("BR_GST_PERCENT", "101"),
        ("BR_GST_MODE", "never"),
        ("BR_DOCUMENT_KIND", "credit_note"),
        ("BR_SAC", "1234"),
    ],
)
def test_what_would_make_wrong_documents_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ValidationError):
        Settings()


def test_links_lead_to_where_the_product_listens_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    assert Settings().public_url == "http://127.0.0.1:9000"
    monkeypatch.setenv("BR_PUBLIC_URL", "https://pay.example.in")
    assert Settings().public_url == "https://pay.example.in"
