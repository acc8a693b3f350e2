"""Keys for providers and endpoints of an org, as callers write and read them. A key goes in and never comes out."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from api.schemas.times import moment
from domain.byo.compliance import Compliance
from domain.byo.own import OwnEndpoint, OwnKey, check_key


class NewOwnKey(BaseModel):
    """With `always_use` the platform's own key for this provider is never used for the org."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"key": "sk-…", "label": "research", "always_use": True}}
    )

    key: SecretStr
    label: str = ""
    always_use: bool = False

    @property
    def secret(self) -> str:
        return check_key(self.key.get_secret_value())


class OwnKeyRow(BaseModel):
    """`verified`: the provider took the key when it was last tried; `models_discovered` are those that it lists."""

    object: str = "byok_key"
    provider: str
    mask: str
    label: str
    always_use: bool
    verified: bool
    models_discovered: int
    saved_at: str
    checked_at: str


class OwnKeyList(BaseModel):
    object: str = "list"
    data: list[OwnKeyRow]


class TestedOwnKey(OwnKeyRow):
    ok: bool


class RemovedOwnKey(BaseModel):
    provider: str
    deleted: bool = True


class OwnModelRow(BaseModel):
    """`id` is what a request names as `model`; `upstream_model` is what the provider calls it, or we do."""

    id: str
    object: str = "model"
    provider: str
    upstream_model: str


class OwnModelList(BaseModel):
    object: str = "list"
    data: list[OwnModelRow]


class EndpointToTest(BaseModel):
    """An OpenAI-compatible deployment: `base_url` is what `/chat/completions` is put behind."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"base_url": "https://llm.example.com/v1", "upstream_model": "llama-3.3"}},
    )

    base_url: str
    upstream_model: str
    key: SecretStr | None = None

    @property
    def secret(self) -> str:
        """Empty where the endpoint takes no key."""
        return "" if self.key is None else check_key(self.key.get_secret_value())


class NewEndpoint(EndpointToTest):
    """`model` is what callers read as the model of an answer; one of the catalog counts as open as it says there.
    `residency` is an ISO country that the org answers for; without one, the endpoint counts as abroad."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "GPU box",
                "model": "llama-3.3-70b",
                "base_url": "https://llm.example.com/v1",
                "upstream_model": "meta-llama/Llama-3.3-70B-Instruct",
                "key": "…",
                "residency": "IN",
            }
        },
    )

    name: str
    model: str
    residency: str | None = None


class EndpointRow(BaseModel):
    """`provider_ref` is what a request or a chain names, as `model` or as the `provider` of a step. `residency` is as
    the org has declared it."""

    object: str = "endpoint"
    id: str
    slug: str
    provider_ref: str
    name: str
    model: str
    base_url: str
    upstream_model: str
    residency: str | None
    residency_source: str = "declared"
    key_mask: str | None
    created_at: str


class EndpointList(BaseModel):
    object: str = "list"
    data: list[EndpointRow]


class ComplianceCheck(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    name: str
    passed: bool = Field(alias="pass")
    detail: str


class ComplianceReport(BaseModel):
    """Each demand of the test, and how long the whole chat took."""

    model_config = ConfigDict(populate_by_name=True)

    passed: bool = Field(alias="pass")
    checks: list[ComplianceCheck]
    latency_ms: int


class TestedEndpoint(BaseModel):
    ok: bool
    compliance: ComplianceReport


class AddedEndpoint(TestedEndpoint):
    endpoint: EndpointRow


class RemovedEndpoint(BaseModel):
    id: str
    deleted: bool = True


def key_row(key: OwnKey) -> dict[str, Any]:
    return {
        "object": "byok_key",
        "provider": key.provider,
        "mask": key.mask,
        "label": key.label,
        "always_use": key.always_use,
        "verified": key.verified,
        "models_discovered": len(key.discovered),
        "saved_at": moment(key.saved_at),
        "checked_at": moment(key.checked_at),
    }


def model_row(provider: str, id: str) -> dict[str, Any]:
    return {"id": f"{provider}/{id}", "object": "model", "provider": provider, "upstream_model": id}


def endpoint_row(endpoint: OwnEndpoint) -> dict[str, Any]:
    return {
        "object": "endpoint",
        "id": endpoint.id,
        "slug": endpoint.slug,
        "provider_ref": endpoint.provider_ref,
        "name": endpoint.name,
        "model": endpoint.model,
        "base_url": endpoint.base_url,
        "upstream_model": endpoint.upstream,
        "residency": endpoint.residency or None,
        "residency_source": "declared",
        "key_mask": endpoint.mask or None,
        "created_at": moment(endpoint.added_at),
    }


def compliance_report(report: Compliance) -> dict[str, Any]:
    return {
        "pass": report.passed,
        "checks": [{"name": check.name, "pass": check.passed, "detail": check.detail} for check in report.checks],
        "latency_ms": report.latency_ms,
    }
