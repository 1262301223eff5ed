"""``python -m mcp_oauth2_proxy.workers NUMBER``: one worker. Only a supervisor starts it."""

import sys

from mcp_oauth2_proxy.workers.worker import main

if __name__ == "__main__":
    sys.exit(main())
