"""Sessions of a person as they see them."""

from pydantic import BaseModel, Field


class SessionRow(BaseModel):
    id: str
    current: bool = Field(description="Whether it is the session that asks")
    started_at: str
    expires_at: str
    agent: str = Field(description="What the browser called itself when the session began")
    address: str = Field(description="Where it was then")


class SessionList(BaseModel):
    object: str = "list"
    data: list[SessionRow] = Field(description="Newest first")


class EndedSession(BaseModel):
    id: str
    ended: bool = True


class SignedOut(BaseModel):
    signed_out: bool = True
    everywhere: bool
