"""The language server: documents, positions, time and people. Knows the engine only through engine.api."""
