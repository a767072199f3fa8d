"""Files for those who run a node under systemd, compose or Kubernetes instead of `chain start`, and its firewall: templates/ filled in.

All run the two commands of chain.network.node, so there is one place that says how geth and the validator are started. Ports and peers
come from the operator's folder; a file is written again when they change.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
import socket
import sys
from importlib.resources import files as resources
from pathlib import Path
from string import Template

from chain.errors import ChainError
from chain.network.node import Node, find_binary
from chain.network.status import operators_of
from chain.process import port_is_free

UNITS = ("geth", "validator", "relayer", "board")

USER = "ballotboard"
"""Who runs geth and the validator under systemd, and owns the folder."""

IMAGE = "ballotboard:latest"
"""What `Containerfile` is built as."""

INSIDE = Path("/node")
"""Where a container sees the operator's folder."""

PROGRAMS = Path("/usr/local/bin")
"""Where the image has geth and the validator."""

HARDENED = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077"""
"""What every unit gives up: see systemd.exec(5). `systemd-analyze security` counts what is left."""


def systemd(node: Node, user: str = USER) -> dict[str, str]:
    """Four units by file name, with this machine's paths."""
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", user):
        raise ChainError(f"--user {user}: not the name of a user of this machine")
    geth, validator = node.commands(
        node.home.absolute(), find_binary("geth").absolute(), find_binary("validator").absolute()
    )
    fields = {
        "name": node.operator.name, "user": user, "home": _unit_words([str(node.home.absolute())]), "hardened": HARDENED,
        "geth": _unit_words(geth), "validator": _unit_words(validator),
        "ballotboard": _unit_words([str(Path(sys.executable).with_name("ballotboard"))]),
    }  # fmt: skip
    names = [f"ballotboard-{unit}.service" for unit in UNITS]
    return {name: _filled(name, fields) for name in names}


def compose(node: Node, image: str = IMAGE) -> dict[str, str]:
    """compose.yaml."""
    geth, validator = _container_commands(node)
    fields = {
        "name": node.operator.name, "image": image, "home": str(node.home.absolute()).replace("$", "$$"),
        "geth": _yaml_list(geth), "validator": _yaml_list(validator),
    }  # fmt: skip
    return {"compose.yaml": _filled("compose.yaml", fields)}


def kubernetes(node: Node, image: str = IMAGE) -> dict[str, str]:
    """kubernetes.yaml: StatefulSet, services, network policy."""
    geth, validator = _container_commands(node)
    at = validator.index("-metrics") + 1
    validator[at] = f"0.0.0.0:{node.ports.metrics}"  # the policy says who reaches it
    peers = _peers(node)
    egress = "".join(
        f"    - {{to: [{{ipBlock: {{cidr: {address}/32}}}}], ports: [{{port: {consensus}}}, {{port: {execution}}}]}}\n"
        for address, consensus, execution in peers
    )
    fields = {
        "name": node.operator.name, "home": str(node.home), "image": image, "geth": _yaml_list(geth), "validator": _yaml_list(validator),
        "metrics_port": str(node.ports.metrics), "egress": egress,
        "blocks": "[" + ", ".join(f"{{ipBlock: {{cidr: {address}/32}}}}" for address, _, _ in peers) + "]",
        **_open_ports(node),
    }  # fmt: skip
    return {"kubernetes.yaml": _filled("kubernetes.yaml", fields)}


def firewall(node: Node) -> dict[str, str]:
    """nftables.conf."""
    addresses = sorted({address for address, _, _ in _peers(node)})
    fields = {
        "name": node.operator.name, "private_ports": ", ".join(str(port) for port in vars(node.ports).values()),
        "elements": f"elements = {{ {', '.join(addresses)} }}" if addresses else "# no other validator",
        **_open_ports(node),
    }  # fmt: skip
    return {"nftables.conf": _filled("nftables.conf", fields)}


def write(files: dict[str, str], out: Path) -> list[Path]:
    """Writes files by name into a folder, which is made if need be. Raises ChainError, with nothing written, if one of them is there."""
    paths = [out / name for name in files]
    if taken := [path for path in paths if path.exists()]:
        raise ChainError(f"{taken[0]} exists and is not overwritten: remove it, or name another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, files.values(), strict=True):
            path.write_text(text)
    except OSError as error:
        raise ChainError(f"cannot write to {out}: {error.strerror}") from error
    return paths


def _filled(name: str, fields: dict[str, str]) -> str:
    return Template(resources(__package__).joinpath("templates", name).read_text()).substitute(fields)


def _container_commands(node: Node) -> tuple[list[str], list[str]]:
    return node.commands(INSIDE, PROGRAMS / "geth", PROGRAMS / "validator")


def _open_ports(node: Node) -> dict[str, str]:
    return {
        "consensus_port": str(node.operator.consensus_port),
        "execution_port": str(node.operator.execution_port),
    }


def _peers(node: Node) -> list[tuple[str, int, int]]:
    """(IPv4 address, consensus port, execution port) of every other validator: firewalls know no names. A node that runs says who they
    are now, else the network file who they were."""
    listed = [operator for operator, _ in node.network.validators]
    operators = listed if port_is_free(node.ports.rpc) else operators_of(node.web3(), node.network)
    found = []
    for other in operators:
        if other == node.operator:
            continue
        try:
            address = str(ipaddress.IPv4Address(socket.gethostbyname(other.host)))
        except (OSError, ValueError) as error:
            raise ChainError(
                f"{other.name}'s host {other.host} has no IPv4 address here, which the firewall needs: see that its name resolves"
            ) from error
        found.append((address, other.consensus_port, other.execution_port))
    return found


def _unit_words(words: list[str]) -> str:
    """A command line as systemd reads it: % begins a specifier there, and $ a variable."""
    return " ".join(shlex.quote(word) for word in words).replace("%", "%%").replace("$", "$$")


def _yaml_list(words: list[str]) -> str:
    """JSON is YAML; $ begins a variable in compose, and $( ) in Kubernetes: doubled, it stands for itself in both."""
    return json.dumps(words).replace("$", "$$")
