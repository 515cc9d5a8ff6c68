// A web app with the TypeScript SDK in it: lists somebody's buckets, and sends them to log in when
// the endpoint wants that. ?endpoint=…&client=…&mode=… opens it; it is its own redirect URI.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const query = new URLSearchParams(location.search);
const memory = {
  get: (name) => JSON.parse(sessionStorage.getItem(name) ?? 'null') ?? undefined,
  set: (name, value) => sessionStorage.setItem(name, JSON.stringify(value)),
};
for (const name of ['endpoint', 'client', 'mode']) {
  if (query.has(name)) memory.set(name, query.get(name));
}

const redirectUrl = `${location.origin}/app`;
const authProvider = {
  redirectUrl,
  clientMetadata: { redirect_uris: [redirectUrl] },
  state: () => {
    memory.set('state', crypto.randomUUID());
    return memory.get('state');
  },
  clientInformation: () => ({ client_id: memory.get('client') }),
  tokens: () => memory.get('tokens'),
  saveTokens: (tokens) => memory.set('tokens', tokens),
  codeVerifier: () => memory.get('verifier'),
  saveCodeVerifier: (verifier) => memory.set('verifier', verifier),
  redirectToAuthorization: (url) => location.assign(url),
};

const endpoint = new URL(memory.get('endpoint'));
const transport = new StreamableHTTPClientTransport(endpoint, { authProvider });
if (query.has('code')) {
  if (query.get('state') !== memory.get('state')) throw new Error('this is not what was asked for');
  await transport.finishAuth(query);
}
const versionNegotiation = { mode: memory.get('mode') };
const client = new Client({ name: 'app', version: '1' }, { versionNegotiation });
await client.connect(transport);
const found = await client.callTool({ name: 'discover_buckets', arguments: {} });
const buckets = found.structuredContent.buckets.map((bucket) => bucket.name);
document.querySelector('output').textContent = buckets.join(' ');
