"""What can be made to go wrong, as data. `PUT /_simulator/switches` sets all of it, what is left out to its default;
`PATCH` changes what it names."""

from typing import Annotated, Literal

import msgspec


class Switches(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    # Calls whose "METHOD /path" contains `path`, the next `times` of them (null: all)
    path: str = ""
    times: Annotated[int, msgspec.Meta(ge=0)] | None = None
    status: Annotated[int, msgspec.Meta(ge=0, le=599)] = 0
    """Answered instead; 0 is none."""
    body: str | None = None
    """Answered instead with 200, whatever it is."""
    sleep_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0
    """Before the answer."""

    # What comes back to the browser
    denied: bool = False
    state: Literal["good", "wrong", "missing"] = "good"

    # Addresses
    email: Literal["as typed", "unverified", "none"] = "as typed"

    # The ID token
    signature: Literal["good", "wrong", "none", "hs256", "unknown key"] = "good"
    nonce: Literal["good", "wrong", "missing"] = "good"
    issuer: str | None = None
    audience: str | tuple[str, ...] | None = None
    expires_seconds: int = 3_600
    """From now; less than 0 is in the past."""
    access_token_hash: Literal["good", "wrong"] = "good"
    id_token: bool = True
