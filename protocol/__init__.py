"""What is true: the voting protocol as pure functions. No network, no database, no clock.

The readable reference of docs/protocol.md. `protocol.engine` swaps in the native implementation where it is installed.
"""
