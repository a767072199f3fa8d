"""The tests mirror the folders; tests/contracts runs in ape's environment (`make test-contracts`)."""
