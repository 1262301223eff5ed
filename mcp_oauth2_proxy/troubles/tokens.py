"""Why the gate refuses a token: the reasons that most people meet."""

from __future__ import annotations

from mcp_oauth2_proxy.troubles.trouble import ADD_AGAIN, BY_ITSELF, TELL, WAIT, Trouble

#: By the place where they are met.
TOKENS: dict[str, dict[str, Trouble]] = {
    "The MCP server's URL: tokens": {
        "token_missing": Trouble(
            "The request carried no Bearer token. Each client's first request is one: it is how it finds the "
            "authorization server.",
            "Sign in when the app asks for it.",
            "Nothing, unless it never stops: then the client does not follow the challenge, or something "
            "between client and proxy removes the `Authorization` header.",
        ),
        "token_malformed": Trouble(
            "The `Authorization` header holds no signed JWT, or there is more than one such header.",
            ADD_AGAIN,
            "See what sends it: an API key or an opaque token is no access token of the realm.",
        ),
        "token_too_large": Trouble(
            "The token is longer than 16 KiB.",
            TELL,
            "Take roles and groups out of the access token (client scopes and mappers in Keycloak).",
        ),
        "token_header_type": Trouble(
            "The token's `typ` header is none of an access token's, or it demands extensions.",
            TELL,
            "See which client sends it; Keycloak's access tokens say `JWT` or `at+jwt`.",
        ),
        "token_algorithm": Trouble(
            "The token is signed by an algorithm that is not accepted, or that does not fit its key.",
            TELL,
            "Only asymmetric algorithms are accepted. See *Access token signature algorithm* of the "
            "Keycloak client.",
        ),
        "token_unknown_key": Trouble(
            "The token names a signing key that the realm does not publish.",
            BY_ITSELF,
            "A token of another realm, or of this one before its keys were replaced. The log names the "
            "`kid`. "
            "Keys are fetched again at most every 10 seconds.",
        ),
        "token_signature": Trouble(
            "The token's signature is wrong: it was changed or forged.",
            ADD_AGAIN,
            "If honest clients meet it, something between changes the header.",
        ),
        "token_expired": Trouble(
            "The token's time is over.",
            BY_ITSELF,
            "The log says `exp` and the proxy's time. If every new token is expired, a clock is wrong: "
            "compare the machines of Keycloak and the proxy.",
        ),
        "token_no_expiry": Trouble("The token has no `exp`.", TELL, "It is no access token of Keycloak's."),
        "token_not_yet_valid": Trouble(
            "The token's `nbf` or `iat` lies in the future, by more than 10 seconds.",
            WAIT,
            "A clock is wrong: compare the machines of Keycloak and the proxy.",
        ),
        "token_issuer": Trouble(
            "The token's `iss` is not `auth.issuerUrl`, compared byte for byte.",
            ADD_AGAIN,
            "The log has both values. Where only host or scheme differ, Keycloak is reached by two names: "
            "set its "
            "`hostname`, and `auth.issuerUrl` to what its discovery document says; reach it by an internal "
            "URL "
            "through `auth.discoveryUrl`.",
        ),
        "token_type": Trouble(
            "The token is a token of the realm, but no access token: an ID or refresh token.",
            TELL,
            "The client sends the wrong one of its tokens.",
        ),
        "token_sender_bound": Trouble(
            "The token is bound to a key (`cnf`, DPoP or mTLS) and came as a plain Bearer token.",
            TELL,
            "Turn DPoP or certificate binding off for the Keycloak client.",
        ),
        "token_audience": Trouble(
            "The token is good, and for somebody else.",
            ADD_AGAIN,
            "The log says which `aud` or `azp` was expected and which came. Tokens that this proxy handed "
            "out have "
            "`azp` = `auth.clientId`; others need an audience mapper with the MCP server's URL. With "
            "`auth.audiences` set, one of its values must be in `aud`, exactly.",
        ),
        "token_session_ended": Trouble(
            "The token's session has ended: a logout in Keycloak, or a client gave its refresh token back. "
            "Requests that were under way then end with this reason too.",
            "Sign in again.",
            "Nothing, where somebody logged out or an administrator ended the session. The log says `sid`, "
            "`sub` and `iat`; a token counts as ended when it was issued until then, so a wrong clock can "
            "refuse new ones: compare the machines of Keycloak and the proxy.",
        ),
        "token_scope": Trouble(
            "The token lacks one of `auth.requiredScopes` (403).",
            "Allow the app what it asks for, or ask for the right to it.",
            "The log says what is missing. The scope must exist in the realm, be assigned to the Keycloak "
            "client, and "
            "be in the access token's `scope` (*Include in token scope*).",
        ),
        "token_inactive": Trouble(
            "Keycloak was asked (`gate.introspect`) and calls the token inactive before its time.",
            "Sign in again.",
            "If it happens to everybody: Keycloak 26.6.2 and newer say so of each token whose `aud` does not "
            "name `auth.clientId`. Add a mapper of type *Audience* to that client (docs/configuration.md).",
        ),
    },
}
