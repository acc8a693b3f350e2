"""The process of the simulated identity providers: its doors (`/github`, `/google`, `/_simulator`) and the page where
a person says who they are. `GET /` lists what it can be told."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from pydantic import SecretStr

from adapters.settings import Settings
from adapters.simulators import process, wire
from adapters.simulators.identity.grants import Client, Grants, Json, Person, Provider, Refused, email_claims
from adapters.simulators.identity.switches import Switches

if TYPE_CHECKING:
    from jinja2 import Template

DEVELOPMENT_CLIENT = ("simulated-client", "simulated-client-secret")
NAMES: Mapping[Provider, str] = {"github": "GitHub", "google": "Google"}
PEOPLE = (
    Person(login="asha", name="Asha Rao", email="asha@example.com", verified=True),
    Person(login="vikram", name="Vikram Iyer", email="vikram@example.com", verified=True),
    Person(login="meera", name="Meera Das", email="meera@example.com", verified=False),
)
"""Those whom the page offers from the start; whoever is typed is offered from then on."""

PEOPLE_MAX = 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the product is registered with at each provider."""

    clients: Mapping[Provider, Client]


def options(settings: Settings) -> Options:
    """The options with the clients of the settings, or the development client where they name none."""

    def client(provider: Provider, id: str | None, secret: SecretStr | None) -> Client:
        given = DEVELOPMENT_CLIENT if id is None or secret is None else (id, secret.get_secret_value())
        home = settings.public_url.rstrip("/")
        return Client(id=given[0], secret=given[1], redirect_uri=f"{home}/auth/{provider}/callback")

    return Options(
        clients={
            "github": client("github", settings.github_client_id, settings.github_client_secret),
            "google": client("google", settings.google_client_id, settings.google_client_secret),
        }
    )


class Advance(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    seconds: Annotated[float, msgspec.Meta(ge=0, le=366 * 86_400)]


class Simulator:
    """Everything between two requests."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.url = ""
        self._start_afresh()
        self._doors: Mapping[tuple[str, str], Callable[[wire.Request, Mapping[str, str]], Json]] = {
            ("POST", "/github/login/oauth/access_token"): self._github_token,
            ("GET", "/github/api/user"): self._github_user,
            ("GET", "/github/api/user/emails"): self._github_emails,
            ("GET", "/google/.well-known/openid-configuration"): self._google_described,
            ("GET", "/google/certs"): lambda request, form: self.grants.keys(),
            ("POST", "/google/token"): self._google_token,
            ("GET", "/google/userinfo"): self._google_user,
            ("GET", "/health"): lambda request, form: {"status": "ok"},
            ("GET", "/_simulator/switches"): lambda request, form: msgspec.to_builtins(self.switches),
            ("PUT", "/_simulator/switches"): lambda request, form: self._switch(msgspec.json.decode(request.body)),
            ("PATCH", "/_simulator/switches"): self._change_switches,
            ("POST", "/_simulator/advance"): self._advance,
            ("POST", "/_simulator/rotate"): self._rotate,
            ("POST", "/_simulator/reset"): self._reset,
        }
        self._pages: Mapping[str, Provider] = {
            "/github/login/oauth/authorize": "github",
            "/google/o/oauth2/v2/auth": "google",
        }

    def _start_afresh(self) -> None:
        self._ahead = 0.0
        self.people = list(PEOPLE)
        self._switch({})
        self.grants = Grants(self._options.clients, now=self.now, switches=lambda: self.switches)

    def now(self) -> float:
        """Seconds since 1970, as far as they have been moved forward."""
        return time.time() + self._ahead

    # Doors

    async def handle(self, request: wire.Request, reply: wire.Reply) -> None:
        """Answers one request."""
        path, _, query = request.target.partition("?")
        try:
            if not path.startswith("/_simulator/") and self._strikes(f"{request.method} {path}"):
                await asyncio.sleep(self.switches.sleep_seconds)
                if self.switches.status:
                    await reply.whole(self.switches.status, b'{"message": "a switch says so"}')
                    return
                if self.switches.body is not None:
                    await reply.whole(200, self.switches.body.encode())
                    return
            if path in self._pages:
                await self._authorize(request, reply, self._pages[path], dict(parse_qsl(query)))
            elif path == "/":
                await reply.whole(200, self._help().encode(), content_type="text/plain; charset=utf-8")
            elif (request.method, path) in self._doors:
                form = dict(parse_qsl(request.body.decode("latin-1")))
                answer = self._doors[request.method, path](request, form)
                await reply.whole(200, msgspec.json.encode(answer), headers={"cache-control": "no-store"})
            else:
                raise Refused("not_found", 404)
        except Refused as refused:
            await reply.whole(refused.status, msgspec.json.encode({"error": refused.error}))
        except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
            await reply.whole(400, msgspec.json.encode({"error": str(wrong)}))

    async def _authorize(
        self, request: wire.Request, reply: wire.Reply, provider: Provider, asked: Mapping[str, str]
    ) -> None:
        """The page, and what it sends: a person as known or typed, or `deny`."""
        self.grants.check(provider, asked)
        form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        if request.method != "POST":
            page = _page().render(provider=NAMES[provider], people=self.people)
            await reply.whole(200, page.encode(), content_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)
            return
        state = {"good": asked["state"], "wrong": secrets.token_urlsafe(32), "missing": ""}[self.switches.state]
        back = {"state": state} if state else {}
        if self.switches.denied or "deny" in form:
            back |= {"error": "access_denied", "error_description": "The person said no."}
        else:
            back["code"] = self.grants.say_yes(provider, self._person(form), asked)
        location = f"{asked['redirect_uri']}?{urlencode(back)}"
        await reply.whole(303, b"", headers={"location": location, "cache-control": "no-store"})

    def _person(self, form: Mapping[str, str]) -> Person:
        login = form.get("login", "").strip()
        if not login:
            raise Refused("a login is needed")
        person = Person(
            login=login,
            name=form.get("name", "").strip() or login,
            email=form.get("email", "").strip(),
            verified="verified" in form,
        )
        others = [known for known in self.people if known.login != login]
        self.people = [person, *others][:PEOPLE_MAX]
        return person

    def _strikes(self, call: str) -> bool:
        """Whether the switches of calls strike this one; each stroke counts."""
        switches = self.switches
        armed = bool(switches.status or switches.sleep_seconds or switches.body is not None)
        if not armed or switches.path not in call or self._strokes_left == 0:
            return False
        if self._strokes_left is not None:
            self._strokes_left -= 1
        return True

    # GitHub, which refuses with 200

    def _github_token(self, request: wire.Request, form: Mapping[str, str]) -> Json:
        words = {"invalid_grant": "bad_verification_code", "invalid_client": "incorrect_client_credentials"}
        try:
            grant = self.grants.take("github", form)
        except Refused as refused:
            return {"error": words.get(refused.error, refused.error), "error_description": "See the documentation."}
        scope = grant.asked["scope"].replace(" ", ",")
        return {"access_token": grant.token, "token_type": "bearer", "scope": scope}

    def _github_user(self, request: wire.Request, form: Mapping[str, str]) -> Json:
        person = self.grants.of("github", request.headers.get("authorization", "")).person
        return {"id": person.github_id, "login": person.login, "name": person.name, "email": None, "type": "User"}

    def _github_emails(self, request: wire.Request, form: Mapping[str, str]) -> Any:
        grant = self.grants.of("github", request.headers.get("authorization", ""))
        if "user:email" not in grant.asked["scope"].split():
            raise Refused("not_found", 404)
        person = grant.person
        hidden = f"{person.github_id}+{person.login}@users.noreply.github.com"
        emails: list[Json] = [{"email": hidden, "primary": False, "verified": True, "visibility": None}]
        if person.email and self.switches.email != "none":
            verified = person.verified and self.switches.email != "unverified"
            emails.append({"email": person.email, "primary": True, "verified": verified, "visibility": "private"})
        return emails

    # Google

    @property
    def _issuer(self) -> str:
        return f"{self.url}/google"

    def _google_described(self, request: wire.Request, form: Mapping[str, str]) -> Json:
        return {
            "issuer": self._issuer,
            "authorization_endpoint": f"{self._issuer}/o/oauth2/v2/auth",
            "token_endpoint": f"{self._issuer}/token",
            "userinfo_endpoint": f"{self._issuer}/userinfo",
            "jwks_uri": f"{self._issuer}/certs",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "email", "profile"],
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
        }

    def _google_token(self, request: wire.Request, form: Mapping[str, str]) -> Json:
        grant = self.grants.take("google", form)
        answer = {"access_token": grant.token, "expires_in": 3_599, "scope": grant.asked["scope"]}
        answer |= {"token_type": "Bearer"}
        if self.switches.id_token:
            answer["id_token"] = self.grants.id_token(grant, issuer=self._issuer)
        return answer

    def _google_user(self, request: wire.Request, form: Mapping[str, str]) -> Json:
        person = self.grants.of("google", request.headers.get("authorization", "")).person
        return {"sub": person.google_id, "name": person.name} | email_claims(person, self.switches)

    # Control

    def _switch(self, wanted: Json) -> Json:
        self.switches = msgspec.convert(wanted, Switches)
        self._strokes_left = self.switches.times
        return dict(msgspec.to_builtins(self.switches))

    def _change_switches(self, request: wire.Request, form: Mapping[str, str]) -> Json:
        return self._switch(msgspec.to_builtins(self.switches) | msgspec.json.decode(request.body, type=dict[str, Any]))

    def _advance(self, request: wire.Request, form: Mapping[str, str]) -> Json:
        self._ahead += msgspec.json.decode(request.body, type=Advance).seconds
        return {"now": self.now()}

    def _rotate(self, request: wire.Request, form: Mapping[str, str]) -> Json:
        self.grants.rotate_key()
        return {"status": "ok"}

    def _reset(self, request: wire.Request, form: Mapping[str, str]) -> Json:
        """Forgets everything."""
        self._start_afresh()
        return {"status": "ok"}

    def _help(self) -> str:
        switches = json.dumps(msgspec.to_builtins(Switches()), indent=4)
        doors = "\n".join(f"    {method:5} {path}" for method, path in self._doors)
        return (
            "Simulated GitHub and Google, to sign in with. Browsers go to:\n"
            + "".join(f"    {path}\n" for path in self._pages)
            + f"\nPrograms, and whoever tells it things (bodies are JSON):\n{doors}\n\n"
            f"Switches and their defaults:\n{switches}\n"
        )


_PAGE_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


@cache
def _page() -> "Template":
    import jinja2

    text = Path(__file__).with_name("authorize.html").read_text()
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)


@asynccontextmanager
async def running(
    options: Options, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[tuple[int, Awaitable[None]]]:
    """A simulator in this event loop: its port, and what it does of itself, which is nothing."""
    simulator = Simulator(options)
    server = await wire.serve(simulator.handle, host=host, port=port)
    simulator.url = f"http://{host}:{server.port}"
    idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    try:
        yield server.port, idle
    finally:
        idle.cancel()
        await server.close()


def main(options: Options, *, host: str = "127.0.0.1", port: int = 0, announce: str | None = None) -> None:
    """Serves until SIGTERM or SIGINT. Once listening, writes the base URL and a newline to the file `announce`."""
    process.run(lambda: running(options, host=host, port=port), host=host, announce=announce)
