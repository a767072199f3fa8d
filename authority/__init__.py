"""The election and the registrar."""
