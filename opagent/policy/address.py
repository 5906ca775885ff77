"""Names of hosts in the one form that rules are compared with, and which addresses belong to everybody; looks nothing up. Pure.

    authority("EXAMPLE.org.:8443", 443)   -> ("example.org", 8443)
    public(ip_address("10.0.0.1"))        -> False

What has two readings is refused, never repaired: a resolver or a server may take the other one.
"""

from __future__ import annotations

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_UNICAST, _NAT64 = ipaddress.IPv6Network("2000::/3"), ipaddress.IPv6Network("64:ff9b::/96")
_NO_UNICAST = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))


def authority(text: str, default: int) -> tuple[str, int]:
    """`host`, `host:port` or `[v6]:port` as (host, port). ValueError says what is wrong: user parts, odd digits, no name."""
    if text.startswith("["):
        inner, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError("no host and port")
        return _six(inner), _port(rest[1:]) if rest else default
    host, colon, port = text.partition(":")
    return name(host), _port(port) if colon else default


def name(text: str) -> str:
    """A host name in lower case and A-labels without the final dot, or an address as it is usually written."""
    try:
        text = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError("no host name") from error
    text = text.lower().removesuffix(".")
    labels = text.split(".")
    if len(text) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("no host name")
    if _NUMBER.fullmatch(labels[-1]):  # every resolver takes it for an address, in its own way
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError as error:
            raise ValueError("an address in disguise") from error
    return text


def is_numeric(host: str) -> bool:
    """Whether it is an address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def shown(host: str, port: int) -> str:
    """As rules and questions write it; the port always."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def public(address: Address) -> bool:
    """Whether it leads to the internet: not to this machine, a private network, a link, many at once, or around by a tunnel."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    if address.ipv4_mapped is not None:
        return public(address.ipv4_mapped)
    if address in _NAT64:
        return public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _UNICAST and address.is_global and not any(address in each for each in _NO_UNICAST)


def _six(text: str) -> str:
    try:
        found = ipaddress.IPv6Address(text)
    except ValueError as error:
        raise ValueError("no address") from error
    if found.scope_id is not None:
        raise ValueError("an address of one link only")
    return str(found.ipv4_mapped or found)


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ValueError("no port")
    return int(text)
