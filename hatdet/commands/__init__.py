"""The bodies of command lines that need both the engine and the exported file; nothing imports this package."""
