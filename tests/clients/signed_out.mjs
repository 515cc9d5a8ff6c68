// A TypeScript client whose user signs out at the provider meanwhile.
// Usage: node signed_out.mjs SDK MODE URL TOKEN SIGN_OUT, as typescript.mjs; a POST to SIGN_OUT is answered
// once the user has signed out and every replica knows. Prints what a tool said before, and the
// status of the answer after, as JSON.

import { loadSdk, negotiation } from './sdks.mjs';

const [sdk, mode, url, token, signOut] = process.argv.slice(2);

let status;
async function fetchWithToken(input, init = {}) {
  const headers = new Headers(init.headers);
  headers.set('Authorization', `Bearer ${token}`);
  const response = await fetch(input, { ...init, headers });
  if (String(init.body).includes('"tools/call"')) status = response.status;
  return response;
}

const { Client, StreamableHTTPClientTransport } = await loadSdk(sdk);
const client = new Client({ name: 'tests', version: '1' }, negotiation(mode));
await client.connect(new StreamableHTTPClientTransport(new URL(url), { fetch: fetchWithToken }));
const call = () => client.callTool({ name: 'whoami', arguments: {} });

const before = (await call()).content[0].text;
await fetch(signOut, { method: 'POST' });
const failed = await call().then(
  () => false,
  () => true,
);
console.log(JSON.stringify({ before, failed, status }));
process.exit(0);
