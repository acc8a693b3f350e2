"""Collections through the whole application on a real PostgreSQL: what authors, others and nobody can see and do."""

import time
from pathlib import Path
from typing import Any

import pytest

from adapters.settings import Settings
from domain.keys.service import KeyTerms
from domain.routing.chains import Chains
from projections.verify import verify
from tests.api.browser import ORIGIN
from tests.api.client import Client, started
from tests.api.test_people import Browser, browser, join, team_of
from tests.at_once import at_once
from tests.given import given_key

MODEL, OTHER = "sarvam-105b", "gpt-oss-120b"
STEPS = [{"model": MODEL, "provider": None}, {"model": OTHER, "provider": None}]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, public_url=ORIGIN, collections_max=4)


@pytest.fixture
def asha(client: Client) -> Browser:
    return author(client, "asha")


@pytest.fixture
def ravi(client: Client) -> Browser:
    return author(client, "ravi")


def author(client: Client, name: str) -> Browser:
    who = browser(client, name)
    team_of(who, f"Team of {name}")
    return who


def make(who: Browser, **wanted: Any) -> Any:
    body = {"name": "Hindi desk", "model": MODEL, "steps": STEPS} | wanted
    made = who("POST", "/me/collections", body)
    assert made.status_code == 201, made.text
    who.client.project()
    return made.json()


def shown(client: Client, query: str = "") -> list[str]:
    client.project()
    return [row["slug"] for row in client("GET", f"/v1/collections{query}").json()["data"]]


def chain(who: Browser) -> Any:
    return who("GET", f"/me/routing/{MODEL}").json()


def test_a_collection_is_made_shown_changed_published_and_deleted(client: Client, asha: Browser) -> None:
    made = make(asha, readme_md="# Why\n<b>no</b> [x](https://a.example)", description="Stays in India")
    slug = made["slug"]
    assert slug.startswith("hindi-desk-")
    assert (made["object"], made["version"], made["public"], made["stars"]) == ("collection", 1, False, 0)
    assert (made["steps"], made["forked_from"]) == (STEPS, None)
    assert asha("GET", "/me/collections").json() == {"object": "list", "data": [made]}
    page = asha("GET", f"/me/collections/{slug}").json()
    assert made.items() <= page.items()
    assert page["readme_md"].startswith("# Why")
    assert page["readme_html"] == (
        '<h1>Why</h1>\n<p>&lt;b&gt;no&lt;/b&gt; <a href="https://a.example" rel="nofollow noopener">x</a></p>\n'
    )
    assert client.code("GET", f"/v1/collections/{slug}") == (404, "not_found")
    assert shown(client) == []

    changed = asha("PATCH", f"/me/collections/{slug}", {"public": True, "name": "Hindi help"}).json()
    assert (changed["version"], changed["name"], changed["public"], changed["slug"]) == (2, "Hindi help", True, slug)
    again = asha("PATCH", f"/me/collections/{slug}", {"readme_md": page["readme_md"], "steps": STEPS}).json()
    assert again == changed
    assert shown(client) == [slug]
    assert client("GET", "/v1/collections").json()["data"] == [changed]
    public = client("GET", f"/v1/collections/{slug}")
    assert public.headers["access-control-allow-origin"] == "*"
    assert [each["version"] for each in public.json()["versions"]] == [2]
    assert [each["version"] for each in asha("GET", f"/me/collections/{slug}").json()["versions"]] == [2, 1]

    for _ in range(2):
        assert asha("DELETE", f"/me/collections/{slug}").json() == {"slug": slug, "deleted": True}
    client.project()
    for path in (f"/v1/collections/{slug}", f"/me/collections/{slug}"):
        assert asha.code("GET", path) == (404, "not_found")
    assert asha.code("PATCH", f"/me/collections/{slug}", {"name": "x"}) == (404, "not_found")
    assert (shown(client), asha("GET", "/me/collections").json()["data"]) == ([], [])
    assert verify(client.services.database_url).findings == []


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"name": " "}, "invalid_request", "name"),
        ({"name": "s\u0430rvam"}, "invalid_request", "name"),
        ({"name": "sk-a8Kd92mZq71LxPw04TnB6vYc"}, "looks_like_key", "name"),
        ({"description": "x" * 301}, "invalid_request", "description"),
        ({"readme_md": "x" * 20_481}, "invalid_request", "readme_md"),
        ({"readme_md": "`br-a8Kd92mZq71LxPw04TnB6vYc123456789`"}, "looks_like_key", "readme_md"),
        ({"readme_md": "a\u0000b"}, "invalid_request", "readme_md"),
        ({"model": "nothing"}, "model_not_found", "model"),
        ({"steps": []}, "invalid_request", "steps"),
        ({"steps": STEPS * 6}, "invalid_request", "steps"),
        ({"steps": [STEPS[1]]}, "invalid_request", "steps[0]"),
        ({"steps": [STEPS[0], {"model": "nothing"}]}, "model_not_found", "steps[1]"),
        ({"steps": [STEPS[0] | {"key": "x"}]}, "invalid_request", "steps[0].key"),
        ({"steps": [STEPS[0], {"model": "byoe:sk-a8Kd92mZq71LxPw04TnB6vYc"}]}, "looks_like_key", "steps[1]"),
        ({"steps": [STEPS[0], {"model": "byoe:ours"}], "public": True}, "private_step", "steps[1]"),
        ({"stars": 1000}, "invalid_request", "stars"),
        ({"public": "yes, please"}, "invalid_request", "public"),
    ],
)
def test_slips_are_told_by_field(client: Client, asha: Browser, body: Any, code: str, param: str) -> None:
    reply = asha("POST", "/me/collections", {"name": "Desk", "model": MODEL, "steps": STEPS} | body)
    assert reply.status_code in (400, 404), reply.text
    assert (reply.json()["error"]["code"], reply.json()["error"]["param"]) == (code, param)
    assert client.services.log.stream(f"shelf:{asha.org}") == []


def test_text_that_is_no_text_is_refused(client: Client, asha: Browser) -> None:
    key = given_key(client.services.store, asha.org, at=client.services.clock(), by="user:usr_asha").secret
    client.services.directory.catch_up()
    body = b'{"name": "\\ud800", "model": "%s", "steps": [{"model": "%s"}]}' % (MODEL.encode(), MODEL.encode())
    reply = client("POST", "/me/collections", key, content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "name")
    for slug in ("%00", "a%00b-aaaaaaaa", "%F0%9F%98%80", "x" * 500, "'--", "A-B"):
        assert asha.code("GET", f"/me/collections/{slug}") == (404, "not_found")
        assert client.code("GET", f"/v1/collections/{slug}") == (404, "not_found")
        assert asha.code("POST", f"/me/collections/import/{slug}") == (404, "not_found")
    assert client("GET", "/v1/collections?q=%00").status_code == 200
    for query in ("limit=0", "limit=201", "limit=x", "q=" + "x" * 201):
        assert client.code("GET", f"/v1/collections?{query}") == (400, "invalid_request")


def test_what_is_private_is_not_there_for_others_whatever_they_try(
    client: Client, asha: Browser, ravi: Browser
) -> None:
    slug = make(asha, name="Secret plan")["slug"]
    head = client.services.log.head()
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/fork"),
        ("POST", "/star"),
        ("DELETE", "/star"),
    ):
        body = {"name": "mine"} if method == "PATCH" else None
        assert ravi.code(method, f"/me/collections/{slug}{path}", body) == (404, "not_found")
    assert ravi.code("POST", f"/me/collections/import/{slug}") == (404, "not_found")
    assert client.code("GET", f"/v1/collections/{slug}") == (404, "not_found")
    assert client.services.log.head() == head
    assert slug not in ravi("GET", "/me/collections").text + client("GET", "/v1/collections?q=secret").text


def test_anothers_public_collection_can_be_seen_forked_and_starred_but_not_changed(
    client: Client, asha: Browser, ravi: Browser
) -> None:
    slug = make(asha, public=True, readme_md="# Theirs")["slug"]
    for method, body in (("GET", None), ("PATCH", {"name": "mine"}), ("DELETE", None)):
        assert ravi.code(method, f"/me/collections/{slug}", body) == (404, "not_found")
    page = client("GET", f"/v1/collections/{slug}").text
    for hidden in (asha.org, "usr_asha", "Team of asha"):
        assert hidden not in page

    forked = ravi("POST", f"/me/collections/{slug}/fork")
    assert forked.status_code == 201
    assert (forked.json()["forked_from"], forked.json()["public"]) == ({"slug": slug, "version": 1}, False)
    asha("PATCH", f"/me/collections/{slug}", {"readme_md": "# Changed", "steps": STEPS[:1]})
    client.project()
    kept = ravi("GET", f"/me/collections/{forked.json()['slug']}").json()
    assert (kept["readme_md"], kept["steps"], kept["version"]) == ("# Theirs", STEPS, 1)
    assert ravi("POST", f"/me/collections/{slug}/fork").json()["forked_from"]["version"] == 2


def test_where_a_public_fork_comes_from_is_told_while_that_is_public(
    client: Client, asha: Browser, ravi: Browser
) -> None:
    slug = make(asha, public=True)["slug"]
    fork = ravi("POST", f"/me/collections/{slug}/fork").json()["slug"]
    ravi("PATCH", f"/me/collections/{fork}", {"public": True})
    client.project()
    assert client("GET", f"/v1/collections/{fork}").json()["forked_from"]["slug"] == slug
    asha("PATCH", f"/me/collections/{slug}", {"public": False})
    client.project()
    assert client("GET", f"/v1/collections/{fork}").json()["forked_from"] is None
    assert slug not in client("GET", "/v1/collections").text
    assert ravi("GET", f"/me/collections/{fork}").json()["forked_from"]["slug"] == slug


def test_a_person_has_one_star_whatever_orgs_they_are_in_and_keys_have_none(
    client: Client, asha: Browser, ravi: Browser
) -> None:
    quiet, loved = make(asha, name="Quiet", public=True)["slug"], make(asha, name="Loved", public=True)["slug"]
    assert shown(client) == [loved, quiet]
    assert ravi("POST", f"/me/collections/{quiet}/star").json() == {"slug": quiet, "starred": True, "stars": 1}
    team_of(ravi, "Second team")
    assert ravi("POST", f"/me/collections/{quiet}/star").json()["stars"] == 1
    assert shown(client) == [quiet, loved]
    assert ravi("POST", f"/me/collections/{quiet}/star").json()["stars"] == 1
    assert asha("POST", f"/me/collections/{quiet}/star").json()["stars"] == 2
    key = given_key(
        client.services.store, ravi.org, at=client.services.clock(), by="user:usr_ravi", terms=KeyTerms(name="k")
    ).secret
    client.services.directory.catch_up()
    assert client.code("POST", f"/me/collections/{quiet}/star", key) == (403, "forbidden_scope")
    client.project()
    for _ in range(2):
        gone = ravi("DELETE", f"/me/collections/{quiet}/star").json()
        assert gone == {"slug": quiet, "starred": False, "stars": 1}
    asha("DELETE", f"/me/collections/{quiet}/star")
    assert shown(client) == [loved, quiet]


def test_whoever_comes_back_after_erasure_has_no_second_star(client: Client, asha: Browser, ravi: Browser) -> None:
    slug = make(asha, public=True)["slug"]
    home = browser(client, "meera")
    theirs = home("POST", "/me/collections", {"name": "Mine", "model": MODEL, "steps": STEPS, "readme_md": "I, Meera"})
    home("PATCH", f"/me/collections/{theirs.json()['slug']}", {"public": True})
    kept = client.services.log.stream(f"collection:{theirs.json()['slug']}")[0].event.readme
    taken = ravi("POST", f"/me/collections/{theirs.json()['slug']}/fork").json()["slug"]
    home("POST", f"/me/collections/{slug}/star")
    client.project()
    assert [star["slug"] for star in home("GET", "/me/export").json()["stars"]] == [slug]
    assert client("GET", f"/v1/collections/{slug}").json()["stars"] == 1
    assert client.services.vault.open(home.org, kept) == "I, Meera"
    client.services.erase_person("usr_meera", by="operator")
    client.project()
    assert client("GET", f"/v1/collections/{slug}").json()["stars"] == 0
    assert client.code("GET", f"/v1/collections/{theirs.json()['slug']}") == (404, "not_found")
    assert ravi.code("POST", f"/me/collections/{theirs.json()['slug']}/fork") == (404, "not_found")
    assert client.services.vault.open(home.org, kept) is None
    assert ravi("GET", f"/me/collections/{taken}").json()["readme_md"] == "I, Meera"


def test_an_import_of_ones_own_is_the_saved_chain_and_of_anothers_a_snapshot_of_it(
    client: Client, asha: Browser, ravi: Browser
) -> None:
    slug = make(asha, public=True, steps=[{"model": MODEL, "provider": "sarvam"}, STEPS[1]])["slug"]
    own = asha("POST", f"/me/collections/import/{slug}").json()
    assert own == {"ok": True, "model": MODEL, "steps": [{"model": MODEL, "provider": "sarvam"}, STEPS[1]]}
    assert (chain(asha)["provider"], chain(asha)["fallbacks"]) == ("sarvam", STEPS[1:])

    first = ravi("POST", f"/me/collections/import/{slug}").json()
    assert first == own | {"forked_as": first["forked_as"]}
    assert chain(ravi)["fallbacks"] == STEPS[1:]
    asha("PATCH", f"/me/collections/{slug}", {"steps": [*STEPS, {"model": "gpt-5"}]})
    assert ravi("POST", f"/me/collections/import/{slug}").json() == first
    asha("PATCH", f"/me/collections/{slug}", {"public": False})
    assert ravi("POST", f"/me/collections/import/{first['forked_as']}").json() == own
    assert ravi.code("POST", f"/me/collections/import/{slug}") == (404, "not_found")
    assert chain(ravi)["fallbacks"] == STEPS[1:]
    client.project()
    assert [row["slug"] for row in ravi("GET", "/me/collections").json()["data"]] == [first["forked_as"]]

    alone = make(ravi, name="Alone", steps=STEPS[:1])["slug"]
    assert ravi("POST", f"/me/collections/import/{alone}").json()["steps"] == STEPS[:1]
    assert ravi.code("GET", f"/me/routing/{MODEL}") == (404, "not_found")


def test_steps_of_own_keys_and_of_models_that_are_gone_come_along(client: Client, asha: Browser, ravi: Browser) -> None:
    provider = next(iter(client.services.catalog.providers))
    steps = [STEPS[0], {"model": f"{provider}/their-model", "provider": None}]
    slug = make(asha, public=True, steps=steps)["slug"]
    assert ravi("POST", f"/me/collections/import/{slug}").status_code == 200
    assert chain(ravi)["fallbacks"] == steps[1:]


def test_an_import_is_in_force_in_another_process_within_a_second(
    client: Client, asha: Browser, ravi: Browser, tmp_path: Path
) -> None:
    slug = make(asha, public=True)["slug"]
    with started(Settings(home=tmp_path), client.services.database_url) as there:
        assert ravi("POST", f"/me/collections/import/{slug}").status_code == 200
        acknowledged = time.monotonic()
        while there.directory.directory.chains(ravi.org).steps(MODEL) == Chains().steps(MODEL):
            time.sleep(0.01)
            assert time.monotonic() - acknowledged < 1


def test_members_read_star_and_fork_and_admins_do_the_rest(client: Client, asha: Browser) -> None:
    slug = make(asha)["slug"]
    member = browser(client, "member")
    join(asha, member, "member")
    for path in ("", f"/{slug}"):
        assert member("GET", f"/me/collections{path}").status_code == 200
    assert member("POST", f"/me/collections/{slug}/star").status_code == 200
    assert member("POST", f"/me/collections/{slug}/fork").status_code == 201
    for method, path, body in (
        ("POST", "", {"name": "x", "model": MODEL, "steps": STEPS}),
        ("PATCH", f"/{slug}", {"name": "x"}),
        ("DELETE", f"/{slug}", None),
        ("POST", f"/import/{slug}", None),
    ):
        assert member.code(method, f"/me/collections{path}", body) == (403, "forbidden_role")


def test_many_imports_at_once_make_one_fork(client: Client, asha: Browser, ravi: Browser) -> None:
    slug = make(asha, public=True)["slug"]
    path = f"/me/collections/import/{slug}"
    answers = at_once(*[lambda: ravi("POST", path).json()["forked_as"]] * 4)
    assert len(answers) == 4
    assert len(set(answers)) == 1


def test_an_org_has_so_many_collections(client: Client, asha: Browser) -> None:
    slugs = [make(asha)["slug"] for _ in range(4)]
    assert len(set(slugs)) == 4
    refused = asha.code("POST", "/me/collections", {"name": "Five", "model": MODEL, "steps": STEPS})
    assert refused == (409, "collection_limit")
    assert asha.code("POST", f"/me/collections/{slugs[0]}/fork") == (409, "collection_limit")


def test_the_audit_trail_tells_of_collections_and_what_was_before(client: Client, asha: Browser) -> None:
    slug = make(asha, readme_md="# Long")["slug"]
    asha("PATCH", f"/me/collections/{slug}", {"name": "Renamed", "readme_md": "# Longer"})
    asha("POST", f"/me/collections/{slug}/star")
    asha("DELETE", f"/me/collections/{slug}")
    client.project()
    rows = asha("GET", "/me/audit").json()["data"]
    told = [(row["action"], row["before"], row["after"]) for row in rows[:3]]
    assert told[0] == ("collection_deleted", {"status": "active"}, {"status": "deleted"})
    assert told[1] == ("collection_changed", {"name": "Hindi desk", "version": 1}, {"name": "Renamed", "version": 2})
    assert (told[2][0], told[2][2]["model"], told[2][2]["status"]) == ("collection_created", MODEL, "active")
    assert {row["thing"] for row in rows[:3]} == {f"collection:{slug}"}
    assert {row["address"] for row in rows[:3]} == {"127.0.0.1"}
    assert "readme" not in str(rows)
    assert verify(client.services.database_url).findings == []
