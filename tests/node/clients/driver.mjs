// A client on one of the TypeScript SDKs, told what to do and asked what it saw in lines of JSON.
//
//     node driver.mjs sdk|client MCP_URL
//
// It writes {"authorize": URL} and reads {"callback": URL}; writes {"restart": true} and reads {} once the proxy is
// back; and ends with {"done": ...}.
import { createInterface } from "node:readline";

const [kind, url] = process.argv.slice(2);
const packages = {
  sdk: async () => ({
    ...(await import("@modelcontextprotocol/sdk/client/index.js")),
    ...(await import("@modelcontextprotocol/sdk/client/streamableHttp.js")),
    ...(await import("@modelcontextprotocol/sdk/client/auth.js")),
  }),
  client: () => import("@modelcontextprotocol/client"),
};
const { Client, StreamableHTTPClientTransport, UnauthorizedError } = await packages[kind]();

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const tell = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const ask = async (message) => {
  tell(message);
  return JSON.parse((await lines.next()).value);
};

const seen = { registrations: 0, logins: 0, tokens: 0 };
const kept = {};
const provider = {
  redirectUrl: "http://127.0.0.1:33418/callback",
  clientMetadata: {
    client_name: `The TypeScript ${kind}`,
    redirect_uris: ["http://127.0.0.1:33418/callback"],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { kept.client = client; seen.registrations += 1; },
  tokens: () => kept.tokens,
  saveTokens: (tokens) => { kept.tokens = tokens; seen.tokens += 1; },
  redirectToAuthorization: (where) => { kept.authorize = String(where); seen.logins += 1; },
  saveCodeVerifier: (verifier) => { kept.verifier = verifier; },
  codeVerifier: () => kept.verifier,
  invalidateCredentials: (what) => {
    if (what === "all" || what === "client") delete kept.client;
    if (what === "all" || what === "tokens") delete kept.tokens;
  },
};
const spoil = () => { kept.tokens = { ...kept.tokens, access_token: `${kept.tokens.access_token}x` }; };

async function connected() {
  const client = new Client({ name: "driver", version: "1" });
  const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
  try {
    await client.connect(transport);
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    const { callback } = await ask({ authorize: kept.authorize });
    const parameters = new URL(callback).searchParams;
    await (kind === "client" ? transport.finishAuth(parameters) : transport.finishAuth(parameters.get("code")));
    return connected();
  }
  return client;
}

const call = async (client, name, options = {}) => {
  const progress = [];
  const request = { name, arguments: options };
  const more = { onprogress: (step) => progress.push(step.progress) };
  // The second parameter of the 1.x line is a schema.
  const result = kind === "client" ? await client.callTool(request, more) : await client.callTool(request, undefined, more);
  return { text: result.content[0].text, structured: result.structuredContent, progress };
};

let client = await connected();
const tools = (await client.listTools()).tools.map((tool) => tool.name).sort();
const counted = await call(client, "count", { to: 3 });
spoil();
const refreshed = await call(client, "whoami");
await client.close().catch(() => {});
await ask({ restart: true });
spoil();
client = await connected();
const again = await call(client, "whoami");
await client.close().catch(() => {});
tell({ done: { tools, counted, refreshed, again, ...seen } });
process.exit(0);
