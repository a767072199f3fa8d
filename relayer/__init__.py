"""How records get onto the chain."""
