"""The operators' files, each read by the program that will read it: a test that lacks the program is skipped and says so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chain.errors import ChainError
from chain.network import operator, units
from chain.network.genesis import Network
from chain.network.node import Node, find_binary, join
from chain.network.operator import Ports

ROOT = Path(__file__).parents[2]
EXPOSURE = 20
"""What `systemd-analyze security` may count against a unit, of 100: it calls that OK."""

PEERS = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]


def tool(name: str, *beside: Path) -> str:
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, (*beside, "/usr/sbin", "/usr/bin"))))
    if not found:
        pytest.skip(f"{name} is not installed here, so nobody has checked its file")
    return found


def check(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def node(binaries, tmp_path_factory) -> Node:
    """One of four, each on a machine of its own, in a folder whose name has what systemd and compose would read as theirs."""
    folder = tmp_path_factory.mktemp("units $HOME 100%")
    own = [
        operator.init(folder / host, f"o{i}", host, ports=Ports(8545, 8551, 26657, 26660))
        for i, host in enumerate(PEERS)
    ]
    join(folder / PEERS[0], Network.build(77_001, 1_800_000_000, [(each, 1) for each in own], []))
    return Node(folder / PEERS[0])


def test_systemd_takes_the_units_and_finds_their_programs(node, tmp_path):
    analyze = tool("systemd-analyze")
    paths = units.write(units.systemd(node), tmp_path)
    assert check(analyze, "verify", *paths) == ""
    for path in paths:
        check(analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", path)


def test_systemd_complains_of_a_unit_that_names_no_program(node, tmp_path):
    made = units.systemd(node)
    name = "ballotboard-geth.service"
    made[name] = made[name].replace(str(find_binary("geth")), "/nowhere/geth")
    path = units.write(made, tmp_path)[0]
    done = subprocess.run([tool("systemd-analyze"), "verify", str(path)], capture_output=True, text=True)
    assert done.returncode and "/nowhere/geth is not executable" in done.stderr


def test_units_run_what_chain_start_runs(node):
    made = units.systemd(node)
    geth, validator = node.commands(node.home, find_binary("geth"), find_binary("validator"))
    for name, command in (("geth", geth), ("validator", validator)):
        line = re.search(r"^ExecStart=(.*)$", made[f"ballotboard-{name}.service"], re.M)
        assert line and line[1].replace("%%", "%").replace("$$", "$").replace("'", "") == " ".join(command)
    assert "RestartPreventExitStatus=3" in made["ballotboard-validator.service"]
    for public in ("relayer", "board"):  # whoever breaks into these finds no validator's key
        text = made[f"ballotboard-{public}.service"]
        assert "DynamicUser=yes" in text and str(node.home) not in text


def test_compose_takes_its_file(node, tmp_path):
    compose = tool("docker-compose")
    [path] = units.write(units.compose(node), tmp_path)
    said = check(compose, "-f", path, "--profile", "election", "config")
    services = pytest.importorskip("yaml", reason="PyYAML reads what it says").safe_load(said)["services"]
    assert {
        name for name, service in services.items() if service["read_only"] and service["cap_drop"] == ["ALL"]
    } == set(units.UNITS)
    geth, validator = node.commands(units.INSIDE, units.PROGRAMS / "geth", units.PROGRAMS / "validator")
    assert (services["geth"]["command"], services["validator"]["command"]) == (geth, validator)
    assert services["geth"]["volumes"] == [f"{node.home}:/node:rw"]
    for public in ("relayer", "board"):  # which need an election, and see no validator's key
        assert services[public]["profiles"] == ["election"] and "/node" not in str(services[public]["volumes"])


def test_kubernetes_takes_its_file(node, tmp_path):
    validate = tool("kubernetes-validate", Path(sys.executable).parent)
    [path] = units.write(units.kubernetes(node), tmp_path)
    said = check(validate, "--strict", path)
    for kind in ("statefulset/validator", "service/validator", "service/public", "networkpolicy/validator"):
        assert f"passed for resource {kind}" in said


def test_kubernetes_runs_one_pod_that_only_the_other_validators_reach(node):
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the file")
    stateful, reached, _, policy = yaml.safe_load_all(units.kubernetes(node)["kubernetes.yaml"])
    assert stateful["spec"]["replicas"] == 1
    claims = [claim["spec"]["accessModes"] for claim in stateful["spec"]["volumeClaimTemplates"]]
    assert claims == [["ReadWriteOncePod"]] * 2
    assert reached["spec"]["externalTrafficPolicy"] == "Local"
    pod = stateful["spec"]["template"]["spec"]
    commands = {container["name"]: container["command"] for container in pod["containers"]}
    assert [commands["geth"], commands["validator"]] == [
        [word.replace("127.0.0.1:26660", "0.0.0.0:26660") for word in command]
        for command in node.commands(units.INSIDE, units.PROGRAMS / "geth", units.PROGRAMS / "validator")
    ]
    mounts = {c["name"]: {m["mountPath"] for m in c["volumeMounts"]} for c in pod["containers"]}
    assert {name for name, paths in mounts.items() if "/node" in paths} == {"geth", "validator"}
    peers = policy["spec"]["ingress"][0]
    assert peers["from"] == [{"ipBlock": {"cidr": f"{host}/32"}} for host in PEERS[1:]]
    assert [each["port"] for each in peers["ports"]] == [26656, 30303]


def test_nftables_takes_its_file(node, tmp_path):
    nft = tool("nft")
    [path] = units.write(units.firewall(node), tmp_path)
    empty = tmp_path / "empty.conf"
    empty.write_text("table inet test {\n}\n")
    if subprocess.run([nft, "-c", "-f", str(empty)], capture_output=True).returncode:
        pytest.skip("nft may not look at this machine's rules: it needs CAP_NET_ADMIN")
    check(nft, "-c", "-f", path)
    text = path.read_text()
    assert "elements = { 192.0.2.2, 192.0.2.3, 192.0.2.4 }" in text and "{ 8545, 8551, 26657, 26660 } drop" in text


def test_a_host_name_without_an_address_is_refused(tmp_path, binaries):
    own = [operator.init(tmp_path / name, name, host) for name, host in (("a", "192.0.2.1"), ("b", "b.invalid"))]
    join(tmp_path / "a", Network.build(5, 1_800_000_000, [(each, 1) for each in own], []))
    with pytest.raises(ChainError, match=r"b's host b\.invalid has no IPv4 address here"):
        units.firewall(Node(tmp_path / "a"))


def test_nothing_is_written_where_one_of_the_files_is(node, tmp_path):
    (tmp_path / "ballotboard-board.service").write_text("mine")
    with pytest.raises(ChainError, match=r"ballotboard-board\.service exists and is not overwritten"):
        units.write(units.systemd(node), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ballotboard-board.service"]


def test_a_user_that_is_none_is_refused(node):
    with pytest.raises(ChainError, match="not the name of a user"):
        units.systemd(node, "root\nExecStartPre=/bin/sh")


def test_the_image_is_built_from_files_that_exist_and_names_no_registry():
    text = (ROOT / "Containerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M):
        assert all((ROOT / source).exists() for source in line.split()[:-1])
    images = re.findall(r"^FROM (\S+)", text, re.M)
    assert len(images) == 3 and all(re.fullmatch(r"[a-z]+:[\w.-]+", image) for image in images)
    assert "validator: .bin/validator .bin/geth" in (ROOT / "Makefile").read_text()  # what the image runs and copies
    assert text.rindex("USER ballotboard") > text.rindex("FROM ")
