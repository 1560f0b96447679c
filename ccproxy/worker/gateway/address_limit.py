"""Client addresses, and limits on the number of attempts from each address."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

MOST_PROXIES = 20
MOST_ADDRESSES = 4096
"""Maximum number of tracked addresses."""


def client_address(
    peer: str, forwarded: Iterable[str], trusted: Iterable[IPv4Network | IPv6Network]
) -> str:
    """
    Return the address of the client behind the connection from *peer*.

    *forwarded* are the X-Forwarded-For headers of the request, to which each proxy appends the
    address that connected to it. They are read from the end, and only addresses from *trusted*
    proxies count: a client can forge the rest.
    """
    networks, address = tuple(trusted), _parsed(peer)
    for text in reversed(",".join(forwarded).split(",")[-MOST_PROXIES:]):
        if not any(address in network for network in networks):
            break
        try:
            address = _parsed(text.strip())
        except ValueError:
            break  # a proxy may write "unknown"
    return str(address)


def network_of(address: str) -> str:
    """Return an IPv4 *address* as is, or the /64 of an IPv6 one, which may all be one machine's."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(IPv6Network((parsed, 64), strict=False))


def _parsed(text: str) -> IPv4Address | IPv6Address:
    """Parse an address with an optional zone or port; raise ValueError if it is invalid."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


class AddressLimit:
    """Allows *most* attempts per address within *seconds*."""

    def __init__(self, most: int, seconds: float, *, clock: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def allows(self, address: str) -> bool:
        """Return True if *address* may make another attempt."""
        begin, count = self._windows.get(address, (0.0, 0))
        return count < self._most or self._clock() - begin >= self._seconds

    def note(self, address: str) -> None:
        """Count an attempt from *address*."""
        now = self._clock()
        begin, count = self._windows.pop(address, (now, 0))
        if now - begin >= self._seconds:
            begin, count = now, 0
        self._windows[address] = (begin, count + 1)
        while len(self._windows) > MOST_ADDRESSES:
            self._windows.popitem(last=False)
