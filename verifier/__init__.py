"""How anyone checks an election, from a node or an archive, trusting nobody who ran it."""
