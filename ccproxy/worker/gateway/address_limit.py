"""How many attempts one address may make; a fixed number of addresses is remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network

MOST_ADDRESSES = 4096


def network_of(address: str) -> str:
    """Return *address*; of IPv6 the network of 64 bits, of which one machine has all addresses."""
    if ":" not in address:
        return address
    one = IPv6Address(address.partition("%")[0])
    mapped = one.ipv4_mapped
    return str(IPv6Network((one, 64), strict=False)) if mapped is None else str(mapped)


class AddressLimit:
    """Allows *most* attempts per address in *seconds*."""

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
        """Count an attempt of *address*."""
        now = self._clock()
        begin, count = self._windows.pop(address, (now, 0))
        if now - begin >= self._seconds:
            begin, count = now, 0
        self._windows[address] = (begin, count + 1)
        while len(self._windows) > MOST_ADDRESSES:
            self._windows.popitem(last=False)
