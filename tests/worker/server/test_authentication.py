"""Client keys, and web pages that must not reach a loopback port."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from ccproxy.config.worker_config import PLACEHOLDER
from ccproxy.errors import Problem
from ccproxy.worker.server.authentication import Authenticator, offered_keys

ONE, TWO = "client-key-one-0123456", "client-key-two-0123456"


def headers(*pairs):
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([("x-api-key", ONE)], id="x-api-key"),
        pytest.param([("Authorization", f"Bearer {ONE}")], id="bearer"),
        pytest.param([("authorization", f"bearer  {TWO} ")], id="any case, any blanks"),
        pytest.param([("x-api-key", ONE), ("Authorization", f"Bearer {ONE}")], id="both"),
        pytest.param([("x-api-key", "wrong"), ("Authorization", f"Bearer {TWO}")], id="one right"),
        pytest.param([("x-api-key", "wrong"), ("x-api-key", TWO)], id="twice"),
    ],
)
def test_every_configured_key_is_accepted(pairs):
    Authenticator([ONE, TWO], host="127.0.0.1").check_key(headers(*pairs))


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([], id="none"),
        pytest.param([("x-api-key", "")], id="empty"),
        pytest.param([("x-api-key", "wrong")], id="wrong"),
        pytest.param([("x-api-key", PLACEHOLDER)], id="a placeholder"),
        pytest.param([("x-api-key", f"{ONE},{TWO}")], id="the list itself"),
        pytest.param([("x-api-key", ONE[:-1])], id="a part"),
        pytest.param([("x-api-key", ONE + "x")], id="more"),
        pytest.param([("x-api-key", ONE.upper())], id="another case"),
        pytest.param([("Authorization", ONE)], id="no scheme"),
        pytest.param([("Authorization", f"Basic {ONE}")], id="another scheme"),
        pytest.param([("x-api-key", "schlüssel")], id="not ASCII"),
        pytest.param([("x-api-key", "\udcff\udcfe")], id="not even UTF-8"),
    ],
)
def test_every_other_key_is_refused(pairs):
    with pytest.raises(Problem) as refused:
        Authenticator([ONE, TWO], host="127.0.0.1").check_key(headers(*pairs))
    assert (refused.value.status, refused.value.should_retry) == (401, False)
    assert "invalid x-api-key" not in refused.value.message
    assert "ANTHROPIC_AUTH_TOKEN" in refused.value.message


@pytest.mark.parametrize("client_keys", [[], [ONE, TWO]], ids=["no keys", "two keys"])
def test_keys_that_only_the_proxy_accepts(client_keys):
    authenticator = Authenticator(client_keys, host="127.0.0.1")
    assert all(authenticator.is_own(key) for key in (*client_keys, PLACEHOLDER))
    assert not any(authenticator.is_own(key) for key in ("sk-ant-own-0123456789", ""))


def test_without_client_keys_every_client_is_accepted():
    authenticator = Authenticator([], host="127.0.0.1")
    authenticator.check_key(headers())
    assert not authenticator.requires_key


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        ([("Host", "localhost:8081")], None),
        ([("Host", "127.0.0.1:8081")], None),
        ([("Host", "[::1]:8081")], None),
        ([("Host", "LOCALHOST")], None),
        ([("Host", "localhost.")], None),
        ([], None),
        ([("Host", "evil.example")], 421),
        ([("Host", "evil.example:8081")], 421),
        ([("Host", "localhost:@evil.example")], 421),
        ([("Host", "localhost:8081/evil.example")], 421),
        ([("Host", "localhost.evil.example")], 421),
        ([("Host", "127.0.0.1.evil.example")], 421),
        ([("Host", "192.168.1.5:8081")], 421),
        ([("Host", "[::2]")], 421),
        ([("Host", "localhost"), ("Origin", "https://evil.example")], 403),
        ([("Host", "localhost"), ("Origin", "null")], 403),
        ([("Host", "localhost"), ("Origin", "http://localhost:8081")], 403),
        ([("Host", "localhost"), ("Sec-Fetch-Site", "cross-site")], 403),
        ([("Host", "localhost"), ("Sec-Fetch-Site", "none")], None),
    ],
)
def test_on_loopback_host_and_origin_are_checked(pairs, status):
    authenticator = Authenticator([], host="127.0.0.1")
    if status is None:
        authenticator.check_origin(headers(*pairs))
        return
    with pytest.raises(Problem) as refused:
        authenticator.check_origin(headers(*pairs))
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("target", "ours"),
    [
        pytest.param("/livez", True, id="a path"),
        pytest.param("//evil/livez", True, id="a path that looks like a host"),
        pytest.param("/x?http://evil/", True, id="a query"),
        pytest.param("*", True, id="the server as such"),
        pytest.param("http://localhost:8081/livez", True, id="this machine"),
        pytest.param("http://[::1]?x", True, id="this machine, by address"),
        pytest.param("http://evil/livez", False, id="another"),
        pytest.param("HTTP://evil", False, id="in capitals"),
        pytest.param("http://evil?localhost", False, id="with a query"),
        pytest.param("http://evil#localhost", False, id="with a fragment"),
        pytest.param("http://localhost@evil/", False, id="ours as the user's name"),
        pytest.param("http://evil@localhost/", False, id="a user's name at all"),
        pytest.param("localhost:443", True, id="authority form"),
        pytest.param("evil:443", False, id="authority form of another"),
    ],
)
def test_on_loopback_a_host_in_the_request_line_is_checked_too(target, ours):
    authenticator = Authenticator([], host="127.0.0.1")
    if ours:
        authenticator.check_origin(headers(("Host", "localhost")), target)
        return
    with pytest.raises(Problem) as refused:
        authenticator.check_origin(headers(("Host", "localhost")), target)
    assert refused.value.status == 421


def test_other_listeners_accept_any_host():
    authenticator = Authenticator([ONE], host="0.0.0.0")
    authenticator.check_origin(headers(("Host", "proxy.example")), "http://proxy.example/")


@pytest.mark.parametrize(
    ("listens", "pairs", "status"),
    [
        pytest.param("0.0.0.0", [("Host", "box.lan:8081")], None, id="a listed name"),
        pytest.param("0.0.0.0", [("Host", "BOX.lan.")], None, id="in other letters"),
        pytest.param("0.0.0.0", [("Host", "[fd00::5]:8081")], None, id="a listed address"),
        pytest.param("0.0.0.0", [("Host", "localhost")], None, id="this machine is always listed"),
        pytest.param("10.0.0.1", [("Host", "10.0.0.1:8081")], None, id="so is HOST"),
        pytest.param("0.0.0.0", [("Host", "evil.example")], 421, id="another name"),
        pytest.param("0.0.0.0", [("Host", "x.box.lan")], 421, id="a name below a listed one"),
        pytest.param("0.0.0.0", [("Host", "10.0.0.1")], 421, id="another address"),
        pytest.param(
            "0.0.0.0", [("Host", "box.lan"), ("Origin", "http://box.lan")], 403, id="a page"
        ),
        pytest.param("127.0.0.1", [("Host", "box.lan")], None, id="on loopback, a listed name"),
        pytest.param("127.0.0.1", [("Host", "evil.example")], 421, id="on loopback, another"),
    ],
)
def test_allowed_hosts_apply_to_every_listener(listens, pairs, status):
    authenticator = Authenticator([ONE], host=listens, allowed_hosts=("box.lan", "fd00::5"))
    assert authenticator.is_on_loopback is (listens == "127.0.0.1")
    if status is None:
        authenticator.check_origin(headers(*pairs))
        return
    with pytest.raises(Problem) as refused:
        authenticator.check_origin(headers(*pairs))
    assert refused.value.status == status


def test_offered_keys_are_read_in_order_and_stripped():
    pairs = [("x-api-key", "a"), ("Authorization", "Bearer b"), ("Authorization", "Bearer ")]
    assert offered_keys(headers(*pairs)) == ["a", "b"]


async def test_the_endpoints_require_the_key(start, provider):
    proxy = await start(ANTHROPIC_API_KEY=f"{ONE},{TWO}")
    refused = await proxy.ask()
    assert (refused.status, refused.error["type"]) == (401, "authentication_error")
    assert refused.headers["x-should-retry"] == "false"
    assert (await proxy.ask(headers={"Authorization": f"Bearer {TWO}"})).status == 200
    assert len(provider.calls) == 1
    async with proxy.get("/health") as response:
        assert response.status == 200
    async with proxy.get("/test-connection") as response:
        assert response.status == 401


async def test_a_page_is_refused(proxy, provider):
    answer = await proxy.ask(headers={"Origin": "https://evil.example"})
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers
    assert provider.calls == []
