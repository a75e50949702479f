"""What one can do with the app, each a function with typed, documented arguments: the endpoints and the MCP tools."""
