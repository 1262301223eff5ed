"""Why the rest is refused: requests to the MCP server, registrations, logins, the server itself."""

from __future__ import annotations

from mcp_oauth2_proxy.troubles.trouble import ADD_AGAIN, AGAIN, CLIENTS_FAULT, TELL, WAIT, Trouble

#: By the place where they are met.
REQUESTS: dict[str, dict[str, Trouble]] = {
    "The MCP server's URL: the way to it": {
        "request_target_malformed": Trouble(
            "The URL's path has characters or escapes that cannot be relayed unchanged.",
            "Check the server's URL in your app.",
            "See the request's line in the log.",
        ),
        "keys_unavailable": Trouble(
            "No token can be judged: the realm's keys have never been fetched (503).",
            WAIT,
            "`/readyz` says why: `auth.issuerUrl`, `auth.discoveryUrl`, `auth.caFile`, or the network.",
        ),
        "introspection_unavailable": Trouble(
            "Keycloak was asked about the token (`gate.introspect`) and does not answer (503).",
            WAIT,
            "The log says what it answers instead. Without `gate.introspect` tokens are good while Keycloak "
            "is away.",
        ),
        "connections_exhausted": Trouble(
            "There are as many connections as `server.maxConnections`, or one address has as many as "
            "`server.maxConnectionsPerAddress` (503).",
            "Try again in a few seconds.",
            "Raise the limit, or name the load balancer in `server.trustedProxies`: it stands for many.",
        ),
        "request_too_large": Trouble(
            "The request's body is larger than `server.maxBodyBytes` (413).",
            "Send less at once.",
            "Raise `server.maxBodyBytes`, or set it to 0.",
        ),
        "request_body_incomplete": Trouble(
            "The client's upload broke off, stood still (408), or its chunks were malformed (400).",
            "Try again.",
            "Look at what is in front of the proxy: a body limit or a timeout there looks like this.",
        ),
        "gateway_timeout": Trouble(
            "The MCP server did not begin its answer within `upstream.responseHeaderTimeout` (504).",
            "Try again.",
            "Is the MCP server overloaded or stuck? Raise the timeout for tools that think long.",
        ),
        "bad_gateway": Trouble(
            "The MCP server could not be reached, or broke off before it answered (502).",
            WAIT,
            "Is `upstream.url` right and the server up? `upstream.idleTimeout` must be below its own "
            "keep-alive.",
        ),
        "stream_token_expired": Trouble(
            "An event stream ended `gate.streamGrace` after its token had expired, or because its client "
            "listens again with a new one.",
            "Nothing: the app connects again by itself.",
            "Nothing. If clients lose events by it, the MCP server does not resume streams "
            "(`Last-Event-ID`): raise `gate.streamGrace`.",
        ),
        "upstream_truncated": Trouble(
            "The MCP server's answer broke off; the client's connection was cut too, so that it looks cut.",
            "Try again.",
            "See the MCP server's log: it crashed, was restarted, or has a timeout on streams. Where this "
            "log says `cut an answer`, it had stopped answering without taking the whole request.",
        ),
    },
    "Registration and client identity": {
        "client_metadata": Trouble(
            "The registration names something that cannot be (RFC 7591).",
            CLIENTS_FAULT,
            "The log says what.",
        ),
        "redirect_uri_forbidden": Trouble(
            "A redirect URI breaks a rule: https, http on loopback, or an app's own scheme; no fragment, "
            "user name "
            "or wildcard.",
            CLIENTS_FAULT,
            "The log says which rule.",
        ),
        "redirect_uri_denied": Trouble(
            "`auth.allowedRedirects` or `auth.deniedRedirects` does not let clients lead there.",
            "Tell who runs this server which app it was: it is not accepted here.",
            "The log says where to. Add the host or scheme if it should be.",
        ),
        "registration_off": Trouble(
            "`auth.registration` is `off`.",
            "Ask who runs this server for a client ID to enter into your app.",
            "List the client in `auth.clients`, or open registration.",
        ),
        "registration_token_wrong": Trouble(
            "`auth.registration` is `token`, and the initial access token is missing or wrong.",
            "Ask who runs this server for the token, or for a client ID.",
            "Clients that cannot send one belong into `auth.clients`.",
        ),
        "client_missing": Trouble(
            "The request names no client.", ADD_AGAIN, "The client is broken, or not one."
        ),
        "client_unknown": Trouble(
            "The `client_id` was not made here.",
            ADD_AGAIN,
            "If all clients meet it at once, `auth.sealingKeys`, or `auth.clientSecret` which they are "
            "derived from, has changed: put the old key behind the new one.",
        ),
        "client_expired": Trouble(
            "The registration is older than `auth.clientTtl`.",
            ADD_AGAIN,
            "Raise `auth.clientTtl`; `0s` is for ever and costs nothing. Some clients do not register "
            "again by themselves.",
        ),
        "client_document_refused": Trouble(
            "The `client_id` is a URL whose document is not accepted, not there, or breaks a rule.",
            "Tell who runs this server which app it was: it is not accepted here.",
            "The log says which rule. See `auth.cimd`: hosts, ports and internal networks must be let in.",
        ),
        "client_document_unavailable": Trouble(
            "The client's document, or its keys, could not be fetched, and there is no copy of it (503).",
            WAIT,
            "The log says why. The proxy needs a way out to the document's host, on port 443.",
        ),
        "client_assertion_refused": Trouble(
            "The client's signed assertion (`private_key_jwt`) does not prove it.",
            ADD_AGAIN,
            "The log says which claim was expected and which came. `aud` must be the token endpoint or "
            "`auth.baseUrl`.",
        ),
        "client_secret_wrong": Trouble(
            "The client's secret is wrong or missing.",
            ADD_AGAIN,
            "For a client in `auth.clients`, compare the two sides.",
        ),
        "client_two_methods": Trouble(
            "The client authenticates in two ways at once, or in one that is not known.",
            CLIENTS_FAULT,
            "The log says which.",
        ),
    },
    "Signing in": {
        "redirect_uri_mismatch": Trouble(
            "The app wants to be answered at a place that it has not registered.",
            ADD_AGAIN,
            "The log has both. Only on loopback may the port differ.",
        ),
        "pkce": Trouble(
            "The PKCE challenge or verifier is missing, not S256, or does not fit.",
            AGAIN,
            "Two logins of one client got mixed up, or the client does not speak PKCE.",
        ),
        "resource_foreign": Trouble(
            "The client asks for a token for a server that is not behind this proxy (`resource`).",
            "Check the server's URL in your app.",
            "`auth.baseUrl` must be what people type into their app, up to the path. The log has the URL.",
        ),
        "consent_forged": Trouble(
            "The consent page's answer was not made by this server's page, or came from another site.",
            AGAIN,
            "Often: the proxy's sealing keys changed while the page was open. Else somebody tries something.",
        ),
        "consent_expired": Trouble(
            "The consent page was open for longer than `auth.sessionTtl`.", AGAIN, "Nothing."
        ),
        "consent_other_browser": Trouble(
            "The consent page's answer came without the cookie of the browser that was asked.",
            "Allow cookies for this site, then go back to your app and start again.",
            "On http, or behind a proxy that changes the host, `__Host-` cookies are lost: `auth.baseUrl` "
            "must be the URL in the browser.",
        ),
        "consent_denied": Trouble("The person said no.", AGAIN, "Nothing."),
        "state_unknown": Trouble(
            "The login was not started here, was finished before, or took longer than `auth.sessionTtl`.",
            AGAIN,
            "With several replicas the store must be shared; a restart loses logins in progress with "
            "`memory://`.",
        ),
        "state_other_browser": Trouble(
            "The login was started in another browser, or its cookie is gone.",
            "Finish signing in with the browser in which you started, or start again.",
            "If it happens to everybody, cookies are lost on the way: `auth.baseUrl` must be the URL in "
            "the browser.",
        ),
        "callback_issuer": Trouble(
            "The answer names another identity provider than this one (mix-up).",
            AGAIN,
            "The log has both values: `auth.issuerUrl` must be the realm's `issuer`.",
        ),
        "login_refused": Trouble(
            "Keycloak refused the login, or the person cancelled it.",
            AGAIN,
            "The log has Keycloak's error; its own event log says more.",
        ),
        "login_expired": Trouble("Keycloak's login page was open for too long.", AGAIN, "Nothing."),
        "id_token_invalid": Trouble(
            "The ID token that Keycloak returned does not prove this login.",
            AGAIN,
            "The log names the claim. `openid` must be a scope of the Keycloak client; clocks must agree.",
        ),
    },
    "Tokens": {
        "grant_not_registered": Trouble(
            "The client uses a grant that it has not registered.",
            ADD_AGAIN,
            "Nothing: the client is at fault.",
        ),
        "code_unknown": Trouble(
            "The code is not known, or older than `auth.codeTtl`.",
            AGAIN,
            "With several replicas the store must be shared; a restart loses codes with `memory://`.",
        ),
        "code_reused": Trouble(
            "The code was used before.",
            AGAIN,
            "A client that retries, or a stolen code: the log has the client of both requests.",
        ),
        "code_binding": Trouble(
            "The code was issued to another client or for another redirect URI.",
            AGAIN,
            "As for `code_reused`.",
        ),
        "refresh_token_unknown": Trouble(
            "The refresh token is not one of this client's.",
            "Sign in again.",
            "If all clients meet it at once, the sealing keys have changed.",
        ),
        "refresh_token_reused": Trouble(
            "The refresh token was used before, more than 30 seconds ago: all tokens of its login end.",
            "Sign in again.",
            "Two copies of one app share a token, an answer was lost for longer than the grace, or somebody "
            "has stolen it. The log names client, subject and session.",
        ),
        "refresh_session_ended": Trouble(
            "The session is over: logged out, revoked, or too old.",
            "Sign in again.",
            "See *Sessions* of the realm: idle and maximum times decide how often people sign in. After a "
            "crash of a replica see docs/store.md.",
        ),
    },
    "Logout": {
        "logout_token_refused": Trouble(
            "Keycloak, or somebody else, sent a logout token that does not hold: the answer and the log say "
            "which rule it broke. Nobody was logged out.",
            TELL,
            "A token of another realm or for another client means that a wrong client has this "
            "*Backchannel logout URL* in Keycloak. A time that has passed means a wrong clock. Everything "
            "else did not come from Keycloak.",
        ),
        "logout_token_replayed": Trouble(
            "A logout token came a second time. The session ended at the first.",
            TELL,
            "Nothing, where a load balancer repeated the request. Else somebody reads what Keycloak sends.",
        ),
    },
    "Requests to the OAuth endpoints": {
        "body_too_large": Trouble("The body or query is too long.", CLIENTS_FAULT, "Nothing."),
        "body_incomplete": Trouble("The body broke off.", "Try again.", "As for `request_body_incomplete`."),
        "content_type": Trouble("The body is of another content type.", CLIENTS_FAULT, "Nothing."),
        "parameters_malformed": Trouble(
            "Parameters or JSON cannot be read.", CLIENTS_FAULT, "The log says what is wrong with them."
        ),
        "parameter_repeated": Trouble("A parameter came twice.", CLIENTS_FAULT, "The log names it."),
        "parameter_missing": Trouble("A parameter is missing.", CLIENTS_FAULT, "The log names it."),
        "parameter_unsupported": Trouble(
            "A parameter asks for something that is not offered.", CLIENTS_FAULT, "The log names it."
        ),
        "rate_limited": Trouble(
            "More requests than `limits.*` allow, from one address or in all (429).",
            "Wait a minute and try again.",
            "The log names the limit. Behind an ingress set `server.trustedProxies`, or all people are one "
            "address.",
        ),
        "not_found": Trouble(
            "There is nothing at this URL.", "Check the server's URL in your app.", "Nothing."
        ),
        "method_not_allowed": Trouble("The endpoint does not know the method.", CLIENTS_FAULT, "Nothing."),
        "request_malformed": Trouble(
            "The bytes are no request, or one that could be read in two ways; the connection is closed.",
            CLIENTS_FAULT,
            "The log says what was wrong. Health checks of raw TCP and scanners are seen here.",
        ),
    },
    "The server": {
        "realm_unready": Trouble(
            "Discovery of the realm has not succeeded yet (503).",
            WAIT,
            "`/readyz` says why: `auth.issuerUrl`, `auth.discoveryUrl`, `auth.caFile`, or the network.",
        ),
        "keycloak_unavailable": Trouble(
            "Keycloak does not answer, or not as it should (503).",
            WAIT,
            "The log says what was asked and what came.",
        ),
        "keycloak_refused_proxy": Trouble(
            "Keycloak refuses the proxy itself.",
            TELL,
            "The log has Keycloak's words. `unauthorized_client` or `invalid_client`: `auth.clientId` and "
            "`auth.clientSecret`. `invalid_scope`: `auth.oidcScopes`. `invalid_grant` with redirect_uri: the "
            "client's *Valid redirect URIs*.",
        ),
        "store_unavailable": Trouble(
            "The store does not answer, or is full (503).",
            WAIT,
            "The log says why, and `/readyz` whether it lasts: see `store.url` and what it names.",
        ),
        "internal": Trouble(
            "A mistake in the proxy (500).",
            TELL,
            "The log has a traceback at the reference: please report it.",
        ),
    },
}
