"""Collections as callers write and read them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.routing import ChainStep
from api.schemas.times import moment
from domain.collections.collection import Collection
from domain.routing.needs import Step

_STEPS = "1 to 10; the first is the model itself, which `provider` pins to one"
_README = "Markdown, at most 20 KB; no images, links to other sites only"


class NewCollection(BaseModel):
    """A chain for one model of the catalog, under a name. Never put a key into it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "Hindi support desk",
                "model": "sarvam-105b",
                "steps": [{"model": "sarvam-105b"}, {"model": "llama-3.3-70b"}],
                "description": "Answers in Hindi, stays in India",
                "readme_md": "# Why\nSarvam first, Llama when it is busy.",
                "public": False,
            }
        },
    )

    name: str = Field(description="1 to 80 printable characters")
    model: str
    steps: list[ChainStep] = Field(description=_STEPS)
    description: str = Field(default="", description="At most 300 characters")
    readme_md: str = Field(default="", description=_README)
    public: bool = Field(default=False, description="Listed for all, and open to be forked, starred and imported")


class CollectionPatch(BaseModel):
    """What to change; what is left out stays. Together it is the next version. The model stays the same for life."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"public": True}})

    name: str = ""
    steps: list[ChainStep] = []
    description: str = ""
    readme_md: str = Field(default="", description=_README)
    public: bool = False


class ForkedFrom(BaseModel):
    slug: str
    version: int


class CollectionRow(BaseModel):
    object: str = "collection"
    slug: str
    name: str
    description: str
    model: str
    steps: list[ChainStep]
    public: bool
    version: int = Field(description="Counts the changes from 1")
    stars: int
    forked_from: ForkedFrom | None = Field(description="Shown to others only while it is public")
    created_at: str
    updated_at: str


class CollectionVersion(BaseModel):
    version: int
    at: str
    name: str
    description: str
    steps: list[ChainStep]
    public: bool


class CollectionPage(CollectionRow):
    readme_md: str
    readme_html: str = Field(description="The README as HTML that may be shown as it is")
    versions: list[CollectionVersion] = Field(
        description="Newest first; to others those alone that were in force while the collection was public"
    )


class CollectionList(BaseModel):
    object: str = "list"
    data: list[CollectionRow]


class DeletedCollection(BaseModel):
    slug: str
    deleted: bool = True


class Starred(BaseModel):
    slug: str
    starred: bool
    stars: int


class Imported(BaseModel):
    """What is in force for calls of the model from now on."""

    ok: bool = True
    model: str
    steps: list[ChainStep]
    forked_as: str | None = Field(
        default=None, description="The fork that was imported, if the collection is another's"
    )


def steps_of(given: Sequence[ChainStep]) -> tuple[Step, ...]:
    return tuple(Step(model=step.model, provider=step.provider) for step in given)


def show_steps(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [{"model": step.model, "provider": step.provider} for step in steps]


def collection_row(row: Mapping[str, Any], *, own: bool) -> dict[str, Any]:
    """A row of the read model, as the org that has it sees it, or as others do."""
    shown = ("slug", "name", "description", "model", "steps", "public", "version", "stars")
    fork = {"slug": row["forked_from"], "version": row["forked_version"]}
    return {
        "object": "collection",
        **{name: row[name] for name in shown},
        "forked_from": fork if row["forked_from"] and (own or row["source_public"]) else None,
        "created_at": moment(row["created_at"]),
        "updated_at": moment(row["changed_at"]),
    }


def changed_row(collection: Collection, *, stars: int) -> dict[str, Any]:
    """A collection of the org as it is right after a change, which the read model may not have yet."""
    fields = asdict(collection) | {"steps": show_steps(collection.steps), "stars": stars}
    moments = {"created_at": collection.created, "changed_at": collection.changed}
    return collection_row(fields | moments, own=True)


def collection_page(
    row: Mapping[str, Any], versions: Sequence[Mapping[str, Any]], *, readme: str, html: str, own: bool
) -> dict[str, Any]:
    shown = ("version", "name", "description", "steps", "public")
    return {
        **collection_row(row, own=own),
        "readme_md": readme,
        "readme_html": html,
        "versions": [{**{name: each[name] for name in shown}, "at": moment(each["at"])} for each in versions],
    }
