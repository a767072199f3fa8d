"""BulletinBoard.sol, its interface, and the compiled artifact that is shipped so that nobody but a contract developer needs the compiler.

`artifact()` reads `BulletinBoard.json`; `compile()` makes one from the sources; `python -m contracts` writes the file again. The code holds
no immutables and no metadata, so its run-time code is one constant and a comment changes nothing: a verifier compares `code_hash` with the chain.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

SOURCES = ("BulletinBoard.sol", "IBulletinBoard.sol")
ARTIFACT = "BulletinBoard.json"
SOLC = "0.8.37"

# ape-config.yaml repeats what ape can be told of this.
SETTINGS: dict[str, Any] = {
    "evmVersion": "prague",  # what every supported engine runs
    "viaIR": True,  # the station call has more variables than the stack has room
    "optimizer": {"enabled": True, "runs": 200},  # more runs: larger code, and less room for the manifest in EIP-3860's limit
    "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
}


@dataclass(frozen=True)
class Artifact:
    """`code_hash` is the keccak-256 of `runtime_code`; `sources` maps file names to SHA-256 in hex."""

    abi: list[dict[str, Any]]
    creation_code: bytes
    runtime_code: bytes
    code_hash: bytes
    compiler: str
    settings: dict[str, Any]
    sources: dict[str, str]


def artifact() -> Artifact:
    """The artifact that the package ships."""
    raw = json.loads(files(__name__).joinpath(ARTIFACT).read_text())
    codes = {name: bytes.fromhex(raw.pop(name)) for name in ("creation_code", "runtime_code", "code_hash")}
    return Artifact(**raw, **codes)


def compile() -> Artifact:
    """The same from the sources. Needs py-solc-x, and solc in `$SOLCX_BINARY_PATH`; raises solcx's errors."""
    import solcx
    from eth_utils import keccak

    texts = {name: files(__name__).joinpath(name).read_text() for name in SOURCES}
    out = solcx.compile_standard(
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in texts.items()},
            "settings": SETTINGS
            | {"outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}}},
        },
        solc_version=SOLC,
    )
    contract = out["contracts"][SOURCES[0]]["BulletinBoard"]
    runtime_code = bytes.fromhex(contract["evm"]["deployedBytecode"]["object"])
    return Artifact(
        abi=contract["abi"],
        creation_code=bytes.fromhex(contract["evm"]["bytecode"]["object"]),
        runtime_code=runtime_code,
        code_hash=keccak(runtime_code),
        compiler=SOLC,
        settings=SETTINGS,
        sources={name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
    )


def to_json(a: Artifact) -> str:
    """The artifact file's text: sorted keys, code in hex, one line an ABI entry so that a change is readable."""
    fields = {k: v.hex() if isinstance(v, bytes) else v for k, v in vars(a).items()}
    abi = ",\n  ".join(json.dumps(entry, sort_keys=True) for entry in fields.pop("abi"))
    rest = "".join(f',\n"{k}": {json.dumps(v, sort_keys=True)}' for k, v in sorted(fields.items()))
    return f'{{"abi": [\n  {abi}\n]{rest}}}\n'
