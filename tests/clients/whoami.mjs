// The example in TypeScript by the TypeScript SDK: open without a token, then ask with one after another.
// Usage: node whoami.mjs SDK MODE URL TOKEN… Prints what the tool has said, as JSON.

import { loadSdk, negotiation } from './sdks.mjs';

const [sdk, mode, url, ...tokens] = process.argv.slice(2);

let token;
function fetchWithToken(input, init = {}) {
  const headers = new Headers(init.headers);
  if (token) headers.set('Authorization', `Bearer ${token}`);
  return fetch(input, { ...init, headers });
}

const { Client, StreamableHTTPClientTransport } = await loadSdk(sdk);
const client = new Client({ name: 'tests', version: '1' }, negotiation(mode));
const transport = new StreamableHTTPClientTransport(new URL(url), { fetch: fetchWithToken });

const ask = async () => (await client.callTool({ name: 'whoami', arguments: {} })).content[0].text;

await client.connect(transport);
const said = [await ask().catch((error) => String(error))];
for (token of tokens) said.push(await ask());
const { sessionId } = transport;
if (sessionId) await transport.terminateSession();
await client.close();
console.log(JSON.stringify({ said, session: sessionId ?? '' }));
