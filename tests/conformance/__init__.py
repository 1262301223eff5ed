"""The MCP conformance suite."""
