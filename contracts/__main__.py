"""`python -m contracts`: compile the contract and write its artifact beside the sources."""

from pathlib import Path

import contracts

made = contracts.compile()
path = Path(contracts.__file__).parent / contracts.ARTIFACT
path.write_text(contracts.to_json(made))
print(
    f"{path.name}: {len(made.creation_code):,} bytes of creation code, {len(made.runtime_code):,} at run time, 0x{made.code_hash.hex()}"
)
