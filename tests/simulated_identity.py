"""Simulated GitHub and Google for tests, in a thread of this process, and browsers that sign in with them."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from adapters.settings import Settings
from adapters.simulators.identity.server import options, running
from tests.beside import beside

CLIENTS = {
    "github_client_id": "github-client",
    "github_client_secret": "github-secret",
    "google_client_id": "google-client",
    "google_client_secret": "google-secret",
}


@dataclass
class Simulated:
    """`tell` speaks to its switches."""

    url: str
    _client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=60))

    @property
    def settings(self) -> dict[str, Any]:
        """What a product is told, to sign in here."""
        urls = {"github_url": f"{self.url}/github", "github_api_url": f"{self.url}/github/api"}
        return CLIENTS | urls | {"google_url": f"{self.url}/google"}

    def tell(self, path: str, body: object = None, method: str = "POST") -> dict[str, Any]:
        answer = self._client.request(method, f"{self.url}/_simulator/{path}", json={} if body is None else body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def switch(self, **switches: object) -> None:
        self.tell("switches", switches, "PUT")

    def close(self) -> None:
        self._client.close()


@contextmanager
def simulated_identity(public_url: str) -> Iterator[Simulated]:
    """A simulator that runs until the end of the block, for a product of that address."""
    given: dict[str, Any] = {"public_url": public_url, **CLIENTS}
    server = beside(running(options(Settings(**given))))
    with server as (port, _), closing(Simulated(f"http://127.0.0.1:{port}")) as simulated:
        yield simulated


def typed(name: str, *, email: str | None = None, verified: bool = True) -> dict[str, str]:
    """What somebody types on the provider's page."""
    form = {"login": name, "name": name.title(), "email": f"{name}@example.com" if email is None else email}
    return form | ({"verified": "on"} if verified else {})


class Browser:
    """Somebody's browser: it keeps cookies, follows nothing by itself, and says where its requests come from."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(trust_env=False, timeout=60, headers={"user-agent": "Test browser"})

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.http.get(f"{self.url}{path}", **more)

    def change(self, method: str, path: str, json: object = None, **headers: str | None) -> httpx.Response:
        """As a page of the site does; headers can be changed, or left out by None."""
        given: dict[str, str | None] = {
            "origin": self.url,
            "sec-fetch-site": "same-origin",
            "x-br-csrf": self.get("/me").json().get("csrf_token", ""),
        }
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        kept = {name: value for name, value in given.items() if value is not None}
        return self.http.request(method, f"{self.url}{path}", json=json, headers=kept)

    # The steps of a sign-in

    def begin(self, provider: str, **query: str) -> str:
        """The provider's page."""
        reply = self.get(f"/auth/{provider}", params=query)
        assert reply.status_code == 303, reply.text
        return reply.headers["location"]

    def say(self, page: str, person: Mapping[str, str]) -> str:
        """Says on the provider's page who they are, and is sent back: to which address."""
        assert "simulated" in self.http.get(page).text
        reply = self.http.post(page, data=dict(person))
        assert reply.status_code == 303, reply.text
        return reply.headers["location"]

    def come_back(self, address: str, **more: Any) -> httpx.Response:
        assert address.startswith(f"{self.url}/auth/")
        return self.http.get(address, **more)

    def sign_in(self, provider: str, person: Mapping[str, str], **query: str) -> httpx.Response:
        return self.come_back(self.say(self.begin(provider, **query), person))

    def me(self) -> dict[str, Any]:
        reply = self.get("/me")
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    @property
    def cookie(self) -> str:
        return self.http.cookies.get("br_session") or ""

    @cookie.setter
    def cookie(self, value: str) -> None:
        self.http.cookies.delete("br_session", domain=str(urlsplit(self.url).hostname))
        self.http.cookies.set("br_session", value, domain=str(urlsplit(self.url).hostname), path="/")

    def close(self) -> None:
        self.http.close()
