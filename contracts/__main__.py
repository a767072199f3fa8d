"""`python -m contracts`: compile the contracts and write their artifacts beside the sources."""

from pathlib import Path

import contracts

for name in contracts.NAMES:
    made = contracts.compile(name)
    path = Path(contracts.__file__).parent / f"{name}.json"
    path.write_text(contracts.to_json(made))
    print(
        f"{path.name}: {len(made.creation_code):,} bytes of creation code, {len(made.runtime_code):,} at run time, 0x{made.code_hash.hex()}"
    )
