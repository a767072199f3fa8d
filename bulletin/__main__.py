"""`python -m bulletin`: the commands of `ballotboard board`, for a board that starts its follower."""

import sys

from bulletin.cli import app
from protocol.errors import BallotboardError

try:
    app()
except BallotboardError as error:
    sys.exit(f"error: {error}")
except KeyboardInterrupt:
    sys.exit(130)
