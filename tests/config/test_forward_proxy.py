"""The forward proxy of a request: variables, exceptions and unsupported schemes."""

from __future__ import annotations

import pytest

from ccproxy.config.forward_proxy import proxy_for, unsupported_proxy
from ccproxy.config.parsers import proxy_url

URL = "https://api.x.ai/v1"
PROXY = "http://corp:3128"


@pytest.mark.parametrize(
    ("url", "configured", "environ", "proxy"),
    [
        pytest.param(URL, None, {"HTTPS_PROXY": PROXY}, PROXY, id="HTTPS_PROXY"),
        pytest.param(URL, None, {"https_proxy": PROXY}, PROXY, id="lower case"),
        pytest.param(
            URL, None, {"HTTPS_PROXY": "http://a:1", "https_proxy": PROXY}, PROXY, id="both"
        ),
        pytest.param(URL, None, {"ALL_PROXY": PROXY}, PROXY, id="ALL_PROXY"),
        pytest.param(URL, None, {"HTTP_PROXY": PROXY}, None, id="another scheme's"),
        pytest.param(URL, None, {"HTTPS_PROXY": "corp:3128"}, PROXY, id="without a scheme"),
        pytest.param(URL, None, {"HTTPS_PROXY": "HTTP://corp:3128"}, PROXY, id="upper case"),
        pytest.param(URL, None, {"HTTPS_PROXY": " "}, None, id="empty"),
        pytest.param(URL, "http://own:1", {"HTTPS_PROXY": PROXY}, "http://own:1", id="configured"),
        pytest.param(
            URL, "http://own:1", {"NO_PROXY": "*"}, "http://own:1", id="NO_PROXY is not for it"
        ),
        pytest.param("http://127.0.0.1:9/v1", "http://own:1", {}, None, id="loopback"),
    ],
)
def test_the_proxy_of_a_request(url, configured, environ, proxy):
    assert proxy_for(url, configured, environ) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        pytest.param("*", URL, id="everything"),
        pytest.param("api.x.ai", URL, id="the name"),
        pytest.param("API.X.AI.", URL, id="case and a final dot"),
        pytest.param("x.ai", URL, id="a parent domain"),
        pytest.param(".x.ai", URL, id="a leading dot"),
        pytest.param("*.x.ai", URL, id="a leading wildcard"),
        pytest.param("a.example api.x.ai", URL, id="separated by blanks"),
        pytest.param("a.example,\tapi.x.ai", URL, id="separated by commas and blanks"),
        pytest.param("api.x.ai:443", URL, id="with the port"),
        pytest.param("gpu.lan:8000", "http://gpu.lan:8000/v1", id="with a port of its own"),
        pytest.param("10.1.2.3", "http://10.1.2.3/v1", id="an address"),
        pytest.param("10.1.2.3:8000", "http://10.1.2.3:8000/v1", id="an address with its port"),
        pytest.param("10.0.0.0/8", "http://10.1.2.3/v1", id="a network"),
        pytest.param("10.0.0.1/8", "http://10.1.2.3/v1", id="a network by one of its addresses"),
        pytest.param("10.1.*", "http://10.1.2.3/v1", id="a wildcard"),
        pytest.param("fd00::1", "http://[fd00::1]/v1", id="an IPv6 address"),
        pytest.param("FD00:0::1", "http://[fd00::1]/v1", id="another form of the same address"),
        pytest.param("[fd00::1]", "http://[fd00::1]/v1", id="in brackets"),
        pytest.param("[fd00::1]:8000", "http://[fd00::1]:8000/v1", id="in brackets with a port"),
        pytest.param("fd00::/8", "http://[fd00::1]/v1", id="an IPv6 network"),
    ],
)
def test_excepted_hosts(no_proxy, url):
    for name in ("NO_PROXY", "no_proxy"):
        environ = {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY, name: no_proxy}
        assert proxy_for(url, None, environ) is None


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        pytest.param("", URL, id="nothing"),
        pytest.param(",", URL, id="a comma"),
        pytest.param("i.x.ai", URL, id="the end of a label"),
        pytest.param("ai.com", URL, id="another domain"),
        pytest.param("api.x.ai:8443", URL, id="another port"),
        pytest.param("10.0.0.0/8", URL, id="a network and a name"),
        pytest.param("10.0.0.0/8", "http://11.1.2.3/v1", id="an address outside of the network"),
        pytest.param("10.1.2.3:80", "http://10.1.2.3:8000/v1", id="an address at another port"),
        pytest.param("[fd00::1]:80", "http://[fd00::1]:8000/v1", id="IPv6 at another port"),
        pytest.param("10.0.0.0/99", "http://10.1.2.3/v1", id="not a network"),
    ],
)
def test_other_hosts(no_proxy, url):
    environ = {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY, "NO_PROXY": no_proxy}
    assert proxy_for(url, None, environ) == PROXY


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "SOCKS5", "quic"])
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_an_unsupported_proxy_is_reported(name, scheme):
    environ = {name: f"{scheme}://user:secret@corp:1080"}
    assert proxy_for(URL, None, environ) is None
    text = unsupported_proxy(URL, None, environ)
    assert text.startswith(f"{name} is ignored: {scheme.lower()} proxies are not supported")
    assert "UPSTREAM_PROXY" in text
    assert "secret" not in text


@pytest.mark.parametrize("host", ["[::1", "corp:port", "corp:99999", "", "corp x"])
def test_an_invalid_proxy_is_reported(host):
    environ = {"HTTPS_PROXY": f"http://user:secret@{host}"}
    assert proxy_for(URL, None, environ) is None
    text = unsupported_proxy(URL, None, environ)
    assert text is not None
    assert text.startswith("HTTPS_PROXY is ignored: it is not a valid address;")
    assert "secret" not in text


@pytest.mark.parametrize("password", ["p²x", "pass´", "½", "Ａ"])
def test_a_password_may_have_characters_that_hosts_must_not_have(password):
    proxy = f"http://user:{password}@corp:3128"
    environ = {"HTTPS_PROXY": proxy}
    assert (proxy_for(URL, None, environ), unsupported_proxy(URL, None, environ)) == (proxy, None)
    assert proxy_url(proxy) == proxy


@pytest.mark.parametrize(
    ("url", "configured", "environ"),
    [
        pytest.param(URL, None, {}, id="no proxy"),
        pytest.param(URL, None, {"HTTPS_PROXY": PROXY}, id="a supported one"),
        pytest.param(
            URL, None, {"ALL_PROXY": "socks5://a:1", "HTTPS_PROXY": PROXY}, id="a better one"
        ),
        pytest.param(URL, "http://own:1", {"ALL_PROXY": "socks5://a:1"}, id="a configured one"),
        pytest.param(
            URL, None, {"ALL_PROXY": "socks5://a:1", "NO_PROXY": "x.ai"}, id="an excepted host"
        ),
        pytest.param("http://127.0.0.1:9/v1", None, {"ALL_PROXY": "socks5://a:1"}, id="loopback"),
    ],
)
def test_nothing_is_reported(url, configured, environ):
    assert unsupported_proxy(url, configured, environ) is None
