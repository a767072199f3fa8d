"""The polling station."""
