// The seed's flow by the TypeScript SDK: connect without a token, ask, ask again as another role.
// Usage: node typescript.mjs SDK MODE URL TOKEN…, where SDK is v1 or v2, and MODE legacy, auto or a
// revision. Prints what came back, as JSON.

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

const call = (name, args) => client.callTool({ name, arguments: args });

await client.connect(transport);
const answer = { session: transport.sessionId ?? null };
answer.tools = (await client.listTools()).tools.map((tool) => tool.name);
answer.refusal = await call('discover_buckets', {}).then(() => null, String);

answer.buckets = [];
for (token of tokens) {
  const found = await call('discover_buckets', {});
  answer.buckets.push(found.structuredContent.buckets.map((bucket) => bucket.name));
}
const listed = await call('bucket_objects_list', { bucket: 's3://shelf-00' });
answer.keys = listed.structuredContent.objects.map((object) => object.key);

if (transport.sessionId) await transport.terminateSession();
await client.close();
console.log(JSON.stringify(answer));
