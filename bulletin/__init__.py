"""How the public reads the record."""
