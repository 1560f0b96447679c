"""Sign-ins that an identity provider approves, and sign-ins that must fail."""

from __future__ import annotations

import json
import re
import time
from html import unescape

import pytest

from ccproxy.worker.gateway.oidc_flow import IdentityError, verified_email
from tests.worker.gateway.oidc_provider import CLIENT_SECRET, OidcProvider, new_key
from tests.worker.gateway.team import (
    ANNA,
    Browser,
    bearer,
    begin,
    form,
    poll,
    write_users,
)

USER = '[[user]]\nname = "anna"\nemail = "Anna@example.com"\noidc = true\n'


@pytest.fixture
async def identity():
    async with OidcProvider() as provider:
        yield provider


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "users.toml"
    path.write_text(USER)
    return path


@pytest.fixture
async def gateway(start, file, identity):
    return await start(USERS=str(file), **identity.settings())


async def go_to_provider(browser, started):
    """Select the provider on the page; return the address of the provider's page."""
    await browser.open(started["verification_uri_complete"])
    status, text = await browser.send(user_code=started["user_code"], action="oidc")
    assert status == 200, text
    return unescape(re.findall(r'<a href="([^"]+)"', text)[0])


async def come_back(browser, query):
    """Follow the provider's redirect to the gateway; return status and page."""
    async with browser.session.get(
        f"{browser.url}/device/oidc", params=query, headers={"Sec-Fetch-Site": "cross-site"}
    ) as got:
        text = await got.text()
    browser.read(text)
    return got.status, text


def identity_in(page):
    return "".join(re.findall(r'name="identity" value="([^"]*)"', page))


async def confirmed(browser, identity, started):
    """Sign in and confirm; return the status of the last page."""
    back = identity.sign_in(await go_to_provider(browser, started))
    status, page = await come_back(browser, back)
    if status != 200:
        return status, page
    return await browser.send(user_code=started["user_code"], identity=identity_in(page))


async def state_of(gateway, started):
    _, body = await poll(gateway, started["device_code"])
    return body.get("error", "signed in")


async def test_a_user_signs_in_with_the_provider(gateway, identity):
    started = await begin(gateway)
    async with Browser(gateway.url) as browser:
        back = identity.sign_in(await go_to_provider(browser, started))
        status, page = await come_back(browser, back)
        assert "You are signed in as <b>Anna@example.com</b>" in page
        assert started["user_code"].replace("-", "") in page
        assert status == 200
        assert await state_of(gateway, started) == "authorization_pending", "not confirmed yet"
        status, page = await browser.send(
            user_code=started["user_code"], identity=identity_in(page)
        )
        assert (status, "Signed in as Anna@example.com" in page) == (200, True)
        assert (await come_back(browser, back))[0] == 403, "an answer of the provider counts once"
    gateway.worker.gateway.sign_ins._clock = lambda: time.time() + 10
    status, tokens = await poll(gateway, started["device_code"])
    assert (status, tokens["email"]) == (200, "Anna@example.com")
    assert (await gateway.ask(headers=bearer(tokens["access_token"]))).status == 200
    assert CLIENT_SECRET not in json.dumps(gateway.log, default=str)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        pytest.param({"nonce": "other"}, "different sign-in", id="of another sign-in"),
        pytest.param({"nonce": None}, "different sign-in", id="without a nonce"),
        pytest.param({"aud": "other"}, "different client", id="for another client"),
        pytest.param({"aud": None}, "different client", id="without an audience"),
        pytest.param({"aud": ["ccproxy-gateway", "o"]}, "different client", id="for several"),
        pytest.param({"iss": "https://evil.example"}, "not valid", id="of another issuer"),
        pytest.param({"exp": 1_700_000_000}, "not valid", id="expired"),
        pytest.param({"exp": None}, "not valid", id="without an end"),
        pytest.param({"iat": 4_000_000_000}, "not valid", id="issued in the future"),
        pytest.param({"nbf": 4_000_000_000}, "not valid", id="not valid yet"),
        pytest.param({"sub": None}, "not valid", id="without a subject"),
        pytest.param({"email_verified": False}, "no verified email", id="an email of anybody"),
        pytest.param({"email_verified": None}, "no verified email", id="an unknown email"),
        pytest.param({"email": ["anna@example.com"]}, "no verified email", id="not a text"),
    ],
)
async def test_invalid_id_tokens_are_refused(gateway, identity, claims, reason):
    identity.claims = claims
    started = await begin(gateway)
    async with Browser(gateway.url) as browser:
        status, page = await confirmed(browser, identity, started)
    assert (status, "did not confirm" in page) == (403, True)
    assert reason in gateway.lines("sign_in.not_identified")[0]["reason"]
    assert await state_of(gateway, started) == "authorization_pending"


ENTRA = "https://login.microsoftonline.com/0123/v2.0"


@pytest.mark.parametrize(
    ("issuer", "claims", "is_verified"),
    [
        pytest.param("https://idp.example", {"email_verified": "true"}, True, id="a text"),
        pytest.param(ENTRA, {}, False, id="Entra ID without the claim"),
        pytest.param(ENTRA, {"xms_edov": True}, True, id="Entra ID with the claim"),
        pytest.param(ENTRA, {"xms_edov": "1"}, True, id="Entra ID with the claim as a text"),
        pytest.param(ENTRA, {"xms_edov": 1}, True, id="Entra ID with the claim as a number"),
        pytest.param(ENTRA, {"xms_edov": False}, False, id="an unverified domain"),
        pytest.param(ENTRA, {"xms_edov": "0"}, False, id="an unverified domain as a text"),
        pytest.param(
            ENTRA, {"xms_edov": True, "email_verified": False}, False, id="the standard claim first"
        ),
        pytest.param("https://idp.example", {"xms_edov": True}, False, id="of another provider"),
        pytest.param(f"https://idp.example/{ENTRA}", {"xms_edov": True}, False, id="a name in it"),
    ],
)
def test_an_email_counts_only_if_it_is_verified(issuer, claims, is_verified):
    claims = {"email": "anna@example.com", **claims}
    if is_verified:
        assert verified_email(claims, issuer) == "anna@example.com"
    else:
        with pytest.raises(IdentityError, match="no verified email"):
            verified_email(claims, issuer)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256"])
async def test_forged_signatures_are_refused(gateway, identity, algorithm):
    """Tokens are unsigned, signed with the public key as a secret, or with a false key."""
    identity.algorithm = algorithm
    identity.key = new_key("first")
    started = await begin(gateway)
    async with Browser(gateway.url) as browser:
        assert (await confirmed(browser, identity, started))[0] == 403
    assert await state_of(gateway, started) == "authorization_pending"


async def test_rotated_keys_are_fetched_again(gateway, identity):
    provider = gateway.worker.gateway.provider
    async with Browser(gateway.url) as browser:
        assert (await confirmed(browser, identity, await begin(gateway)))[0] == 200
        identity.key = new_key("second")
        brainpool = {"kty": "EC", "crv": "BP-256", "x": "AA", "y": "AA"}
        unsupported = [{"kty": "oct", "k": "AAAA"}, {"kty": "new"}, brainpool, "x"]
        identity.listed = [*unsupported, *identity.listed]
        identity.listed.append(identity.key.as_dict(private=False))
        assert (await confirmed(browser, identity, await begin(gateway)))[0] == 403, (
            "a stranger cannot make the gateway ask at once again"
        )
        assert identity.requests.count("/keys") == 1
        provider._clock = lambda: time.time() + 45
        assert (await confirmed(browser, identity, await begin(gateway)))[0] == 200
    assert identity.requests.count("/keys") == 2
    assert identity.requests.count("/.well-known/openid-configuration") == 1


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"issuer": "https://evil.example"}, "document of a different issuer"),
        ({"authorization_endpoint": "http://evil.example/"}, "must begin with https://"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "must be"),
        ({"authorization_endpoint": None}, "must be"),
    ],
)
async def test_an_invalid_discovery_document_is_refused(gateway, identity, document, reason):
    identity.document = document
    started = await begin(gateway)
    async with Browser(gateway.url) as browser:
        await browser.open(started["verification_uri_complete"])
        status, text = await browser.send(user_code=started["user_code"], action="oidc")
    assert (status, "does not respond" in text) == (400, True)
    assert reason in gateway.lines("sign_in.provider_unavailable")[0]["reason"]


async def test_a_callback_is_valid_only_in_the_browser_that_was_redirected(gateway, identity):
    started = await begin(gateway)
    async with Browser(gateway.url) as browser, Browser(gateway.url) as victim:
        back = identity.sign_in(await go_to_provider(browser, started))
        assert (await come_back(victim, back))[0] == 403, "no cookie"
        await go_to_provider(victim, await begin(gateway))
        assert (await come_back(victim, back))[0] == 403, "another state"
        assert (await come_back(browser, {**back, "state": back["state"] + "x"}))[0] == 403
    assert identity.requests.count("/token") == 0


async def test_an_identity_approves_only_the_code_that_was_shown(gateway, identity, file):
    started, other = await begin(gateway), await begin(gateway)
    async with Browser(gateway.url) as browser, Browser(gateway.url) as stranger:
        back = identity.sign_in(await go_to_provider(browser, started))
        _, page = await come_back(browser, back)
        proof = identity_in(page)
        assert (await browser.send(user_code=other["user_code"], identity=proof))[0] == 403
        await stranger.open(started["verification_uri_complete"])
        assert (await stranger.send(user_code=started["user_code"], identity=proof))[0] == 403
        assert (await stranger.send(user_code=started["user_code"], identity="x.y"))[0] == 403
        back = identity.sign_in(await go_to_provider(browser, started))
        _, page = await come_back(browser, back)
        file.write_text(USER.replace("oidc = true", "oidc = false"))
        status, _ = await browser.send(user_code=started["user_code"], identity=identity_in(page))
        assert status == 403, "revoked meanwhile"
    assert await state_of(gateway, other) == "authorization_pending"
    assert await state_of(gateway, started) == "authorization_pending"


async def test_an_unknown_email_is_refused(gateway, identity):
    identity.claims = {"email": "eve@example.com<script>"}
    async with Browser(gateway.url) as browser:
        status, page = await confirmed(browser, identity, await begin(gateway))
    assert (status, "is not a user" in page, "<script>" in page) == (403, True, False)


async def test_a_lookalike_email_is_a_different_user(gateway, identity, file):
    file.write_text(USER.replace("Anna", "kim"))
    identity.claims = {"email": "\N{KELVIN SIGN}im@example.com"}
    async with Browser(gateway.url) as browser:
        assert (await confirmed(browser, identity, await begin(gateway)))[0] == 403
        identity.claims = {"email": "KIM@example.com"}
        assert (await confirmed(browser, identity, await begin(gateway)))[0] == 200


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("", id="removed"),
        pytest.param(USER.replace("oidc = true", "oidc = false"), id="without the provider"),
        pytest.param(USER.replace("Anna@", "other@"), id="another email"),
    ],
)
async def test_revocation_ends_sessions_of_the_provider(gateway, identity, file, change):
    started = await begin(gateway)
    async with Browser(gateway.url) as browser:
        assert (await confirmed(browser, identity, started))[0] == 200
    _, tokens = await poll(gateway, started["device_code"])
    assert (await gateway.ask(headers=bearer(tokens["access_token"]))).status == 200
    file.write_text(change)
    assert (await gateway.ask(headers=bearer(tokens["access_token"]))).status == 401


async def test_the_provider_must_approve_an_old_session_again(start, file, identity):
    gateway = await start(USERS=str(file), OIDC_SESSION_DAYS="0.000001", **identity.settings())
    started = await begin(gateway)
    async with Browser(gateway.url) as browser:
        assert (await confirmed(browser, identity, started))[0] == 200
    _, tokens = await poll(gateway, started["device_code"])
    gateway.worker.gateway._clock = lambda: time.time() + 60
    status, _ = await form(
        gateway, "/oauth/token", grant_type="refresh_token", refresh_token=tokens["refresh_token"]
    )
    assert status == 401


async def test_personal_tokens_work_next_to_the_provider(gateway, file):
    write_users(file)
    started = await begin(gateway)
    async with Browser(gateway.url) as browser:
        await browser.open(started["verification_uri_complete"])
        assert (await browser.send(user_code=started["user_code"], token=ANNA))[0] == 200


async def test_without_a_provider_its_page_does_not_exist(start, file):
    write_users(file)
    proxy = await start(USERS=str(file))
    async with proxy.get("/device/oidc") as got:
        assert got.status == 404
    async with proxy.get("/device") as got:
        assert "oidc" not in await got.text()
