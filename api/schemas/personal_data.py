"""What is kept about a person, and the word that ends it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class PersonalFact(BaseModel):
    position: int = Field(description="Its place in the log")
    name: str
    at: str
    fields: dict[str, Any]


class Call(BaseModel):
    at: str
    address: str
    agent: str


class Membership(BaseModel):
    org: str
    name: str
    role: str
    since: str


class Star(BaseModel):
    slug: str
    at: str


class PersonalData(BaseModel):
    person: str
    facts: list[PersonalFact] = Field(description="All that is on record of the person, in clear")
    memberships: list[Membership]
    calls: list[Call] = Field(description="From where they changed what orgs have configured, newest first")
    stars: list[Star] = Field(description="Collections that they have starred, oldest first")
    billing_address: dict[str, Any] | None = Field(description="Of the personal org")


class Erasure(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"confirm": "asha@example.com"}})

    confirm: str = Field(description="The person's e-mail address; their id if they have none")


class Erased(BaseModel):
    id: str
    erased: bool = True
