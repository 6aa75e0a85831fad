"""What is told while it trains: lines, times, and hints on what goes wrong."""
