"""What a browser holds while it is away at an identity provider, where it may go when it is back, and how often one
client may try."""

import base64
import hmac
import math
import re
from urllib.parse import unquote

import msgspec
from fastapi import Request, Response

from adapters.wiring import App
from api.client_address import address_of, household
from api.session import cookie_name, give_cookie, read_signed, take_cookie, write_signed
from domain.accounts.ports import SIGN_IN_SECONDS
from domain.kernel.clock import SECOND
from domain.kernel.errors import Invalid, TooMany

TICKET_COOKIE = "br_sign_in"
SEED_BYTES = 32
LANDING = "/sign-in"
"""Where a sign-in ends that was not begun for a page; it shows who is signed in."""

COUNTER_BYTES = 2
PATH_LENGTH_MAX = 500
DECODINGS_MAX = 3
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x1f\x7f]*")
_TICKET = b"sign-in ticket"


class Ticket(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One sign-in that was begun in this browser. Its three secrets follow from `seed`, so that whoever sees the state,
    which travels in addresses, learns nothing of the others. `expires` in microseconds since 1970."""

    provider: str
    seed: str
    next: str
    expires: int

    @property
    def state(self) -> str:
        return self._secret(b"state")

    @property
    def verifier(self) -> str:
        """43 letters, the least that PKCE takes (RFC 7636, section 4.1), of 256 bits."""
        return self._secret(b"verifier")

    @property
    def nonce(self) -> str:
        return self._secret(b"nonce")

    def _secret(self, purpose: bytes) -> str:
        return base64.urlsafe_b64encode(hmac.digest(self.seed.encode(), purpose, "sha256")).decode().rstrip("=")


def new_ticket(app: App, *, provider: str, next: str) -> Ticket:
    seed = app.entropy(SEED_BYTES).hex()
    return Ticket(provider, seed, local_path(next), app.clock() + SIGN_IN_SECONDS * SECOND)


def give_ticket(app: App, response: Response, ticket: Ticket) -> None:
    give_cookie(app, response, TICKET_COOKIE, write_signed(app.pepper, _TICKET, ticket), seconds=SIGN_IN_SECONDS)


def tear_up_ticket(app: App, response: Response) -> None:
    take_cookie(app, response, TICKET_COOKIE)


async def redeem_ticket(app: App, request: Request, *, provider: str, state: str) -> Ticket:
    """The ticket that this browser was given for this state; each is redeemed once, over all processes that share a
    Valkey. Raises Invalid `sign_in_invalid`."""
    shown = request.cookies.get(cookie_name(app.settings, TICKET_COOKIE), "")
    ticket = read_signed(app.pepper, _TICKET, shown, Ticket)
    if (
        ticket is None
        or ticket.provider != provider
        or ticket.expires <= app.clock()
        or not hmac.compare_digest(ticket.state.encode(), state.encode())
        or not await _first(request, f"ticket:{ticket.state}")
    ):
        raise Invalid(
            "sign_in_invalid",
            "This sign-in was begun in another browser, took too long, or is over; begin again at /sign-in.",
            param="state",
        )
    return ticket


async def _first(request: Request, scope: str) -> bool:
    gateway = request.app.state.gateway
    return gateway is None or (await gateway.sign_ins.take((scope, 1))).allowed


async def check_pace(app: App, request: Request) -> None:
    """Counts a step of a sign-in for the client's address. Raises TooMany `rate_limit_exceeded`."""
    limit, gateway = app.settings.sign_ins_max, request.app.state.gateway
    if gateway is None or limit == 0:
        return
    client = hmac.digest(app.pepper, f"sign-in:{household(address_of(app, request))}".encode(), "sha256")
    counter = int.from_bytes(client[:COUNTER_BYTES])  # bounds the memory, and keeps no address
    window = await gateway.sign_ins.take((f"sign-in:{counter}", limit))
    if not window.allowed:
        raise TooMany(
            "rate_limit_exceeded",
            "Too many sign-ins from your network; wait a little.",
            retry_after=math.ceil(window.retry_seconds),
        )


def local_path(wanted: str) -> str:
    """The path, if a browser stays on this site with it, however often something decodes it on the way; else where
    sign-ins end that were begun for no page."""
    seen = wanted
    for _ in range(DECODINGS_MAX):
        if len(seen) > PATH_LENGTH_MAX or not _LOCAL.fullmatch(seen):
            return LANDING
        if (decoded := unquote(seen)) == seen:
            return wanted
        seen = decoded
    return LANDING
