// A real authorization server (oidc-provider): registration (RFC 7591), PKCE, client credentials,
// the device flow (RFC 8628), refresh tokens, resource indicators (RFC 8707), JWT access tokens
// (RFC 9068) and opaque ones, introspection (RFC 7662), revocation (RFC 7009), signed userinfo and
// authorization responses (JARM), back-channel logout; token exchange and JWT bearer grants, see
// exchange_grants.mjs. A user who logs in chooses a role.
// Usage: node authorization_server.mjs OPTIONS, a JSON object:
//   resources: by URI, the format of its access tokens: jwt or opaque
//   claims: by role, further claims
//   clients: metadata of clients that are registered at the start
//   sidClients: the clients among them whose access tokens have a sid
//   trusted: issuers whose identity assertions are accepted
//   tls: key, cert and ca, PEM: a second address for the same provider, over TLS, where clients may
//     present certificates (RFC 8705); its port is listed as tlsPort
// POST /signing-keys with a JSON list of {kid, alg} publishes these keys alone from then on. The
// first one signs. A kid that was there before is the same key.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { json, text } from 'node:stream/consumers';
import Provider, { errors } from 'oidc-provider';
import { createMemoryAdapter } from 'oidc-provider/lib/adapters/memory_adapter.js';
import { registerExchangeGrants } from './exchange_grants.mjs';

const options = JSON.parse(process.argv[2]);
const { resources, claims = {}, clients = [], sidClients = [], trusted = [], tls } = options;
const SCOPES = ['openid', 'offline_access', 'buckets.read', 'objects.read'];
const KEY_TYPES = {
  RS: ['rsa', { modulusLength: 2048 }],
  PS: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  ES384: ['ec', { namedCurve: 'P-384' }],
  ES512: ['ec', { namedCurve: 'P-521' }],
  Ed: ['ed25519'],
};
const roles = new Map();
const keys = new Map();

function signingKey({ kid, alg }) {
  if (!keys.has(kid)) {
    const type = KEY_TYPES[alg] ?? KEY_TYPES[alg.slice(0, 2)];
    const { privateKey } = generateKeyPairSync(...type);
    keys.set(kid, { ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' });
  }
  return keys.get(kid);
}

const resourceServer = ({ alg, kid }) => (ctx, indicator) => {
  if (!Object.hasOwn(resources, indicator)) throw new errors.InvalidTarget();
  return {
    scope: 'buckets.read objects.read',
    audience: indicator,
    accessTokenTTL: 3600,
    accessTokenFormat: resources[indicator],
    jwt: { sign: { alg, kid } },
  };
};

function configuration(signingKeys) {
  const [{ alg }] = signingKeys;
  const algorithms = signingKeys.map((key) => key.alg);
  return {
    ...UNCHANGING,
    jwks: { keys: signingKeys },
    clientDefaults: {
      authorization_signed_response_alg: alg,
      id_token_signed_response_alg: alg,
      userinfo_signed_response_alg: alg,
    },
    enabledJWA: {
      authorizationSigningAlgValues: algorithms,
      idTokenSigningAlgValues: algorithms,
      userinfoSigningAlgValues: algorithms,
    },
    features: {
      backchannelLogout: { enabled: true },
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        selfSignedTlsClientAuth: true,
        getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.(),
        certificateAuthorized: (ctx) => ctx.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) =>
          property === 'tls_client_auth_san_dns' &&
          ctx.socket.getPeerX509Certificate().checkHost(expected, { wildcards: false }) === expected,
      },
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      deviceFlow: { enabled: true },
      introspection: { enabled: true },
      jwtResponseModes: { enabled: true },
      jwtUserinfo: { enabled: true },
      registration: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: resourceServer(signingKeys[0]),
      },
    },
  };
}

const UNCHANGING = {
  adapter: createMemoryAdapter(),
  clients,
  clientAuthMethods: [
    'none',
    'client_secret_basic',
    'client_secret_post',
    'private_key_jwt',
    'tls_client_auth',
    'self_signed_tls_client_auth',
  ],
  cookies: { keys: [randomBytes(32).toString('hex')] },
  scopes: SCOPES,
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
    const sid = sidClients.includes(token.clientId) ? { sid: token.sid } : {};
    const act = ctx?.actor ? { act: { sub: ctx.actor } } : {};
    return role ? { roles: [role], ...claims[role], ...sid, ...act } : act;
  },
  // Its own dispatcher connects to no address of this machine.
  fetch: (url, { dispatcher, ...request }) => fetch(url, request),
  ttl: { Interaction: 60, Session: 60, Grant: 3600, IdToken: 3600, RefreshToken: 3600 },
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
  if (params.resource) grant.addResourceScope(params.resource, params.scope);
  const result = { login: { accountId }, consent: { grantId: await grant.save() } };
  await provider.interactionFinished(request, response, result);
}

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const address = `http://127.0.0.1:${server.address().port}`;
  let provider;
  let serve;
  // A provider's keys are fixed. All of these providers have one store.
  const publish = (signingKeys) => {
    const keys = signingKeys.map(signingKey);
    provider = new Provider(address, configuration(keys));
    registerExchangeGrants(provider, {
      address,
      signingKeys: keys,
      trusted,
      resourceServer: resourceServer(keys[0]),
    });
    serve = provider.callback();
  };
  publish([{ kid: 'one', alg: 'ES256' }]);
  const answer = async (request, response) => {
    if (request.url.startsWith('/interaction/')) interact(provider, request, response);
    else if (request.url === '/signing-keys') {
      publish(await json(request));
      response.writeHead(204).end();
    } else serve(request, response);
  };
  server.on('request', answer);
  const listening = (tlsPort) =>
    console.error(JSON.stringify({ event: 'listening on', address, tlsPort }));
  if (!tls) listening();
  else {
    // A certificate that leads to no authority is for the provider to judge.
    const secure = createTlsServer(
      { ...tls, requestCert: true, rejectUnauthorized: false },
      answer,
    );
    secure.listen(0, '127.0.0.1', () => listening(secure.address().port));
  }
});
