"""The key holders."""
