"""The permissioned network: CometBFT decides, geth executes (docs/network.md).

operator  one operator's keys and folder
genesis   the one file that all operators share, and what follows from it
node      one operator's two processes
local     a whole network on this machine, with the interface of chain.anvil
collect   evidence, collected from a node (chain.evidence verifies it)
"""
