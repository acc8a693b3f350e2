"""The simulated GitHub and Google as a person and a programmer meet them; what they check is in `test_sign_in.py`."""

from collections.abc import Iterator

import httpx
import pytest

from tests.simulated_identity import CLIENTS, Simulated, simulated_identity, typed

PUBLIC_URL = "http://127.0.0.1:8124"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulated]:
    with simulated_identity(PUBLIC_URL) as simulated:
        yield simulated


@pytest.fixture
def http(simulator: Simulated) -> Iterator[httpx.Client]:
    simulator.tell("reset")
    with httpx.Client(base_url=simulator.url, trust_env=False) as client:
        yield client


PAGE = "/github/login/oauth/authorize"
ASKED = {
    "client_id": CLIENTS["github_client_id"],
    "redirect_uri": f"{PUBLIC_URL}/auth/github/callback",
    "response_type": "code",
    "state": "st&te",
    "scope": "user:email",
    "code_challenge": "c" * 43,
    "code_challenge_method": "S256",
}


def test_the_page_offers_people_and_remembers_whom_it_was_told_of(http: httpx.Client) -> None:
    first = http.get(PAGE, params=ASKED)
    assert "Asha Rao" in first.text
    assert "meera@example.com, not verified" in first.text
    assert "<script" not in first.text
    http.post(PAGE, params=ASKED, data=typed("ravi") | {"name": "<i>Ravi</i>"})
    assert "&lt;i&gt;Ravi&lt;/i&gt;" in http.get(PAGE, params=ASKED).text


def test_yes_and_no_both_go_back_with_the_state(http: httpx.Client) -> None:
    yes = httpx.URL(http.post(PAGE, params=ASKED, data=typed("ravi")).headers["location"])
    no = httpx.URL(http.post(PAGE, params=ASKED, data={"deny": "1"}).headers["location"])
    assert str(yes).startswith(ASKED["redirect_uri"])
    assert yes.params["state"] == no.params["state"] == "st&te"
    assert yes.params["code"]
    assert no.params["error"] == "access_denied"


def test_tokens_open_only_what_is_the_persons_at_the_provider_that_gave_them(http: httpx.Client) -> None:
    for path in ("/github/api/user", "/github/api/user/emails", "/google/userinfo"):
        for bearer in ("", "Bearer", "Bearer made-up", "made-up"):
            assert http.get(path, headers={"authorization": bearer}).status_code == 401


def test_it_says_what_it_can_be_told_and_refuses_what_it_does_not_know(http: httpx.Client) -> None:
    assert "/_simulator/switches" in http.get("/").text
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/nowhere").status_code == 404
    assert http.put("/_simulator/switches", json={"nonsense": 1}).status_code == 400
    http.patch("/_simulator/switches", json={"path": "health", "status": 500, "times": 1})
    assert [http.get("/health").status_code for _ in range(2)] == [500, 200]
