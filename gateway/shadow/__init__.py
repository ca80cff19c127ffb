"""Shadow reads: a sample of what bots read, compared with what another store would have answered."""
