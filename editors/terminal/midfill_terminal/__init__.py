"""The terminal client: speaks LSP to `midfill serve`, like any editor, and shows ghost text."""
