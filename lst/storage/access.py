"""Which places strings may name: the allow-list of protocols and hosts behind every URL that is opened.

Places come from the command line and from files (a manifest, a list, the name of a tar's member, a run's folder). A
file may come from anywhere, and fsspec would take a string from it for more than an address: protocols chained by
``::``, some of which evaluate templates, and options in the place of a user's name. So a URL has one plain protocol of
an allow-list, no chain and no options, wherever it comes from.

HTTP hosts are held to ``storage.allow_hosts``. Addresses of this machine and of private networks are refused, by name,
by number and behind a redirect, unless the command line names the host.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from lst.errors import UserError

# Plain storages: none of them reads another place or evaluates what it reads.
PROTOCOLS = ("file", "http", "https", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
# Child processes, and Ray's workers on other machines, are told by these.
PROTOCOLS_VARIABLE, HOSTS_VARIABLE, NAMED_VARIABLE = "LST_ALLOW_PROTOCOLS", "LST_ALLOW_HOSTS", "LST_NAMED_HOSTS"
SIZE_VARIABLE = "LST_MAX_FILE_BYTES"
VARIABLES = (PROTOCOLS_VARIABLE, HOSTS_VARIABLE, NAMED_VARIABLE, SIZE_VARIABLE)
MAX_FILE_BYTES = 256 << 20  # the default of storage.max_file_bytes
# Azure's long form, CONTAINER@ACCOUNT.dfs.core.windows.net, is the one address with an @ before its path.
_AZURE_ACCOUNT = re.compile(r"[a-z0-9-]+@[a-z0-9]+\.(dfs|blob)\.core\.windows\.net")
_DIGITS = re.compile(r"[0-9.]+")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class PlaceError(UserError):
    """A string that names no place that may be opened."""


def allow(
    protocols: Sequence[str] = (),
    hosts: Sequence[str] = (),
    named: Iterable[str | None] = (),
    max_file_bytes: int = MAX_FILE_BYTES,
) -> None:
    """Sets what this process and the processes that it starts may open.

    Args:
        protocols: allowed beside ``PROTOCOLS``.
        hosts: the only HTTP hosts that are allowed, each a name or ``*.NAME``; none allows every public one.
        named: places of the command line; their hosts are allowed even on this machine or in a private network.
        max_file_bytes: of a text file that is read whole, and of the decoded audio of one utterance.
    """
    found = {host_of(place) for place in named if place and "://" in place}
    hosts_named = sorted(host for host in found if host)
    values = ([*_listed(PROTOCOLS_VARIABLE), *protocols], hosts, hosts_named, [str(max_file_bytes)])
    for variable, words in zip(VARIABLES, values, strict=True):
        os.environ[variable] = ",".join(dict.fromkeys(words))


def settings() -> dict[str, str]:
    """The environment that hands these settings to a worker of another machine."""
    return {variable: os.environ[variable] for variable in VARIABLES if variable in os.environ}


def max_file_bytes() -> int:
    """The limit ``storage.max_file_bytes`` of this process."""
    return int(os.environ.get(SIZE_VARIABLE, MAX_FILE_BYTES))


def size_problem(num_bytes: int, what: str = "has") -> str:
    """Why so many bytes of a foreign file are not taken into memory; empty where they are.

    >>> size_problem(1 << 29, "decodes to")
    'decodes to 536,870,912 bytes or more, at most storage.max_file_bytes=268435456 are read'
    """
    limit = max_file_bytes()
    if num_bytes <= limit:
        return ""
    return f"{what} {num_bytes:,} bytes or more, at most storage.max_file_bytes={limit} are read"


def place_problem(place: str) -> str:
    """Why a string that holds ``://`` or ``::`` names no place that may be opened; empty where it may be."""
    protocol, _, address = place.partition("://")
    allowed = [*PROTOCOLS, *_listed(PROTOCOLS_VARIABLE)]
    shown = repr(place[:100] + ("…" if len(place) > 100 else ""))
    if "::" in place:
        return f"{shown} chains places by '::'; a place is one plain path or URL"
    if protocol not in allowed:
        return (
            f"{shown}: protocol {protocol[:30]!r} is not allowed; allowed are {', '.join(allowed)} "
            "(more by storage.allow_protocols=[…])"
        )
    authority = address.partition("/")[0]
    if "@" in authority and not (protocol in ("abfs", "abfss", "az") and _AZURE_ACCOUNT.fullmatch(authority)):
        return f"{shown} holds a user's name or options before '@'; give credentials by the environment"
    if protocol in ("http", "https"):
        return _http_problem(place, shown)
    if protocol != "file" and "?" in address:
        return f"{shown} holds options behind '?'; only http:// and https:// have such"
    return ""


def _http_problem(url: str, shown: str) -> str:
    authority = url.split("?")[0].partition("://")[2].partition("/")[0]
    # Clients fold other digits and dots to those of ASCII; names of other scripts have a spelling in ASCII (xn--…).
    if "\\" in url or _CONTROL.search(authority) or not authority.isascii():
        return f"{shown} is no valid address"
    host = host_of(url)
    if not host:
        return f"{shown} names no host"
    if _DIGITS.fullmatch(host) and not _is_address(host):
        return f"{shown} is no valid address"
    return f"{shown}: {problem}" if (problem := host_problem(host)) else ""


def host_of(url: str) -> str:
    """The host of a URL in lower case; empty where it has none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def host_problem(host: str, addresses: Sequence[str] = ()) -> str:
    """Why an HTTP host must not be asked; ``addresses`` are those that its name resolves to."""
    hosts = _listed(HOSTS_VARIABLE)
    if host in _listed(NAMED_VARIABLE) or any(_matches(host, allowed) for allowed in hosts):
        return ""
    if hosts:
        return f"host {host} is not among storage.allow_hosts=[{','.join(hosts)}]"
    inside = host == "localhost" or host.endswith(".localhost")
    if inside or any(_is_inside(address) for address in (host, *addresses)):
        return (
            f"host {host} is this machine or lies in a private network, where files may not point; "
            f"allow it by storage.allow_hosts=[{host}]"
        )
    return ""


def _matches(host: str, allowed: str) -> bool:
    return host.endswith(allowed[1:].lower()) if allowed.startswith("*.") else host == allowed.lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_inside(address: str) -> bool:
    """Whether a numeric address is not public; False for names."""
    address = address.partition("%")[0]
    if not _is_address(address):
        return False
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        # Addresses that carry one of IPv4: mapped, 6to4 and the well-known NAT64 prefix.
        carried = found.ipv4_mapped or found.sixtofour
        if found in ipaddress.ip_network("64:ff9b::/96"):
            carried = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if carried is None:
            return not found.is_global or found.is_multicast or found.is_reserved or found.is_site_local
        found = carried
    return not found.is_global or found.is_multicast


def _listed(variable: str) -> list[str]:
    return [word.strip() for word in os.environ.get(variable, "").split(",") if word.strip()]


async def http_session(**options: Any) -> Any:
    """An ``aiohttp.ClientSession`` that asks no host that ``host_problem`` names, redirects included."""
    import aiohttp
    from aiohttp.abc import AbstractResolver

    # Addresses inside that allowed names resolve to.
    approved: set[str] = set()

    class Resolver(AbstractResolver):
        """Resolves host names and refuses private addresses, so the checked address is the one connected to."""

        def __init__(self) -> None:
            self.system = aiohttp.ThreadedResolver()

        async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> Any:
            found = await self.system.resolve(host, port, family)
            if problem := host_problem(host.lower().rstrip("."), [entry["host"] for entry in found]):
                raise PlaceError(problem)
            approved.update(entry["host"] for entry in found)
            return found

        async def close(self) -> None:
            await self.system.close()

    def connect(address_info: Any) -> socket.socket:
        """A socket for an address; the last gate, as numeric hosts of any spelling are not resolved."""
        family, kind, protocol, _, sockaddr = address_info
        address = str(sockaddr[0])
        if _is_inside(address) and address not in approved and host_problem(address):
            raise PlaceError(f"address {address}: {host_problem(address)}")
        return socket.socket(family, kind, protocol)

    async def check_redirect(session: Any, context: Any, parameters: Any) -> None:
        headers = parameters.response.headers
        target = urljoin(str(parameters.url), headers.get("Location") or headers.get("URI", ""))
        if problem := place_problem(target):
            raise PlaceError(f"{parameters.url} redirects: {problem}")

    redirects = aiohttp.TraceConfig()
    redirects.on_request_redirect.append(check_redirect)
    options.pop("loop", None)
    connector = aiohttp.TCPConnector(resolver=Resolver(), socket_factory=connect)
    return aiohttp.ClientSession(connector=connector, trace_configs=[redirects], **options)
