"""Bearer token to identity: strict rules, challenges, the cache of verified tokens. Pure."""
