"""The commands as typed: names, options, help. What they do stands in `gateway.cli.actions`."""
