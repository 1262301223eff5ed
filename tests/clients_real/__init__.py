"""Real MCP clients, each by its own OAuth support, through the started proxy."""
