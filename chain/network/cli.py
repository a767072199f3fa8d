"""`ballotboard chain init|genesis|start|doctor|backup|…`: one operator's node, from keys to evidence."""

from __future__ import annotations

import signal
import time
import tomllib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from eth_account import Account

from chain.background import detach as run_in_background
from chain.background import end, write_pid_file
from chain.console import (
    BoardOption,
    ContractOption,
    JsonOption,
    PassphraseOption,
    RpcOption,
    connection,
    emit,
    passphrase,
    progress,
    read_bytes,
)
from chain.errors import ChainError
from chain.evidence import verify
from chain.network import backup as archive
from chain.network import operator, units
from chain.network.changes import add_validator, join_network, remove_validator
from chain.network.collect import head_evidence, record_evidence
from chain.network.doctor import examine
from chain.network.genesis import Network
from chain.network.node import START_TIMEOUT, STOP_TIMEOUT, Node, join
from chain.network.operator import Operator, Ports
from chain.reader import Reader
from chain.rpc import address_bytes, checksummed, connect
from chain.transactions import Sender
from protocol.encoding import parse_json
from protocol.errors import Malformed
from protocol.manifest import Manifest

Parsed = TypeVar("Parsed")

TEND = 0.2
"""Seconds between looks at whether a process has ended."""

LINES = 20
"""Lines of a log that are shown."""

GAS_MONEY = 10**24
"""Wei for a role's account: gas for more transactions than an election has; an operator's account holds a thousand times as much."""

HomeArgument = Annotated[Path, typer.Argument(help="The operator's folder.")]


def init(
    home: HomeArgument,
    name: Annotated[str, typer.Option(help="The operator's name, one word.")],
    host: Annotated[str, typer.Option(help="Address at which the other validators reach this machine.")] = "127.0.0.1",
    consensus_port: Annotated[int, typer.Option(help="Port for the other validators.")] = 26656,
    execution_port: Annotated[int, typer.Option(help="Port for the other execution clients.")] = 30303,
    rpc_port: Annotated[int, typer.Option(help="JSON-RPC, on 127.0.0.1.")] = Ports.rpc,
    engine_port: Annotated[int, typer.Option(help="Engine API, on 127.0.0.1.")] = Ports.engine,
    comet_port: Annotated[int, typer.Option(help="CometBFT's RPC, on 127.0.0.1.")] = Ports.comet,
    metrics_port: Annotated[int, typer.Option(help="Prometheus metrics, on 127.0.0.1.")] = Ports.metrics,
) -> None:
    """Make an operator's folder with fresh keys, which never leave it. Send operator.json to whoever collects them.

    Example: ballotboard chain init node --name archives --host 192.0.2.7
    """
    ports = Ports(rpc_port, engine_port, comet_port, metrics_port)
    made = operator.init(home, name, host, consensus_port, execution_port, ports)
    typer.echo(f"{home / 'operator.json'}  validator key {made.validator_key.hex()}", err=True)


def genesis(
    operators: Annotated[list[Path], typer.Argument(help="Every operator's operator.json.")],
    out: Annotated[Path, typer.Option(help="The network file to write.")] = Path("network.json"),
    chain_id: Annotated[
        int | None, typer.Option(help="Chain id, used by no other network; default the manifest's.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Manifest: its roles get gas money, its validators are compared.")
    ] = None,
    election: Annotated[
        Path | None, typer.Option(help="An election.toml: its roles and stations' officers get gas money.")
    ] = None,
    fund: Annotated[list[str] | None, typer.Option(help="Account that gets gas money; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the network file from the operators' public keys. One operator makes it; all compare its SHA-256 before they start.

    Every validator has power 1. Who is to publish or append needs gas money, from here or later from `chain fund`.

    Example: ballotboard chain genesis a.json b.json c.json d.json --chain-id 77001 --election election.toml
    """
    made = _parse(manifest, Manifest.parse) if manifest else None
    if chain_id is None and made is None:
        raise ChainError("say which chain id: --chain-id, or --manifest")
    found = [_parse(path, lambda body: Operator.of(parse_json(body), "operator")) for path in operators]
    named = _election_accounts(election) if election else []
    accounts = [address_bytes(account) for account in [*named, *(fund or ())]]
    if made:
        accounts += [role.address for role in made.roles]
        if chain_id not in (None, made.chain_id):
            raise ChainError(f"the manifest is for chain id {made.chain_id}, not {chain_id}")
    network = Network.build(
        chain_id or (made.chain_id if made else 0), int(time.time()), [(each, 1) for each in found], accounts
    )
    if made and set(made.validators) != set(network.manifest_validators()):
        raise ChainError(
            "the manifest names other validators than these: make it with this set, or collect the right files"
        )
    if out.exists():
        raise ChainError(f"{out} exists: a network has one network file; name another, or remove it")
    out.write_bytes(network.body)
    if as_json:
        emit({"file": str(out), "sha256": network.id.hex(), "chain_id": network.chain_id, "validators": len(found)})
        return
    typer.echo(f"{out}  {len(found)} validators  chain id {network.chain_id}\nSHA-256 {network.id.hex()}")


def fund(
    home: Annotated[Path, typer.Argument(help="An operator's folder; its node must run.")],
    accounts: Annotated[list[str], typer.Argument(help="Addresses: 0x and 40 hex digits.")],
    as_json: JsonOption = False,
) -> None:
    """Give accounts gas money from the operator's own account, for roles that the genesis does not name. Gas has no price worth naming.

    Example: ballotboard chain fund node 0x5FbDB2315678afecb367f032d93F642f64180aa3
    """
    wanted = [address_bytes(account) for account in accounts]
    sender = Sender(Node(home).web3(), Account.from_key((home / operator.ACCOUNT_KEY).read_text().strip()))
    paid = [checksummed(account) for account in sender.pay(wanted, GAS_MONEY)]
    if as_json:
        emit({"paid": paid})
        return
    typer.echo("\n".join(f"{account} has gas money now" for account in paid) or "they have gas money already")


def validators(network: Annotated[Path, typer.Argument(help="A network file.")], as_json: JsonOption = False) -> None:
    """The validators of a network, as election.toml lists them; with --json, as a manifest does.

    Example: ballotboard chain validators network.json >> election.toml
    """
    found = [{"key": v.key.hex(), "power": v.power} for v in _parse(network, Network.parse).manifest_validators()]
    if as_json:
        emit(found)
        return
    for each in found:
        typer.echo(f'[[chain.validators]]\nkey = "{each["key"]}"\npower = {each["power"]}\n')


def start(
    home: HomeArgument,
    network: Annotated[Path | None, typer.Option(help="The network file; needed the first time.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when geth answers; end it with `chain stop`.")
    ] = False,
    pid_file: Annotated[Path | None, typer.Option(help="Default: node.pid in the folder.")] = None,
) -> None:
    """Run one operator's validator and its geth until ^C, restarting what ends; or in the background.

    Example: ballotboard chain start node --network network.json --detach
    """
    pid_file = pid_file or home / "node.pid"
    if network:
        join(home, _parse(network, Network.parse))
    node = Node(home)
    if detach:
        run_in_background(pid_file, ["start", str(home)], START_TIMEOUT)
        typer.echo(
            f"{node.url}  chain id {node.network.chain_id}  (end it with: ballotboard chain stop {home})", err=True
        )
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        node.start()
        write_pid_file(pid_file, node.url, node.network.chain_id)
        typer.echo(f"{node.url}  chain id {node.network.chain_id}  (^C ends it)", err=True)
        while True:
            node.tend()
            time.sleep(TEND)
    except KeyboardInterrupt:
        pass
    finally:
        node.stop()
        pid_file.unlink(missing_ok=True)


def stop(home: HomeArgument) -> None:
    """End a node that runs in the background.

    Example: ballotboard chain stop node
    """
    end(home / "node.pid", 2 * STOP_TIMEOUT)


def logs(
    home: HomeArgument,
    process: Annotated[str, typer.Option(help="validator or geth.")] = "validator",
    lines: Annotated[int, typer.Option(help="How many of the last lines.")] = LINES,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until ^C.")] = False,
) -> None:
    """The end of a node's log: JSON lines.

    Example: ballotboard chain logs node --process geth
    """
    path = home / "logs" / f"{process}.log"
    if not path.exists():
        raise ChainError(f"there is no {path}: the node was never started, or --process is neither validator nor geth")
    with path.open() as file:
        for line in deque(file, lines):
            typer.echo(line, nl=False)
        while follow:
            if line := file.readline():
                typer.echo(line, nl=False)
            else:
                time.sleep(TEND)


def doctor(home: HomeArgument, as_json: JsonOption = False) -> None:
    """Examine a node, running or not: what is wrong, and what to do. Exit status 1 if anything is.

    Example: ballotboard chain doctor node
    """
    findings = examine(home)
    if as_json:
        emit({"findings": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.ok else 'BAD '} {finding.name:<10} {finding.detail}")
            if not finding.ok:
                typer.echo(f"     {'':<10} → {finding.remedy}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def export_evidence(
    out: Annotated[Path, typer.Option(help="The evidence file to write.")],
    home: Annotated[Path | None, typer.Option(help="An operator's folder, instead of --rpc and --comet.")] = None,
    comet: Annotated[str, typer.Option(help="URL of a validator's CometBFT RPC.")] = f"http://127.0.0.1:{Ports.comet}",
    record: Annotated[int | None, typer.Option(help="Position of a record; default: the head.")] = None,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
) -> None:
    """Write the validators' evidence of a board's head, or of one record, which anyone can verify offline.

    Example: ballotboard chain export-evidence --home node --contract 0x5FbDB2315678afecb367f032d93F642f64180aa3 --out head.json
    """
    if home:
        node = Node(home)
        rpc, comet = node.url, node.comet_url
    where = connection(board, rpc, contract)
    web3 = connect(where.rpc)
    manifest = Reader(web3, where.contract).creation().manifest()
    if record is None:
        evidence = head_evidence(web3, comet, where.contract)
    else:
        evidence = record_evidence(web3, comet, where.contract, record)
    proven = verify(evidence.body(), manifest, where.contract_bytes)
    out.write_bytes(evidence.body())
    what = f"record {proven.position}" if proven.entry else f"{proven.head.size} records"
    typer.echo(
        f"{out}  {what} in block {proven.block}, signed by {proven.signed_power} of {proven.total_power}", err=True
    )


def backup(
    home: HomeArgument,
    out: Annotated[Path, typer.Argument(help="The backup to write.")],
    keys_only: Annotated[
        bool, typer.Option("--keys-only", help="Without the chain, which the others have; the node may run.")
    ] = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write keys, network file and chain of a stopped node to one encrypted file. Never what it signed last: see `chain restore`.

    Example: ballotboard chain backup node archives.backup
    """
    size = archive.backup(home, out, passphrase(passphrase_file, confirm=True), keys_only)
    if as_json:
        emit({"file": str(out), "bytes": size, "chain": not keys_only})
        return
    typer.echo(f"{out}  {size:,} bytes, {'keys and network file' if keys_only else 'keys, network file and chain'}")


def restore(
    path: Annotated[Path, typer.Argument(metavar="BACKUP", help="The file of `chain backup`.")],
    home: Annotated[Path, typer.Argument(help="The folder to make.")],
    dead: Annotated[
        bool,
        typer.Option("--i-know-the-old-machine-is-dead", help="It is destroyed, or its disk is: it can never start."),
    ] = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an operator's folder from a backup. Its validator follows the network and signs nothing until `chain rejoin`.

    Two machines that sign with one key can be convicted of it for years, with everybody's evidence in doubt. This command cannot see a machine
    that is only cut off.

    Example: ballotboard chain restore archives.backup node --i-know-the-old-machine-is-dead
    """
    if not dead:
        raise ChainError(
            "two machines must never sign with one key: destroy the old one's disk, then say --i-know-the-old-machine-is-dead"
        )
    node = archive.restore(path, home, passphrase(passphrase_file))
    if as_json:
        emit({"home": str(home), "operator": node.operator.name, "network": node.network.id.hex(), "signs": False})
        return
    typer.echo(f"{home}  {node.operator.name} of network {node.network.id.hex()[:16]}; it signs nothing yet")
    typer.echo(f"next: ballotboard chain start {home} --detach; when it has caught up: ballotboard chain rejoin {home}")


def rejoin(home: HomeArgument, as_json: JsonOption = False) -> None:
    """Let a restored, running validator sign again, if the network goes on without it and nobody signs with its key.

    Example: ballotboard chain rejoin node
    """
    with progress("blocks without this validator", archive.QUIET, quiet=as_json) as advance:
        height = archive.rejoin(home, advance)
    if as_json:
        emit({"home": str(home), "signs_above": height})
        return
    typer.echo(f"{home} will sign above height {height}, from its next start on: restart it now")
    typer.echo(f"next: ballotboard chain stop {home}; ballotboard chain start {home} --detach")


def files(
    home: HomeArgument,
    out: Annotated[Path, typer.Argument(help="Folder for the files.")],
    systemd: Annotated[bool, typer.Option("--systemd", help="Units for geth, validator, relayer and board.")] = False,
    compose: Annotated[bool, typer.Option("--compose", help="The same as compose.yaml.")] = False,
    kubernetes: Annotated[bool, typer.Option("--kubernetes", help="StatefulSet, services, network policy.")] = False,
    firewall: Annotated[bool, typer.Option("--firewall", help="nftables.conf: who reaches the node's ports.")] = False,
    user: Annotated[str, typer.Option(help="Who owns the folder and runs geth and validator (systemd).")] = units.USER,
    image: Annotated[str, typer.Option(help="The image made from Containerfile.")] = units.IMAGE,
    as_json: JsonOption = False,
) -> None:
    """Write the files with which systemd, compose or Kubernetes run this node, instead of `chain start`. Without an option, all of them.

    Example: ballotboard chain files node deploy --systemd --firewall
    """
    node, everything = Node(home), not (systemd or compose or kubernetes or firewall)
    made: dict[str, str] = {}
    if systemd or everything:
        made |= units.systemd(node, user)
    if compose or everything:
        made |= units.compose(node, image)
    if kubernetes or everything:
        made |= units.kubernetes(node, image)
    if firewall or everything:
        made |= units.firewall(node)
    written = [str(path) for path in units.write(made, out)]
    if as_json:
        emit({"files": written})
        return
    typer.echo("\n".join(written))


def _election_accounts(path: Path) -> list[str]:
    """Addresses of the roles and officers in an election.toml, which authority/ reads in full."""
    try:
        found = tomllib.loads(read_bytes(path).decode())
        roles, stations = found["roles"], found.get("stations", [])
        return [role["address"] for role in roles] + [officer for each in stations for officer in each["officers"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ChainError(f"{path} is not an election's file, with [[roles]] that have addresses: {error}") from error


def _parse(path: Path, parse: Callable[[bytes], Parsed]) -> Parsed:
    """The file parsed; what is wrong with it is said with its name."""
    body = read_bytes(path)
    try:
        return parse(body)
    except Malformed as error:
        raise ChainError(f"{path}: {error}") from error


COMMANDS = (
    init, genesis, fund, validators, start, stop, logs, doctor, backup, restore, rejoin, files, export_evidence,
    add_validator, remove_validator, join_network,
)  # fmt: skip
