// The lists of tools that the TypeScript SDK gets, without a token and with each.
// Usage: node lists.mjs SDK MODE URL TOKEN…, as typescript.mjs. Prints them, as JSON.

import { loadSdk, negotiation } from './sdks.mjs';

const [sdk, mode, url, ...tokens] = process.argv.slice(2);

let token;
const pages = [];
async function fetchWithToken(input, init = {}) {
  const headers = new Headers(init.headers);
  if (token) headers.set('Authorization', `Bearer ${token}`);
  const response = await fetch(input, { ...init, headers });
  if (String(init.body).includes('"tools/list"')) {
    const text = await response.clone().text();
    const result = JSON.parse(text.slice(text.indexOf('{'))).result;
    pages.push({ cacheScope: result.cacheScope ?? null });
  }
  return response;
}

const { Client, StreamableHTTPClientTransport } = await loadSdk(sdk);
const client = new Client({ name: 'tests', version: '1' }, negotiation(mode));
await client.connect(new StreamableHTTPClientTransport(new URL(url), { fetch: fetchWithToken }));

const tools = [];
for (token of [undefined, ...tokens]) {
  tools.push((await client.listTools()).tools.map((tool) => tool.name).sort());
}
await client.close();
console.log(JSON.stringify({ tools, pages }));
