// The TypeScript SDK's OAuth flow, from nothing but the endpoint's URL to the tools' answers.
// Usage: node oauth.mjs SDK MODE URL SUBJECT ROLE, where SDK and MODE are as for typescript.mjs.
// Prints the answers, and the scopes that each login was asked for, as JSON.

import { loadSdk, negotiation } from './sdks.mjs';

const [sdk, mode, url, subject, role] = process.argv.slice(2);
const CALLBACK = 'http://127.0.0.1/callback';

// Somebody with a browser: follows the redirect, fills in the form, and comes back.
async function logIn(authorizationUrl) {
  const cookies = new Map();
  const visit = async (where, init = {}) => {
    const headers = { Cookie: [...cookies].map((pair) => pair.join('=')).join('; ') };
    const response = await fetch(where, { ...init, headers, redirect: 'manual' });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = cookie.match(/^([^=]+)=([^;]*)/);
      cookies.set(name, value);
    }
    return new URL(response.headers.get('Location'), where);
  };
  const form = await visit(authorizationUrl);
  const filled = { method: 'POST', body: new URLSearchParams({ subject, role }) };
  return (await visit(await visit(form, filled))).searchParams;
}

const held = {};
const asked = [];
let pending;
const authProvider = {
  redirectUrl: CALLBACK,
  clientMetadata: {
    client_name: 'tests',
    redirect_uris: [CALLBACK],
    // No refresh tokens: at a 403 the first generation would refresh, which gains no scope, and give
    // up.
    grant_types: ['authorization_code'],
    token_endpoint_auth_method: 'none',
  },
  clientInformation: () => held.client,
  saveClientInformation: (client) => void (held.client = client),
  tokens: () => held.tokens,
  saveTokens: (tokens) => void (held.tokens = tokens),
  codeVerifier: () => held.verifier,
  saveCodeVerifier: (verifier) => void (held.verifier = verifier),
  redirectToAuthorization: (where) => void (pending = where),
};

const { Client, StreamableHTTPClientTransport } = await loadSdk(sdk);
const client = new Client({ name: 'tests', version: '1' }, negotiation(mode));
const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider });
await client.connect(transport);

async function call(name, args) {
  pending = undefined;
  try {
    return await client.callTool({ name, arguments: args });
  } catch (error) {
    if (pending === undefined) throw error;
    asked.push(pending.searchParams.get('scope').split(' '));
    const answer = await logIn(pending);
    await transport.finishAuth(sdk === 'v1' ? answer.get('code') : answer);
    return client.callTool({ name, arguments: args });
  }
}

const found = await call('discover_buckets', {});
const listed = await call('bucket_objects_list', { bucket: 's3://shelf-00' });
await client.close();
console.log(
  JSON.stringify({
    asked,
    buckets: found.structuredContent.buckets.map((bucket) => bucket.name),
    keys: listed.structuredContent.objects.map((object) => object.key),
  }),
);
