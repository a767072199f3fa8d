"""The booth and the receipts."""
