"""VS Code in a browser, with the packaged extension and the real server."""
