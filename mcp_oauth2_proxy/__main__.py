"""``python -m mcp_oauth2_proxy``."""

from mcp_oauth2_proxy.cli import main

if __name__ == "__main__":
    main()
