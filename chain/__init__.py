"""Nodes, deployment, reading and writing records, and evidence for them."""
