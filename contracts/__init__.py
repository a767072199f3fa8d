"""BulletinBoard.sol and Validators.sol, their interfaces, and the compiled artifacts, shipped so that only a contract developer needs the compiler.

`artifact()` reads `BulletinBoard.json`; `compile()` makes one from the sources; `python -m contracts` writes both files again.
The code holds no immutables and no metadata, so its run-time code is one constant, and a comment changes nothing: a verifier
compares `code_hash` with the chain.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

NAMES = ("BulletinBoard", "Validators")
SOLC = "0.8.37"

# prague: what every supported engine runs. viaIR: 1 % less gas and a tenth less code. 200 runs: a million would save 3 gas a
# ballot and take 4,000 bytes from the manifest's room under EIP-3860.
SETTINGS: dict[str, Any] = {
    "evmVersion": "prague",
    "viaIR": True,
    "optimizer": {"enabled": True, "runs": 200},
    "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
}

_OUTPUTS = ["abi", "metadata", "storageLayout", "evm.bytecode.object", "evm.deployedBytecode.object"]


@dataclass(frozen=True)
class Artifact:
    """A compiled contract.

    code_hash   keccak-256 of `runtime_code`
    compiler    version with commit
    sources     SHA-256 of each file, in hex
    storage     slot and byte offset (from the low end) of each state variable
    """

    abi: list[dict[str, Any]]
    creation_code: bytes
    runtime_code: bytes
    code_hash: bytes
    compiler: str
    settings: dict[str, Any]
    sources: dict[str, str]
    storage: dict[str, list[int]]


def artifact(name: str = "BulletinBoard") -> Artifact:
    """The artifact that the package ships."""
    raw = json.loads(files(__name__).joinpath(f"{name}.json").read_text())
    return Artifact(**raw | {name: bytes.fromhex(raw[name]) for name in ("creation_code", "runtime_code", "code_hash")})


def compile(name: str = "BulletinBoard") -> Artifact:
    """The same from the sources. Needs py-solc-x, and solc in `$SOLCX_BINARY_PATH`; raises solcx's errors, and ValueError where the compiler warns."""
    import solcx
    from eth_utils import keccak

    sources = (f"{name}.sol", f"I{name}.sol")
    texts = {source: files(__name__).joinpath(source).read_text() for source in sources}
    out = solcx.compile_standard(
        {
            "language": "Solidity",
            "sources": {source: {"content": text} for source, text in texts.items()},
            "settings": SETTINGS | {"outputSelection": {"*": {"*": _OUTPUTS}}},
        },
        solc_version=SOLC,
    )
    if warnings := [entry["formattedMessage"] for entry in out.get("errors", ())]:
        raise ValueError("the compiler warns: " + "\n".join(warnings))
    contract = out["contracts"][sources[0]][name]
    runtime_code = bytes.fromhex(contract["evm"]["deployedBytecode"]["object"])
    return Artifact(
        abi=contract["abi"],
        creation_code=bytes.fromhex(contract["evm"]["bytecode"]["object"]),
        runtime_code=runtime_code,
        code_hash=keccak(runtime_code),
        compiler=json.loads(contract["metadata"])["compiler"]["version"],
        settings=SETTINGS,
        sources={source: hashlib.sha256(text.encode()).hexdigest() for source, text in texts.items()},
        storage={v["label"]: [int(v["slot"]), v["offset"]] for v in contract["storageLayout"]["storage"]},
    )


def to_json(a: Artifact) -> str:
    """The artifact file's text: sorted keys, code in hex, one line an ABI entry so that a change is readable."""
    fields = {k: v.hex() if isinstance(v, bytes) else v for k, v in vars(a).items()}
    abi = ",\n  ".join(json.dumps(entry, sort_keys=True) for entry in fields.pop("abi"))
    rest = "".join(f',\n"{k}": {json.dumps(v, sort_keys=True)}' for k, v in sorted(fields.items()))
    return f'{{"abi": [\n  {abi}\n]{rest}}}\n'
