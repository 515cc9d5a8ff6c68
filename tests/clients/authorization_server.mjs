// A real authorization server (oidc-provider) for one resource: registration (RFC 7591), PKCE,
// resource indicators (RFC 8707), JWT access tokens (RFC 9068), refresh tokens. Whoever logs in
// chooses a role.
// Usage: node authorization_server.mjs RESOURCE CLAIMS, where CLAIMS maps roles to further claims.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import Provider, { errors } from 'oidc-provider';

const [resource, claims] = process.argv.slice(2);
const claimsOf = JSON.parse(claims);
const SCOPES = ['openid', 'offline_access', 'buckets.read', 'objects.read'];
const roles = new Map();

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const signingKey = { ...privateKey.export({ format: 'jwk' }), kid: 'one', alg: 'ES256', use: 'sig' };

const configuration = {
  jwks: { keys: [signingKey] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  scopes: SCOPES,
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
  clientBasedCORS: () => true,
  findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  // A client registers with the scopes that it was first challenged for. Held to them, it could
  // never step up: the server has the last word on metadata (RFC 7591 section 3.2.1).
  extraClientMetadata: {
    properties: ['scope_policy'],
    validator: (ctx, key, value, metadata) => {
      metadata.scope = SCOPES.join(' ');
    },
  },
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  extraTokenClaims: (ctx, token) => {
    const role = roles.get(token.accountId);
    return { roles: [role], ...claimsOf[role] };
  },
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, indicator) => {
        if (indicator !== resource) throw new errors.InvalidTarget();
        return {
          scope: 'buckets.read objects.read',
          audience: resource,
          accessTokenTTL: 600,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        };
      },
    },
  },
  ttl: { Interaction: 60, Session: 60, Grant: 600, IdToken: 60, RefreshToken: 600 },
};

const FORM = `<!doctype html><title>Log in</title><form method="post">
  <input name="subject" aria-label="subject"><input name="role" aria-label="role">
  <button>Log in and allow</button></form>`;

// Login and consent in one step: the form's answer grants what was asked for.
async function interact(provider, request, response) {
  if (request.method === 'GET') {
    response.setHeader('Content-Type', 'text/html').end(FORM);
    return;
  }
  const { params } = await provider.interactionDetails(request, response);
  const form = new URLSearchParams(await text(request));
  const accountId = form.get('subject');
  roles.set(accountId, form.get('role'));
  const grant = new provider.Grant({ accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  grant.addResourceScope(params.resource, params.scope);
  const result = { login: { accountId }, consent: { grantId: await grant.save() } };
  await provider.interactionFinished(request, response, result);
}

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const address = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(address, configuration);
  const serve = provider.callback();
  server.on('request', (request, response) => {
    if (request.url.startsWith('/interaction/')) interact(provider, request, response);
    else serve(request, response);
  });
  console.error(JSON.stringify({ event: 'listening on', address }));
});
